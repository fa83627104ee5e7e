"""The dense layer over sparse rows: the operands are the CPU's, see there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.column_maps import grid_over, place_and_row
from fastnn.kernels.cuda.groups import ALL, WARP
from fastnn.kernels.cuda.launch import MOST_BLOCKS, Kernel, Launch, Lengths
from fastnn.kernels.cuda.memory import address, copy_wide, given, lanes_of, view
from fastnn.kernels.cuda.product import is_wide
from fastnn.kernels.cuda.target import cuda, device

FEWEST_INPUTS = 8
"""Rows of dw that a warp has at least: it looks through all of x for what belongs into them."""


@device
def row_of(order, place):
    """The row at a place in the epoch."""
    return order[place] if given(order) else place


def _adding(type_name: str, run: int) -> Any:
    """The function that adds `factor` times `run` elements of `source` at a place to `totals`."""
    item = getattr(types, type_name)

    @device
    def add(totals, factor, source, at):
        held = cuda.local.array(run, item, alignment=16)
        if run > 1:
            copy_wide(held, 0, source, at)
        else:
            held[0] = source[at]
        for k in range(run):
            totals[k] += factor * held[k]

    return add


def _putting(run: int) -> Any:
    """The function that writes `run` elements to a place of `to`."""

    @device
    def put(to, at, totals):
        if run > 1:
            copy_wide(to, at, totals, 0)
        else:
            to[at] = totals[0]

    return put


def sparse_forward(type_name: str, source_type: str) -> Kernel:
    """``y = x·w + b``, overwriting y (N, O); w (I, O), b (O,) or left out."""
    real, item, flat = getattr(np, type_name), getattr(types, type_name), view(type_name, 1)
    lanes = lanes_of(type_name)

    def make(across: int, wide: int) -> Any:
        run = lanes if wide else 1
        place_of_thread, add, put = place_and_row(across), _adding(type_name, run), _putting(run)

        @device
        def sparse_forward(y, values, columns, starts, order, w, b, first):
            (rows, outputs), totals = y.shape, cuda.local.array(run, item, alignment=16)
            to, kernel = flat(address(y), (y.size,)), flat(address(w), (w.size,))
            place, begin, step = place_of_thread()
            j = place * run
            if j >= outputs:
                return
            for i in range(begin, rows, step):
                row = row_of(order, first + i)
                for k in range(run):
                    totals[k] = b[j + k] if given(b) else real(0)
                for k in range(starts[row], starts[row + 1]):
                    add(totals, real(values[k]), kernel, columns[k] * outputs + j)
                put(to, i * outputs + j, totals)

        return sparse_forward

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        wide = is_wide(type_name, aligned, lengths["O"])
        grid = grid_over(lengths["N"], lengths["O"] // lanes if wide else lengths["O"], each=1)
        return Launch(grid.blocks, grid.threads, (grid.across, int(wide)))

    return Kernel(make, launch)


def sparse_backward_kernel(type_name: str, source_type: str) -> Kernel:
    """``dw = xᵀ·dy`` and ``db = Σ_n dy[n]``, overwriting dw (I, O) and db (O,) or left out.

    A warp has some rows of dw, and some of their columns. It looks through 32 rows of x at a time,
    a thread through each, and adds what belongs into its own rows: one by one, in an order that
    does not depend on how many rows of dw it has.
    """
    real, item, flat = getattr(np, type_name), getattr(types, type_name), view(type_name, 1)
    lanes, zero, one = lanes_of(type_name), real(0), real(1)

    def make(wide: int) -> Any:
        run = lanes if wide else 1
        add, put = _adding(type_name, run), _putting(run)

        @device
        def add_found(dw, dy, found, column, value, base, j, outputs):
            """Add to dw what the threads of `found` have met, in their order."""
            totals = cuda.local.array(run, item, alignment=16)
            while found != 0:
                lane = cuda.ffs(found) - 1
                found &= found - 1
                at = cuda.shfl_sync(ALL, column, lane) * outputs + j
                factor = cuda.shfl_sync(ALL, value, lane)
                if j < outputs:
                    for k in range(run):
                        totals[k] = dw[at + k]
                    add(totals, factor, dy, (base + lane) * outputs + j)
                    put(dw, at, totals)

        @device
        def add_rows(dw, dy, values, columns, starts, order, first, base, rows, begin, end, j,
                     outputs):  # fmt: skip
            """Look through the batch's rows from `base` on, one of them for each thread."""
            place, left, value = 0, 0, zero
            if base + cuda.threadIdx.x < rows:
                row = row_of(order, first + base + cuda.threadIdx.x)
                place, left = starts[row], starts[row + 1] - starts[row]
            while cuda.ballot_sync(ALL, left > 0) != 0:
                column = np.int64(columns[place]) if left > 0 else np.int64(-1)
                is_own = begin <= column < end
                if is_own:
                    value = real(values[place])
                found = np.int64(cuda.ballot_sync(ALL, is_own)) & ALL
                add_found(dw, dy, found, column, value, base, j, outputs)
                place, left = place + 1, left - 1

        @device
        def sparse_backward_kernel(dw, db, values, columns, starts, order, dy, first):
            (inputs, outputs), rows = dw.shape, dy.shape[0]
            to, slope = flat(address(dw), (dw.size,)), flat(address(dy), (dy.size,))
            begin = inputs * cuda.blockIdx.y // cuda.gridDim.y
            end = inputs * (cuda.blockIdx.y + 1) // cuda.gridDim.y
            j = (cuda.blockIdx.x * WARP + cuda.threadIdx.x) * run
            totals = cuda.local.array(run, item, alignment=16)
            for k in range(run):
                totals[k] = zero
            if j < outputs:
                for i in range(begin, end):
                    put(to, i * outputs + j, totals)
            for base in range(0, rows, WARP):
                add_rows(to, slope, values, columns, starts, order, first, base, rows, begin, end,
                         j, outputs)  # fmt: skip
            if given(db) and cuda.blockIdx.y == 0 and j < outputs:
                for i in range(rows):
                    add(totals, one, slope, i * outputs + j)
                for k in range(run):
                    db[j + k] = totals[k]

        return sparse_backward_kernel

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        wide = is_wide(type_name, aligned, lengths["O"])
        across = -(-lengths["O"] // (WARP * (lanes if wide else 1)))
        down = min(-(-lengths["I"] // FEWEST_INPUTS), max(1, MOST_BLOCKS // across))
        return Launch((max(1, across), max(1, down)), WARP, (int(wide),))

    return Kernel(make, launch)
