"""What is made of counter-based random words: masks, and the order of an epoch's rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastnn.kernels import state as slot_of
from fastnn.kernels.counters import BLOCK, GROUP, first_block, limit_of
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.philox import draw, keep_row, room
from fastnn.kernels.cpu.rows import row_plus_row, row_times, row_times_row
from fastnn.kernels.cpu.settings import inlined, kernel
from fastnn.kernels.normal import normal_pair32, normal_pair64

SHIFT = np.uint64(32)

words_at = view("uint32", 1)

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
    places_at, room_for_words = view("uint64", 1), room("uint32")

    @inlined
    def place(low, high, count):
        """floor((high·2³² + low)·count / 2⁶⁴), for words and a count of 64 bits."""
        return (high * count + ((low * count) >> SHIFT)) >> SHIFT

    @inlined
    def draw_places(places, block, epoch, seed):
        drawn = room_for_words()
        words, first = words_at(drawn, (GROUP,)), block * half
        for r in range(0, half, BLOCK):
            draw(drawn, first + r, epoch, SHUFFLE_STREAM, seed)
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


def _masked_rows(type_name: str) -> Any:
    """The function that gives rows, with the numbers of their first counters, to `keep_row`."""
    keep = keep_row(type_name)

    @inlined
    def masked_rows(y, x, rate, scale, shift, fill, stream, start, column, width, state):
        for i in range(y.shape[0]):
            block = first_block(start + i, column, width)
            keep(address(y) + i * y.strides[0], address(x) + i * x.strides[0], y.shape[1], block,
                 state[slot_of.STEP], stream, state[slot_of.SEED], limit_of(rate), scale, shift,
                 fill)  # fmt: skip

    return masked_rows


def dropout(type_name: str) -> Any:
    """``y = x / (1 − rate)`` where an element is kept, else 0; its own backward pass.

    Element (row, column) of a batch, with G = ceil(columns/64) groups a row, takes word
    (column // 16) % 4 of the counter (row·16G + 16·(column // 64) + column % 16, step, stream)
    under the seed as key, and is kept where that is at least rate·2³². What is given begins at
    row `start` and at `column`, the first of a group, of rows of `width` columns.
    """
    real, masked_rows = getattr(np, type_name), _masked_rows(type_name)

    @kernel
    def dropout(y, x, rate, stream, start, column, width, state):
        scale, nothing = real(1.0 / (1.0 - rate)), real(-0.0)  # x + -0 is x
        masked_rows(y, x, rate, scale, nothing, nothing, stream, start, column, width, state)

    return dropout


def alpha_dropout(type_name: str) -> Any:
    """``y = scale · x + shift`` where `dropout` would keep an element, else `fill`.

    Without `shift` and `fill` its own backward pass. A NaN is not hidden by being dropped.
    """
    real, masked_rows = getattr(np, type_name), _masked_rows(type_name)

    @kernel
    def alpha_dropout(y, x, rate, scale, shift, fill, stream, start, column, width, state):
        masked_rows(y, x, rate, real(scale), real(shift), real(fill), stream, start, column, width,
                    state)  # fmt: skip

    return alpha_dropout


def spatial_dropout(type_name: str) -> Any:
    """Dropout of whole channels: rows of F = positions · channels, the channel running fastest.

    All elements of a row's channel have the factor that `dropout` gives element (row, channel) of
    rows of `channels` columns; its own backward pass.
    """
    real, multiply, room_for_words = (
        getattr(np, type_name),
        row_times_row(type_name),
        room("uint32"),
    )
    room_for_factors, factors_at = room(type_name), view(type_name, 1)

    @inlined
    def draw_factors(factors, block, stream, rate, state):
        drawn, limit = room_for_words(), limit_of(rate)
        words, scale = words_at(drawn, (GROUP,)), real(1.0 / (1.0 - rate))
        draw(drawn, block, state[slot_of.STEP], stream, state[slot_of.SEED])
        for j in range(GROUP):
            factors[j] = scale if words[j] >= limit else real(0)

    @kernel
    def spatial_dropout(y, x, rate, channels, stream, start, state):
        kept = room_for_factors()
        factors = factors_at(kept, (GROUP,))
        for i in range(y.shape[0]):
            for first in range(0, channels, GROUP):
                block = first_block(start + i, first, channels)
                draw_factors(factors, block, stream, rate, state)
                count = min(channels - first, GROUP)
                for position in range(first, y.shape[1], channels):
                    offset = i * y.strides[0] + position * y.itemsize
                    multiply(address(y) + offset, address(x) + offset, kept, count)

    return spatial_dropout


def drop_block(type_name: str) -> Any:
    """``y = x · mask · F / Σ mask``, of a row's pictures with blocks of them dropped.

    A row is a picture of F = height · across · channels elements. A block of `block_size` rows
    and columns of one channel may begin wherever it ends within the picture; it does where
    `dropout` at the given rate would drop element (row, place) of rows with one column for each
    such place: down, across, and by channel. Where nothing is left, y is 0. Its own backward pass;
    y is another array than x, and holds the mask meanwhile.
    """
    real, room_for_words = getattr(np, type_name), room("uint32")
    multiply, scale_row = row_times_row(type_name), row_times(type_name)

    @inlined
    def drop(mask, first, across, channels, block_size):
        """Drop a block whose first element is `first`; how many elements were there before."""
        dropped = 0
        for down in range(block_size):
            for right in range(block_size):
                at = first + (down * across + right) * channels
                dropped += types.int64(mask[at] != real(0))
                mask[at] = real(0)
        return dropped

    @inlined
    def drop_blocks(mask, row, limit, across, channels, block_size, stream, state):
        """Drop blocks out of a row's mask; how many elements are left."""
        height, left = mask.size // (across * channels), mask.size
        line = (across - block_size + 1) * channels
        places, drawn = (height - block_size + 1) * line, room_for_words()
        words = words_at(drawn, (GROUP,))
        for group in range(0, places, GROUP):
            draw(drawn, first_block(row, group, places), state[slot_of.STEP], stream,
                 state[slot_of.SEED])  # fmt: skip
            least = words[0]
            for j in range(GROUP):
                least = min(least, words[j])
            if least >= limit:  # most groups, and LLVM looks at a vector at a time
                continue
            for j in range(min(GROUP, places - group)):
                if words[j] < limit:
                    down, right = (group + j) // line, (group + j) % line
                    first = down * across * channels + right
                    left -= drop(mask, first, across, channels, block_size)
        return left

    @kernel
    def drop_block(y, x, rate, across, channels, block_size, stream, start, state):
        for i in range(y.shape[0]):
            mask = y[i]
            for j in range(mask.size):
                mask[j] = real(1)
            left = drop_blocks(
                mask, start + i, limit_of(rate), across, channels, block_size, stream, state
            )
            at_y, at_x = address(y) + i * y.strides[0], address(x) + i * x.strides[0]
            multiply(at_y, at_x, at_y, mask.size)
            scale_row(at_y, at_y, mask.size, real(mask.size) / real(max(left, 1)))

    return drop_block


NOISE_GROUPS = 8
"""Groups whose words are all drawn before numbers are made of them: group by group, these would
wait for those (measured: 1.8 ns a number, and 1.0 in eights)."""


def gaussian_noise(type_name: str) -> Any:
    """``y = x + stddev · z`` of normal numbers z, or ``x · (1 + stddev · z)`` where `relative`.

    The latter is its own backward pass. Words stand where they do for `dropout`: columns whose
    words are 0 and 1 of one counter have the two numbers of these words, see ``normal``, and those
    of its words 2 and 3 likewise.
    """
    real, numbers_at = getattr(np, type_name), view(type_name, 1)
    room_for_words, bits_at = room("uint32", NOISE_GROUPS), view("int32", 1)
    room_for_numbers, most = room(type_name, NOISE_GROUPS), NOISE_GROUPS * GROUP
    normal_pair = normal_pair32 if type_name == "float32" else normal_pair64
    add, multiply = row_plus_row(type_name), row_times_row(type_name)

    @inlined
    def draw_normal(z, count, mean, stddev, block, stream, state):
        """At least `count` numbers N(mean, stddev²)."""
        groups, drawn = (count + GROUP - 1) // GROUP, room_for_words()
        words = bits_at(drawn, (z.size,))
        for group in range(groups):
            draw(drawn + 4 * GROUP * group, block + BLOCK * group, state[slot_of.STEP], stream,
                 state[slot_of.SEED])  # fmt: skip
        for pair in range(0, groups * GROUP, 2 * BLOCK):
            for j in range(pair, pair + BLOCK):
                cosine, sine = normal_pair(words[j], words[j + BLOCK])
                z[j], z[j + BLOCK] = mean + stddev * cosine, mean + stddev * sine

    @kernel
    def gaussian_noise(y, x, stddev, relative, stream, start, column, width, state):
        drawn, mean = room_for_numbers(), real(1 if relative != 0 else 0)
        z = numbers_at(drawn, (most,))
        for i in range(y.shape[0]):
            for first in range(0, y.shape[1], most):
                count = min(y.shape[1] - first, most)
                block = first_block(start + i, column + first, width)
                draw_normal(z, count, mean, real(stddev), block, stream, state)
                at_y = address(y) + i * y.strides[0] + first * y.itemsize
                at_x = address(x) + i * x.strides[0] + first * x.itemsize
                if relative != 0:
                    multiply(at_y, at_x, drawn, count)
                else:
                    add(at_y, at_x, drawn, count)

    return gaussian_noise
