"""Metrics of classes and of answers that are yes or no."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.engine.tape import Tape
from fastnn.losses import one_hot
from fastnn.metrics.base import Metric, SummedMetric

Array = npt.NDArray[Any]


def _of_classes(metric: Metric, columns: int) -> None:
    """Refuse a network of one output, whose largest is always that one."""
    if columns < 2:
        raise ValueError(f"{metric.name} needs at least 2 outputs, the network has {columns}")


def _ratio(part: Any, whole: Any) -> Any:
    """part / whole, and 0 where both are."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0)


def _class_hits(tape: Tape, z: Any, targets: Any) -> Any:
    """1 for each row whose largest output is in the right place, by labels or by rows."""
    hits = tape.new(())
    if len(targets.shape) == 1:
        tape.op("categorical_accuracy", hits=hits, z=z, labels=targets)
    else:
        tape.op("categorical_accuracy_soft", hits=hits, z=z, targets=targets)
    return hits


class Accuracy(Metric):
    """The share of right answers.

    For classes, the largest output stands at the label (of several largest, the first). For one
    output, or with binary cross-entropy, the share of a row's outputs on the right side of 0.5;
    with a hinge loss, on the right side of 0.
    """

    name = "accuracy"
    more_is_better = takes_logits = True

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """Categorical or binary accuracy, by targets and loss."""
        binary = loss.targets in ("probabilities", "signs") or z.shape[-1] == 1
        if len(targets.shape) == 1 or not binary:
            return _class_hits(tape, z, targets)
        hits = tape.new(())
        # σ(z) > 0.5 where z > 0.
        threshold = 0.0 if logits or loss.targets == "signs" else 0.5
        tape.op("binary_accuracy", hits=hits, z=z, targets=targets, threshold=threshold)
        return hits


class CategoricalAccuracy(Metric):
    """The share of rows whose largest output stands at the label, or at the largest target."""

    name = "categorical_accuracy"
    more_is_better = takes_logits = True

    def check(self, columns: int) -> None:
        """There are two classes at least."""
        _of_classes(self, columns)

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """Nothing but the place of the largest counts."""
        return _class_hits(tape, z, targets)


class BinaryAccuracy(Metric):
    """The share of a row's outputs that are above `threshold` where the target is above 0.5.

    Parameters
    ----------
    threshold : float
    name : str, optional
    """

    name = "binary_accuracy"
    more_is_better = True

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(name)
        self.threshold = checks.number("BinaryAccuracy", "threshold", threshold, "(-inf, inf)")

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """Each output for itself."""
        hits, rows = tape.new(()), one_hot(tape, targets, z.shape[-1])
        tape.op("binary_accuracy", hits=hits, z=z, targets=rows, threshold=self.threshold)
        return hits

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {"threshold": self.threshold, "name": self.name}


class TopKCategoricalAccuracy(Metric):
    """The share of rows whose label is among the k largest outputs; equal ones count as larger.

    A label with fewer than k outputs above its own is among them, as in Keras.

    Parameters
    ----------
    k : int, at least 1
    name : str, optional
    """

    name = "top_k_categorical_accuracy"
    more_is_better = takes_logits = True

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        super().__init__(name)
        self.k = checks.integer("TopKCategoricalAccuracy", "k", k, 1)

    def check(self, columns: int) -> None:
        """There are two classes at least."""
        _of_classes(self, columns)

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """Outputs above the label's are counted, nothing is sorted."""
        hits, rows = tape.new(()), one_hot(tape, targets, z.shape[-1])
        tape.op("top_k_accuracy", hits=hits, z=z, targets=rows, k=self.k)
        return hits

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {"k": self.k, "name": self.name}


class _Positives(SummedMetric):
    """Of each column, or of one class, the rows that are right, said and true positive."""

    more_is_better = True

    def __init__(
        self, thresholds: float = 0.5, *, class_id: int | None = None, name: str | None = None
    ) -> None:
        super().__init__(name)
        label = type(self).__name__
        self.thresholds = checks.number(label, "thresholds", thresholds, "(-inf, inf)")
        self.class_id = None if class_id is None else checks.integer(label, "class_id", class_id, 0)

    def check(self, columns: int) -> None:
        """There is such a class."""
        if self.class_id is not None and self.class_id >= columns:
            raise ValueError(
                f"{self.name}: class_id must be below {columns}, the network's outputs, "
                f"got {self.class_id}"
            )

    def size(self, columns: int) -> int:
        """Three a column."""
        return 3 * columns

    def sum_ops(self, tape: Tape, operands: dict[str, Any]) -> None:
        """Outputs above the threshold are said to be positive."""
        tape.op("count_positives", **operands, threshold=self.thresholds, largest=0)

    def _counts(self, sums: Array) -> Array:
        counts = sums.reshape(-1, 3)
        chosen: Array = counts.sum(axis=0) if self.class_id is None else counts[self.class_id]
        return chosen

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {"thresholds": self.thresholds, "class_id": self.class_id, "name": self.name}


class Precision(_Positives):
    """The share of positive answers that are right; 0 where there is none.

    All outputs of all rows count, or with `class_id` those of one class. Targets above 0.5 are
    positive.

    Parameters
    ----------
    thresholds : float
        Outputs above it are positive answers. One number, where Keras also takes several.
    class_id : int, optional
    name : str, optional

    Examples
    --------
    >>> import fastnn
    >>> precision = fastnn.Precision()
    >>> precision.update_state([0, 1, 1, 1], [0.9, 0.8, 0.7, 0.2])
    >>> round(precision.result(), 3)
    0.667
    """

    name = "precision"

    def figure(self, sums: Array, rows: int) -> float:
        """Right of said."""
        right, said, _ = self._counts(sums)
        return float(_ratio(right, said))


class Recall(_Positives):
    """The share of positive targets that the network finds; 0 where there is none.

    Its parameters are those of `Precision`.
    """

    name = "recall"

    def figure(self, sums: Array, rows: int) -> float:
        """Right of true."""
        right, _, true = self._counts(sums)
        return float(_ratio(right, true))


AVERAGES = (None, "micro", "macro", "weighted")
"""How the figures of classes become one; None: they do not."""


class F1Score(SummedMetric):
    """The harmonic mean of precision and recall, of each class; 0 where both are 0.

    Parameters
    ----------
    average : {None, "micro", "macro", "weighted"}
        None: an array, one figure a class. Else the figure of all classes' counts together, the
        mean, or the mean weighted with how often each class is true.
    threshold : float, optional
        Outputs above it are positive answers; None: a row's largest output is, and no other.
    name : str, optional
    """

    name = "f1_score"
    more_is_better = True

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if average not in AVERAGES:
            raise ValueError(f"F1Score: average must be one of {AVERAGES}, got {average!r}")
        self.average, self.is_number = average, average is not None
        self.threshold = (
            None
            if threshold is None
            else checks.number("F1Score", "threshold", threshold, "(-inf, inf)")
        )

    def check(self, columns: int) -> None:
        """The largest output says something only where there are several."""
        if self.threshold is None:
            _of_classes(self, columns)

    def size(self, columns: int) -> int:
        """Three a column."""
        return 3 * columns

    def sum_ops(self, tape: Tape, operands: dict[str, Any]) -> None:
        """Outputs above the threshold, or the largest, are said to be positive."""
        largest = int(self.threshold is None)
        tape.op("count_positives", **operands, threshold=self.threshold or 0.0, largest=largest)

    def figure(self, sums: Array, rows: int) -> Any:
        """2 right / (said + true), averaged."""
        counts = sums.reshape(-1, 3)
        if self.average == "micro":
            counts = counts.sum(axis=0, keepdims=True)
        right, said, true = counts.T
        scores: Array = _ratio(2 * right, said + true)
        if self.average is None:
            return scores
        if self.average == "weighted":
            return float(_ratio((scores * true).sum(), true.sum()))
        return float(scores.mean())

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {"average": self.average, "threshold": self.threshold, "name": self.name}


class AUC(SummedMetric):
    """The area under the ROC curve, or the precision-recall curve, of all outputs of all rows.

    It is Keras's approximation: answers are counted at `num_thresholds` thresholds spread evenly
    over [0, 1], from which the curve is interpolated: for ROC by straight lines, for PR as Davis &
    Goadrich 2006 (*The Relationship Between Precision-Recall and ROC Curves*) do. Predictions that
    lie between the same two thresholds are not told apart, so that of few, or of crowded ones, the
    exact area is another. Outputs below 0 or above 1, which Keras refuses, count as 0 and 1: it is
    a figure of probabilities.

    Parameters
    ----------
    num_thresholds : int, at least 3
    curve : {"ROC", "PR"}
    name : str, optional
    """

    name = "auc"
    more_is_better = True

    def __init__(
        self, num_thresholds: int = 200, curve: str = "ROC", *, name: str | None = None
    ) -> None:
        super().__init__(name)
        self.num_thresholds = checks.integer("AUC", "num_thresholds", num_thresholds, 3)
        if curve not in ("ROC", "PR"):
            raise ValueError(f"AUC: curve must be 'ROC' or 'PR', got {curve!r}")
        self.curve = curve

    def size(self, columns: int) -> int:
        """Two between each two thresholds."""
        return 2 * (self.num_thresholds - 1)

    def sum_ops(self, tape: Tape, operands: dict[str, Any]) -> None:
        """Targets, and what they lack to 1, are added up between each two thresholds."""
        tape.op("count_buckets", **operands, buckets=self.num_thresholds - 1)

    def figure(self, sums: Array, rows: int) -> float:
        """The area, from the answers above each threshold: the last has none above it."""
        above = np.cumsum(sums.reshape(-1, 2)[::-1], axis=0)
        right, wrong = np.vstack([np.zeros(2), above]).T
        if self.curve == "ROC":
            rise = (right[1:] + right[:-1]) / 2
            return float(_ratio((rise * np.diff(wrong)).sum(), right[-1] * wrong[-1]))
        said = right + wrong
        slope = _ratio(np.diff(right), np.diff(said))
        intercept = right[:-1] - slope * said[:-1]
        # Before the first positive answer the precision is that of the first ones.
        growth = np.log(_ratio(said[1:], said[:-1]), out=np.zeros(slope.size), where=said[:-1] > 0)
        return float(_ratio((slope * (np.diff(right) + intercept * growth)).sum(), right[-1]))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {"num_thresholds": self.num_thresholds, "curve": self.curve, "name": self.name}


class ConfusionMatrix(SummedMetric):
    """How many rows of class a (row) the network takes for class b (column), as in scikit-learn.

    The network takes a row for the class of its largest output, the first of several. One output
    stands for two classes, the second where it is above `threshold`.

    Parameters
    ----------
    threshold : float
    name : str, optional
    """

    name = "confusion_matrix"
    is_number = False

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(name)
        self.threshold = checks.number("ConfusionMatrix", "threshold", threshold, "(-inf, inf)")

    def size(self, columns: int) -> int:
        """One for each two classes."""
        return max(columns, 2) ** 2

    def sum_ops(self, tape: Tape, operands: dict[str, Any]) -> None:
        """Rows are counted."""
        tape.op("count_confusion", **operands, threshold=self.threshold)

    def figure(self, sums: Array, rows: int) -> Array:
        """The counts, (C, C) integers."""
        classes = round(sums.size**0.5)
        return sums.astype(np.int64).reshape(classes, classes)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {"threshold": self.threshold, "name": self.name}
