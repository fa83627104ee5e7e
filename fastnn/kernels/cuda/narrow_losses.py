"""A narrow network's losses: of rows that a warp has in registers, as tensor cores leave them.

Four neighbouring threads have a row, of each eight columns two each, and the eighth row below it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.groups import ALL
from fastnn.kernels.cuda.memory import given
from fastnn.kernels.cuda.narrow_format import Format, Layer, padded
from fastnn.kernels.cuda.target import cuda, device, unrolled
from fastnn.kernels.transcendental import exp, log

ZERO, ONE = np.float32(0), np.float32(1)


@device
def of_four(value):
    """The sum over the four threads that share a row."""
    value += cuda.shfl_xor_sync(ALL, value, 1)
    return value + cuda.shfl_xor_sync(ALL, value, 2)


@device
def largest_of_four(value):
    other = cuda.shfl_xor_sync(ALL, value, 1)
    value = other if other > value else value
    other = cuda.shfl_xor_sync(ALL, value, 2)
    return other if other > value else value


def loss_of_rows(form: Format, layer: Layer, of_half: Any) -> Any:
    """``put(shared, lane, dz, row, totals, b, targets, weights, z, loss, first, rows)``.

    It adds the bias to a warp's rows of the output, whose rows go to `z` if that is given, and puts
    the loss's gradient by them into shared memory. ``of_half(half, own, scale, totals, targets,
    column)`` makes gradients of a thread's part of one row and returns the row's loss, for a weight
    of 1; `own` is the row's number, or −1 where there is none.
    """
    columns, pitch, put_two = layer.outputs, form.pitch(layer.outputs), form.put
    blocks = padded(columns) // 8

    @device
    def add_bias(i, totals, b, z, own, half, column):
        at = i // 2 * 4 + 2 * half + i % 2
        column += i // 2 * 8 + i % 2
        if column < columns:
            if given(b):
                totals[at] += b[column]
            if given(z) and own >= 0:
                z[own * columns + column] = totals[at]

    @device
    def put_block(j, shared, at, totals, half, column):
        put_two(shared, at, column + 8 * j, totals[4 * j + 2 * half], totals[4 * j + 2 * half + 1])

    add_all, put_all = unrolled(add_bias, 2 * blocks), unrolled(put_block, blocks)

    @device
    def put_half(half, shared, lane, dz, row, totals, b, targets, weights, z, loss, first, rows):
        column, place = lane % 4 * 2, row + lane // 4 + 8 * half
        own = first + place if first + place < rows else -1
        add_all(totals, b, z, own, half, column)
        weight = weights[own] if given(weights) and own >= 0 else ONE
        scale = weight / np.float32(rows) if own >= 0 else ZERO
        value = of_half(half, own, scale, totals, targets, column)
        if own >= 0 and lane % 4 == 0:
            loss[own] = weight * value
        put_all(shared, dz + place * pitch, totals, half, column)

    return unrolled(put_half, 2)


def softmax_crossentropy(form: Format, layer: Layer) -> Any:
    """The loss of the op of this name, and its gradient; see `loss_of_rows`."""
    columns, count, lowest = layer.outputs, padded(layer.outputs) // 4, np.float32(-np.inf)

    @device
    def find_largest(i, totals, half, column, sums):
        value = totals[i // 2 * 4 + 2 * half + i % 2]
        if column + i // 2 * 8 + i % 2 < columns and value > sums[0]:
            sums[0] = value

    @device
    def add(i, totals, half, column, label, sums):
        at = i // 2 * 4 + 2 * half + i % 2
        column += i // 2 * 8 + i % 2
        if column < columns:
            if column == label:
                sums[2] = totals[at]
            totals[at] = exp(totals[at] - sums[0])
            sums[1] += totals[at]

    @device
    def differ(i, totals, half, column, label, scale, factor):
        at = i // 2 * 4 + 2 * half + i % 2
        column += i // 2 * 8 + i % 2
        value = factor * totals[at] - (scale if column == label else ZERO)
        totals[at] = value if column < columns else ZERO

    find_all, add_all, differ_all = (unrolled(body, count) for body in (find_largest, add, differ))

    @device
    def of_half(half, own, scale, totals, targets, column):
        sums = cuda.local.array(3, types.float32)
        label = targets[own] if own >= 0 else np.int32(-1)
        sums[0], sums[1], sums[2] = lowest, ZERO, ZERO
        find_all(totals, half, column, sums)
        sums[0] = largest_of_four(sums[0])
        add_all(totals, half, column, label, sums)
        total, logit = of_four(sums[1]), of_four(sums[2])
        # A row beyond the batch may have any numbers: its gradients are 0.
        differ_all(totals, half, column, label, scale, scale / total if own >= 0 else ZERO)
        return log(total) - (logit - sums[0])

    return loss_of_rows(form, layer, of_half)


def mean_squared_error(form: Format, layer: Layer) -> Any:
    """The loss of the op of this name, and its gradient; see `loss_of_rows`."""
    columns, count = layer.outputs, padded(layer.outputs) // 4
    share, two = np.float32(1 / columns), np.float32(2 / columns)

    @device
    def differ(i, totals, half, column, own, scale, targets, sums):
        at = i // 2 * 4 + 2 * half + i % 2
        column += i // 2 * 8 + i % 2
        if own >= 0 and column < columns:
            distance = totals[at] - targets[own * columns + column]
            sums[0] += distance * distance
            totals[at] = two * scale * distance
        else:
            totals[at] = ZERO

    differ_all = unrolled(differ, count)

    @device
    def of_half(half, own, scale, totals, targets, column):
        sums = cuda.local.array(1, types.float32)
        sums[0] = ZERO
        differ_all(totals, half, column, own, scale, targets, sums)
        return of_four(sums[0]) * share

    return loss_of_rows(form, layer, of_half)


LOSSES = {"softmax_crossentropy": softmax_crossentropy, "mean_squared_error": mean_squared_error}
"""By the name of the op, what makes the function that puts a loss's gradient."""
