"""A user's function to the text of a formula: checked line by line, with all that it depends on.

What a person writes as Python, ``0.5 * x * (1 + math.tanh(x))``, would widen float32 to float64,
call the C library for each element and look up globals that may change. The text has none of that:
numbers are `like` the argument, functions are the words of `vocabulary`, values from outside are
written in, and functions of the user's that it calls stand beside it. So the text is all that there
is to know: its hash names the op, and a process that compiles needs nothing else.

The language is small: assignments, ``if`` and ``return`` over numbers, truth values and tuples of
numbers, so that whatever is translated also compiles. Types are found on the way.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping, Sequence

from fastnn.kernels.expressions import NUMBER, TRUTH, TRUTH_PREFIX, Expressions, Kind, Value, a_kind


class Translation:
    """Functions of the user's, and the helpers that they call, as one text of formulas.

    Parameters
    ----------
    owner : str
        What messages begin with.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.runs_as_python = True
        self._texts: list[str] = []
        self._helpers: dict[types.FunctionType, tuple[str, Kind]] = {}
        self._open: list[types.FunctionType] = []

    @property
    def text(self) -> str:
        """All formulas, each after those that it calls."""
        return "\n".join(self._texts)

    def add(
        self, name: str, function: types.FunctionType, names: Mapping[str, str] | None = None
    ) -> Kind:
        """Translate `function` into a formula called `name`; what it returns.

        Arguments in `names` are called as it says.
        """
        return self._put(name, *self._translated(function, names or {}))

    def helper(self, function: types.FunctionType) -> tuple[str, Kind]:
        """The name of the formula for a function that is called, and what it returns."""
        if function not in self._helpers:
            body, kind = self._translated(function, {})
            name = f"{TRUTH_PREFIX if kind == TRUTH else 'helper_'}{len(self._helpers)}"
            self._helpers[function] = name, self._put(name, body, kind)
        return self._helpers[function]

    def _translated(
        self, function: types.FunctionType, names: Mapping[str, str]
    ) -> tuple[_Body, Kind]:
        if function in self._open:
            raise ValueError(
                f"{self.owner}: {function.__name__} calls itself, which a formula cannot"
            )
        self._open.append(function)
        try:
            body = _Body(self, function, names)
            return body, body.translate()
        finally:
            self._open.pop()

    def _put(self, name: str, body: _Body, kind: Kind) -> Kind:
        self._texts += ["@rounded", f"def {name}({', '.join(body.arguments)}):", *body.lines]
        return kind


class _Body(Expressions):
    """One function, statement by statement."""

    def __init__(
        self, translation: Translation, function: types.FunctionType, names: Mapping[str, str]
    ) -> None:
        super().__init__(translation, function, names)
        self._returned: Kind | None = None
        self._depth = 1
        self.lines: list[str] = []

    def translate(self) -> Kind:
        """Put all statements into `lines`; what the function returns."""
        body = self._source.body
        if not self._block(body):
            self._refuse(body[-1], "may end without a return")
        return self._returned

    # Statements. Each says whether all ways through it end in a return.

    def _put(self, line: str) -> None:
        self.lines.append("    " * self._depth + line)

    def _block(self, statements: Sequence[ast.stmt]) -> bool:
        for index, statement in enumerate(statements):
            method = getattr(self, f"_{type(statement).__name__.lower()}", None)
            if method is None:
                self._refuse(
                    statement,
                    f"a formula may have assignments, if and return, not "
                    f"{type(statement).__name__.lower()}",
                )
            elif method(statement):
                if index + 1 < len(statements):
                    self._refuse(statements[index + 1], "is never reached")
                return True
        return False

    def _pass(self, statement: ast.stmt) -> bool:
        self._put("pass")
        return False

    def _expr(self, statement: ast.Expr) -> bool:
        if not (
            isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
        ):
            self._refuse(statement, "an expression whose value is not used")
        return self._pass(statement)

    def _return(self, statement: ast.Return) -> bool:
        if statement.value is None:
            self._refuse(statement, "returns nothing")
        value = self._value(statement.value)
        if self._returned not in (None, value.kind):
            self._refuse(
                statement, f"returns {a_kind(value.kind)}, and elsewhere {a_kind(self._returned)}"
            )
        self._returned = value.kind
        self._put(f"return {self._text(value)}")
        return True

    def _assign(self, statement: ast.Assign) -> bool:
        if len(statement.targets) != 1:
            self._refuse(statement, "assigns to several names at once")
        self._bind(statement, statement.targets[0], self._value(statement.value))
        return False

    def _annassign(self, statement: ast.AnnAssign) -> bool:
        if statement.value is None:
            self._refuse(statement, "an annotation without a value")
        self._bind(statement, statement.target, self._value(statement.value))
        return False

    def _augassign(self, statement: ast.AugAssign) -> bool:
        if not isinstance(statement.target, ast.Name):
            self._refuse(statement, "only names can be assigned to")
        before = ast.copy_location(ast.Name(statement.target.id, ast.Load()), statement)
        whole = ast.copy_location(ast.BinOp(before, statement.op, statement.value), statement)
        self._bind(statement, statement.target, self._value(whole))
        return False

    def _bind(self, statement: ast.stmt, target: ast.expr, value: Value) -> None:
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        kinds: list[Kind] = [value.kind]
        if isinstance(target, ast.Tuple):
            if value.kind != len(targets):
                self._refuse(statement, f"{len(targets)} names for {a_kind(value.kind)}")
            kinds = [NUMBER] * len(targets)
        elif isinstance(value.kind, int):
            self._refuse(statement, "a tuple must be taken apart: a, b = ...")
        for name, kind in zip(targets, kinds, strict=True):
            if not isinstance(name, ast.Name):
                self._refuse(statement, "only names can be assigned to")
            if self._kinds.setdefault(name.id, kind) != kind:
                self._refuse(
                    statement,
                    f"{name.id} is {a_kind(kind)}, and before {a_kind(self._kinds[name.id])}",
                )
            self._assigned.add(name.id)
        left = ", ".join(self._names[name.id] for name in targets)
        self._put(f"{left} = {self._text(value)}")

    def _if(self, statement: ast.If) -> bool:
        test = self._value(statement.test)
        if test.kind != TRUTH:
            self._refuse(statement, f"a condition must be a comparison, got {a_kind(test.kind)}")
        self._put(f"if {test.text}:")
        before = set(self._assigned)
        ends, after = [], []
        for index, part in enumerate((statement.body, statement.orelse)):
            self._assigned = set(before)
            if index == 1:
                self._put("else:")
            self._depth += 1
            ends.append(self._block(part))
            if not part:
                self._put("pass")
            self._depth -= 1
            after.append(self._assigned)
        # A name has a value after it if it has one on each way that goes on.
        going = [names for end, names in zip(ends, after, strict=True) if not end]
        self._assigned = set.intersection(*going) if going else before
        return all(ends)
