"""Rows in and out, gathered by index and written back in order; numbers that vary by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels import state as slot_of
from fastnn.kernels.cpu.ahead import add_run
from fastnn.kernels.cpu.memory import LINE, address, prefetch
from fastnn.kernels.cpu.settings import inlined, kernel
from fastnn.kernels.signatures import ITEM_BYTES

AHEAD_BYTES = 8192
"""How much of the rows to come is asked for ahead: twice as much as a core's misses in flight."""


@inlined
def ask_for_bytes(at, size):
    """Prefetch the cache lines of `size` bytes."""
    for offset in range(0, size, LINE):
        prefetch(at + offset)


def gather(type_name: str, source_type: str) -> Any:
    """``out[i] = source[order[first + i]]``, converted to the type of `out`.

    Without `order`, rows are taken as they stand.
    """
    element, row_size = getattr(np, type_name), ITEM_BYTES[source_type]

    @kernel
    def gather(out, source, order, first):
        rows, columns = out.shape
        if address(order) == 0:
            for i in range(rows):
                for j in range(columns):
                    out[i, j] = element(source[first + i, j])
            return
        if columns == 1:
            for i in range(rows):
                out[i, 0] = element(source[order[first + i], 0])
            return
        # Rows lie all over memory: those to come are asked for while one is copied.
        row_bytes = columns * row_size
        ahead = min(max(1, AHEAD_BYTES // row_bytes), rows)
        for i in range(ahead):
            ask_for_bytes(address(source) + order[first + i] * row_bytes, row_bytes)
        for i in range(rows):
            if i + ahead < rows:
                ask_for_bytes(address(source) + order[first + i + ahead] * row_bytes, row_bytes)
            row = order[first + i]
            for j in range(columns):
                out[i, j] = element(source[row, j])

    return gather


def gather_supply(type_name: str, source_type: str) -> Any:
    """The same for a few rows of `out`, which have been asked for.

    Where `asked` is not 0, the rows' lines are put on the list at that address, see ``ahead``.
    """
    element, row_size = getattr(np, type_name), ITEM_BYTES[source_type]

    @kernel
    def gather_supply(out, source, order, first, asked):
        rows, columns = out.shape
        if asked != 0:
            row_bytes = columns * row_size
            for i in range(rows):
                add_run(asked, address(source) + order[first + i] * row_bytes, row_bytes)
            return
        for i in range(rows):
            row = order[first + i]
            for j in range(columns):
                out[i, j] = element(source[row, j])

    return gather_supply


def scatter(type_name: str) -> Any:
    """``out[first + i] = source[i]``."""

    @kernel
    def scatter(out, source, first):
        for i in range(source.shape[0]):
            for j in range(source.shape[1]):
                out[first + i, j] = source[i, j]

    return scatter


def number_of_step(type_name: str) -> Any:
    """This step's number, out of those of an epoch's steps, into the `slot` of `floats`."""

    @kernel
    def number_of_step(numbers, slot, state, floats):
        floats[slot] = numbers[state[slot_of.FIRST] // state[slot_of.BATCH]]

    return number_of_step
