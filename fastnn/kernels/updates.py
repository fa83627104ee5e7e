"""Optimizers' updates: what becomes of one parameter by its gradient and its running means.

An update is a function of one element's parameter w, its gradient g and its running means, named
in `UPDATES`, and then of numbers that are the same for all elements; it returns the new w and the
new means. The op's signature, its kernel and its form that finishes a product follow from the
names of its arguments: numbers of `STEP_NUMBERS` vary by step and are read from the state, all
others are the op's own operands. A weight is 1 − β or 1 − ρ: it comes from outside, for in float32
1 − 0.999 is off by 5e-5.

They are plain Python, as all formulas, and must not import Numba: signatures are read by
processes that compile nothing.
"""

from __future__ import annotations

import inspect
import math
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple

from fastnn.kernels import state as s
from fastnn.kernels.formula import like

STEP_NUMBERS = {
    "learning_rate": s.LEARNING_RATE,
    "rate": s.UPDATE_RATE,
    "correction": s.UPDATE_CORRECTION,
    "gradient_rate": s.UPDATE_GRADIENT_RATE,
    "correction_1": s.UPDATE_CORRECTION,
    "correction_2": s.UPDATE_SECOND_CORRECTION,
    "step": s.STEP,
}
"""Numbers of an update that vary by step, and their slots in the state; `step` counts from 1."""

RATE_NUMBERS = ("learning_rate", "rate", "gradient_rate")
"""Those in proportion to the learning rate: multiplied by the op's `multiplier`."""

NORM_BLOCK = 4096
"""Elements whose squares are summed up in one: cut by shape, whatever the number of threads."""


class Update(NamedTuple):
    """An update's formula and the names of its running means."""

    formula: Callable[..., Any]
    means: tuple[str, ...]

    @property
    def numbers(self) -> list[str]:
        """What the formula takes after w, g and the means."""
        return list(inspect.signature(self.formula).parameters)[2 + len(self.means) :]


def adagrad(w, g, accumulator, learning_rate, epsilon):
    """c += g²; w −= ηg / (√c + ε). Duchi, Hazan & Singer 2011, JMLR 12."""
    accumulator = accumulator + g * g
    return w - learning_rate * g / (math.sqrt(accumulator) + epsilon), accumulator


def rmsprop(w, g, v, learning_rate, rho, weight, epsilon):
    """v = ρv + (1−ρ)g²; w −= ηg / √(v + ε). Tieleman & Hinton 2012; ε as in Keras."""
    v = rho * v + weight * (g * g)
    return w - learning_rate * g / math.sqrt(v + epsilon), v


def rmsprop_outside(w, g, v, learning_rate, rho, weight, epsilon):
    """v = ρv + (1−ρ)g²; w −= ηg / (√v + ε): ε stands outside the root, as in PyTorch."""
    v = rho * v + weight * (g * g)
    return w - learning_rate * g / (math.sqrt(v) + epsilon), v


def rmsprop_full(w, g, v, m, velocity, learning_rate, rho, weight, momentum, centered, epsilon):
    """The same by a velocity, and with the variance v − m² for v where `centered` is 1, not 0.

    Rounding can make the variance of like gradients negative: then it is 0.
    """
    v = rho * v + weight * (g * g)
    m = rho * m + weight * g
    variance = max(v - centered * (m * m), like(v, 0))
    velocity = momentum * velocity + learning_rate * g / math.sqrt(variance + epsilon)
    return w - velocity, v, m, velocity


def adadelta(w, g, v, d, learning_rate, rho, weight, epsilon):
    """v = ρv + (1−ρ)g²; δ = √(d+ε) / √(v+ε) · g; d = ρd + (1−ρ)δ²; w −= ηδ.

    Zeiler 2012, arXiv 1212.5701, algorithm 1, with a learning rate.
    """
    v = rho * v + weight * (g * g)
    delta = math.sqrt((d + epsilon) / (v + epsilon)) * g
    return w - learning_rate * delta, v, rho * d + weight * (delta * delta)


def adam_corrected(
    w,
    g,
    m,
    v,
    learning_rate,
    correction_1,
    correction_2,
    beta_1,
    weight_1,
    beta_2,
    weight_2,
    epsilon,
):
    """Adam's step by the corrected moments, each divided by what `adam_corrections` gives.

    The same as ``adam`` but for rounding: every product and quotient is rounded, in the order of
    Kingma & Ba 2014 (arXiv 1412.6980), algorithm 1.
    """
    m = beta_1 * m + weight_1 * g
    v = beta_2 * v + weight_2 * (g * g)
    return w - learning_rate * (m / correction_1) / (math.sqrt(v / correction_2) + epsilon), m, v


def amsgrad(w, g, m, v, v_max, rate, correction, beta_1, weight_1, beta_2, weight_2, epsilon):
    """Adam's step by the largest v so far. Reddi, Kale & Kumar 2018, arXiv 1904.09237."""
    m = beta_1 * m + weight_1 * g
    v = beta_2 * v + weight_2 * (g * g)
    v_max = max(v_max, v)
    return w - rate * (m / (math.sqrt(v_max) * correction + epsilon)), m, v, v_max


def nadam(w, g, m, v, rate, gradient_rate, correction, beta_1, weight_1, beta_2, weight_2, epsilon):
    """Adam's step by a mean that looks ahead, of m and g; see `nadam_rates`. Dozat 2016."""
    m = beta_1 * m + weight_1 * g
    v = beta_2 * v + weight_2 * (g * g)
    ahead = rate * m + gradient_rate * g
    return w - ahead / (math.sqrt(v) * correction + epsilon), m, v


def adamax(w, g, m, u, rate, beta_1, weight_1, beta_2, epsilon):
    """u = max(β₂u, |g|); w −= η/(1−β₁ᵗ) · m / (u + ε). Kingma & Ba 2014, algorithm 2."""
    m = beta_1 * m + weight_1 * g
    u = max(beta_2 * u, abs(g))
    return w - rate * (m / (u + epsilon)), m, u


def lion(w, g, m, learning_rate, beta_1, weight_1, beta_2, weight_2):
    """w −= η sign(β₁m + (1−β₁)g); m = β₂m + (1−β₂)g. Chen et al. 2023, arXiv 2302.06675."""
    c = beta_1 * m + weight_1 * g
    zero = like(c, 0)
    step = learning_rate if c > zero else (-learning_rate if c < zero else zero)
    return w - step, beta_2 * m + weight_2 * g


UPDATES = {
    "adagrad": Update(adagrad, ("accumulator",)),
    "rmsprop": Update(rmsprop, ("v",)),
    "rmsprop_outside": Update(rmsprop_outside, ("v",)),
    "rmsprop_full": Update(rmsprop_full, ("v", "m", "velocity")),
    "adadelta": Update(adadelta, ("v", "d")),
    "adam_corrected": Update(adam_corrected, ("m", "v")),
    "amsgrad": Update(amsgrad, ("m", "v", "v_max")),
    "nadam": Update(nadam, ("m", "v")),
    "adamax": Update(adamax, ("m", "u")),
    "lion": Update(lion, ("m",)),
}
"""Every update out of a formula of one element, by the name of its op."""

WITH_OWN: MutableMapping[str, Update] = ChainMap({}, UPDATES)
"""The same, and those of the user's own, see `own`."""


def expression_of(number: str) -> str:
    """The expression by which a kernel reads one of an update's numbers, in float64."""
    slot = STEP_NUMBERS.get(number)
    if slot is None:
        return number
    if slot < s.FLOATS:
        return f"state[{slot}] + 1"
    return f"floats[{slot}]" + (" * multiplier" if number in RATE_NUMBERS else "")


def adam_rates(t, learning_rate, beta_1, beta_2):
    """Adam's rate η/(1−β₁ᵗ) and the root's correction 1/√(1−β₂ᵗ). Kingma & Ba 2014, algorithm 1."""
    t = float(t)
    return learning_rate / (1.0 - beta_1**t), 1.0 / math.sqrt(1.0 - beta_2**t)


_SCHEDULE_TERMS = tuple(0.48**k / (k * (1.0 - 0.96**k)) for k in range(48, 0, -1))
"""c₄₈ … c₁ of ln Π_{i≤t} (1 − ½·0.96ⁱ) = Σₖ cₖ (0.96ᵗᵏ − 1); the terms left out are below 1e-17.

With ln(1 − x) = −Σₖ xᵏ/k the sum over i is a geometric one for each k.
"""

_SCHEDULE_SUM = math.fsum(_SCHEDULE_TERMS)


def nadam_rates(t, learning_rate, beta_1, beta_2):
    """Nadam's rate of m, that of g and the root's correction at step t, as Keras has them.

    With μᵢ = β₁(1 − ½·0.96ⁱ): η μₜ₊₁/(1 − Π_{i≤t+1} μᵢ), η (1 − μₜ)/(1 − Π_{i≤t} μᵢ), and
    1/√(1−β₂ᵗ). The product is computed anew in each step, so that nothing is kept.
    """
    power = 0.96**t
    logarithm = 0.0
    for term in _SCHEDULE_TERMS:
        logarithm = (logarithm + term) * power
    now, following = beta_1 * (1.0 - 0.5 * power), beta_1 * (1.0 - 0.48 * power)
    product = beta_1**t * math.exp(logarithm - _SCHEDULE_SUM)
    rate = learning_rate * following / (1.0 - product * following)
    gradient_rate = learning_rate * (1.0 - now) / (1.0 - product)
    return rate, gradient_rate, 1.0 / math.sqrt(1.0 - beta_2**t)


def adam_rates_epsilon_hat(t, learning_rate, beta_1, beta_2):
    """Adam's rate η√(1−β₂ᵗ)/(1−β₁ᵗ) and the root's correction, 1, where ε is added to √v itself.

    Kingma & Ba 2014, the order of computation at the end of their section 2, with its ε̂.
    """
    return learning_rate * math.sqrt(1.0 - beta_2**t) / (1.0 - beta_1**t), 1.0


def adam_corrections(t, learning_rate, beta_1, beta_2):
    """The share of Adam's moments at step t that is not their start's 0: 1−β₁ᵗ and 1−β₂ᵗ."""
    return 1.0 - beta_1**t, 1.0 - beta_2**t


RATES = {
    "adam_rates": (adam_rates, ("rate", "correction")),
    "nadam_rates": (nadam_rates, ("rate", "gradient_rate", "correction")),
    "adam_rates_epsilon_hat": (adam_rates_epsilon_hat, ("rate", "correction")),
    "adam_corrections": (adam_corrections, ("correction_1", "correction_2")),
}
"""Functions of the step's number, from 1, and the learning rate, and the numbers they set."""


def operands(name: str) -> str:
    """The line of an update's operands."""
    update = WITH_OWN[name]
    scalars = [number for number in update.numbers if number not in STEP_NUMBERS]
    words = [f"{array}[P]" for array in ("w", "g", *update.means)]
    return " ".join([*words, *(f"{scalar}=float" for scalar in (*scalars, "multiplier"))])


def rates_operands(name: str) -> str:
    """The line of the operands of one of `RATES`."""
    _, _, *scalars = inspect.signature(RATES[name][0]).parameters
    return " ".join(f"{scalar}=float" for scalar in scalars)
