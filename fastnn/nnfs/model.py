"""The book's `Model`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.nnfs import files, training
from fastnn.nnfs.activations import Activation_Softmax
from fastnn.nnfs.layers import Layer_Input
from fastnn.nnfs.losses import (
    Activation_Softmax_Loss_CategoricalCrossentropy,
    Loss_CategoricalCrossentropy,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Model:
    """Layers and activations one after the other, a loss, an optimizer and an accuracy.

    Any of them may be your own, in the book's protocol. Where all are fastnn's, `train` runs in
    compiled code, but for L1 regularization. There two things differ from loops by hand by more
    than rounding: the loss of a softmax or a sigmoid is computed from its inputs, so that it is not
    clipped at −log 1e-7, and dropout has other masks.

    Attributes
    ----------
    layers : list
    trainable_layers : list
        Those with `weights`; set by `finalize`.
    loss, optimizer, accuracy : object or None

    Examples
    --------
    >>> from fastnn.nnfs import Activation_Linear, Layer_Dense, Model
    >>> model = Model()
    >>> model.add(Layer_Dense(2, 1))
    >>> model.add(Activation_Linear())
    >>> model.finalize()
    >>> model.predict([[0.0, 0.0]]).tolist()
    [[0.0]]
    """

    def __init__(self) -> None:
        self.layers: list[Any] = []
        self.softmax_classifier_output: Any = None
        self.loss: Any = None
        self.optimizer: Any = None
        self.accuracy: Any = None

    def add(self, layer: Any) -> None:
        """Append a layer or an activation."""
        self.layers.append(layer)

    def set(self, *, loss: Any = None, optimizer: Any = None, accuracy: Any = None) -> None:
        """Choose loss, optimizer and accuracy; what is None stays."""
        self.loss = self.loss if loss is None else loss
        self.optimizer = self.optimizer if optimizer is None else optimizer
        self.accuracy = self.accuracy if accuracy is None else accuracy

    def finalize(self) -> None:
        """Link the layers: each then has `prev` and `next`. Call it after `add` and `set`."""
        if not self.layers:
            raise ValueError("Model: it has no layers; add some before finalize")
        self.input_layer = Layer_Input()
        chain = [self.input_layer, *self.layers, self.loss]
        for before, layer, after in zip(chain, chain[1:], chain[2:], strict=False):
            layer.prev, layer.next = before, after
        self.output_layer_activation = self.layers[-1]
        self.trainable_layers = [layer for layer in self.layers if hasattr(layer, "weights")]
        if self.loss is not None:
            self.loss.remember_trainable_layers(self.trainable_layers)
        joint = isinstance(self.layers[-1], Activation_Softmax) and isinstance(
            self.loss, Loss_CategoricalCrossentropy
        )
        self.softmax_classifier_output = (
            Activation_Softmax_Loss_CategoricalCrossentropy() if joint else None
        )

    def train(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        print_every: int = 1,
        validation_data: tuple[Any, Any] | None = None,
    ) -> None:
        """Train on the rows in their order, and print.

        Without `batch_size`, as in chapter 18: a step takes all rows, every `print_every`-th epoch
        is printed, and validation comes last. With it, as from chapter 19 on: in each epoch every
        `print_every`-th step and the last are printed, the epoch's figures, and validation.

        Parameters
        ----------
        X : array_like, (N, ...)
        y : array_like
            Targets as the loss takes them.
        epochs : int
        batch_size : int, optional
            Rows in a step; an epoch's last takes what is left.
        print_every : int
        validation_data : (X, y), optional

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong: before anything changed.
        RuntimeError
            If loss, optimizer or accuracy is not set, or `finalize` was not called.
        DivergenceError
            If the loss or a gradient became infinite or NaN; the last finite weights are kept.
        """
        self._require("train", "loss", "optimizer", "accuracy")
        count = checks.integer("train", "epochs", epochs, 0)
        every = checks.integer("train", "print_every", print_every, 1)
        batch = _batch("train", batch_size)
        if validation_data is not None and len(validation_data) != 2:
            raise ValueError(
                f"train: validation_data must be (X, y), got {len(validation_data)} values"
            )
        validated = validation_data is not None
        with training.steps_of(self, X, y, batch, validation_data) as steps:
            if batch is None:
                self._train_whole(steps, count, every)
                if validated:
                    steps.evaluate(None)
            else:
                self._train_in_batches(steps, count, every, batch, validated)

    def _train_whole(self, steps: training.Steps, epochs: int, print_every: int) -> None:
        done = 0
        while done < epochs:
            taken = min(print_every, epochs - done)
            figures = steps.run(taken)
            done += taken
            if not done % print_every:
                print(f"epoch: {done}, {self._line(*figures)}")

    def _train_in_batches(
        self, steps: training.Steps, epochs: int, print_every: int, batch_size: int, validated: bool
    ) -> None:
        last = steps.per_epoch - 1
        for epoch in range(1, epochs + 1):
            print(f"epoch: {epoch}")
            before = -1
            for step in (*range(0, last, print_every), last):
                figures = steps.run(step - before)
                before = step
                print(f"step: {step}, {self._line(*figures)}")
            losses = self.loss.calculate_accumulated(include_regularization=True)
            print(f"training, {self._line(self.accuracy.calculate_accumulated(), *losses)}")
            if validated:
                steps.evaluate(batch_size)

    def _line(self, accuracy: float, data_loss: float, regularization_loss: float) -> str:
        """A step's or an epoch's figures as the book prints them."""
        return (
            f"acc: {accuracy:.3f}, loss: {data_loss + regularization_loss:.3f} "
            f"(data_loss: {data_loss:.3f}, reg_loss: {regularization_loss:.3f}), "
            f"lr: {self.optimizer.current_learning_rate}"
        )

    def evaluate(self, X_val: Any, y_val: Any, *, batch_size: int | None = None) -> None:
        """Print accuracy and loss on other data."""
        self._require("evaluate", "loss", "accuracy")
        self.loss.new_pass()
        self.accuracy.new_pass()
        for rows in _slices(len(X_val), _batch("evaluate", batch_size)):
            output = self.forward(X_val[rows], training=False)
            self.loss.calculate(output, y_val[rows])
            predictions = self.output_layer_activation.predictions(output)
            self.accuracy.calculate(predictions, y_val[rows])
        self.print_validation()

    def print_validation(self) -> None:
        """Print what loss and accuracy have accumulated."""
        accuracy = self.accuracy.calculate_accumulated()
        print(f"validation, acc: {accuracy:.3f}, loss: {self.loss.calculate_accumulated():.3f}")

    def predict(self, X: Any, *, batch_size: int | None = None) -> Array:
        """The network's output for every row of X."""
        self._require("predict")
        slices = _slices(len(X), _batch("predict", batch_size))
        return np.vstack([self.forward(X[rows], training=False) for rows in slices])

    def forward(self, X: Any, training: bool) -> Any:
        """Let every layer set its `output`; that of the last."""
        self.input_layer.forward(X, training)
        for layer in self.layers:
            layer.forward(layer.prev.output, training)
        return self.layers[-1].output

    def backward(self, output: Any, y: Any) -> None:
        """Let every layer set its gradients, after `forward` with its `output` and targets y."""
        layers = self.layers
        if self.softmax_classifier_output is None:
            self.loss.backward(output, y)
        else:
            self.softmax_classifier_output.backward(output, y)
            layers[-1].dinputs = self.softmax_classifier_output.dinputs
            layers = layers[:-1]
        for layer in reversed(layers):
            layer.backward(layer.next.dinputs)

    def get_parameters(self) -> list[tuple[Array, Array]]:
        """Weights and biases of the trainable layers: the arrays themselves."""
        self._require("get_parameters")
        return [layer.get_parameters() for layer in self.trainable_layers]

    def set_parameters(self, parameters: Any) -> None:
        """Take such a list into their place."""
        self._require("set_parameters")
        if len(parameters) != len(self.trainable_layers):
            raise ValueError(
                f"set_parameters: parameters must be those of {len(self.trainable_layers)} layers, "
                f"got {len(parameters)}"
            )
        for layer, own in zip(self.trainable_layers, parameters, strict=True):
            layer.set_parameters(*own)

    def save_parameters(self, path: str | os.PathLike[str]) -> None:
        """Write weights and biases to a safetensors file, atomically."""
        files.write_parameters(path, self.get_parameters())

    def load_parameters(self, path: str | os.PathLike[str]) -> None:
        """Take weights and biases from a file of `save_parameters`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is a pickle, damaged, or of another network.
        """
        self.set_parameters(files.read_parameters(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file, atomically: all its parts, as they are.

        Raises
        ------
        TypeError
            If a part of your own holds what is neither a number, a string, None nor an array.
        """
        self._require("save")
        files.write_model(path, self)

    @staticmethod
    def load(path: str | os.PathLike[str], custom_objects: dict[str, Any] | None = None) -> Model:
        """A model out of a file of `save`.

        Parameters
        ----------
        path : path
        custom_objects : dict, optional
            Classes of your own by name.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is a pickle, damaged, or names a class that is not known.
        """
        model = Model()
        files.read_model(path, model, custom_objects or {})
        model.finalize()
        return model

    def _require(self, what: str, *parts: str) -> None:
        """Refuse to go on without `parts`, or before `finalize`."""
        missing = [part for part in parts if getattr(self, part) is None]
        if missing:
            raise RuntimeError(f"{what}: set({missing[0]}=...) must be called first")
        if not hasattr(self, "trainable_layers"):
            raise RuntimeError(f"{what}: finalize() must be called first")


def _batch(method: str, batch_size: int | None) -> int | None:
    return None if batch_size is None else checks.integer(method, "batch_size", batch_size, 1)


def _slices(rows: int, batch_size: int | None) -> list[slice]:
    """The batches of so many rows."""
    step = batch_size or max(rows, 1)
    return [slice(begin, begin + step) for begin in range(0, rows, step)]
