"""Softmax and its logarithm: narrow rows as many at once as a vector has lanes, wide ones alone.

The ten columns of a classifier fill no vector, and each row's maximum and sum would be taken
across lanes. So blocks of rows are transposed in registers: then a vector holds one column of all
of them, and nothing is ever done across lanes. Wide rows are vectors anyway.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels.cpu.in_place import in_place_or_apart
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.microkernel import copy_row, lanes, transpose_block
from fastnn.kernels.cpu.rows import row_max, row_minus, row_sum, row_times
from fastnn.kernels.cpu.settings import inlined, kernel, reduction
from fastnn.kernels.cpu.stacks import stack_max, stack_minus, stack_sum, stack_times
from fastnn.kernels.formula import like
from fastnn.kernels.signatures import ITEM_BYTES
from fastnn.kernels.transcendental import exp, log

NARROW = 64
"""Columns up to which rows are transposed: a block of them takes 4 KiB of the L1 cache."""

BLOCK_ELEMENTS = 2048
"""Wide rows are exponentiated so many elements at a time: few enough to stay in the L1 cache."""


@inlined
def rows_of_block(z):
    """How many wide rows of z make a block."""
    return max(1, BLOCK_ELEMENTS // z.shape[1])


def exp_rows(type_name: str) -> Any:
    """The function that exponentiates rows `begin` to `end` of p, in place, as one vector."""
    size, vector = ITEM_BYTES[type_name], view(type_name, 1)

    @inlined
    def exp_rows(p, begin, end):
        columns = p.shape[1]
        flat = vector(address(p) + begin * columns * size, ((end - begin) * columns,))
        for i in range(flat.size):
            flat[i] = exp(flat[i])

    return exp_rows


class Transposed:
    """Functions on a block of narrow rows that stands in the workspace, a column a vector.

    Attributes
    ----------
    rows : int
        Rows of a block.
    load : function
        ``load(workspace, z, columns, count)``: `count` rows from address z into the workspace.
    exponentials : function
        ``exponentials(workspace, columns)``: e^(z − max z) in their place; the rows' maxima and
        sums beside them.
    scale : function
        ``scale(workspace, columns)``: the block's rows times what then stands in `sums`.
    store : function
        ``store(workspace, out, columns, count)``: the block's rows back to address `out`.
    at_maxima, at_sums, at_spare : int
        Where in the workspace these stand, and where it is free, in bytes.
    row : int
        Bytes of a vector.
    """

    def __init__(self, type_name: str) -> None:
        size, count = ITEM_BYTES[type_name], lanes(type_name)
        vector = view(type_name, 1)
        largest_of, sum_of = stack_max(type_name), stack_sum(type_name)
        minus, times = stack_minus(type_name), stack_times(type_name)
        transpose, copy = transpose_block(type_name), copy_row(type_name, 1, masked_store=True)
        row = count * size
        at_maxima, at_sums, at_exchange = NARROW * row, NARROW * row + row, NARROW * row + 2 * row
        self.at_maxima, self.at_sums, self.row = at_maxima, at_sums, row
        self.at_spare = at_exchange + count * row
        self.rows = count

        @inlined
        def load(workspace, z, columns, rows):
            for j in range(0, columns, count):
                transpose(workspace + j * row, row, z + j * size, columns * size,
                          rows - 1, columns - j)  # fmt: skip

        @inlined
        def exponentials(workspace, columns):
            largest_of(workspace + at_maxima, workspace, columns)
            minus(workspace, columns, workspace + at_maxima)
            block = vector(workspace, (columns * count,))
            for i in range(block.size):
                block[i] = exp(block[i])
            sum_of(workspace + at_sums, workspace, columns)

        @inlined
        def scale(workspace, columns):
            times(workspace, columns, workspace + at_sums)

        @inlined
        def store(workspace, out, columns, rows):
            spare = workspace + at_exchange
            for j in range(0, columns, count):
                transpose(spare, row, workspace + j * row, row, columns - j - 1, count)
                for r in range(rows):
                    copy(out + (r * columns + j) * size, spare + r * row, columns - j)

        self.load, self.exponentials, self.scale, self.store = load, exponentials, scale, store


def softmax_forward(type_name: str) -> Any:
    """``y = e^(x − max x) / Σ e^(x − max x)`` row by row, overwriting y (N, C)."""
    size, exp_block = ITEM_BYTES[type_name], exp_rows(type_name)
    largest_of, minus = row_max(type_name), row_minus(type_name)
    sum_of, times = row_sum(type_name), row_times(type_name)
    narrow = Transposed(type_name)
    count, load, exponentials = narrow.rows, narrow.load, narrow.exponentials
    at_sums, scale, store, vector = narrow.at_sums, narrow.scale, narrow.store, view(type_name, 1)

    @inlined
    def narrow_rows(y, x, workspace):
        rows, columns = y.shape
        for i in range(0, rows, count):
            at, here = i * columns * size, min(count, rows - i)
            load(workspace, address(x) + at, columns, here)
            exponentials(workspace, columns)
            total = vector(workspace + at_sums, (count,))
            for r in range(total.size):
                total[r] = like(total[r], 1) / total[r]
            scale(workspace, columns)
            store(workspace, address(y) + at, columns, here)

    @inlined
    def wide_rows(y, x):
        columns = y.shape[1]
        row_bytes, step = columns * size, rows_of_block(y)
        for begin in range(0, y.shape[0], step):
            end = min(begin + step, y.shape[0])
            for i in range(begin, end):
                source = address(x) + i * row_bytes
                minus(address(y) + i * row_bytes, source, columns, largest_of(source, columns))
            exp_block(y, begin, end)
            for i in range(begin, end):
                row = address(y) + i * row_bytes
                total = sum_of(row, columns)
                times(row, row, columns, like(total, 1) / total)

    @kernel
    def softmax_forward(y, x, workspace):
        if y.shape[1] <= NARROW:
            narrow_rows(y, x, workspace)
        else:
            wide_rows(y, x)

    return softmax_forward


def softmax_backward(type_name: str) -> Any:
    """``dx = y ⊙ (dy − Σ dy⊙y)`` row by row, overwriting dx (N, C); y is the output."""
    size, dot = ITEM_BYTES[type_name], row_sum(type_name, 2)

    @inlined
    def rows(dx, dy, y):
        columns = dx.shape[1]
        row_bytes = columns * size
        for i in range(dx.shape[0]):
            mean = dot(address(dy) + i * row_bytes, address(y) + i * row_bytes, columns)
            for j in range(columns):
                dx[i, j] = y[i, j] * (dy[i, j] - mean)

    return in_place_or_apart(rows, "dx dy")


def log_softmax_forward(type_name: str) -> Any:
    """``y = (x − max x) − log Σ e^(x − max x)`` row by row, overwriting y (N, C).

    The maximum is taken off first: their sum would lose digits where it is large.
    """
    size, vector = ITEM_BYTES[type_name], view(type_name, 1)
    largest_of, minus = row_max(type_name), row_minus(type_name)
    narrow = Transposed(type_name)
    count, load, exponentials = narrow.rows, narrow.load, narrow.exponentials
    at_maxima, at_sums = narrow.at_maxima, narrow.at_sums

    @reduction
    def sum_of_exponentials(row):
        total = like(row[0], 0)
        for j in range(row.size):
            total += exp(row[j])
        return total

    @inlined
    def narrow_rows(y, x, workspace):
        rows, columns = y.shape
        largest = vector(workspace + at_maxima, (count,))
        total = vector(workspace + at_sums, (count,))
        for i in range(0, rows, count):
            at, here = i * columns * size, min(count, rows - i)
            load(workspace, address(x) + at, columns, here)
            exponentials(workspace, columns)
            for r in range(here):  # of a length that is not known, or LLVM unrolls it to scalars
                total[r] = log(total[r])
            for r in range(here):
                row = at + r * columns * size
                minus(address(y) + row, address(x) + row, columns, largest[r])
                minus(address(y) + row, address(y) + row, columns, total[r])

    @inlined
    def wide_rows(y, x):
        columns = y.shape[1]
        for i in range(y.shape[0]):
            row, source = address(y) + i * columns * size, address(x) + i * columns * size
            minus(row, source, columns, largest_of(source, columns))
            minus(row, row, columns, log(sum_of_exponentials(vector(row, (columns,)))))

    @kernel
    def log_softmax_forward(y, x, workspace):
        if y.shape[1] <= NARROW:
            narrow_rows(y, x, workspace)
        else:
            wide_rows(y, x)

    return log_softmax_forward


def log_softmax_backward(type_name: str) -> Any:
    """``dx = dy − e^y Σ dy`` row by row, overwriting dx (N, C); y is the output."""
    size, sum_of = ITEM_BYTES[type_name], row_sum(type_name)

    @inlined
    def rows(dx, dy, y):
        columns = dx.shape[1]
        for i in range(dx.shape[0]):
            total = sum_of(address(dy) + i * columns * size, columns)
            for j in range(columns):
                dx[i, j] = dy[i, j] - exp(y[i, j]) * total

    return in_place_or_apart(rows, "dx dy")
