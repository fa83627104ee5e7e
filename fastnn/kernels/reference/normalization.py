"""Normalisation of a batch's columns, and of rows.

Rows of x (N, F) may have their C columns several times over: they are N·F/C rows of C.
"""

import numpy as np
from numpy.typing import ArrayLike

from fastnn.kernels.reference.forms import Array, float64

__all__ = [
    "batch_normalization_backward",
    "batch_normalization_parameters",
    "batch_statistics",
    "layer_normalization_backward",
    "layer_normalization_forward",
    "moving_average",
    "normalize_columns",
]


def batch_statistics(x: ArrayLike, columns: int) -> tuple[Array, Array]:
    """Mean and variance, over all rows and not one less, of each of the columns of x (N, F).

    Examples
    --------
    >>> batch_statistics([[1, 5], [3, 5]], 2)
    (array([2., 5.]), array([1., 0.]))
    """
    rows = np.asarray(x, dtype=np.float64).reshape(-1, columns)
    mean = rows.mean(axis=0)
    return mean, ((rows - mean) ** 2).mean(axis=0)


def normalize_columns(
    x: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    gamma: ArrayLike = 1.0,
    beta: ArrayLike = 0.0,
    epsilon: float = 0.0,
    least: float = 0.0,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) gamma + beta by columns; x (N, F), others (C,).

    What the root is taken of is no smaller than `least`.
    """
    x, variance = float64(x, variance)
    rows = x.reshape(-1, len(variance))
    root = np.sqrt(np.maximum(variance + epsilon, least))
    y: Array = (rows - np.asarray(mean)) / root * np.asarray(gamma) + np.asarray(beta)
    return y.reshape(x.shape)


def batch_normalization_parameters(
    dy: ArrayLike, x: ArrayLike, mean: ArrayLike, variance: ArrayLike, epsilon: float
) -> tuple[Array, Array]:
    """Gradients at gamma and beta of `normalize_columns`, (C,) each, from dy (N, F)."""
    normalized = normalize_columns(x, mean, variance, epsilon=epsilon)
    columns = len(np.asarray(variance))
    slopes = np.asarray(dy, dtype=np.float64).reshape(-1, columns)
    return (slopes * normalized.reshape(slopes.shape)).sum(axis=0), slopes.sum(axis=0)


def batch_normalization_backward(
    dy: ArrayLike,
    x: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    gamma: ArrayLike,
    dgamma: ArrayLike,
    dbeta: ArrayLike,
    epsilon: float,
) -> Array:
    """Gradient at x of `normalize_columns` by x's own mean and variance, from dy (N, F).

    With M rows, gamma / sqrt(variance + epsilon) (dy - (dbeta + x^ dgamma) / M): Ioffe & Szegedy
    2015 (arXiv 1502.03167), section 3, their chain of derivatives put together.
    """
    dy, variance, gamma, dgamma, dbeta = float64(dy, variance, gamma, dgamma, dbeta)
    normalized = normalize_columns(x, mean, variance, epsilon=epsilon).reshape(-1, len(variance))
    slopes = dy.reshape(normalized.shape)
    mean_slope = (dbeta + normalized * dgamma) / len(slopes)
    dx: Array = gamma / np.sqrt(variance + epsilon) * (slopes - mean_slope)
    return dx.reshape(dy.shape)


def moving_average(average: ArrayLike, value: ArrayLike, momentum: float) -> Array:
    """momentum average + (1 - momentum) value."""
    average, value = float64(average, value)
    moved: Array = momentum * average + (1.0 - momentum) * value
    return moved


def layer_normalization_forward(
    x: ArrayLike, columns: int, epsilon: float
) -> tuple[Array, Array, Array]:
    """Each row less its mean, over the root of its variance + epsilon; (M, C) of x (N, F).

    Also its mean and one over that root, (M, 1) each.
    """
    rows = np.asarray(x, dtype=np.float64).reshape(-1, columns)
    mean = rows.mean(axis=1, keepdims=True)
    factor = 1.0 / np.sqrt(((rows - mean) ** 2).mean(axis=1, keepdims=True) + epsilon)
    return (rows - mean) * factor, mean, factor


def layer_normalization_backward(
    dy: ArrayLike, normalized: ArrayLike, factor: ArrayLike, gamma: ArrayLike = 1.0
) -> tuple[Array, Array, Array]:
    """Gradients at x, gamma and beta of gamma x^ + beta, from dy; dy and x^ (M, C), factor (M, 1).

    As those of a batch's columns, along rows.
    """
    dy, normalized, factor = float64(dy, normalized, factor)
    slopes = dy * np.asarray(gamma, dtype=np.float64)
    of_scale = (slopes * normalized).mean(axis=1, keepdims=True)
    dx = factor * (slopes - slopes.mean(axis=1, keepdims=True) - normalized * of_scale)
    return dx, (dy * normalized).sum(axis=0), dy.sum(axis=0)
