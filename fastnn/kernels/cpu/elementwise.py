"""Element by element: the kernels of each activation in the table of `activations`, and sums."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fastnn.kernels.activations import WITH_OWN, Elementwise
from fastnn.kernels.cpu.in_place import in_place_or_apart
from fastnn.kernels.cpu.settings import inlined
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

    forward = in_place_or_apart(loop, "y x")
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

    backward = in_place_or_apart(loop, "dx dy", f"dx dy {line.of} parameter")
    return lambda type_name: backward


def add(type_name: str) -> Any:
    """The kernel ``y = x + other``, overwriting y; one-dimensional, any length."""

    @inlined
    def loop(y, x, other):
        for i in range(y.size):
            y[i] = x[i] + other[i]

    return in_place_or_apart(loop, "y x")


@cache
def _kernel(name: str) -> Callable[[str], Any]:
    activation, _, way = name.rpartition("_")
    line = WITH_OWN[activation]
    return activation_forward(line) if way == "forward" else activation_backward(line)


def __getattr__(name: str) -> Callable[[str], Any]:
    """``relu_forward`` and so on: what the table has a line for."""
    if name.removesuffix("_forward").removesuffix("_backward") not in WITH_OWN:
        raise AttributeError(f"no elementwise kernel is called {name!r}")
    return _kernel(name)
