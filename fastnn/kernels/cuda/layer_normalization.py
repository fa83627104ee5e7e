"""Normalisation of rows: the same numbers as the CPU's, see there.

On the way forth a row is held in the registers of a group of threads, so that it is read once. On
the way back, where sums down a slice of the batch are wanted too, some blocks share a slice: each
goes through chunks of its rows, which stay in the processor's cache, first along them and then
down; what the blocks of a slice have is added up by the last of them to end.

Predicted, not measured, for the way back of 8,192 rows of 1,024 float32: x, dy and dx are 100 MB,
23 µs at 4.3 TB/s, by 16 slices of 16 blocks; their partial sums are 4 MB.
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
from fastnn.kernels.cuda.product import ENOUGH_BLOCKS, is_wide
from fastnn.kernels.cuda.shared_sums import comes_last, rows_of_part
from fastnn.kernels.cuda.slots import ARRIVALS
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

SHARED_BLOCKS = 2 * ENOUGH_BLOCKS
"""Blocks that slices of a batch are shared by, at most."""


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
        sums_of = view("float64", 1)

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
        def down_columns(sums, at, lines, dx, x, dy, kept, gamma, begin, count, columns, begun):
            """The same of all columns; what `sums` has from `at` on, if it has begun, is added to.

            The sums of dy·x̂ stand there for all columns, followed by those of dy.
            """
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
                        own = at + column
                        sums[own] = (sums[own] if begun else 0.0) + totals[0]
                        own += columns
                        sums[own] = (sums[own] if begun else 0.0) + totals[1]

        @device
        def add_up_parts(sums, at, laid, first, length, parts):
            """Write the sums of what some blocks laid down, `length` numbers each, from `at` on."""
            for place in range(cuda.threadIdx.x, length, threads):
                total = 0.0
                for part in range(parts):
                    total += laid[first + part * length + place]
                sums[at + place] = total

        @device
        def take_rows(sums, at, dx, dy, x, kept, gamma, begin, end, step, columns):
            """Do a block's rows, from `begin` to `end`, chunk by chunk, each a step further on."""
            lines = cuda.shared.array(line_size, item)
            for row in range(begin, end, step):
                count = min(chunk, end - row)
                along_rows(lines, x, dy, kept, gamma, row, count, columns)
                cuda.syncthreads()
                down_columns(sums, at, lines, dx, x, dy, kept, gamma, row, count, columns,
                             row > begin)  # fmt: skip
                cuda.syncthreads()

        @device
        def layer_normalization_backward(sums, dx, dy, x, kept, gamma, columns, state, workspace):
            rows, k, parts = x.size // columns, cuda.blockIdx.x, cuda.gridDim.y
            to, source = flat(address(dx), (x.size,)), flat(address(x), (x.size,))
            slope, of_rows = flat(address(dy), (x.size,)), flat(address(kept), (kept.size,))
            if not summing:
                take_rows(to, 0, to, slope, source, of_rows, gamma, k * chunk, rows,
                          cuda.gridDim.x * chunk, columns)  # fmt: skip
                return
            slices, length = slices_of(rows), 2 * columns
            of_slices = sums_of(address(sums), (sums.size,))
            if k >= slices:
                return
            begin, end = rows * k // slices, rows * (k + 1) // slices
            if parts == 1:
                take_rows(of_slices, k * length, to, slope, source, of_rows, gamma, begin, end,
                          chunk, columns)  # fmt: skip
                return
            laid = sums_of(workspace, (cuda.gridDim.x * parts * length,))
            first = k * parts * length
            own = first + cuda.blockIdx.y * length
            shift, count = rows_of_part(cuda.blockIdx.y, parts, end - begin)
            if count == 0:
                for place in range(cuda.threadIdx.x, length, threads):
                    laid[own + place] = 0.0
            take_rows(laid, own, to, slope, source, of_rows, gamma, begin + shift,
                      begin + shift + count, chunk, columns)  # fmt: skip
            if comes_last(state, ARRIVALS + k, parts):
                add_up_parts(of_slices, k * length, laid, first, length, parts)

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
        constants = (int(summing), size, int(wide), chunk, across, threads)
        if not summing:
            return Launch((max(1, min(-(-rows // chunk), MOST_BLOCKS)), 1), threads, constants)
        slices = max(1, slices_of(rows))
        parts = max(1, min(rows // (slices * chunk), SHARED_BLOCKS // slices))
        workspace = 16 * columns * slices * parts if parts > 1 else 0
        return Launch((slices, parts), threads, constants, workspace)

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
