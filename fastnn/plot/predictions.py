"""What a network answers: which classes it confuses, which class each point of a plane gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.plot.figures import axes_of, colours, labels_of, names_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

MARGIN = 0.1
"""Of the data's extent, how much more of the plane is drawn on each side."""

FAINT, STRONG = 0.1, 0.55
"""Opacities of a region where the network has no preference, and where it is certain."""

MOST_CELLS = 30
"""Classes up to which the counts are written into a confusion matrix."""


def confusion_matrix(
    y: Any,
    predictions: Any,
    names: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw how many rows of each class the network takes for each class.

    A cell's colour is its share of the rows of its class, so that rare classes show as well.

    Parameters
    ----------
    y : array_like, (N,) of int from 0, or (N, C)
        The true classes: labels or one-hot rows.
    predictions : array_like, (N, C), (N, 1) or (N,) of int
        What `predict` gave, or labels. A single output is the probability of class 1.
    names : sequence of str, optional
        The classes' names.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If arguments have wrong shapes, or names are missing.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn
    >>> ax = fastnn.plot.confusion_matrix([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    >>> [text.get_text() for text in ax.texts]
    ['1', '1', '0', '1']
    """
    owner = "confusion_matrix"
    true, found = labels_of(owner, "y", y), labels_of(owner, "predictions", predictions)
    if len(true) != len(found):
        raise ValueError(f"{owner}: predictions must have {len(true)} rows, got {len(found)}")
    classes = 1 + int(max(true.max(), found.max()))
    widths = [np.shape(values)[1] for values in (y, predictions) if np.ndim(values) == 2]
    called = names_of(owner, names, max(classes, *widths, 2))
    counts = np.zeros((len(called), len(called)), np.int64)
    np.add.at(counts, (true, found), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax = axes_of(owner, ax)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="share of the class", shrink=0.8)
    for (row, column), count in np.ndenumerate(counts) if len(called) <= MOST_CELLS else ():
        ink = "white" if share[row, column] > 0.5 else "black"
        ax.text(column, row, str(count), ha="center", va="center", color=ink, fontsize="small")
    ax.set_xticks(range(len(called)), called, rotation=90 if max(map(len, called)) > 2 else 0)
    ax.set_yticks(range(len(called)), called)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.set_title(f"{np.trace(counts) / counts.sum():.2%} of {counts.sum()} rows right")
    return ax


def decision_boundary(model: Any, x: Any, y: Any, resolution: int = 200, ax: Any = None) -> Any:
    """Draw which class the network gives each point of the plane, and the rows that it is about.

    The more certain the network is, the stronger the colour.

    Parameters
    ----------
    model : Sequential, estimator or other object with ``predict``
        For rows (N, 2) it gives probabilities (N, C) or (N, 1), or labels (N,).
    x : array_like, (N, 2)
    y : array_like, (N,) of int from 0, or (N, C)
        Their classes.
    resolution : int, at least 2
        Points along each side.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If the rows are not points of a plane, or classes are not as expected.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> model = fastnn.Sequential([fastnn.Dense(2, "softmax")], input_shape=(2,), seed=0)
    >>> ax = fastnn.plot.decision_boundary(model, np.eye(2), [0, 1], resolution=50)
    >>> ax.images[0].get_array().shape
    (50, 50, 4)
    """
    owner = "decision_boundary"
    rows, points = (
        checks.array(x, f"{owner}: x"),
        checks.integer(owner, "resolution", resolution, 2),
    )
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(f"{owner}: x must be points (N, 2), got shape {rows.shape}")
    checks.finite(rows, f"{owner}: x", "float64")
    true = labels_of(owner, "y", y)
    if len(true) != len(rows):
        raise ValueError(f"{owner}: y must have {len(rows)} rows like x, got {len(true)}")
    low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    room = MARGIN * np.where(high > low, high - low, 1.0)
    low, high = low - room, high + room
    across, up = (np.linspace(*ends, points) for ends in zip(low, high, strict=True))
    plane = np.stack([np.tile(across, points), np.repeat(up, points)], axis=1)
    answers = np.asarray(model.predict(plane))
    labels = labels_of(owner, "what predict gave", answers)
    palette = np.array(colours(1 + int(max(true.max(), labels.max()))))
    image = np.empty((len(plane), 4))
    image[:, :3] = palette[labels]
    image[:, 3] = FAINT + (STRONG - FAINT) * _certainty(answers)
    ax = axes_of(owner, ax)
    ax.imshow(
        image.reshape(points, points, 4),
        extent=(low[0], high[0], low[1], high[1]),
        origin="lower",
        aspect="auto",
    )
    ax.scatter(*rows.T, c=palette[true], s=12, edgecolors="white", linewidths=0.4)
    return ax


def _certainty(answers: Array) -> Array:
    """From 0, where all classes are alike, to 1, of probabilities (N, C) or (N, 1); of labels 1."""
    if answers.ndim == 1:
        return np.ones(len(answers))
    if answers.shape[1] == 1:
        certainty: Array = abs(2 * answers[:, 0] - 1)
    else:
        least = 1 / answers.shape[1]
        certainty = (answers.max(axis=1) - least) / (1 - least)
    return certainty.clip(0, 1)
