"""Elementwise layers with parameters by column: kernels of the lines in `kernels/columns.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.columns import COLUMNS, Columns
from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.settings import inlined, kernel


def columns_forward(line: Columns) -> Callable[[str], Any]:
    """``y[n, j] = f(x[n, j], w0[j], w1[j], ...)``, overwriting y (N, F)."""
    weights = line.names()
    arrays = ", ".join(weights)
    values = ", ".join(["x[n, j]", *(f"{w}[j]" for w in weights)])
    text = f"""
def rows(y, x, {arrays}):
    for n in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[n, j] = element({values})
def forward(y, x, {arrays}):
    if address(y) == address(x):
        rows(y, y, {arrays})
    else:
        rows(y, x, {arrays})
"""
    made = _made(text, {"element": line.formula}, "rows", "forward")
    return lambda type_name: made


def columns_backward(line: Columns) -> Callable[[str], Any]:
    """``dx = dy ⊙ ∂f/∂x`` and ``dw = Σ_n dy[n] ⊙ ∂f/∂w``, overwriting dx (N, F) and each dw (F,).

    A thread has some of the columns, and all of their rows: sums are in the rows' order.
    """
    weights, gradients = line.names(), line.names("dw")
    slopes = ", ".join(["slope", *(f"slope_{w}" for w in weights)])
    values = ", ".join(["x[n, j]", *(f"{w}[j]" for w in weights)])
    arrays = ", ".join([*gradients, "dy", "x", *weights])
    in_place = ", ".join([*gradients, "dx", "x", *weights])
    sums = "\n".join(
        f"            {dw}[j] = (zero if fresh else {dw}[j]) + delta * slope_{w}"
        for dw, w in zip(gradients, weights, strict=True)
    )
    text = f"""
def rows(dx, {arrays}, first, last, begin, end, fresh):
    for n in range(begin, end):
        for j in range(first, last):
            delta = dy[n, j]
            {slopes} = element({values})
            dx[n, j] = delta * slope
{sums}
def backward(dx, {arrays}, rank, team):
    first, last = dx.shape[1] * rank // team, dx.shape[1] * (rank + 1) // team
    if address(dx) == address(dy):
        rows(dx, {in_place}, first, last, 0, 1, True)
        rows(dx, {in_place}, first, last, 1, dx.shape[0], False)
    else:
        rows(dx, {arrays}, first, last, 0, 1, True)
        rows(dx, {arrays}, first, last, 1, dx.shape[0], False)
"""

    def factory(type_name: str) -> Any:
        names = {"element": line.derivatives, "zero": getattr(np, type_name)(0)}
        return _made(text, names, "rows", "backward")

    return factory


def _made(text: str, namespace: dict[str, Any], loop: str, name: str) -> Any:
    """The kernel called `name` of a text, in which `loop` is inlined."""
    namespace["address"] = address
    exec(text, namespace)
    namespace[loop] = inlined(namespace[loop])
    return kernel(namespace[name])


def __getattr__(name: str) -> Callable[[str], Any]:
    formula, _, way = name.rpartition("_")
    if formula not in COLUMNS:
        raise AttributeError(f"no layer's kernel is called {name!r}")
    return (columns_forward if way == "forward" else columns_backward)(COLUMNS[formula])
