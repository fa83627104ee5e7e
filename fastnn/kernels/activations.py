"""Elementwise activations: each a formula, its derivative, and a line of the table at the end.

To add one, write the two formulas and the line here, and a line of `tests/activation_cases.py`.
All else is made from the table: ops forward and backward, their forms that finish a product,
``activation="name"``, ``fastnn.Activation("name")`` and ``fastnn.activations.name(x)``.

A derivative is a function of the output y wherever it can be: then the input need not be kept, so
that in training the activation is done in the product before it. Where y rounds to its limit, such
a derivative is off by the rounding of y, an absolute error of 2^-24 in float32, as is usual.
The others are functions of the input x, which then stays in memory until the way back.

Largest errors found in float32, in units in the last place: mish 3.8, gelu 3.7, gelu_tanh and silu
2.5, selu 1.9, softplus 1.6, all others 1.3. That of eru is in units of the larger of |y|, 1 and
1/r, for it is a difference. At −∞ gelu, gelu_tanh, silu and mish are −0, their limit.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.extended import (
    INVERSE_ROOT_2_PI,
    exp_parts,
    expm1_of_sum,
    gaussian_parts,
    log_of_root,
    log_parts,
    mills,
    normal_centre,
    product,
    sigmoid_parts,
    split_sum,
)
from fastnn.kernels.formula import fma, formula, like
from fastnn.kernels.transcendental import add, clamp, exp, expm1, log, log1p, sigmoid, tanh

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717
# 2√(2/π) and 0.044715, each with what float64 leaves of it.
GELU_SLOPE = np.float64(1.5957691216057308), np.float64(-9.96930880911092e-17)
GELU_CUBIC = np.float64(0.044715), np.float64(2.1960211427085595e-18)


# Of the output


@formula
def relu(x):
    """max(x, 0); NaN stays NaN."""
    zero = like(x, 0)
    return zero if x < zero else x


@formula
def relu_derivative(y):
    """0 where the output y is 0, else 1; NaN lets the gradient through."""
    zero = like(y, 0)
    return zero if y <= zero else like(y, 1)


@formula
def leaky_relu(x, negative_slope):
    """x where it is positive, else x·negative_slope (Maas et al. 2013)."""
    return x if x > like(x, 0) else negative_slope * x


@formula
def leaky_relu_derivative(y, negative_slope):
    """1 where y is positive, else negative_slope."""
    return like(y, 1) if y > like(y, 0) else negative_slope


@formula
def elu(x, alpha):
    """x where it is positive, else alpha·(e^x − 1) (Clevert et al. 2015, arXiv 1511.07289)."""
    return x if x > like(x, 0) else alpha * expm1(x)


@formula
def elu_derivative(y, alpha):
    """1 where y is positive, else alpha·e^x = y + alpha."""
    return like(y, 1) if y > like(y, 0) else y + alpha


@formula
def selu(x):
    """λx where x is positive, else λα(e^x − 1), with which activations tend to a mean of 0 and a
    variance of 1 (Klambauer et al. 2017, arXiv 1706.02515).
    """
    scale, floor = like(x, SELU_SCALE), like(x, SELU_SCALE * SELU_ALPHA)
    return scale * x if x > like(x, 0) else floor * expm1(x)


@formula
def selu_derivative(y):
    """λ where y is positive, else λα·e^x = y + λα."""
    scale, floor = like(y, SELU_SCALE), like(y, SELU_SCALE * SELU_ALPHA)
    return scale if y > like(y, 0) else y + floor


@formula
def celu(x, alpha):
    """x where it is positive, else alpha·(e^(x/alpha) − 1) (Barron 2017, arXiv 1704.07483)."""
    return x if x > like(x, 0) else alpha * expm1(x / alpha)


@formula
def celu_derivative(y, alpha):
    """1 where y is positive, else e^(x/alpha) = y/alpha + 1."""
    one = like(y, 1)
    return one if y > like(y, 0) else y / alpha + one


@formula
def sigmoid_derivative(y):
    """σ' = y(1 − y), of the output y."""
    return y * (like(y, 1) - y)


@formula
def hard_sigmoid(x):
    """x/6 + 1/2 within [0, 1], as in Keras 3 and PyTorch."""
    six = like(x, 6)
    return clamp(x + like(x, 3), like(x, 0), six) / six


@formula
def hard_sigmoid_derivative(y):
    """1/6 where y is between 0 and 1, else 0."""
    zero, one = like(y, 0), like(y, 1)
    return zero if y <= zero or y >= one else one / like(y, 6)


@formula
def tanh_derivative(y):
    """tanh' = 1 − y², of the output y."""
    return like(y, 1) - y * y


@formula
def hard_tanh(x):
    """x within [−1, 1]."""
    return clamp(x, like(x, -1), like(x, 1))


@formula
def hard_tanh_derivative(y):
    """1 where y is between −1 and 1, else 0."""
    return like(y, 0) if abs(y) >= like(y, 1) else like(y, 1)


@formula
def softplus(x):
    """log(1 + e^x), as max(x, 0) + log(1 + e^−|x|), which cannot overflow."""
    zero, one, nothing = like(x, 0), like(x, 1), like(x, -0.0)
    log, rest = log_parts(*split_sum(one, exp(-abs(x)), nothing))
    return (zero if x < zero else x) + (log + rest)


@formula
def softplus_derivative(y):
    """σ(x) = 1 − e^−y."""
    return -expm1(-y)


@formula
def softsign(x):
    """x/(1 + |x|)."""
    limit = like(x, 2.0**64)  # beyond, it is 1, and infinity over infinity would be NaN
    x = clamp(x, -limit, limit)
    return x / (like(x, 1) + abs(x))


@formula
def softsign_derivative(y):
    """1/(1 + |x|)² = (1 − |y|)²."""
    rest = like(y, 1) - abs(y)
    return rest * rest


@formula
def exponential(x):
    """e^x."""
    return exp(x)


@formula
def exponential_derivative(y):
    """y."""
    return y


@formula
def step(x):
    """1 where x is positive, else 0. Its derivative is 0: no network can be trained through it."""
    return like(x, 1) if x > like(x, 0) else (like(x, 0) if x <= like(x, 0) else x)


# Bionodal root units (Bhumbra 2018, arXiv 1804.11237), taken from the paper by way of its Chainer
# implementation (takyamamoto/BRU-chainer), whose printed examples are among the tests. Both are
# continuous at 0, and so are their derivatives, which are r there. For r = 2, the default, the root
# is a square root: a loop over elements of one r is compiled for either.


@formula
def eru(x, r):
    """Exponential root unit: (r²x + 1)^(1/r) − 1/r where x ≥ 0, else e^(rx) − 1/r; r > 0.

    r = 1 is ELU. Bhumbra 2018 (arXiv 1804.11237).
    """
    zero, half = like(x, 0), like(x, 0.5)
    if r == like(r, 2):
        root = like(x, 2) * math.sqrt((zero if x < zero else x) + like(x, 0.25)) - half
        return expm1(like(x, 2) * x) + half if x < zero else root
    root, root_low = log_of_root(zero if x < zero else x, r)
    tail, tail_low = product(r, clamp(x, like(x, -1000), zero))
    y = expm1_of_sum(tail if x < zero else root, tail_low if x < zero else root_low)
    return y + (r - like(x, 1)) / r


@formula
def eru_derivative(y, r):
    """r(r²x + 1)^((1−r)/r) = r(y + 1/r)^(1−r) where x ≥ 0, else r·e^(rx) = r(y + 1/r)."""
    one = like(y, 1)
    if r == like(r, 2):
        base = y + like(y, 0.5)
        return like(y, 2) * (one / base if base >= one else base)
    base = y + one / r
    return r * (exp((one - r) * log(base)) if base >= one else base)


@formula
def oru(x, r):
    """Odd root unit: sgn(x)((r²|x| + 1)^(1/r) − 1); r > 0.

    r = 1 is the identity. Bhumbra 2018 (arXiv 1804.11237).
    """
    if r == like(r, 2):  # 2√(|x| + ¼) − 1; of small x without the difference
        a = abs(x)
        root = math.sqrt(a + like(x, 0.25))
        if a < like(x, 1):
            return x / (like(x, 0.5) * root + like(x, 0.25))
        y = like(x, 2) * root - like(x, 1)
        return -y if x < like(x, 0) else y
    y = expm1_of_sum(*log_of_root(abs(x), r))
    y = -y if x < like(x, 0) else y
    return r * x if x == like(x, 0) else y  # keeps -0


@formula
def oru_derivative(y, r):
    """r(r²|x| + 1)^((1−r)/r) = r(|y| + 1)^(1−r)."""
    one = like(y, 1)
    if r == like(r, 2):
        return r / (abs(y) + one)
    return r * exp((one - r) * log1p(abs(y)))


# Of the input: x·S(x), where S goes from 0 to 1 and S(−x) = 1 − S(x). Of the two, only the one
# below a half is computed, of |x|; its digits are as good as those of a number of its size can be.


@formula
def _weighted(x, factor, other_factor, half, other_half):
    """x·S(x), of S(−|x|) as factor·other_factor·half·other_half.

    The first is multiplied by x first: only the last multiplication may underflow.
    """
    one, negative = like(x, 1), x < like(x, 0)
    y = (x if negative else one) * factor * other_factor * half * other_half
    return y if negative else x * (one - y)


@formula
def _weighted_derivative(x, of_negative):
    """The derivative of x·S(x), which at x and at −x adds up to 1, of the one at −|x|."""
    return of_negative if x < like(x, 0) else like(x, 1) - of_negative


@formula
def silu(x):
    """x·σ(x), also called swish (Elfwing et al. 2017, arXiv 1702.03118)."""
    x = clamp(x, like(x, -800), like(x, np.inf))  # it is −0 there, and infinity · 0 would be NaN
    inverse, half, other_half = sigmoid_parts(abs(x), like(x, -0.0))
    return _weighted(x, inverse, like(x, 1), half, other_half)


@formula
def silu_derivative(x):
    """σ(x)(1 + x(1 − σ(x)))."""
    one, a = like(x, 1), clamp(abs(x), like(x, 0), like(x, 800))
    s = sigmoid(-a)
    return _weighted_derivative(x, s * (one - a * (one - s)))


@formula
def gelu(x):
    """x·Φ(x), Φ the normal distribution's (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    limit, one = like(x, 64), like(x, 1)
    x = clamp(x, -limit, like(x, np.inf))
    a = clamp(abs(x), like(x, 0), limit)
    m, half, other_half = gaussian_parts(a)
    leading, rest, inverse = mills(a)
    numerator = leading + (rest + (leading + rest) * m)
    far = _weighted(x, numerator, inverse, half, other_half)
    near = x * (like(x, 0.5) + x * normal_centre(x * x))
    return near if a < one else far


@formula
def gelu_derivative(x):
    """Φ(x) + x·φ(x), φ the normal distribution's density."""
    a = clamp(abs(x), like(x, 0), like(x, 64))
    m, half, other_half = gaussian_parts(a)
    leading, rest, inverse = mills(a)
    q = fma(leading + rest, inverse, -(a * like(x, INVERSE_ROOT_2_PI)))
    return _weighted_derivative(x, (q + q * m) * half * other_half)


@formula
def _two_parts(x, value, rest):
    """A constant in the type of x, and what that leaves of it."""
    rounded = like(x, value)
    return rounded, like(x, (value - rounded) + rest)


@formula
def _gelu_tanh_exponent(a):
    """2√(2/π)(a + 0.044715a³) as a sum, for a from 0 to 64."""
    one = like(a, 1)
    slope, slope_lost = _two_parts(a, *GELU_SLOPE)
    cubic, cubic_lost = _two_parts(a, *GELU_CUBIC)
    square, square_lost = product(a, a)
    term, term_lost = product(cubic, square)
    term_lost = term_lost + (cubic * square_lost + cubic_lost * square)
    factor, factor_lost = add(term if term > one else one, one if term > one else term)
    linear, linear_lost = product(slope, a)
    linear_lost = linear_lost + slope_lost * a
    y, lost = product(linear, factor)
    return y, lost + (linear * (factor_lost + term_lost) + linear_lost * factor)


@formula
def gelu_tanh(x):
    """x(1 + tanh(√(2/π)(x + 0.044715x³)))/2, which approximates gelu to 5e-4; as x·σ(2…)."""
    x = clamp(x, like(x, -64), like(x, np.inf))
    exponent, low = _gelu_tanh_exponent(clamp(abs(x), like(x, 0), like(x, 64)))
    inverse, half, other_half = sigmoid_parts(exponent, low)
    return _weighted(x, inverse, like(x, 1), half, other_half)


@formula
def gelu_tanh_derivative(x):
    """s(1 + x(1 − s)w'), of s = σ(w) and w = 2√(2/π)(x + 0.044715x³)."""
    one, a = like(x, 1), clamp(abs(x), like(x, 0), like(x, 64))
    slope, cubic = like(x, GELU_SLOPE[0]), like(x, GELU_CUBIC[0])
    square = a * a
    s = sigmoid(-(slope * a * (one + cubic * square)))
    w_derivative = slope * (one + like(x, 3) * cubic * square)
    return _weighted_derivative(x, s * (one - a * (one - s) * w_derivative))


@formula
def mish(x):
    """x·tanh(softplus(x)) = x·n/(n + 2), n = e^x(e^x + 2) (Misra 2019, arXiv 1908.08681)."""
    one, two, limit = like(x, 1), like(x, 2), like(x, 20)  # beyond, tanh is 1
    x = clamp(x, like(x, -800), like(x, np.inf))
    m, half, other_half = exp_parts(limit if x > limit else x, like(x, -0.0))
    e = (one + m) * half * other_half
    rest = (e + two) / (e * (e + two) + two)  # tanh over e
    y = x * (rest + rest * m) * half * other_half
    return x if x > limit else y


@formula
def mish_derivative(x):
    """e((e + 2)(n + 2) + 4x(e + 1))/(n + 2)², e = e^x and n as in `mish`."""
    one, two, limit = like(x, 1), like(x, 2), like(x, 20)
    clamped = clamp(x, like(x, -800), limit)
    e = exp(clamped)
    below = e * (e + two) + two
    y = e * ((e + two) * below + like(x, 4) * clamped * (e + one)) / (below * below)
    return one if x > limit else y


class Parameter(NamedTuple):
    """An activation's one parameter: its name, its value unless given, and where it may lie."""

    name: str
    default: float
    interval: str


@dataclass(frozen=True)
class Elementwise:
    """A line of the table.

    Attributes
    ----------
    formula : function
        ``f(x)``, or ``f(x, parameter)``.
    derivative : function or None
        Its derivative, with the same parameter; None: it has none that could train a network.
    of : {"y", "x"}
        What the derivative is a function of: the output or the input.
    parameter : Parameter, optional
    approximate : str, optional
        The activation that ``approximate=True`` stands for.
    """

    formula: Callable[..., Any]
    derivative: Callable[..., Any] | None
    of: str = "y"
    parameter: Parameter | None = None
    approximate: str | None = None


_R = Parameter("r", 2.0, "(0, inf)")

ELEMENTWISE: dict[str, Elementwise] = {
    "relu": Elementwise(relu, relu_derivative),
    "leaky_relu": Elementwise(
        leaky_relu, leaky_relu_derivative, "y", Parameter("negative_slope", 0.2, "[0, inf)")
    ),
    "elu": Elementwise(elu, elu_derivative, "y", Parameter("alpha", 1.0, "[0, inf)")),
    "selu": Elementwise(selu, selu_derivative),
    "celu": Elementwise(celu, celu_derivative, "y", Parameter("alpha", 1.0, "(0, inf)")),
    "gelu": Elementwise(gelu, gelu_derivative, "x", approximate="gelu_tanh"),
    "gelu_tanh": Elementwise(gelu_tanh, gelu_tanh_derivative, "x"),
    "silu": Elementwise(silu, silu_derivative, "x"),
    "mish": Elementwise(mish, mish_derivative, "x"),
    "sigmoid": Elementwise(sigmoid, sigmoid_derivative),
    "hard_sigmoid": Elementwise(hard_sigmoid, hard_sigmoid_derivative),
    "tanh": Elementwise(tanh, tanh_derivative),
    "hard_tanh": Elementwise(hard_tanh, hard_tanh_derivative),
    "softplus": Elementwise(softplus, softplus_derivative),
    "softsign": Elementwise(softsign, softsign_derivative),
    "exponential": Elementwise(exponential, exponential_derivative),
    "eru": Elementwise(eru, eru_derivative, "y", _R),
    "oru": Elementwise(oru, oru_derivative, "y", _R),
    "step": Elementwise(step, None),
}
"""Every elementwise activation by its name."""

WITH_OWN: MutableMapping[str, Elementwise] = ChainMap({}, ELEMENTWISE)
"""The same, and those of the user's own by the names of their ops, see `own`."""

ALIASES = {"swish": "silu"}
"""Other names of activations."""
