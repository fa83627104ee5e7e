"""The parametric rectifier ``y = x`` where x is positive, else ``alpha·x``, alpha learned.

Rows have F elements, alpha A. `place` (F,) says for each element which of them is its own, and
`members` (A, S) for each of them which elements are its own; both are left out where F is A.

The gradient of alpha is summed up over the batch in one op and over members in the next, each sum
in float64, by one thread and in the order of rows or members.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.activations import leaky_relu, leaky_relu_derivative
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.settings import inlined, kernel

CHUNK = 4096
"""Elements of a row that are done at a time: their slopes stay in the L1 cache."""

COLUMNS = 256
"""Columns that are summed up at a time."""


def _by_chunks(body: Any, type_name: str) -> Any:
    """The loop ``body(out, dy, x, slopes)`` over parts of rows, compiled for one array as out and
    dy, and for two.
    """
    vector, size = view(type_name, 1), np.dtype(type_name).itemsize

    @inlined
    def part_of(array, n, first, length):
        return vector(address(array) + (n * array.shape[1] + first) * size, (length,))

    @inlined
    def slopes_of(alpha, place, first, length, workspace):
        if address(place) == 0:
            return vector(address(alpha) + first * size, (length,))
        slopes = vector(workspace, (length,))
        for i in range(length):
            slopes[i] = alpha[place[first + i]]
        return slopes

    @inlined
    def chunks(out, dy, x, alpha, place, workspace):
        columns = x.shape[1]
        for first in range(0, columns, CHUNK):
            length = min(CHUNK, columns - first)
            slopes = slopes_of(alpha, place, first, length, workspace)
            for n in range(x.shape[0]):
                row, given = part_of(out, n, first, length), part_of(x, n, first, length)
                if address(out) == address(dy):
                    body(row, row, given, slopes)
                else:
                    body(row, part_of(dy, n, first, length), given, slopes)

    return chunks


def prelu_forward(type_name: str) -> Any:
    """``y = x`` where x is positive, else ``alpha·x``, overwriting y."""

    @inlined
    def body(y, x, same, slopes):
        for i in range(y.size):
            y[i] = leaky_relu(x[i], slopes[i])

    chunks = _by_chunks(body, type_name)

    @kernel
    def prelu_forward(y, x, alpha, place, workspace):
        chunks(y, x, x, alpha, place, workspace)

    return prelu_forward


def prelu_backward(type_name: str) -> Any:
    """``dx = dy`` where x is positive, else ``alpha·dy``, overwriting dx."""

    @inlined
    def body(dx, dy, x, slopes):
        for i in range(dx.size):
            dx[i] = dy[i] * leaky_relu_derivative(x[i], slopes[i])

    chunks = _by_chunks(body, type_name)

    @kernel
    def prelu_backward(dx, dy, x, alpha, place, workspace):
        chunks(dx, dy, x, alpha, place, workspace)

    return prelu_backward


def prelu_sums(type_name: str) -> Any:
    """``sums`` = Σ_n dy·x, of the rows where x is not positive: each element's part of dalpha."""
    real, vector, wide = getattr(np, type_name), view(type_name, 1), view("float64", 1)
    size = np.dtype(type_name).itemsize

    @kernel
    def prelu_sums(sums, dy, x, rank, team):
        columns = sums.size
        for first in range(rank * COLUMNS, columns, team * COLUMNS):
            length = min(COLUMNS, columns - first)
            part = wide(address(sums) + first * 8, (length,))
            for n in range(x.shape[0]):
                at = (n * columns + first) * size
                row, given = vector(address(dy) + at, (length,)), vector(address(x) + at, (length,))
                for i in range(length):
                    below = real(0) if given[i] > real(0) else given[i]
                    # Not set to 0 before: LLVM would call memset, which no object file may.
                    before = part[i] if n > 0 else 0.0
                    part[i] = before + np.float64(row[i]) * np.float64(below)

    return prelu_sums


def sum_members(type_name: str) -> Any:
    """``total`` = Σ_s sums[members[a, s]], overwriting total (A,)."""
    real = getattr(np, type_name)

    @kernel
    def sum_members(total, sums, members, rank, team):
        for a in range(rank * total.size // team, (rank + 1) * total.size // team):
            if address(members) == 0:
                total[a] = real(sums[a])
            else:
                value = 0.0
                for s in range(members.shape[1]):
                    value += sums[members[a, s]]
                total[a] = real(value)

    return sum_members
