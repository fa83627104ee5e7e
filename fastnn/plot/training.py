"""How training went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.plot.figures import OTHER, OWN, WARNING, grid_of
from fastnn.training.history import History

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

WIDE = 10.0
"""Learning rates that differ by more than this factor are drawn on a logarithmic scale."""


def history(history: History | Mapping[str, Any], figure: Any = None) -> Array:
    """Draw losses, metrics and learning rate by epoch, training beside validation.

    Parameters
    ----------
    history : History or dict of str to list
        What `fit` returned, or its attribute ``history``. Quantities that are arrays, such as
        confusion matrices, are left out.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    ndarray of matplotlib Axes, (quantities,)
        One for each quantity, in the order of the history; the best epoch of the validation's loss
        is marked.

    Raises
    ------
    TypeError
        If `history` is something else.
    ValueError
        If it has no epoch.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn
    >>> axes = fastnn.plot.history({"loss": [2.0, 1.0], "val_loss": [2.5, 1.5]})
    >>> [line.get_label() for line in axes[0].lines]
    ['training', 'validation', 'best, epoch 2']
    """
    table = history.history if isinstance(history, History) else history
    if not isinstance(table, Mapping):
        raise TypeError(f"history: history must be what fit returned, or a dict, got {table!r}")
    lists = {name: list(values) for name, values in table.items()}
    curves = {name: np.array(v, np.float64) for name, v in lists.items() if np.ndim(v) == 1}
    names = [
        name for name in curves if name.removeprefix("val_") not in curves or name[:4] != "val_"
    ]
    if not names or min(map(len, curves.values())) == 0:
        raise ValueError(f"history: history must have an epoch, got {table!r}")
    _, axes = grid_of("history", figure, len(names), 3, (4.5, 3.6))
    for ax, name in zip(axes, names, strict=True):
        _panel(ax, name, curves[name], curves.get(f"val_{name}"))
    return axes


def _panel(ax: Any, name: str, training: Array, validation: Array | None) -> None:
    """One quantity."""
    style = {"marker": "." if len(training) == 1 else None}
    epochs = np.arange(1, len(training) + 1)
    ax.plot(epochs, training, color=OWN, label="training", **style)
    if validation is not None:
        ax.plot(epochs, validation, color=WARNING, label="validation", **style)
    if name == "loss" and validation is not None and np.isfinite(validation).any():
        best = int(np.nanargmin(validation)) + 1
        ax.axvline(best, color=OTHER, linestyle="--", linewidth=1, label=f"best, epoch {best}")
    if name == "learning_rate" and training.min() > 0 and training.max() > WIDE * training.min():
        ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel(name.replace("_", " "))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.3)
    if validation is not None:
        ax.legend()
