"""Losses: what training makes small.

Each is the mean over the batch's rows; a row's loss is multiplied by its sample weight (and the
sum divided by the number of rows, not by the sum of weights, as Keras does).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.configured import Configured
from fastnn.engine import cpu
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels import state as s

Array = npt.NDArray[Any]


def one_hot(tape: Tape, targets: Any, columns: int, on: float = 1.0, off: float = 0.0) -> Any:
    """Rows with `on` at the label and `off` elsewhere, of labels; targets that are rows as is."""
    if len(targets.shape) > 1:
        return targets
    rows = tape.new((columns,))
    tape.op("one_hot", out=rows, labels=targets, on=on, off=off)
    return rows


class Loss(Configured):
    """A loss: which ops it becomes, and what targets it takes.

    Attributes
    ----------
    name : str
    fuses : str or None
        The activation that, as the network's last, is computed in one with the loss.
    targets : {"classes", "probabilities", "values", "signs", "counts"}
        What kind of targets it takes.
    from_logits : bool
        Whether predictions are what that activation has not yet been applied to.
    """

    name: str
    fuses: str | None = None
    targets: str = "values"
    from_logits: bool = False
    only_logits: bool = False

    def op_name(self, labels: bool, logits: bool) -> str:
        """The op for integer labels or dense targets, on logits or on the activation's output.

        Unless overridden, it has the loss's name.
        """
        return self.name

    def targets_ops(self, tape: Tape, targets: Any, columns: int) -> Any:
        """Put on `tape` what makes the op's targets of labels (N,) or rows (N, C).

        Unless overridden, labels become one-hot rows.
        """
        return one_hot(tape, targets, columns)

    def scalars(self) -> dict[str, float]:
        """The op's scalars."""
        return {}

    def ops(self, tape: Tape, z: Any, targets: Any, weights: Any, logits: bool) -> tuple[Any, Any]:
        """Put the loss on `tape`: handles of the rows' losses (N,) and of the gradient (N, C)."""
        targets = self.targets_ops(tape, targets, z.shape[-1])
        loss, dz = tape.new(()), tape.new(tuple(z.shape[1:]))
        labels = len(targets.shape) == 1
        key = "labels" if labels else "targets"
        operands = {"loss": loss, "dz": dz, "z": z, key: targets, "weights": weights}
        tape.op(self.op_name(labels, logits), **operands, **self.scalars())
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


class _Crossentropy(Loss):
    """A loss on probabilities, or on the logits that they come of."""

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = bool(from_logits)
        self.label_smoothing = checks.number(
            type(self).__name__, "label_smoothing", label_smoothing, "[0, 1]"
        )

    def targets_ops(self, tape: Tape, targets: Any, columns: int) -> Any:
        """Targets drawn towards an even answer, if they are to be smoothed."""
        smoothing = self.label_smoothing
        if smoothing == 0:
            return targets
        even = smoothing / self._answers(columns)
        if len(targets.shape) == 1:
            return one_hot(tape, targets, columns, on=1 - smoothing + even, off=even)
        rows = tape.new(tuple(targets.shape[1:]))
        tape.op("affine", y=rows, x=targets, scale=1 - smoothing, shift=even)
        return rows

    def _answers(self, columns: int) -> int:
        """How many answers there are, among which the smoothed share is divided."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a loss again."""
        return {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing}


class CategoricalCrossentropy(_Crossentropy):
    """−log of the probability given to the right class.

    Targets are integer labels (N,), or rows of probabilities (N, C), one-hot or soft. After a
    softmax, or with ``from_logits=True``, loss and gradient are computed from the logits:
    log Σ e^(z−m) − (z_y − m) and (p − y)/N. On probabilities of any other origin they are clipped
    at 1e-7 from below first.

    Parameters
    ----------
    from_logits : bool
        Whether the network's output is logits.
    label_smoothing : float in [0, 1]
        The share s of each target that is divided among all classes: (1 − s) t + s/C.

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

    def _answers(self, columns: int) -> int:
        return columns


class BinaryCrossentropy(_Crossentropy):
    """−y log p − (1−y) log(1−p), the mean over a row's columns.

    Targets are numbers in [0, 1]. After a sigmoid, or with ``from_logits=True``, it is computed
    from the logits: max(z, 0) − zy + log(1 + e^−|z|), gradient (σ(z) − y)/(N C).

    Parameters
    ----------
    from_logits : bool
        Whether the network's output is logits.
    label_smoothing : float in [0, 1]
        The share s of each target that is divided among yes and no: (1 − s) y + s/2.
    """

    name = "binary_crossentropy"
    fuses = "sigmoid"
    targets = "probabilities"

    def op_name(self, labels: bool, logits: bool) -> str:
        """On logits or on probabilities."""
        return "sigmoid_binary_crossentropy" if logits else "binary_crossentropy"

    def _answers(self, columns: int) -> int:
        return 2


class MeanSquaredError(Loss):
    """The mean over a row's columns of (prediction − target)²."""

    name = "mean_squared_error"


class MeanAbsoluteError(Loss):
    """The mean over a row's columns of |prediction − target|."""

    name = "mean_absolute_error"


class Huber(Loss):
    """The mean over a row's columns of d²/2 up to d = δ, and δ(d − δ/2) beyond.

    d = |prediction − target|. Huber 1964, *Robust Estimation of a Location Parameter*.

    Parameters
    ----------
    delta : float, greater than 0
        δ, from which on the loss grows in proportion to d.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.Huber(delta=2.0).forward(np.array([[1.0, 5.0]]), np.array([[0.0, 0.0]]))
    4.25
    """

    name = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = checks.number("Huber", "delta", delta, "(0, inf)")

    def scalars(self) -> dict[str, float]:
        """δ."""
        return {"parameter": self.delta}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a loss again."""
        return {"delta": self.delta}


class LogCosh(Loss):
    """The mean over a row's columns of log cosh(prediction − target), as in Keras."""

    name = "log_cosh"


class Poisson(Loss):
    """The mean over a row's columns of p − y log(p + 1e-7), as in Keras.

    Targets y are not negative: counts of what happened where p were expected to. A prediction
    below −1e-7 has no such loss, and stops training.
    """

    name = "poisson"
    targets = "counts"


class HalfPoissonDeviance(Loss):
    """The mean over a row's columns of y log(y/p) − y + p: scikit-learn's Poisson loss.

    Targets y are not negative. After the activation ``"exponential"``, or with
    ``from_logits=True``, it is computed from the logarithms z of the means p:
    y (log y − z) − y + e^z, gradient (e^z − y)/(N C).

    Parameters
    ----------
    from_logits : bool
        Whether the network's output is logarithms.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.HalfPoissonDeviance().forward(np.array([[3.0, 1.0]]), np.array([[3.0, 0.0]]))
    0.5
    """

    name = "half_poisson_deviance"
    fuses = "exponential"
    targets = "counts"

    def __init__(self, from_logits: bool = False) -> None:
        self.from_logits = bool(from_logits)

    def op_name(self, labels: bool, logits: bool) -> str:
        """On logarithms or on means."""
        return f"exponential_{self.name}" if logits else self.name

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a loss again."""
        return {"from_logits": self.from_logits}


class Hinge(Loss):
    """The mean over a row's columns of max(1 − yz, 0).

    Targets are −1 and 1, or 0 and 1, where 0 then counts as −1; which, the data of a call tell.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.Hinge().forward(np.array([[0.5, 2.0]]), np.array([[0, 1]]))
    0.75
    """

    name = "hinge"
    targets = "signs"


class SquaredHinge(Hinge):
    """The mean over a row's columns of max(1 − yz, 0)², with the targets of `Hinge`."""

    name = "squared_hinge"


class CategoricalHinge(Loss):
    """max(1 + max (1 − t)z − Σ tz, 0) of a row's outputs z, as in Keras.

    Targets t are integer labels (N,), or rows of probabilities (N, C), one-hot or soft; Keras takes
    any rows. For one-hot rows it asks that the right output exceed all others, and 0, by 1.
    """

    name = "categorical_hinge"
    targets = "classes"


class KLDivergence(Loss):
    """Σ t log(t/p) over a row's columns, both clipped to [1e-7, 1] first, as in Keras.

    Kullback & Leibler 1951, *On Information and Sufficiency*. Targets t are rows of probabilities
    (N, C), or integer labels (N,) for one-hot ones; rows that do not sum to 1, which Keras takes,
    are refused.
    """

    name = "kl_divergence"
    targets = "classes"


class CosineSimilarity(Loss):
    """Minus the cosine of the angle between a row of predictions and its targets, as in Keras.

    From −1, where both point the same way, to 1. A norm below 1e-7 counts as 1e-7.
    """

    name = "cosine_similarity"


class SparsemaxLoss(Loss):
    """−t·z + ½ Σ (z² − τ²) + ½ Σ t² of logits z, the sum over the support of sparsemax(z).

    τ is the threshold of sparsemax(z) = max(z − τ, 0), and the gradient is (sparsemax(z) − t)/N.
    Martins & Astudillo 2016 (arXiv 1602.02068), equation 25. The network's output is logits, or
    ends in the activation ``"sparsemax"``, which the loss then computes itself.
    Targets t are integer labels (N,), or rows of probabilities (N, C), one-hot or soft.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> fastnn.SparsemaxLoss().forward(np.array([[2.0, 1.0]]), [0])  # sparsemax is (1, 0)
    0.0
    """

    name = "sparsemax_loss"
    fuses = "sparsemax"
    targets = "classes"
    from_logits = only_logits = True


LOSSES: dict[str, type[Loss]] = {
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": CategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "bce": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "huber": Huber,
    "log_cosh": LogCosh,
    "logcosh": LogCosh,
    "poisson": Poisson,
    "half_poisson_deviance": HalfPoissonDeviance,
    "hinge": Hinge,
    "squared_hinge": SquaredHinge,
    "categorical_hinge": CategoricalHinge,
    "kl_divergence": KLDivergence,
    "kld": KLDivergence,
    "cosine_similarity": CosineSimilarity,
    "sparsemax_loss": SparsemaxLoss,
}
"""Every loss by its names."""


def check(loss: object) -> Loss:
    """A loss out of its name, or as it is.

    Raises
    ------
    ValueError, TypeError
        If it is neither a name out of `LOSSES` nor a `Loss`.
    """
    return checks.named(loss, LOSSES, Loss, "compile: loss")
