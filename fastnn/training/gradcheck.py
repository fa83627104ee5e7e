"""A model's gradients against central differences, for whoever writes layers or losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.training.trial import Trial

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.model import Sequential

    Array = npt.NDArray[Any]

ROUNDING = 1e-15
"""What a loss near 1 loses to rounding: some units in the last place of float64."""


class GradientError(ArithmeticError):
    """A gradient is not the derivative of the loss.

    Attributes
    ----------
    errors : dict of str to float
        What `gradcheck` would have returned.
    """

    def __init__(self, errors: dict[str, float], message: str) -> None:
        super().__init__(message)
        self.errors = errors


def gradcheck(
    model: Sequential,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    epsilon: float = 1e-6,
    tolerance: float = 1e-5,
    entries: int = 100,
) -> dict[str, float]:
    """Compare the gradients of a model's loss with central differences, in float64.

    All is done on a copy of the model: the layers are made again of what their `get_config` says.
    It is run as in training, with the masks of dropout fixed to those of the model's next step. At
    a corner, like ReLU's at 0, a difference has no meaning: a model that is right may fail there.

    Parameters
    ----------
    model : Sequential
        Compiled; if it is not built yet, initial weights are drawn for the copy.
    x, y, sample_weight : array_like
        As in ``model.fit``; a few rows will do.
    epsilon : float, greater than 0
        How far each parameter is moved, up and down.
    tolerance : float, greater than 0
        The largest relative error that is let pass.
    entries : int, at least 1
        Of a parameter array with more, so many are drawn to be looked at.

    Returns
    -------
    dict of str to float
        For each parameter array, as ``"dense_0.kernel"``, the largest error, relative to the
        gradient; errors that rounding alone can make of the difference stay below `tolerance`.

    Raises
    ------
    GradientError
        If an error is larger than `tolerance`; it names the arrays.
    ValueError
        If the loss is not finite.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> model = fastnn.Sequential([fastnn.Dense(3, "tanh"), fastnn.Dense(1)], (2,), seed=1)
    >>> model.compile("adam", "mse")
    >>> sorted(fastnn.gradcheck(model, np.ones((4, 2)), np.zeros(4)))
    ['dense_0.bias', 'dense_0.kernel', 'dense_1.bias', 'dense_1.kernel']
    """
    step = checks.number("gradcheck", "epsilon", epsilon, "(0, inf)")
    allowed = checks.number("gradcheck", "tolerance", tolerance, "(0, inf)")
    most = checks.integer("gradcheck", "entries", entries, 1)
    trial = Trial("gradcheck", model, x, y, sample_weight)
    rng = np.random.default_rng(model.seed)
    errors = {}
    for label, parameter, gradient in trial.gradients():
        w = parameter.reshape(-1)
        chosen = rng.permutation(w.size)[:most]
        differences = np.array([difference(trial, w, index, step) for index in chosen])
        found = gradient.reshape(-1)[chosen]
        noise = ROUNDING * max(abs(trial.loss()), 1.0) / step
        size = np.maximum(np.maximum(abs(found), abs(differences)), noise / allowed)
        errors[label] = float((abs(found - differences) / size).max())
    wrong = {label: error for label, error in errors.items() if not error <= allowed}
    if wrong:
        listed = ", ".join(f"{label} ({error:.2g})" for label, error in wrong.items())
        raise GradientError(
            errors, f"gradcheck: gradients off by more than {allowed:g} of their size: {listed}"
        )
    return errors


def difference(trial: Trial, w: Array, index: int, step: float) -> float:
    """The central difference of the trial's loss by ``w[index]``, a live parameter."""
    centre = w[index]
    w[index] = upper = centre + step
    above = trial.loss()
    w[index] = lower = centre - step
    below = trial.loss()
    w[index] = centre
    return float((above - below) / (upper - lower))
