"""Losses element by element: each a pair of scalar formulas, its value and its slope.

A row's loss is the mean, or the sum, over its columns of a function of the prediction z and the
target y; the gradient is made of that function's derivative by z, the slope. A pair and its line in
`PAIRS` make such a loss an op: `signatures.py` and `cpu/pointwise.py` read the rest off them.

The table is read where nothing is compiled: as all files of formulas, this one imports no Numba.
"""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple

from fastnn.kernels.formula import formula, like
from fastnn.kernels.transcendental import exp, expm1, log, log1p, sigmoid, tanh

CLIP = 1e-7
"""Probabilities are clipped at this distance from 0 (and 1) before a logarithm, as in Keras."""

LN_2 = 0.6931471805599453


class Pair(NamedTuple):
    """The value and the slope, each of ``(z, y)`` or of ``(z, y, parameter)``.

    `mean` says whether a row's loss is the mean over its columns, or else their sum.
    """

    value: Callable[..., Any]
    slope: Callable[..., Any]
    mean: bool = True


def with_parameter(function: Callable[..., Any]) -> Any:
    """The formula of three arguments, the last of them ignored where it has but two."""
    if len(inspect.signature(function).parameters) == 3:
        return function

    @formula
    def ignoring(z, y, parameter):
        return function(z, y)

    return ignoring


@formula
def square(z, y):
    """(z − y)²."""
    return (z - y) * (z - y)


@formula
def square_slope(z, y):
    """2(z − y)."""
    return like(z, 2) * (z - y)


@formula
def distance(z, y):
    """|z − y|."""
    return abs(z - y)


@formula
def distance_slope(z, y):
    """The sign of z − y; 0 where they are equal."""
    difference = z - y
    one = like(z, 1)
    above = one if difference > like(z, 0) else difference
    return -one if difference < like(z, 0) else above


@formula
def huber(z, y, delta):
    """d²/2 for d = |z − y| up to δ, and δ(d − δ/2) beyond (Huber 1964)."""
    size = abs(z - y)
    part = delta if size > delta else size
    return part * (size - like(z, 0.5) * part)


@formula
def huber_slope(z, y, delta):
    """z − y, clipped at ±δ."""
    difference = z - y
    below = delta if difference > delta else difference
    return -delta if difference < -delta else below


@formula
def log_cosh(z, y):
    """log cosh d of d = z − y.

    Near 0 it is log1p(cosh d − 1), where cosh d − 1 = x²/2(1 + x) for x = e^|d| − 1: exact where
    |d| + log((1 + e^−2|d|)/2) would be a difference of two larger numbers.
    """
    size, one, two = abs(z - y), like(z, 1), like(z, 2)
    x = expm1(size)
    near = size < one
    inside = x * x / (two * (one + x)) if near else exp(-two * size)
    return (like(z, 0) if near else size - like(z, LN_2)) + log1p(inside)


@formula
def log_cosh_slope(z, y):
    """tanh(z − y)."""
    return tanh(z - y)


@formula
def poisson(z, y):
    """z − y log(z + 1e-7): what the negative log-likelihood of a Poisson variable y of mean z has
    that depends on z."""
    return z - y * log(z + like(z, CLIP))


@formula
def poisson_slope(z, y):
    """1 − y/(z + 1e-7)."""
    return like(z, 1) - y / (z + like(z, CLIP))


@formula
def _logarithm_or_0(y):
    """log y, and 0 for a y of 0: y log y then is 0, its limit."""
    return log(like(y, 1) if y == like(y, 0) else y)


@formula
def half_poisson_deviance(p, y):
    """y log(y/p) − y + p of a mean p."""
    return y * (_logarithm_or_0(y) - log(p)) - y + p


@formula
def half_poisson_deviance_slope(p, y):
    """1 − y/p."""
    return like(p, 1) - y / p


@formula
def half_poisson_of_logarithm(z, y):
    """y (log y − z) − y + e^z: half the Poisson deviance of the mean e^z."""
    return y * (_logarithm_or_0(y) - z) - y + exp(z)


@formula
def half_poisson_of_logarithm_slope(z, y):
    """e^z − y."""
    return exp(z) - y


@formula
def hinge(z, y):
    """max(1 − yz, 0)."""
    lacking = like(z, 1) - y * z
    return like(z, 0) if lacking < like(z, 0) else lacking


@formula
def hinge_slope(z, y):
    """−y where 1 − yz is positive, else 0."""
    return like(z, 0) if like(z, 1) - y * z <= like(z, 0) else -y


@formula
def squared_hinge(z, y):
    """max(1 − yz, 0)²."""
    lacking = hinge(z, y)
    return lacking * lacking


@formula
def squared_hinge_slope(z, y):
    """−2y max(1 − yz, 0)."""
    return -like(z, 2) * y * hinge(z, y)


@formula
def _clipped(p):
    """p, at least 1e-7; `p < clip` is false for NaN, which so passes through."""
    clip = like(p, CLIP)
    return clip if p < clip else p


@formula
def crossentropy(p, t):
    """−t log max(p, 1e-7)."""
    return -t * log(_clipped(p))


@formula
def crossentropy_slope(p, t):
    """−t/p, and 0 where p is clipped."""
    return like(p, 0) if p <= like(p, CLIP) else -t / p


@formula
def _into_unit(p):
    """p within [1e-7, 1]."""
    one = like(p, 1)
    return one if p > one else _clipped(p)


@formula
def divergence(p, t):
    """t log(t/p), both clipped to [1e-7, 1] as in Keras."""
    target = _into_unit(t)
    return target * log(target / _into_unit(p))


@formula
def divergence_slope(p, t):
    """−t/p, and 0 where p is clipped."""
    return like(p, 0) if p < like(p, CLIP) or p > like(p, 1) else -_into_unit(t) / p


@formula
def binary_crossentropy(p, t):
    """−t log p − (1 − t) log(1 − p), with p and 1 − p clipped at 1e-7.

    In float32 1 − (1 − 1e-7) is not 1e-7: the two are clipped each.
    """
    one, rest = like(p, 1), like(p, 1) - p
    low, high = p < like(p, CLIP), rest < like(p, CLIP)
    clip, other = like(p, CLIP), like(p, 1) - like(p, CLIP)
    of_one = clip if low else (other if high else p)
    of_zero = clip if high else (other if low else rest)
    return -(t * log(of_one) + (one - t) * log(of_zero))


@formula
def binary_crossentropy_slope(p, t):
    """(p − t)/(p(1 − p)), and 0 where p is clipped."""
    rest, clip = like(p, 1) - p, like(p, CLIP)
    return like(p, 0) if p < clip or rest < clip else (p - t) / (p * rest)


@formula
def logistic(z, y):
    """max(z, 0) − zy + log(1 + e^−|z|): binary cross-entropy of σ(z), from the logit.

    The first two are |z| times what is wrong with the sign of z: nothing cancels.
    """
    size = abs(z)
    wrong = y if z < like(z, 0) else like(z, 1) - y
    return size * wrong + log1p(exp(-size))


@formula
def logistic_slope(z, y):
    """σ(z) − y."""
    return sigmoid(z) - y


PAIRS: dict[str, Pair] = {
    "categorical_crossentropy_soft": Pair(crossentropy, crossentropy_slope, mean=False),
    "sigmoid_binary_crossentropy": Pair(logistic, logistic_slope),
    "binary_crossentropy": Pair(binary_crossentropy, binary_crossentropy_slope),
    "mean_squared_error": Pair(square, square_slope),
    "mean_absolute_error": Pair(distance, distance_slope),
    "huber": Pair(huber, huber_slope),
    "log_cosh": Pair(log_cosh, log_cosh_slope),
    "poisson": Pair(poisson, poisson_slope),
    "half_poisson_deviance": Pair(half_poisson_deviance, half_poisson_deviance_slope),
    "exponential_half_poisson_deviance": Pair(
        half_poisson_of_logarithm, half_poisson_of_logarithm_slope
    ),
    "hinge": Pair(hinge, hinge_slope),
    "squared_hinge": Pair(squared_hinge, squared_hinge_slope),
    "kl_divergence": Pair(divergence, divergence_slope, mean=False),
}
"""Every such loss by the name of its op."""

WITH_OWN: MutableMapping[str, Pair] = ChainMap({}, PAIRS)
"""The same, and those of the user's own, see `own`."""
