"""Metrics: a value a row, or sums over all rows."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.kernels.reference.forms import Array, float64

__all__ = [
    "binary_accuracy",
    "categorical_accuracy",
    "categorical_accuracy_soft",
    "count_buckets",
    "count_close",
    "count_confusion",
    "count_positives",
    "sum_squares",
    "top_k_accuracy",
]


def categorical_accuracy(z: ArrayLike, labels: ArrayLike) -> Array:
    """1 where the largest of a row of z (N, C) is the label's, else 0: the first one on ties."""
    return np.where(np.argmax(np.asarray(z), axis=1) == np.asarray(labels), 1.0, 0.0)


def categorical_accuracy_soft(z: ArrayLike, targets: ArrayLike) -> Array:
    """`categorical_accuracy` with the largest of each target row, the first on ties, as label."""
    return categorical_accuracy(z, np.argmax(np.asarray(targets), axis=1))


def binary_accuracy(z: ArrayLike, targets: ArrayLike, threshold: float) -> Array:
    """Share of a row's C columns in which z > threshold and y > 0.5 say the same. z, y : (N, C).

    Keras's `BinaryAccuracy`, but for targets other than 0 and 1: Keras never counts those a hit.
    """
    z, y = float64(z, targets)
    share: Array = ((z > threshold) == (y > 0.5)).mean(axis=1)
    return share


def top_k_accuracy(z: ArrayLike, targets: ArrayLike, k: int) -> Array:
    """1 where fewer than k of a row of z are above that of the largest target, else 0."""
    z, t = float64(z, targets)
    own = z[np.arange(len(z)), t.argmax(axis=1)]
    return np.where((z > own[:, None]).sum(axis=1) < k, 1.0, 0.0)


# Metrics, sums over all rows


def _said(z: Array, threshold: float, largest: bool) -> NDArray[np.bool_]:
    return np.arange(z.shape[1]) == z.argmax(axis=1)[:, None] if largest else z > threshold


def count_positives(
    z: ArrayLike, targets: ArrayLike, threshold: float, largest: bool = False
) -> Array:
    """For each column: rows right, said and true positive, (C, 3).

    A target above 1/2 is positive, and a z above the threshold, or with `largest` a row's largest,
    the first on ties.
    """
    z, t = float64(z, targets)
    said, true = _said(z, threshold, largest), t > 0.5
    counts: Array = np.stack([said & true, said, true], axis=2).sum(axis=0).astype(np.float64)
    return counts


def count_confusion(z: ArrayLike, targets: ArrayLike, threshold: float) -> Array:
    """How many rows of class a were taken for class b, at [a, b]; one column is two classes."""
    z, t = float64(z, targets)
    if z.shape[1] == 1:
        z, t = np.hstack([z <= threshold, z > threshold]), np.hstack([t <= 0.5, t > 0.5])
    counts = np.zeros((z.shape[1], z.shape[1]))
    np.add.at(counts, (t.argmax(axis=1), z.argmax(axis=1)), 1.0)
    return counts


def count_buckets(z: ArrayLike, targets: ArrayLike, buckets: int) -> Array:
    """Sums of t and of 1 - t over the predictions in (b, b + 1] / buckets, (buckets, 2).

    What lies below or above is in the first or last bucket. Keras sorts them so for its AUC.
    """
    z, t = float64(z, targets)
    bucket = np.clip(np.ceil(z * buckets) - 1, 0, buckets - 1).astype(int).ravel()
    of = [np.bincount(bucket, v.ravel(), buckets) for v in (t, 1 - t)]
    return np.stack(of, axis=1)


def count_close(z: ArrayLike, targets: ArrayLike, precision: float) -> Array:
    """The number of elements of z nearer to their targets than `precision`, (1,)."""
    z, t = float64(z, targets)
    return np.array([(np.abs(z - t) < precision).sum()], dtype=np.float64)


def sum_squares(z: ArrayLike, targets: ArrayLike) -> Array:
    """For each column: the targets' mean, their squares about it, and those of z - y, (C, 3)."""
    z, y = float64(z, targets)
    mean = y.mean(axis=0)
    return np.stack([mean, ((y - mean) ** 2).sum(axis=0), ((z - y) ** 2).sum(axis=0)], axis=1)
