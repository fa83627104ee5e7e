"""Sums that several blocks have parts of: each lays its own down, and the last to come adds up.

Which block comes last is chance; that it adds up the parts in their order, all bits depend on. So
nothing is added by atomics, and a result's bits follow from the launch alone.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels.cuda.memory import view
from fastnn.kernels.cuda.ptx import any_of_block
from fastnn.kernels.cuda.slots import ARRIVALS
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.formula import formula


@device
def comes_last(state, slot, count):
    """Whether, of `count` blocks that call this, the caller's is the last; all its threads must.

    What the others wrote before is then there to be read. The slot counts them, and is 0 again.
    """
    cuda.threadfence()
    cuda.syncthreads()
    is_last = False
    if cuda.threadIdx.x == 0:
        is_last = cuda.atomic.add(state, slot, 1) == count - 1
    if not any_of_block(is_last):
        return False
    cuda.threadfence()
    state[slot] = 0
    return True


@formula
def rows_of_part(part, parts, rows):
    """The first row of a part, and how many rows it has: none, where there are too few."""
    each = (rows + parts - 1) // parts
    return part * each, max(0, min(each, rows - part * each))


def gather_parts(across: int, threads: int, terms: int) -> Any:
    """The function ``gather(totals, state, workspace)`` that brings together what blocks have.

    All threads of blocks along y, of `threads` each, call it. The first `across` of each have
    `terms` totals of columns; those of all blocks the last to come shares out among all threads
    whose numbers differ by multiples of `across`, which are told ``True``.
    """
    flat, size = view("float64", 1), terms * across
    names = [f"t{k}" for k in range(terms)]
    lines = [
        "parts, thread = cuda.gridDim.y, cuda.threadIdx.x",
        f"laid = flat(workspace, (cuda.gridDim.x * parts * {size},))",
        f"base = cuda.blockIdx.x * parts * {size} + thread % {across}",
        f"if thread < {across}:",
        *(
            f"    laid[base + cuda.blockIdx.y * {size} + {k * across}] = totals[{k}]"
            for k in range(terms)
        ),
        f"if not comes_last(state, {ARRIVALS} + cuda.blockIdx.x, parts):",
        "    return False",
        *(f"{name} = 0.0" for name in names),
        f"for part in range(thread // {across}, parts, {threads // across}):",
        *(
            f"    {name} += laid[base + part * {size} + {k * across}]"
            for k, name in enumerate(names)
        ),
        *(f"totals[{k}] = {name}" for k, name in enumerate(names)),
        "return True",
    ]
    text = "\n".join(["def gather(totals, state, workspace):", *("    " + x for x in lines)])
    namespace = {"comes_last": comes_last, "cuda": cuda, "flat": flat}
    exec(text, namespace)
    return device(namespace["gather"])


FAN = 16
"""Parts of a tile that one block adds up."""


@formula
def counters_of(parts):
    """Counters in the state that blocks with so many parts of a tile need."""
    return 1 + (parts + FAN - 1) // FAN


def gather_tile(type_name: str, count: int, threads: int) -> Any:
    """``gather(totals, sum, holds, thread, tile, part, parts, state, workspace)``.

    Blocks have a part each of the totals of a tile: `count` and one `sum` for each of the `threads`
    that `holds` is told for, by their number `thread`; all others of the block call it, too. It
    returns the sum and ``True`` in the block that has the totals of all parts in the end. Some
    neighbours are added up by the last of them, and what these have by the last of those: one
    block would read all parts at no more than a processor's rate.
    """
    flat, size = view(type_name, 1), (count + 1) * threads

    @device
    def lay(totals, total, laid, at):
        for i in range(count):
            laid[at + i * threads] = totals[i]
        laid[at + count * threads] = total

    @device
    def add_up(totals, laid, at, parts, step):
        for i in range(count):
            totals[i] = laid[at + i * threads]
        total = laid[at + count * threads]
        for _ in range(1, parts):
            at += step
            for i in range(count):
                totals[i] += laid[at + i * threads]
            total += laid[at + count * threads]
        return total

    @device
    def gather(totals, total, holds, thread, tile, part, parts, state, workspace):
        laid = flat(workspace, ((tile + 1) * parts * size,))
        base, groups, group = tile * parts * size + thread, (parts + FAN - 1) // FAN, part // FAN
        first, members = base + group * FAN * size, min(FAN, parts - group * FAN)
        slot = ARRIVALS + tile * counters_of(parts)
        if holds:
            lay(totals, total, laid, base + part * size)
        if not comes_last(state, slot + 1 + group, members):
            return total, False
        if holds:
            total = add_up(totals, laid, first, members, size)
        if groups == 1:
            return total, True
        if holds:
            lay(totals, total, laid, first)
        if not comes_last(state, slot, groups):
            return total, False
        if holds:
            total = add_up(totals, laid, base, groups, FAN * size)
        return total, True

    return gather
