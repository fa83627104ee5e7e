"""A model's gradients against central differences, for whoever writes layers or losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.engine import cpu
from fastnn.engine.tape import Eager
from fastnn.kernels import state as s
from fastnn.layers.base import leaves
from fastnn.training import planner

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.layers.base import Layer
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
    loss, _ = model._require_compiled("gradcheck")
    copy = _wide_copy(model, x)
    copy.compile("sgd", loss)
    trial = _Trial(copy, copy._check_data(x, y, sample_weight, None), int(model.state[s.STEP]))
    rng = np.random.default_rng(model.seed)
    errors = {}
    for label, w, gradient in trial.gradients():
        chosen = rng.permutation(w.size)[:most]
        differences = np.array([trial.difference(w, index, step) for index in chosen])
        found = gradient[chosen]
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


def _wide_copy(model: Sequential, x: Any) -> Sequential:
    """The model in float64, with its weights if it has some."""
    shape = model.input_shape or checks.features(x, "x", None, model.dtype).shape[1:]
    layers = [_again(layer) for layer in model.layers]
    copy = type(model)(layers, input_shape=shape, dtype="float64", seed=model.seed)
    if model.built:
        copy.set_weights(model.get_weights())
    return copy


def _again(layer: Layer) -> Layer:
    """A layer like this one, of its configuration."""
    kind, config = type(layer), layer.get_config()
    if layer.inside():
        config["layers"] = [_again(inner) for inner in layer.inside()]
    try:
        made: Layer = kind(**config)
    except TypeError as error:
        raise TypeError(
            f"gradcheck: {layer.label} cannot be made again of its get_config: {error}"
        ) from error
    made.take_over(layer)
    return made


class _Trial:
    """One batch and one step of a model, run as often as need be."""

    def __init__(self, model: Sequential, sources: planner.Sources, step: int) -> None:
        assert model.loss is not None
        self._layers, self._loss, self._sources = model.layers, model.loss, sources
        self._state = cpu.new_state(model.seed)
        self._state[s.STEP] = step

    def _tape(self) -> Eager:
        self._state[s.STATUS] = s.PAUSED
        cpu.floats(self._state)[[s.LOSS_SUM, s.PENALTY_SUM]] = 0
        return Eager(len(self._sources.x), "float64", self._state, training=True)

    def loss(self) -> float:
        """The mean loss."""
        tape = self._tape()
        planner.evaluation_step(tape, self._layers, self._loss, [], self._sources, "float64")
        if tape.stopped:
            raise ValueError("gradcheck: the loss is infinite or NaN")
        return float(cpu.floats(self._state)[[s.LOSS_SUM, s.PENALTY_SUM]].sum()) / tape.rows

    def gradients(self) -> list[tuple[str, Array, Array]]:
        """Each parameter array's name, the array itself and a copy of its gradient, as vectors."""
        self.loss()  # refuses a loss that is not finite
        tape = self._tape()
        planner.gradient_step(tape, self._layers, self._loss, [], self._sources, "float64")
        return [
            (f"{layer.label}.{name}", w.reshape(-1), layer.grads[name].reshape(-1).copy())
            for layer in leaves(self._layers)
            if layer.trained
            for name, w in layer.params.items()
        ]

    def difference(self, w: Array, index: int, step: float) -> float:
        """The central difference of the loss by ``w[index]``."""
        centre = w[index]
        w[index] = upper = centre + step
        above = self.loss()
        w[index] = lower = centre - step
        below = self.loss()
        w[index] = centre
        return float((above - below) / (upper - lower))
