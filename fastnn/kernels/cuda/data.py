"""Rows in and out, gathered by index and written back in order; numbers that vary by step."""

from __future__ import annotations

import numpy as np

from fastnn.kernels import state as s
from fastnn.kernels.cuda.launch import Kernel, by_element, by_one_thread
from fastnn.kernels.cuda.memory import given
from fastnn.kernels.cuda.target import cuda, device

MOST_COLUMNS = 1 << 31
"""More than a grid has threads: in rows so long none gets beyond the first."""


@device
def row_and_column(place, columns):
    """Where in rows of so many columns an element stands, of which no more than 2³¹ come before.

    A GPU divides by 64 bits in 100 instructions, by 32 in 20.
    """
    own, length = np.uint32(place), np.uint32(min(columns, MOST_COLUMNS))
    return np.int64(own // length), np.int64(own % length)


def gather(type_name: str, source_type: str) -> Kernel:
    """``out[i] = source[order[first + i]]``, converted to the type of `out`.

    Without `order`, rows are taken as they stand.
    """
    element = getattr(np, type_name)

    @device
    def gather(out, source, order, first):
        rows, columns = out.shape
        i, j = row_and_column(cuda.grid(1), columns)
        down, along = row_and_column(cuda.gridsize(1), columns)
        while i < rows:
            row = order[first + i] if given(order) else first + i
            out[i, j] = element(source[row, j])
            i, j = i + down, j + along
            if j >= columns:
                i, j = i + 1, j - columns

    return by_element(gather)


def scatter(type_name: str) -> Kernel:
    """``out[first + i] = source[i]``."""

    @device
    def scatter(out, source, first):
        rows, columns = source.shape
        i, j = row_and_column(cuda.grid(1), columns)
        down, along = row_and_column(cuda.gridsize(1), columns)
        while i < rows:
            out[first + i, j] = source[i, j]
            i, j = i + down, j + along
            if j >= columns:
                i, j = i + 1, j - columns

    return by_element(scatter)


def number_of_step(type_name: str) -> Kernel:
    """This step's number, out of those of an epoch's steps, into the `slot` of `floats`."""

    @device
    def number_of_step(numbers, slot, state, floats):
        floats[slot] = numbers[state[s.FIRST] // state[s.BATCH]]

    return by_one_thread(number_of_step)
