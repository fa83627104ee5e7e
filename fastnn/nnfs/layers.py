"""The book's layers.

By hand, products of float32 arrays are summed in float64 and then rounded, as the `nnfs` package
has it after its ``init()``: networks on the book's small data sets go other ways for the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.engine import shapes
from fastnn.engine.by_hand import by_hand
from fastnn.nnfs import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Layer_Dense:
    """``output = inputs·weights + biases``.

    Results are of the element type of `weights`. All attributes may be assigned.

    Parameters
    ----------
    n_inputs, n_neurons : int
    weight_regularizer_l1, weight_regularizer_l2 : float, at least 0
        λ of λ Σ|w| and of λ Σw², which the loss grows by; see `Loss.regularization_loss`.
    bias_regularizer_l1, bias_regularizer_l2 : float, at least 0
        The same for the biases.
    weight_scale : float, at least 0
        By what normal numbers out of NumPy's global generator are multiplied for the first
        weights; chapter 17 has 0.1.

    Attributes
    ----------
    weights, dweights : ndarray, (n_inputs, n_neurons)
    biases, dbiases : ndarray, (1, n_neurons)
    inputs, dinputs : ndarray, (N, n_inputs)
    output : ndarray, (N, n_neurons)

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.nnfs import Layer_Dense
    >>> dense = Layer_Dense(2, 3)
    >>> dense.forward(np.ones((5, 2)))
    >>> dense.output.shape
    (5, 3)
    """

    inputs: Array
    output: Array
    dweights: Array
    dbiases: Array
    dinputs: Array

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        weight_regularizer_l1: float = 0,
        weight_regularizer_l2: float = 0,
        bias_regularizer_l1: float = 0,
        bias_regularizer_l2: float = 0,
        *,
        weight_scale: float = 0.01,
    ) -> None:
        shape = tuple(
            checks.integer("Layer_Dense", name, value, 1)
            for name, value in (("n_inputs", n_inputs), ("n_neurons", n_neurons))
        )
        scale = checks.number("Layer_Dense", "weight_scale", weight_scale, "[0, inf)")
        strengths = {
            "weight_regularizer_l1": weight_regularizer_l1,
            "weight_regularizer_l2": weight_regularizer_l2,
            "bias_regularizer_l1": bias_regularizer_l1,
            "bias_regularizer_l2": bias_regularizer_l2,
        }
        for name, strength in strengths.items():
            checks.number("Layer_Dense", name, strength, "[0, inf)")
        drawn = np.random.randn(*shape)
        self.weights = scale * arrays.new(drawn)
        self.biases = np.zeros((1, n_neurons), dtype=self.weights.dtype)
        self.weight_regularizer_l1 = weight_regularizer_l1
        self.weight_regularizer_l2 = weight_regularizer_l2
        self.bias_regularizer_l1 = bias_regularizer_l1
        self.bias_regularizer_l2 = bias_regularizer_l2

    def forward(self, inputs: Any, training: bool = True) -> None:
        """Set `output` for rows `inputs` (N, n_inputs)."""
        weights, biases = self._parameters()
        width, neurons = weights.shape
        x = arrays.rows(inputs, "inputs", width, weights.dtype)
        output = np.empty((len(x), neurons), weights.dtype)
        if shapes.rounds(len(x), width, neurons):
            flat = biases.reshape(-1)
            by_hand.op("dense_forward_rounded", y=output, x=x, w=weights, b=flat)
        else:
            y = _room("y", output)
            by_hand.op("dense_forward", y=y, x=_wide("x", x), w=_wide("w", weights), b=None)
            _round(output, y)
            output += biases
        self.inputs, self.output = inputs, output

    def backward(self, dvalues: Any) -> None:
        """Set `dweights`, `dbiases` and `dinputs` for the gradient `dvalues` (N, n_neurons)."""
        weights, biases = self._parameters()
        (width, neurons), dtype = weights.shape, weights.dtype
        x = arrays.rows(self.inputs, "inputs", width, dtype)
        dy = arrays.rows(dvalues, "dvalues", neurons, dtype)
        if len(dy) != len(x):
            raise ValueError(f"dvalues must have {len(x)} rows like inputs, got {len(dy)}")
        self.dweights, self.dinputs = np.empty_like(weights), np.empty_like(x)
        _backward(self.dweights, self.dinputs, x, dy, weights)
        self.dbiases = np.add.reduce(dy, axis=0, keepdims=True)
        l1, l2 = self.weight_regularizer_l1, self.weight_regularizer_l2
        _add_slope(self.dweights, weights, l1, l2)
        _add_slope(self.dbiases, biases, self.bias_regularizer_l1, self.bias_regularizer_l2)

    def _parameters(self) -> tuple[Array, Array]:
        """`weights` (I, O) and `biases`, of O numbers, as kernels read them."""
        weights = arrays.real(self.weights, "weights")
        if weights.ndim != 2:
            raise ValueError(f"weights must have shape (n_inputs, n_neurons), got {weights.shape}")
        biases = arrays.real(self.biases, "biases", weights.dtype)
        if biases.size != weights.shape[1]:
            raise ValueError(f"biases must have shape (1, {weights.shape[1]}), got {biases.shape}")
        return weights, biases

    def get_parameters(self) -> tuple[Array, Array]:
        """`weights` and `biases`."""
        return self.weights, self.biases

    def set_parameters(self, weights: Any, biases: Any) -> None:
        """Take arrays of the same shapes into their place."""
        checked = {"weights": weights, "biases": biases}
        for name, value in checked.items():
            own = getattr(self, name)
            checked[name] = checks.like(value, name, own).astype(own.dtype)
        self.weights, self.biases = checked["weights"], checked["biases"]


def _backward(dweights: Array, dinputs: Array, x: Array, dy: Array, weights: Array) -> None:
    """Write the two products of the way back: xᵀ·dy and dy·weightsᵀ."""
    if shapes.rounds(len(x), *weights.shape):
        by_hand.op("dense_backward_rounded", dw=dweights, dx=dinputs, x=x, dy=dy, w=weights)
        return
    dw, dx, wide_dy = _room("dw", dweights), _room("dx", dinputs), _wide("dy", dy)
    by_hand.op("dense_backward_kernel", dw=dw, db=None, x=_wide("x", x), dy=wide_dy)
    by_hand.op("dense_backward_input", dx=dx, dy=wide_dy, w=_wide("w", weights))
    _round(dweights, dw)
    _round(dinputs, dx)


def _wide(place: str, array: Array) -> Array:
    """`array` in float64: itself if it is, or a copy in the `place` of that name."""
    if array.dtype == np.float64:
        return array
    copy = by_hand.room(place, array.shape)
    copy[...] = array
    return copy


def _room(place: str, result: Array) -> Array:
    """Room in float64 for what `result` will be rounded from: `result` itself if it is float64."""
    return result if result.dtype == np.float64 else by_hand.room(place, result.shape)


def _round(result: Array, wide: Array) -> None:
    """Fill `result` from such room."""
    if result is not wide:
        result[...] = wide


def _add_slope(gradient: Array, parameters: Array, l1: float, l2: float) -> None:
    """Add the gradient of l1 Σ|w| + l2 Σw². As in the book, the slope of |w| at 0 is 1."""
    if l1 > 0:
        gradient += np.where(parameters < 0, -l1, l1).astype(gradient.dtype)
    if l2 > 0:
        gradient += 2 * l2 * parameters


class Layer_Dropout:
    """Set outputs to 0 at random in training, and divide the others by the share that is kept.

    By hand, masks are NumPy's binomial numbers, as the book draws them. `Model.train` draws one
    number from NumPy's generator, and masks from Philox with that as its key.

    Parameters
    ----------
    rate : float in [0, 1)
        The share to drop.

    Attributes
    ----------
    rate : float
        The share that is kept, as in the book.
    binary_mask : ndarray
        0, or 1/rate.
    inputs, output, dinputs : ndarray
    """

    inputs: Array
    output: Array
    dinputs: Array
    binary_mask: Array

    def __init__(self, rate: float) -> None:
        self.rate = 1 - checks.number("Layer_Dropout", "rate", rate, "[0, 1)")

    def forward(self, inputs: Any, training: bool = True) -> None:
        """Set `output`: `inputs` times a new mask, or a copy where not `training`."""
        self.inputs = inputs
        x = arrays.real(inputs, "inputs")
        if not training:
            self.output = x.copy()
            return
        drawn = np.random.binomial(1, self.rate, size=x.shape)
        self.binary_mask = (drawn / self.rate).astype(x.dtype)
        self.output = x * self.binary_mask

    def backward(self, dvalues: Any) -> None:
        """Set `dinputs`: `dvalues` times the last mask."""
        self.dinputs = arrays.like(dvalues, "dvalues", self.binary_mask) * self.binary_mask


class Layer_Input:
    """What a `Model` begins with: its output is its input."""

    output: Array

    def forward(self, inputs: Any, training: bool = True) -> None:
        """Set `output`."""
        self.output = inputs
