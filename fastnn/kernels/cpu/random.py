"""What is made of counter-based random words: masks, and the order of an epoch's rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastnn.kernels import state as slot_of
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.philox import BLOCK, GROUP, draw, keep_row, room_for_words
from fastnn.kernels.cpu.settings import inlined, kernel

SHIFT = np.uint64(32)

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
    uint64, int64, half = types.uint64, types.int64, SHUFFLE_BLOCK // 2
    places_at, words_at = view("uint64", 1), view("uint32", 1)

    @inlined
    def place(low, high, count):
        """floor((high·2³² + low)·count / 2⁶⁴), for words and a count of 64 bits."""
        return (high * count + ((low * count) >> SHIFT)) >> SHIFT

    @inlined
    def draw_places(places, block, epoch, seed):
        room = room_for_words()
        words, first = words_at(room, (GROUP,)), block * half
        for r in range(0, half, BLOCK):
            draw(room, first + r, epoch, SHUFFLE_STREAM, seed)
            count = uint64(2 * first + r + 1)
            for i in range(BLOCK):
                w0, w1 = words[i], words[i + BLOCK]
                w2, w3 = words[i + 2 * BLOCK], words[i + 3 * BLOCK]
                places[r + i] = place(uint64(w0), uint64(w1), count + uint64(i))
                places[half + r + i] = place(uint64(w2), uint64(w3), count + uint64(half + i))

    @kernel
    def shuffle(order, begin, end, epoch, state, workspace, rank):
        if rank != 0:
            return
        places = places_at(workspace, (SHUFFLE_BLOCK,))
        for block in range(begin // SHUFFLE_BLOCK, (end + SHUFFLE_BLOCK - 1) // SHUFFLE_BLOCK):
            first = block * SHUFFLE_BLOCK
            draw_places(places, block, int64(epoch), state[slot_of.SEED])
            for i in range(max(begin, first), min(end, first + SHUFFLE_BLOCK)):
                j = places[i - first]
                order[i] = order[j]
                order[j] = i

    return shuffle


@inlined
def first_block(row, column, width):
    """The number of the first counter of a row of `width` columns from `column` on."""
    return (row * ((width + GROUP - 1) // GROUP) + column // GROUP) * BLOCK


@inlined
def limit_of(rate):
    """The least word for which an element is kept."""
    return types.int64(rate * 4294967296.0)


def dropout(type_name: str) -> Any:
    """``y = x / (1 − rate)`` where an element is kept, else 0; its own backward pass.

    Element (row, column) of a batch, with G = ceil(columns/64) groups a row, takes word
    (column // 16) % 4 of the counter (row·16G + 16·(column // 64) + column % 16, step, stream)
    under the seed as key, and is kept where that is at least rate·2³². What is given begins at
    row `start` and at `column`, the first of a group, of rows of `width` columns.
    """
    real, keep = getattr(np, type_name), keep_row(type_name)

    @kernel
    def dropout(y, x, rate, stream, start, column, width, state):
        scale, nothing = real(1.0 / (1.0 - rate)), real(-0.0)  # x + -0 is x
        for i in range(y.shape[0]):
            block = first_block(start + i, column, width)
            keep(address(y) + i * y.strides[0], address(x) + i * x.strides[0], y.shape[1], block,
                 state[slot_of.STEP], stream, state[slot_of.SEED], limit_of(rate), scale, nothing,
                 nothing)  # fmt: skip

    return dropout
