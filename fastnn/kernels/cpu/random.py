"""Counter-based random numbers, dropout and the order of an epoch's rows made of them.

Philox 4x32-10 of Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3":
a bijection of a 128-bit counter under a 64-bit key. Four 32-bit words come of each counter; no
state is kept, so a mask is the same however the work was cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastnn.kernels import state as slot_of
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.settings import inlined, kernel

MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

BLOCK = 16
"""Neighbouring columns that take the same word of neighbouring counters: a vector's width."""
GROUP = 4 * BLOCK
"""Columns that one run of `BLOCK` counters serves."""


@inlined
def philox(c0, c1, c2, c3, k0, k1):
    """Philox 4x32-10: four words from counter words c and key words k, all uint64 below 2³²."""
    for _ in range(10):
        product_0 = MULTIPLIER_0 * c0
        product_1 = MULTIPLIER_1 * c2
        c0 = (product_1 >> SHIFT) ^ c1 ^ k0
        c1 = product_1 & LOW
        c2 = (product_0 >> SHIFT) ^ c3 ^ k1
        c3 = product_0 & LOW
        k0 = (k0 + WEYL_0) & LOW
        k1 = (k1 + WEYL_1) & LOW
    return c0, c1, c2, c3


SHUFFLE_BLOCK = 512
"""Places of an order whose random numbers are drawn at a time."""

SHUFFLE_STREAM = (1 << 32) - 1
"""The stream of the counters that orders are drawn from: no dropout's."""


def shuffle(type_name: str) -> Any:
    """Places `begin` to `end` of a random order: rows 0, 1, 2, … take their place one by one.

    The inside-out form of Fisher and Yates's shuffle (Knuth, volume 2, algorithm P): row i moves
    whatever row stands in a random place j ≤ i to place i, and stands at j. Of the two 64-bit
    numbers of counter (256·(i // 512) + i % 256, epoch, stream 2³² − 1), place i takes number
    (i // 256) % 2, w, and j = floor(w (i + 1) / 2⁶⁴). For fewer than 2³² rows.
    """
    uint64, half = types.uint64, SHUFFLE_BLOCK // 2
    places_at, stream = view("uint64", 1), np.uint64(SHUFFLE_STREAM)

    @inlined
    def place(low, high, count):
        """floor((high·2³² + low)·count / 2⁶⁴)."""
        return (high * count + ((low * count) >> SHIFT)) >> SHIFT

    @inlined
    def draw(places, block, epoch_low, epoch_high, k0, k1):
        first = block * uint64(half)
        for r in range(half):
            w0, w1, w2, w3 = philox(first + uint64(r), epoch_low, epoch_high, stream, k0, k1)
            count = uint64(2) * first + uint64(r + 1)
            places[r] = place(w0, w1, count)
            places[half + r] = place(w2, w3, count + uint64(half))

    @kernel
    def shuffle(order, begin, end, epoch, state, workspace, rank):
        if rank != 0:
            return
        seed, number = uint64(state[slot_of.SEED]), uint64(epoch)
        places = places_at(workspace, (SHUFFLE_BLOCK,))
        for block in range(begin // SHUFFLE_BLOCK, (end + SHUFFLE_BLOCK - 1) // SHUFFLE_BLOCK):
            first = block * SHUFFLE_BLOCK
            draw(places, uint64(block), number & LOW, number >> SHIFT, seed & LOW, seed >> SHIFT)
            for i in range(max(begin, first), min(end, first + SHUFFLE_BLOCK)):
                j = places[i - first]
                order[i] = order[j]
                order[j] = i

    return shuffle


def dropout(type_name: str) -> Any:
    """``y = x / (1 − rate)`` where an element is kept, else 0; its own backward pass.

    Element (row, column) of a batch, with G = ceil(columns/64) groups a row, takes word
    (column // 16) % 4 of the counter (row·16G + 16·(column // 64) + column % 16, step, stream)
    under the seed as key, and is kept where that is at least rate·2³². What is given begins at
    row `start` and at `column`, the first of a group, of rows of `width` columns.
    """
    real = getattr(np, type_name)
    uint64 = types.uint64

    @inlined
    def full_group(y, x, i, column, block, step_low, step_high, stream, k0, k1, limit, scale):
        for b in range(BLOCK):
            w0, w1, w2, w3 = philox(block + uint64(b), step_low, step_high, stream, k0, k1)
            j = column + b
            y[i, j] = x[i, j] * (scale if w0 >= limit else real(0))
            y[i, j + BLOCK] = x[i, j + BLOCK] * (scale if w1 >= limit else real(0))
            y[i, j + 2 * BLOCK] = x[i, j + 2 * BLOCK] * (scale if w2 >= limit else real(0))
            y[i, j + 3 * BLOCK] = x[i, j + 3 * BLOCK] * (scale if w3 >= limit else real(0))

    @inlined
    def last_group(y, x, i, column, block, step_low, step_high, stream, k0, k1, limit, scale):
        columns = y.shape[1]
        for b in range(min(BLOCK, columns - column)):
            words = philox(block + uint64(b), step_low, step_high, stream, k0, k1)
            for lane in range(4):
                j = column + lane * BLOCK + b
                if j < columns:
                    y[i, j] = x[i, j] * (scale if words[lane] >= limit else real(0))

    @inlined
    def rows(
        y, x, first_row, first_column, width, limit, scale, stream, step_low, step_high, k0, k1
    ):
        columns = y.shape[1]
        groups, first_group = (width + GROUP - 1) // GROUP, first_column // GROUP
        for i in range(y.shape[0]):
            for column in range(0, columns, GROUP):
                group = first_group + column // GROUP
                block = uint64(((first_row + i) * groups + group) * BLOCK)
                if column + GROUP <= columns:
                    full_group(y, x, i, column, block, step_low, step_high, stream, k0, k1,
                               limit, scale)  # fmt: skip
                else:
                    last_group(y, x, i, column, block, step_low, step_high, stream, k0, k1,
                               limit, scale)  # fmt: skip

    @kernel
    def dropout(y, x, rate, stream, start, column, width, state):
        limit = uint64(rate * 4294967296.0)
        scale = real(1.0 / (1.0 - rate))
        step, seed = uint64(state[slot_of.STEP]), uint64(state[slot_of.SEED])
        step_low, step_high, k0, k1 = step & LOW, step >> SHIFT, seed & LOW, seed >> SHIFT
        stream = uint64(stream)
        if address(y) == address(x):
            rows(y, y, start, column, width, limit, scale, stream, step_low, step_high, k0, k1)
        else:
            rows(y, x, start, column, width, limit, scale, stream, step_low, step_high, k0, k1)

    return dropout
