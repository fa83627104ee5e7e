"""Log-softmax and sparsemax, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.rows import row_max, row_minus, row_sum
from fastnn.kernels.cpu.settings import inlined, kernel, reduction
from fastnn.kernels.cpu.softmax import NARROW, Transposed
from fastnn.kernels.formula import like
from fastnn.kernels.signatures import ITEM_BYTES
from fastnn.kernels.transcendental import exp, log


def log_softmax_forward(type_name: str) -> Any:
    """``y = (x − max x) − log Σ e^(x − max x)`` row by row, overwriting y (N, C).

    The maximum is taken off first: their sum would lose digits where it is large.
    """
    size, vector = ITEM_BYTES[type_name], view(type_name, 1)
    largest_of, minus = row_max(type_name), row_minus(type_name)
    narrow = Transposed(type_name)
    count, load, exponentials = narrow.rows, narrow.load, narrow.exponentials
    maxima, sums = narrow.maxima, narrow.sums

    @reduction
    def sum_of_exponentials(row):
        total = like(row[0], 0)
        for j in range(row.size):
            total += exp(row[j])
        return total

    @inlined
    def narrow_rows(y, x, workspace):
        rows, columns = y.shape
        largest, total = maxima(workspace), sums(workspace)
        for i in range(0, rows, count):
            at, here = i * columns * size, min(count, rows - i)
            load(workspace, address(x) + at, columns, here)
            exponentials(workspace, columns)
            for r in range(count):
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

    @kernel
    def log_softmax_backward(dx, dy, y):
        if address(dx) == address(dy):
            rows(dx, dx, y)
        else:
            rows(dx, dy, y)

    return log_softmax_backward


def sparsemax_forward(type_name: str) -> Any:
    """The point of the simplex nearest to each row of x, overwriting y (N, C): max(x − τ, 0).

    Martins & Astudillo 2016 (arXiv 1602.02068). They find τ by sorting the row; here by Michelot's
    rounds (1986), which need no memory: τ of the elements above the last τ, until none drops out.
    The first ones are those less than 1 below the maximum, since no other can belong to it.
    """
    real, size = getattr(np, type_name), ITEM_BYTES[type_name]
    largest_of, vector = row_max(type_name), view(type_name, 1)

    @reduction
    def sum_above(row, largest, threshold):
        total, count = 0.0, 0
        for j in range(row.size):
            value = row[j] - largest
            if not value <= threshold:  # so that NaN is above
                total += value
                count += 1
        return total, count

    @inlined
    def rows(y, x):
        columns = y.shape[1]
        for i in range(y.shape[0]):
            source = address(x) + i * columns * size
            row, largest = vector(source, (columns,)), largest_of(source, columns)
            threshold, before = real(-1), columns + 1
            total, count = sum_above(row, largest, threshold)
            while count < before:
                threshold, before = real((total - 1.0) / count), count
                total, count = sum_above(row, largest, threshold)
            for j in range(columns):
                above = (x[i, j] - largest) - threshold
                y[i, j] = real(0) if above < real(0) else above

    @kernel
    def sparsemax_forward(y, x):
        if address(y) == address(x):
            rows(y, y)
        else:
            rows(y, x)

    return sparsemax_forward


def sparsemax_backward(type_name: str) -> Any:
    """``dx = dy − mean dy`` over the row's elements with y > 0, else 0; overwriting dx (N, C)."""
    real, size, vector = getattr(np, type_name), ITEM_BYTES[type_name], view(type_name, 1)

    @reduction
    def mean_of_support(dy, y):
        total, count = 0.0, 0
        for j in range(dy.size):
            if not y[j] <= real(0):
                total += dy[j]
                count += 1
        return total / count

    @inlined
    def rows(dx, dy, y):
        columns = dx.shape[1]
        for i in range(dx.shape[0]):
            at = i * columns * size
            mean = real(
                mean_of_support(
                    vector(address(dy) + at, (columns,)), vector(address(y) + at, (columns,))
                )
            )
            for j in range(columns):
                dx[i, j] = real(0) if y[i, j] <= real(0) else dy[i, j] - mean

    @kernel
    def sparsemax_backward(dx, dy, y):
        if address(dx) == address(dy):
            rows(dx, dx, y)
        else:
            rows(dx, dy, y)

    return sparsemax_backward
