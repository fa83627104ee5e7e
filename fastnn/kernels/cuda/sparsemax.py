"""Sparsemax: the point of the probability simplex that is nearest to a row of logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.groups import ALL
from fastnn.kernels.cuda.launch import Kernel
from fastnn.kernels.cuda.rows import Rows, over_rows
from fastnn.kernels.cuda.softmax import row_largest
from fastnn.kernels.cuda.target import cuda, device

_NO_COUNT = np.int32(2**31 - 1)


def row_threshold(rows: Rows) -> Any:
    """The function ``row_threshold(place, z)``: m, the row's largest element, and τ less m.

    A row of sparsemax (Martins & Astudillo 2016, arXiv 1602.02068) is max(z − m − (τ − m), 0). No
    row is sorted: from all elements that can be in the support on, which are less than 1 below m,
    those below the threshold of the present ones are left out until none is (Michelot 1986). NaN
    is never left out, and makes the threshold NaN.
    """
    real, largest_of, zero, one = rows.real, row_largest(rows), rows.real(0), rows.real(1)
    no_count, nothing, int32 = _NO_COUNT, np.int32(0), np.int32

    @device
    def step(so_far, z, _, offset, numbers):
        below = z - numbers[0]
        outside = below <= numbers[1]
        return (
            so_far[0] if outside else int32(so_far[0] + 1),
            so_far[1] if outside else so_far[1] + below,
        )

    fold = rows.fold(step, ["int32", rows.type_name])

    @device
    def row_threshold(place, z):
        largest = largest_of(place, z)
        threshold, last, goes_on = -one, no_count, True
        # Until each row of the warp has its own: no lane may miss a step across the lanes.
        while cuda.ballot_sync(ALL, goes_on) != 0:
            count, total = fold(place, z, z, (nothing, zero), (largest, threshold))
            # Equal, or more: a threshold that was rounded down lets one in again. A row beyond the
            # batch's has none.
            goes_on = goes_on and 0 < count < last
            if goes_on:
                threshold, last = (total - one) / real(count), count
        return largest, threshold

    return row_threshold


def sparsemax_forward(type_name: str) -> Kernel:
    """The point of the simplex nearest to each row of x, overwriting y (N, C): max(x − τ, 0)."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        threshold_of, zero = row_threshold(rows), rows.real(0)

        @device
        def part(x, _, offset, numbers):
            above = (x - numbers[0]) - numbers[1]
            return zero if above < zero else above

        write = rows.write(part)

        @device
        def sparsemax_forward(y, x):
            place = place_of(x)
            row = keep(cuda.local.array(slots, item, alignment=16), x, place)
            write(y, place, row, row, threshold_of(place, row))

        return sparsemax_forward

    return over_rows(type_name, make)


def sparsemax_backward(type_name: str) -> Kernel:
    """``dx = dy − mean dy`` over the row's elements with y > 0, else 0; overwriting dx (N, C)."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        real, zero, nothing, int32 = rows.real, rows.real(0), np.int32(0), np.int32

        @device
        def step(so_far, dy, y, offset, numbers):
            outside = y <= zero  # not for NaN, which so passes through
            return (
                so_far[0] if outside else int32(so_far[0] + 1),
                so_far[1] if outside else so_far[1] + np.float64(dy),
            )

        @device
        def gradient(dy, y, offset, numbers):
            return zero if y <= zero else dy - numbers[0]

        fold, write = rows.fold(step, ["int32", "float64"]), rows.write(gradient)

        @device
        def sparsemax_backward(dx, dy, y):
            place = place_of(dy)
            of_dy = keep(cuda.local.array(slots, item, alignment=16), dy, place)
            of_y = keep(cuda.local.array(slots, item, alignment=16), y, place)
            count, total = fold(place, of_dy, of_y, (nothing, 0.0), ())
            write(dx, place, of_dy, of_y, (real(total / np.float64(count)),))

        return sparsemax_backward

    return over_rows(type_name, make)
