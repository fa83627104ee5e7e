"""Layers that compute nothing: the input's shape, and its flattening."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn import checks
from fastnn.engine.tape import Tape
from fastnn.layers.base import Layer, Options, Shape

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Input(Layer):
    """The shape of a row, as a model's first layer.

    Parameters
    ----------
    shape : tuple of int
        Without the batch.
    **options
        Those of `Layer`.
    """

    def __init__(self, shape: Shape | int, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.shape = checks.shape(shape, "Input: shape")

    def build(self, input_shape: Shape) -> None:
        """Refuse any other shape."""
        if input_shape != self.shape:
            raise ValueError(f"{self.label}: shape is {self.shape}, got rows of {input_shape}")

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """x itself."""
        return x

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """dy itself."""
        return dy

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"shape": list(self.shape), **super().get_config()}


class Flatten(Layer):
    """Each row as one vector.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.Flatten().forward(np.zeros((5, 28, 28))).shape
    (5, 784)
    """

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """One dimension with all elements."""
        return (math.prod(input_shape),)

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """The same memory."""
        return tape.reshape(x, (math.prod(x.shape[1:]),))

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """The same memory in the input's shape."""
        return tape.reshape(dy, self.input_shape or ()) if wants_dx else None
