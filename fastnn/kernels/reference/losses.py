"""Losses, and what is done to targets before them."""

import numpy as np
from numpy.typing import ArrayLike

from fastnn.kernels.reference.forms import (
    PROBABILITY_EPSILON,
    Array,
    float64,
    one_hot_rows,
    row_weights,
)
from fastnn.kernels.reference.networks import (
    log_softmax_forward,
    sigmoid_forward,
    softmax_forward,
    sparsemax_forward,
)

__all__ = [
    "affine",
    "binary_crossentropy",
    "categorical_crossentropy",
    "categorical_crossentropy_soft",
    "categorical_hinge",
    "cosine_similarity",
    "exponential_half_poisson_deviance",
    "half_poisson_deviance",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_squared_error",
    "one_hot",
    "poisson",
    "sigmoid_binary_crossentropy",
    "softmax_crossentropy",
    "softmax_crossentropy_soft",
    "sparsemax_loss",
    "squared_hinge",
]


def softmax_crossentropy(
    z: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Softmax and categorical cross-entropy in one, with integer labels.

    With p = softmax(z): loss_i = w_i (log sum_k e^z_ik - z_i,label_i), and
    dz_i = w_i (p_i - onehot(label_i)) / N. Bishop, Pattern Recognition and Machine Learning (2006),
    eqs. 4.108 and 4.109. z : (N, C) logits.

    Examples
    --------
    >>> softmax_crossentropy([[0.0, 0.0]], [1])
    (array([0.69314718]), array([[ 0.5, -0.5]]))
    """
    z = np.asarray(z, dtype=np.float64)
    rows, columns = z.shape
    w = row_weights(weights, rows)
    # Picked, not multiplied by a one-hot row: a logit of -inf masks its class without a NaN.
    loss = -w * log_softmax_forward(z)[np.arange(rows), np.asarray(labels)]
    return loss, w[:, None] * (softmax_forward(z) - one_hot_rows(labels, columns)) / rows


def softmax_crossentropy_soft(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Softmax and categorical cross-entropy in one, with a row of target probabilities t each.

    With p = softmax(z): loss_i = -w_i sum_k t_ik log p_ik and dz_i = w_i (p_i sum_k t_ik - t_i)/N.
    The sum stands there because it need not be 1. z, targets : (N, C), finite.
    """
    z, t = float64(z, targets)
    w = row_weights(weights, len(z))
    loss = -w * (t * log_softmax_forward(z)).sum(axis=1)
    return loss, w[:, None] * (softmax_forward(z) * t.sum(axis=1, keepdims=True) - t) / len(z)


def categorical_crossentropy(
    p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """`categorical_crossentropy_soft` with one-hot rows made of integer labels."""
    return categorical_crossentropy_soft(p, one_hot_rows(labels, np.shape(p)[1]), weights)


def categorical_crossentropy_soft(
    p: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Categorical cross-entropy of probabilities p against target rows t, both (N, C).

    loss_i = -w_i sum_k t_ik log max(p_ik, eps) and dp_ik = -w_i t_ik / p_ik / N where p_ik > eps,
    else 0; eps = 1e-7. p is taken as it is, clipped below and no more. Keras divides its rows by
    their sums first and clips above too: where they sum to 1 that is the same loss, and a gradient
    with sum_k t_ik added throughout the row, which `softmax_backward` takes out again.
    """
    p, t = float64(p, targets)
    w = row_weights(weights, len(p))
    clipped = np.maximum(p, PROBABILITY_EPSILON)
    loss = -w * (t * np.log(clipped)).sum(axis=1)
    dp = np.where(p <= PROBABILITY_EPSILON, 0.0, -w[:, None] * t / clipped / len(p))
    return loss, dp


def sigmoid_binary_crossentropy(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Sigmoid and binary cross-entropy in one; a row's loss is the mean over its C columns.

    loss_i = w_i mean_k [max(z, 0) - z y + log(1 + e^-|z|)], and dz = w_i (sigmoid(z) - y) / (N C):
    TensorFlow's `sigmoid_cross_entropy_with_logits`. z : (N, C) logits; targets y : (N, C).
    """
    z, y = float64(z, targets)
    w = row_weights(weights, len(z))
    loss = w * (np.maximum(z, 0.0) - z * y + np.log1p(np.exp(-np.abs(z)))).mean(axis=1)
    return loss, w[:, None] * (sigmoid_forward(z) - y) / z.size


def binary_crossentropy(
    p: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Binary cross-entropy of probabilities; a row's loss is the mean over its C columns.

    With q = p clipped to [eps, 1 - eps], eps = 1e-7, as in Keras: loss_i =
    -w_i mean_k [y log q + (1 - y) log(1 - q)], and dp = w_i (p - y) / (p (1 - p)) / (N C) within
    the clip, its ends included, and 0 outside. p, targets y : (N, C).
    """
    p, y = float64(p, targets)
    w = row_weights(weights, len(p))
    low, high = PROBABILITY_EPSILON, 1.0 - PROBABILITY_EPSILON
    q, rest = np.clip(p, low, high), np.clip(1.0 - p, low, high)
    loss = -w * (y * np.log(q) + (1.0 - y) * np.log(rest)).mean(axis=1)
    dp = w[:, None] * (q - y) / (q * rest) / p.size
    return loss, np.where((p < low) | (p > high), 0.0, dp)


def mean_squared_error(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean squared error; a row's loss is the mean over its C columns.

    loss_i = w_i mean_k (z - y)^2 and dz = 2 w_i (z - y) / (N C). z, targets y : (N, C).
    """
    z, y = float64(z, targets)
    w = row_weights(weights, len(z))
    return w * ((z - y) ** 2).mean(axis=1), 2.0 * w[:, None] * (z - y) / z.size


def _of_columns(
    terms: Array, slopes: Array, weights: ArrayLike | None, mean: bool = True
) -> tuple[Array, Array]:
    """Rows' losses and the gradient, of a loss that adds up terms over a row's columns."""
    w = row_weights(weights, len(terms))
    divisor = terms.shape[1] if mean else 1
    return w * terms.sum(axis=1) / divisor, w[:, None] * slopes / divisor / len(terms)


def mean_absolute_error(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of |z - y| over a row's C columns; the derivative at 0 is taken to be 0."""
    z, y = float64(z, targets)
    return _of_columns(np.abs(z - y), np.sign(z - y), weights)


def huber(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None, delta: float = 1.0
) -> tuple[Array, Array]:
    """Huber's loss, d^2 / 2 where d = |z - y| <= delta, else delta d - delta^2 / 2; the mean.

    Huber, Robust Estimation of a Location Parameter (1964); as in Keras.
    """
    z, y = float64(z, targets)
    d = np.abs(z - y)
    terms = np.where(d <= delta, d**2 / 2, delta * d - delta**2 / 2)
    return _of_columns(terms, np.clip(z - y, -delta, delta), weights)


def log_cosh(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of log cosh(z - y) over a row's C columns; near 0 as log(1 + 2 sinh^2((z - y) / 2))."""
    z, y = float64(z, targets)
    d = np.abs(z - y)
    near = np.log1p(2 * np.sinh(np.minimum(d, 2.0) / 2) ** 2)
    terms = np.where(d <= 2.0, near, np.logaddexp(d, -d) - np.log(2))
    return _of_columns(terms, np.tanh(z - y), weights)


def poisson(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of z - y log(z + 1e-7) over a row's C columns: Keras's Poisson loss."""
    z, y = float64(z, targets)
    shifted = z + PROBABILITY_EPSILON
    return _of_columns(z - y * np.log(shifted), 1 - y / shifted, weights)


def half_poisson_deviance(
    p: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of y log(y/p) - y + p over a row's C columns, where 0 log 0 is 0.

    Half the unit deviance of a Poisson variable: McCullagh & Nelder, Generalized Linear Models
    (1989), table 2.1.
    """
    p, y = float64(p, targets)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(y > 0, y * np.log(y / p), 0.0)
    return _of_columns(ratio - y + p, 1 - y / p, weights)


def exponential_half_poisson_deviance(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """`half_poisson_deviance` of p = e^z, and its gradient by z."""
    (z,) = float64(z)
    loss, dp = half_poisson_deviance(np.exp(z), targets, weights)
    return loss, dp * np.exp(z)


def hinge(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of max(1 - y z, 0) over a row's C columns, of targets y that are -1 or 1."""
    z, y = float64(z, targets)
    return _of_columns(np.maximum(1 - y * z, 0), np.where(1 - y * z <= 0, 0.0, -y), weights)


def squared_hinge(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of max(1 - y z, 0)^2 over a row's C columns, of targets y that are -1 or 1."""
    z, y = float64(z, targets)
    margin = np.maximum(1 - y * z, 0)
    return _of_columns(margin**2, -2 * y * margin, weights)


def kl_divergence(
    p: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Kullback-Leibler divergence sum_k t log(t / p), both clipped to [1e-7, 1], as in Keras."""
    p, t = float64(p, targets)
    q, t = np.clip(p, PROBABILITY_EPSILON, 1), np.clip(t, PROBABILITY_EPSILON, 1)
    slopes = np.where((p < PROBABILITY_EPSILON) | (p > 1), 0.0, -t / q)
    return _of_columns(t * (np.log(t) - np.log(q)), slopes, weights, mean=False)


def categorical_hinge(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """max(1 + max_k (1 - t) z - sum_k t z, 0) a row, as in Keras; of equal maxima the first."""
    z, t = float64(z, targets)
    rows = np.arange(len(z))
    w, others = row_weights(weights, len(z)), (1 - t) * z
    best = others.argmax(axis=1)
    margin = 1 + others[rows, best] - (t * z).sum(axis=1)
    slopes = -t
    slopes[rows, best] += 1 - t[rows, best]
    active = np.where(margin <= 0, 0.0, w)
    return np.where(margin <= 0, 0.0, w * margin), active[:, None] * slopes / len(z)


def cosine_similarity(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Minus the cosine of the angle between a row of z and its target; norms count 1e-7 at least.

    Of unit vectors u = z / |z| and v = y / |y|: loss = -w u v, dz = w ((u v) u - v) / |z| / N.
    """
    z, y = float64(z, targets)
    w = row_weights(weights, len(z))[:, None]
    size = np.linalg.norm(z, axis=1, keepdims=True)
    norm = np.maximum(size, PROBABILITY_EPSILON)
    u, v = z / norm, y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), PROBABILITY_EPSILON)
    cosine = (u * v).sum(axis=1, keepdims=True)
    along = np.where(size <= PROBABILITY_EPSILON, 0.0, cosine) * u
    return -(w * cosine)[:, 0], w * (along - v) / norm / len(z)


def sparsemax_loss(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Sparsemax loss of rows of target probabilities t. Martins & Astudillo 2016, arXiv 1602.02068.

    With p = sparsemax(z), as a Fenchel-Young loss (Blondel, Martins & Niculae 2020, JMLR 21):
    loss = w (p z - |p|^2 / 2 + |t|^2 / 2 - t z) and dz = w (p - t) / N. For one-hot t that is the
    paper's -z_y + sum_S (z^2 - tau^2) / 2 + 1 / 2.
    """
    z, t = float64(z, targets)
    z = z - z.max(axis=1, keepdims=True)
    w, p = row_weights(weights, len(z)), sparsemax_forward(z)
    loss = ((p - t) * z + (t**2 - p**2) / 2).sum(axis=1)
    return w * loss, w[:, None] * (p - t) / len(z)


# Targets in another form


def one_hot(labels: ArrayLike, columns: int, on: float, off: float) -> Array:
    """Rows (N, C) with `on` at the label and `off` elsewhere."""
    return np.where(one_hot_rows(labels, columns) == 1.0, float(on), float(off))


def affine(x: ArrayLike, scale: float, shift: float) -> Array:
    """scale x + shift, of any shape."""
    return scale * np.asarray(x, dtype=np.float64) + shift
