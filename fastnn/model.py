"""`Sequential`: layers one after the other, trained and used."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import callbacks as callbacks_module
from fastnn import checks, losses, optimizers
from fastnn import metrics as metrics_module
from fastnn.engine import arena, compiler, cpu
from fastnn.engine.program import Program
from fastnn.kernels import state as s
from fastnn.layers.base import DTYPES, Layer, new_seed, snake_case
from fastnn.layers.shape import Input, check_shape
from fastnn.training import planner
from fastnn.training.fit import Fitting
from fastnn.training.history import History
from fastnn.training.loop import CompiledPass, EagerPass, Pass, Step, compile_step
from fastnn.training.progress import compiling

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Shape = tuple[int, ...]

DEFAULT_ROWS = 1024
"""Rows that `predict` and `evaluate` take at once, unless told otherwise."""

KEPT_PROGRAMS = 16
"""Programs that a model keeps: one for each batch size and kind of data that it has met."""


class Sequential:
    """Layers one after the other.

    Parameters
    ----------
    layers : iterable of Layer
    input_shape : tuple of int, optional
        The shape of a row; without it the first `fit` tells.
    dtype : {"float32", "float64"}
        Element type of parameters and of all computation.
    seed : int, optional
        Of initial weights, shuffling and dropout; None draws one, kept as ``model.seed``.
    device : {"cpu", "auto"}
        Where it runs.
    name : str, optional

    Attributes
    ----------
    layers : list of Layer
    seed : int
    stop_training : bool
        Set to True by a callback to end `fit` after the epoch.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> model = fastnn.Sequential([fastnn.Dense(3, activation="softmax")], input_shape=(4,))
    >>> model.count_params()
    15
    """

    def __init__(
        self,
        layers: Iterable[Layer] = (),
        input_shape: Shape | int | None = None,
        dtype: str = "float32",
        seed: int | None = None,
        device: str = "cpu",
        name: str | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"Sequential: dtype must be one of {DTYPES}, got {dtype!r}")
        if device not in ("cpu", "auto"):
            raise ValueError(f"Sequential: device must be 'cpu' or 'auto', got {device!r}")
        self.dtype, self.device, self.name = dtype, "cpu", name or "sequential"
        self.seed = new_seed() if seed is None else checks.integer("Sequential", "seed", seed, 0)
        self.layers: list[Layer] = []
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self.metrics: list[metrics_module.Metric] = []
        self.stop_training = False
        self.epochs_done = 0
        self.state = cpu.new_state(self.seed)
        self._parameters: Array | None = None
        self._gradients: Array | None = None
        self._slots: dict[str, Array] | None = None
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._lock = threading.Lock()
        for layer in layers:
            self.add(layer)
        if input_shape is not None:
            self.build(check_shape(input_shape, "Sequential: input_shape"))
        elif self.layers and isinstance(self.layers[0], Input):
            self.build(self.layers[0].shape)

    # Building.

    def add(self, layer: Layer) -> None:
        """Append a layer to a model that is not built yet."""
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential: layers must be layers, got {layer!r}")
        if self.built:
            raise RuntimeError("Sequential: layers cannot be added once the model is built")
        if layer._owner is not None or layer in self.layers:
            raise ValueError(f"Sequential: {layer!r} already belongs to a model")
        self.layers.append(layer)

    @property
    def built(self) -> bool:
        """Whether the shape of the input is known and parameters exist."""
        return self._parameters is not None

    @property
    def input_shape(self) -> Shape | None:
        """The shape of a row that goes in, None if not yet known."""
        return self.layers[0].input_shape if self.built else None

    @property
    def output_shape(self) -> Shape:
        """The shape of a row that comes out."""
        self._require_built("output_shape")
        shape = self.layers[-1].output_shape
        assert shape is not None
        return shape

    def build(self, input_shape: Shape | int) -> None:
        """Make all parameters, for rows of `input_shape`, in one flat vector."""
        shape = check_shape(input_shape, "Sequential: input_shape")
        if self.built:
            if shape != self.input_shape:
                raise ValueError(
                    f"Sequential: built for rows of {self.input_shape}, got {shape}"
                )
            return
        if not self.layers:
            raise ValueError("Sequential: the model has no layers")
        before = [dict(vars(layer)) for layer in self.layers]
        try:
            self._prepare_layers(shape)
        except BaseException:
            for layer, attributes in zip(self.layers, before, strict=True):
                vars(layer).clear()
                vars(layer).update(attributes)
            raise

    def _prepare_layers(self, shape: Shape) -> None:
        for index, layer in enumerate(self.layers):
            layer.name = layer.name or f"{snake_case(type(layer).__name__)}_{index}"
            if not layer.built:
                layer._stream = index
            layer.prepare(shape, self.dtype, self.seed)
            if layer.dtype != self.dtype:
                raise ValueError(f"{layer.label} is {layer.dtype}, the model {self.dtype}")
            assert layer.output_shape is not None
            shape = layer.output_shape
            for stage in layer.stages()[1:]:
                stage.prepare(shape, self.dtype, self.seed)
        count = sum(w.size for layer in self.layers for w in layer.params.values())
        parameters, gradients = self._vector(count), self._vector(count)
        begin = 0
        for layer in self.layers:
            layer._owner, layer._state, layer._seed = self, self.state, self.seed
            for name, value in layer.params.items():
                end = begin + value.size
                view = parameters[begin:end].reshape(value.shape)
                view[...] = value
                layer.params.move(name, view)
                layer.grads.move(name, gradients[begin:end].reshape(value.shape))
                begin = end
        self._parameters, self._gradients = parameters, gradients

    def _vector(self, count: int) -> Array:
        itemsize = np.dtype(self.dtype).itemsize
        return arena.allocate(count * itemsize).view(self.dtype)

    def compile(
        self,
        optimizer: str | optimizers.Optimizer = "adam",
        loss: str | losses.Loss | None = None,
        metrics: list[Any] | None = None,
    ) -> None:
        """Choose what training does; it begins afresh, weights are kept.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss
        metrics : list of str or Metric, optional
        """
        if loss is None:
            names = ", ".join(losses.LOSSES)
            raise ValueError(f"compile: loss must be given, one of {names}")
        chosen = (
            optimizers.check(optimizer),
            losses.check(loss),
            metrics_module.check(metrics),
        )
        self.optimizer, self.loss, self.metrics = chosen
        self._slots = None
        self._programs.clear()
        self.state[s.STEP] = self.epochs_done = 0

    # Training and use.

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int = 1,
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
    ) -> History:
        """Train.

        Parameters
        ----------
        x : array_like, (N, ...)
            Rows. float32, float64 and uint8 are used where they lie, without a copy.
        y : array_like
            Targets, as the loss takes them.
        batch_size : int
            Rows in a step; the last step of an epoch takes what is left.
        epochs : int
            Passes over the data.
        verbose : {0, 1, 2}
            0 is silent, 1 shows a bar, 2 a line an epoch.
        callbacks : list of Callback, optional
        validation_split : float in [0, 1)
            The last part of the data, kept apart for validation.
        validation_data : (x, y) or (x, y, sample_weight), optional
            Evaluated after each epoch; goes before `validation_split`.
        shuffle : bool
            Whether each epoch takes the rows in a new order.
        class_weight : dict, optional
            Weights of classes; a class that is not named weighs 1.
        sample_weight : array_like, (N,), optional
            Weights of rows in the loss.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong: before anything changed.
        RuntimeError
            If the model was not compiled.
        DivergenceError
            If the loss or a gradient became infinite or NaN; the last finite weights are kept.
        """
        fitting = Fitting(
            self,
            x,
            y,
            batch_size,
            epochs,
            verbose,
            callbacks_module.check(callbacks),
            validation_split,
            validation_data,
            shuffle,
            class_weight,
            sample_weight,
        )
        return fitting.run()

    def train_on_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
    ) -> dict[str, float]:
        """One step on all rows of x; loss and metrics, as they were before it."""
        loss, _ = self._require_compiled("train_on_batch")
        sources = self._check_data(x, y, sample_weight, class_weight, build=True)
        self._clear_sums(self.state)
        with self.training_pass(sources, len(sources.x), 0) as one:
            one.epoch(len(sources.x), len(sources.x))
        return self._means(self.state, len(sources.x))

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int = DEFAULT_ROWS,
        verbose: int = 0,
        sample_weight: Any = None,
    ) -> dict[str, float]:
        """Loss and metrics over all rows of x, without training.

        Returns
        -------
        dict
            ``{"loss": ..., "accuracy": ...}``
        """
        self._require_compiled("evaluate")
        self._require_built("evaluate")
        rows = checks.integer("evaluate", "batch_size", batch_size, 1)
        sources = self._check_data(x, y, sample_weight, None)
        return self.evaluate_checked(sources, rows)

    def predict(self, x: Any, batch_size: int = DEFAULT_ROWS, verbose: int = 0) -> Array:
        """The network's output for every row of x.

        A row's result does not depend on the rows beside it, or on `batch_size`.

        Parameters
        ----------
        x : array_like, (N, ...)
        batch_size : int
            Rows taken at once.

        Returns
        -------
        ndarray, (N, ...)
        """
        self._require_built("predict")
        most = checks.integer("predict", "batch_size", batch_size, 1)
        rows = checks.features(x, "x", self.input_shape, self.dtype)
        out = np.empty((len(rows), *self.output_shape), self.dtype)
        sources = planner.Sources(x=rows, out=out)

        def step(tape: Any, sources: planner.Sources) -> None:
            planner.prediction_step(tape, self.layers, sources, self.dtype)

        batch = min(len(rows), most)
        with self._pass("predict", step, sources, _room(batch), cpu.new_state(self.seed)) as one:
            one.epoch(len(rows), batch)
        return out

    def __call__(self, x: Any, training: bool = False) -> Array:
        """The output of each layer in turn, for loops written by hand."""
        for layer in self.layers:
            x = layer.forward(x, training=training)
        result: Array = x
        return result

    # What `fit` and `evaluate` are made of.

    def _require_built(self, what: str) -> None:
        if not self.built:
            raise RuntimeError(
                f"{what}: the model is not built yet; give input_shape, or fit it first"
            )

    def _require_compiled(self, what: str) -> tuple[losses.Loss, optimizers.Optimizer]:
        if self.loss is None or self.optimizer is None:
            raise RuntimeError(f"{what}: call compile(optimizer, loss) first")
        return self.loss, self.optimizer

    def _check_data(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: dict[int, float] | None,
        build: bool = False,
        prefix: str = "",
    ) -> planner.Sources:
        """Data as steps take them; a model that is not built yet is, once all else is right."""
        loss, _ = self._require_compiled("fit")
        if not self.layers:
            raise ValueError("Sequential: the model has no layers")
        rows = checks.features(x, f"{prefix}x", self.input_shape, self.dtype)
        weights = checks.weights(
            sample_weight, len(rows), self.dtype, f"{prefix}sample_weight"
        )
        fresh = build and not self.built
        if fresh:
            self.build(rows.shape[1:])
        try:
            targets = checks.targets(
                y, f"{prefix}y", len(rows), self.output_shape, loss.targets, self.dtype
            )
            of_class = checks.class_weights(
                class_weight, targets, self.output_shape[0], self.dtype
            )
        except BaseException:
            if fresh:
                self._unbuild()
            raise
        if of_class is not None:
            weights = of_class if weights is None else weights * of_class
        return planner.Sources(rows, targets.array, weights)

    def _unbuild(self) -> None:
        """Undo a `build` that turned out to be for data that is refused."""
        for layer in self.layers:
            layer._owner = layer._state = layer._params = layer._grads = None
            for stage in (layer, *layer.stages()):
                stage.input_shape = stage.output_shape = None
        self._parameters = self._gradients = None

    def training_pass(self, sources: planner.Sources, rows: int, verbose: int) -> Pass:
        """Training steps over `sources`, on the model's own state."""
        loss, optimizer = self._require_compiled("fit")
        floats = cpu.floats(self.state)
        floats[s.LEARNING_RATE] = optimizer.learning_rate
        flat = self.flat()

        def step(tape: Any, sources: planner.Sources) -> None:
            planner.training_step(
                tape, self.layers, loss, self.metrics, optimizer, flat, sources, self.dtype
            )

        return self._pass("train", step, sources, rows, self.state, verbose, training=True)

    def evaluate_checked(
        self, sources: planner.Sources, rows: int = DEFAULT_ROWS, verbose: int = 0
    ) -> dict[str, float]:
        """Loss and metrics over data that have passed the door."""
        loss, _ = self._require_compiled("evaluate")

        def step(tape: Any, sources: planner.Sources) -> None:
            planner.evaluation_step(tape, self.layers, loss, self.metrics, sources, self.dtype)

        state, total = cpu.new_state(self.seed), len(sources.x)
        batch = min(total, rows)
        with self._pass("evaluate", step, sources, _room(batch), state, verbose) as one:
            one.epoch(total, batch)
        return self._means(state, total)

    def flat(self) -> planner.Flat:
        """The flat vectors of parameters, gradients and the optimizer's own."""
        _, optimizer = self._require_compiled("fit")
        if self._slots is None:
            self._slots = {name: self._vector(self.parameters.size) for name in optimizer.slots}
        assert self._gradients is not None
        return planner.Flat(self.parameters, self._gradients, self._slots)

    def _pass(
        self,
        kind: str,
        step: Step,
        sources: planner.Sources,
        rows: int,
        state: npt.NDArray[np.int64],
        verbose: int = 0,
        training: bool = False,
    ) -> Pass:
        if any(stage.in_python for stage in planner.stages_of(self.layers)):
            return EagerPass(step, sources, state, self.dtype, training)
        shapes = (None if a is None else (str(a.dtype), a.ndim) for a in sources)
        hyperparameters = repr(self.optimizer) if training else ""
        key = (kind, rows, hyperparameters, *shapes)
        with self._lock:
            program = self._programs.get(key)
            if program is None:
                program = compile_step(step, sources, rows, self.dtype, training)
                while len(self._programs) >= KEPT_PROGRAMS:
                    del self._programs[next(iter(self._programs))]
                self._programs[key] = program
        compiler.prepare([*program.needs, ("run_steps",)], compiling(verbose))
        return CompiledPass(program, sources, state)

    def _clear_sums(self, state: npt.NDArray[np.int64]) -> None:
        state[s.LOSS_SUM : s.METRIC_SUMS + len(self.metrics)] = 0

    def _means(self, state: npt.NDArray[np.int64], rows: int) -> dict[str, float]:
        """Loss and metrics over the `rows` rows that `state` has summed up."""
        sums = cpu.floats(state)
        means = {"loss": float(sums[s.LOSS_SUM]) / rows}
        for index, metric in enumerate(self.metrics):
            means[metric.name] = float(sums[s.METRIC_SUMS + index]) / rows
        return means

    # Weights.

    @property
    def parameters(self) -> Array:
        """All parameters as one vector (P,), layer by layer: a live view."""
        self._require_built("parameters")
        assert self._parameters is not None
        return self._parameters

    def count_params(self) -> int:
        """Number of parameters."""
        return int(self.parameters.size)

    def get_weights(self) -> list[Array]:
        """Copies of all parameters, layer by layer: kernel, bias, kernel, ..."""
        self._require_built("get_weights")
        return [w.copy() for layer in self.layers for w in layer.params.values()]

    def set_weights(self, weights: list[Any]) -> None:
        """Set all parameters, in the order of `get_weights`.

        Raises
        ------
        ValueError
            If number or shapes differ or a value is not finite: before anything is set.
        """
        self._require_built("set_weights")
        own = [(layer, name) for layer in self.layers for name in layer.params]
        given = list(weights)
        if len(given) != len(own):
            raise ValueError(f"set_weights: weights must be {len(own)} arrays, got {len(given)}")
        arrays = []
        for (layer, name), value in zip(own, given, strict=True):
            label, shape = f"set_weights: {layer.label}.{name}", layer.params[name].shape
            array = checks.array(value, label)
            if array.shape != shape:
                raise ValueError(f"{label} must have shape {shape}, got {array.shape}")
            checks.finite(array, label, self.dtype)
            arrays.append(array)
        for (layer, name), array in zip(own, arrays, strict=True):
            layer.params[name][...] = array

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write architecture, weights and optimizer state to a safetensors file, atomically."""
        from fastnn.serialization import save

        save(self, path)

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print each layer's output shape, parameters and bytes."""
        self._require_built("summary")
        itemsize = np.dtype(self.dtype).itemsize
        lines = [("layer", "output shape", "parameters", "bytes")]
        for layer in self.layers:
            count = sum(w.size for w in layer.params.values())
            shape = ", ".join(["N", *map(str, layer.output_shape or ())])
            kind = f"{layer.name} ({type(layer).__name__})"
            lines.append((kind, f"({shape})", f"{count:,}", f"{count * itemsize:,}"))
        total = self.count_params()
        lines.append(("total", "", f"{total:,}", f"{total * itemsize:,}"))
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        for index, (kind, shape, count, size) in enumerate(lines):
            if index in (1, len(lines) - 1):
                print_fn("-" * (sum(widths) + 6))
            print_fn(
                f"{kind:<{widths[0]}}  {shape:<{widths[1]}}  "
                f"{count:>{widths[2]}}  {size:>{widths[3]}}"
            )


def _room(rows: int) -> int:
    """The next power of two: data sets of many sizes then share a few programs."""
    return 1 << (rows - 1).bit_length()
