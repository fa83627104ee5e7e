"""Sums down the columns, in float64 and in an order that the shape alone decides.

A block takes `across` columns and all of their rows, so that nothing is left to be added up
elsewhere. Its threads are `across` side by side and the others below: each takes every so many-th
row of its column, and what they have is then added up, first within a warp, then over the warps.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.groups import ALL, WARP
from fastnn.kernels.cuda.launch import Launch, power_of_two
from fastnn.kernels.cuda.product import ENOUGH_BLOCKS
from fastnn.kernels.cuda.target import cuda, device, unrolled

NARROW, BROAD = 8, 32
"""Columns of a block: 32 bytes of a row, what memory gives at least, or a warp's threads."""

SUMMED = 8
"""Rows whose terms are added up, in the terms' own type, before their sum is added in float64."""

MOST_THREADS = 1024


def launch_for(rows: int, columns: int, most_threads: int = MOST_THREADS) -> Launch:
    """How to launch sums over so many rows; its constants: columns of a block, and its threads."""
    across = BROAD if columns >= BROAD * ENOUGH_BLOCKS else NARROW
    down = power_of_two(-(-rows // SUMMED), WARP // across, most_threads // across)
    threads = across * down
    return Launch((max(1, -(-columns // across)), 1), threads, (across, threads))


def fold(across: int, threads: int, terms: int) -> Any:
    """The function ``fold(totals)``, which every thread of a block of `threads` must call.

    It adds up the `terms` totals of all threads of a column, whose numbers differ by multiples of
    `across`, a power of two. What the first of them, below `across`, then holds is the sum.
    """
    span = max(WARP, across)
    parts = threads // span
    size = max(1, parts * terms * across)
    item = types.float64

    @device
    def fold_warp(term, totals):
        value, distance = totals[term], across
        while distance < WARP:
            value += cuda.shfl_xor_sync(ALL, value, distance)
            distance *= 2
        totals[term] = value

    @device
    def lay_down(term, totals, shared, part, column):
        shared[(part * terms + term) * across + column] = totals[term]

    @device
    def take_up(term, totals, shared, column):
        value = 0.0
        for part in range(parts):
            value += shared[(part * terms + term) * across + column]
        totals[term] = value

    fold_warps = unrolled(fold_warp, terms)
    lay_all, take_all = unrolled(lay_down, terms), unrolled(take_up, terms)

    @device
    def fold(totals):
        fold_warps(totals)
        if parts > 1:
            shared = cuda.shared.array(size, item, alignment=16)
            thread = cuda.threadIdx.x
            cuda.syncthreads()
            if thread % span < across:
                lay_all(totals, shared, thread // span, thread % across)
            cuda.syncthreads()
            if thread < across:
                take_all(totals, shared, thread)

    return fold


def column_sums(across: int, threads: int, terms: int, term: Any, each: int = SUMMED) -> Any:
    """The function ``sums(totals, rows, columns, ...)``, which every thread of a block must call.

    ``term(i, column, ...)`` returns the tuple of the terms of the element at place i of the rows.
    The sums of column ``blockIdx.x · across + thread`` are then in the float64 `totals` of the
    block's first `across` threads. Terms of `each` rows are fetched together.
    """
    names = ", ".join(list(inspect.signature(term.py_func).parameters)[2:])
    arguments = f", {names}" if names else ""
    down, fold_totals = threads // across, fold(across, threads, terms)

    def added(place: int, first: int, count: int) -> str:
        """The terms of `count` rows in one sum, of pairs of pairs."""
        if count == 1:
            return f"p{first}[{place}]"
        half = count // 2
        return f"({added(place, first, half)} + {added(place, first + half, count - half)})"

    lines = [
        f"column = cuda.blockIdx.x * {across} + cuda.threadIdx.x % {across}",
        f"lane = cuda.threadIdx.x // {across}",
        *(f"t{k} = 0.0" for k in range(terms)),
        "if column < columns and lane < rows:",
        f"    count, i, step = (rows - lane + {down - 1}) // {down}, lane * columns + column, "
        f"{down} * columns",
        f"    whole = count // {each} * {each}",
        f"    for _ in range(0, whole, {each}):",
        *(f"        p{r} = term(i + {r} * step, column{arguments})" for r in range(each)),
        *(f"        t{k} += float64({added(k, 0, each)})" for k in range(terms)),
        f"        i += {each} * step",
        "    for _ in range(whole, count):",
        f"        p0 = term(i, column{arguments})",
        *(f"        t{k} += float64(p0[{k}])" for k in range(terms)),
        "        i += step",
        *(f"totals[{k}] = t{k}" for k in range(terms)),
        "fold(totals)",
    ]
    text = "\n".join([f"def sums(totals, rows, columns{arguments}):", *("    " + x for x in lines)])
    namespace = {"cuda": cuda, "fold": fold_totals, "term": term, "float64": np.float64}
    exec(text, namespace)
    return device(namespace["sums"])


@device
def column_of_thread(across):
    """The column whose sums this thread has at the end, or −1."""
    thread = cuda.threadIdx.x
    return cuda.blockIdx.x * across + thread if thread < across else -1
