"""What every schedule is: a learning rate for each step, computed ahead for many."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.configured import parameters_of

Array = npt.NDArray[np.float64]


class Schedule:
    """A learning rate for every step; one of your own is a subclass with `rates`.

    Examples
    --------
    >>> import fastnn
    >>> class Halved(fastnn.schedules.Schedule):
    ...     def rates(self, steps):
    ...         return 0.1 / (1 + steps)
    >>> Halved()(1)
    0.05
    """

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps`, float64 (n,), from 0."""
        raise NotImplementedError(f"{type(self).__name__} does not define rates")

    def __call__(self, step: int) -> float:
        """The learning rate of one step, from 0."""
        return float(self.between(step, step + 1)[0])

    def between(self, first: int, last: int) -> Array:
        """The learning rates of steps `first` up to, not with, `last`.

        Raises
        ------
        ValueError
            If one of them is none: negative, infinite or NaN, or there are not as many as steps.
        """
        steps = np.arange(first, last, dtype=np.float64)
        rates = np.asarray(self.rates(steps), np.float64)
        label = type(self).__name__
        if rates.shape != steps.shape:
            raise ValueError(f"{label}: rates must have shape {steps.shape}, got {rates.shape}")
        bad = ~(np.isfinite(rates) & (rates >= 0))
        if bad.any():
            step = int(bad.argmax())
            raise ValueError(
                f"{label}: a learning rate must be a number in [0, inf), "
                f"got {rates[step]} at step {first + step}"
            )
        return rates

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a schedule again: attributes of their names.

        Raises
        ------
        TypeError
            If a schedule of the user's keeps them under others, and has no `get_config` itself.
        """
        names = parameters_of(type(self))
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise TypeError(
                f"{type(self).__name__}: has no attribute {missing[0]!r}, of its argument's name; "
                "define get_config"
            )
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({arguments})"

    def _number(self, argument: str, value: object, interval: str = "[0, inf)") -> float:
        return checks.number(type(self).__name__, argument, value, interval)

    def _steps(self, argument: str, value: object, low: int = 1) -> int:
        return checks.integer(type(self).__name__, argument, value, low)


def half_cosine(share: Array) -> Array:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1.0 + np.cos(math.pi * share))
