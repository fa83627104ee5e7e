"""Regularisation: what weights and outputs add to the loss, and what weights are held to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels import state as s
from fastnn.kernels.cuda.flag import raise_flag
from fastnn.kernels.cuda.groups import WARP, sum_over
from fastnn.kernels.cuda.launch import (
    MOST_BLOCKS,
    THREADS,
    Kernel,
    Launch,
    Lengths,
    in_blocks,
    power_of_two,
)
from fastnn.kernels.cuda.maps import over_elements
from fastnn.kernels.cuda.memory import address, view
from fastnn.kernels.cuda.reduction import sum_of, sum_over_grid
from fastnn.kernels.cuda.slots import MOST_PARTIALS, PARTIALS
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.scalar import is_finite, penalty_slope
from fastnn.kernels.scalar import penalty as penalty_of

SUMMING = 128
"""Threads of a block that sums."""

CHUNK = 4096
"""Weights whose penalties a block sums up at a time, where partial sums suffice for so many."""

LONG_ROW = 1024
"""Elements from which on a row of outputs is summed by a block, not by a warp."""

COLUMNS = 8
"""Columns whose norms a block sums up: of float32, the 32 bytes that memory gives at a time."""

LEAST_ROWS = 4
"""Rows that a thread sums at least, where there are as many, before others help it."""


@device
def _penalty(w, numbers):
    """The penalty of one element."""
    return penalty_of(w, numbers[0], numbers[1])


def chunk_of(weights: int) -> int:
    """Weights of a partial sum: of so many that the partial sums have their places."""
    return CHUNK * max(1, -(-weights // (CHUNK * MOST_PARTIALS)))


def penalty(type_name: str) -> Kernel:
    """Add N (l1 Σ|w| + l2 Σw²), times the step's scale, to the sum of penalties in the state.

    With `guard`, what is not finite is not added: it raises the flag that ends the run.
    """
    of_thread = sum_of(type_name, SUMMING, _penalty)
    of_block, of_grid = sum_over("float64", SUMMING), sum_over_grid(SUMMING)

    def make(chunk: int) -> Any:
        @device
        def penalty(w, l1, l2, guard, N, state, floats, phase, position):
            count, block = (w.size + chunk - 1) // chunk, cuda.blockIdx.x
            total = 0.0
            while block < count:
                first = block * chunk
                length = min(chunk, w.size - first)
                total = of_block(of_thread(w, first, length, cuda.threadIdx.x, (l1, l2)))
                if cuda.threadIdx.x == 0:
                    floats[PARTIALS + block] = total
                block += cuda.gridDim.x
            last = True
            if count > 1:
                total, last = of_grid(count, state, floats)
            if last and cuda.threadIdx.x == 0:
                total *= N * floats[s.PENALTY_SCALE]
                if guard != 0 and not is_finite(total):
                    raise_flag(state, phase, position)
                else:
                    floats[s.PENALTY_SUM] += total

        return penalty

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        chunk = chunk_of(lengths["P"])
        return Launch(in_blocks(lengths["P"], 1, chunk), SUMMING, (chunk,))

    return Kernel(make, launch, any_blocks=True)


def penalty_gradient(type_name: str) -> Kernel:
    """``g += scale (l1 sign w + 2 l2 w)``, with the step's scale of penalties."""
    real = getattr(np, type_name)

    @device
    def numbers(l1, l2, floats):
        scale = floats[s.PENALTY_SCALE]
        return real(scale * l1), real(scale * l2)

    @device
    def sloped(g, w, numbers):
        return (g + penalty_slope(w, numbers[0], numbers[1]),)

    return over_elements(type_name, ["g"], ["g", "w"], sloped, numbers, dimensions="P")


def activity_penalty(type_name: str) -> Kernel:
    """``values`` = l1 Σ|y| + l2 Σy² of each row of an output y."""
    real, flat = getattr(np, type_name), view(type_name, 1)

    def make(threads_of_row: int) -> Any:
        of_thread = sum_of(type_name, threads_of_row, _penalty)
        of_row = sum_over("float64", threads_of_row)

        @device
        def activity_penalty(values, y, l1, l2):
            columns, rows = y.shape[1], SUMMING // threads_of_row
            flat_y = flat(address(y), (y.size,))
            thread = cuda.threadIdx.x % threads_of_row
            i = cuda.blockIdx.x * rows + cuda.threadIdx.x // threads_of_row
            while i < values.size:
                total = of_row(of_thread(flat_y, i * columns, columns, thread, (l1, l2)))
                if thread == 0:
                    values[i] = real(total)
                i += rows * cuda.gridDim.x

        return activity_penalty

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        threads_of_row = SUMMING if lengths["F"] > LONG_ROW else WARP
        blocks = in_blocks(lengths["N"], 1, SUMMING // threads_of_row)
        return Launch(blocks, SUMMING, (threads_of_row,))

    return Kernel(make, launch, any_blocks=True)


def activity_penalty_gradient(type_name: str) -> Kernel:
    """``dx = dy + (l1 sign y + 2 l2 y) / N``, overwriting dx."""
    real = getattr(np, type_name)

    @device
    def numbers(l1, l2, N):
        return real(l1 / N), real(l2 / N)

    @device
    def sloped(dy, y, numbers):
        return (dy + penalty_slope(y, numbers[0], numbers[1]),)

    return over_elements(type_name, ["dx"], ["dy", "y"], sloped, numbers)


def constrain_sign(type_name: str) -> Kernel:
    """Set weights below 0 to 0."""
    zero = getattr(np, type_name)(0)

    @device
    def constrained(w, numbers):
        return (zero if w < zero else w,)

    return over_elements(type_name, ["w"], ["w"], constrained, dimensions="P")


def constrain_norm(type_name: str) -> Kernel:
    """``w ·= (rate·clip(n, least, most) + (1 − rate) n) / (n + ε)``, n the norms along B.

    Of w (A, B, C). A block takes some neighbouring columns, each of its threads every so-many-th
    row of one of them; squares are summed in float64.
    """
    real = getattr(np, type_name)

    def make(columns: int, threads: int) -> Any:
        rows = threads // columns

        @device
        def constrain_norm(w, least, most, rate, epsilon):
            sums = cuda.shared.array(threads, types.float64)
            thread, (_, length, width) = cuda.threadIdx.x, w.shape
            row, column = thread // columns, thread % columns
            parts = (width + columns - 1) // columns
            part = cuda.blockIdx.x
            while part < w.shape[0] * parts:
                a, c = part // parts, part % parts * columns + column
                square = 0.0
                if c < width:
                    for b in range(row, length, rows):
                        value = np.float64(w[a, b, c])
                        square += value * value
                cuda.syncthreads()  # what the sums held before has been read
                sums[thread] = square
                cuda.syncthreads()
                square = sums[column]
                for other in range(1, rows):
                    square += sums[other * columns + column]
                norm = math.sqrt(square)
                wanted = rate * min(max(norm, least), most) + (1.0 - rate) * norm
                scale = wanted / (norm + epsilon)
                if c < width:
                    for b in range(row, length, rows):
                        w[a, b, c] = real(w[a, b, c] * scale)
                part += cuda.gridDim.x

        return constrain_norm

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        columns = power_of_two(lengths["C"], 1, COLUMNS)
        of_column = -(-lengths["B"] // LEAST_ROWS)
        threads = power_of_two(columns * of_column, WARP, THREADS)
        parts = lengths["A"] * -(-lengths["C"] // columns)
        return Launch((max(1, min(parts, MOST_BLOCKS)), 1), threads, (columns, threads))

    return Kernel(make, launch, any_blocks=True)
