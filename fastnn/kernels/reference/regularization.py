"""Oracles of penalties and constraints."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastnn.kernels.reference.forms import Array, float64

__all__ = ["constrain_norm", "constrain_sign", "penalty", "penalty_gradient"]


def penalty(w: ArrayLike, l1: float, l2: float) -> Array:
    """l1 times the sum of all |w|, and l2 times that of all squares."""
    (w,) = float64(w)
    return np.asarray(l1 * np.linalg.norm(w.ravel(), 1) + l2 * np.vdot(w, w))


def penalty_gradient(w: ArrayLike, l1: float, l2: float) -> Array:
    """The gradient of `penalty`, taken as 0 where w is 0."""
    (w,) = float64(w)
    return np.asarray(l1 * np.sign(w) + 2.0 * l2 * w)


def constrain_sign(w: ArrayLike) -> Array:
    """w with 0 for what is negative."""
    (w,) = float64(w)
    return np.asarray(np.where(w < 0.0, 0.0, w))


def constrain_norm(
    w: ArrayLike, axis: int, least: float, most: float, rate: float, epsilon: float
) -> Array:
    """w with its norms along `axis` drawn by `rate` into [least, most], as Keras's MinMaxNorm."""
    (w,) = float64(w)
    norms = np.sqrt(np.square(w).sum(axis=axis, keepdims=True))
    wanted = rate * np.clip(norms, least, most) + (1.0 - rate) * norms
    return np.asarray(w * (wanted / (epsilon + norms)))
