"""Forms that all oracles bring their arguments into."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Words = NDArray[np.uint32]

PROBABILITY_EPSILON = 1e-7  # Keras's: the losses of probabilities clip at it


def float64(*arrays: ArrayLike) -> list[Array]:
    """The arrays in float64."""
    return [np.asarray(array, dtype=np.float64) for array in arrays]


def one_hot_rows(labels: ArrayLike, columns: int) -> Array:
    """A row for each label, 1 in its column and 0 elsewhere."""
    return np.where(np.asarray(labels)[:, None] == np.arange(columns), 1.0, 0.0)


def row_weights(weights: ArrayLike | None, rows: int) -> Array:
    """The rows' weights, 1 each if None."""
    return np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
