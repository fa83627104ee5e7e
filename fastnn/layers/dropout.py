"""Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import checks
from fastnn.engine.tape import Tape
from fastnn.layers.base import Layer, Options

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Dropout(Layer):
    """Set elements to 0 at random in training, and scale the rest by 1/(1 − rate).

    The mask is a function of (seed, layer, step, element) by Philox 4x32-10, so it is the same
    for any number of threads, and made again on the way back instead of kept. Hinton et al. 2012
    (arXiv 1207.0580), in the inverted form: nothing is done when predicting.

    Parameters
    ----------
    rate : float in [0, 1)
        Probability that an element is dropped.
    seed : int, optional
        Of the masks, where the layer stands alone; in a model they follow the model's seed.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> float(fastnn.Dropout(0.5, seed=1).forward(np.ones((1, 1000)), training=True).max())
    2.0
    """

    def __init__(self, rate: float, seed: int | None = None, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.rate = checks.number("Dropout", "rate", rate, "[0, 1)")
        self.seed = seed if seed is None else checks.seed("Dropout", seed)
        self._seed = self.seed

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """Drop and scale, in training."""
        return self._drop(tape, x)

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """The same mask on the gradient."""
        return self._drop(tape, dy) if wants_dx else None

    def _drop(self, tape: Tape, x: Any) -> Any:
        if not tape.training or self.rate == 0:
            return x
        y = tape.new(tuple(x.shape[1:]))
        tape.op("dropout", y=y, x=x, rate=self.rate, stream=self._stream)
        return y

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"rate": self.rate, "seed": self.seed, **super().get_config()}
