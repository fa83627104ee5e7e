"""Where pictures are drawn: figures and axes of the caller's, or new ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.optional import needed

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

OWN, OTHER, WARNING = "#1f6feb", "#9aa4af", "#d4570f"
"""Colours: of what is looked at, of what it is compared with, of what deserves a look."""


def axes_of(owner: str, ax: Any) -> Any:
    """`ax`, or the axes of a new figure of pyplot's."""
    pyplot = needed("matplotlib.pyplot", owner)
    return pyplot.figure(layout="constrained").subplots() if ax is None else ax


def grid_of(
    owner: str, figure: Any, count: int, columns: int, size: tuple[float, float]
) -> tuple[Any, Array]:
    """A figure with room for `count` pictures, at most `columns` in a row, and their axes.

    Parameters
    ----------
    figure : Figure, SubFigure or None
        None makes one of pyplot's, with `size` (width, height) in inches for each picture.

    Returns
    -------
    figure, axes (count,)
    """
    pyplot = needed("matplotlib.pyplot", owner)
    columns = max(1, min(columns, count))
    rows = max(1, math.ceil(count / columns))
    if figure is None:
        width, height = size
        figure = pyplot.figure(figsize=(width * columns, height * rows), layout="constrained")
    axes: Array = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def labels_of(owner: str, argument: str, values: Any) -> Array:
    """Labels (N,), integers: as they are, or of a network's outputs (N, C).

    The largest output of a row is its class; where there is only one, it is a probability.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.dtype.kind in "buif" and array.shape[1] > 0:
        return array.argmax(axis=1) if array.shape[1] > 1 else (array[:, 0] > 0.5).astype(np.int64)
    if array.ndim == 1 and array.size > 0:
        with np.errstate(invalid="ignore"):  # NaN is no label, and refused below
            labels = array.astype(np.int64) if array.dtype.kind in "buif" else array
        if labels.dtype.kind == "i" and (labels == array).all() and labels.min() >= 0:
            return labels
    raise ValueError(
        f"{owner}: {argument} must be labels (N,), integers from 0, or rows (N, C) of numbers, "
        f"got {array.dtype} of shape {array.shape}"
    )


def names_of(owner: str, names: Any, classes: int) -> list[str]:
    """What classes are called: their numbers, unless there are `names` for all of them."""
    if names is None:
        return [str(label) for label in range(classes)]
    listed = [str(name) for name in names]
    if len(listed) < classes:
        raise ValueError(f"{owner}: names must be {classes}, one for each class, got {listed}")
    return listed


def colours(classes: int) -> list[Any]:
    """A colour for each class, as matplotlib's default cycle has them, RGB (3,)."""
    from matplotlib import colormaps

    return [colormaps["tab10"](label % 10)[:3] for label in range(classes)]
