"""The book's activations.

Each has `inputs`, `output` and `dinputs`, and ``predictions(outputs)``: what a network that ends in
it says. What has an exponential in it is NumPy's here, for the reason that `layers` gives.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine.by_hand import by_hand
from fastnn.nnfs import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SHORT = 16
"""Columns up to which the largest of a row are found column by column (300 rows of 3: 3 µs, 13)."""


class _Activation:
    """What they have in common."""

    inputs: Array
    output: Array
    dinputs: Array

    def _pair(self, dvalues: Any, **kept: Any) -> tuple[Array, Array]:
        """What was kept in the forward pass, and a gradient `dvalues` of the same shape."""
        ((name, value),) = kept.items()
        known = arrays.real(value, name)
        return known, arrays.like(dvalues, "dvalues", known)


class Activation_ReLU(_Activation):
    """``max(x, 0)``; its derivative at 0 is 0."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        """Set `output`."""
        x = arrays.real(inputs, "inputs")
        output = np.empty_like(x)
        by_hand.op("relu_forward", y=output, x=x)
        self.inputs, self.output = inputs, output

    def backward(self, dvalues: Any) -> None:
        """Set `dinputs`: `dvalues` where `inputs` are above 0, else 0."""
        x, dy = self._pair(dvalues, inputs=self.inputs)
        dinputs = np.empty_like(dy)
        by_hand.op("relu_backward", dx=dinputs, dy=dy, y=x)  # x is above 0 where y is
        self.dinputs = dinputs

    def predictions(self, outputs: Array) -> Array:
        """The outputs themselves."""
        return outputs


class Activation_Softmax(_Activation):
    """``e^x / Σ e^x`` over a row (N, C), with the row's maximum taken off first."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        """Set `output`."""
        x = arrays.real(inputs, "inputs")
        if x.ndim != 2:
            raise ValueError(f"inputs must have shape (N, C), got {x.shape}")
        # NumPy takes short rows one by one.
        largest = reduce(np.maximum, x.T) if x.shape[1] <= SHORT else x.max(axis=1)
        powers = np.exp(x - largest[:, None])
        self.inputs, self.output = inputs, powers / powers.sum(axis=1, keepdims=True)

    def backward(self, dvalues: Any) -> None:
        """Set `dinputs`: the Jacobian of each row of `output` times that of `dvalues`."""
        output, dy = self._pair(dvalues, output=self.output)
        dinputs = np.empty_like(dy)
        by_hand.op("softmax_backward", dx=dinputs, dy=dy, y=output)
        self.dinputs = dinputs

    def predictions(self, outputs: Array) -> Array:
        """The place of each row's largest output."""
        labels: Array = np.argmax(outputs, axis=1)
        return labels


class Activation_Sigmoid(_Activation):
    """``1 / (1 + e^−x)``."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        """Set `output`."""
        with np.errstate(over="ignore"):  # of e^−x where the result is 0
            self.output = 1 / (1 + np.exp(-arrays.real(inputs, "inputs")))
        self.inputs = inputs

    def backward(self, dvalues: Any) -> None:
        """Set `dinputs`: `dvalues` times output · (1 − output)."""
        output, dy = self._pair(dvalues, output=self.output)
        self.dinputs = dy * (1 - output) * output

    def predictions(self, outputs: Array) -> Array:
        """1 where an output is above 0.5, else 0."""
        return (outputs > 0.5) * 1


class Activation_Linear(_Activation):
    """``x``."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        """Set `output`: the inputs themselves."""
        self.inputs = self.output = inputs

    def backward(self, dvalues: Array) -> None:
        """Set `dinputs`: a copy of `dvalues`."""
        self.dinputs = dvalues.copy()

    def predictions(self, outputs: Array) -> Array:
        """The outputs themselves."""
        return outputs
