"""The fit loop: checked arguments, epochs, validation, callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks, initializers
from fastnn.engine.threads import get_num_threads
from fastnn.kernels import state as s
from fastnn.training.history import History
from fastnn.training.planner import Sources
from fastnn.training.progress import Progress

if TYPE_CHECKING:
    from fastnn.callbacks import Callback
    from fastnn.model import Sequential

SHUFFLING = 1 << 40
"""Streams of random numbers from here on order the epochs' rows; those below draw weights."""


class Fitting:
    """One call of `fit`: its arguments, checked, and the loop over epochs."""

    def __init__(
        self,
        model: Sequential,
        x: Any,
        y: Any,
        batch_size: int,
        epochs: int,
        verbose: int | str,
        callbacks: list[Callback],
        validation_split: float,
        validation_data: Any,
        shuffle: bool,
        class_weight: dict[int, float] | None,
        sample_weight: Any,
    ) -> None:
        model._require_compiled("fit")
        self.model, self.callbacks, self.shuffle = model, callbacks, bool(shuffle)
        self.batch = checks.integer("fit", "batch_size", batch_size, 1)
        self.epochs = checks.integer("fit", "epochs", epochs, 0)
        self.verbose = checks.verbose("fit", verbose)
        split = checks.number("fit", "validation_split", validation_split, "[0, 1)")
        get_num_threads()  # a wrong setting in the environment is met here, not half-way
        with model.undone_on_error():
            data = model._check_data(x, y, sample_weight, class_weight, build=True)
            self.data, self.validation = self._validation(
                data, sample_weight, validation_data, split
            )
            self._check_monitors()

    def _check_monitors(self) -> None:
        """Refuse a callback that waits for a figure which there will not be."""
        names = ["loss", *(metric.name for metric in self.model.metrics if metric.is_number)]
        if self.validation is not None:
            names += [f"val_{name}" for name in names]
        names.append("learning_rate")
        for callback in self.callbacks:
            monitor = getattr(callback, "monitor", names[0])
            if monitor not in names:
                raise ValueError(
                    f"{type(callback).__name__}: monitor {monitor!r} is not among "
                    f"{', '.join(names)}"
                )

    def _validation(
        self, data: Sources, sample_weight: Any, validation_data: Any, split: float
    ) -> tuple[Sources, Sources | None]:
        """Training and validation data; class weights count in training alone."""
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ValueError(
                    "fit: validation_data must be (x, y) or (x, y, sample_weight), "
                    f"got {type(validation_data).__name__}"
                )
            x, y, *weight = validation_data
            held = self.model._check_data(
                x, y, weight[0] if weight else None, None, prefix="validation_data: "
            )
            return data, held
        if split == 0:
            return data, None
        kept = int(len(data.x) * (1 - split))
        if kept == 0 or kept == len(data.x):
            raise ValueError(
                f"fit: validation_split {split} of {len(data.x)} rows leaves one part empty"
            )
        first, last = (
            Sources(*(None if a is None else a[part] for a in data))
            for part in (slice(kept), slice(kept, None))
        )
        targets = checks.Targets(data.targets)
        own = checks.weights(sample_weight, None, targets, 0, self.model.dtype)
        return first, last._replace(weights=None if own is None else own[kept:])

    def run(self) -> History:
        """All epochs."""
        model, data = self.model, self.data
        history, rows = History(), len(data.x)
        logs: dict[str, Any] = {}
        if self.shuffle:
            data = data._replace(order=np.arange(rows, dtype=np.int64))
        batch = min(self.batch, rows)
        progress = Progress(self.verbose, self.epochs, rows)
        model.stop_training = False
        for callback in self.callbacks:
            callback.model = model
        begun: list[Callback] = []
        with model.being_trained("fit"):
            try:
                for callback in self.callbacks:
                    callback.on_train_begin({})
                    begun.append(callback)
                with model.training_pass(data, batch, self.verbose) as training:
                    for epoch in range(self.epochs):
                        for callback in self.callbacks:
                            callback.on_epoch_begin(epoch, {})
                        progress.begin(epoch)
                        logs = self._epoch(training, data, batch, progress)
                        progress.end(epoch, logs)
                        history.append(epoch, logs)
                        for callback in self.callbacks:
                            callback.on_epoch_end(epoch, logs)
                        if model.stop_training:
                            break
            finally:
                progress.close()
                end_all(begun, logs)
        return history

    def _epoch(
        self, training: Any, data: Sources, batch: int, progress: Progress
    ) -> dict[str, Any]:
        model, state, rows = self.model, self.model.state, len(data.x)
        assert model.optimizer is not None
        rate = model.optimizer.learning_rate
        state.view(np.float64)[s.LEARNING_RATE] = rate
        tally = model.cleared_tally()
        if data.order is not None:
            stream = SHUFFLING + model.epochs_done
            data.order[:] = initializers.generator(model.seed, stream).permutation(rows)

        def on_pause() -> None:
            done = int(state[s.FIRST])
            progress.advance(done, tally.figures(state, max(done, 1)))

        training.epoch(rows, batch, on_pause)
        model.epochs_done += 1
        logs = tally.figures(state, rows)
        if self.validation is not None:
            held = model.evaluate_checked(self.validation, verbose=self.verbose)
            logs |= {f"val_{name}": value for name, value in held.items()}
        logs["learning_rate"] = rate
        return logs


def end_all(callbacks: list[Callback], logs: dict[str, Any]) -> None:
    """Call `on_train_end` of each, also after one that fails; then raise the first failure."""
    failures: list[BaseException] = []
    for callback in callbacks:
        try:
            callback.on_train_end(logs)
        except BaseException as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
