"""Elementwise layers with parameters by column: kernels of the lines in `kernels/columns.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from fastnn.kernels.columns import COLUMNS, Columns
from fastnn.kernels.cuda.column_maps import over_columns
from fastnn.kernels.cuda.column_sums import column_sums, launch_for
from fastnn.kernels.cuda.launch import THREADS, Kernel, Launch, Lengths
from fastnn.kernels.cuda.memory import address, view
from fastnn.kernels.cuda.target import cuda, device

SUMMED = 2
"""Rows whose terms are computed together: formulas are long, and a thread has 128 registers."""


def _made(text: str, name: str, namespace: dict[str, Any]) -> Any:
    """The device function called `name` of a text."""
    exec(text, namespace)
    return device(namespace[name])


def columns_forward(line: Columns) -> Callable[[str], Kernel]:
    """``y[n, j] = f(x[n, j], w0[j], w1[j], ...)``, overwriting y (N, F)."""
    weights = line.names()
    numbers = _made(
        f"""
def numbers(column, {", ".join(weights)}):
    return ({", ".join(f"{w}[column]" for w in weights)},)
""",
        "numbers",
        {},
    )
    forward = _made(
        f"""
def forward(x, numbers):
    return (element(x, {", ".join(f"numbers[{i}]" for i in range(len(weights)))}),)
""",
        "forward",
        {"element": line.formula},
    )
    return lambda type_name: over_columns(type_name, ["y"], ["x"], forward, numbers, "F")


def columns_backward(line: Columns) -> Callable[[str], Kernel]:
    """``dx = dy ⊙ ∂f/∂x`` and ``dw = Σ_n dy[n] ⊙ ∂f/∂w``, overwriting dx (N, F), each dw (F,)."""
    weights, gradients = line.names(), line.names("dw")
    arguments = ", ".join(weights)
    slopes = ", ".join(["slope", *(f"slope_{w}" for w in weights)])
    term = _made(
        f"""
def term(i, column, dx, dy, x, {arguments}):
    delta = dy[i]
    {slopes} = element(x[i], {arguments})
    dx[i] = delta * slope
    return ({", ".join(f"delta * slope_{w}" for w in weights)},)
""",
        "term",
        {"element": line.derivatives},
    )
    own = ", ".join(f"{w}[own]" for w in weights)
    results = "\n".join(f"        {dw}[column] = totals[{i}]" for i, dw in enumerate(gradients))
    text = f"""
def backward(dx, {", ".join([*gradients, "dy", "x", *weights])}, state, workspace):
    rows, columns = x.shape
    totals = cuda.local.array({line.parameters}, float64)
    own = cuda.blockIdx.x * across + cuda.threadIdx.x % across
    own = own if own < columns else 0
    column = sums(totals, rows, columns, state, workspace, flat(address(dx), (dx.size,)),
                  flat(address(dy), (dy.size,)), flat(address(x), (x.size,)), {own})
    if column >= 0:
{results}
"""

    def factory(type_name: str) -> Kernel:
        def make(across: int, threads: int) -> Any:
            names = {
                "across": across,
                "address": address,
                "cuda": cuda,
                "flat": view(type_name, 1),
                "float64": types.float64,
                "sums": column_sums(across, threads, line.parameters, term, SUMMED),
            }
            return _made(text, "backward", names)

        def launch(lengths: Lengths, aligned: bool) -> Launch:
            return launch_for(lengths["N"], lengths["F"], line.parameters, THREADS)

        return Kernel(make, launch)

    return factory


def __getattr__(name: str) -> Callable[[str], Kernel]:
    formula, _, way = name.rpartition("_")
    if formula not in COLUMNS:
        raise AttributeError(f"no layer's kernel is called {name!r}")
    return (columns_forward if way == "forward" else columns_backward)(COLUMNS[formula])
