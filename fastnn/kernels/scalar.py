"""One formula each: plain scalar functions, compiled for every target and callable as Python.

Arguments are float32 or float64 scalars of one type, and so is the result. ``like(x, 2)`` is the
constant 2 in the type of x: a bare ``2`` would widen a float32 formula to float64.
"""

from __future__ import annotations

import math

from fastnn.kernels.formula import formula, like, smallest_normal
from fastnn.kernels.transcendental import sigmoid

__all__ = [
    "adam_moments",
    "adam_update",
    "flushed",
    "is_finite",
    "like",
    "sgd_velocity",
    "sigmoid",
    "smallest_normal",
]


@formula
def is_finite(x):
    """Whether x is neither infinite nor NaN: x − x is 0 for those only."""
    return x - x == like(x, 0)


@formula
def flushed(x):
    """x, or 0 where it is smaller than any normal number, and so slow to compute with."""
    return like(x, 0) if abs(x) < smallest_normal(x) else x


@formula
def sgd_velocity(g, velocity, learning_rate, momentum):
    """The new velocity, μv − ηg."""
    return momentum * velocity - learning_rate * g


@formula
def adam_moments(g, m, v, beta_1, weight_1, beta_2, weight_2):
    """Running means of the gradient and of its square: β₁m + (1−β₁)g and β₂v + (1−β₂)g².

    The weights 1 − β come from outside, for in float32 1 − 0.999 is off by 5e-5. What is smaller
    than any normal number becomes 0: under a unit that no longer learns, m shrinks to such numbers
    and would stay there, and processors take many times longer over them (measured: Adam twice).
    """
    new_m = beta_1 * m + weight_1 * g
    new_v = beta_2 * v + weight_2 * (g * g)
    zero, tiny = like(m, 0), smallest_normal(m)
    return zero if abs(new_m) < tiny else new_m, zero if new_v < tiny else new_v


@formula
def adam_update(w, m, v, rate, correction, epsilon):
    """w − (η/(1−β₁ᵗ)) · m / (√v · correction + ε), where correction = 1/√(1−β₂ᵗ).

    Kingma & Ba 2014 (arXiv 1412.6980), algorithm 1: ε is added after the bias correction, outside
    the root, as in PyTorch.
    """
    return w - rate * (m / (math.sqrt(v) * correction + epsilon))
