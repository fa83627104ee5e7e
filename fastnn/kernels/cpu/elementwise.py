"""Activations, element by element, out of the scalar formulas.

A kernel may be given one array as output and input. The loop then is compiled with that one array
in both places: told apart only at run time, the two would look as if they overlapped, and LLVM
would take its scalar loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.kernels import scalar
from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.settings import inlined, kernel


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
