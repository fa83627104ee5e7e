"""The fit loop: checked arguments, epochs, validation, callbacks, checkpoints."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.callbacks import Checkpoint, check_monitors
from fastnn.engine import cpu
from fastnn.engine.tape import Eager
from fastnn.engine.threads import get_num_threads
from fastnn.kernels import state as s
from fastnn.schedules import Schedule
from fastnn.training import resuming
from fastnn.training.history import History
from fastnn.training.planner import Sources
from fastnn.training.progress import Progress

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.callbacks import Callback
    from fastnn.metrics import Tally
    from fastnn.model import Sequential
    from fastnn.training.loop import Pass

SHUFFLED_AT_ONCE = 1 << 21
"""Rows of an epoch's order that are drawn in one call, which Ctrl-C does not interrupt."""


def shuffle(order: npt.NDArray[np.int64], seed: int, epoch: int) -> None:
    """Make `order` (N,) that in which epoch number `epoch` takes N rows."""
    tape = Eager(0, "float64", cpu.new_state(seed))
    for begin in range(0, len(order), SHUFFLED_AT_ONCE):
        end = min(begin + SHUFFLED_AT_ONCE, len(order))
        tape.op("shuffle", order=order, begin=begin, end=end, epoch=epoch)


class Fitting:
    """One call of `fit`: its arguments, checked, and the loop over epochs.

    Attributes
    ----------
    epoch, first : int
        How many epochs are done, and how many rows of the next one.
    """

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
        resume_from: Any,
    ) -> None:
        model._require_compiled("fit")
        self.model, self.callbacks, self.shuffle = model, callbacks, bool(shuffle)
        self.epoch = self.first = 0
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
            self.batch = min(self.batch, len(self.data.x))
            self._check_monitors()
            self.standing = self._found(resume_from)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Those among the callbacks."""
        return [callback for callback in self.callbacks if isinstance(callback, Checkpoint)]

    def _check_monitors(self) -> None:
        """Refuse a callback that waits for a figure which there will not be."""
        names = ["loss", *(metric.name for metric in self.model.metrics if metric.is_number)]
        if self.validation is not None:
            names += [f"val_{name}" for name in names]
        names.append("learning_rate")
        check_monitors(self.callbacks, names, self.model)

    def _found(self, resume_from: Any) -> resuming.Standing | None:
        """The checkpoint to go on from, if there is one; `arguments`, where files have to do."""
        if self.checkpoints or resume_from is not None:  # else the model need fit in no file
            self.arguments = resuming.arguments(self)
        if resume_from is None:
            return None
        if not isinstance(resume_from, (str, os.PathLike)):
            raise TypeError(f"fit: resume_from must be a path, got {resume_from!r}")
        return resuming.find(resume_from, self)

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
        sample_weight = self.model.at_hand(sample_weight, "sample_weight")
        own = checks.weights(sample_weight, None, targets, 0, self.model.dtype)
        return first, last._replace(weights=None if own is None else own[kept:])

    def run(self) -> History:
        """All epochs."""
        model = self.model
        self.history, self.logs = History(), dict[str, Any]()
        self.progress = Progress(self.verbose, self.epochs, len(self.data.x))
        model.stop_training = False
        for callback in self.callbacks:
            callback.model = model
        begun: list[Callback] = []
        with model.being_trained("fit"):
            try:
                for callback in self.callbacks:
                    callback.on_train_begin({})
                    begun.append(callback)
                if self.standing is not None:
                    self._go_on_from(self.standing)
                self._train()
                if self.epochs > 0:
                    model.take_average()
            finally:
                self.progress.close()
                end_all(begun, self.logs)
        return self.history

    def _go_on_from(self, standing: resuming.Standing) -> None:
        """Take the place of the fit that wrote a checkpoint."""
        for callback, kept in zip(
            resuming.remembering(self.callbacks), standing.callbacks, strict=True
        ):
            callback.restore(kept["state"])
        standing.restore(self.model)
        self.epoch, self.first = standing.epoch, standing.first
        self.history, self.logs = standing.history, standing.history.last()
        self.arguments = standing.arguments

    def _train(self) -> None:
        """Epoch after epoch."""
        if self.standing is not None and self.standing.stopped:
            return
        data = self._with_room()
        with self.model.training_pass(data, self.batch, self.verbose) as training:
            while self.epoch < self.epochs:
                self._begin_epoch(self.epoch)
                self._end_epoch(self.epoch, *self._epoch(training, data))
                if self.model.stop_training:
                    break

    def _begin_epoch(self, epoch: int) -> None:
        if self.first == 0:
            for callback in self.callbacks:
                callback.on_epoch_begin(epoch, {})
        self.progress.begin(epoch)

    def _end_epoch(self, epoch: int, tally: Tally, rate: float) -> None:
        """Say what the epoch has come to, which training added up in `tally`."""
        model = self.model
        model.epochs_done += 1
        self.logs = tally.figures(model.state, len(self.data.x))
        if self.validation is not None:
            held = model.evaluate_checked(self.validation, verbose=self.verbose)
            self.logs |= {f"val_{name}": value for name, value in held.items()}
        self.logs["learning_rate"] = rate
        self.progress.end(epoch, self.logs)
        self.history.append(epoch, self.logs)
        self.epoch, self.first = epoch + 1, 0
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, self.logs)
        self._save(tally)

    def _with_room(self) -> Sources:
        """The data, and room for what every epoch is given anew: an order, learning rates."""
        data, rows, optimizer = self.data, len(self.data.x), self.model.optimizer
        assert optimizer is not None
        if self.shuffle:
            data = data._replace(order=np.empty(rows, np.int64))
        if isinstance(optimizer.learning_rate, Schedule):
            data = data._replace(rates=np.empty(self.steps))
        return data

    def _epoch(self, training: Pass, data: Sources) -> tuple[Tally, float]:
        """Train for an epoch: what is added up meanwhile, and the last step's learning rate."""
        model, state, rows = self.model, self.model.state, len(data.x)
        rates = self._rates(data)
        state.view(np.float64)[s.LEARNING_RATE] = rates[0]
        tally = model.cleared_tally()
        if self.first > 0:
            assert self.standing is not None
            assert self.standing.sums is not None
            tally.put(state, self.standing.sums)
        if data.order is not None:
            shuffle(data.order, model.seed, model.epochs_done)

        def on_pause() -> bool:
            done = int(state[s.FIRST])
            self.progress.advance(done, tally.figures(state, max(done, 1)))
            return any(checkpoint.overdue for checkpoint in self.checkpoints)

        while self.first < rows:
            training.epoch(
                self._stop(), self.batch, on_pause, self.first, unseen=not self.callbacks
            )
            self.first = int(state[s.FIRST])
            if self.first < rows:
                self._save(tally)
        return tally, float(rates[-1])

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return -(-len(self.data.x) // self.batch)

    @property
    def _steps_done(self) -> int:
        return self.epoch * self.steps + self.first // self.batch

    def _stop(self) -> int:
        """The row before which the next checkpoint by steps is due, or the epoch ends."""
        done = self._steps_done
        every = [c.every_steps for c in self.checkpoints if c.every_steps is not None]
        ahead = min((n - done % n for n in every), default=self.steps)
        return min(self.first + ahead * self.batch, len(self.data.x))

    def _save(self, tally: Tally) -> None:
        """Have checkpoints that are due write their files.

        Those of the best epoch come first: whoever goes on from another's takes this epoch for
        dealt with.
        """
        for checkpoint in sorted(self.checkpoints, key=lambda c: not c.save_best_only):
            if checkpoint.is_due(self._steps_done):
                epoch = self.epoch + (self.first > 0)
                checkpoint.save(lambda: resuming.content(self, tally), epoch, self._steps_done)

    def _rates(self, data: Sources) -> npt.NDArray[np.float64]:
        """The learning rates of the epoch's steps, put where the steps read them."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        step = int(self.model.state[s.STEP]) - self.first // self.batch
        rates = optimizer.rates(step, step + self.steps)
        if data.rates is not None:
            data.rates[:] = rates
        elif isinstance(optimizer.learning_rate, Schedule):
            raise RuntimeError("fit: a schedule cannot take the place of a float between epochs")
        return rates


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
