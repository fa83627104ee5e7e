"""The book's data sets, with the draws of its `nnfs` package from NumPy's global generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.nnfs import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


def spiral_data(samples: int, classes: int) -> tuple[Array, Array]:
    """Points on as many arms of a spiral as there are classes.

    A point's radius grows from 0 to 1 along its arm; its angle is 2.5 t, where t goes from 4c to
    4(c+1) along the arm of class c, with normal noise of deviation 0.2.

    Parameters
    ----------
    samples : int
        Points in each class.
    classes : int

    Returns
    -------
    X : ndarray, (samples·classes, 2)
    y : ndarray of uint8, (samples·classes,)

    Examples
    --------
    >>> from fastnn.nnfs.datasets import spiral_data
    >>> X, y = spiral_data(samples=100, classes=3)
    >>> X.shape, y.max()
    ((300, 2), np.uint8(2))
    """
    points, labels = _room("spiral_data", samples, classes)
    radius = np.linspace(0.0, 1.0, samples)
    for label, arm in enumerate(points):
        t = np.linspace(4 * label, 4 * (label + 1), samples) + 0.2 * _normal(samples)
        arm[:, 0], arm[:, 1] = radius * np.sin(2.5 * t), radius * np.cos(2.5 * t)
    return points.reshape(-1, 2), labels


def vertical_data(samples: int, classes: int) -> tuple[Array, Array]:
    """Clouds side by side: of class c about (c/3, 1/2), with a deviation of 0.1.

    Parameters
    ----------
    samples : int
        Points in each class.
    classes : int

    Returns
    -------
    X : ndarray, (samples·classes, 2)
    y : ndarray of uint8, (samples·classes,)
    """
    points, labels = _room("vertical_data", samples, classes)
    for label, cloud in enumerate(points):
        cloud[:, 0] = 0.1 * _normal(samples) + label / 3
        cloud[:, 1] = 0.1 * _normal(samples) + 0.5
    return points.reshape(-1, 2), labels


def sine_data(samples: int = 1000) -> tuple[Array, Array]:
    """One wave of a sine: y = sin 2πx for x from 0 up to, not with, 1; float64.

    Parameters
    ----------
    samples : int

    Returns
    -------
    X, y : ndarray, (samples, 1)
    """
    count = checks.integer("sine_data", "samples", samples, 1)
    x = np.arange(count)[:, None] / count
    return x, np.sin(2 * np.pi * x)


def _room(function: str, samples: int, classes: int) -> tuple[Array, Array]:
    """Room for the points of each class (classes, samples, 2), and the labels of all."""
    count = checks.integer(function, "samples", samples, 1)
    if checks.integer(function, "classes", classes, 1) > 256:
        raise ValueError(f"{function}: classes must be at most 256, got {classes}")
    points = arrays.new(np.zeros((classes, count, 2)))
    return points, np.repeat(np.arange(classes, dtype=np.uint8), count)


def _normal(count: int) -> Array:
    """Normal numbers, rounded to the default element type before they are used."""
    return arrays.new(np.random.randn(count))
