"""Normalisation of columns: the same numbers as the CPU's, see there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.column_maps import over_columns
from fastnn.kernels.cuda.column_sums import column_sums, launch_for
from fastnn.kernels.cuda.launch import Kernel, Launch, Lengths
from fastnn.kernels.cuda.maps import over_elements
from fastnn.kernels.cuda.memory import address, given, view
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.normalization import moved
from fastnn.kernels.scalar import is_finite

FIRST = 8
"""Rows whose mean is near that of all, where there are so many."""

float64 = types.float64


def _sums_launch(lengths: Lengths, aligned: bool) -> Launch:
    """A launch of two sums down the columns of x (N, F)."""
    return launch_for(lengths["N"] * lengths["F"] // lengths["C"], lengths["C"], 2)


def batch_statistics(type_name: str) -> Kernel:
    """Mean, as `mean` + `low`, and ``variance = Σ (x − mean)²/M`` of each column of x."""
    real, flat = getattr(np, type_name), view(type_name, 1)

    @device
    def first_mean(x, rows, columns, column):
        """The mean of the first rows, which are in the sums themselves."""
        count = FIRST if rows >= FIRST else 1
        total = real(0)
        for row in range(count):
            total += x[row * columns + column]
        return total * real(1.0 / count)

    @device
    def term(i, column, x, near):
        centred = x[i] - near
        return centred, centred * centred

    def make(across: int, threads: int) -> Any:
        sums = column_sums(across, threads, 2, term)

        @device
        def batch_statistics(mean, low, variance, x, state, workspace):
            columns = mean.size
            rows, rows_of = x.size // columns, flat(address(x), (x.size,))
            totals = cuda.local.array(2, float64)
            own = cuda.blockIdx.x * across + cuda.threadIdx.x % across
            near = first_mean(rows_of, rows, columns, own) if own < columns else real(0)
            column = sums(totals, rows, columns, state, workspace, rows_of, near)
            if column >= 0:
                distance = totals[0] / rows
                exact = np.float64(near) + distance
                rounded = real(exact)
                mean[column] = rounded
                low[column] = real(exact - np.float64(rounded))
                spread = (totals[1] - distance * totals[0]) / rows
                variance[column] = real(0.0 if spread < 0.0 else spread)

        return batch_statistics

    return Kernel(make, _sums_launch)


def batch_normalization_parameters(type_name: str) -> Kernel:
    """``dgamma = Σ dy·x̂`` and ``dbeta = Σ dy`` with x̂ = (x − mean)/√(variance + ε), by columns."""
    real, flat = getattr(np, type_name), view(type_name, 1)

    @device
    def term(i, column, dy, x, near):
        slope = dy[i]
        return slope, slope * (x[i] - near)

    def make(across: int, threads: int) -> Any:
        sums = column_sums(across, threads, 2, term)

        @device
        def batch_normalization_parameters(dgamma, dbeta, dy, x, mean, low, variance, epsilon,
                                           state, workspace):  # fmt: skip
            columns = mean.size
            totals = cuda.local.array(2, float64)
            own = cuda.blockIdx.x * across + cuda.threadIdx.x % across
            near = mean[own] if own < columns else real(0)
            column = sums(totals, x.size // columns, columns, state, workspace,
                          flat(address(dy), (dy.size,)), flat(address(x), (x.size,)),
                          near)  # fmt: skip
            if column >= 0:
                products = totals[1] - np.float64(low[column]) * totals[0]
                root = math.sqrt(np.float64(variance[column]) + epsilon)
                dgamma[column], dbeta[column] = real(products / root), real(totals[0])

        return batch_normalization_parameters

    return Kernel(make, _sums_launch)


def normalize_columns(type_name: str) -> Kernel:
    """``y = γ·(x − mean)/√max(variance + ε, least) + β``, overwriting y; y may be x.

    `mean`, `low`, `gamma` and `beta` may be left out: 0, 0, 1, 0.
    """
    real = getattr(np, type_name)
    zero, one = real(0), real(1)

    @device
    def numbers(column, mean, low, variance, gamma, beta, epsilon, least):
        """`near`, `factor` and `sum` of ``y = factor·(x − near) + sum``."""
        square = variance[column] + real(epsilon)
        square = real(least) if square < real(least) else square
        factor = (gamma[column] if given(gamma) else one) / real(math.sqrt(square))
        near = mean[column] if given(mean) else zero
        lost = low[column] if given(low) else zero
        return near, factor, (beta[column] if given(beta) else zero) - lost * factor

    @device
    def normalized(x, numbers):
        near, factor, sum_ = numbers
        return (factor * (x - near) + sum_,)

    return over_columns(type_name, ["y"], ["x"], normalized, numbers, "C")


def batch_normalization_backward(type_name: str) -> Kernel:
    """``dx = γ/√(variance + ε)·(dy − dbeta/M − x̂·dgamma/M)``, overwriting dx; dx may be dy."""
    real = getattr(np, type_name)

    @device
    def numbers(column, mean, low, variance, gamma, dgamma, dbeta, epsilon, N, F, C):
        """`near`, `factor`, `sum`, `slope` of ``dx = slope·dy + (factor·(x − near) + sum)``."""
        count = real(N * (F // C))
        divisor = real(math.sqrt(variance[column] + real(epsilon)))
        slope = (gamma[column] if given(gamma) else real(1)) / divisor
        factor = -(slope * (dgamma[column] / count / divisor))
        sum_ = -(factor * low[column] + slope * (dbeta[column] / count))
        return mean[column], factor, sum_, slope

    @device
    def backward(dy, x, numbers):
        near, factor, sum_, slope = numbers
        return (slope * dy + (factor * (x - near) + sum_),)

    return over_columns(type_name, ["dx"], ["dy", "x"], backward, numbers, "C")


def moving_average(type_name: str) -> Kernel:
    """``average = momentum·average + (1 − momentum)·value``, in its place.

    An element that would not be finite stays what it was, and a flag is raised.
    """
    real = getattr(np, type_name)

    @device
    def numbers(momentum):
        return (momentum,)

    @device
    def averaged(average, value, numbers):
        new = real(moved(average, value, numbers[0]))
        finite = is_finite(new)
        return new if finite else average, not finite

    return over_elements(
        type_name,
        ["average"],
        ["average", "value"],
        averaged,
        numbers,
        dimensions="P",
        flags=True,
    )
