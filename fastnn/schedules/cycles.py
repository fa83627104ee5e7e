"""Schedules whose rates rise and fall."""

from __future__ import annotations

import math

import numpy as np

from fastnn.schedules.base import Array, Schedule, half_cosine


class CosineDecayRestarts(Schedule):
    """Half a cosine from η to ``alpha · η``, again and again, as Keras has it.

    Loshchilov & Hutter 2017, arXiv 1608.03983.

    Parameters
    ----------
    initial_learning_rate : float, at least 0
        η.
    first_decay_steps : int, at least 1
    t_mul : float, at least 1
        How many times longer a period is than the one before it.
    m_mul : float, at least 0
        How many times higher it begins.
    alpha : float in [0, 1]
        The lowest rate's share of η.

    Examples
    --------
    >>> import fastnn
    >>> schedule = fastnn.schedules.CosineDecayRestarts(1.0, first_decay_steps=10)
    >>> schedule(5), schedule(10), schedule(20)
    (0.5, 1.0, 0.5)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
    ) -> None:
        self.initial_learning_rate = self._number("initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = self._steps("first_decay_steps", first_decay_steps)
        self.t_mul = self._number("t_mul", t_mul, "[1, inf)")
        self.m_mul = self._number("m_mul", m_mul)
        self.alpha = self._number("alpha", alpha, "[0, 1]")

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        begins = self._begins(float(steps.max(initial=0.0)))
        period = np.searchsorted(begins, steps, side="right") - 1
        lengths = self.first_decay_steps * self.t_mul ** period.astype(np.float64)
        height = self.m_mul**period * half_cosine((steps - begins[period]) / lengths)
        return self.initial_learning_rate * ((1.0 - self.alpha) * height + self.alpha)

    def _begins(self, last: float) -> Array:
        """Where the periods begin that begin up to step `last`."""
        periods = last / self.first_decay_steps
        if self.t_mul > 1.0:
            periods = math.log1p(periods * (self.t_mul - 1.0)) / math.log(self.t_mul)
        lengths = self.t_mul ** np.arange(math.ceil(periods) + 1)
        return self.first_decay_steps * np.concatenate([[0.0], np.cumsum(lengths)])


class OneCycle(Schedule):
    """Up from ``max / div_factor``, down to that over `final_div_factor`, both in half a cosine.

    Smith & Topin 2018, arXiv 1708.07120; PyTorch's `OneCycleLR` with its defaults, of which the
    momentum is left alone. After `total_steps` the rate stays as low as it ended.

    Parameters
    ----------
    max_learning_rate : float, at least 0
    total_steps : int, at least 2
    pct_start : float in (0, 1)
        The share of the steps that go up.
    div_factor, final_div_factor : float, greater than 0

    Examples
    --------
    >>> import fastnn
    >>> schedule = fastnn.schedules.OneCycle(1.0, total_steps=101, pct_start=0.5)
    >>> round(schedule(0), 2), round(schedule(100), 8)
    (0.04, 4e-06)
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.max_learning_rate = self._number("max_learning_rate", max_learning_rate)
        self.total_steps = self._steps("total_steps", total_steps, 2)
        self.pct_start = self._number("pct_start", pct_start, "(0, 1)")
        self.div_factor = self._number("div_factor", div_factor, "(0, inf)")
        self.final_div_factor = self._number("final_div_factor", final_div_factor, "(0, inf)")
        if self.pct_start * self.total_steps <= 1:
            raise ValueError(
                "OneCycle: pct_start of total_steps must be more than 1, "
                f"got {self.pct_start} of {self.total_steps}"
            )

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        high = self.max_learning_rate
        low = high / self.div_factor
        end, top = self.total_steps - 1.0, self.pct_start * self.total_steps - 1.0
        up = high + (low - high) * half_cosine(np.minimum(steps / top, 1.0))
        last = low / self.final_div_factor
        share = np.clip((steps - top) / (end - top), 0.0, 1.0)
        down = last + (high - last) * half_cosine(share)
        return np.where(steps <= top, up, down)


class Cyclical(Schedule):
    """Up and down between two rates, in straight lines: Smith 2017, arXiv 1506.01186.

    PyTorch's `CyclicLR`, of which the momentum is left alone.

    Parameters
    ----------
    base_learning_rate : float, at least 0
    max_learning_rate : float, at least 0
    step_size_up : int, at least 1
        Steps on the way up.
    step_size_down : int, at least 1, optional
        Steps on the way down; None is as many.
    mode : {"triangular", "triangular2", "exp_range"}
        What becomes of the height: nothing, half of it with every cycle, or gammaᵗ of it.
    gamma : float in (0, 1]

    Examples
    --------
    >>> import fastnn
    >>> schedule = fastnn.schedules.Cyclical(0.0, 1.0, step_size_up=10)
    >>> schedule(5), schedule(10), schedule(15)
    (0.5, 1.0, 0.5)
    """

    def __init__(
        self,
        base_learning_rate: float,
        max_learning_rate: float,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
    ) -> None:
        self.base_learning_rate = self._number("base_learning_rate", base_learning_rate)
        self.max_learning_rate = self._number("max_learning_rate", max_learning_rate)
        self.step_size_up = self._steps("step_size_up", step_size_up)
        self.step_size_down = (
            None if step_size_down is None else self._steps("step_size_down", step_size_down)
        )
        if mode not in ("triangular", "triangular2", "exp_range"):
            raise ValueError(
                f"Cyclical: mode must be 'triangular', 'triangular2' or 'exp_range', got {mode!r}"
            )
        self.mode = mode
        self.gamma = self._number("gamma", gamma, "(0, 1]")

    def rates(self, steps: Array) -> Array:
        """The learning rates of `steps` (n,)."""
        up = self.step_size_up
        down = up if self.step_size_down is None else self.step_size_down
        cycle, within = np.divmod(steps, up + down)
        height = np.where(within <= up, within / up, (up + down - within) / down)
        if self.mode == "triangular2":
            height = height * 0.5**cycle
        elif self.mode == "exp_range":
            height = height * self.gamma**steps
        span = self.max_learning_rate - self.base_learning_rate
        return self.base_learning_rate + span * height
