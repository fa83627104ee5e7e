"""Metrics: what is reported beside the loss."""

from __future__ import annotations

from fastnn.kernels import state as s
from fastnn.metrics.base import Metric, Tally, accumulate
from fastnn.metrics.classification import (
    AUC,
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    ConfusionMatrix,
    F1Score,
    Precision,
    Recall,
    TopKCategoricalAccuracy,
)
from fastnn.metrics.regression import (
    CosineSimilarity,
    MeanAbsoluteError,
    MeanSquaredError,
    R2Score,
    RegressionAccuracy,
    RootMeanSquaredError,
)

__all__ = [
    "AUC",
    "METRICS",
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "ConfusionMatrix",
    "CosineSimilarity",
    "F1Score",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "R2Score",
    "Recall",
    "RegressionAccuracy",
    "RootMeanSquaredError",
    "Tally",
    "TopKCategoricalAccuracy",
    "accumulate",
    "check",
]

METRICS: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "acc": Accuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": CategoricalAccuracy,
    "binary_accuracy": BinaryAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "precision": Precision,
    "recall": Recall,
    "f1_score": F1Score,
    "auc": AUC,
    "confusion_matrix": ConfusionMatrix,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "rmse": RootMeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "cosine_similarity": CosineSimilarity,
    "r2_score": R2Score,
    "regression_accuracy": RegressionAccuracy,
}
"""Every metric by its names."""


def check(metrics: object) -> list[Metric]:
    """A list of metrics out of names and metrics.

    Raises
    ------
    ValueError, TypeError
        If one is neither a name out of `METRICS` nor a `Metric`.
    """
    if metrics is None:
        return []
    if isinstance(metrics, (str, Metric)) or not hasattr(metrics, "__iter__"):
        raise TypeError(f"compile: metrics must be a list, got {metrics!r}")
    checked: list[Metric] = []
    for metric in metrics:
        if isinstance(metric, Metric):
            checked.append(metric)
        elif isinstance(metric, str) and metric in METRICS:
            checked.append(METRICS[metric]())
        elif isinstance(metric, str):
            raise ValueError(f"compile: metrics must be of {', '.join(METRICS)}, got {metric!r}")
        else:
            raise TypeError(f"compile: a metric must be a name or a Metric, got {metric!r}")
    names = [metric.name for metric in checked]
    if "loss" in names:
        raise ValueError("compile: metrics must not be named 'loss'")
    if len(names) > s.MAX_METRICS:
        raise ValueError(f"compile: metrics must be at most {s.MAX_METRICS}, got {len(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"compile: metrics are named twice: {names}")
    return checked
