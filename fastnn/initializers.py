"""How weights begin: each initializer draws an array of a given shape.

Fan-in and fan-out are the numbers of inputs and outputs of a unit; the variances are those of
Glorot & Bengio 2010 and He et al. 2015 (arXiv 1502.01852). The normal ones draw from an untruncated
normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

Array = npt.NDArray[Any]
Initializer = Callable[[tuple[int, ...], np.random.Generator], Array]


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive


def _uniform(limit: Callable[[int, int], float]) -> Initializer:
    def draw(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        bound = limit(*_fans(shape))
        return generator.uniform(-bound, bound, shape)

    return draw


def _normal(deviation: Callable[[int, int], float]) -> Initializer:
    def draw(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        return generator.normal(0.0, deviation(*_fans(shape)), shape)

    return draw


INITIALIZERS: dict[str, Initializer] = {
    "zeros": lambda shape, generator: np.zeros(shape),
    "ones": lambda shape, generator: np.ones(shape),
    "random_normal": _normal(lambda fan_in, fan_out: 0.05),
    "random_uniform": _uniform(lambda fan_in, fan_out: 0.05),
    "glorot_uniform": _uniform(lambda fan_in, fan_out: math.sqrt(6.0 / (fan_in + fan_out))),
    "glorot_normal": _normal(lambda fan_in, fan_out: math.sqrt(2.0 / (fan_in + fan_out))),
    "he_uniform": _uniform(lambda fan_in, fan_out: math.sqrt(6.0 / fan_in)),
    "he_normal": _normal(lambda fan_in, fan_out: math.sqrt(2.0 / fan_in)),
    "lecun_uniform": _uniform(lambda fan_in, fan_out: math.sqrt(3.0 / fan_in)),
    "lecun_normal": _normal(lambda fan_in, fan_out: math.sqrt(1.0 / fan_in)),
}
"""Every initializer by its name."""


def check(initializer: object, owner: str, argument: str) -> str | Initializer:
    """A name out of `INITIALIZERS`, or a function ``(shape, generator) -> array``.

    Raises
    ------
    ValueError, TypeError
        If it is neither.
    """
    if isinstance(initializer, str):
        if initializer not in INITIALIZERS:
            names = ", ".join(INITIALIZERS)
            raise ValueError(f"{owner}: {argument} must be one of {names}, got {initializer!r}")
        return initializer
    if callable(initializer):
        return initializer
    raise TypeError(f"{owner}: {argument} must be a name or a function, got {initializer!r}")


def draw(
    initializer: str | Initializer, shape: tuple[int, ...], generator: np.random.Generator
) -> Array:
    """An array of `shape`, float64.

    Raises
    ------
    ValueError
        If a function of the user's returns another shape.
    """
    function = INITIALIZERS[initializer] if isinstance(initializer, str) else initializer
    drawn = np.asarray(function(shape, generator))
    if drawn.shape != shape:
        raise ValueError(f"an initializer returned shape {drawn.shape} where {shape} is needed")
    if drawn.dtype.kind not in "buif" or not np.isfinite(drawn).all():
        raise ValueError(f"an initializer must return finite numbers, got {drawn.dtype} {drawn}")
    return drawn


class _Key(ISeedSequence):
    """A seed that is the key itself: Philox's own way to one asks the system for entropy first."""

    def __init__(self, key: Array) -> None:
        self._key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Array:
        """The key, which is what Philox asks for."""
        return self._key


def generator(seed: int, stream: int) -> np.random.Generator:
    """NumPy's generator for one stream of random numbers under a 64-bit seed."""
    key = np.array([seed & (2**64 - 1), stream], dtype=np.uint64)
    sequence: Any = _Key(key)  # NumPy's own annotation forgets that any sequence will do
    return np.random.Generator(np.random.Philox(sequence))
