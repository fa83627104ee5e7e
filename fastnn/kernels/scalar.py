"""One formula each: plain scalar functions, compiled for every target and callable as Python.

Arguments are float32 or float64 scalars of one type, and so is the result. ``like(x, 2)`` is the
constant 2 in the type of x: a bare ``2`` would widen a float32 formula to float64.
"""

from __future__ import annotations

from fastnn.kernels.formula import formula, like, smallest_normal


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
def penalty(w, l1, l2):
    """l1 |w| + l2 w²."""
    return l1 * abs(w) + l2 * (w * w)


@formula
def penalty_slope(w, l1, l2):
    """l1 sign w + 2 l2 w; the sign of 0 is 0."""
    zero = like(w, 0)
    sign = l1 if w > zero else (-l1 if w < zero else zero)
    return sign + like(w, 2) * l2 * w
