"""Targets in the form that a loss or a metric takes them."""

from __future__ import annotations

import numpy as np

from fastnn.kernels.cuda.launch import Kernel, by_element
from fastnn.kernels.cuda.maps import loop_over
from fastnn.kernels.cuda.memory import address, lanes_of, view
from fastnn.kernels.cuda.target import device


def affine(type_name: str) -> Kernel:
    """``y = scale · x + shift``, overwriting y (N, F)."""
    real, flat = getattr(np, type_name), view(type_name, 1)

    @device
    def moved(x, numbers):
        return (numbers[0] * x + numbers[1],)

    move = loop_over(type_name, ["y"], ["x"], moved)

    @device
    def affine(y, x, scale, shift):
        shape = (x.size,)
        move(flat(address(y), shape), flat(address(x), shape), (real(scale), real(shift)))

    return by_element(affine, each=lanes_of(type_name))
