"""The oracle of `fastnn.nnfs`: the book's formulas as plain functions of NumPy arrays.

Everything is in the type of the arrays given, but products, which are summed in float64 and then
rounded to it: what the `nnfs` package makes of ``np.dot``.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Update = Callable[[Array, Array, int], Array]
"""The new parameters of (parameters, gradient, step from 0)."""


def product(a: Array, b: Array) -> Array:
    wide: Array = a.astype(np.float64) @ b.astype(np.float64)
    return wide.astype(a.dtype)


def softmax(z: Array) -> Array:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    quotient: Array = powers / powers.sum(axis=1, keepdims=True)
    return quotient


class Rule(NamedTuple):
    """An optimizer's name, its arguments, and what makes an update that keeps its own means."""

    name: str
    arguments: dict[str, float]
    make: Callable[..., Update]


def decayed(learning_rate: float, decay: float, step: int) -> float:
    return learning_rate * (1 / (1 + decay * step)) if decay else learning_rate


def sgd(learning_rate: float = 1.0, decay: float = 0.0, momentum: float = 0.0) -> Update:
    velocity: list[Any] = [0]

    def update(w: Array, g: Array, step: int) -> Array:
        velocity[0] = momentum * velocity[0] - decayed(learning_rate, decay, step) * g
        return w + velocity[0]

    return update


def adagrad(learning_rate: float = 1.0, decay: float = 0.0, epsilon: float = 1e-7) -> Update:
    cache: list[Any] = [0]

    def update(w: Array, g: Array, step: int) -> Array:
        cache[0] = cache[0] + g * g
        return w + -decayed(learning_rate, decay, step) * g / (np.sqrt(cache[0]) + epsilon)

    return update


def rmsprop(
    learning_rate: float = 0.001, decay: float = 0.0, epsilon: float = 1e-7, rho: float = 0.9
) -> Update:
    cache: list[Any] = [0]

    def update(w: Array, g: Array, step: int) -> Array:
        cache[0] = rho * cache[0] + (1 - rho) * (g * g)
        return w + -decayed(learning_rate, decay, step) * g / (np.sqrt(cache[0]) + epsilon)

    return update


def adam(
    learning_rate: float = 0.001,
    decay: float = 0.0,
    epsilon: float = 1e-7,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
) -> Update:
    moments: list[Any] = [0, 0]

    def update(w: Array, g: Array, step: int) -> Array:
        moments[0] = beta_1 * moments[0] + (1 - beta_1) * g
        moments[1] = beta_2 * moments[1] + (1 - beta_2) * (g * g)
        first = moments[0] / (1 - beta_1 ** (step + 1))
        second = moments[1] / (1 - beta_2 ** (step + 1))
        return w + -decayed(learning_rate, decay, step) * first / (np.sqrt(second) + epsilon)

    return update


RULES = {
    "SGD": Rule("Optimizer_SGD", {"learning_rate": 0.3}, sgd),
    "momentum": Rule("Optimizer_SGD", {"learning_rate": 0.1, "decay": 1e-2, "momentum": 0.9}, sgd),
    "Adagrad": Rule("Optimizer_Adagrad", {"learning_rate": 0.1, "decay": 1e-3}, adagrad),
    "RMSprop": Rule("Optimizer_RMSprop", {"decay": 1e-3, "rho": 0.95}, rmsprop),
    "Adam": Rule("Optimizer_Adam", {"learning_rate": 0.02, "decay": 1e-3}, adam),
}


class Step(NamedTuple):
    """What a network with one hidden layer gave in a step, and the parameters after it."""

    output: Array
    loss: float
    parameters: list[Array]


def softmax_end(z: Array, y: Array) -> tuple[Array, Array, Array]:
    """Output, rows' losses and the gradient by z, of labels y."""
    p, rows = softmax(z), np.arange(len(y))
    dz = p.copy()
    dz[rows, y] -= 1
    return p, -np.log(np.clip(p[rows, y], 1e-7, 1 - 1e-7)), dz / len(y)


def sigmoid_end(z: Array, y: Array) -> tuple[Array, Array, Array]:
    p = 1 / (1 + np.exp(-z))
    q = np.clip(p, 1e-7, 1 - 1e-7)
    losses = -(y * np.log(q) + (1 - y) * np.log(1 - q)).mean(axis=-1)
    return p, losses, -(y / q - (1 - y) / (1 - q)) / z.shape[1] / len(z) * (1 - p) * p


def linear_end(z: Array, y: Array) -> tuple[Array, Array, Array]:
    return z, ((y - z) ** 2).mean(axis=-1), -2 * (y - z) / z.shape[1] / len(z)


def train(
    batches: list[tuple[Array, Array]],
    parameters: list[Array],
    end: Callable[[Array, Array], tuple[Array, Array, Array]],
    make: Callable[[], Update],
    l2: float = 0.0,
) -> Iterator[Step]:
    """Steps of dense, ReLU, dense and `end` over batches (x, y); `parameters` are w, b, w, b."""
    updates = [make() for _ in parameters]
    w1, b1, w2, b2 = parameters
    for step, (x, y) in enumerate(batches):
        hidden = product(x, w1) + b1
        active = np.maximum(hidden, 0)
        output, losses, dz = end(product(active, w2) + b2, y)
        da = np.where(hidden > 0, product(dz, w2.T), 0).astype(x.dtype)
        gradients = [product(x.T, da), da.sum(axis=0, keepdims=True)]
        gradients += [product(active.T, dz), dz.sum(axis=0, keepdims=True)]
        old = [w1, b1, w2, b2]
        gradients = [g + 2 * l2 * w if l2 else g for w, g in zip(old, gradients, strict=True)]
        w1, b1, w2, b2 = (
            update(w, g, step) for w, g, update in zip(old, gradients, updates, strict=True)
        )
        yield Step(output, float(losses.mean()), [w1, b1, w2, b2])
