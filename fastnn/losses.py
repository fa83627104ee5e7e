"""Losses: what training makes small.

Each is the mean over the batch's rows; a row's loss is multiplied by its sample weight (and the
sum divided by the number of rows, not by the sum of weights, as Keras does).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.engine import cpu
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels import state as s

Array = npt.NDArray[Any]


class Loss:
    """A loss: which ops it becomes, and what targets it takes.

    Attributes
    ----------
    name : str
    fuses : str or None
        The activation that, as the network's last, is computed in one with the loss.
    targets : {"classes", "probabilities", "values"}
        What kind of targets it takes.
    from_logits : bool
        Whether predictions are what that activation has not yet been applied to.
    """

    name: str
    fuses: str | None = None
    targets: str = "values"
    from_logits: bool = False

    def op_name(self, labels: bool, logits: bool) -> str:
        """The op for integer labels or dense targets, on logits or on the activation's output."""
        raise NotImplementedError

    def ops(self, tape: Tape, z: Any, targets: Any, weights: Any, logits: bool) -> tuple[Any, Any]:
        """Put the loss on `tape`: handles of the rows' losses (N,) and of the gradient (N, C)."""
        loss, dz = tape.new(()), tape.new(tuple(z.shape[1:]))
        labels = len(targets.shape) == 1
        key = "labels" if labels else "targets"
        operands = {"loss": loss, "dz": dz, "z": z, key: targets, "weights": weights}
        tape.op(self.op_name(labels, logits), **operands)
        return loss, dz

    def forward(self, y_pred: Any, y_true: Any, sample_weight: Any = None) -> float:
        """The mean loss of predictions, for loops written by hand.

        Parameters
        ----------
        y_pred : array_like, (N, C)
            float32 or float64; the network's output (logits if `from_logits`).
        y_true : array_like
            Targets as in ``model.fit``.
        sample_weight : array_like, (N,), optional

        Returns
        -------
        float
        """
        predicted = checks.array(y_pred, "y_pred")
        dtype = "float64" if predicted.dtype == np.float64 else "float32"
        z = np.ascontiguousarray(predicted, dtype)
        if z.ndim != 2:
            raise ValueError(f"{self.name}: y_pred must be (N, C), got shape {z.shape}")
        y = checks.targets(y_true, "y_true", len(z), z.shape[1:], self.targets, dtype)
        weights = checks.weights(sample_weight, None, y, z.shape[1], dtype)
        tape = Eager(len(z), dtype, cpu.new_state())
        losses, self._gradient = self.ops(tape, z, y.array, weights, logits=self.from_logits)
        tape.op("accumulate", values=losses, slot=s.LOSS_SUM, guard=0)
        return float(cpu.floats(tape.state)[s.LOSS_SUM]) / len(z)

    def backward(self) -> Array:
        """The gradient (N, C) of the last `forward` with respect to its predictions."""
        gradient: Array | None = getattr(self, "_gradient", None)
        if gradient is None:
            raise RuntimeError(f"{self.name}: call forward before backward")
        return gradient

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a loss again."""
        return {}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class _FromLogits(Loss):
    """A loss on probabilities, or on the logits that they come of."""

    def __init__(self, from_logits: bool = False) -> None:
        self.from_logits = bool(from_logits)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a loss again."""
        return {"from_logits": self.from_logits}


class CategoricalCrossentropy(_FromLogits):
    """−log of the probability given to the right class.

    Targets are integer labels (N,), or rows of probabilities (N, C), one-hot or soft. After a
    softmax, or with ``from_logits=True``, loss and gradient are computed from the logits:
    log Σ e^(z−m) − (z_y − m) and (p − y)/N. On probabilities of any other origin they are clipped
    at 1e-7 from below first.

    Parameters
    ----------
    from_logits : bool
        Whether the network's output is logits.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> round(fastnn.CategoricalCrossentropy().forward(np.array([[0.5, 0.5]]), [1]), 4)
    0.6931
    """

    name = "categorical_crossentropy"
    fuses = "softmax"
    targets = "classes"

    def op_name(self, labels: bool, logits: bool) -> str:
        """One of four: labels or rows of probabilities, on logits or on probabilities."""
        return ("softmax_" if logits else "categorical_") + (
            "crossentropy" if labels else "crossentropy_soft"
        )


class BinaryCrossentropy(_FromLogits):
    """−y log p − (1−y) log(1−p), the mean over a row's columns.

    Targets are numbers in [0, 1]. After a sigmoid, or with ``from_logits=True``, it is computed
    from the logits: max(z, 0) − zy + log(1 + e^−|z|), gradient (σ(z) − y)/(N C).

    Parameters
    ----------
    from_logits : bool
        Whether the network's output is logits.
    """

    name = "binary_crossentropy"
    fuses = "sigmoid"
    targets = "probabilities"

    def op_name(self, labels: bool, logits: bool) -> str:
        """On logits or on probabilities."""
        return "sigmoid_binary_crossentropy" if logits else "binary_crossentropy"


class MeanSquaredError(Loss):
    """The mean over a row's columns of (prediction − target)²."""

    name = "mean_squared_error"

    def op_name(self, labels: bool, logits: bool) -> str:
        """There is one."""
        return "mean_squared_error"


LOSSES: dict[str, type[Loss]] = {
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": CategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
}
"""Every loss by its names."""


def check(loss: object) -> Loss:
    """A loss out of its name, or as it is.

    Raises
    ------
    ValueError, TypeError
        If it is neither a name out of `LOSSES` nor a `Loss`.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        return loss()
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"compile: loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        return LOSSES[loss]()
    raise TypeError(f"compile: loss must be a name or a Loss, got {loss!r}")
