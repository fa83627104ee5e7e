"""Layers that compute nothing: the input's shape, another one, and none at all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastnn import checks
from fastnn.engine.tape import Tape
from fastnn.layers.base import Layer, Options, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Reshape(Layer):
    """Each row in another shape, its elements in the order that they had.

    Parameters
    ----------
    target_shape : tuple of int
        Without the batch; one length may be -1, which is then what is left.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.Reshape((4, -1)).forward(np.zeros((5, 28, 28))).shape
    (5, 4, 196)
    """

    def __init__(self, target_shape: Sequence[int] | int, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        lengths = target_shape if isinstance(target_shape, (tuple, list)) else [target_shape]
        # What is to be found is of any length, 1 for the check.
        checks.shape([1 if length == -1 else length for length in lengths], "Reshape: target_shape")
        if list(lengths).count(-1) > 1:
            raise ValueError(f"Reshape: target_shape may have one -1, got {target_shape!r}")
        self.target_shape = tuple(map(int, lengths))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The target, with the length that was left open."""
        size = math.prod(input_shape)
        known = math.prod(length for length in self.target_shape if length != -1)
        shape = tuple(size // known if length == -1 else length for length in self.target_shape)
        if math.prod(shape) != size:
            raise ValueError(
                f"{self.label}: rows of shape {input_shape} cannot be of shape {self.target_shape}"
            )
        return shape

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """The same memory."""
        return tape.reshape(x, self.output_shape or ())

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """The same memory in the input's shape."""
        return tape.reshape(dy, self.input_shape or ()) if wants_dx else None

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"target_shape": list(self.target_shape), **super().get_config()}
