"""Layers that compute nothing: the input's shape, and its flattening."""

from __future__ import annotations

import math
from typing import Any

from fastnn.engine.tape import Tape
from fastnn.layers.base import Layer, Shape


class Input(Layer):
    """The shape of a row, as a model's first layer.

    Parameters
    ----------
    shape : tuple of int
        Without the batch.
    name : str, optional
    """

    def __init__(self, shape: Shape | int, name: str | None = None) -> None:
        super().__init__(name)
        self.shape = check_shape(shape, "Input: shape")

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
        return {"shape": list(self.shape), "name": self.name}


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


def check_shape(shape: object, owner: str) -> Shape:
    """`shape` as a tuple of positive integers; one integer is a vector's length.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    lengths = shape if isinstance(shape, (tuple, list)) else (shape,)
    for length in lengths:
        if isinstance(length, bool) or not hasattr(length, "__index__") or int(length) < 1:
            raise ValueError(f"{owner} must be a tuple of positive integers, got {shape!r}")
    if not lengths:
        raise ValueError(f"{owner} must have at least one dimension, got {shape!r}")
    return tuple(int(length) for length in lengths)
