"""Activations, element by element, out of the scalar formulas; softmax, row by row.

A kernel may be given one array as output and input. The loop then is compiled with that one array
in both places: told apart only at run time, the two would look as if they overlapped, and LLVM
would take its scalar loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.kernels import scalar
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.settings import inlined, kernel, reduction
from fastnn.kernels.scalar import like
from fastnn.kernels.signatures import ITEM_BYTES
from fastnn.kernels.transcendental import exp


def activation_forward(formula: Any) -> Callable[[str], Any]:
    """The kernel ``y = formula(x)``, overwriting y; one-dimensional, any length."""

    @inlined
    def loop(y, x):
        for i in range(y.size):
            y[i] = formula(x[i])

    @kernel
    def forward(y, x):
        if address(y) == address(x):
            loop(y, y)
        else:
            loop(y, x)

    return lambda type_name: forward


def activation_backward(derivative: Any) -> Callable[[str], Any]:
    """The kernel ``dx = dy · derivative(y)`` of the output y, overwriting dx."""

    @inlined
    def loop(dx, dy, y):
        for i in range(dx.size):
            dx[i] = dy[i] * derivative(y[i])

    @kernel
    def backward(dx, dy, y):
        if address(dx) == address(dy):
            loop(dx, dx, y)
        else:
            loop(dx, dy, y)

    return lambda type_name: backward


relu_forward = activation_forward(scalar.relu)
relu_backward = activation_backward(scalar.relu_derivative)
sigmoid_forward = activation_forward(scalar.sigmoid)
sigmoid_backward = activation_backward(scalar.sigmoid_derivative)
tanh_forward = activation_forward(scalar.tanh)
tanh_backward = activation_backward(scalar.tanh_derivative)


@inlined
def row_max(z, i):
    """The largest element of row i; a NaN is passed over here, and met by the sum."""
    largest = z[i, 0]
    for j in range(1, z.shape[1]):
        largest = z[i, j] if z[i, j] > largest else largest
    return largest


@inlined
def row_shift(p, z, i, shift):
    """Row i of p becomes z − shift."""
    for j in range(z.shape[1]):
        p[i, j] = z[i, j] - shift


@reduction
def row_sum(p, i):
    """The sum of row i."""
    total = like(p[i, 0], 0)
    for j in range(p.shape[1]):
        total += p[i, j]
    return total


@reduction
def row_dot(a, b, i):
    """The inner product of row i of a and of b."""
    total = like(a[i, 0], 0)
    for j in range(a.shape[1]):
        total += a[i, j] * b[i, j]
    return total


@inlined
def row_scale(p, i, factor):
    """Row i of p times `factor`."""
    for j in range(p.shape[1]):
        p[i, j] *= factor


BLOCK_ELEMENTS = 2048
"""Rows are exponentiated so many elements at a time: few enough to stay in the L1 cache."""


@inlined
def rows_of_block(p):
    """How many rows of p make a block."""
    return max(1, BLOCK_ELEMENTS // p.shape[1])


def exp_rows(type_name: str) -> Any:
    """The function that exponentiates rows `begin` to `end` of p, in place.

    As one vector whatever the rows' length: ten classes would leave most of a vector register
    empty.
    """
    size, vector = ITEM_BYTES[type_name], view(type_name, 1)

    @inlined
    def exp_rows(p, begin, end):
        columns = p.shape[1]
        flat = vector(address(p) + begin * columns * size, ((end - begin) * columns,))
        for i in range(flat.size):
            flat[i] = exp(flat[i])

    return exp_rows


def softmax_forward(type_name: str) -> Any:
    """``y = e^(x − max x) / Σ e^(x − max x)`` row by row, overwriting y (N, C)."""
    exp_block = exp_rows(type_name)

    @inlined
    def rows(y, x):
        step = rows_of_block(y)
        for begin in range(0, y.shape[0], step):
            end = min(begin + step, y.shape[0])
            for i in range(begin, end):
                row_shift(y, x, i, row_max(x, i))
            exp_block(y, begin, end)
            for i in range(begin, end):
                total = row_sum(y, i)
                row_scale(y, i, like(total, 1) / total)

    @kernel
    def softmax_forward(y, x):
        if address(y) == address(x):
            rows(y, y)
        else:
            rows(y, x)

    return softmax_forward


def softmax_backward(type_name: str) -> Any:
    """``dx = y ⊙ (dy − Σ dy⊙y)`` row by row, overwriting dx (N, C); y is the output."""

    @inlined
    def rows(dx, dy, y):
        for i in range(dx.shape[0]):
            mean = row_dot(dy, y, i)
            for j in range(dx.shape[1]):
                dx[i, j] = y[i, j] * (dy[i, j] - mean)

    @kernel
    def softmax_backward(dx, dy, y):
        if address(dx) == address(dy):
            rows(dx, dx, y)
        else:
            rows(dx, dy, y)

    return softmax_backward
