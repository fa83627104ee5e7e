"""`Model.train` in the compiled engine: as the training of a `Sequential` of the same layers.

While it lasts, the layers' arrays are parts of that network's vectors; then each gets its own back,
with the values. What a layer sets in `forward` and `backward` is not set.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn import layers as own_layers
from fastnn.kernels import state as s
from fastnn.losses import check as check_loss
from fastnn.metrics import Accuracy, Metric
from fastnn.metrics.regression import RegressionAccuracy
from fastnn.model import Sequential
from fastnn.nnfs import accuracies, activations, arrays, layers, losses, optimizers
from fastnn.optimizers import Group, Optimizer
from fastnn.regularizers import L2
from fastnn.training import planner

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fastnn.engine.tape import Tape
    from fastnn.nnfs.model import Model

    Array = npt.NDArray[Any]

ORDER_ROWS = 1 << 16
"""Rows of the steps that are taken in one call, about: their order stays in a cache."""

ACTIVATIONS = {
    activations.Activation_ReLU: "relu",
    activations.Activation_Softmax: "softmax",
    activations.Activation_Sigmoid: "sigmoid",
    activations.Activation_Linear: "linear",
}

LOSSES = {
    losses.Loss_CategoricalCrossentropy: "categorical_crossentropy",
    losses.Loss_BinaryCrossentropy: "binary_crossentropy",
    losses.Loss_MeanSquaredError: "mean_squared_error",
    losses.Loss_MeanAbsoluteError: "mean_absolute_error",
}

OPTIMIZERS = (
    optimizers.Optimizer_SGD,
    optimizers.Optimizer_Adagrad,
    optimizers.Optimizer_RMSprop,
    optimizers.Optimizer_Adam,
)


class _Dense(own_layers.Dense):
    """A dense layer whose regularization changes gradients, and is not added to the data loss."""

    def penalty_ops(self, tape: Tape) -> None:
        """Nothing."""


class _Update(Optimizer):
    """One of the book's optimizers as the planner takes it."""

    name = "nnfs"

    def __init__(self, book: Any) -> None:
        super().__init__()
        self.book, self.slots = book, book.vectors

    def update_ops(
        self, tape: Tape, groups: Sequence[Group], constrained: Sequence[own_layers.Layer] = ()
    ) -> None:
        """The ops that the book's optimizer names."""
        self.book._rates_ops(tape)
        for w, g, slots, _ in groups:
            self.book._ops(tape, w, g, **slots)
        tape.update()


class _Close(RegressionAccuracy):
    """The accuracy of regression with a precision that is known."""

    def __init__(self, precision: float) -> None:
        super().__init__("accuracy")
        self.precision = precision

    def start(self, columns: int, targets: Array) -> Array:
        """No hits yet."""
        return np.array([0.0, self.precision, columns])


def takes(model: Model) -> bool:
    """Whether the engine can train it: every part is fastnn's own, and they fit together."""
    chain, kinds = model.layers, {type(layer) for layer in model.layers}
    dense = [layer for layer in chain if type(layer) is layers.Layer_Dense]
    ours = kinds <= {layers.Layer_Dense, layers.Layer_Dropout, *ACTIVATIONS}
    if not ours or not dense or type(model.optimizer) not in OPTIMIZERS:
        return False
    # The engine's slope of |w| at 0 is 0, the book's is 1.
    slopes = any(layer.weight_regularizer_l1 or layer.bias_regularizer_l1 for layer in dense)
    return not slopes and _fit_together(dense) and _ends_well(model)


def _fit_together(dense: list[Any]) -> bool:
    """Whether arrays are of one type, and each layer takes what the one before it gives."""
    parameters = [array for layer in dense for array in layer.get_parameters()]
    types = {getattr(array, "dtype", None) for array in parameters}
    shapes = [np.shape(array) for array in parameters]
    weights, biases = shapes[::2], shapes[1::2]
    return (
        len({id(layer) for layer in dense}) == len(dense)  # none stands in two places
        and len(types) == 1
        and types <= set(arrays.REALS)
        and all(len(shape) == 2 for shape in weights)
        and all(own == (1, shape[1]) for own, shape in zip(biases, weights, strict=True))
        and all(before[1] == after[0] for before, after in pairwise(weights))
    )


def _ends_well(model: Model) -> bool:
    """Whether last activation, loss and accuracy are about the same kind of answer."""
    ends = type(model.layers[-1]), type(model.loss), type(model.accuracy)
    if ends[2] is accuracies.Accuracy_Categorical:
        last, loss = (
            (activations.Activation_Sigmoid, losses.Loss_BinaryCrossentropy)
            if model.accuracy.binary
            else (activations.Activation_Softmax, losses.Loss_CategoricalCrossentropy)
        )
        return ends[0] is last and ends[1] is loss
    return (
        ends[2] is accuracies.Accuracy_Regression
        and ends[0] in (activations.Activation_Linear, activations.Activation_ReLU)
        and ends[1] in (losses.Loss_MeanSquaredError, losses.Loss_MeanAbsoluteError)
    )


def _layer(book: Any) -> own_layers.Layer:
    """The layer that does what one of the book's does."""
    if type(book) is layers.Layer_Dropout:
        return own_layers.Dropout(1 - book.rate)
    if type(book) is not layers.Layer_Dense:
        return own_layers.Activation(ACTIVATIONS[type(book)])
    strengths = book.weight_regularizer_l2, book.bias_regularizer_l2
    of_weights, of_biases = (L2(strength) if strength else None for strength in strengths)
    return _Dense(
        np.shape(book.weights)[1],
        kernel_initializer="zeros",
        kernel_regularizer=of_weights,
        bias_regularizer=of_biases,
    )


def _metric(accuracy: Any) -> Metric:
    """The metric that counts what one of the book's accuracies does."""
    if type(accuracy) is accuracies.Accuracy_Categorical:
        return Accuracy()
    return _Close(float(accuracy.precision))


class CompiledSteps:
    """The steps of a model over rows X with targets y, `batch` in each."""

    def __init__(self, model: Model, X: Any, y: Any, batch: int, validation_data: Any) -> None:
        self._model, self._batch, self._next = model, batch, 0
        self._dense = [layer for layer in model.layers if type(layer) is layers.Layer_Dense]
        first = self._dense[0].weights
        self._net = net = Sequential(
            [_layer(layer) for layer in model.layers], len(first), first.dtype.name, self._seed()
        )
        self._loss = check_loss(LOSSES[type(model.loss)])
        x, targets = self._data(X, y, "X", "y")
        self._held = self._validation(validation_data)
        model.accuracy.init(y)
        net.compile(_Update(model.optimizer), self._loss, [_metric(model.accuracy)])
        net.state[s.STEP] = model.optimizer.iterations
        self.per_epoch = -(-len(x) // batch)
        at_once = max(1, ORDER_ROWS // batch)
        # All rows again and again, where they are one step.
        self._rows = np.arange(at_once * batch if self.per_epoch == 1 else len(x)) % len(x)
        self._order, self._rates = np.empty(at_once * batch, np.int64), np.empty(at_once)
        self._sources = planner.Sources(x, targets, order=self._order, rates=self._rates)

    def _data(self, X: Any, y: Any, of_x: str, of_y: str) -> tuple[Array, Array]:
        """Rows and targets as steps take them."""
        net = self._net
        x = checks.features(X, of_x, net.input_shape, net.dtype)
        y = checks.targets(y, of_y, len(x), net.output_shape, self._loss.targets, net.dtype)
        return x, y.array

    def _validation(self, given: Any) -> planner.Sources | None:
        """Validation data as steps take them."""
        if given is None:
            return None
        x, y = given
        return planner.Sources(*self._data(x, y, "X_val", "y_val"))

    def _seed(self) -> int:
        """Of dropout's masks, if there are any: a draw from NumPy's generator."""
        if not any(type(layer) is layers.Layer_Dropout for layer in self._model.layers):
            return 0
        return int(np.random.randint(1 << 62, dtype=np.int64))

    def __enter__(self) -> CompiledSteps:
        """Let the layers' arrays be parts of the network's vectors, with their values."""
        self._given: list[tuple[Any, str, Any, Array]] = []
        for layer, name, part in self._parts():
            value = getattr(layer, name, None)
            if value is not None:
                part[...] = checks.like(value, name, part)
            self._given.append((layer, name, value, part))
        try:
            for layer, name, _, part in self._given:
                setattr(layer, name, part)
            self._pass = self._net.training_pass(self._sources, self._batch, verbose=1)
            self._pass.__enter__()
        except BaseException:
            self._give_back()
            raise
        return self

    def _parts(self) -> Iterator[tuple[Any, str, Array]]:
        """Each dense layer, the name of one of its arrays, and its part of a vector."""
        flat = self._net.flat()
        vectors = {"": flat.parameters} | {f"_{name}": v for name, v in flat.slots.items()}
        begin = 0
        for layer in self._dense:
            for name, kind in optimizers.PARAMETERS:
                shape = np.shape(getattr(layer, name))
                end = begin + int(np.prod(shape))
                for suffix, vector in vectors.items():
                    yield layer, kind + suffix if suffix else name, vector[begin:end].reshape(shape)
                begin = end

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the layers their own arrays back, with the values; count the steps done."""
        self._pass.__exit__(kind, error, trace)
        self._give_back()
        self._model.optimizer.iterations = int(self._net.state[s.STEP])

    def _give_back(self) -> None:
        for layer, name, value, part in self._given:
            own = value if isinstance(value, np.ndarray) and value.flags.writeable else None
            if own is None or own.dtype != part.dtype:
                own = np.empty_like(part)
            own[...] = part
            setattr(layer, name, own)

    def run(self, count: int) -> tuple[Any, Any, Any]:
        """Take the next `count` steps; the figures of the last."""
        self._take(count - 1)
        regularization_loss = self._model.loss.regularization_loss()
        figures = self._take(1)
        return figures["accuracy"], figures["loss"], regularization_loss

    def _take(self, count: int) -> dict[str, Any]:
        """Take `count` steps, as many at once as there is room for; the figures of the last run."""
        figures: dict[str, Any] = {}
        while count > 0:
            left = count if self.per_epoch == 1 else self.per_epoch - self._next
            steps = min(count, left, len(self._rates))
            figures = self._take_at_once(steps)
            count -= steps
        return figures

    def _take_at_once(self, steps: int) -> dict[str, Any]:
        model, state = self._model, self._net.state
        if self._next == 0:
            model.loss.new_pass()
            model.accuracy.new_pass()
        begin = self._next * self._batch
        rows = self._rows[begin : begin + steps * self._batch]
        self._order[: len(rows)] = rows
        done = int(state[s.STEP])
        self._rates[:steps] = model.optimizer.rates(np.arange(done, done + steps))
        tally = self._net.cleared_tally()
        self._pass.epoch(len(rows), self._batch)
        if model.optimizer.decay:
            model.optimizer.current_learning_rate = float(self._rates[steps - 1])
        figures = tally.figures(state, len(rows))
        self._accumulate(figures, len(rows))
        self._next = (self._next + steps) % self.per_epoch
        return figures

    def _accumulate(self, figures: dict[str, Any], rows: int) -> None:
        """Let the book's loss and accuracy take in the means of `rows` rows."""
        loss, accuracy = self._model.loss, self._model.accuracy
        loss.accumulated_sum += figures["loss"] * rows
        loss.accumulated_count += rows
        classes = type(loss) is losses.Loss_CategoricalCrossentropy  # one answer a row
        answers = rows if classes else rows * self._net.output_shape[0]
        accuracy.accumulated_sum += figures["accuracy"] * answers
        accuracy.accumulated_count += answers

    def evaluate(self, batch_size: int | None) -> None:
        """Do what `Model.evaluate` does, in compiled code; the batch size makes no difference."""
        assert self._held is not None
        self._model.loss.new_pass()
        self._model.accuracy.new_pass()
        self._accumulate(self._net.evaluate_checked(self._held), len(self._held.x))
        self._model.print_validation()
