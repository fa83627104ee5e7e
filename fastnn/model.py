"""`Sequential`: layers one after the other, trained and used."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import callbacks as callbacks_module
from fastnn import checks, losses, optimizers, serialization
from fastnn import metrics as metrics_module
from fastnn.engine import cpu
from fastnn.kernels import state as s
from fastnn.layers.base import Layer, places
from fastnn.network import DEFAULT_ROWS, Network, room
from fastnn.training import planner
from fastnn.training.fit import Fitting
from fastnn.training.history import History
from fastnn.training.lbfgs import FullBatchFitting
from fastnn.training.loop import Pass, Step

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Shape = tuple[int, ...]


class Sequential(Network):
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
    device : {"cpu", "cuda", "auto"}
        Where it runs.
    name : str, optional
    precision : {"fp32", "tf32", "bf16"}
        What the factors of dense layers' products are rounded to on a GPU, where tensor cores
        multiply them (of compute capability 8.0 and higher): tf32 keeps 11 bits of their mantissa,
        bf16 8. Sums, weights, gradients and all else stay float32, as `dtype` must be. A CPU has no
        tensor cores: together with ``device="cpu"`` these two are refused; a model that comes to
        the CPU all the same, because "auto" finds no GPU, out of a file or by `to`, computes in
        fp32 there.

    Attributes
    ----------
    layers : list of Layer
    seed : int
    stop_training : bool
        Set to True by a callback to end `fit` after the epoch.
    preprocessing : dict or None
        What became of the data before they were rows for the model, as JSON takes it: saved with
        it, and else left alone. The command `fastnn train` keeps there what `fastnn predict` needs.

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
        precision: str = "fp32",
    ) -> None:
        super().__init__(layers, input_shape, dtype, seed, device, name, precision)
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self.metrics: list[metrics_module.Metric] = []
        self._tally: metrics_module.Tally | None = None
        self.stop_training = False
        self.preprocessing: dict[str, Any] | None = None
        self.epochs_done = 0
        self._slots: dict[str, Array] | None = None
        self._training = threading.Lock()

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
        with self._lock:
            self._programs.clear()
        self.state[s.STEP] = self.epochs_done = 0

    # Training and use.

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int | str = 1,
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        resume_from: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train.

        Parameters
        ----------
        x : array_like, (N, ...)
            Rows. float32, float64 and uint8 are used where they lie, without a copy; arrays of
            PyTorch, CuPy and others on the model's GPU as well, whose values are not looked at.
        y : array_like
            Targets, as the loss takes them.
        batch_size : int
            Rows in a step; the last step of an epoch takes what is left.
        epochs : int
            Passes over the data.
        verbose : {0, 1, 2}
            0 is silent, 1 (or "auto") shows a bar, 2 a line an epoch.
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
        resume_from : path, optional
            A file of the callback `Checkpoint`'s, or a folder of them, of which the newest that
            loads is taken: training goes on from there as if never interrupted, to the bit, also in
            the middle of an epoch. All other arguments are those of the fit that was interrupted;
            `epochs`, which counts from its beginning, may be another. What cannot go together is
            refused; of the data only shapes and types are compared. Weights, the optimizer's state
            and the seed are the file's. From a folder without files training begins at its
            beginning.

        Returns
        -------
        History
            Of all epochs, those before the interruption as well.

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong: before anything changed.
        FileNotFoundError
            If there is no file or folder `resume_from`.
        RuntimeError
            If the model was not compiled.
        ImportError
            If the optimizer is `LBFGS` and there is no SciPy.
        DivergenceError
            If the loss or a gradient became infinite or NaN; the last finite weights are kept.
        """
        full = isinstance(self.optimizer, optimizers.LBFGS)
        fitting = (FullBatchFitting if full else Fitting)(
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
            resume_from,
        )
        return fitting.run()

    def train_on_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
    ) -> dict[str, Any]:
        """One step on all rows of x; loss and metrics, as they were before it."""
        _, optimizer = self._require_compiled("train_on_batch")
        if isinstance(optimizer, optimizers.LBFGS):
            raise TypeError(
                "train_on_batch: LBFGS takes several gradients of all data for a step: use fit"
            )
        sources = self._check_data(x, y, sample_weight, class_weight, build=True)
        with self.being_trained("train_on_batch"):
            with self.training_pass(sources, len(sources.x), 0) as one:
                tally = self.cleared_tally()
                one.epoch(len(sources.x), len(sources.x))
            return tally.figures(self.state, len(sources.x))

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int = DEFAULT_ROWS,
        verbose: int | str = 0,
        sample_weight: Any = None,
    ) -> dict[str, Any]:
        """Loss and metrics over all rows of x, without training.

        Returns
        -------
        dict
            ``{"loss": ..., "accuracy": ...}``: numbers, and arrays of metrics that are some.
        """
        self._require_compiled("evaluate")
        self._require_built("evaluate")
        shown = checks.verbose("evaluate", verbose)
        rows = checks.integer("evaluate", "batch_size", batch_size, 1)
        sources = self._check_data(x, y, sample_weight, None)
        return self.evaluate_checked(sources, rows, shown)

    # What these are made of.

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
        x, y, sample_weight = (
            self.at_hand(value, f"{prefix}{argument}")
            for argument, value in (("x", x), ("y", y), ("sample_weight", sample_weight))
        )
        rows = checks.features(x, f"{prefix}x", self.input_shape, self.dtype)
        with self.undone_on_error():
            if not self.built and build:
                self.build(rows.shape[1:])
            if build:
                planner.check_trainable(self.layers)
            targets = checks.targets(
                y, f"{prefix}y", len(rows), self.output_shape, loss.targets, self.dtype
            )
            for metric in self.metrics:
                metric.check(self.output_shape[0])
            weights = checks.weights(
                sample_weight, class_weight, targets, self.output_shape[0], self.dtype, prefix
            )
        return planner.Sources(rows, targets.array, weights)

    @contextlib.contextmanager
    def being_trained(self, what: str) -> Iterator[None]:
        """One training of a model at a time: its state is one."""
        if not self._training.acquire(blocking=False):
            raise RuntimeError(f"{what}: this model is being trained already")
        try:
            yield
        finally:
            self._training.release()

    @property
    def is_trained_now(self) -> bool:
        """Whether a training of the model is under way."""
        return self._training.locked()

    def _training_step(self) -> Step:
        """A step of training on the model's own vectors."""
        loss, optimizer = self._require_compiled("fit")
        flat = self.flat()

        def step(tape: Any, sources: planner.Sources) -> None:
            planner.training_step(
                tape, self.layers, loss, self.metrics, optimizer, flat, sources, self.dtype
            )

        return step

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print each layer's output shape, its number of weights, and their bytes.

        Of a compiled model on a GPU also which way its steps of training go there, by a batch's
        rows, and why; where the loss takes labels, for those.
        """
        super().summary(print_fn)
        in_python = any(layer.in_python for layer in self.layers)
        if self._mirror is None or self.loss is None or in_python:
            return
        if isinstance(self.optimizer, optimizers.LBFGS):
            return  # whose steps are of all rows, and no one program
        from fastnn.training.on_cuda import said_of_ways

        assert self.input_shape is not None
        x = np.empty((0, *self.input_shape), self.dtype)
        labels = np.empty(0, np.int32)
        rows = np.empty((0, *self.output_shape), self.dtype)
        targets = labels if self.loss.targets == "classes" else rows
        tally = metrics_module.Tally(self.metrics, self.output_shape[0], targets)
        like = planner.Sources(x, targets, order=np.empty(0, np.int64), sums=tally.sums)
        step, device = self._training_step(), self._mirror.device
        for line in said_of_ways(step, like, self.dtype, self.precision, device):
            print_fn(line)

    def training_pass(self, sources: planner.Sources, rows: int, verbose: int) -> Pass:
        """Training steps over `sources`, on the model's own state."""
        loss, optimizer = self._require_compiled("fit")
        first = int(self.state[s.STEP])
        cpu.floats(self.state)[s.LEARNING_RATE] = optimizer.rates(first, first + 1)[0]
        flat = self.flat()
        if optimizer.use_ema:  # where nothing is trained, what there is is the average
            frozen = ~planner.trained_elements(self.layers, flat)
            flat.slots[optimizers.AVERAGE][frozen] = flat.parameters[frozen]
        self._tally = metrics_module.Tally(self.metrics, self.output_shape[0], sources.targets)
        step = self._training_step()
        # Steps read their learning rate: one program serves all.
        fixed = {k: v for k, v in optimizer.get_config().items() if k != "learning_rate"}
        held = fixed, optimizer.scalars(), loss, self.metrics, self.layers
        hyperparameters = type(optimizer), repr(held)
        sources = sources._replace(sums=self._tally.sums)
        return self._pass(step, sources, rows, self.state, verbose, hyperparameters, training=True)

    def evaluate_checked(
        self, sources: planner.Sources, rows: int = DEFAULT_ROWS, verbose: int = 0
    ) -> dict[str, Any]:
        """Loss and metrics over data that have passed the door."""
        loss, _ = self._require_compiled("evaluate")

        def step(tape: Any, sources: planner.Sources) -> None:
            planner.evaluation_step(tape, self.layers, loss, self.metrics, sources, self.dtype)

        state, total = cpu.new_state(), sources.rows
        tally = metrics_module.Tally(self.metrics, self.output_shape[0], sources.targets)
        sources = sources._replace(sums=tally.sums)
        batch = min(total, rows)
        hyperparameters = repr((loss, self.metrics, self.layers))
        with self._pass(step, sources, room(batch), state, verbose, hyperparameters) as one:
            one.epoch(total, batch)
        return tally.figures(state, total)

    def flat(self) -> planner.Flat:
        """The flat vectors of parameters, gradients and the optimizer's own."""
        _, optimizer = self._require_compiled("fit")
        if self._slots is None:
            self._slots = {name: self._vector(self.parameters.size) for name in optimizer.vectors}
            for name, vector in self._slots.items():
                vector[:] = optimizer.initial_value(name)
        assert self._gradients is not None
        return planner.Flat(self.parameters, self._gradients, self._slots)

    def restart_optimizer(self) -> None:
        """Let the optimizer forget all steps so far; averaged weights begin with the next one.

        Steps are counted from 0 again, and what follows their count, dropout's masks, as well.
        """
        _, optimizer = self._require_compiled("restart_optimizer")
        slots = self.flat().slots
        for name in optimizer.slots:
            slots[name][:] = optimizer.initial_value(name)
        self.state[s.STEP] = 0

    def take_average(self) -> None:
        """Put averaged weights into the place of the parameters, if the optimizer keeps any."""
        _, optimizer = self._require_compiled("fit")
        if optimizer.use_ema:
            for group in planner.groups_of(self.layers, self.flat()):
                average = group.slots[optimizers.AVERAGE]
                if self.state[s.STEP] > 0 or average.any():  # else there was no step yet
                    group.w[:] = average

    def cleared_tally(self) -> metrics_module.Tally:
        """What the training at hand adds up, from nothing on."""
        assert self._tally is not None
        self._tally.clear(self.state)
        return self._tally

    # Files.

    def get_config(self) -> dict[str, Any]:
        """All of the model but its arrays, as JSON takes it."""
        compiled = None
        if self.loss is not None:
            compiled = {
                "optimizer": serialization.describe(self.optimizer),
                "loss": serialization.describe(self.loss),
                "metrics": [serialization.describe(metric) for metric in self.metrics],
            }
        return {
            "name": self.name,
            "dtype": self.dtype,
            "precision": self.precision,
            "seed": self.seed,
            "input_shape": list(self.input_shape or ()),
            "layers": [serialization.describe(layer) for layer in self.layers],
            "compiled": compiled,
            "preprocessing": self.preprocessing,
            "step": int(self.state[s.STEP]),
            "epochs_done": self.epochs_done,
        }

    def _arrays(self) -> dict[str, Array]:
        """Weights and the optimizer's vectors by their names in a file: live views."""
        arrays = {
            f"{place}.{name}": array
            for place, layer in places(self.layers)
            for name, array in layer.weights.items()
        }
        if self.loss is not None:
            arrays |= {f"optimizer.{name}": vector for name, vector in self.flat().slots.items()}
        return arrays

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write architecture, weights and optimizer state to a safetensors file, atomically.

        A crash leaves the file that was there before, whole. Checksums are written with it, so that
        `load` notices a file that was damaged since.
        """
        self._require_built("save")
        serialization.write(path, self.get_config(), self._arrays())

    def _take_counts(self, config: dict[str, Any]) -> None:
        """Take over from what `get_config` gave the seed, and how far training had come."""
        seed = checks.seed("load", config["seed"])
        step, epochs = (
            checks.integer("load", name, config[name], 0) for name in ("step", "epochs_done")
        )
        self.seed, self.epochs_done = seed, epochs
        self.state[s.SEED], self.state[s.STEP] = cpu.new_state(seed)[s.SEED], step
