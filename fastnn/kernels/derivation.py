"""The derivative of a formula's text, by forward differentiation: exact rules, line by line.

Beside every number stands its slope, a dual number (Clifford 1873; Wengert 1964, *A Simple
Automatic Derivative Evaluation Program*). What does not depend on the argument has no slope, so
that no 0 is multiplied by an infinity, and of a choice the slope is chosen with the value: where a
formula has a kink, its derivative is that of the side that Python takes.

It works on the text that `translation` makes, whose language is small: assignments, ``if``,
``return``; each expression is one line of the result, so that nothing is computed twice.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from fastnn.kernels.expressions import TRUTH_PREFIX
from fastnn.kernels.vocabulary import OF_C

# The partial derivatives of each word by its arguments a (and b), of which its value is y.
_TWO_OVER_ROOT_PI = repr(2.0 / math.sqrt(math.pi))
_PARTIALS: dict[str, tuple[str, ...]] = {
    "exp": ("y",),
    "expm1": ("y + 1.0",),
    "log": ("1.0 / a",),
    "log1p": ("1.0 / (1.0 + a)",),
    "tanh": ("1.0 - y * y",),
    "sigmoid": ("y * (1.0 - y)",),
    "sqrt": ("0.5 / y",),
    "abs": ("sign(a)",),
    "sin": ("cos(a)",),
    "cos": ("-sin(a)",),
    "tan": ("1.0 + y * y",),
    "sinh": ("cosh(a)",),
    "cosh": ("sinh(a)",),
    "arcsin": ("1.0 / sqrt(1.0 - a * a)",),
    "arccos": ("-1.0 / sqrt(1.0 - a * a)",),
    "arctan": ("1.0 / (1.0 + a * a)",),
    "arcsinh": ("1.0 / sqrt(a * a + 1.0)",),
    "arccosh": ("1.0 / sqrt(a * a - 1.0)",),
    "arctanh": ("1.0 / (1.0 - a * a)",),
    "log2": (f"{1.0 / math.log(2.0)!r} / a",),
    "log10": (f"{1.0 / math.log(10.0)!r} / a",),
    "erf": (f"{_TWO_OVER_ROOT_PI} * exp(-a * a)",),
    "erfc": (f"-{_TWO_OVER_ROOT_PI} * exp(-a * a)",),
    "power": ("b * power(a, b - 1.0)", "y * log(a)"),
    "arctan2": ("b / (a * a + b * b)", "-a / (a * a + b * b)"),
    "hypot": ("a / y", "b / y"),
    "copysign": ("sign(a) * copysign(1.0, b)", "0.0"),
    "sign": ("0.0",),
    "floor": ("0.0",),
    "ceil": ("0.0",),
}
_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


class Dual(NamedTuple):
    """Texts of a number, or of a tuple's numbers, and of their slopes; None is 0."""

    values: tuple[str, ...]
    slopes: tuple[str | None, ...]


def derive(text: str, by: Sequence[int]) -> str | None:
    """The text of the derivatives of a text's last function by the arguments numbered in `by`.

    One number comes as such, several as a tuple. None if all are 0 everywhere.
    """
    functions = {node.name: node for node in ast.parse(text).body}
    formula = functions["formula"]
    own = [argument.arg for argument in formula.args.args]
    made = _Derivation(functions)
    lines, results, any_slope = [], [], False
    for index in by:
        pattern = tuple(index == i for i in range(len(own)))
        name, slopes = made.of("formula", pattern)
        one = f"like({own[0]}, 1.0)"
        lines.append(f"    value_{index}, slope_{index} = {name}({', '.join([*own, one])})")
        results.append(f"slope_{index}")
        any_slope |= slopes[0]
    if not any_slope:
        return None
    result = results[0] if len(results) == 1 else f"({', '.join(results)},)"
    helpers = text[: text.index("@rounded\ndef formula(")]
    head = ["@rounded", f"def formula({', '.join(own)}):"]
    return helpers + "\n".join([*made.lines, *head, *lines, f"    return {result}"])


class _Derivation:
    """All functions of a text, each for those of its arguments that have a slope."""

    def __init__(self, functions: dict[str, ast.FunctionDef]) -> None:
        self.functions = functions
        self.lines: list[str] = []
        self._made: dict[tuple[str, tuple[bool, ...]], tuple[str, list[bool]]] = {}

    def of(self, name: str, pattern: tuple[bool, ...]) -> tuple[str, list[bool]]:
        """The function's name with slopes for arguments in `pattern`; which results have some.

        It takes the arguments, then those slopes, and returns the numbers, then all their slopes.
        """
        if (name, pattern) not in self._made:
            dual = _Dual(self, self.functions[name], pattern)
            new = f"{name}_by_{''.join('d' if slope else 'c' for slope in pattern)}"
            self.lines += ["@rounded", f"def {new}({', '.join(dual.arguments)}):", *dual.lines]
            self._made[name, pattern] = new, dual.sloping
        return self._made[name, pattern]


class _Dual:
    """One function with slopes beside its numbers, statement by statement."""

    def __init__(
        self, derivation: _Derivation, function: ast.FunctionDef, pattern: tuple[bool, ...]
    ) -> None:
        self._derivation = derivation
        own = [argument.arg for argument in function.args.args]
        self._first = own[0]
        sloping = [name for name, slope in zip(own, pattern, strict=True) if slope]
        self.arguments = [*own, *(f"d_{name}" for name in sloping)]
        # A name has a slope if one of its values has: found by going through until none is added.
        self._active, before = set(sloping), -1
        self.sloping: list[bool] = []
        while before != (before := len(self._active) + sum(self.sloping)):
            self.lines: list[str] = []
            self._depth, self._numbers = 1, itertools.count()
            self._truths: set[str] = set()
            for name in own:  # an argument without a slope may be given one
                if name in self._active and name not in sloping:
                    self._put(f"d_{name} = {self._like(0.0)}")
            self._block(function.body)

    def _put(self, line: str) -> None:
        self.lines.append("    " * self._depth + line)

    def _let(self, text: str) -> str:
        """A new name for the value of an expression."""
        name = f"t{next(self._numbers)}"
        self._put(f"{name} = {text}")
        return name

    def _like(self, number: float) -> str:
        return f"like({self._first}, {number!r})"

    def _slope(self, slope: str | None) -> str:
        return self._like(0.0) if slope is None else slope

    def _block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            getattr(self, f"_{type(statement).__name__.lower()}")(statement)

    def _pass(self, statement: ast.Pass) -> None:
        self._put("pass")

    def _if(self, statement: ast.If) -> None:
        self._put(f"if {self._truth(statement.test)}:")
        for index, part in enumerate((statement.body, statement.orelse)):
            if index == 1:
                self._put("else:")
            self._depth += 1
            self._block(part)
            self._depth -= 1

    def _return(self, statement: ast.Return) -> None:
        dual = self._dual(statement.value)
        self.sloping = [
            before or slope is not None
            for before, slope in itertools.zip_longest(self.sloping, dual.slopes)
        ]
        slopes = [self._slope(slope) for slope in dual.slopes]
        self._put(f"return {', '.join([*dual.values, *slopes])}")

    def _assign(self, statement: ast.Assign) -> None:
        (target,) = statement.targets
        if isinstance(target, ast.Name) and self._is_truth(statement.value):
            self._truths.add(target.id)
            self._put(f"{target.id} = {self._truth(statement.value)}")
            return
        names = [name.id for name in getattr(target, "elts", [target])]
        dual = self._dual(statement.value)
        left, right = [*names], [*dual.values]
        for name, slope in zip(names, dual.slopes, strict=True):
            if slope is not None:
                self._active.add(name)
            if name in self._active:
                left.append(f"d_{name}")
                right.append(self._slope(slope))
        self._put(f"{', '.join(left)} = {', '.join(right)}")

    # Truth values.

    def _is_truth(self, node: ast.expr) -> bool:
        match node:
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()) | ast.Constant():
                return True
            case ast.IfExp():
                return self._is_truth(node.body)
            case ast.Call():
                return node.func.id.startswith(TRUTH_PREFIX)
        return isinstance(node, ast.Name) and node.id in self._truths

    def _truth(self, node: ast.expr) -> str:
        """The text of a truth value, of which nothing has a slope."""
        match node:
            case ast.Compare():
                values = [self._value(part) for part in (node.left, *node.comparators)]
                new = ast.Compare(values[0], node.ops, values[1:])
                return f"({ast.unparse(new)})"
            case ast.BoolOp():
                word = " and " if isinstance(node.op, ast.And) else " or "
                return f"({word.join(self._truth(value) for value in node.values)})"
            case ast.UnaryOp():
                return f"(not {self._truth(node.operand)})"
            case ast.IfExp():
                test, yes, no = map(self._truth, (node.test, node.body, node.orelse))
                return f"({yes} if {test} else {no})"
        return ast.unparse(node)

    def _value(self, node: ast.expr) -> ast.expr:
        return ast.parse(self._dual(node).values[0], mode="eval").body

    # Numbers.

    def _dual(self, node: ast.expr) -> Dual:
        match node:
            case ast.Name():
                return Dual((node.id,), (f"d_{node.id}" if node.id in self._active else None,))
            case ast.Tuple():
                duals = [self._dual(element) for element in node.elts]
                return Dual(tuple(d.values[0] for d in duals), tuple(d.slopes[0] for d in duals))
            case ast.UnaryOp():
                (value,), (slope,) = self._dual(node.operand)
                return self._number(f"-{value}", slope and f"-{slope}")
            case ast.BinOp(op=ast.Pow()):
                return self._power(node)
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.IfExp():
                return self._choice(node)
        return self._call(node)

    def _number(self, value: str, slope: str | None) -> Dual:
        return Dual((self._let(value),), (slope and self._let(slope),))

    def _arithmetic(self, node: ast.BinOp) -> Dual:
        ((a,), (da,)), ((b,), (db,)) = self._dual(node.left), self._dual(node.right)
        y = self._let(f"{a} {_OPERATORS[type(node.op)]} {b}")
        match node.op:
            case ast.Mult():
                parts = [da and f"{da} * {b}", db and f"{a} * {db}"]
            case ast.Div():
                parts = [da and f"{da} / {b}", db and f"-{y} * {db} / {b}"]
            case ast.Sub():
                parts = [da, db and f"-{db}"]
            case _:
                parts = [da, db]
        return Dual((y,), (self._sum(parts),))

    def _sum(self, parts: Sequence[str | None]) -> str | None:
        there = [part for part in parts if part is not None]
        return self._let(" + ".join(there)) if there else None

    def _power(self, node: ast.BinOp) -> Dual:
        (a,), (da,) = self._dual(node.left)
        n = ast.literal_eval(node.right)
        slope = None if da is None or n == 0 else f"{self._like(float(n))} * {a} ** {n - 1} * {da}"
        return self._number(f"{a} ** {n}", slope)

    def _choice(self, node: ast.IfExp) -> Dual:
        test = self._let(self._truth(node.test))
        return self._chosen(test, self._dual(node.body), self._dual(node.orelse))

    def _chosen(self, test: str, yes: Dual, no: Dual) -> Dual:
        values = [
            self._let(f"{a} if {test} else {b}") for a, b in zip(yes.values, no.values, strict=True)
        ]
        slopes = [
            None
            if a is None and b is None
            else self._let(f"{self._slope(a)} if {test} else {self._slope(b)}")
            for a, b in zip(yes.slopes, no.slopes, strict=True)
        ]
        return Dual(tuple(values), tuple(slopes))

    def _call(self, node: ast.Call) -> Dual:
        name = node.func.id
        if name == "like":
            inner = node.args[1]
            return (
                self._dual(inner)
                if isinstance(inner, ast.Call)
                else Dual((ast.unparse(node),), (None,))
            )
        duals = [self._dual(argument) for argument in node.args]
        if name in self._derivation.functions:
            return self._of_function(name, duals)
        if name in ("maximum", "minimum"):
            return self._larger(name, *duals)
        if name == "clamp":
            return self._larger("minimum", self._larger("maximum", *duals[:2]), duals[2])
        texts = [dual.values[0] for dual in duals]
        y = self._let(self._filled(f"{name}({', '.join('ab'[: len(texts)])})", *texts))
        parts = []
        for dual, partial in zip(duals, _PARTIALS[name], strict=True):
            if dual.slopes[0] is not None and partial != "0.0":
                factor = self._let(self._filled(partial, *texts, y=y))
                parts.append(f"{factor} * {dual.slopes[0]}")
        return Dual((y,), (self._sum(parts),))

    def _larger(self, name: str, a: Dual, b: Dual) -> Dual:
        """The larger or smaller one: the first where both are equal, as Python's."""
        sign = ">" if name == "maximum" else "<"
        test = self._let(f"{b.values[0]} {sign} {a.values[0]}")
        slopes = self._chosen(test, b, a).slopes
        return Dual((self._let(f"{name}({a.values[0]}, {b.values[0]})"),), slopes)

    def _of_function(self, name: str, duals: list[Dual]) -> Dual:
        pattern = tuple(dual.slopes[0] is not None for dual in duals)
        new, sloping = self._derivation.of(name, pattern)
        values = [f"t{next(self._numbers)}" for _ in sloping]
        slopes = [f"t{next(self._numbers)}" for _ in sloping]
        arguments = [d.values[0] for d in duals] + [d.slopes[0] for d in duals if d.slopes[0]]
        self._put(f"{', '.join(values + slopes)} = {new}({', '.join(arguments)})")
        return Dual(
            tuple(values),
            tuple(s if has else None for s, has in zip(slopes, sloping, strict=True)),
        )

    def _filled(self, rule: str, a: str, b: str = "", y: str = "") -> str:
        """The text of a rule, with names for its letters and its numbers `like` the argument."""
        filling = _Filling({"a": a, "b": b, "y": y}, self._first)
        return ast.unparse(filling.visit(ast.parse(rule, mode="eval")))


class _Filling(ast.NodeTransformer):
    """Puts names into a rule, and makes its numbers and the C library's results `like` one."""

    def __init__(self, names: dict[str, str], first: str) -> None:
        self._names, self._first = names, first

    def _like(self, node: ast.expr) -> ast.expr:
        return ast.Call(ast.Name("like"), [ast.Name(self._first), node], [])

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self._names[node.id], mode="eval").body if node.id in self._names else node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return self._like(node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        node.args = [self.visit(argument) for argument in node.args]
        return self._like(node) if node.func.id in OF_C else node
