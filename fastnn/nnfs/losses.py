"""The book's losses.

``forward(y_pred, y_true)`` returns each row's loss (N,), ``backward(dvalues, y_true)`` sets
`dinputs` (N, C) to the gradient of their mean by the predictions `dvalues`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.kernels.pointwise import CLIP
from fastnn.nnfs import arrays
from fastnn.nnfs.activations import Activation_Softmax

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Loss:
    """What losses have in common; a loss of your own is a subclass with `forward` and `backward`.

    Attributes
    ----------
    trainable_layers : sequence of layers
        Those whose regularization counts, see `remember_trainable_layers`.
    accumulated_sum, accumulated_count : float, int
        The rows' losses since `new_pass`, and how many rows.
    dinputs : ndarray, (N, C)
    """

    trainable_layers: Sequence[Any] = ()
    accumulated_sum: Any = 0
    accumulated_count: int = 0
    dinputs: Array

    def forward(self, y_pred: Any, y_true: Any) -> Array:
        """Each row's loss (N,)."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def regularization_loss(self, layer: Any = None) -> Any:
        """What the size of parameters adds to the loss: of `layer`, or of the trainable layers."""
        total = 0
        for each in self.trainable_layers if layer is None else [layer]:
            for parameters, kind in (("weights", "weight"), ("biases", "bias")):
                l1 = getattr(each, f"{kind}_regularizer_l1", 0)
                l2 = getattr(each, f"{kind}_regularizer_l2", 0)
                if l1 > 0:
                    total += l1 * np.sum(np.abs(getattr(each, parameters)))
                if l2 > 0:
                    total += l2 * np.sum(np.square(getattr(each, parameters)))
        return total

    def remember_trainable_layers(self, trainable_layers: Sequence[Any]) -> None:
        """Let the regularization of these layers count."""
        self.trainable_layers = trainable_layers

    def calculate(self, output: Any, y: Any, *, include_regularization: bool = False) -> Any:
        """The mean loss of a batch, taken into the accumulated values.

        Returns
        -------
        float, or (float, float)
            With `include_regularization`, the regularization loss, too.
        """
        losses = self.forward(output, y)
        total, count = np.add.reduce(losses), len(losses)
        self.accumulated_sum += total
        self.accumulated_count += count
        return self._with_regularization(total / count, include_regularization)

    def calculate_accumulated(self, *, include_regularization: bool = False) -> Any:
        """The mean loss of all rows since `new_pass`; in the same form."""
        mean = self.accumulated_sum / self.accumulated_count
        return self._with_regularization(mean, include_regularization)

    def _with_regularization(self, data_loss: Any, include_regularization: bool) -> Any:
        return (data_loss, self.regularization_loss()) if include_regularization else data_loss

    def new_pass(self) -> None:
        """Accumulate from nothing on."""
        self.accumulated_sum = self.accumulated_count = 0


class Loss_CategoricalCrossentropy(Loss):
    """−log of the probability given to the right class, clipped to [1e-7, 1 − 1e-7].

    Targets are integer labels (N,) or one-hot rows (N, C). The gradient is not clipped.
    """

    def forward(self, y_pred: Any, y_true: Any) -> Array:
        """Each row's loss (N,)."""
        p = arrays.real(y_pred, "y_pred")
        y, clipped = _classes(y_true, p), _clipped(p)
        if y.ndim == 1:
            confidences = clipped[np.arange(len(y)), y]
        else:
            confidences = np.sum(clipped * y, axis=1)
        losses: Array = -np.log(confidences)
        return losses

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """Set `dinputs` to −y/p / N."""
        p = arrays.real(dvalues, "dvalues")
        self.dinputs = -_one_hot(_classes(y_true, p), p) / p / len(p)


class Activation_Softmax_Loss_CategoricalCrossentropy:
    """Softmax and categorical cross-entropy with their joint gradient, (p − y)/N.

    Attributes
    ----------
    activation : Activation_Softmax
    loss : Loss_CategoricalCrossentropy
    output, dinputs : ndarray, (N, C)
    """

    output: Array
    dinputs: Array

    def __init__(self) -> None:
        self.activation = Activation_Softmax()
        self.loss = Loss_CategoricalCrossentropy()

    def forward(self, inputs: Any, y_true: Any) -> Any:
        """Set `output` to the softmax of logits `inputs` (N, C); the mean loss."""
        self.activation.forward(inputs)
        self.output = self.activation.output
        return self.loss.calculate(self.output, y_true)

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """Set `dinputs` for the softmax's output `dvalues` (N, C)."""
        p = arrays.real(dvalues, "dvalues")
        y = _classes(y_true, p)
        if y.ndim == 1:
            difference = p.copy()
            difference[np.arange(len(y)), y] -= 1
        else:
            difference = p - _one_hot(np.argmax(y, axis=1), p)
        difference /= len(p)
        self.dinputs = difference


class Loss_BinaryCrossentropy(Loss):
    """The mean over a row's columns of −y log p − (1−y) log(1−p), p clipped to [1e-7, 1 − 1e-7].

    Targets are 0 and 1. The gradient is that of the clipped p.
    """

    def forward(self, y_pred: Any, y_true: Any) -> Array:
        """Each row's loss (N,)."""
        p = arrays.real(y_pred, "y_pred")
        y, p = arrays.targets(y_true, p), _clipped(p)
        losses: Array = np.mean(-(y * np.log(p) + (1 - y) * np.log(1 - p)), axis=-1)
        return losses

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """Set `dinputs` to ((1−y)/(1−p) − y/p) / (C N)."""
        p = arrays.real(dvalues, "dvalues")
        y, p = arrays.targets(y_true, p), _clipped(p)
        self.dinputs = _mean((1 - y) / (1 - p) - y / p)


class Loss_MeanSquaredError(Loss):
    """The mean over a row's columns of (y − p)²."""

    def forward(self, y_pred: Any, y_true: Any) -> Array:
        """Each row's loss (N,)."""
        p = arrays.real(y_pred, "y_pred")
        losses: Array = np.mean((arrays.targets(y_true, p) - p) ** 2, axis=-1)
        return losses

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """Set `dinputs` to −2(y − p) / C / N."""
        p = arrays.real(dvalues, "dvalues")
        self.dinputs = _mean(-2 * (arrays.targets(y_true, p) - p))


class Loss_MeanAbsoluteError(Loss):
    """The mean over a row's columns of |y − p|.

    The book prints its gradient with the other sign, by which the loss would grow.
    """

    def forward(self, y_pred: Any, y_true: Any) -> Array:
        """Each row's loss (N,)."""
        p = arrays.real(y_pred, "y_pred")
        losses: Array = np.mean(np.abs(arrays.targets(y_true, p) - p), axis=-1)
        return losses

    def backward(self, dvalues: Any, y_true: Any) -> None:
        """Set `dinputs` to the sign of p − y, / C / N."""
        p = arrays.real(dvalues, "dvalues")
        self.dinputs = _mean(np.sign(p - arrays.targets(y_true, p)))


def _mean(slopes: Array) -> Array:
    """The gradient of the mean over rows and columns (N, C), out of each element's slope."""
    gradient: Array = slopes / (slopes.size // len(slopes)) / len(slopes)
    return gradient


def _clipped(p: Array) -> Array:
    """p within [1e-7, 1 − 1e-7]."""
    within: Array = np.minimum(np.maximum(p, CLIP), 1 - CLIP)
    return within


def _classes(y_true: Any, p: Array) -> Array:
    """Targets of probabilities p (N, C): labels (N,) among the classes, or rows (N, C)."""
    y = checks.array(y_true, "y_true")
    if p.ndim != 2 or y.shape not in (p.shape, p.shape[:1]):
        rows, shape = p.shape[:1], p.shape
        raise ValueError(f"y_true must have shape {rows} or {shape}, got {y.shape}")
    if y.ndim == 2:
        return y
    if y.dtype.kind not in "ui":
        raise TypeError(f"y_true must hold integer labels, got {y.dtype}")
    if y.max() >= p.shape[1] or y.min() < 0:
        raise ValueError(
            f"y_true must hold labels from 0 to {p.shape[1] - 1}, got {y.min()} to {y.max()}"
        )
    return y


def _one_hot(y: Array, p: Array) -> Array:
    """Rows with 1 at the label, in the type of p (N, C), of labels (N,); rows as they are."""
    if y.ndim == 2:
        return y.astype(p.dtype)
    rows = np.zeros_like(p)
    rows[np.arange(len(y)), y] = 1
    return rows
