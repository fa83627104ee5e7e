"""Rows in and out: a minibatch gathered by index, results written back in order."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.settings import kernel


def gather(type_name: str, source_type: str) -> Any:
    """``out[i] = source[order[first + i]]``, converted to the type of `out`.

    Without `order`, rows are taken as they stand.
    """
    element = getattr(np, type_name)

    @kernel
    def gather(out, source, order, first):
        for i in range(out.shape[0]):
            row = order[first + i] if address(order) != 0 else first + i
            for j in range(out.shape[1]):
                out[i, j] = element(source[row, j])

    return gather


def scatter(type_name: str) -> Any:
    """``out[first + i] = source[i]``."""

    @kernel
    def scatter(out, source, first):
        for i in range(source.shape[0]):
            for j in range(source.shape[1]):
                out[first + i, j] = source[i, j]

    return scatter
