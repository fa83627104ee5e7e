"""Metrics, a value for each row, and the sums that an epoch's figures are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu.flag import raise_flag
from fastnn.kernels.cpu.settings import inlined, kernel


@inlined
def row_argmax(z, i):
    """The column of row i's largest element, the first where several are."""
    best = 0
    for j in range(1, z.shape[1]):
        if z[i, j] > z[i, best]:
            best = j
    return best


def categorical_accuracy(type_name: str) -> Any:
    """``hits`` = 1 where the largest of a row's z stands at its label, else 0."""
    real = getattr(np, type_name)

    @kernel
    def categorical_accuracy(hits, z, labels):
        for i in range(hits.size):
            hits[i] = real(1) if row_argmax(z, i) == labels[i] else real(0)

    return categorical_accuracy


def categorical_accuracy_soft(type_name: str) -> Any:
    """``hits`` = 1 where a row's largest z and largest target stand in one column, else 0."""
    real = getattr(np, type_name)

    @kernel
    def categorical_accuracy_soft(hits, z, targets):
        for i in range(hits.size):
            hits[i] = real(1) if row_argmax(z, i) == row_argmax(targets, i) else real(0)

    return categorical_accuracy_soft


def binary_accuracy(type_name: str) -> Any:
    """``hits`` = the share of a row's columns where (z > threshold) equals (target > 0.5)."""
    real = getattr(np, type_name)

    @kernel
    def binary_accuracy(hits, z, targets, threshold):
        for i in range(hits.size):
            right = 0
            for j in range(z.shape[1]):
                if (z[i, j] > threshold) == (targets[i, j] > real(0.5)):
                    right += 1
            hits[i] = real(right) / real(z.shape[1])

    return binary_accuracy


def accumulate(type_name: str) -> Any:
    """Add the sum of `values`, in float64, to the state's float slot `slot`.

    With `guard`, a sum that is not finite is not added: it raises the flag that ends the run.
    """

    @kernel
    def accumulate(values, slot, guard, state, floats):
        total = 0.0
        for i in range(values.size):
            total += values[i]
        if guard != 0 and not total - total == 0.0:
            raise_flag(state)
        else:
            floats[slot] += total

    return accumulate
