"""`Model.train`'s steps: compiled where every part is fastnn's, else one by one in Python."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from fastnn.nnfs import compiled
from fastnn.training.loop import NothingTaken

if TYPE_CHECKING:
    from fastnn.nnfs.model import Model


class Steps(AbstractContextManager["Steps"], Protocol):
    """Training steps over the rows in their order, epoch after epoch, within a ``with`` block."""

    per_epoch: int

    def run(self, count: int) -> tuple[Any, Any, Any]:
        """Take the next `count` steps, at least one.

        Returns
        -------
        accuracy, data loss, regularization loss
            Of the last of them.
        """

    def evaluate(self, batch_size: int | None) -> None:
        """Do what `Model.evaluate` does on the validation data."""


def steps_of(model: Model, X: Any, y: Any, batch_size: int | None, validation_data: Any) -> Steps:
    """The steps of `model` over rows X with targets y, `batch_size` in each, or all."""
    if len(X) == 0 or len(X) != len(y):
        raise ValueError(f"train: X and y must have equally many rows, got {len(X)} and {len(y)}")
    batch = min(batch_size or len(X), len(X))
    if compiled.takes(model):
        return compiled.CompiledSteps(model, X, y, batch, validation_data)
    return EagerSteps(model, X, y, batch, validation_data)


class EagerSteps(NothingTaken):
    """Each step in Python, by the methods of the model's parts."""

    def __init__(self, model: Model, X: Any, y: Any, batch: int, validation_data: Any) -> None:
        self._model, self._x, self._y, self._batch = model, X, y, batch
        self._held = validation_data
        self._first = 0
        self.per_epoch = -(-len(X) // batch)
        model.accuracy.init(y)

    def run(self, count: int) -> tuple[Any, Any, Any]:
        """Take the next `count` steps; the figures of the last."""
        for _ in range(count - 1):
            self._step()
        return self._step()

    def evaluate(self, batch_size: int | None) -> None:
        """Do what `Model.evaluate` does on the validation data."""
        self._model.evaluate(*self._held, batch_size=batch_size)

    def _step(self) -> tuple[Any, Any, Any]:
        model, rows = self._model, slice(self._first, self._first + self._batch)
        x, y = self._x[rows], self._y[rows]
        if self._first == 0:
            model.loss.new_pass()
            model.accuracy.new_pass()
        self._first = rows.stop if rows.stop < len(self._x) else 0
        output = model.forward(x, training=True)
        losses = model.loss.calculate(output, y, include_regularization=True)
        predictions = model.output_layer_activation.predictions(output)
        accuracy = model.accuracy.calculate(predictions, y)
        model.backward(output, y)
        model.optimizer.pre_update_params()
        for layer in model.trainable_layers:
            model.optimizer.update_params(layer)
        model.optimizer.post_update_params()
        return accuracy, *losses
