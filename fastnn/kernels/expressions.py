"""Expressions of formulas: their kinds, what is known of them beforehand, and their text.

See `translation`. What is known is computed here, in float64, and rounded once: ``math.sqrt(2 /
math.pi)`` is one number.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import math
import operator
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn.kernels.formula import OwnFunction
from fastnn.kernels.sources import arguments_of, source_of
from fastnn.kernels.vocabulary import MEANINGS, POWER, Word

Kind = str | int
"""``"number"``, ``"truth value"``, or of a tuple, how many numbers it has."""

NUMBER, TRUTH = "number", "truth value"

TRUTH_PREFIX = "is_"
"""What the name of a helper begins with that returns a truth value."""

LARGEST_POWER = 64
"""A whole exponent up to this is done by multiplication."""

_BINARY: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.Pow: ("**", operator.pow),
}
_COMPARISONS: dict[type, str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip


class Value(NamedTuple):
    """What an expression is: its kind, its text, and its value if that is known by now."""

    kind: Kind
    text: str
    known: Any = None


class Helpers(Protocol):
    """Where the functions are translated that an expression calls."""

    owner: str
    runs_as_python: bool

    def helper(self, function: types.FunctionType) -> tuple[str, Kind]:
        """The name of the formula for a function that is called, and what it returns."""


class Expressions:
    """One function: what its names stand for, and what its expressions are."""

    def __init__(
        self, translation: Helpers, function: types.FunctionType, names: Mapping[str, str]
    ) -> None:
        self._translation, self._function = translation, function
        what = f"{translation.owner}: {function.__name__}"
        self._source = source_of(function, what)
        own = arguments_of(self._source, what)
        self._names = {name: names.get(name, f"u_{name}") for name in function.__code__.co_varnames}
        self.arguments = [self._names[name] for name in own]
        self._kinds: dict[str, Kind] = dict.fromkeys(own, NUMBER)
        self._assigned = set(own)

    def _refuse(self, node: ast.AST, what: str) -> Any:
        line = getattr(node, "lineno", self._function.__code__.co_firstlineno)
        raise ValueError(
            f"{self._translation.owner}: {self._function.__name__}, line {line} of "
            f"{self._source.file}: {what}"
        )

    def _text(self, value: Value) -> str:
        """The text of a value; a known number takes the type of the function's first argument."""
        if value.kind == NUMBER and value.known is not None:
            return f"like({self.arguments[0]}, {float(value.known)!r})"
        return value.text

    def _number(self, node: ast.expr) -> Value:
        value = self._value(node)
        if value.kind != NUMBER:
            self._refuse(node, f"a number is needed, got {a_kind(value.kind)}")
        return value

    def _value(self, node: ast.expr) -> Value:
        method = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        if method is None:
            self._refuse(node, f"a formula cannot have {ast.unparse(node)}")
        value: Value = method(node)
        return value

    def _known(self, node: ast.AST, compute: Callable[[], Any]) -> Value:
        """A number that is computed here and now, in float64."""
        try:
            with np.errstate(all="ignore"):
                number = compute()
        except (ArithmeticError, ValueError, TypeError) as error:
            self._refuse(node, str(error))
        return self._constant(node, number)

    def _constant(self, node: ast.AST, value: Any) -> Value:
        if isinstance(value, (bool, np.bool_)):
            return Value(TRUTH, str(bool(value)))
        if isinstance(value, (int, float, np.integer, np.floating)):
            with contextlib.suppress(OverflowError):
                float(value)
                return Value(NUMBER, "", value)
        return self._refuse(node, f"{value!r} is no number")  # type: ignore[no-any-return]

    def _of_constant(self, node: ast.Constant) -> Value:
        return self._constant(node, node.value)

    def _of_tuple(self, node: ast.Tuple) -> Value:
        values = [self._text(self._number(element)) for element in node.elts]
        return Value(len(values), f"({', '.join(values)},)")

    def _of_name(self, node: ast.Name) -> Value:
        if node.id not in self._names:
            return self._constant(node, self._outside(node))
        if node.id not in self._assigned:
            self._refuse(node, f"{node.id} may have no value here")
        return Value(self._kinds[node.id], self._names[node.id])

    def _of_attribute(self, node: ast.Attribute) -> Value:
        return self._constant(node, self._outside(node))

    def _outside(self, node: ast.expr) -> Any:
        """What a name stands for that is not the function's own, now."""
        if isinstance(node, ast.Attribute):
            place = self._outside(node.value)
            if not isinstance(place, types.ModuleType):
                self._refuse(node, f"{ast.unparse(node.value)} is no module")
            if not hasattr(place, node.attr):
                self._refuse(node, f"there is no {ast.unparse(node)}")
            return getattr(place, node.attr)
        if not isinstance(node, ast.Name) or node.id in self._names:
            self._refuse(node, f"{ast.unparse(node)} is not defined outside of the function")
        code = self._function.__code__
        if node.id in code.co_freevars:
            assert self._function.__closure__ is not None
            cell = self._function.__closure__[code.co_freevars.index(node.id)]
            with contextlib.suppress(ValueError):  # not yet filled
                return cell.cell_contents
        elif node.id in self._function.__globals__:
            return self._function.__globals__[node.id]
        elif hasattr(builtins, node.id):
            return getattr(builtins, node.id)
        return self._refuse(node, f"{node.id} is not defined yet")

    def _of_unaryop(self, node: ast.UnaryOp) -> Value:
        value = self._value(node.operand)
        if isinstance(node.op, ast.Not):
            if value.kind != TRUTH:
                self._refuse(node, f"not needs a comparison, got {a_kind(value.kind)}")
            return Value(TRUTH, f"(not {value.text})")
        if value.kind != NUMBER or isinstance(node.op, ast.Invert):
            self._refuse(node, f"{ast.unparse(node)} is no number")
        if value.known is not None:
            sign = operator.neg if isinstance(node.op, ast.USub) else operator.pos
            return self._known(node, lambda: sign(value.known))
        return Value(NUMBER, f"(-{value.text})") if isinstance(node.op, ast.USub) else value

    def _of_binop(self, node: ast.BinOp) -> Value:
        if type(node.op) not in _BINARY:
            self._refuse(node, f"of operators there are + - * / and **, not {ast.unparse(node)}")
        text, compute = _BINARY[type(node.op)]
        a, b = self._number(node.left), self._number(node.right)
        if a.known is not None and b.known is not None:
            return self._known(node, lambda: compute(a.known, b.known))
        if isinstance(node.op, ast.Pow):
            return self._power(a, b)
        return Value(NUMBER, f"({self._text(a)} {text} {self._text(b)})")

    def _power(self, a: Value, b: Value) -> Value:
        """a to the power of b: by multiplication, as a root, or by the C library."""
        base, exponent = self._text(a), b.known
        if exponent is not None and abs(exponent) <= LARGEST_POWER and exponent == int(exponent):
            return Value(NUMBER, f"({base} ** {int(exponent)})")
        if exponent == 0.5:
            return Value(NUMBER, f"sqrt({base})")
        return self._call(POWER, [a, b])

    def _of_compare(self, node: ast.Compare) -> Value:
        values = [self._number(node.left), *(self._number(other) for other in node.comparators)]
        text = self._text(values[0])
        for op, value in zip(node.ops, values[1:], strict=True):
            if type(op) not in _COMPARISONS:
                self._refuse(node, f"numbers cannot be compared by {ast.unparse(node)}")
            text += f" {_COMPARISONS[type(op)]} {self._text(value)}"
        return Value(TRUTH, f"({text})")

    def _of_boolop(self, node: ast.BoolOp) -> Value:
        values = [self._value(value) for value in node.values]
        for value, part in zip(values, node.values, strict=True):
            if value.kind != TRUTH:
                self._refuse(part, f"and, or need comparisons, got {a_kind(value.kind)}")
        word = " and " if isinstance(node.op, ast.And) else " or "
        return Value(TRUTH, f"({word.join(value.text for value in values)})")

    def _of_ifexp(self, node: ast.IfExp) -> Value:
        return self._choice(node, node.test, node.body, node.orelse)

    def _choice(self, node: ast.expr, test: ast.expr, yes: ast.expr, no: ast.expr) -> Value:
        condition, a, b = self._value(test), self._value(yes), self._value(no)
        if condition.kind != TRUTH:
            self._refuse(test, f"a condition must be a comparison, got {a_kind(condition.kind)}")
        if a.kind != b.kind:
            self._refuse(node, f"is {a_kind(a.kind)} or {a_kind(b.kind)}")
        return Value(a.kind, f"({self._text(a)} if {condition.text} else {self._text(b)})")

    def _of_call(self, node: ast.Call) -> Value:
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self._refuse(
                node, f"arguments must be given in order, without names: {ast.unparse(node)}"
            )
        called = self._outside(node.func)
        if called is np.where and len(node.args) == 3:
            return self._choice(node, *node.args)
        values = [self._number(argument) for argument in node.args]
        if called in (float, np.float32, np.float64) and len(values) == 1:
            return values[0]
        word = MEANINGS.get(called) if isinstance(called, Hashable) else None
        if word is not None:
            return self._of_word(node, called, word, values)
        function = _function_of(called)
        if function is None:
            self._refuse(node, f"a formula cannot call {ast.unparse(node.func)}")
        self._translation.runs_as_python &= function is called
        name, kind = self._translation.helper(function)
        values += self._defaults(node, function, len(values))
        return Value(kind, f"{name}({', '.join(self._text(value) for value in values)})")

    def _of_word(self, node: ast.Call, called: Any, word: Word, values: list[Value]) -> Value:
        many = called in (builtins.max, builtins.min)
        if len(values) != word.arguments and not (many and len(values) > 2):
            self._refuse(node, f"{ast.unparse(node.func)} takes {word.arguments} arguments")
        if all(value.known is not None for value in values):
            numbers = [value.known if many else float(value.known) for value in values]
            return self._known(node, lambda: called(*numbers))
        if word is POWER:
            return self._power(*values)
        whole = values[0]
        for value in values[1:] if many else [None]:
            parts = values if value is None else [whole, value]
            whole = self._limited(word, parts) or self._call(word, parts)
        return whole

    def _limited(self, word: Word, values: list[Value]) -> Value | None:
        """``max(x, 2)`` and the like: one comparison will do where NaN is only to be kept."""
        if word.name not in ("maximum", "minimum") or all(v.known is None for v in values):
            return None
        limit, value = values if values[0].known is not None else reversed(values)
        sign = "<" if word.name == "maximum" else ">"
        if not value.text.isidentifier() or math.isnan(limit.known):
            return None
        bound = self._text(limit)
        return Value(NUMBER, f"({bound} if {value.text} {sign} {bound} else {value.text})")

    def _call(self, word: Word, values: Sequence[Value]) -> Value:
        text = f"{word.name}({', '.join(self._text(value) for value in values)})"
        return Value(NUMBER, f"like({self.arguments[0]}, {text})" if word.of_c else text)

    def _defaults(self, node: ast.Call, function: types.FunctionType, given: int) -> list[Value]:
        """The defaults of arguments that a call leaves out."""
        expected, defaults = function.__code__.co_argcount, function.__defaults__ or ()
        left = expected - given
        if not 0 <= left <= len(defaults):
            self._refuse(node, f"{function.__name__} takes {expected} arguments, got {given}")
        return [self._constant(node, value) for value in defaults[len(defaults) - left :]]


def _function_of(called: Any) -> types.FunctionType | None:
    """The plain function behind what is called: itself, an activation's, or a jitted one's."""
    if isinstance(called, OwnFunction):
        return called.function
    inner = getattr(called, "py_func", called)
    return inner if isinstance(inner, types.FunctionType) else None


def a_kind(kind: Kind) -> str:
    return f"a tuple of {kind}" if isinstance(kind, int) else f"a {kind}"
