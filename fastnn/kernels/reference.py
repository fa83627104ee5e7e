"""NumPy float64 oracles: each op's formula in its plainest form, independent of every kernel.

Every function converts what it is given to float64, changes none of its arguments and returns new
arrays. N is rows of a batch, I inputs, O outputs, C classes or columns; `labels` are N integers
from 0 to C - 1; `weights` are N sample weights, 1 each if None. A loss comes back as
`(loss_rows, gradient)`: N weighted losses, one a row, and the gradient of `sum(loss_rows) / N`.
Metrics aside, NaN in means NaN out: no comparison hides one.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Words = NDArray[np.uint32]

PROBABILITY_EPSILON = 1e-7  # Keras's: the losses of probabilities clip at it


def _float64(*arrays: ArrayLike) -> list[Array]:
    return [np.asarray(array, dtype=np.float64) for array in arrays]


def _one_hot(labels: ArrayLike, columns: int) -> Array:
    return np.where(np.asarray(labels)[:, None] == np.arange(columns), 1.0, 0.0)


def _weights(weights: ArrayLike | None, rows: int) -> Array:
    return np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)


# Dense


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
    x, w = _float64(x, w)
    y: Array = x @ w
    return y if b is None else y + np.asarray(b, dtype=np.float64)


def dense_backward_input(dy: ArrayLike, w: ArrayLike) -> Array:
    """Gradient at the input of y = x w + b: dx = dy w^T, (N, I), from dy (N, O) and w (I, O)."""
    dy, w = _float64(dy, w)
    dx: Array = dy @ w.T
    return dx


def dense_backward_kernel(x: ArrayLike, dy: ArrayLike) -> tuple[Array, Array]:
    """Gradients at the kernel and bias of y = x w + b: dw = x^T dy, (I, O); db = sum_n dy, (O,)."""
    x, dy = _float64(x, dy)
    return x.T @ dy, dy.sum(axis=0)


# Activations of rows; those of elements are in tests/activation_cases.py, a line each


def sigmoid_forward(x: ArrayLike) -> Array:
    """Logistic function y = 1 / (1 + e^-x), from e^-|x|, which cannot overflow."""
    x = np.asarray(x, dtype=np.float64)
    e = np.exp(-np.abs(x))
    y: Array = np.where(x < 0.0, e, 1.0) / (1.0 + e)
    return y


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)  # softmax is unchanged, and no exp overflows
    log_p: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_p


def softmax_forward(x: ArrayLike) -> Array:
    """Softmax of each row (the last axis): y_j = e^(x_j - m) / sum_k e^(x_k - m), m = max x."""
    x = np.asarray(x, dtype=np.float64)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


def softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Gradient at softmax's input: (diag(y) - y y^T) dy = y (dy - sum_k dy_k y_k), row by row."""
    dy, y = _float64(dy, y)
    dx: Array = y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    return dx


def log_softmax_forward(x: ArrayLike) -> Array:
    """Logarithm of each row's softmax: y_j = (x_j - m) - log sum_k e^(x_k - m), m = max x."""
    return _log_softmax(np.asarray(x, dtype=np.float64))


def log_softmax_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Gradient at log-softmax's input: dy - e^y sum_k dy_k, row by row."""
    dy, y = _float64(dy, y)
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
    dy, y = _float64(dy, y)
    support = ~(y <= 0.0)
    mean = np.where(support, dy, 0.0).sum(axis=-1, keepdims=True)
    return np.where(support, dy - mean / support.sum(axis=-1, keepdims=True), 0.0)


# Losses


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
    w = _weights(weights, rows)
    # Picked, not multiplied by a one-hot row: a logit of -inf masks its class without a NaN.
    loss = -w * _log_softmax(z)[np.arange(rows), np.asarray(labels)]
    return loss, w[:, None] * (softmax_forward(z) - _one_hot(labels, columns)) / rows


def softmax_crossentropy_soft(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Softmax and categorical cross-entropy in one, with a row of target probabilities t each.

    With p = softmax(z): loss_i = -w_i sum_k t_ik log p_ik and dz_i = w_i (p_i sum_k t_ik - t_i)/N.
    The sum stands there because it need not be 1. z, targets : (N, C), finite.
    """
    z, t = _float64(z, targets)
    w = _weights(weights, len(z))
    loss = -w * (t * _log_softmax(z)).sum(axis=1)
    return loss, w[:, None] * (softmax_forward(z) * t.sum(axis=1, keepdims=True) - t) / len(z)


def categorical_crossentropy(
    p: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """`categorical_crossentropy_soft` with one-hot rows made of integer labels."""
    return categorical_crossentropy_soft(p, _one_hot(labels, np.shape(p)[1]), weights)


def categorical_crossentropy_soft(
    p: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Categorical cross-entropy of probabilities p against target rows t, both (N, C).

    loss_i = -w_i sum_k t_ik log max(p_ik, eps) and dp_ik = -w_i t_ik / p_ik / N where p_ik > eps,
    else 0; eps = 1e-7. p is taken as it is, clipped below and no more. Keras divides its rows by
    their sums first and clips above too: where they sum to 1 that is the same loss, and a gradient
    with sum_k t_ik added throughout the row, which `softmax_backward` takes out again.
    """
    p, t = _float64(p, targets)
    w = _weights(weights, len(p))
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
    z, y = _float64(z, targets)
    w = _weights(weights, len(z))
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
    p, y = _float64(p, targets)
    w = _weights(weights, len(p))
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
    z, y = _float64(z, targets)
    w = _weights(weights, len(z))
    return w * ((z - y) ** 2).mean(axis=1), 2.0 * w[:, None] * (z - y) / z.size


def _of_columns(
    terms: Array, slopes: Array, weights: ArrayLike | None, mean: bool = True
) -> tuple[Array, Array]:
    """Rows' losses and the gradient, of a loss that adds up terms over a row's columns."""
    w = _weights(weights, len(terms))
    divisor = terms.shape[1] if mean else 1
    return w * terms.sum(axis=1) / divisor, w[:, None] * slopes / divisor / len(terms)


def mean_absolute_error(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of |z - y| over a row's C columns; the derivative at 0 is taken to be 0."""
    z, y = _float64(z, targets)
    return _of_columns(np.abs(z - y), np.sign(z - y), weights)


def huber(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None, delta: float = 1.0
) -> tuple[Array, Array]:
    """Huber's loss, d^2 / 2 where d = |z - y| <= delta, else delta d - delta^2 / 2; the mean.

    Huber, Robust Estimation of a Location Parameter (1964); as in Keras.
    """
    z, y = _float64(z, targets)
    d = np.abs(z - y)
    terms = np.where(d <= delta, d**2 / 2, delta * d - delta**2 / 2)
    return _of_columns(terms, np.clip(z - y, -delta, delta), weights)


def log_cosh(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of log cosh(z - y) over a row's C columns; near 0 as log(1 + 2 sinh^2((z - y) / 2))."""
    z, y = _float64(z, targets)
    d = np.abs(z - y)
    near = np.log1p(2 * np.sinh(np.minimum(d, 2.0) / 2) ** 2)
    terms = np.where(d <= 2.0, near, np.logaddexp(d, -d) - np.log(2))
    return _of_columns(terms, np.tanh(z - y), weights)


def poisson(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of z - y log(z + 1e-7) over a row's C columns: Keras's Poisson loss."""
    z, y = _float64(z, targets)
    shifted = z + PROBABILITY_EPSILON
    return _of_columns(z - y * np.log(shifted), 1 - y / shifted, weights)


def hinge(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of max(1 - y z, 0) over a row's C columns, of targets y that are -1 or 1."""
    z, y = _float64(z, targets)
    return _of_columns(np.maximum(1 - y * z, 0), np.where(1 - y * z <= 0, 0.0, -y), weights)


def squared_hinge(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean of max(1 - y z, 0)^2 over a row's C columns, of targets y that are -1 or 1."""
    z, y = _float64(z, targets)
    margin = np.maximum(1 - y * z, 0)
    return _of_columns(margin**2, -2 * y * margin, weights)


def kl_divergence(
    p: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Kullback-Leibler divergence sum_k t log(t / p), both clipped to [1e-7, 1], as in Keras."""
    p, t = _float64(p, targets)
    q, t = np.clip(p, PROBABILITY_EPSILON, 1), np.clip(t, PROBABILITY_EPSILON, 1)
    slopes = np.where((p < PROBABILITY_EPSILON) | (p > 1), 0.0, -t / q)
    return _of_columns(t * (np.log(t) - np.log(q)), slopes, weights, mean=False)


def categorical_hinge(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """max(1 + max_k (1 - t) z - sum_k t z, 0) a row, as in Keras; of equal maxima the first."""
    z, t = _float64(z, targets)
    rows = np.arange(len(z))
    w, others = _weights(weights, len(z)), (1 - t) * z
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
    z, y = _float64(z, targets)
    w = _weights(weights, len(z))[:, None]
    size = np.linalg.norm(z, axis=1, keepdims=True)
    norm = np.maximum(size, PROBABILITY_EPSILON)
    u, v = z / norm, y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), PROBABILITY_EPSILON)
    cosine = (u * v).sum(axis=1, keepdims=True)
    along = np.where(size <= PROBABILITY_EPSILON, 0.0, cosine) * u
    return -(w * cosine)[:, 0], w * (along - v) / norm / len(z)


def _sparsemax(z: Array) -> Array:
    """Projection of each row on the simplex, by sorting: Martins & Astudillo 2016, algorithm 1."""
    descending = -np.sort(-z, axis=1)
    sums, k = descending.cumsum(axis=1), np.arange(1, z.shape[1] + 1)
    size = (1 + k * descending > sums).sum(axis=1)
    tau = (sums[np.arange(len(z)), size - 1] - 1) / size
    return np.maximum(z - tau[:, None], 0.0)


def sparsemax_loss(
    z: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Sparsemax loss of rows of target probabilities t. Martins & Astudillo 2016, arXiv 1602.02068.

    With p = sparsemax(z), as a Fenchel-Young loss (Blondel, Martins & Niculae 2020, JMLR 21):
    loss = w (p z - |p|^2 / 2 + |t|^2 / 2 - t z) and dz = w (p - t) / N. For one-hot t that is the
    paper's -z_y + sum_S (z^2 - tau^2) / 2 + 1 / 2.
    """
    z, t = _float64(z, targets)
    z = z - z.max(axis=1, keepdims=True)
    w, p = _weights(weights, len(z)), _sparsemax(z)
    loss = ((p - t) * z + (t**2 - p**2) / 2).sum(axis=1)
    return w * loss, w[:, None] * (p - t) / len(z)


# Targets in another form


def one_hot(labels: ArrayLike, columns: int, on: float, off: float) -> Array:
    """Rows (N, C) with `on` at the label and `off` elsewhere."""
    return np.where(_one_hot(labels, columns) == 1.0, float(on), float(off))


def affine(x: ArrayLike, scale: float, shift: float) -> Array:
    """scale x + shift, of any shape."""
    return scale * np.asarray(x, dtype=np.float64) + shift


# Metrics, one value a row


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
    z, y = _float64(z, targets)
    share: Array = ((z > threshold) == (y > 0.5)).mean(axis=1)
    return share


def top_k_accuracy(z: ArrayLike, targets: ArrayLike, k: int) -> Array:
    """1 where fewer than k of a row of z are above that of the largest target, else 0."""
    z, t = _float64(z, targets)
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
    z, t = _float64(z, targets)
    said, true = _said(z, threshold, largest), t > 0.5
    counts: Array = np.stack([said & true, said, true], axis=2).sum(axis=0).astype(np.float64)
    return counts


def count_confusion(z: ArrayLike, targets: ArrayLike, threshold: float) -> Array:
    """How many rows of class a were taken for class b, at [a, b]; one column is two classes."""
    z, t = _float64(z, targets)
    if z.shape[1] == 1:
        z, t = np.hstack([z <= threshold, z > threshold]), np.hstack([t <= 0.5, t > 0.5])
    counts = np.zeros((z.shape[1], z.shape[1]))
    np.add.at(counts, (t.argmax(axis=1), z.argmax(axis=1)), 1.0)
    return counts


def count_buckets(z: ArrayLike, targets: ArrayLike, buckets: int) -> Array:
    """Sums of t and of 1 - t over the predictions in (b, b + 1] / buckets, (buckets, 2).

    What lies below or above is in the first or last bucket. Keras sorts them so for its AUC.
    """
    z, t = _float64(z, targets)
    bucket = np.clip(np.ceil(z * buckets) - 1, 0, buckets - 1).astype(int).ravel()
    of = [np.bincount(bucket, v.ravel(), buckets) for v in (t, 1 - t)]
    return np.stack(of, axis=1)


def count_close(z: ArrayLike, targets: ArrayLike, precision: float) -> Array:
    """The number of elements of z nearer to their targets than `precision`, (1,)."""
    z, t = _float64(z, targets)
    return np.array([(np.abs(z - t) < precision).sum()], dtype=np.float64)


def sum_squares(z: ArrayLike, targets: ArrayLike) -> Array:
    """For each column: the targets' mean, their squares about it, and those of z - y, (C, 3)."""
    z, y = _float64(z, targets)
    mean = y.mean(axis=0)
    return np.stack([mean, ((y - mean) ** 2).sum(axis=0), ((z - y) ** 2).sum(axis=0)], axis=1)


# Random bits


def philox4x32(counter: ArrayLike, key: ArrayLike, rounds: int = 10) -> Words:
    """Philox 4x32: four random words (..., 4), a bijection of the counter that the key chooses.

    Salmon, Moraes, Dror & Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), section 3.
    A round multiplies words 0 and 2, each into a high and a low half, and mixes in the other words
    and the key; the key grows by Weyl constants between rounds.

    Parameters
    ----------
    counter : (..., 4) uint32
    key : (..., 2) uint32, whose leading axes broadcast with the counter's
    rounds : int

    Examples
    --------
    >>> [hex(word) for word in philox4x32([0, 0, 0, 0], [0, 0])]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    # uint64 holds the products; its constants are typed because NumPy 1 mixes it with int as float.
    multiplier0, multiplier1, weyl0, weyl1, low, half = np.array(
        [0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85, 0xFFFFFFFF, 32], dtype=np.uint64
    )
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint32).astype(np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, dtype=np.uint32).astype(np.uint64), -1, 0)
    for _ in range(rounds):
        product0, product1 = c0 * multiplier0, c2 * multiplier1
        c0, c1 = (product1 >> half) ^ c1 ^ k0, product1 & low
        c2, c3 = (product0 >> half) ^ c3 ^ k1, product0 & low
        k0, k1 = (k0 + weyl0) & low, (k1 + weyl1) & low
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def shuffle(order: ArrayLike, begin: int, end: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Places `begin` to `end` of a random order, of which those before are drawn already.

    Knuth, The Art of Computer Programming, volume 2, algorithm P, inside out: place i is given what
    stands at j, and j is given i. j = floor(w (i + 1) / 2^64), where w is the 64-bit number, low
    word first, at words 2 h and 2 h + 1 of Philox 4x32-10, with h = (i // 256) % 2,

        key     = (seed's low 32 bits, seed's high 32 bits)
        counter = (256 (i // 512) + i % 256, epoch's low 32 bits, epoch's high 32 bits, 2^32 - 1)

    Examples
    --------
    >>> sorted(int(i) for i in shuffle([0] * 5, 0, 5, seed=1, epoch=0))
    [0, 1, 2, 3, 4]
    """
    rows, places = np.array(order, dtype=np.int64), np.arange(begin, end)
    low = 2**32 - 1
    counters = np.zeros((len(places), 4), np.uint32)
    counters[:, 0] = 256 * (places // 512) + places % 256
    counters[:, 1:] = epoch & low, epoch >> 32, low
    words = philox4x32(counters, (seed & low, seed >> 32)).tolist()
    for i, drawn in zip(range(begin, end), words, strict=True):
        at = 2 * ((i // 256) % 2)
        j = ((drawn[at + 1] << 32 | drawn[at]) * (i + 1)) >> 64
        rows[i] = rows[j]
        rows[j] = i
    return rows


def dropout_mask(shape: tuple[int, int], rate: float, seed: int, stream: int, step: int) -> Array:
    """Inverted dropout's mask: 0 for a dropped element, 1 / (1 - rate) for a kept one.

    An element's word is a function of its place and of (seed, stream, step), and of nothing else.
    With G = ceil(columns / 64), element (row, column) reads word `lane` of Philox 4x32-10, where

        key     = (seed's low 32 bits, seed's high 32 bits)
        counter = (block, step's low 32 bits, step's high 32 bits, stream)
        block   = row * 16 G + (column // 64) * 16 + column % 16
        lane    = (column // 16) % 4

    so that 16 blocks side by side in vector lanes serve 64 columns in order. The element is kept
    when its word >= floor(rate * 2^32), as integers. Dropout: Srivastava et al. 2014, JMLR 15.

    Parameters
    ----------
    shape : (rows, columns), with rows * 16 G at most 2^32: the block is one word
    rate : float, the share to drop, at least 0 and below 1
    seed, stream, step : int of 64, 32 and 64 bits, none negative

    Raises
    ------
    ValueError
        For anything out of these ranges.
    """
    rows, columns = shape
    groups = -(-columns // 64)
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout_mask: rate must be at least 0 and below 1, got {rate}")
    if rows * 16 * groups > 2**32:
        raise ValueError(f"dropout_mask: shape must need at most 2^32 blocks, got {shape}")
    for name, value, bits in (("seed", seed, 64), ("stream", stream, 32), ("step", step, 64)):
        if not 0 <= value < 2**bits:
            raise ValueError(f"dropout_mask: {name} must be of {bits} bits, got {value}")
    row, column = np.indices(shape)
    key = np.array([seed % 2**32, seed // 2**32], dtype=np.uint32)
    counter = np.empty((rows, columns, 4), dtype=np.uint32)
    counter[..., 0] = row * 16 * groups + (column // 64) * 16 + column % 16
    counter[..., 1:] = np.array([step % 2**32, step // 2**32, stream], dtype=np.uint32)
    lane = (column // 16) % 4
    word = np.take_along_axis(philox4x32(counter, key), lane[..., None], axis=-1)[..., 0]
    return np.where(word >= int(rate * 2**32), 1.0 / (1.0 - rate), 0.0)


def dropout_forward(x: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Inverted dropout y = x * mask, of x (rows, columns); see `dropout_mask`."""
    x = np.asarray(x, dtype=np.float64)
    return x * dropout_mask((x.shape[0], x.shape[1]), rate, seed, stream, step)


def dropout_backward(dy: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Gradient at dropout's input: dy times the forward pass's mask, made again, not stored."""
    return dropout_forward(dy, rate, seed, stream, step)


# Optimizers, of arrays of any one shape


def guard(g: ArrayLike) -> bool:
    """Whether every gradient and its square is finite in the gradients' own type."""
    values = np.asarray(g)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values * values).all())


def adam(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    t: int,
    learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> tuple[Array, Array, Array]:
    """One step of Adam: the new (w, m, v). Kingma & Ba 2014, arXiv 1412.6980, algorithm 1.

    m' = b1 m + (1 - b1) g and v' = b2 v + (1 - b2) g^2; then
    w' = w - lr / (1 - b1^t) m' / (sqrt(v') / sqrt(1 - b2^t) + epsilon).

    Epsilon is added outside the root and after the bias correction, as in the paper's algorithm 1
    and in PyTorch. Keras adds its own to sqrt(v') before the correction (the paper's epsilon-hat),
    where it weighs 1 / sqrt(1 - b2^t) as much: 32 times at t = 1.

    Parameters
    ----------
    w, g, m, v : the weights, their gradient, its first and second moment (0 before step 1)
    t : int, this step's number, from 1
    """
    w, g, m, v = _float64(w, g, m, v)
    m = beta_1 * m + (1.0 - beta_1) * g
    v = beta_2 * v + (1.0 - beta_2) * g**2
    denominator = np.sqrt(v) / np.sqrt(1.0 - beta_2**t) + epsilon
    return w - learning_rate / (1.0 - beta_1**t) * m / denominator, m, v


def sgd(
    w: ArrayLike,
    g: ArrayLike,
    velocity: ArrayLike,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> tuple[Array, Array]:
    """One step of gradient descent with momentum, in Keras's form: the new (w, velocity).

    v' = momentum v - lr g, then w' = w + v', or with Nesterov's w' = w + momentum v' - lr g.
    PyTorch keeps -v' / lr instead: the same path while the learning rate stands still.
    """
    w, g, velocity = _float64(w, g, velocity)
    velocity = momentum * velocity - learning_rate * g
    step = momentum * velocity - learning_rate * g if nesterov else velocity
    return w + step, velocity


def adagrad(
    w: ArrayLike, g: ArrayLike, accumulator: ArrayLike, learning_rate: float, epsilon: float = 1e-7
) -> tuple[Array, Array]:
    """One step of Adagrad: the new (w, accumulator). Duchi, Hazan & Singer 2011, JMLR 12.

    c' = c + g^2, then w' = w - lr g / (sqrt(c') + epsilon): epsilon outside, as in PyTorch.
    """
    w, g, accumulator = _float64(w, g, accumulator)
    accumulator = accumulator + g**2
    return w - learning_rate * g / (np.sqrt(accumulator) + epsilon), accumulator


def rmsprop(
    w: ArrayLike,
    g: ArrayLike,
    v: ArrayLike,
    m: ArrayLike,
    velocity: ArrayLike,
    learning_rate: float,
    rho: float = 0.9,
    momentum: float = 0.0,
    centered: bool = False,
    epsilon: float = 1e-7,
) -> tuple[Array, Array, Array, Array]:
    """One step of RMSprop in Keras's form: the new (w, v, m, velocity). Tieleman & Hinton 2012.

    v' = rho v + (1 - rho) g^2 and m' = rho m + (1 - rho) g; velocity' = momentum velocity +
    lr g / sqrt(V + epsilon), where V = v', or v' - m'^2 and at least 0 if centered; w' = w -
    velocity'.
    """
    w, g, v, m, velocity = _float64(w, g, v, m, velocity)
    v = rho * v + (1.0 - rho) * g**2
    m = rho * m + (1.0 - rho) * g
    variance = np.maximum(v - m**2, 0.0) if centered else v
    velocity = momentum * velocity + learning_rate * g / np.sqrt(variance + epsilon)
    return w - velocity, v, m, velocity


def adadelta(
    w: ArrayLike,
    g: ArrayLike,
    v: ArrayLike,
    d: ArrayLike,
    learning_rate: float,
    rho: float = 0.95,
    epsilon: float = 1e-7,
) -> tuple[Array, Array, Array]:
    """One step of Adadelta: the new (w, v, d). Zeiler 2012, arXiv 1212.5701, algorithm 1.

    v' = rho v + (1 - rho) g^2, delta = -sqrt(d + epsilon) / sqrt(v' + epsilon) g,
    d' = rho d + (1 - rho) delta^2, and w' = w + lr delta; the paper's lr is 1.
    """
    w, g, v, d = _float64(w, g, v, d)
    v = rho * v + (1.0 - rho) * g**2
    delta = -np.sqrt(d + epsilon) / np.sqrt(v + epsilon) * g
    return w + learning_rate * delta, v, rho * d + (1.0 - rho) * delta**2


def amsgrad(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    v_max: ArrayLike,
    t: int,
    learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> tuple[Array, Array, Array, Array]:
    """One step of AMSGrad: the new (w, m, v, v_max). Reddi, Kale & Kumar 2018, arXiv 1904.09237.

    `adam` with v_max' = max(v_max, v') for v', bias-corrected and with an epsilon like Adam's.
    """
    w, v_max = _float64(w, v_max)
    _, m, v = adam(w, g, m, v, t, learning_rate, beta_1, beta_2, epsilon)
    v_max = np.maximum(v_max, v)
    denominator = np.sqrt(v_max / (1.0 - beta_2**t)) + epsilon
    return w - learning_rate * m / (1.0 - beta_1**t) / denominator, m, v, v_max


def nadam(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    t: int,
    learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> tuple[Array, Array, Array]:
    """One step of Nadam in Keras's form: the new (w, m, v). Dozat 2016.

    With u_i = b1 (1 - 0.96^i / 2), m' and v' of `adam`, and v^ = v' / (1 - b2^t):
    m^ = u_t+1 m' / (1 - u_1 ... u_t+1) + (1 - u_t) g / (1 - u_1 ... u_t), and
    w' = w - lr m^ / (sqrt(v^) + epsilon).
    """
    w, g = _float64(w, g)
    _, m, v = adam(w, g, m, v, t, learning_rate, beta_1, beta_2, epsilon)
    u = beta_1 * (1.0 - 0.5 * 0.96 ** np.arange(1.0, t + 2.0))
    ahead = u[-1] * m / (1.0 - np.prod(u)) + (1.0 - u[-2]) * g / (1.0 - np.prod(u[:-1]))
    return w - learning_rate * ahead / (np.sqrt(v / (1.0 - beta_2**t)) + epsilon), m, v


def adamax(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    u: ArrayLike,
    t: int,
    learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> tuple[Array, Array, Array]:
    """One step of Adamax: the new (w, m, u). Kingma & Ba 2014, arXiv 1412.6980, algorithm 2.

    m' = b1 m + (1 - b1) g, u' = max(b2 u, |g|), and w' = w - lr / (1 - b1^t) m' / (u' + epsilon);
    the paper's epsilon is 0, this one's place Keras's.
    """
    w, g, m, u = _float64(w, g, m, u)
    m = beta_1 * m + (1.0 - beta_1) * g
    u = np.maximum(beta_2 * u, np.abs(g))
    return w - learning_rate / (1.0 - beta_1**t) * m / (u + epsilon), m, u


def lion(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
) -> tuple[Array, Array]:
    """One step of Lion: the new (w, m). Chen et al. 2023, arXiv 2302.06675, program 1.

    w' = w - lr sign(b1 m + (1 - b1) g) and m' = b2 m + (1 - b2) g.
    """
    w, g, m = _float64(w, g, m)
    step = learning_rate * np.sign(beta_1 * m + (1.0 - beta_1) * g)
    return w - step, beta_2 * m + (1.0 - beta_2) * g


# What is done to gradients before an update, and to weights around it


def clip_norm(gradients: list[ArrayLike], limit: float) -> list[Array]:
    """Gradients scaled down together to a norm of `limit`, if theirs is larger: Keras's
    `clip_by_norm` of one, `clip_by_global_norm` of several.
    """
    arrays = [np.asarray(g, dtype=np.float64) for g in gradients]
    norm = np.sqrt(sum((g**2).sum() for g in arrays))
    return [g * limit / max(norm, limit) for g in arrays]


def weight_decay(w: ArrayLike, learning_rate: float, decay: float) -> Array:
    """w - lr decay w. Loshchilov & Hutter 2019, arXiv 1711.05101."""
    w = np.asarray(w, dtype=np.float64)
    return w - learning_rate * decay * w


def weight_average(average: ArrayLike, w: ArrayLike, t: int, momentum: float) -> Array:
    """momentum average + (1 - momentum) w, and w itself at step t = 1; Keras's `use_ema`."""
    average, w = _float64(average, w)
    return w if t == 1 else momentum * average + (1.0 - momentum) * w
