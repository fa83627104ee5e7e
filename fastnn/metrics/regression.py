"""Metrics of numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import losses
from fastnn.engine.tape import Tape
from fastnn.metrics.base import Metric, SummedMetric

Array = npt.NDArray[Any]


class _MeanOfLoss(Metric):
    """The mean of a loss, over rows that all weigh the same."""

    loss: type[losses.Loss]

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """The loss's own op, whose gradient is not looked at."""
        return self.loss().ops(tape, z, targets, None, logits=False)[0]


class MeanSquaredError(_MeanOfLoss):
    """The mean over rows and columns of (prediction − target)²."""

    name = "mean_squared_error"
    loss = losses.MeanSquaredError


class RootMeanSquaredError(MeanSquaredError):
    """The square root of the mean over rows and columns of (prediction − target)²."""

    name = "root_mean_squared_error"

    def figure(self, sums: Array, rows: int) -> float:
        """Of the mean over all rows, not the mean of roots."""
        return math.sqrt(sums[0] / rows)


class MeanAbsoluteError(_MeanOfLoss):
    """The mean over rows and columns of |prediction − target|."""

    name = "mean_absolute_error"
    loss = losses.MeanAbsoluteError


class CosineSimilarity(_MeanOfLoss):
    """The mean cosine of the angle between a row of predictions and its targets.

    1 where all point the same way: the loss of that name is minus this.
    """

    name = "cosine_similarity"
    more_is_better = True
    loss = losses.CosineSimilarity

    def figure(self, sums: Array, rows: int) -> float:
        """With the sign of a similarity."""
        return -float(sums[0]) / rows


AGGREGATIONS = (None, "uniform_average", "variance_weighted_average")
"""How the figures of columns become one; None: they do not."""


class R2Score(SummedMetric):
    """The coefficient of determination, 1 − Σ (y − ŷ)² / Σ (y − mean y)², of each column.

    Where all targets of a column are equal it is 1 if all predictions are right, and else 0, as in
    scikit-learn.

    Parameters
    ----------
    class_aggregation : {"uniform_average", "variance_weighted_average", None}
        The mean over columns, or weighted with their targets' variance; None: an array.
    name : str, optional

    Examples
    --------
    >>> import fastnn
    >>> score = fastnn.R2Score()
    >>> score.update_state([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    >>> score.result()
    0.5
    """

    name = "r2_score"
    more_is_better = True

    def __init__(
        self, class_aggregation: str | None = "uniform_average", name: str | None = None
    ) -> None:
        super().__init__(name)
        if class_aggregation not in AGGREGATIONS:
            raise ValueError(
                f"R2Score: class_aggregation must be one of {AGGREGATIONS}, "
                f"got {class_aggregation!r}"
            )
        self.class_aggregation = class_aggregation
        self.is_number = class_aggregation is not None

    def size(self, columns: int) -> int:
        """Three a column."""
        return 3 * columns

    def sum_ops(self, tape: Tape, operands: dict[str, Any]) -> None:
        """Means, and squares about them, are kept up to date row by row."""
        tape.op("sum_squares", **operands)

    def figure(self, sums: Array, rows: int) -> Any:
        """1 − residual / total, averaged."""
        _, total, residual = sums.reshape(-1, 3).T
        constant = total == 0
        scores: Array = 1 - residual / np.where(constant, 1, total)
        scores[constant] = residual[constant] == 0
        if self.class_aggregation is None:
            return scores
        if self.class_aggregation == "uniform_average" or constant.all():
            return float(scores.mean())
        return float((scores * total).sum() / total.sum())

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {"class_aggregation": self.class_aggregation, "name": self.name}


class RegressionAccuracy(SummedMetric):
    """The share of predictions nearer to their targets than std(y)/250.

    The accuracy of regression in *Neural Networks from Scratch in Python* (Kinsley & Kukieła
    2020). The standard deviation is that of all targets of the data that it is of: in `fit` that
    of the training data, of the validation data for validation; by hand, of the first batch.
    """

    name = "regression_accuracy"
    more_is_better = True

    def size(self, columns: int) -> int:
        """Hits, the precision asked for, and the columns of a row."""
        return 3

    def start(self, columns: int, targets: Array) -> Array:
        """No hits yet; the deviation of labels is that of their one-hot rows."""
        if targets.ndim == 1:
            deviation = math.sqrt(columns - 1) / columns
        else:
            deviation = float(np.asarray(targets).std(dtype=np.float64))
        return np.array([0.0, deviation / 250, columns])

    def sum_ops(self, tape: Tape, operands: dict[str, Any]) -> None:
        """Hits are counted."""
        tape.op("count_close", **operands)

    def figure(self, sums: Array, rows: int) -> float:
        """Hits of all predictions."""
        return float(sums[0] / (sums[2] * rows))
