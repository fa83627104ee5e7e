"""What is made of counter-based random words: the very bits of the CPU's masks.

A thread draws the words of a counter once and uses all four, 16 columns apart; where rows allow it
takes neighbouring counters, as many as 16 bytes have elements. It goes down the rows.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels import state as s
from fastnn.kernels.counters import BLOCK, GROUP, first_block, limit_of
from fastnn.kernels.cuda.column_maps import grid_over, place_and_row
from fastnn.kernels.cuda.groups import sum_over
from fastnn.kernels.cuda.launch import (
    THREADS,
    Kernel,
    Launch,
    Lengths,
    in_blocks,
    power_of_two,
)
from fastnn.kernels.cuda.memory import address, copy_wide, lanes_of, view
from fastnn.kernels.cuda.philox import philox
from fastnn.kernels.cuda.product import is_wide
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.formula import fma
from fastnn.kernels.normal import normal_pair32, normal_pair64

WORDS = 4
"""Words of a counter."""


def _counters_of_row(columns: int) -> int:
    """Counters of a row that have a column: the others of its last group have none."""
    whole, rest = columns // GROUP, columns % GROUP
    return whole * BLOCK + min(rest, BLOCK)


def _drawing(type_name: str, draw: Any, change: Any, numbers: Any) -> Kernel:
    """The kernel that changes each element of x by what is drawn for it.

    Parameters
    ----------
    draw : device function
        ``draw(w0, w1, w2, w3, numbers)`` makes one drawn thing of each word.
    change : device function
        ``change(x, drawn, numbers)`` returns the new element.
    numbers : device function
        Computes, once a thread, what is the same for all; its parameters are scalars of the op.
    """
    item, flat, lanes = getattr(types, type_name), view(type_name, 1), lanes_of(type_name)
    of_op = ", ".join(inspect.signature(numbers.py_func).parameters)

    def make(across: int, wide: int) -> Any:
        run = lanes if wide else 1
        size, runs = WORDS * run, BLOCK // run
        place_of_thread = place_and_row(across)

        @device
        def fetch(held, x, at, columns):
            """Read the elements of `run` counters, of which so many columns are left in the row."""
            for word in range(WORDS):
                if BLOCK * word < columns:
                    if wide:
                        copy_wide(held, word * run, x, at + BLOCK * word)
                    else:
                        held[word] = x[at + BLOCK * word]

        @device
        def put(y, held, at, columns):
            """Write them."""
            for word in range(WORDS):
                if BLOCK * word < columns:
                    if wide:
                        copy_wide(y, at + BLOCK * word, held, word * run)
                    else:
                        y[at + BLOCK * word] = held[word]

        @device
        def over_rows(y, x, numbers, stream, state):
            place, first, down = place_of_thread()
            (rows, width), held = x.shape, cuda.local.array(size, item, alignment=16)
            column = place // runs * GROUP + place % runs * run
            if column >= width:
                return
            to, source = flat(address(y), (y.size,)), flat(address(x), (x.size,))
            for row in range(first, rows, down):
                counter, at = first_block(row, column, width) + column % BLOCK, row * width + column
                fetch(held, source, at, width - column)
                for k in range(run):
                    w0, w1, w2, w3 = philox(counter + k, state[s.STEP], stream, state[s.SEED])
                    d0, d1, d2, d3 = draw(w0, w1, w2, w3, numbers)
                    held[k] = change(held[k], d0, numbers)
                    held[run + k] = change(held[run + k], d1, numbers)
                    held[2 * run + k] = change(held[2 * run + k], d2, numbers)
                    held[3 * run + k] = change(held[3 * run + k], d3, numbers)
                put(to, held, at, width - column)

        text = f"""
def drawing(y, x, {of_op}, stream, state):
    over_rows(y, x, numbers({of_op}), stream, state)
"""
        namespace = {"over_rows": over_rows, "numbers": numbers}
        exec(text, namespace)
        return device(namespace["drawing"])

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        wide = is_wide(type_name, aligned, lengths["F"])
        run = lanes if wide else 1
        grid = grid_over(lengths["N"], -(-_counters_of_row(lengths["F"]) // run), each=1)
        return Launch(grid.blocks, grid.threads, (grid.across, int(wide)))

    return Kernel(make, launch)


@device
def words_themselves(w0, w1, w2, w3, numbers):
    """The words, for `change` to compare with a limit."""
    return w0, w1, w2, w3


def dropout(type_name: str) -> Kernel:
    """``y = x / (1 − rate)`` where an element is kept, else 0; its own backward pass."""
    real = getattr(np, type_name)
    zero = real(0)

    @device
    def numbers(rate):
        return limit_of(rate), real(1.0 / (1.0 - rate))

    @device
    def change(x, word, numbers):
        limit, scale = numbers
        return x * (scale if np.int64(word) >= limit else zero)

    return _drawing(type_name, words_themselves, change, numbers)


def alpha_dropout(type_name: str) -> Kernel:
    """``y = scale · x + shift`` where `dropout` would keep an element, else `fill`."""
    real = getattr(np, type_name)
    zero = real(0)

    @device
    def numbers(rate, scale, shift, fill):
        return limit_of(rate), real(scale), real(shift), real(fill)

    @device
    def change(x, word, numbers):
        limit, scale, shift, fill = numbers
        kept = np.int64(word) >= limit
        return fma(x, scale if kept else zero, shift if kept else fill)

    return _drawing(type_name, words_themselves, change, numbers)


def gaussian_noise(type_name: str) -> Kernel:
    """``y = x + stddev · z`` of normal numbers z, or ``x · (1 + stddev · z)`` where `relative`."""
    real = getattr(np, type_name)
    normal_pair = normal_pair32 if type_name == "float32" else normal_pair64

    @device
    def numbers(stddev, relative):
        return real(stddev), relative

    @device
    def draw(w0, w1, w2, w3, numbers):
        z0, z1 = normal_pair(np.int64(w0), np.int64(w1))
        z2, z3 = normal_pair(np.int64(w2), np.int64(w3))
        return z0, z1, z2, z3

    @device
    def change(x, z, numbers):
        stddev, relative = numbers
        return x * (real(1) + stddev * z) if relative != 0 else x + stddev * z

    return _drawing(type_name, draw, change, numbers)


# Pictures


POSITIONS = 8
"""Places of a picture that a thread multiplies by the factors which it has drawn."""


def spatial_dropout(type_name: str) -> Kernel:
    """Dropout of whole channels: rows of F = positions · channels, the channel running fastest.

    A thread has the four channels of a counter in `POSITIONS` places of a picture.
    """
    real, item = getattr(np, type_name), getattr(types, type_name)
    zero = real(0)

    @device
    def spatial_dropout(y, x, rate, channels, stream, state):
        (rows, columns), factors = x.shape, cuda.local.array(WORDS, item)
        limit, scale = limit_of(rate), real(1.0 / (1.0 - rate))
        positions, counters = columns // channels, (channels + GROUP - 1) // GROUP * BLOCK
        parts = (positions + POSITIONS - 1) // POSITIONS
        for index in range(cuda.grid(1), rows * parts * counters, cuda.gridsize(1)):
            place, counter = index // counters, index % counters
            row, part = place // parts, place % parts
            channel = counter // BLOCK * GROUP + counter % BLOCK
            if channel >= channels:
                continue
            words = philox(row * counters + counter, state[s.STEP], stream, state[s.SEED])
            w0, w1, w2, w3 = words
            factors[0] = scale if np.int64(w0) >= limit else zero
            factors[1] = scale if np.int64(w1) >= limit else zero
            factors[2] = scale if np.int64(w2) >= limit else zero
            factors[3] = scale if np.int64(w3) >= limit else zero
            for position in range(part, positions, parts):
                j = position * channels + channel
                for word in range(WORDS):
                    if channel + BLOCK * word < channels:
                        y[row, j + BLOCK * word] = x[row, j + BLOCK * word] * factors[word]

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        elements = lengths["N"] * lengths["F"]
        return Launch(in_blocks(elements, each=WORDS * POSITIONS), THREADS)

    return Kernel(lambda: spatial_dropout, launch, any_grid=True)


def drop_block(type_name: str) -> Kernel:
    """``y = x · mask · F / Σ mask``, of a row's pictures with blocks of them dropped.

    A block of threads has a row. y is another array than x, and holds the mask meanwhile: where
    blocks of dropped elements overlap, several threads write the same 0.
    """
    real = getattr(np, type_name)
    zero, one = real(0), real(1)

    @device
    def drop(mask, word, limit, place, places, line, across, channels, block_size):
        """Drop the block that begins at a place, if its word says so."""
        if place < places and np.int64(word) < limit:
            first = place // line * across * channels + place % line
            for down in range(block_size):
                for right in range(block_size):
                    mask[first + (down * across + right) * channels] = zero

    def make(threads: int) -> Any:
        sum_of_block = sum_over("int64", threads)

        @device
        def drop_blocks(mask, row, limit, across, channels, block_size, stream, state):
            """Drop blocks out of a row's mask."""
            height = mask.size // (across * channels)
            line = (across - block_size + 1) * channels
            places = (height - block_size + 1) * line
            begin = first_block(row, 0, places)
            counters = (places + GROUP - 1) // GROUP * BLOCK
            for counter in range(cuda.threadIdx.x, counters, threads):
                w0, w1, w2, w3 = philox(begin + counter, state[s.STEP], stream, state[s.SEED])
                place = counter // BLOCK * GROUP + counter % BLOCK
                drop(mask, w0, limit, place, places, line, across, channels, block_size)
                drop(mask, w1, limit, place + BLOCK, places, line, across, channels, block_size)
                drop(mask, w2, limit, place + 2 * BLOCK, places, line, across, channels, block_size)
                drop(mask, w3, limit, place + 3 * BLOCK, places, line, across, channels, block_size)

        @device
        def drop_block(y, x, rate, across, channels, block_size, stream, state):
            rows, columns = x.shape
            for row in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
                mask, source = y[row], x[row]
                for j in range(cuda.threadIdx.x, columns, threads):
                    mask[j] = one
                cuda.syncthreads()
                drop_blocks(mask, row, limit_of(rate), across, channels, block_size, stream, state)
                cuda.syncthreads()
                left = np.int64(0)
                for j in range(cuda.threadIdx.x, columns, threads):
                    left += np.int64(mask[j])
                left = sum_of_block(left)
                scale = real(columns) / real(max(left, np.int64(1)))
                for j in range(cuda.threadIdx.x, columns, threads):
                    mask[j] = source[j] * mask[j] * scale

        return drop_block

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        threads = power_of_two(-(-lengths["F"] // 4), 32, THREADS)
        return Launch(in_blocks(lengths["N"], threads=1), threads, (threads,))

    return Kernel(make, launch)
