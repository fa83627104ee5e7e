"""The parametric rectifier: the same operands and sums as the CPU's, see there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.activations import leaky_relu, leaky_relu_derivative
from fastnn.kernels.cuda.column_maps import over_columns
from fastnn.kernels.cuda.column_sums import column_sums, launch_for
from fastnn.kernels.cuda.groups import WARP, sum_over
from fastnn.kernels.cuda.launch import THREADS, Kernel, Launch, Lengths, in_blocks, power_of_two
from fastnn.kernels.cuda.memory import address, given, view
from fastnn.kernels.cuda.target import cuda, device

MEMBERS_EACH = 4
"""Members of a sum that a thread takes at least."""


@device
def slope_of_column(column, alpha, place):
    """The alpha of an element."""
    return alpha[place[column] if given(place) else column]


def prelu_forward(type_name: str) -> Kernel:
    """``y = x`` where x is positive, else ``alpha·x``, overwriting y."""

    @device
    def forward(x, slope):
        return (leaky_relu(x, slope),)

    return over_columns(type_name, ["y"], ["x"], forward, slope_of_column, "F")


def prelu_backward(type_name: str) -> Kernel:
    """``dx = dy`` where x is positive, else ``alpha·dy``, overwriting dx."""

    @device
    def backward(dy, x, slope):
        return (dy * leaky_relu_derivative(x, slope),)

    return over_columns(type_name, ["dx"], ["dy", "x"], backward, slope_of_column, "F")


def prelu_sums(type_name: str) -> Kernel:
    """``sums`` = Σ_n dy·x, of the rows where x is not positive: each element's part of dalpha."""
    zero, flat, float64 = getattr(np, type_name)(0), view(type_name, 1), types.float64

    @device
    def term(i, column, dy, x):
        below = zero if x[i] > zero else x[i]
        return (np.float64(dy[i]) * np.float64(below),)

    def make(across: int, threads: int) -> Any:
        add_up = column_sums(across, threads, 1, term)

        @device
        def prelu_sums(sums, dy, x, state, workspace):
            rows, columns = x.shape
            totals = cuda.local.array(1, float64)
            column = add_up(totals, rows, columns, state, workspace,
                            flat(address(dy), (dy.size,)),
                            flat(address(x), (x.size,)))  # fmt: skip
            if column >= 0:
                sums[column] = totals[0]

        return prelu_sums

    return Kernel(make, lambda lengths, aligned: launch_for(lengths["N"], lengths["F"], 1))


def sum_members(type_name: str) -> Kernel:
    """``total`` = Σ_s sums[members[a, s]], overwriting total (A,)."""
    real = getattr(np, type_name)

    def make(size: int) -> Any:
        sum_of_group = sum_over("float64", size)

        @device
        def sum_members(total, sums, members):
            count, groups = total.size, cuda.blockDim.x // size
            group, lane = cuda.threadIdx.x // size, cuda.threadIdx.x % size
            for begin in range(cuda.blockIdx.x * groups, count, cuda.gridDim.x * groups):
                a, value = begin + group, 0.0
                if a < count:
                    if given(members):
                        for s in range(lane, members.shape[1], size):
                            value += sums[members[a, s]]
                    elif lane == 0:
                        value = sums[a]
                value = sum_of_group(value)
                if lane == 0 and a < count:
                    total[a] = real(value)

        return sum_members

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        size = power_of_two(-(-lengths["S"] // MEMBERS_EACH), 1, THREADS)
        threads = size if size > WARP else power_of_two(size * lengths["A"], WARP, THREADS)
        return Launch(in_blocks(lengths["A"], threads // size), threads, (size,))

    return Kernel(make, launch)
