"""Dense layers and activations of rows; those of elements are in tests/activation_cases.py."""

import numpy as np
from numpy.typing import ArrayLike

from fastnn.kernels.reference.forms import Array, float64

__all__ = [
    "dense_backward_input",
    "dense_backward_kernel",
    "dense_forward",
    "log_softmax_backward",
    "log_softmax_forward",
    "prelu_backward",
    "prelu_forward",
    "sigmoid_forward",
    "softmax_backward",
    "softmax_forward",
    "sparse_backward_kernel",
    "sparse_forward",
    "sparsemax_backward",
    "sparsemax_forward",
]


def dense_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """Affine map y = x w + b.

    Parameters
    ----------
    x : (N, I)
    w : (I, O), the kernel
    b : (O,), the bias, or None for none

    Examples
    --------
    >>> dense_forward([[1, 2]], [[3], [4]], [5])
    array([[16.]])
    """
    x, w = float64(x, w)
    y: Array = x @ w
    return y if b is None else y + np.asarray(b, dtype=np.float64)


def dense_backward_input(dy: ArrayLike, w: ArrayLike) -> Array:
    """Gradient at the input of y = x w + b: dx = dy w^T, (N, I), from dy (N, O) and w (I, O)."""
    dy, w = float64(dy, w)
    dx: Array = dy @ w.T
    return dx


def dense_backward_kernel(x: ArrayLike, dy: ArrayLike) -> tuple[Array, Array]:
    """Gradients at the kernel and bias of y = x w + b: dw = x^T dy, (I, O); db = sum_n dy, (O,)."""
    x, dy = float64(x, dy)
    return x.T @ dy, dy.sum(axis=0)


def sparse_forward(
    rows: list[tuple[ArrayLike, ArrayLike]], w: ArrayLike, b: ArrayLike | None = None
) -> Array:
    """y = x w + b of rows that are each given by their values and their columns.

    Columns that are not named take no part: 0 times an infinite weight is not formed.
    """
    (w,) = float64(w)
    y = np.array([np.asarray(v, np.float64) @ w[np.asarray(c)] for v, c in rows])
    return y if b is None else y + np.asarray(b, dtype=np.float64)


def sparse_backward_kernel(
    rows: list[tuple[ArrayLike, ArrayLike]], dy: ArrayLike, inputs: int
) -> tuple[Array, Array]:
    """Gradients dw = x^T dy (inputs, O) and db = sum of dy (O,) of the same."""
    (dy,) = float64(dy)
    dw = np.zeros((inputs, dy.shape[1]))
    for (values, columns), row in zip(rows, dy, strict=True):
        np.add.at(dw, np.asarray(columns), np.outer(np.asarray(values, np.float64), row))
    return dw, dy.sum(axis=0)


# Activations of rows; those of elements are in tests/activation_cases.py, a line each


def sigmoid_forward(x: ArrayLike) -> Array:
    """Logistic function y = 1 / (1 + e^-x), from e^-|x|, which cannot overflow."""
    x = np.asarray(x, dtype=np.float64)
    e = np.exp(-np.abs(x))
    y: Array = np.where(x < 0.0, e, 1.0) / (1.0 + e)
    return y


def prelu_forward(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Parametric rectifier, x where positive, else alpha x; alpha has the shape of a row.

    He et al. 2015, arXiv 1502.01852, equation 1.
    """
    x, alpha = float64(x, alpha)
    return np.asarray(np.where(x > 0.0, x, alpha * x))


def prelu_backward(dy: ArrayLike, x: ArrayLike, alpha: ArrayLike) -> tuple[Array, Array]:
    """Gradients at x, (N, F), and at alpha, (F,), of the parametric rectifier."""
    dy, x, alpha = float64(dy, x, alpha)
    return dy * np.where(x > 0.0, 1.0, alpha), (dy * np.minimum(x, 0.0)).sum(axis=0)


def softmax_forward(x: ArrayLike) -> Array:
    """Softmax of each row (the last axis): y_j = e^(x_j - m) / sum_k e^(x_k - m), m = max x."""
    x = np.asarray(x, dtype=np.float64)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


def softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Gradient at softmax's input: (diag(y) - y y^T) dy = y (dy - sum_k dy_k y_k), row by row."""
    dy, y = float64(dy, y)
    dx: Array = y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    return dx


def log_softmax_forward(x: ArrayLike) -> Array:
    """Logarithm of each row's softmax: y_j = (x_j - m) - log sum_k e^(x_k - m), m = max x."""
    x = np.asarray(x, dtype=np.float64)
    shifted = x - x.max(axis=-1, keepdims=True)  # softmax is unchanged, and no exp overflows
    y: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return y


def log_softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Gradient at log-softmax's input: dy - e^y sum_k dy_k, row by row."""
    dy, y = float64(dy, y)
    dx: Array = dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
    return dx


def sparsemax_forward(x: ArrayLike) -> Array:
    """Sparsemax of each row: the nearest point of the simplex, max(x - tau, 0).

    Martins & Astudillo 2016, arXiv 1602.02068, algorithm 1: with x sorted downwards,
    k = max{k : 1 + k x_k > sum_{j<=k} x_j} and tau = (sum_{j<=k} x_j - 1) / k.

    Examples
    --------
    >>> sparsemax_forward([[1.0, 0.5, -1.0]])
    array([[0.75, 0.25, 0.  ]])
    """
    x = np.asarray(x, dtype=np.float64)
    x = x - x.max(axis=-1, keepdims=True)  # unchanged by it, and NaN is everywhere in its row
    ordered = -np.sort(-x, axis=-1)
    sums, k = np.cumsum(ordered, axis=-1), np.arange(1, x.shape[-1] + 1)
    size = np.where(1.0 + k * ordered > sums, k, 1).max(axis=-1, keepdims=True)
    tau = (np.take_along_axis(sums, size - 1, axis=-1) - 1.0) / size
    return np.maximum(x - tau, 0.0)


def sparsemax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Gradient at sparsemax's input: dy less its mean where y > 0, else 0, row by row."""
    dy, y = float64(dy, y)
    support = ~(y <= 0.0)
    mean = np.where(support, dy, 0.0).sum(axis=-1, keepdims=True)
    return np.where(support, dy - mean / support.sum(axis=-1, keepdims=True), 0.0)
