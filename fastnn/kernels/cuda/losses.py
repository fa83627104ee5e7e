"""Losses: each row's loss, and the gradient of their mean over the batch's N rows, in one pass.

All overwrite `loss` (N,) and `dz` (N, C); `weights` (N,), or left out, multiply both. Losses
element by element are made in `pointwise.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.kernels.cuda.launch import Kernel
from fastnn.kernels.cuda.memory import given
from fastnn.kernels.cuda.rows import Rows, first_of_largest, over_rows
from fastnn.kernels.cuda.softmax import row_exponentials, row_largest, row_softmax
from fastnn.kernels.cuda.sparsemax import row_threshold
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.pointwise import CLIP, crossentropy, crossentropy_slope
from fastnn.kernels.transcendental import log


def row_weight(rows: Rows) -> Any:
    """The function ``row_weight(weights, place)``: a row's weight; 1 where there are none."""
    one = rows.real(1)

    @device
    def row_weight(weights, place):
        # A row beyond the batch's has none, either.
        return weights[place[0]] if given(weights) and place[2] > 0 else one

    return row_weight


def softmax_crossentropy(type_name: str) -> Kernel:
    """loss = log Σ e^(z−m) − (z_y − m), dz = w (softmax(z) − onehot(y)) / N; m the row's maximum.

    Softmax and cross-entropy as one: no probability is ever formed only to take its logarithm, so
    nothing over- or underflows and nothing is clipped.
    """

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        owns, weight_of, real, zero = rows.owns, row_weight(rows), rows.real, rows.real(0)
        total_of, exponential = row_softmax(rows)

        @device
        def gradient(z, _, offset, numbers):
            largest, scale, own, less = numbers
            return scale * exponential(z, largest) - (less if offset == own else zero)

        write = rows.write(gradient)

        @device
        def softmax_crossentropy(loss, dz, z, labels, weights, N):
            place = place_of(z)
            row, first, weight = place[0], place[3], weight_of(weights, place)
            share = keep(cuda.local.array(slots, item, alignment=16), z, place)
            largest, total = total_of(place, share)
            label = labels[row] if place[2] > 0 else first
            # Told by the label's own thread: dz may take the place of z, and no other writes there.
            if owns(place, label):
                loss[row] = weight * (log(total) - (z[row, label] - largest))
            scale = weight / real(N)
            write(dz, place, share, share, (largest, scale / total, np.int32(label - first), scale))

        return softmax_crossentropy

    return over_rows(type_name, make)


def softmax_crossentropy_soft(type_name: str) -> Kernel:
    """The same for rows of target probabilities t: loss = Σ t (log Σ e^(z−m) − (z − m))."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, weight_of, real, zero = rows.leads, row_weight(rows), rows.real, rows.real(0)
        largest_of, (total_of, exponential) = row_largest(rows), row_exponentials(rows)

        @device
        def step(so_far, z, t, offset, numbers):
            return so_far[0] + t, so_far[1] + t * (z - numbers[0])

        @device
        def gradient(z, t, offset, numbers):
            largest, scale, factor = numbers
            return scale * (exponential(z, largest) * factor - t)

        fold, write = rows.fold(step, [type_name] * 2), rows.write(gradient)

        @device
        def softmax_crossentropy_soft(loss, dz, z, targets, weights, N):
            place = place_of(z)
            weight = weight_of(weights, place)
            of_z = keep(cuda.local.array(slots, item, alignment=16), z, place)
            of_t = keep(cuda.local.array(slots, item, alignment=16), targets, place)
            largest = largest_of(place, of_z)
            mass, product = fold(place, of_z, of_t, (zero, zero), (largest,))
            total = total_of(place, of_z, largest)
            if leads(place):
                loss[place[0]] = weight * (mass * log(total) - product)
            write(dz, place, of_z, of_t, (largest, weight / real(N), mass / total))

        return softmax_crossentropy_soft

    return over_rows(type_name, make)


def categorical_crossentropy(type_name: str) -> Kernel:
    """loss = −log max(p_y, 1e-7) of probabilities p; dz = −w/(p_y N) at y, 0 where clipped."""

    def make(rows: Rows) -> Any:
        place_of, blank, slots, item = rows.place, rows.blank, rows.slots, rows.item
        owns = rows.owns
        weight_of, real, zero, one = row_weight(rows), rows.real, rows.real(0), rows.real(1)

        @device
        def gradient(_, other, offset, numbers):
            return numbers[0] if offset == numbers[1] else zero

        write = rows.write(gradient)

        @device
        def categorical_crossentropy(loss, dz, z, labels, weights, N):
            place = place_of(z)
            row, first, weight = place[0], place[3], weight_of(weights, place)
            label = labels[row] if place[2] > 0 else first
            slope = zero
            # All that is read of z is read by the thread that writes there, so dz may be in place.
            if owns(place, label):
                p = z[row, label]
                loss[row] = weight * crossentropy(p, one)
                slope = weight * crossentropy_slope(p, one) / real(N)
            share = blank(cuda.local.array(slots, item, alignment=16), dz)
            write(dz, place, share, share, (slope, np.int32(label - first)))

        return categorical_crossentropy

    return over_rows(type_name, make)


def categorical_hinge(type_name: str) -> Kernel:
    """loss = max(1 + max (1−t)z − Σ tz, 0) of target rows t; of several largest the first counts.

    The largest is 0 at least for one-hot t, where (1−t)z is 0: so Keras has it.
    """

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, weight_of, real = rows.leads, row_weight(rows), rows.real
        zero, one, lowest, int32 = rows.real(0), rows.real(1), rows.real(-np.inf), np.int32

        @device
        def larger(so_far, z, t, offset, numbers):
            other = (one - t) * z
            takes = other > so_far[0]
            return (
                other if takes else so_far[0],
                int32(numbers[0] + offset) if takes else so_far[1],
            )

        @device
        def add(so_far, z, t, offset, numbers):
            return (so_far[0] + t * z,)

        @device
        def gradient(z, t, offset, numbers):
            return numbers[0] * ((one - t if offset == numbers[1] else zero) - t)

        largest_of = rows.fold(larger, [type_name, "int32"], first_of_largest)
        own_of, write = rows.fold(add, [type_name]), rows.write(gradient)

        @device
        def categorical_hinge(loss, dz, z, targets, weights, N):
            place = place_of(z)
            first, weight = place[3], weight_of(weights, place)
            of_z = keep(cuda.local.array(slots, item, alignment=16), z, place)
            of_t = keep(cuda.local.array(slots, item, alignment=16), targets, place)
            largest, at = largest_of(place, of_z, of_t, (lowest, first), (first,))
            lacking = one + largest - own_of(place, of_z, of_t, (zero,), ())[0]
            met = lacking <= zero  # not for NaN, which so passes through
            if leads(place):
                loss[place[0]] = zero if met else weight * lacking
            factor = zero if met else weight / real(N)
            write(dz, place, of_z, of_t, (factor, int32(at - first)))

        return categorical_hinge

    return over_rows(type_name, make)


def cosine_similarity(type_name: str) -> Kernel:
    """loss = −c, c = Σ (z/‖z‖)(y/‖y‖); dz = w (c z/‖z‖ − y/‖y‖) / (‖z‖ N); norms at least 1e-7.

    Products are summed in float64: the square of a float32 may be none.
    """

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, weight_of, real = rows.leads, row_weight(rows), rows.real

        @device
        def step(so_far, z, y, offset, numbers):
            a, b = np.float64(z), np.float64(y)
            return so_far[0] + a * a, so_far[1] + a * b, so_far[2] + b * b

        @device
        def gradient(z, y, offset, numbers):
            factor, along, of_z, of_y = numbers
            return factor * (along * (z * of_z) - y * of_y)

        fold, write = rows.fold(step, ["float64"] * 3), rows.write(gradient)

        @device
        def cosine_similarity(loss, dz, z, targets, weights, N):
            place = place_of(z)
            weight = np.float64(weight_of(weights, place))
            of_z = keep(cuda.local.array(slots, item, alignment=16), z, place)
            of_y = keep(cuda.local.array(slots, item, alignment=16), targets, place)
            zz, zy, yy = fold(place, of_z, of_y, (0.0, 0.0, 0.0), ())
            norm, other = math.sqrt(zz), math.sqrt(yy)
            clipped = norm <= CLIP
            norm, other = CLIP if clipped else norm, CLIP if other < CLIP else other
            cosine = zy / (norm * other)
            if leads(place):
                loss[place[0]] = real(-weight * cosine)
            # Where the norm is clipped, it is a constant.
            along, factor = real(0.0 if clipped else cosine), real(weight / (norm * N))
            write(dz, place, of_z, of_y, (factor, along, real(1.0 / norm), real(1.0 / other)))

        return cosine_similarity

    return over_rows(type_name, make)


def sparsemax_loss(type_name: str) -> Kernel:
    """loss = ½ Σ_S (z² − τ²) − Σ tz + ½ Σ t², dz = w (p − t) / N; p = sparsemax(z), S its support.

    Martins & Astudillo 2016 (arXiv 1602.02068), section 3; for one-hot t it is their equation 25.
    A shift of z leaves it as it is, so z is taken less its row's maximum; and z² − τ² = p (z + τ).
    """

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, weight_of, real, zero = rows.leads, row_weight(rows), rows.real, rows.real(0)
        threshold_of, half = row_threshold(rows), rows.real(0.5)

        @device
        def step(so_far, z, t, offset, numbers):
            below = z - numbers[0]
            p = below - numbers[1]
            p = zero if p < zero else p
            return (so_far[0] + (half * (p * (below + numbers[1]) + t * t) - t * below),)

        @device
        def gradient(z, t, offset, numbers):
            largest, threshold, factor = numbers
            p = z - largest - threshold
            return factor * ((zero if p < zero else p) - t)

        fold, write = rows.fold(step, [type_name]), rows.write(gradient)

        @device
        def sparsemax_loss(loss, dz, z, targets, weights, N):
            place = place_of(z)
            weight = weight_of(weights, place)
            of_z = keep(cuda.local.array(slots, item, alignment=16), z, place)
            of_t = keep(cuda.local.array(slots, item, alignment=16), targets, place)
            largest, threshold = threshold_of(place, of_z)
            total = fold(place, of_z, of_t, (zero,), (largest, threshold))[0]
            if leads(place):
                loss[place[0]] = weight * total
            write(dz, place, of_z, of_t, (largest, threshold, weight / real(N)))

        return sparsemax_loss

    return over_rows(type_name, make)
