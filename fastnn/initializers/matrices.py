"""Arrays as a whole: all elements alike, the identity, a random orthogonal matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastnn.initializers.base import Array, Described, Shape


@dataclass(frozen=True)
class Constant(Described):
    """`value` everywhere.

    As a start of kernels it is none for hidden layers: their units stay alike.

    Parameters
    ----------
    value : float
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        self._check("value")

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        return np.full(shape, self.value)


@dataclass(frozen=True)
class Zeros(Described):
    """0 everywhere."""

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        return np.zeros(shape)


@dataclass(frozen=True)
class Ones(Described):
    """1 everywhere."""

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        return np.ones(shape)


@dataclass(frozen=True)
class Orthogonal(Described):
    """A random orthogonal matrix: columns or rows, whichever are fewer, of length `gain`.

    Uniformly distributed among all such matrices (Saxe et al. 2013, arXiv 1312.6120). A
    convolution's kernel (..., in, out) is taken as the matrix (... · in, out).

    Parameters
    ----------
    gain : float
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        self._check("gain")

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: shape must have two dimensions or more, got {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        drawn = generator.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(drawn)
        # Q is uniform only with a rule for the signs (Mezzadri 2006, arXiv math-ph/0609050).
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


@dataclass(frozen=True)
class Identity(Described):
    """`gain` on the diagonal of a matrix, 0 elsewhere.

    Parameters
    ----------
    gain : float
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        self._check("gain")

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        if len(shape) != 2:
            raise ValueError(f"Identity: shape must have two dimensions, got {shape}")
        return self.gain * np.eye(*shape)
