"""What goes on inside a network: activations and gradients by layer, and units that are dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import checks
from fastnn.model import Sequential
from fastnn.plot.figures import OWN, WARNING, grid_of
from fastnn.training.trial import Trial

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

BINS = 50

NAMED = 8
"""Dead units whose numbers are told, at most."""


class Part(NamedTuple):
    """Numbers of one layer, (..., units), and which of its units are dead, (units,)."""

    name: str
    values: Array
    dead: Array


def activations(model: Sequential, x: Any, figure: Any = None) -> Array:
    """Draw a histogram of each layer's output, those of dead units in a colour of their own.

    A unit is dead if it has the same output for every row of `x`: nothing about them goes through
    it. Layers that hand on what they get, as dropout does in prediction, are left out.

    Parameters
    ----------
    model : Sequential
        Built; it is not changed.
    x : array_like, (N, ...)
        At least two rows.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    ndarray of matplotlib Axes, (layers,)
        Their titles say how many units of how many are dead.

    Raises
    ------
    TypeError
        If `model` is no network of fastnn's.
    ValueError
        If the rows do not fit it, or there is only one.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> model = fastnn.Sequential([fastnn.Dense(4, "relu")], input_shape=(2,), seed=0)
    >>> model.layers[0].bias = [2, 2, 2, -9]
    >>> fastnn.plot.activations(model, np.eye(2))[0].get_title()
    'dense_0: 1 of 4 units dead'
    """
    _require("activations", model)
    rows = checks.features(x, "activations: x", model.input_shape, model.dtype)
    if len(rows) < 2:
        raise ValueError("activations: x must have at least 2 rows to tell dead units, got 1")
    parts = []
    y = np.ascontiguousarray(rows, model.dtype)
    for layer in model.layers:
        before, y = y, layer.forward(y)
        if np.array_equal(before.reshape(-1), y.reshape(-1)):
            continue
        constant = (y == y[:1]).all(axis=0)
        parts.append(Part(layer.label, y.reshape(len(y), -1), constant.reshape(-1)))
    return _histograms("activations", figure, parts, "output")


def gradients(model: Sequential, x: Any, y: Any, figure: Any = None) -> Array:
    """Draw a histogram of the loss's gradient by each kernel, for one batch.

    A unit is dead if no weight that leads to it has a gradient other than 0. The gradients are
    those of the model's next training step, penalties and dropout's masks included.

    Parameters
    ----------
    model : Sequential
        Built and compiled; it is not changed.
    x, y : array_like
        Rows and targets, as in ``model.fit``.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    ndarray of matplotlib Axes, (kernels,)
        One for each trained array of weights with two dimensions or more; their titles say how
        many units of how many are dead.

    Raises
    ------
    RuntimeError
        If the model is not compiled.
    TypeError
        If `model` is no network of fastnn's.
    ValueError
        If data do not fit it, the loss is not finite, or no kernel is trained.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> model = fastnn.Sequential([fastnn.Dense(4, "relu"), fastnn.Dense(1)], (2,), seed=0)
    >>> model.compile("adam", "mse")
    >>> [ax.get_title() for ax in fastnn.plot.gradients(model, np.eye(2), [1, 2])][1]
    'dense_1.kernel: 0 of 1 units dead'
    """
    _require("gradients", model)
    parts = [
        Part(label, flat, (flat == 0).all(axis=0))
        for label, parameter, gradient in Trial("gradients", model, x, y).gradients()
        if parameter.ndim > 1
        for flat in [gradient.reshape(-1, gradient.shape[-1])]
    ]
    if not parts:
        raise ValueError("gradients: the model must have a kernel that is trained")
    return _histograms("gradients", figure, parts, "gradient")


def _require(owner: str, model: object) -> None:
    if not isinstance(model, Sequential):
        raise TypeError(f"{owner}: model must be a Sequential, got {model!r}")


def _histograms(owner: str, figure: Any, parts: list[Part], what: str) -> Array:
    """One picture for each part: counts on a logarithmic scale, the others on top of the dead."""
    _, axes = grid_of(owner, figure, len(parts), 3, (4.0, 3.0))
    for ax, part in zip(axes, parts, strict=True):
        dead = np.flatnonzero(part.dead)
        numbers = ", ".join(map(str, dead[:NAMED])) + (", ..." if len(dead) > NAMED else "")
        ax.hist(
            [part.values[:, part.dead].reshape(-1), part.values[:, ~part.dead].reshape(-1)],
            bins=BINS,
            stacked=True,
            log=True,
            color=[WARNING, OWN],
            label=[f"dead: {numbers}", "others"],
        )
        ax.set_title(f"{part.name}: {len(dead)} of {part.dead.size} units dead", fontsize="medium")
        ax.set_xlabel(f"{what}, root mean square {np.sqrt(np.mean(part.values**2)):.3g}")
        if len(dead):
            ax.legend(fontsize="small")
    return axes
