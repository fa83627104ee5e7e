"""Rows in and out, gathered by index and written back in order; numbers that vary by step."""

from __future__ import annotations

import numpy as np

from fastnn.kernels import state as s
from fastnn.kernels.cuda.launch import Kernel, by_element, by_one_thread
from fastnn.kernels.cuda.memory import given
from fastnn.kernels.cuda.target import cuda, device


def gather(type_name: str, source_type: str) -> Kernel:
    """``out[i] = source[order[first + i]]``, converted to the type of `out`.

    Without `order`, rows are taken as they stand.
    """
    element = getattr(np, type_name)

    @device
    def gather(out, source, order, first):
        columns = out.shape[1]
        for place in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            i, j = place // columns, place % columns
            row = order[first + i] if given(order) else first + i
            out[i, j] = element(source[row, j])

    return by_element(gather)


def scatter(type_name: str) -> Kernel:
    """``out[first + i] = source[i]``."""

    @device
    def scatter(out, source, first):
        columns = source.shape[1]
        for place in range(cuda.grid(1), source.size, cuda.gridsize(1)):
            i, j = place // columns, place % columns
            out[first + i, j] = source[i, j]

    return by_element(scatter)


def number_of_step(type_name: str) -> Kernel:
    """This step's number, out of those of an epoch's steps, into the `slot` of `floats`."""

    @device
    def number_of_step(numbers, slot, state, floats):
        floats[slot] = numbers[state[s.FIRST] // state[s.BATCH]]

    return by_one_thread(number_of_step)
