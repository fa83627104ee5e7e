"""Regularisation: what weights and outputs add to the loss, and what weights are held to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.kernels import state as slot_of
from fastnn.kernels.cpu.flag import raise_flag
from fastnn.kernels.cpu.in_place import in_place_or_apart
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.settings import exact, inlined, kernel, reduction
from fastnn.kernels.scalar import is_finite, penalty_slope
from fastnn.kernels.scalar import penalty as penalty_of

COLUMNS = 512
"""Columns whose norms are summed up at a time: their sums stay in the L1 cache."""


@reduction
def _total(values, l1, l2):
    """The penalty of all elements, of which there is one at least, in float64.

    Of none it would be 0, and LLVM would set the sums of rows by C's memset.
    """
    total = penalty_of(np.float64(values[0]), l1, l2)
    for i in range(1, values.size):
        total += penalty_of(np.float64(values[i]), l1, l2)
    return total


def penalty(type_name: str) -> Any:
    """Add N (l1 Σ|w| + l2 Σw²), times the step's scale, to the sum of penalties in the state.

    With `guard`, what is not finite is not added: it raises the flag that ends the run.
    """

    @kernel
    def penalty(w, l1, l2, guard, N, rank, state, floats):
        if rank == 0 and w.size > 0:
            total = N * floats[slot_of.PENALTY_SCALE] * _total(w, l1, l2)
            if guard != 0 and not is_finite(total):
                raise_flag(state)
            else:
                floats[slot_of.PENALTY_SUM] += total

    return penalty


def penalty_gradient(type_name: str) -> Any:
    """``g += scale (l1 sign w + 2 l2 w)``, with the step's scale of penalties."""
    real, slope = getattr(np, type_name), exact(penalty_slope)

    @kernel
    def penalty_gradient(g, w, l1, l2, floats):
        scale = floats[slot_of.PENALTY_SCALE]
        for i in range(g.size):
            g[i] += slope(w[i], real(scale * l1), real(scale * l2))

    return penalty_gradient


def activity_penalty(type_name: str) -> Any:
    """``values`` = l1 Σ|y| + l2 Σy² of each row of an output y."""
    real, vector = getattr(np, type_name), view(type_name, 1)
    size = np.dtype(type_name).itemsize

    @kernel
    def activity_penalty(values, y, l1, l2):
        columns = y.shape[1]
        for i in range(values.size):
            row = vector(address(y) + i * columns * size, (columns,))
            values[i] = real(_total(row, l1, l2))

    return activity_penalty


def activity_penalty_gradient(type_name: str) -> Any:
    """``dx = dy + (l1 sign y + 2 l2 y) / N``, overwriting dx; one-dimensional, any length."""
    real, slope = getattr(np, type_name), exact(penalty_slope)

    @inlined
    def loop(dx, dy, y, l1, l2, N):
        share_1, share_2 = real(l1 / N), real(l2 / N)
        for i in range(dx.size):
            dx[i] = dy[i] + slope(y[i], share_1, share_2)

    return in_place_or_apart(loop, "dx dy")


def constrain_sign(type_name: str) -> Any:
    """Set weights below 0 to 0."""
    real = getattr(np, type_name)

    @kernel
    def constrain_sign(w):
        for i in range(w.size):
            old = w[i]
            w[i] = real(0) if old < real(0) else old

    return constrain_sign


def constrain_norm(type_name: str) -> Any:
    """``w ·= (rate·clip(n, least, most) + (1 − rate) n) / (n + ε)``, n the norms along B.

    Of w (A, B, C). Squares are summed in float64, row by row.
    """
    real, sums_at, size = getattr(np, type_name), view("float64", 1), np.dtype(type_name).itemsize
    flat = view(type_name, 1)

    @inlined
    def scale(square, least, most, rate, epsilon):
        norm = math.sqrt(square)
        return (rate * min(max(norm, least), most) + (1.0 - rate) * norm) / (norm + epsilon)

    @kernel
    def constrain_norm(w, least, most, rate, epsilon, workspace, rank, team):
        length, columns = w.shape[1], w.shape[2]
        chunks = (columns + COLUMNS - 1) // COLUMNS
        for part in range(rank, w.shape[0] * chunks, team):
            first = part % chunks * COLUMNS
            sums = sums_at(workspace, (min(COLUMNS, columns - first),))
            begin = address(w) + (part // chunks * length * columns + first) * size
            row = flat(begin, (sums.size,))
            for c in range(sums.size):
                sums[c] = np.float64(row[c]) * np.float64(row[c])
            for b in range(1, length):
                row = flat(begin + b * columns * size, (sums.size,))
                for c in range(sums.size):
                    sums[c] += np.float64(row[c]) * np.float64(row[c])
            for c in range(sums.size):
                sums[c] = scale(sums[c], least, most, rate, epsilon)
            for b in range(length):
                row = flat(begin + b * columns * size, (sums.size,))
                for c in range(sums.size):
                    row[c] = real(row[c] * sums[c])

    return constrain_norm
