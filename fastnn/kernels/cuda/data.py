"""Rows in and out, gathered by index and written back in order; numbers that vary by step."""

from __future__ import annotations

import numpy as np

from fastnn.kernels import state as s
from fastnn.kernels.cuda.launch import Kernel, by_element, by_one_thread
from fastnn.kernels.cuda.memory import given
from fastnn.kernels.cuda.target import cuda, device

MOST_SMALL = 1 << 32
"""Elements up to which their places are unsigned integers of 32 bits: these a GPU divides by in a
fifth of the instructions."""


@device
def row_and_column(place, columns, is_small):
    """Where in rows of so many columns an element stands."""
    if is_small:
        own, length = np.uint32(place), np.uint32(columns)
        return np.int64(own // length), np.int64(own % length)
    return place // columns, place % columns


def gather(type_name: str, source_type: str) -> Kernel:
    """``out[i] = source[order[first + i]]``, converted to the type of `out`.

    Without `order`, rows are taken as they stand.
    """
    element = getattr(np, type_name)

    @device
    def gather(out, source, order, first):
        columns, is_small = out.shape[1], out.size < MOST_SMALL
        for place in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            i, j = row_and_column(place, columns, is_small)
            row = order[first + i] if given(order) else first + i
            out[i, j] = element(source[row, j])

    return by_element(gather)


def scatter(type_name: str) -> Kernel:
    """``out[first + i] = source[i]``."""

    @device
    def scatter(out, source, first):
        columns, is_small = source.shape[1], source.size < MOST_SMALL
        for place in range(cuda.grid(1), source.size, cuda.gridsize(1)):
            i, j = row_and_column(place, columns, is_small)
            out[first + i, j] = source[i, j]

    return by_element(scatter)


def number_of_step(type_name: str) -> Kernel:
    """This step's number, out of those of an epoch's steps, into the `slot` of `floats`."""

    @device
    def number_of_step(numbers, slot, state, floats):
        floats[slot] = numbers[state[s.FIRST] // state[s.BATCH]]

    return by_one_thread(number_of_step)
