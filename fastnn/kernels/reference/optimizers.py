"""Optimizers, of arrays of any one shape, and what is done around an update."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from fastnn.kernels.reference.forms import Array, float64

__all__ = [
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "amsgrad",
    "clip_norm",
    "guard",
    "lion",
    "nadam",
    "rmsprop",
    "sgd",
    "weight_average",
    "weight_decay",
]


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
    w, g, m, v = float64(w, g, m, v)
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
    w, g, velocity = float64(w, g, velocity)
    velocity = momentum * velocity - learning_rate * g
    step = momentum * velocity - learning_rate * g if nesterov else velocity
    return w + step, velocity


def adagrad(
    w: ArrayLike, g: ArrayLike, accumulator: ArrayLike, learning_rate: float, epsilon: float = 1e-7
) -> tuple[Array, Array]:
    """One step of Adagrad: the new (w, accumulator). Duchi, Hazan & Singer 2011, JMLR 12.

    c' = c + g^2, then w' = w - lr g / (sqrt(c') + epsilon): epsilon outside, as in PyTorch.
    """
    w, g, accumulator = float64(w, g, accumulator)
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
    w, g, v, m, velocity = float64(w, g, v, m, velocity)
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
    w, g, v, d = float64(w, g, v, d)
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
    w, v_max = float64(w, v_max)
    _, m, v = adam(w, g, m, v, t, learning_rate, beta_1, beta_2, epsilon)
    v_max = np.maximum(v_max, v)
    denominator = np.sqrt(v_max / (1.0 - beta_2**t)) + epsilon
    return w - learning_rate * m / (1.0 - beta_1**t) / denominator, m, v, v_max


@cache
def _nadam_schedule(t: int, beta_1: float) -> tuple[float, float, float, float]:
    """Nadam's u_t and u_1 ... u_t, and the same of t + 1."""
    u = beta_1 * (1.0 - 0.5 * 0.96 ** np.arange(1.0, t + 2.0))
    return u[-2], np.prod(u[:-1]), u[-1], np.prod(u)


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
    w, g = float64(w, g)
    _, m, v = adam(w, g, m, v, t, learning_rate, beta_1, beta_2, epsilon)
    u, product, u_next, product_next = _nadam_schedule(t, beta_1)
    ahead = u_next * m / (1.0 - product_next) + (1.0 - u) * g / (1.0 - product)
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
    w, g, m, u = float64(w, g, m, u)
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
    w, g, m = float64(w, g, m)
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
    average, w = float64(average, w)
    return w if t == 1 else momentum * average + (1.0 - momentum) * w
