"""Numbers drawn one by one: normal and uniform ones, and those scaled to a kernel's shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.initializers.base import Array, Described, Shape

TRUNCATED_DEVIATION = math.sqrt(
    1.0 - 4.0 * math.exp(-2.0) / math.sqrt(2.0 * math.pi) / math.erf(math.sqrt(2.0))
)
"""Deviation of a normal distribution cut off at ±2: √(1 − 4φ(2)/(Φ(2) − Φ(−2)))."""

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")


def fans(shape: Shape) -> tuple[int, int]:
    """The inputs and outputs of a unit whose kernel has `shape`.

    That is (..., in, out): all positions of a convolution's window count on both sides, as in
    Keras. A vector's length is taken for both.
    """
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive


def _truncated(shape: Shape, generator: np.random.Generator) -> Array:
    """Standard normal numbers, drawn again where they are beyond ±2."""
    drawn = generator.standard_normal(shape).reshape(-1)
    while (beyond := np.flatnonzero(np.abs(drawn) > 2.0)).size:
        drawn[beyond] = generator.standard_normal(beyond.size)
    return drawn.reshape(shape)


@dataclass(frozen=True)
class RandomNormal(Described):
    """Normally distributed.

    ``RandomNormal(stddev=0.01)`` is the start of *Neural Networks from Scratch*.

    Parameters
    ----------
    mean : float
    stddev : float, at least 0
    """

    mean: float = 0.0
    stddev: float = 0.05

    def __post_init__(self) -> None:
        self._check("mean")
        self._check("stddev", "[0, inf)")

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        return generator.normal(self.mean, self.stddev, shape)


@dataclass(frozen=True)
class TruncatedNormal(Described):
    """Normally distributed, but that numbers beyond ``mean ± 2·stddev`` are drawn again.

    Their deviation is 0.88 times `stddev`.

    Parameters
    ----------
    mean : float
    stddev : float, at least 0
    """

    mean: float = 0.0
    stddev: float = 0.05

    def __post_init__(self) -> None:
        self._check("mean")
        self._check("stddev", "[0, inf)")

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        return self.mean + self.stddev * _truncated(shape, generator)


@dataclass(frozen=True)
class RandomUniform(Described):
    """Uniformly distributed from `minval` to `maxval`.

    Parameters
    ----------
    minval, maxval : float
        The smaller one first.
    """

    minval: float = -0.05
    maxval: float = 0.05

    def __post_init__(self) -> None:
        self._check("minval")
        self._check("maxval")
        if self.minval > self.maxval:
            raise ValueError(
                f"RandomUniform: maxval must be at least minval, {self.minval}, got {self.maxval}"
            )

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        return generator.uniform(self.minval, self.maxval, shape)


@dataclass(frozen=True)
class VarianceScaling(Described):
    """A mean of 0 and a variance of ``scale / n``, n the number of a unit's inputs or outputs.

    Parameters
    ----------
    scale : float, greater than 0
        For an activation it is ``gain(activation) ** 2``.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Whether n is the inputs, the outputs, or their mean.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        The first is cut off at two deviations, and as much wider before that the variance is right.

    Examples
    --------
    >>> import fastnn
    >>> scale = fastnn.initializers.gain("eru", r=2.0) ** 2
    >>> start = fastnn.initializers.VarianceScaling(scale, "fan_in", "untruncated_normal")
    >>> layer = fastnn.Dense(64, kernel_initializer=start)
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        self._check("scale", "(0, inf)")
        for argument, known in (("mode", MODES), ("distribution", DISTRIBUTIONS)):
            if getattr(self, argument) not in known:
                raise ValueError(
                    f"{type(self).__name__}: {argument} must be one of {', '.join(known)}, "
                    f"got {getattr(self, argument)!r}"
                )

    def __call__(self, shape: Shape, generator: np.random.Generator) -> Array:
        """An array of `shape`."""
        fan_in, fan_out = fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out}.get(self.mode, (fan_in + fan_out) / 2)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * self.scale / n)
            return generator.uniform(-limit, limit, shape)
        deviation = math.sqrt(self.scale / n)
        if self.distribution == "untruncated_normal":
            return generator.normal(0.0, deviation, shape)
        return deviation / TRUNCATED_DEVIATION * _truncated(shape, generator)


class _Named(VarianceScaling):
    """A variance scaling that has a name."""

    arguments: tuple[float, str, str]

    def __init__(self) -> None:
        super().__init__(*self.arguments)

    def get_config(self) -> dict[str, Any]:
        """No arguments."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class GlorotUniform(_Named):
    """U(−a, a), a = √(6/(in + out)) (Glorot & Bengio 2010)."""

    arguments = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    """N(0, 2/(in + out)) (Glorot & Bengio 2010)."""

    arguments = (1.0, "fan_avg", "untruncated_normal")


class HeUniform(_Named):
    """U(−a, a), a = √(6/in) (He et al. 2015, arXiv 1502.01852)."""

    arguments = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    """N(0, 2/in) (He et al. 2015, arXiv 1502.01852)."""

    arguments = (2.0, "fan_in", "untruncated_normal")


class LecunUniform(_Named):
    """U(−a, a), a = √(3/in) (LeCun et al. 1998)."""

    arguments = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    """N(0, 1/in) (LeCun et al. 1998)."""

    arguments = (1.0, "fan_in", "untruncated_normal")
