"""Normalisation of rows: the same numbers as the CPU's, see there.

On the way forth a row is held in the registers of a group of threads, so that it is read once. On
the way back, where sums down a slice of the batch are wanted too, a block has a slice: it goes
through chunks of its rows, which stay in the processor's cache, first along them and then down.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.column_sums import fold
from fastnn.kernels.cuda.groups import WARP, sum_over
from fastnn.kernels.cuda.launch import (
    MOST_BLOCKS,
    THREADS,
    Kernel,
    Launch,
    Lengths,
    by_element,
    power_of_two,
)
from fastnn.kernels.cuda.memory import address, copy_wide, given, lanes_of, view
from fastnn.kernels.cuda.product import is_wide
from fastnn.kernels.cuda.target import cuda, device, unrolled
from fastnn.kernels.normalization import KEPT, slices_of
from fastnn.kernels.signatures import ITEM_BYTES

MOST_PIECES = 8
"""Pieces of a row that one thread holds at most: with 16, there are too few registers."""

MOST_THREADS = 512
"""Threads of a block at most: each then may have 128 registers."""

CHUNK_BYTES = 1 << 17
"""Bytes of x and dy in a chunk of rows: they are read twice, and stay in the L1 cache meanwhile."""

FEWEST_ROWS, MOST_ROWS = 8, 64
"""Rows of a chunk."""


def _columns(lengths: Lengths) -> int:
    """Length of the rows that are normalised, or 0 where no operand tells."""
    if lengths["C"]:
        return lengths["C"]
    return lengths["F"] * KEPT // lengths["K"] if lengths["K"] else 0


def _group(type_name: str, columns: int, aligned: bool) -> tuple[int, int, bool]:
    """Threads that take a row, pieces of it for each, and whether these are of 16 bytes.

    0 pieces: as many as it takes, none of them held in registers.
    """
    wide = columns > 0 and is_wide(type_name, aligned, columns)
    run = lanes_of(type_name) if wide else 1
    size = power_of_two(-(-columns // run), 1, WARP)
    if columns == 0:
        return WARP, 0, False
    while columns > size * run * MOST_PIECES and size < MOST_THREADS:
        size *= 2
    pieces = -(-columns // (size * run))
    return size, pieces if pieces <= MOST_PIECES else 0, wide


def _for_pieces(body: Any, pieces: int, stride: int) -> Any:
    """``body(piece, columns, ...)`` for each piece of a row; unrolled, if so many are held."""
    if pieces:
        return unrolled(body, pieces)
    names = ", ".join(list(inspect.signature(body.py_func).parameters)[1:])
    text = f"""
def looped({names}):
    for piece in range((columns + {stride - 1}) // {stride}):
        body(piece, {names})
"""
    namespace = {"body": body}
    exec(text, namespace)
    return device(namespace["looped"])


def _fetching_or(run: int) -> Any:
    """The function that reads `run` elements of an operand, or a number where it is left out."""

    @device
    def fetch_or(held, source, at, otherwise):
        if given(source):
            if run > 1:
                copy_wide(held, 0, source, at)
            else:
                held[0] = source[at]
        else:
            for k in range(run):
                held[k] = otherwise

    return fetch_or


def layer_normalization_forward(type_name: str) -> Kernel:
    """``y = γ·x̂ + β`` with x̂ = (x − mean)/√(variance + ε) of each row, overwriting y; y may be x.

    What `kept` gets are `KEPT` numbers a row, for the way back. γ, β and it may be left out. Sums
    are taken of x less a first mean, which rounding may have moved.
    """
    real, item, flat = getattr(np, type_name), getattr(types, type_name), view(type_name, 1)
    lanes, zero, one = lanes_of(type_name), real(0), real(1)

    def make(size: int, pieces: int, wide: int) -> Any:
        run = lanes if wide else 1
        stride, held_size, is_held = size * run, max(1, pieces) * run, pieces > 0
        total, fetch_or = sum_over(type_name, size), _fetching_or(run)

        @device
        def fetch(piece, columns, held, x, at, first, limit):
            """Read one piece of a row of which `limit` columns are there."""
            slot, column = piece * run if is_held else 0, first + piece * stride
            if column < limit:
                if wide:
                    copy_wide(held, slot, x, at + column)
                else:
                    held[slot] = x[at + column]

        @device
        def add(piece, columns, held, x, at, first, limit, near, sums):
            """Add its elements less `near`, and their squares, to the two sums."""
            if not is_held:
                fetch(piece, columns, held, x, at, first, limit)
            slot = piece * run if is_held else 0
            if first + piece * stride < limit:
                for k in range(run):
                    centred = held[slot + k] - near
                    sums[0] += centred
                    sums[1] += centred * centred

        @device
        def write(piece, columns, held, x, at, first, limit, y, gamma, beta, mean, factor, sum_):
            """Write what becomes of it."""
            if not is_held:
                fetch(piece, columns, held, x, at, first, limit)
            results = cuda.local.array(run, item, alignment=16)
            scales = cuda.local.array(run, item, alignment=16)
            shifts = cuda.local.array(run, item, alignment=16)
            slot, column = piece * run if is_held else 0, first + piece * stride
            if column < limit:
                fetch_or(scales, gamma, column, one)
                fetch_or(shifts, beta, column, zero)
                for k in range(run):
                    normalized = factor * (held[slot + k] - mean) + sum_
                    results[k] = normalized * scales[k] + shifts[k]
                if wide:
                    copy_wide(y, at + column, results, 0)
                else:
                    y[at + column] = results[0]

        fetch_all, add_all, write_all = (
            _for_pieces(body, pieces, stride) for body in (fetch, add, write)
        )

        @device
        def layer_normalization_forward(y, kept, x, gamma, beta, epsilon, columns):
            held = cuda.local.array(held_size, item, alignment=16)
            sums = cuda.local.array(2, item)
            to, source, rows = flat(address(y), (y.size,)), flat(address(x), (x.size,)), x.size
            rows, groups, share = rows // columns, cuda.blockDim.x // size, one / real(columns)
            group, lane = cuda.threadIdx.x // size, cuda.threadIdx.x % size
            first = lane * run
            for begin in range(cuda.blockIdx.x * groups, rows, cuda.gridDim.x * groups):
                row = begin + group
                at, limit = row * columns, columns if row < rows else 0
                if is_held:
                    fetch_all(columns, held, source, at, first, limit)
                sums[0] = sums[1] = zero
                add_all(columns, held, source, at, first, limit, zero, sums)
                near = total(sums[0]) * share
                sums[0] = sums[1] = zero
                add_all(columns, held, source, at, first, limit, near, sums)
                rest = total(sums[0]) * share
                variance = total(sums[1]) * share - rest * rest
                factor = one / real(math.sqrt(variance + real(epsilon)))
                mean = near + rest
                lost = rest - (mean - near)  # when the mean was rounded
                sum_ = -(lost * factor)
                if given(kept) and lane == 0 and limit > 0:
                    of_row = flat(address(kept), (rows * KEPT,))
                    of_row[row * KEPT] = mean
                    of_row[row * KEPT + 1] = factor
                    of_row[row * KEPT + 2] = sum_
                write_all(columns, held, source, at, first, limit, to, gamma, beta, mean, factor,
                          sum_)  # fmt: skip

        return layer_normalization_forward

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        columns = _columns(lengths)
        rows = lengths["N"] * lengths["F"] // max(1, columns)
        size, pieces, wide = _group(type_name, columns, aligned)
        threads = size if size > WARP else power_of_two(size * rows, WARP, THREADS)
        blocks = max(1, min(-(-rows * size // threads), MOST_BLOCKS))
        return Launch((blocks, 1), threads, (size, pieces, int(wide)))

    return Kernel(make, launch)


def layer_normalization_backward(type_name: str) -> Kernel:
    """``dx = (g − mean g − x̂·mean(g·x̂))/√(variance + ε)``, g = γ·dy, overwriting dx.

    Rows 2k and 2k + 1 of `sums` get Σ dy·x̂ and Σ dy over slice k, where they are asked for. γ may
    be left out, and dx be dy: all that a row's gradient needs of dy is read before dx is written.
    """
    real, item, flat = getattr(np, type_name), getattr(types, type_name), view(type_name, 1)
    lanes, zero, one, float64 = lanes_of(type_name), real(0), real(1), types.float64

    def make(summing: int, size: int, wide: int, chunk: int, across: int, threads: int) -> Any:
        run, total, down = lanes if wide else 1, sum_over(type_name, size), threads // across
        fetch_or = _fetching_or(run)
        fold_totals, line_size = fold(across, threads, 2), 2 * chunk

        @device
        def means(x, dy, at, limit, lane, columns, gamma, mean, factor, shift):
            """mean g and mean(g·x̂) of the row that begins at a place, to all its threads."""
            of_x = cuda.local.array(run, item, alignment=16)
            of_dy = cuda.local.array(run, item, alignment=16)
            scales = cuda.local.array(run, item, alignment=16)
            gradients = products = zero
            for column in range(lane * run, limit, size * run):
                if wide:
                    copy_wide(of_x, 0, x, at + column)
                    copy_wide(of_dy, 0, dy, at + column)
                else:
                    of_x[0], of_dy[0] = x[at + column], dy[at + column]
                fetch_or(scales, gamma, column, one)
                for k in range(run):
                    normalized = factor * (of_x[k] - mean) + shift
                    gradient = scales[k] * of_dy[k]
                    gradients += gradient
                    products += gradient * normalized
            share = one / real(columns)
            return total(gradients) * share, total(products) * share

        @device
        def along_rows(lines, x, dy, kept, gamma, begin, count, columns):
            """Lay down what ``line = steep·(x − mean) + level`` is made of, for each row."""
            groups = threads // size
            group, lane = cuda.threadIdx.x // size, cuda.threadIdx.x % size
            for turn in range(0, count, groups):
                r = turn + group
                row = begin + (r if r < count else 0)
                limit, at = columns if r < count else 0, row * columns
                mean, factor, shift = kept[KEPT * row], kept[KEPT * row + 1], kept[KEPT * row + 2]
                gradient, product = means(
                    x, dy, at, limit, lane, columns, gamma, mean, factor, shift
                )
                if lane == 0 and r < count:
                    steep = -(factor * product)
                    lines[2 * r] = steep * factor
                    lines[2 * r + 1] = steep * shift - factor * gradient

        @device
        def down_column(totals, lines, dx, x, dy, kept, gamma, begin, count, columns, column):
            """Write dx of a thread's rows of a column, and add up what its sums are made of."""
            of_gamma = of_beta = 0.0
            scale = gamma[column] if given(gamma) else one
            for r in range(cuda.threadIdx.x // across, count, down):
                row = begin + r
                at = row * columns + column
                mean, factor, shift = kept[KEPT * row], kept[KEPT * row + 1], kept[KEPT * row + 2]
                centred, slope = x[at] - mean, dy[at]
                of_gamma += np.float64(slope * (factor * centred + shift))
                of_beta += np.float64(slope)
                line = lines[2 * r] * centred + lines[2 * r + 1]
                dx[at] = scale * (factor * slope) + line
            totals[0], totals[1] = of_gamma, of_beta

        @device
        def down_columns(sums, k, lines, dx, x, dy, kept, gamma, begin, count, columns, begun):
            """The same of all columns; what `sums` has of slice k, if it has begun, is added to."""
            totals = cuda.local.array(2, float64)
            for first in range(0, columns, across):
                column = first + cuda.threadIdx.x % across
                totals[0] = totals[1] = 0.0
                if column < columns:
                    down_column(
                        totals, lines, dx, x, dy, kept, gamma, begin, count, columns, column
                    )
                if summing:
                    fold_totals(totals)
                    if cuda.threadIdx.x < across and column < columns:
                        before = sums[2 * k, column] if begun else 0.0
                        sums[2 * k, column] = before + totals[0]
                        before = sums[2 * k + 1, column] if begun else 0.0
                        sums[2 * k + 1, column] = before + totals[1]

        @device
        def layer_normalization_backward(sums, dx, dy, x, kept, gamma, columns):
            lines, rows, k = cuda.shared.array(line_size, item), x.size // columns, cuda.blockIdx.x
            to, source = flat(address(dx), (x.size,)), flat(address(x), (x.size,))
            slope, of_rows = flat(address(dy), (x.size,)), flat(address(kept), (kept.size,))
            if summing:
                slices, step = slices_of(rows), chunk
                begin = rows * k // slices if k < slices else 0
                end = rows * (k + 1) // slices if k < slices else 0
            else:
                begin, end, step = k * chunk, rows, cuda.gridDim.x * chunk
            for at in range(begin, end, step):
                count = min(chunk, end - at)
                along_rows(lines, source, slope, of_rows, gamma, at, count, columns)
                cuda.syncthreads()
                down_columns(sums, k, lines, to, source, slope, of_rows, gamma, at, count, columns,
                             at > begin)  # fmt: skip
                cuda.syncthreads()

        return layer_normalization_backward

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        columns, summing = _columns(lengths), lengths["B"] > 0
        rows = lengths["N"] * lengths["F"] // columns
        wide = is_wide(type_name, aligned, columns)
        chunk = FEWEST_ROWS
        while (
            summing
            and chunk < MOST_ROWS
            and 4 * chunk * columns * ITEM_BYTES[type_name] <= CHUNK_BYTES
        ):
            chunk *= 2
        threads = power_of_two(columns * min(rows, chunk) // 8, WARP, MOST_THREADS)
        across = power_of_two(columns, 1, threads)
        size = power_of_two(columns // (lanes if wide else 1), 1, WARP)
        blocks = slices_of(rows) if summing else min(-(-rows // chunk), MOST_BLOCKS)
        constants = (int(summing), size, int(wide), chunk, across, threads)
        return Launch((max(1, blocks), 1), threads, constants)

    return Kernel(make, launch)


def layer_normalization_parameters(type_name: str) -> Kernel:
    """``dgamma = Σ dy·x̂`` and ``dbeta = Σ dy`` out of the slices' `sums`; one may be left out.

    A row of the batch has `parts` rows of columns.
    """
    real = getattr(np, type_name)

    @device
    def column_sum(sums, first, slices, column):
        total = 0.0
        for k in range(slices):
            total += sums[2 * k + first, column]
        return real(total)

    @device
    def layer_normalization_parameters(dgamma, dbeta, sums, parts, N):
        slices = slices_of(N * parts)
        for column in range(cuda.grid(1), sums.shape[1], cuda.gridsize(1)):
            if given(dgamma):
                dgamma[column] = column_sum(sums, 0, slices, column)
            if given(dbeta):
                dbeta[column] = column_sum(sums, 1, slices, column)

    return by_element(layer_normalization_parameters, "C")
