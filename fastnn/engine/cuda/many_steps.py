"""Which way steps go on a GPU, and the one launch that does many of them, where they are small.

The thresholds stand in `fastnn.kernels.cuda.ways`, with the predictions that they rest on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastnn.engine.cuda import blas, narrow
from fastnn.engine.cuda.device import Device, Launched, kernel_of, launch_of
from fastnn.engine.operands import Call
from fastnn.kernels.cuda import cooperative, persistent
from fastnn.kernels.cuda.launch import THREADS, Launch
from fastnn.kernels.cuda.parts import MOST_WORDS, PRODUCTS, Part
from fastnn.kernels.cuda.ways import GRID, NARROW, ONE_BLOCK, Limits

BLOCK, COOPERATIVE, LIBRARY, TWO, GRAPH = "block", "grid", "library", "two", "graph"
"""Ways: many steps in a launch of one block, or of a grid; each step as a graph of kernels, some of
them cuBLASLt's products, or two of them all but the update, or of a kernel for each op."""


SAID = {
    BLOCK: "one block does many steps in one launch",
    COOPERATIVE: "a grid of blocks does many steps in one launch; not one block",
    LIBRARY: "a graph of cuBLASLt's products and of kernels for each step",
    TWO: "two kernels on tensor cores, and the optimizer's, for each step",
    GRAPH: "a graph of kernels for each step; not one launch for many",
}
"""What is said of them, before the reason."""


class Way(NamedTuple):
    """A way that steps go, and why not another."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{SAID[self.name]}: {self.why}"


def way_of(calls: Sequence[Call], rows: int, precision: str, device: Device) -> Way:
    """The way of steps of training on batches of up to so many rows.

    Parameters
    ----------
    calls : sequence of Call
        The ops of such a step, with activations left to products.
    rows : int
    precision : str
        What the factors of products may be rounded to, see `launch.PRECISIONS`.
    device : Device
    """
    least = max(blas.LEAST_LENGTH.values())
    if any(_is_wide(call, rows) for call in calls) and device.library is not None:
        return Way(LIBRARY, f"products of {least} and more in rows, inputs and units")
    against_block = _against(calls, rows, precision, ONE_BLOCK, (1, THREADS), _of_block)
    if against_block is None:
        return Way(BLOCK, "few units, few rows")
    against_grid = _against(calls, rows, precision, GRID, device.grid, _of_grid)
    if against_grid is None:
        return Way(COOPERATIVE, against_block)
    if precision == "fp32":
        return Way(GRAPH, against_grid)
    against_two = narrow.against_two(calls, rows, precision, device.most_shared)
    if against_two is None:
        return Way(TWO, "few units, many rows")
    return Way(GRAPH, f"{against_grid}; not two kernels: {against_two}")


def ways_of(
    calls: Sequence[Call], precision: str, device: Device
) -> list[tuple[int, int | None, Way]]:
    """The ways of steps by a batch's rows: the fewest and the most rows that each is taken for."""
    found: list[tuple[int, int | None, Way]] = []
    most = max(ONE_BLOCK.rows, GRID.rows, NARROW.least_rows, *blas.LEAST_LENGTH.values())
    first, beyond = 1, most + 1
    while True:
        way = way_of(calls, first, precision, device)
        last, other = first, beyond
        if way_of(calls, beyond, precision, device).name == way.name:
            return [*found, (first, None, way)]
        while other - last > 1:
            middle = (last + other) // 2
            if way_of(calls, middle, precision, device).name == way.name:
                last = middle
            else:
                other = middle
        found.append((first, last, way))
        first = other


Found = tuple[Part, int] | None
"""An op as a part of a step, and how many blocks then have work; None if it cannot be one."""


def _of_block(call: Call, launch: Launch, lengths: dict[str, int], grid: tuple[int, int]) -> Found:
    part = persistent.part_of(call.key[0], call.key[1:], kernel_of(call.key), launch)
    return None if part is None else (part, 1)


def _of_grid(call: Call, launch: Launch, lengths: dict[str, int], grid: tuple[int, int]) -> Found:
    name, *types = call.key
    return cooperative.part_of(name, tuple(types), kernel_of(call.key), launch, lengths, grid)


def lengths_of(call: Call, rows: int) -> dict[str, int]:
    """An op's dimensions in batches of up to so many rows."""
    return {"N": rows} | {letter: rows if n is None else n for letter, n in call.lengths.items()}


def _against(
    calls: Sequence[Call],
    rows: int,
    precision: str,
    limits: Limits,
    grid: tuple[int, int],
    part: Callable[[Call, Launch, dict[str, int], tuple[int, int]], Found],
) -> str | None:
    """Why not many such steps are done in one launch of up to so many blocks and threads."""
    if precision != "fp32":
        return f"precision {precision}"
    if grid[0] == 0:
        return "a GPU that does not run all blocks of a grid at once"
    if rows > limits.rows:
        return f"batches of more than {limits.rows:,} rows"
    multiply_adds, words = 0, 1
    for call in calls:
        lengths = lengths_of(call, rows)
        words += call.signature.width + 2
        if call.key[0] in PRODUCTS:
            if call.types["T"] != "float32":
                return f"dtype {call.types['T']}"
            if lengths["I"] > limits.inputs:
                return f"more than {limits.inputs:,} inputs"
            is_inside = call.key[0] == "dense_backward_input"
            if max(lengths["O"], lengths["I"] * is_inside) > limits.width:
                return f"layers of more than {limits.width:,} units"
            multiply_adds += rows * lengths["I"] * lengths["O"]
        launch = launch_of(call.key, lengths, True)
        if lengths.get("C", 0) > limits.width or part(call, launch, lengths, grid) is None:
            return f"the op {call.key[0]}"
    if multiply_adds > limits.multiply_adds:
        return f"more than {int(limits.multiply_adds):,} multiply-adds a step"
    return f"more than {MOST_WORDS} numbers for its ops" if words > MOST_WORDS else None


def _is_wide(call: Call, rows: int) -> bool:
    """Whether a call is a product as long as those that are cuBLASLt's."""
    lengths = lengths_of(call, rows)
    least = blas.LEAST_LENGTH.get(call.types["T"], 0)
    return call.key[0] in PRODUCTS and min(rows, lengths["I"], lengths["O"]) >= least


def by_block(calls: Sequence[Call], launches: Sequence[Launched], state: int) -> Launched:
    """A launch of one block that does many steps, of which `launches` would do one."""
    parts, words = [], []
    for call, one in zip(calls, launches, strict=True):
        found = _of_block(call, one.launch, {}, (1, THREADS))
        assert found is not None
        parts.append(str(found[0]))
        words += one.words[:-1]
    return Launched((persistent.NAME, *parts), Launch((1, 1), THREADS), [*words, state])


def by_grid(
    calls: Sequence[Call],
    launches: Sequence[Launched],
    rows: int,
    grid: tuple[int, int],
    places: Callable[[Any], tuple[int, int]],
    state: int,
) -> Launched:
    """The same of a grid, whose blocks meet where an op waits for another's results.

    ``places(array)`` tells where an operand begins and ends.
    """
    ops: list[cooperative.Op] = []
    most = 1
    for call, one in zip(calls, launches, strict=True):
        found = _of_grid(call, one.launch, lengths_of(call, rows), grid)
        assert found is not None
        part, blocks = found
        most = max(most, min(blocks, grid[0]))
        written = cooperative.WRITTEN.get(part.name, tuple(call.arrays))
        accesses = [
            cooperative.Access(*places(array), name in written)
            for name, array in call.arrays.items()
            if array is not None
        ]
        ops.append(cooperative.op_of(part, kernel_of(call.key), accesses, call.phase))
    before = cooperative.meetings_before(ops)
    key, words = [cooperative.NAME], []
    for number in range(max(before) + 1):
        key += [cooperative.MEETING] if number else []
        for op, one, own in zip(ops, launches, before, strict=True):
            if own == number:
                key.append(str(op.part))
                words += one.words[:-1]
    launch = Launch((most, 1), grid[1], (grid[1],), at_once=True)
    return Launched(tuple(key), launch, [*words, state])
