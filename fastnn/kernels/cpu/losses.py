"""Losses: each row's loss, and the gradient of their mean over the batch's N rows, in one pass.

All overwrite `loss` (n,) and `dz` (n, C) for the n rows at hand; `weights` (n,), or left out,
multiply both. A gradient is divided by N, the rows of the whole batch. Losses element by element
are made in `pointwise.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.kernels.cpu.in_place import in_place_or_apart
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.microkernel import copy_row
from fastnn.kernels.cpu.rows import row_max, row_minus, row_sum, row_times
from fastnn.kernels.cpu.settings import inlined, kernel, reduction
from fastnn.kernels.cpu.softmax import NARROW, Transposed, exp_rows, rows_of_block
from fastnn.kernels.cpu.sparsemax import row_threshold
from fastnn.kernels.cpu.stacks import copy_labels, stack_pick, stack_scale
from fastnn.kernels.pointwise import CLIP
from fastnn.kernels.signatures import ITEM_BYTES
from fastnn.kernels.transcendental import log

LOGARITHMS = 256
"""Narrow rows whose logarithms are taken at a time: a loop of one block would hardly be vectors."""


def softmax_crossentropy(type_name: str) -> Any:
    """loss = log Σ e^(z−m) − (z_y − m), dz = w (softmax(z) − onehot(y)) / N; m the row's maximum.

    Softmax and cross-entropy as one: no probability is ever formed only to take its logarithm, so
    nothing over- or underflows and nothing is clipped.
    """
    real, size, exp_block = getattr(np, type_name), ITEM_BYTES[type_name], exp_rows(type_name)
    largest_of, minus = row_max(type_name), row_minus(type_name)
    sum_of, times = row_sum(type_name), row_times(type_name)
    narrow, vector = Transposed(type_name), view(type_name, 1)
    count, load, exponentials, store = narrow.rows, narrow.load, narrow.exponentials, narrow.store
    pick, scale_less, copy = stack_pick(type_name), stack_scale(type_name), copy_row(type_name, 1)
    copy_labels_of = copy_labels(type_name)
    at_maxima, at_sums = narrow.at_maxima, narrow.at_sums
    at_labels, at_picked, at_weights, at_totals, at_losses = (
        narrow.at_spare + place * narrow.row for place in (0, 1, 2, 3, 3 + LOGARITHMS // count)
    )

    @inlined
    def block_of_rows(dz, z, labels, weights, i, here, scale, workspace, row_loss, row_total):
        """Gradients of `here` rows from row i on; of their losses, all but the logarithm."""
        columns = z.shape[1]
        begin = i * columns * size
        largest = vector(workspace + at_maxima, (count,))
        total = vector(workspace + at_sums, (count,))
        picked = vector(workspace + at_picked, (count,))
        weight = vector(workspace + at_weights, (count,))
        load(workspace, address(z) + begin, columns, here)
        copy_labels_of(workspace + at_labels, address(labels) + 4 * i, here)
        if address(weights) != 0:
            copy(workspace + at_weights, address(weights) + i * size, here)
        pick(workspace + at_picked, workspace, columns, workspace + at_labels)
        exponentials(workspace, columns)
        for r in range(count):
            row_total[r], row_loss[r] = total[r], largest[r] - picked[r]
            total[r] = scale / total[r] * weight[r]
            picked[r] = weight[r] * scale
        scale_less(workspace, columns, workspace + at_sums, workspace + at_labels,
                   workspace + at_picked)  # fmt: skip
        store(workspace, address(dz) + begin, columns, here)

    @inlined
    def narrow_rows(loss, dz, z, labels, weights, scale, workspace):
        weight = vector(workspace + at_weights, (count,))
        for r in range(weight.size):
            weight[r] = real(1)
        for first in range(0, loss.size, LOGARITHMS):
            last = min(first + LOGARITHMS, loss.size)
            for i in range(first, last, count):
                place = (i - first) * size
                row_loss = vector(workspace + at_losses + place, (count,))
                row_total = vector(workspace + at_totals + place, (count,))
                block_of_rows(dz, z, labels, weights, i, min(count, last - i), scale, workspace,
                              row_loss, row_total)  # fmt: skip
            block = (last - first + count - 1) // count * count
            losses = vector(workspace + at_losses, (block,))
            totals = vector(workspace + at_totals, (block,))
            for r in range(block):
                losses[r] += log(totals[r])
            for i in range(first, last):
                weight_of_row = weights[i] if address(weights) != 0 else real(1)
                loss[i] = weight_of_row * losses[i - first]

    @inlined
    def wide_rows(loss, dz, z, labels, weights, scale, workspace):
        columns = z.shape[1]
        row_bytes, step = columns * size, rows_of_block(z)
        totals = vector(workspace, (step,))
        for begin in range(0, loss.size, step):
            end = min(begin + step, loss.size)
            for i in range(begin, end):
                row = address(z) + i * row_bytes
                largest = largest_of(row, columns)
                loss[i] = largest - z[i, labels[i]]
                minus(address(dz) + i * row_bytes, row, columns, largest)
            exp_block(dz, begin, end)
            for i in range(begin, end):
                weight = weights[i] if address(weights) != 0 else real(1)
                row = address(dz) + i * row_bytes
                totals[i - begin] = sum_of(row, columns)
                times(row, row, columns, weight * (scale / totals[i - begin]))
                dz[i, labels[i]] -= weight * scale
            for i in range(begin, end):
                weight = weights[i] if address(weights) != 0 else real(1)
                loss[i] = weight * (log(totals[i - begin]) + loss[i])

    @kernel
    def softmax_crossentropy(loss, dz, z, labels, weights, N, workspace):
        scale = real(1) / real(N)
        if z.shape[1] <= NARROW:
            narrow_rows(loss, dz, z, labels, weights, scale, workspace)
        else:
            wide_rows(loss, dz, z, labels, weights, scale, workspace)

    return softmax_crossentropy


def softmax_crossentropy_soft(type_name: str) -> Any:
    """The same for rows of target probabilities t: loss = Σ t (log Σ e^(z−m) − (z − m))."""
    real, size, exp_block = getattr(np, type_name), ITEM_BYTES[type_name], exp_rows(type_name)
    largest_of, minus, sum_of = row_max(type_name), row_minus(type_name), row_sum(type_name)

    @reduction
    def target_dot(z, targets, i, largest):
        product = real(0)
        for j in range(z.shape[1]):
            product += targets[i, j] * (z[i, j] - largest)
        return product

    @inlined
    def rows(loss, dz, z, targets, weights, N):
        scale, columns = real(1) / real(N), z.shape[1]
        row_bytes, step = columns * size, rows_of_block(z)
        for begin in range(0, loss.size, step):
            end = min(begin + step, loss.size)
            for i in range(begin, end):
                row = address(z) + i * row_bytes
                largest = largest_of(row, columns)
                loss[i] = target_dot(z, targets, i, largest)
                minus(address(dz) + i * row_bytes, row, columns, largest)
            exp_block(dz, begin, end)
            for i in range(begin, end):
                weight = weights[i] if address(weights) != 0 else real(1)
                mass = sum_of(address(targets) + i * row_bytes, columns)
                total = sum_of(address(dz) + i * row_bytes, columns)
                loss[i] = weight * (mass * log(total) - loss[i])
                factor = mass / total
                for j in range(dz.shape[1]):
                    dz[i, j] = weight * scale * (dz[i, j] * factor - targets[i, j])

    return in_place_or_apart(rows, "dz z")


def categorical_crossentropy(type_name: str) -> Any:
    """loss = −log max(p_y, 1e-7) of probabilities p; dz = −w/(p_y N) at y, 0 where clipped."""
    real = getattr(np, type_name)

    @kernel
    def categorical_crossentropy(loss, dz, z, labels, weights, N):
        clip, scale = real(CLIP), real(1) / real(N)
        for i in range(loss.size):
            weight = weights[i] if address(weights) != 0 else real(1)
            label = labels[i]
            p = z[i, label]
            # `p < clip` is false for NaN, which so passes through.
            loss[i] = -weight * log(clip if p < clip else p)
            gradient = real(0) if p <= clip else -weight * scale / p
            for j in range(dz.shape[1]):
                dz[i, j] = gradient if j == label else real(0)

    return categorical_crossentropy


def categorical_hinge(type_name: str) -> Any:
    """loss = max(1 + max (1−t)z − Σ tz, 0) of target rows t; of several largest the first counts.

    The largest is 0 at least for one-hot t, where (1−t)z is 0: so Keras has it.
    """
    real = getattr(np, type_name)

    @inlined
    def rows(loss, dz, z, targets, weights, N):
        for i in range(loss.size):
            weight = weights[i] if address(weights) != 0 else real(1)
            largest, at, own = (real(1) - targets[i, 0]) * z[i, 0], 0, real(0)
            for j in range(z.shape[1]):
                other = (real(1) - targets[i, j]) * z[i, j]
                if other > largest:
                    largest, at = other, j
                own += targets[i, j] * z[i, j]
            lacking = real(1) + largest - own
            met = lacking <= real(0)  # not for NaN, which so passes through
            loss[i] = real(0) if met else weight * lacking
            factor = real(0) if met else weight / real(N)
            for j in range(dz.shape[1]):
                other = real(1) - targets[i, j] if j == at else real(0)
                dz[i, j] = factor * (other - targets[i, j])

    return in_place_or_apart(rows, "dz z")


def cosine_similarity(type_name: str) -> Any:
    """loss = −c, c = Σ (z/‖z‖)(y/‖y‖); dz = w (c z/‖z‖ − y/‖y‖) / (‖z‖ N); norms at least 1e-7.

    Products are summed in float64: the square of a float32 may be none.
    """
    real = getattr(np, type_name)

    @reduction
    def products(z, targets, i):
        zz, zy, yy = 0.0, 0.0, 0.0
        for j in range(z.shape[1]):
            a, b = np.float64(z[i, j]), np.float64(targets[i, j])
            zz += a * a
            zy += a * b
            yy += b * b
        return zz, zy, yy

    @inlined
    def rows(loss, dz, z, targets, weights, N):
        for i in range(loss.size):
            weight = np.float64(weights[i]) if address(weights) != 0 else 1.0
            zz, zy, yy = products(z, targets, i)
            norm, other = math.sqrt(zz), math.sqrt(yy)
            clipped = norm <= CLIP
            norm, other = CLIP if clipped else norm, CLIP if other < CLIP else other
            cosine = zy / (norm * other)
            loss[i] = real(-weight * cosine)
            # Where the norm is clipped, it is a constant.
            along = real(0.0 if clipped else cosine)
            of_z, of_y, factor = real(1.0 / norm), real(1.0 / other), real(weight / (norm * N))
            for j in range(dz.shape[1]):
                dz[i, j] = factor * (along * (z[i, j] * of_z) - targets[i, j] * of_y)

    return in_place_or_apart(rows, "dz z")


def sparsemax_loss(type_name: str) -> Any:
    """loss = ½ Σ_S (z² − τ²) − Σ tz + ½ Σ t², dz = w (p − t) / N; p = sparsemax(z), S its support.

    Martins & Astudillo 2016 (arXiv 1602.02068), section 3; for one-hot t it is their equation 25.
    A shift of z leaves it as it is, so z is taken less its row's maximum; and z² − τ² = p (z + τ).
    """
    real, threshold = getattr(np, type_name), row_threshold(type_name)

    @reduction
    def row_loss(z, targets, i, largest, tau):
        total, half = real(0), real(0.5)
        for j in range(z.shape[1]):
            below, t = z[i, j] - largest, targets[i, j]
            p = below - tau
            p = real(0) if p < real(0) else p
            total += half * (p * (below + tau) + t * t) - t * below
        return total

    @inlined
    def rows(loss, dz, z, targets, weights, N):
        for i in range(loss.size):
            weight = weights[i] if address(weights) != 0 else real(1)
            largest, tau = threshold(z, i)
            loss[i] = weight * row_loss(z, targets, i, largest, tau)
            factor = weight / real(N)
            for j in range(dz.shape[1]):
                p = z[i, j] - largest - tau
                p = real(0) if p < real(0) else p
                dz[i, j] = factor * (p - targets[i, j])

    return in_place_or_apart(rows, "dz z")
