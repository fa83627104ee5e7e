"""The book's accuracies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

PRECISION_PARTS = 250
"""A prediction of a number is right within this part of the targets' standard deviation."""


class Accuracy:
    """What accuracies have in common; one of your own is a subclass with `init` and `compare`.

    Attributes
    ----------
    accumulated_sum, accumulated_count : int
        Right predictions since `new_pass`, and how many there were.
    """

    accumulated_sum: Any = 0
    accumulated_count: int = 0

    def compare(self, predictions: Any, y: Any) -> Array:
        """Which predictions are right."""
        raise NotImplementedError(f"{type(self).__name__} does not define compare")

    def calculate(self, predictions: Any, y: Any) -> Any:
        """The share of right predictions of a batch, taken into the accumulated values."""
        comparisons = np.asarray(self.compare(predictions, y))
        self.accumulated_sum += np.count_nonzero(comparisons)
        self.accumulated_count += comparisons.size
        return np.mean(comparisons)

    def calculate_accumulated(self) -> Any:
        """The share of all predictions since `new_pass`."""
        return self.accumulated_sum / self.accumulated_count

    def new_pass(self) -> None:
        """Accumulate from nothing on."""
        self.accumulated_sum = self.accumulated_count = 0


class Accuracy_Categorical(Accuracy):
    """The share of right classes.

    Parameters
    ----------
    binary : bool
        Whether targets are zeros and ones in the predictions' shape, not classes.
    """

    def __init__(self, *, binary: bool = False) -> None:
        self.binary = binary

    def init(self, y: Any) -> None:
        """Nothing is to be known of the targets."""

    def compare(self, predictions: Any, y: Any) -> Array:
        """Where predictions are the targets; rows (N, C) count as the place of their largest."""
        y = np.asarray(y)
        if not self.binary and y.ndim == 2:
            y = np.argmax(y, axis=1)
        right: Array = _in_shape(predictions, y) == y
        return right


class Accuracy_Regression(Accuracy):
    """The share of predictions nearer to their targets than `precision`.

    Attributes
    ----------
    precision : float or None
        A 250th of the standard deviation of the targets that `init` was given first.
    """

    def __init__(self) -> None:
        self.precision: Any = None

    def init(self, y: Any, reinit: bool = False) -> None:
        """Set `precision`, if it is not set or with `reinit`."""
        if self.precision is None or reinit:
            self.precision = np.std(y) / PRECISION_PARTS

    def compare(self, predictions: Any, y: Any) -> Array:
        """Where the distance is less than `precision`."""
        if self.precision is None:
            raise RuntimeError("Accuracy_Regression: call init(y) before calculate")
        y = np.asarray(y)
        close: Array = np.absolute(_in_shape(predictions, y) - y) < self.precision
        return close


def _in_shape(predictions: Any, y: Array) -> Array:
    """Predictions in the shape of y: NumPy would compare (N, 1) and (N,) in all pairs."""
    given = np.asarray(predictions)
    if given.shape == y.shape or given.size != y.size or 1 not in (given.ndim, y.ndim):
        return given
    return given.reshape(y.shape)
