"""Metrics, a value for each row, and the sums that an epoch's figures are made of.

What adds to `sums`, the float64 vector of a run, is done by one thread, row by row.
"""

from __future__ import annotations

import math
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
            best = row_argmax(z, i)
            hit = best == labels[i] and z[i, best] == z[i, best]
            hits[i] = real(1) if hit else real(0)

    return categorical_accuracy


def categorical_accuracy_soft(type_name: str) -> Any:
    """``hits`` = 1 where a row's largest z and largest target stand in one column, else 0."""
    real = getattr(np, type_name)

    @kernel
    def categorical_accuracy_soft(hits, z, targets):
        for i in range(hits.size):
            best = row_argmax(z, i)
            hit = best == row_argmax(targets, i) and z[i, best] == z[i, best]
            hits[i] = real(1) if hit else real(0)

    return categorical_accuracy_soft


def binary_accuracy(type_name: str) -> Any:
    """``hits`` = the share of a row's columns where (z > threshold) equals (target > 0.5)."""
    real = getattr(np, type_name)

    @kernel
    def binary_accuracy(hits, z, targets, threshold):
        for i in range(hits.size):
            right = 0
            for j in range(z.shape[1]):
                value = z[i, j]
                if value == value and (value > real(threshold)) == (targets[i, j] > real(0.5)):
                    right += 1
            hits[i] = real(right) / real(z.shape[1])

    return binary_accuracy


def top_k_accuracy(type_name: str) -> Any:
    """``hits`` = 1 where fewer than k of a row's z are above that of its largest target, else 0."""
    real = getattr(np, type_name)

    @kernel
    def top_k_accuracy(hits, z, targets, k):
        for i in range(hits.size):
            own, left, j = z[i, row_argmax(targets, i)], k, 0
            while True:  # a row has a column: for none, LLVM would call the C library's memset
                left -= 1 if z[i, j] > own else 0
                j += 1
                if j >= z.shape[1]:
                    break
            hits[i] = real(1) if left > 0 and own == own else real(0)

    return top_k_accuracy


def count_positives(type_name: str) -> Any:
    """Add for each column j: rows right, said and true positive, to `sums` from ``at + 3j`` on.

    A target above ½ is positive; so is a z above `threshold`, or with `largest` a row's largest.
    """
    real = getattr(np, type_name)

    @kernel
    def count_positives(sums, z, targets, at, threshold, largest):
        for i in range(z.shape[0]):
            best = row_argmax(z, i)
            for j in range(z.shape[1]):
                said = j == best if largest != 0 else z[i, j] > real(threshold)
                true = targets[i, j] > real(0.5)
                sums[at + 3 * j] += 1.0 if said and true else 0.0
                sums[at + 3 * j + 1] += 1.0 if said else 0.0
                sums[at + 3 * j + 2] += 1.0 if true else 0.0

    return count_positives


def count_confusion(type_name: str) -> Any:
    """Count rows of class a that are taken for class b, in `sums` at ``at + a · classes + b``.

    One column stands for two classes, the second above `threshold` (the target's above ½).
    """
    real = getattr(np, type_name)

    @kernel
    def count_confusion(sums, z, targets, at, threshold):
        columns = z.shape[1]
        for i in range(z.shape[0]):
            if columns == 1:
                true, said = int(targets[i, 0] > real(0.5)), int(z[i, 0] > real(threshold))
            else:
                true, said = row_argmax(targets, i), row_argmax(z, i)
            sums[at + true * max(columns, 2) + said] += 1.0

    return count_confusion


def count_buckets(type_name: str) -> Any:
    """Add each target and what it lacks to 1 to the two sums of its prediction's bucket.

    Bucket b of `buckets` has the predictions in (b, b + 1] / `buckets`, the first also 0; its sums
    stand from ``at + 2b`` on.
    """
    real = getattr(np, type_name)

    @kernel
    def count_buckets(sums, z, targets, at, buckets):
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                place, bucket = z[i, j] * real(buckets), 0
                if place > real(1):  # NaN is in the first one
                    bucket = math.ceil(min(place, real(buckets))) - 1
                sums[at + 2 * bucket] += targets[i, j]
                sums[at + 2 * bucket + 1] += real(1) - targets[i, j]

    return count_buckets


def count_close(type_name: str) -> Any:
    """Count in ``sums[at]`` the elements of z within ``sums[at + 1]`` of their targets."""

    @kernel
    def count_close(sums, z, targets, at):
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                close = abs(np.float64(z[i, j]) - targets[i, j]) < sums[at + 1]
                sums[at] += 1.0 if close else 0.0

    return count_close


def sum_squares(type_name: str) -> Any:
    """For each column j, from ``at + 3j`` on: its targets' mean, their squares about it, (z − y)².

    The mean and the sum of squares are kept up to date row by row (Welford 1962): nothing cancels
    where targets are far from 0.
    """

    @kernel
    def sum_squares(sums, z, targets, at, first):
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                k, y = at + 3 * j, np.float64(targets[i, j])
                error, before = z[i, j] - y, y - sums[k]
                sums[k] += before / (first + i + 1)
                sums[k + 1] += before * (y - sums[k])
                sums[k + 2] += error * error

    return sum_squares


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
