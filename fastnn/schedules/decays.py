"""Schedules whose rates fall, the faster or the slower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.schedules.base import Array, Schedule, half_cosine


class InverseTimeDecay(Schedule):
    """``η / (1 + decay_rate · t / decay_steps)``, as Keras has it.

    With a `decay_steps` of 1 it is the "decay" of *Neural Networks from Scratch*.

    Parameters
    ----------
    initial_learning_rate : float, at least 0
        η.
    decay_steps : int, at least 1
    decay_rate : float, at least 0
    staircase : bool
        Whether t / decay_steps is rounded down: the rate falls in steps.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.schedules.InverseTimeDecay(1.0, decay_steps=10, decay_rate=1.0)(10)
    0.5
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
    ) -> None:
        self.initial_learning_rate = self._number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._steps("decay_steps", decay_steps)
        self.decay_rate = self._number("decay_rate", decay_rate)
        self.staircase = bool(staircase)

    def _decays(self, steps: Array) -> Array:
        """How many times `decay_steps` have passed."""
        passed = steps / self.decay_steps
        return np.floor(passed) if self.staircase else passed

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        return self.initial_learning_rate / (1.0 + self.decay_rate * self._decays(steps))


class ExponentialDecay(InverseTimeDecay):
    """``η · decay_rate^(t / decay_steps)``, as Keras has it.

    With ``staircase=True`` it is step decay: every `decay_steps` the rate is multiplied by
    `decay_rate` (PyTorch's `StepLR`).

    Parameters
    ----------
    initial_learning_rate : float, at least 0
        η.
    decay_steps : int, at least 1
    decay_rate : float, at least 0
    staircase : bool
        Whether t / decay_steps is rounded down.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.schedules.ExponentialDecay(1.0, 10, 0.5, staircase=True)(29)
    0.25
    """

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        return self.initial_learning_rate * self.decay_rate ** self._decays(steps)


class PiecewiseConstantDecay(Schedule):
    """One rate after the other, as Keras has it: a boundary's step is the last of its rate.

    Parameters
    ----------
    boundaries : sequence of int
        Steps, each greater than the one before.
    values : sequence of float, at least 0
        Rates, one more than there are boundaries.

    Examples
    --------
    >>> import fastnn
    >>> schedule = fastnn.schedules.PiecewiseConstantDecay([10, 20], [0.1, 0.01, 0.001])
    >>> schedule(10), schedule(11)
    (0.1, 0.01)
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]) -> None:
        self.boundaries = [self._steps("boundaries", b, 0) for b in _listed(boundaries)]
        self.values = [self._number("values", value) for value in _listed(values)]
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(
                f"PiecewiseConstantDecay: boundaries must increase, got {self.boundaries}"
            )
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"PiecewiseConstantDecay: values must be {len(self.boundaries) + 1}, one more "
                f"than boundaries, got {len(self.values)}"
            )

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        rates: Array = np.asarray(self.values)[np.searchsorted(self.boundaries, steps)]
        return rates


def _listed(value: object) -> Sequence[Any]:
    """`value`, if it is a list of numbers."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise TypeError(f"PiecewiseConstantDecay: needs lists of numbers, got {value!r}")
    return list(value)


class PolynomialDecay(Schedule):
    """``(η − end)(1 − t/decay_steps)^power + end``, then `end`, as Keras has it.

    With a `power` of 1 it is linear.

    Parameters
    ----------
    initial_learning_rate : float, at least 0
        η.
    decay_steps : int, at least 1
    end_learning_rate : float, at least 0
    power : float, greater than 0
    cycle : bool
        Whether, each time the end is reached, it goes on towards a later one: the next multiple of
        `decay_steps`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.schedules.PolynomialDecay(1.0, decay_steps=10, end_learning_rate=0.0)(5)
    0.5
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
    ) -> None:
        self.initial_learning_rate = self._number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._steps("decay_steps", decay_steps)
        self.end_learning_rate = self._number("end_learning_rate", end_learning_rate)
        self.power = self._number("power", power, "(0, inf)")
        self.cycle = bool(cycle)

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        passed = steps / self.decay_steps
        share = passed / np.maximum(np.ceil(passed), 1.0) if self.cycle else np.minimum(passed, 1.0)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * (1.0 - share) ** self.power + self.end_learning_rate


class CosineDecay(Schedule):
    """Half a cosine from η to ``alpha · η``, after a linear warm-up if wanted, as Keras has it.

    Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts.

    Parameters
    ----------
    initial_learning_rate : float, at least 0
        Where it begins: η, or with a warm-up what the warm-up begins with.
    decay_steps : int, at least 1
        Steps of the decay, after those of the warm-up.
    alpha : float in [0, 1]
        The last rate's share of the first.
    warmup_target : float, at least 0, optional
        η, that the warm-up ends with; None is none.
    warmup_steps : int, at least 0

    Examples
    --------
    >>> import fastnn
    >>> schedule = fastnn.schedules.CosineDecay(0.0, 100, warmup_target=1.0, warmup_steps=10)
    >>> schedule(5), schedule(10), schedule(110)
    (0.5, 1.0, 0.0)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = self._number("initial_learning_rate", initial_learning_rate)
        self.decay_steps = self._steps("decay_steps", decay_steps)
        self.alpha = self._number("alpha", alpha, "[0, 1]")
        self.warmup_steps = self._steps("warmup_steps", warmup_steps, 0)
        self.warmup_target = None
        if warmup_target is not None:
            self.warmup_target = self._number("warmup_target", warmup_target)
        elif self.warmup_steps:
            raise ValueError("CosineDecay: warmup_steps need a warmup_target")

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        low, high, warmup = self.initial_learning_rate, self.warmup_target, self.warmup_steps
        top = low if high is None else high
        share = np.clip((steps - warmup) / self.decay_steps, 0.0, 1.0)
        decayed: Array = top * ((1.0 - self.alpha) * half_cosine(share) + self.alpha)
        warming = low + (top - low) * steps / max(warmup, 1)
        return np.where(steps < warmup, warming, decayed)


class InvScaling(Schedule):
    """``η / (t + 1)^power_t``: scikit-learn's "invscaling", which counts samples for steps.

    Parameters
    ----------
    initial_learning_rate : float, at least 0
        η.
    power_t : float, at least 0

    Examples
    --------
    >>> import fastnn
    >>> fastnn.schedules.InvScaling(1.0)(3)
    0.5
    """

    def __init__(self, initial_learning_rate: float, power_t: float = 0.5) -> None:
        self.initial_learning_rate = self._number("initial_learning_rate", initial_learning_rate)
        self.power_t = self._number("power_t", power_t)

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        return self.initial_learning_rate / (steps + 1.0) ** self.power_t
