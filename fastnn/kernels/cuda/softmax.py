"""Softmax and its logarithm: rows are read once and written once, their sums taken across lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.launch import Kernel
from fastnn.kernels.cuda.rows import Rows, larger, over_rows
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.transcendental import exp, log


def row_largest(rows: Rows) -> Any:
    """The function ``row_largest(place, x)``: a row's largest element; a NaN is passed over."""
    lowest = rows.real(-np.inf)

    @device
    def step(so_far, x, _, offset, numbers):
        return (x if x > so_far[0] else so_far[0],)

    fold = rows.fold(step, [rows.type_name], larger)

    @device
    def row_largest(place, x):
        return fold(place, x, x, (lowest,), ())[0]

    return row_largest


def row_exponentials(rows: Rows) -> tuple[Any, Any]:
    """``row_exponentials(place, x, largest)``, Σ e^(x − largest), and ``exponential(x, largest)``.

    Where a share of the row is kept, its elements become these exponentials, and `exponential`
    gives what it is given.
    """
    zero, is_kept = rows.real(0), rows.plan.each > 0

    @device
    def step(so_far, x, _, offset, numbers):
        e = exp(x - numbers[0])
        if is_kept:
            return (so_far[0] + e,), e
        return (so_far[0] + e,)

    fold = rows.fold(step, [rows.type_name], keeps=is_kept)

    @device
    def row_exponentials(place, x, largest):
        return fold(place, x, x, (zero,), (largest,))[0]

    @device
    def exponential(x, largest):
        return x if is_kept else exp(x - largest)

    return row_exponentials, exponential


def row_sum_of_exponentials(rows: Rows) -> Any:
    """The function ``(place, x)``: a row's largest element m, and Σ e^(x − m).

    A row that is not kept is read but once: the sum is of e^(x − m) for the largest so far, and is
    multiplied by e^(m − m′) when that grows (Milakov & Gimelshein 2018, arXiv 1805.02867).
    """
    zero, one, lowest = rows.real(0), rows.real(1), rows.real(-np.inf)
    largest_of = row_largest(rows)

    @device
    def add(so_far, x, _, offset, numbers):
        return (so_far[0] + exp(x - numbers[0]),)

    @device
    def merge(a, b):
        above, below = (b, a) if b[0] > a[0] else (a, b)
        # Both are −∞ as long as nothing else has been met. A NaN becomes the sum's, and no maximum.
        factor = one if below[0] == above[0] else exp(below[0] - above[0])
        return above[0], above[1] + below[1] * factor

    @device
    def step(so_far, x, _, offset, numbers):
        return merge(so_far, (x, one))

    if rows.plan.each:
        fold = rows.fold(add, [rows.type_name])

        @device
        def row_sum_of_exponentials(place, x):
            largest = largest_of(place, x)
            return largest, fold(place, x, x, (zero,), (largest,))[0]

    else:
        fold = rows.fold(step, [rows.type_name] * 2, merge)

        @device
        def row_sum_of_exponentials(place, x):
            return fold(place, x, x, (lowest, zero), ())

    return row_sum_of_exponentials


def row_softmax(rows: Rows) -> tuple[Any, Any]:
    """``row_softmax(place, x)``, m and Σ e^(x − m), and ``exponential(x, m)``.

    Of a share that is kept, the elements become these exponentials, as by `row_exponentials`.
    """
    exponentials_of, exponential = row_exponentials(rows)
    if not rows.plan.each:
        return row_sum_of_exponentials(rows), exponential
    largest_of = row_largest(rows)

    @device
    def row_softmax(place, x):
        largest = largest_of(place, x)
        return largest, exponentials_of(place, x, largest)

    return row_softmax, exponential


def softmax_forward(type_name: str) -> Kernel:
    """``y = e^(x − max x) / Σ e^(x − max x)`` row by row, overwriting y (N, C)."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        (total_of, exponential), one = row_softmax(rows), rows.real(1)

        @device
        def probability(x, _, offset, numbers):
            return exponential(x, numbers[0]) * numbers[1]

        write = rows.write(probability)

        @device
        def softmax_forward(y, x):
            place = place_of(x)
            row = keep(cuda.local.array(slots, item, alignment=16), x, place)
            largest, total = total_of(place, row)
            write(y, place, row, row, (largest, one / total))

        return softmax_forward

    return over_rows(type_name, make)


def softmax_backward(type_name: str) -> Kernel:
    """``dx = y ⊙ (dy − Σ dy⊙y)`` row by row, overwriting dx (N, C); y is the output."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        zero = rows.real(0)

        @device
        def product(so_far, dy, y, offset, numbers):
            return (so_far[0] + dy * y,)

        @device
        def gradient(dy, y, offset, numbers):
            return y * (dy - numbers[0])

        fold, write = rows.fold(product, [type_name]), rows.write(gradient)

        @device
        def softmax_backward(dx, dy, y):
            place = place_of(dy)
            of_dy = keep(cuda.local.array(slots, item, alignment=16), dy, place)
            of_y = keep(cuda.local.array(slots, item, alignment=16), y, place)
            write(dx, place, of_dy, of_y, fold(place, of_dy, of_y, (zero,), ()))

        return softmax_backward

    return over_rows(type_name, make)


def log_softmax_forward(type_name: str) -> Kernel:
    """``y = (x − max x) − log Σ e^(x − max x)`` row by row, overwriting y (N, C).

    The maximum is taken off first: their sum would lose digits where it is large.
    """

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        total_of = row_sum_of_exponentials(rows)

        @device
        def logarithm(x, _, offset, numbers):
            return (x - numbers[0]) - numbers[1]

        write = rows.write(logarithm)

        @device
        def log_softmax_forward(y, x):
            place = place_of(x)
            row = keep(cuda.local.array(slots, item, alignment=16), x, place)
            largest, total = total_of(place, row)
            write(y, place, row, row, (largest, log(total)))

        return log_softmax_forward

    return over_rows(type_name, make)


def log_softmax_backward(type_name: str) -> Kernel:
    """``dx = dy − e^y Σ dy`` row by row, overwriting dx (N, C); y is the output."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        zero = rows.real(0)

        @device
        def add(so_far, dy, _, offset, numbers):
            return (so_far[0] + dy,)

        @device
        def gradient(dy, y, offset, numbers):
            return dy - exp(y) * numbers[0]

        fold, write = rows.fold(add, [type_name]), rows.write(gradient)

        @device
        def log_softmax_backward(dx, dy, y):
            place = place_of(dy)
            of_dy = keep(cuda.local.array(slots, item, alignment=16), dy, place)
            of_y = keep(cuda.local.array(slots, item, alignment=16), y, place)
            write(dx, place, of_dy, of_y, fold(place, of_dy, of_dy, (zero,), ()))

        return log_softmax_backward

    return over_rows(type_name, make)
