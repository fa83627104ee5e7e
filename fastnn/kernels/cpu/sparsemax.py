"""Sparsemax: the point of the probability simplex that is nearest to a row of logits."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastnn.kernels.cpu.in_place import in_place_or_apart
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.rows import row_max
from fastnn.kernels.cpu.settings import inlined, reduction
from fastnn.kernels.signatures import ITEM_BYTES


@cache
def row_threshold(type_name: str) -> Any:
    """The function ``row_threshold(z, i)``: m, the largest of row i, and τ less m.

    Row i of sparsemax (Martins & Astudillo 2016, arXiv 1602.02068) is max(z − m − (τ − m), 0). No
    row is sorted: from all elements that can be in the support on, which are less than 1 below m,
    those below the threshold of the present ones are left out until none is (Michelot 1986). NaN
    is never left out, and makes the threshold NaN.
    """
    real, size, largest_of = getattr(np, type_name), ITEM_BYTES[type_name], row_max(type_name)

    @reduction
    def above(z, i, largest, threshold):
        # As floats, the two sums would not become vector instructions.
        count, total = np.int32(0), real(0)
        for j in range(z.shape[1]):
            below = z[i, j] - largest
            outside = below <= threshold
            count += np.int32(0) if outside else np.int32(1)
            total += real(0) if outside else below
        return count, total

    @inlined
    def row_threshold(z, i):
        columns = z.shape[1]
        largest = largest_of(address(z) + i * columns * size, columns)
        threshold, last = real(-1), np.int32(columns + 1)
        while True:
            count, total = above(z, i, largest, threshold)
            if count >= last:  # equal, or more: a threshold that was rounded down lets one in again
                break
            threshold, last = (total - real(1)) / real(count), count
        return largest, threshold

    return row_threshold


def sparsemax_forward(type_name: str) -> Any:
    """The point of the simplex nearest to each row of x, overwriting y (N, C): max(x − τ, 0)."""
    real, threshold_of = getattr(np, type_name), row_threshold(type_name)

    @inlined
    def rows(y, x):
        for i in range(y.shape[0]):
            largest, threshold = threshold_of(x, i)
            for j in range(y.shape[1]):
                above = (x[i, j] - largest) - threshold
                y[i, j] = real(0) if above < real(0) else above

    return in_place_or_apart(rows, "y x")


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

    return in_place_or_apart(rows, "dx dy")
