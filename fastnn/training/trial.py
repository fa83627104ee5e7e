"""One training step of a copy of a model, to look at: its loss and gradients, and no update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


class Trial:
    """A model's next step on one batch, in float64, run as often as need be.

    It is run as in training, with the masks of dropout that the step would have. The copy's layers
    are made again of what `get_config` says; the model itself is not changed.

    Parameters
    ----------
    owner : str
        Who asks, for messages.
    model : Sequential
        Compiled; if it is not built yet, initial weights are drawn for the copy.
    x, y, sample_weight : array_like
        As in ``model.fit``.
    """

    def __init__(
        self, owner: str, model: Sequential, x: Any, y: Any, sample_weight: Any = None
    ) -> None:
        self._owner = owner
        self._loss, _ = model._require_compiled(owner)
        copy = _wide_copy(owner, model, x)
        copy.compile("sgd", self._loss)
        self._layers = copy.layers
        self._sources = copy._check_data(x, y, sample_weight, None)
        self._state = cpu.new_state(model.seed)
        self._state[s.STEP] = model.state[s.STEP]

    def _tape(self) -> Eager:
        self._state[s.STATUS] = s.PAUSED
        cpu.floats(self._state)[[s.LOSS_SUM, s.PENALTY_SUM]] = 0
        return Eager(len(self._sources.x), "float64", self._state, training=True)

    def loss(self) -> float:
        """The mean loss, penalties of regularizers among it.

        Raises
        ------
        ValueError
            If it is not finite.
        """
        tape = self._tape()
        planner.evaluation_step(tape, self._layers, self._loss, [], self._sources, "float64")
        if tape.stopped:
            raise ValueError(f"{self._owner}: the loss is infinite or NaN")
        return float(cpu.floats(self._state)[[s.LOSS_SUM, s.PENALTY_SUM]].sum()) / tape.rows

    def gradients(self) -> list[tuple[str, Array, Array]]:
        """Of each trained parameter array: its name, itself, live, and a copy of its gradient.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        self.loss()
        tape = self._tape()
        planner.gradient_step(tape, self._layers, self._loss, [], self._sources, "float64")
        return [
            (f"{layer.label}.{name}", w, layer.grads[name].copy())
            for layer in leaves(self._layers)
            if layer.trained
            for name, w in layer.params.items()
        ]


def _wide_copy(owner: str, model: Sequential, x: Any) -> Sequential:
    """The model in float64, with its weights if it has some."""
    shape = model.input_shape or checks.features(x, "x", None, model.dtype).shape[1:]
    layers = [_again(owner, layer) for layer in model.layers]
    copy = type(model)(layers, input_shape=shape, dtype="float64", seed=model.seed)
    if model.built:
        copy.set_weights(model.get_weights())
    return copy


def _again(owner: str, layer: Layer) -> Layer:
    """A layer like this one, of its configuration."""
    kind, config = type(layer), layer.get_config()
    if layer.inside():
        config["layers"] = [_again(owner, inner) for inner in layer.inside()]
    try:
        made: Layer = kind(**config)
    except TypeError as error:
        raise TypeError(
            f"{owner}: {layer.label} cannot be made again of its get_config: {error}"
        ) from error
    made.take_over(layer)
    return made
