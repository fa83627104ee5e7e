"""Activations element by element, and sums: out of the same formulas as the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastnn.kernels.activations import WITH_OWN, Elementwise
from fastnn.kernels.cuda.launch import Kernel
from fastnn.kernels.cuda.maps import over_elements
from fastnn.kernels.cuda.target import device


def _numbers(type_name: str) -> Any:
    """The activation's parameter, in the type of the elements."""
    real = getattr(np, type_name)

    @device
    def numbers(parameter):
        return (real(parameter),)

    return numbers


def activation_forward(line: Elementwise) -> Callable[[str], Kernel]:
    """The kernel ``y = f(x)``, overwriting y."""
    formula, of_two = line.formula, line.parameter is not None

    @device
    def forward(x, numbers):
        if of_two:
            return (formula(x, numbers[0]),)
        return (formula(x),)

    return lambda type_name: over_elements(type_name, ["y"], ["x"], forward, _numbers(type_name))


def activation_backward(line: Elementwise) -> Callable[[str], Kernel]:
    """The kernel ``dx = dy · f'``, of the output y or the input x, overwriting dx."""
    derivative, of_two = line.derivative, line.parameter is not None

    @device
    def backward(dy, kept, numbers):
        if of_two:
            return (dy * derivative(kept, numbers[0]),)
        return (dy * derivative(kept),)

    inputs = ["dy", line.of]
    return lambda type_name: over_elements(type_name, ["dx"], inputs, backward, _numbers(type_name))


def add(type_name: str) -> Kernel:
    """The kernel ``y = x + other``, overwriting y."""

    @device
    def added(x, other, numbers):
        return (x + other,)

    return over_elements(type_name, ["y"], ["x", "other"], added)


@cache
def _factory(name: str) -> Callable[[str], Kernel]:
    activation, _, way = name.rpartition("_")
    line = WITH_OWN[activation]
    return activation_forward(line) if way == "forward" else activation_backward(line)


def __getattr__(name: str) -> Callable[[str], Kernel]:
    """``relu_forward`` and so on: what the table has a line for."""
    if name.removesuffix("_forward").removesuffix("_backward") not in WITH_OWN:
        raise AttributeError(f"no elementwise kernel is called {name!r}")
    return _factory(name)
