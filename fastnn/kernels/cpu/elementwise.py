"""Element by element: the kernels of each activation in the table of `activations`, and sums.

A kernel may be given one array as output and input. The loop then is compiled with that one array
in both places: told apart only at run time, the two would look as if they overlapped, and LLVM
would take its scalar loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fastnn.kernels.activations import ELEMENTWISE, Elementwise
from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.settings import inlined, kernel
from fastnn.kernels.formula import like


def activation_forward(line: Elementwise) -> Callable[[str], Any]:
    """The kernel ``y = f(x)``, overwriting y; one-dimensional, any length."""
    function, of_two = line.formula, line.parameter is not None

    @inlined
    def loop(y, x, parameter):
        for i in range(y.size):
            if of_two:
                y[i] = function(x[i], like(x[i], parameter))
            else:
                y[i] = function(x[i])

    @kernel
    def forward(y, x, parameter):
        if address(y) == address(x):
            loop(y, y, parameter)
        else:
            loop(y, x, parameter)

    return lambda type_name: forward


def activation_backward(line: Elementwise) -> Callable[[str], Any]:
    """The kernel ``dx = dy · f'``, of the output y or the input x, overwriting dx."""
    derivative, of_two = line.derivative, line.parameter is not None

    @inlined
    def loop(dx, dy, kept, parameter):
        for i in range(dx.size):
            if of_two:
                dx[i] = dy[i] * derivative(kept[i], like(kept[i], parameter))
            else:
                dx[i] = dy[i] * derivative(kept[i])

    @kernel
    def of_output(dx, dy, y, parameter):
        if address(dx) == address(dy):
            loop(dx, dx, y, parameter)
        else:
            loop(dx, dy, y, parameter)

    @kernel
    def of_input(dx, dy, x, parameter):
        if address(dx) == address(dy):
            loop(dx, dx, x, parameter)
        else:
            loop(dx, dy, x, parameter)

    return lambda type_name: of_output if line.of == "y" else of_input


def add(type_name: str) -> Any:
    """The kernel ``y = x + other``, overwriting y; one-dimensional, any length."""

    @inlined
    def loop(y, x, other):
        for i in range(y.size):
            y[i] = x[i] + other[i]

    @kernel
    def add(y, x, other):
        if address(y) == address(x):
            loop(y, y, other)
        else:
            loop(y, x, other)

    return add


@cache
def _kernel(name: str) -> Callable[[str], Any]:
    activation, _, way = name.rpartition("_")
    line = ELEMENTWISE[activation]
    return activation_forward(line) if way == "forward" else activation_backward(line)


def __getattr__(name: str) -> Callable[[str], Any]:
    """``relu_forward`` and so on: what the table has a line for."""
    if name.removesuffix("_forward").removesuffix("_backward") not in ELEMENTWISE:
        raise AttributeError(f"no elementwise kernel is called {name!r}")
    return _kernel(name)
