"""Elementwise layers with parameters of their own for each column: y = f(x, a, b, ...).

The table is empty: its lines are the user's own (see `own`). It is read where nothing is compiled,
and so this file does not import Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

MOST_PARAMETERS = 6
"""Parameters of a column at most: each takes two of the words that an op's operands may have."""


class Columns(NamedTuple):
    """The formula ``f(x, a, b, ...)``, its derivatives by each, as a tuple, and their number."""

    formula: Callable[..., Any]
    derivatives: Callable[..., Any] | None
    parameters: int

    def names(self, prefix: str = "w") -> list[str]:
        """Operands of the parameters, or with ``"dw"`` of their gradients."""
        return [f"{prefix}{index}" for index in range(self.parameters)]

    def line(self, way: str) -> tuple[str, str, str]:
        """The line of the op forward or backward, as in `signatures`."""
        weights = " ".join(f"{name}[F]" for name in self.names())
        if way == "forward":
            return "N", f"y[N,F] x[N,F] {weights}", "y x"
        gradients = " ".join(f"{name}[F]" for name in self.names("dw"))
        return "own", f"dx[N,F] {gradients} dy[N,F] x[N,F] {weights}", "dx dy"


COLUMNS: dict[str, Columns] = {}
"""Every such layer by the name of its ops without ``_forward`` and ``_backward``."""
