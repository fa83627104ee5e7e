"""Kernels whose threads keep to some columns and go down the rows.

What belongs to a column is computed once a thread and stays in registers. `across` neighbouring
threads of a block have neighbouring columns, 16 bytes each where rows allow; the others of the
block have the rows below. Blocks lie side by side along x, of which there may be any number, and
below each other along y.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastnn.kernels.cuda.launch import (
    MOST_BLOCKS,
    THREADS,
    Kernel,
    Launch,
    Lengths,
    power_of_two,
)
from fastnn.kernels.cuda.memory import address, lanes_of, load_wide, store_wide, view
from fastnn.kernels.cuda.product import is_wide
from fastnn.kernels.cuda.target import cuda, device

ROWS_EACH = 4
"""Rows of a thread at least, where there are so many: its columns' numbers are worth them."""


class Grid(NamedTuple):
    """Blocks along the columns and along the rows; threads of a block side by side, and in all."""

    blocks: tuple[int, int]
    across: int
    threads: int


def grid_over(rows: int, units: int, each: int = ROWS_EACH) -> Grid:
    """The grid for `rows` rows of `units` places, a thread to each place of some rows."""
    across = power_of_two(units, 1, 32)
    threads = across * power_of_two(rows, 1, THREADS // across)
    side_by_side = max(1, -(-units // across))
    below = -(-rows // (threads // across * each))
    most = max(1, MOST_BLOCKS // side_by_side)
    return Grid((side_by_side, max(1, min(below, most))), across, threads)


def place_and_row(across: int) -> Any:
    """The function that gives a thread its place, its first row, and the step to the next."""

    @device
    def place_and_row():
        down = cuda.blockDim.x // across
        place = cuda.threadIdx.x % across + cuda.blockIdx.x * across
        row = cuda.threadIdx.x // across + cuda.blockIdx.y * down
        return place, row, cuda.gridDim.y * down

    return place_and_row


def over_columns(
    type_name: str,
    outputs: Sequence[str],
    inputs: Sequence[str],
    function: Callable[..., Any],
    numbers: Any,
    columns: str,
) -> Kernel:
    """The kernel that computes each element of `outputs` from the same element of `inputs`.

    Parameters
    ----------
    type_name : str
        Element type of all these arrays.
    outputs, inputs : sequence of str
        Operands, as in the op's signature; two of them may be one array.
    function : device function
        ``function(*elements, numbers)`` returns the tuple of the outputs' new elements.
    numbers : device function
        ``numbers(column, ...)`` computes what belongs to a column; its other parameters are
        operands.
    columns : str
        The letter of the dimension that counts columns.
    """
    flat, lanes = view(type_name, 1), lanes_of(type_name)
    of_column = list(inspect.signature(numbers.py_func).parameters)[1:]
    arrays = list(dict.fromkeys([*outputs, *inputs]))
    parameters = list(dict.fromkeys([*arrays, *of_column, columns]))
    given = ", ".join(of_column)

    def body(run: int) -> list[str]:
        """One row's elements, `run` of them."""
        if run == 1:
            lines = [f"{a}_in = (flat_{a}[i],)" for a in inputs]
        else:
            lines = [f"{a}_in = load_wide(flat_{a}, i)" for a in inputs]
        for lane in range(run):
            elements = ", ".join(f"{a}_in[{lane}]" for a in inputs)
            lines.append(f"r{lane} = function({elements}, n{lane})")
        for place, a in enumerate(outputs):
            values = [f"r{lane}[{place}]" for lane in range(run)]
            if run == 1:
                lines.append(f"flat_{a}[i] = {values[0]}")
            else:
                lines.append(f"store_wide(flat_{a}, i, ({', '.join(values)},))")
        return lines

    def make(across: int, wide: int) -> Any:
        run = lanes if wide else 1
        lines = [
            "own_place, own_row, down = place_and_row()",
            f"own_column = {run} * own_place",
            f"if own_column < {columns}:",
            *(f"    n{k} = numbers({', '.join([f'own_column + {k}', given])})" for k in range(run)),
            *(f"    flat_{a} = flat(address({a}), ({a}.size,))" for a in arrays),
            f"    for row in range(own_row, {arrays[0]}.size // {columns}, down):",
            f"        i = row * {columns} + own_column",
            *("        " + line for line in body(run)),
        ]
        text = "\n".join(
            [f"def over_columns({', '.join(parameters)}):", *("    " + x for x in lines)]
        )
        namespace = {
            "address": address,
            "flat": flat,
            "function": function,
            "load_wide": load_wide,
            "numbers": numbers,
            "place_and_row": place_and_row(across),
            "store_wide": store_wide,
        }
        exec(text, namespace)
        return device(namespace["over_columns"])

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        length = lengths[columns]
        wide = is_wide(type_name, aligned, length)
        rows = lengths["N"] * lengths["F"] // length
        grid = grid_over(rows, length // lanes if wide else length)
        return Launch(grid.blocks, grid.threads, (grid.across, int(wide)))

    return Kernel(make, launch)
