"""A callback that writes files to go on from."""

from __future__ import annotations

import os
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn import checks, serialization
from fastnn.callbacks.base import Logs, Monitor

if TYPE_CHECKING:
    from fastnn.model import Sequential


class Checkpoint(Monitor):
    """Write the model, and where training stands, to a file: for ``fit(resume_from=...)``.

    A file has all that `Sequential.save` writes, and `fastnn.load` takes it; with it comes what
    another process needs to go on to the bits of a training that was never interrupted: the place
    in the epoch, sums of loss and metrics, the history, what callbacks remember (those of your own
    that have `state` and `restore`). What layers of your own keep outside their weights is not in
    it. Files are written as by `Sequential.save`: a crash leaves the one before, whole.

    Parameters
    ----------
    path : path
        The file, in a folder that exists. ``{epoch}``, from 1, and ``{step}``, of this fit, stand
        for their numbers, also in the forms of `str.format` ("net-{step:06d}.safetensors"); without
        them there is one file, always the latest.
    every_epochs : int, at least 1, optional
        Write after so many epochs; 1 if nothing else is asked for.
    every_steps : int, at least 1, optional
        Write after so many steps, also in the middle of an epoch.
    every_minutes : float, greater than 0, optional
        Write once so much time has passed since the last file, at the end of a step.
    monitor : str
        The figure, as named in the history, that `save_best_only` looks at.
    mode : {"auto", "min", "max"}
        Whether less or more is better; "auto" asks the metric, and takes more for an accuracy.
    save_best_only : bool
        Whether to write only after epochs whose figure is the best so far.
    initial_value_threshold : float, optional
        With `save_best_only`, the figure that the first file must be better than.
    keep_last : int, at least 1, optional
        How many of the files written to keep; the oldest are removed, each after the next one is
        on the disk. By default all are kept.

    Raises
    ------
    ValueError
        If arguments contradict each other; in `fit`, before anything changes, if there is no figure
        `monitor`, or the optimizer is `LBFGS` and `every_steps` or `every_minutes` is given.
    FileNotFoundError
        In `fit`, before anything changes, if the folder does not exist.

    Examples
    --------
    >>> import fastnn
    >>> often = fastnn.callbacks.Checkpoint("run/{step}.safetensors", every_minutes=5, keep_last=2)
    >>> best = fastnn.callbacks.Checkpoint("best.safetensors", save_best_only=True)
    """

    _remembered = ("best", "_written")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_epochs: int | None = None,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        monitor: str = "val_loss",
        mode: str = "auto",
        save_best_only: bool = False,
        initial_value_threshold: float | None = None,
        keep_last: int | None = None,
    ) -> None:
        super().__init__(monitor if save_best_only else "loss", 0.0, mode)
        fields = _fields(path)
        self.path = os.fspath(path)
        self.save_best_only = bool(save_best_only)
        self.every_epochs = _count("every_epochs", every_epochs)
        self.every_steps = _count("every_steps", every_steps)
        self.every_minutes = _number("every_minutes", every_minutes, "(0, inf)")
        self.keep_last = _count("keep_last", keep_last)
        if keep_last is not None and not fields:
            raise ValueError(
                f"Checkpoint: keep_last needs {{epoch}} or {{step}} in path, got {self.path!r}"
            )
        within = every_steps is not None or every_minutes is not None
        if save_best_only and within:
            raise ValueError(
                "Checkpoint: save_best_only compares epochs, it does not go with every_steps or "
                f"every_minutes, got {every_steps} and {every_minutes}"
            )
        if self.every_epochs is None and not within:
            self.every_epochs = 1
        self.initial_value_threshold = _number(
            "initial_value_threshold", initial_value_threshold, "(-inf, inf)"
        )
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = self.initial_value_threshold
        self._written: list[list[int]] = []
        self._wanted = False
        self._last = time.monotonic()

    def check(self, model: Sequential) -> None:
        """Refuse a folder that does not exist."""
        folder = self._file(1, 1).parent
        if not folder.is_dir():
            raise FileNotFoundError(f"Checkpoint: no such folder: {folder}")

    @property
    def counts_within_epochs(self) -> bool:
        """Whether it may write between two steps of an epoch."""
        return self.every_steps is not None or self.every_minutes is not None

    @property
    def overdue(self) -> bool:
        """Whether `every_minutes` have passed since the last file."""
        waited = time.monotonic() - self._last
        return self.every_minutes is not None and waited >= 60 * self.every_minutes

    def is_due(self, steps: int) -> bool:
        """Whether a file is to be written now, after so many steps of the fit."""
        by_steps = self.every_steps is not None and steps > 0 and steps % self.every_steps == 0
        return by_steps or self._wanted or self.overdue

    def restore(self, state: dict[str, Any]) -> None:
        """Set what it remembers; of files that may be removed, numbers alone come from `state`."""
        super().restore(state)
        self._written = [
            [checks.integer("Checkpoint", "a number of a file", each, 0) for each in numbers]
            for numbers in self._written
        ]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Note whether `save` is wanted: once all callbacks have had their turn."""
        if self.every_epochs is None or (epoch + 1) % self.every_epochs != 0:
            return
        if self.save_best_only:
            value = self._figure(logs)
            if not self._improves(value, self.best):
                return
            self.best = value
        self._wanted = True

    def save(self, content: Callable[[], serialization.Content], epoch: int, steps: int) -> None:
        """Write what `content` gives, and remove what is not to be kept any longer.

        The file itself says that it was written: whoever goes on from it may have to remove it.
        """
        target = self._file(epoch, steps)
        self._wanted = False
        if self.keep_last is not None:
            others = [numbers for numbers in self._written if self._file(*numbers) != target]
            self._written = [*others, [epoch, steps]]
        serialization.write(target, *content())
        self._last = time.monotonic()
        while self.keep_last is not None and len(self._written) > self.keep_last:
            self._file(*self._written[0]).unlink(missing_ok=True)
            del self._written[0]

    def _file(self, epoch: int, step: int) -> Path:
        return Path(self.path.format(epoch=epoch, step=step))


def _count(argument: str, value: int | None) -> int | None:
    return None if value is None else checks.integer("Checkpoint", argument, value, 1)


def _number(argument: str, value: float | None, interval: str) -> float | None:
    return None if value is None else checks.number("Checkpoint", argument, value, interval)


def _fields(path: str | os.PathLike[str]) -> list[str]:
    """What `path` has in braces, if it can be filled in."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"Checkpoint: path must be a path, got {path!r}")
    text = os.fspath(path)
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
        if set(fields) <= {"epoch", "step"}:
            text.format(epoch=1, step=1)
            return fields
        problem = f"nothing else in braces, got {text!r}"
    except ValueError as error:
        problem = f"got {text!r}: {error}"
    raise ValueError(f"Checkpoint: path may have {{epoch}} and {{step}}, {problem}")
