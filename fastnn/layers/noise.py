"""Gaussian noise, added or multiplied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import checks
from fastnn.engine.tape import Tape
from fastnn.layers.base import Options
from fastnn.layers.dropout import Drawing, Dropping

if TYPE_CHECKING:
    from typing_extensions import Unpack


class GaussianNoise(Drawing):
    """Add numbers N(0, stddev²) in training.

    They are made of counter-based random words as Box & Muller 1958 have it, see
    ``fastnn/kernels/normal.py``; none is beyond 6.77 · stddev. The gradient passes unchanged.

    Parameters
    ----------
    stddev : float in [0, inf)
        Standard deviation of what is added.
    seed : int, optional
        Of the numbers, where the layer stands alone; in a model they follow the model's seed.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> y = fastnn.GaussianNoise(0.5, seed=1).forward(np.zeros((100, 1000)), training=True)
    >>> round(float(y.std()), 2)
    0.5
    """

    def __init__(self, stddev: float, seed: int | None = None, **options: Unpack[Options]) -> None:
        super().__init__(seed, **options)
        self.stddev = checks.number("GaussianNoise", "stddev", stddev, "[0, inf)")

    @property
    def draws(self) -> bool:
        """Whether anything is added."""
        return self.stddev > 0

    def change(self, tape: Tape, x: Any, back: bool) -> Any:
        """x + stddev·z; a gradient as it is."""
        return x if back else self.drawn(tape, "gaussian_noise", x, stddev=self.stddev)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"stddev": self.stddev, "seed": self.seed, **super().get_config()}


class GaussianDropout(Dropping):
    """Multiply by numbers N(1, rate/(1 − rate)) in training.

    They have the mean and the variance of dropout's factors. Srivastava et al. 2014 (JMLR 15),
    section 10; the numbers as for `GaussianNoise`.

    Parameters
    ----------
    rate : float in [0, 1)
        That of the dropout with as large a variance.
    seed : int, optional
        Of the numbers, where the layer stands alone; in a model they follow the model's seed.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> y = fastnn.GaussianDropout(0.5, seed=1).forward(np.ones((100, 1000)), training=True)
    >>> round(float(y.mean()), 2), round(float(y.std()), 2)
    (1.0, 1.0)
    """

    def change(self, tape: Tape, x: Any, back: bool) -> Any:
        """x·(1 + stddev·z), of x or a gradient."""
        stddev = (self.rate / (1.0 - self.rate)) ** 0.5
        return self.drawn(tape, "gaussian_noise", x, stddev=stddev, relative=1)
