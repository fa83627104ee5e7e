"""Activations as layers."""

from __future__ import annotations

from typing import Any

from fastnn import activations
from fastnn.engine.tape import Tape
from fastnn.layers.base import Layer, Shape


class Activation(Layer):
    """An activation on its own.

    Parameters
    ----------
    activation : str
        Its name; see ``fastnn.activations.NAMES``.
    name : str, optional

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.Activation("relu").forward(np.array([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """

    def __init__(self, activation: str | None, name: str | None = None) -> None:
        super().__init__(name)
        self.activation = activations.check(activation, type(self).__name__)

    def build(self, input_shape: Shape) -> None:
        """Softmax takes vectors only."""
        if self.activation == "softmax" and len(input_shape) != 1:
            raise ValueError(
                f"{self.label}: softmax takes rows that are vectors, got shape {input_shape}"
            )

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """``y = f(x)``."""
        y = activations.forward(tape, self.activation, x)
        tape.save(self, y)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """``dx = f'·dy``, from the output."""
        (y,) = tape.saved(self)
        return activations.backward(tape, self.activation, dy, y) if wants_dx else None

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"activation": self.activation, "name": self.name}


class _Named(Activation):
    """An activation that is a class of its own."""

    activation_name: str

    def __init__(self, name: str | None = None) -> None:
        super().__init__(self.activation_name, name)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"name": self.name}


class ReLU(_Named):
    """``max(x, 0)``; its derivative at 0 is 0."""

    activation_name = "relu"


class Sigmoid(_Named):
    """``1 / (1 + e^−x)``."""

    activation_name = "sigmoid"


class Tanh(_Named):
    """``tanh x``."""

    activation_name = "tanh"


class Softmax(_Named):
    """``e^x / Σ e^x`` over a row, with the row's maximum taken off first."""

    activation_name = "softmax"
