"""The oracle's word on elementwise activations: a line for each, of NumPy in any precision.

A line has the activation and its derivative at the input, in the plainest form that is accurate,
then what PyTorch and Keras call it, and parameters to try besides the default. The tests of
`test_activations.py` hold the oracle against those libraries and against central differences, and
all else against the oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

from fastnn.kernels.activations import ELEMENTWISE

Array = NDArray[Any]

SELU_SCALE = np.longdouble("1.0507009873554804934193349852946")
SELU_ALPHA = np.longdouble("1.6732632423543772848170429916717")


@dataclass(frozen=True)
class Case:
    """An activation's oracle: ``forward(x[, parameter])`` and ``derivative(x[, parameter])``.

    `ulp` is the largest error that the compiled activation may have, in units in the last place.
    At `corners` there is no derivative, or not everywhere the same idea of it.
    """

    forward: Callable[..., Array]
    derivative: Callable[..., Array]
    torch: str = ""
    keras: str = ""
    parameters: tuple[float, ...] = ()
    corners: tuple[float, ...] = ()
    ulp: float = 2.0


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def normal(x: Array) -> Array:
    """Φ(x); erfc is float64's at best."""
    return np.asarray(scipy.special.erfc(-x / np.sqrt(x.dtype.type(2)))) / 2


def density(x: Array) -> Array:
    return np.asarray(np.exp(-x * x / 2)) / np.sqrt(8 * np.arctan(x.dtype.type(1)))


def times(x: Array, weight: Array) -> Array:
    """x·weight, with 0 for its limit at −∞."""
    return np.asarray(np.where(weight == 0, -0.0, x * weight))


def below(x: Array, negative: Callable[[Array], Array], positive: Array) -> Array:
    """`positive` where x > 0, else `negative` of x, which is not computed elsewhere."""
    return np.where(x > 0, positive, negative(np.minimum(x, 0)))


def gelu_exponent(x: Array) -> Array:
    cubic = x.dtype.type("0.044715")
    return np.asarray(np.sqrt(2 / np.arctan(x.dtype.type(1))) * (x + cubic * x**3))


def tanh_softplus(x: Array) -> Array:
    n = np.exp(x) * (np.exp(x) + 2)
    return np.asarray(np.where(x > 40, 1, n / (n + 2)))


def root(x: Array, r: float) -> Array:
    """(r²|x| + 1)^(1/r) − 1."""
    return np.asarray(np.expm1(np.log1p(r * r * np.abs(x)) / r))


def root_derivative(x: Array, r: float) -> Array:
    return np.asarray(r * np.exp((1 - r) / r * np.log1p(r * r * np.abs(x))))


def one(x: Array) -> Array:
    return np.ones_like(x)


CASES: dict[str, Case] = {
    "relu": Case(
        lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, one(x), 0),
        "relu", "relu", corners=(0,),
    ),
    "leaky_relu": Case(
        lambda x, a: np.where(x > 0, x, a * x), lambda x, a: np.where(x > 0, one(x), a),
        "leaky_relu", "leaky_relu", (0.0, 0.01, 1.5), (0,),
    ),
    "elu": Case(
        lambda x, a: below(x, lambda x: a * np.expm1(x), x),
        lambda x, a: below(x, lambda x: a * np.exp(x), one(x)),
        "elu", "elu", (0.0, 0.5, 2.0), (0,),
    ),
    "selu": Case(
        lambda x: SELU_SCALE * below(x, lambda x: SELU_ALPHA * np.expm1(x), x),
        lambda x: SELU_SCALE * below(x, lambda x: SELU_ALPHA * np.exp(x), one(x)),
        "selu", "selu", corners=(0,), ulp=3.0,
    ),
    "celu": Case(
        lambda x, a: below(x, lambda x: a * np.expm1(x / a), x),
        lambda x, a: below(x, lambda x: np.exp(x / a), one(x)),
        "celu", "celu", (0.5, 2.0),
    ),
    "gelu": Case(
        lambda x: times(x, normal(x)), lambda x: normal(x) + x * density(x), "gelu", ulp=4.0,
    ),
    "gelu_tanh": Case(
        lambda x: times(x, sigmoid(gelu_exponent(x))),
        lambda x: sigmoid(gelu_exponent(x)) + (
            gelu_exponent(x) + 2 * np.sqrt(2 / np.arctan(x.dtype.type(1)))
            * x.dtype.type("0.044715") * x**3
        ) * sigmoid(gelu_exponent(x)) * sigmoid(-gelu_exponent(x)),
        keras="gelu", ulp=2.5,
    ),
    "silu": Case(
        lambda x: times(x, sigmoid(x)), lambda x: sigmoid(x) * (1 + x * sigmoid(-x)),
        "silu", "silu", ulp=2.5,
    ),
    "mish": Case(
        lambda x: times(x, tanh_softplus(x)),
        lambda x: tanh_softplus(x) + x * sigmoid(x) * (1 - tanh_softplus(x) ** 2),
        "mish", "mish", ulp=4.0,
    ),
    "sigmoid": Case(sigmoid, lambda x: sigmoid(x) * sigmoid(-x), "sigmoid", "sigmoid"),
    "hard_sigmoid": Case(
        lambda x: np.clip((x + 3) / 6, 0, 1), lambda x: np.where(np.abs(x) < 3, one(x) / 6, 0),
        "hardsigmoid", "hard_sigmoid", corners=(-3, 3),
    ),
    "tanh": Case(np.tanh, lambda x: 4 * sigmoid(2 * x) * sigmoid(-2 * x), "tanh", "tanh"),
    "hard_tanh": Case(
        lambda x: np.clip(x, -1, 1), lambda x: np.where(np.abs(x) < 1, one(x), 0),
        "hardtanh", "hard_tanh", corners=(-1, 1),
    ),
    "softplus": Case(
        lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), sigmoid, "softplus", "softplus",
    ),
    "softsign": Case(
        lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))),
        lambda x: (1 + np.abs(x)) ** -2, "softsign", "softsign",
    ),
    "exponential": Case(np.exp, np.exp, keras="exponential"),
    "eru": Case(
        lambda x, r: np.where(x < 0, np.expm1(r * np.minimum(x, 0)), root(x, r)) + (r - 1) / r,
        lambda x, r: np.where(x < 0, r * np.exp(r * np.minimum(x, 0)), root_derivative(x, r)),
        parameters=(0.5, 1.0, 3.0),
    ),
    "oru": Case(
        lambda x, r: np.copysign(root(x, r), x), root_derivative, parameters=(0.5, 1.0, 3.0),
    ),
    "step": Case(
        lambda x: np.where(x > 0, one(x), np.where(x <= 0, 0, x)), np.zeros_like, corners=(0,),
    ),
}  # fmt: skip


def parameters_of(name: str) -> list[dict[str, float]]:
    """What an op of the activation is given: the default first, then the others to try."""
    parameter = ELEMENTWISE[name].parameter
    if parameter is None:
        return [{}]
    return [{"parameter": value} for value in (parameter.default, *CASES[name].parameters)]
