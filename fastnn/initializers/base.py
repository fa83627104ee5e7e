"""What initializers have in common: their arguments, and the random numbers that they draw from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

from fastnn import checks

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Initializer = Callable[[Shape, np.random.Generator], Array]


class Described:
    """What initializers with arguments have in common."""

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such an initializer again."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def _check(self, argument: str, interval: str = "(-inf, inf)") -> None:
        """Put the number in the place of what was given as `argument`."""
        value = getattr(self, argument)
        number = checks.number(type(self).__name__, argument, value, interval)
        object.__setattr__(self, argument, number)


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
