"""Rows that are images: what units look for, what the network takes for something else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.layers.base import Layer
from fastnn.plot.figures import grid_of, labels_of, names_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

COLUMNS = 8
"""Images in a row."""


def weights(
    layer: Layer, shape: tuple[int, ...] | None = None, most: int = 64, figure: Any = None
) -> Array:
    """Draw the weights that lead to each unit of a layer as an image: red where they are positive.

    All images have one scale, from blue over white, which is 0, to red.

    Parameters
    ----------
    layer : Layer
        Built, with a ``kernel`` (I, O).
    shape : tuple of int, optional
        Of an image, (height, width) or (height, width, 1); by default a square, if I is one.
    most : int, at least 1
        How many units are drawn, the first ones.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    ndarray of matplotlib Axes, (units,)

    Raises
    ------
    TypeError
        If `layer` is no layer.
    ValueError
        If it has no such kernel, or its inputs do not make an image of `shape`.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.Sequential([fastnn.Dense(3)], input_shape=(16,), seed=0)
    >>> [ax.images[0].get_array().shape for ax in fastnn.plot.weights(model.layers[0])]
    [(4, 4), (4, 4), (4, 4)]
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"weights: layer must be a layer, got {layer!r}")
    kernel = layer.params.get("kernel")
    if kernel is None or kernel.ndim != 2:
        raise ValueError(f"weights: {layer.label} must be built and have a kernel (I, O)")
    units = kernel.T[: checks.integer("weights", "most", most, 1)]
    images = _images("weights", units, shape)
    if images.ndim != 3:
        raise ValueError(f"weights: shape must be that of a grey image, got {shape}")
    limit = float(abs(units).max()) or 1.0
    figure, axes = grid_of("weights", figure, len(units), COLUMNS, (1.1, 1.25))
    for unit, (ax, image) in enumerate(zip(axes, images, strict=True)):
        shown = ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
        _bare(ax, str(unit))
    figure.colorbar(shown, ax=list(axes), label="weight", shrink=0.8)
    return axes


def misclassified(
    x: Any,
    y: Any,
    predictions: Any,
    shape: tuple[int, ...] | None = None,
    names: Sequence[str] | None = None,
    most: int = 24,
    figure: Any = None,
) -> Array:
    """Draw images that are taken for another class, those first of which the network is surest.

    Parameters
    ----------
    x : array_like, (N, ...)
        Images, grey or with three or four channels last, of numbers from 0 to the largest.
    y : array_like, (N,) of int from 0, or (N, C)
        Their classes.
    predictions : array_like, (N, C), (N, 1) or (N,) of int
        What `predict` gave, or labels, which have no certainty. A single output is the probability
        of class 1.
    shape : tuple of int, optional
        Of an image, (height, width) or (height, width, channels); by default that of a row of x,
        for vectors a square.
    names : sequence of str, optional
        The classes' names.
    most : int, at least 1
        How many are drawn.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    ndarray of matplotlib Axes, (images,)
        Empty if nothing is misclassified.

    Raises
    ------
    ValueError
        If arguments have wrong shapes, or names are missing.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> x = np.zeros((3, 16))
    >>> [ax.get_title() for ax in fastnn.plot.misclassified(x, [0, 1, 1], [0, 1, 0])]
    ['1, not 0']
    """
    owner = "misclassified"
    rows = checks.array(x, f"{owner}: x")
    true, found = labels_of(owner, "y", y), labels_of(owner, "predictions", predictions)
    if not len(rows) == len(true) == len(found):
        raise ValueError(
            f"{owner}: x, y and predictions must have as many rows, "
            f"got {len(rows)}, {len(true)} and {len(found)}"
        )
    called = names_of(owner, names, 1 + int(max(true.max(), found.max())))
    certainty = _of_the_class_taken(np.asarray(predictions), found)
    wrong = np.flatnonzero(true != found)
    shown = wrong[np.argsort(-certainty[wrong], kind="stable")]
    shown = shown[: checks.integer(owner, "most", most, 1)]
    images = _images(owner, rows[shown], shape)
    figure, axes = grid_of(owner, figure, len(shown), COLUMNS, (1.2, 1.5))
    figure.suptitle(f"{len(wrong)} of {len(rows)} misclassified")
    top = float(rows.max()) or 1.0
    for ax, row, image in zip(axes, shown, images, strict=True):
        if image.ndim == 2:
            ax.imshow(image, cmap="gray_r", vmin=rows.min(), vmax=top)
        else:
            ax.imshow(np.clip(image / top, 0, 1))
        sure = f"\n{certainty[row]:.0%}" if np.ndim(predictions) == 2 else ""
        _bare(ax, f"{called[true[row]]}, not {called[found[row]]}{sure}")
    return axes


def _of_the_class_taken(predictions: Array, found: Array) -> Array:
    """The probability (N,) of the class that the network takes each row for; 1 of labels."""
    if predictions.ndim == 1:
        return np.ones(len(predictions))
    if predictions.shape[1] == 1:
        return np.where(found == 1, predictions[:, 0], 1 - predictions[:, 0])
    taken: Array = np.take_along_axis(predictions, found[:, None], axis=1)[:, 0]
    return taken


def _images(owner: str, rows: Array, shape: tuple[int, ...] | None) -> Array:
    """Rows as images (N, height, width), or with channels last."""
    size = math.prod(rows.shape[1:])
    if shape is not None:
        wanted = checks.shape(shape, f"{owner}: shape")
    elif rows.ndim == 2:
        wanted = (math.isqrt(size), math.isqrt(size))
    else:
        wanted = rows.shape[1:]
    if wanted[-1] == 1 and len(wanted) == 3:
        wanted = wanted[:2]
    if math.prod(wanted) != size or not (len(wanted) == 2 or wanted[2:] in ((3,), (4,))):
        raise ValueError(
            f"{owner}: shape must be (height, width) or (height, width, channels) with {size} "
            f"numbers, got {wanted if shape is None else shape}"
        )
    return rows.reshape(len(rows), *wanted)


def _bare(ax: Any, title: str) -> None:
    """An image without ticks, under its title."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize="small")
