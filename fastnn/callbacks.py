"""Callbacks: what is done between epochs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.model import Sequential

Logs = dict[str, Any]


class Callback:
    """What `fit` calls: override what you need. `model` is the model being fitted."""

    model: Sequential

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch; `logs` is empty."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before epoch `epoch`, from 0; `logs` is empty."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After it; `logs` has its figures."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch, also where training was interrupted; `logs` has its figures."""


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        Called with the epoch and a dict of its figures, empty at its beginning.
    on_train_begin, on_train_end : callable, optional
        Called with a dict of the last epoch's figures, empty at the beginning.

    Examples
    --------
    >>> import fastnn
    >>> show = fastnn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch))
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], Any] | None = None,
        on_epoch_end: Callable[[int, Logs], Any] | None = None,
        on_train_begin: Callable[[Logs], Any] | None = None,
        on_train_end: Callable[[Logs], Any] | None = None,
    ) -> None:
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
        }
        for name, function in given.items():
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"LambdaCallback: {name} must be a function, got {function!r}")
            setattr(self, name, function)


class Monitor(Callback):
    """What callbacks that wait for a figure to improve have in common; see `EarlyStopping`."""

    def check(self, model: Sequential) -> None:
        """Refuse a model that it cannot work with, before anything is changed."""

    def __init__(self, monitor: str, min_delta: float, mode: str) -> None:
        label = type(self).__name__
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{label}: mode must be 'auto', 'min' or 'max', got {mode!r}")
        self.monitor, self.mode = monitor, mode
        self.min_delta = checks.number(label, "min_delta", min_delta, "[0, inf)")

    def _improves(self, value: float, other: float | None) -> bool:
        if other is None:
            return not math.isnan(value)
        more = self.mode == "max" or (self.mode == "auto" and self._more_is_better())
        change = value - other if more else other - value
        return change > self.min_delta

    def _more_is_better(self) -> bool:
        name = self.monitor.removeprefix("val_")
        of_metric = any(m.more_is_better for m in self.model.metrics if m.name == name)
        return of_metric or "acc" in self.monitor

    def _figure(self, logs: Logs | None) -> float:
        logs = logs or {}
        if self.monitor not in logs:
            names = ", ".join(logs)
            raise ValueError(
                f"{type(self).__name__}: monitor {self.monitor!r} is not among {names}"
            )
        figure: float = logs[self.monitor]
        return figure


class EarlyStopping(Monitor):
    """Stop when a figure no longer improves.

    Parameters
    ----------
    monitor : str
        The figure, as named in the history.
    min_delta : float, at least 0
        An improvement is larger than this.
    patience : int, at least 0
        Epochs without improvement after which training stops.
    mode : {"auto", "min", "max"}
        Whether less or more is better; "auto" asks the metric, and takes more for an accuracy.
    baseline : float, optional
        Improvements that do not beat this one do not count against `patience`.
    restore_best_weights : bool
        Whether the model ends with the weights of its best epoch, however training ends.
    start_from_epoch : int, at least 0
        Epochs before this one are not looked at.

    Attributes
    ----------
    stopped_epoch : int or None
        The epoch after which training was stopped.
    best : float or None
        The best figure.
    best_epoch : int or None
        Its epoch.

    Raises
    ------
    ValueError
        In `fit`, before anything changes, if there is no such figure.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.patience = checks.integer("EarlyStopping", "patience", patience, 0)
        self.baseline = (
            None
            if baseline is None
            else checks.number("EarlyStopping", "baseline", baseline, "(-inf, inf)")
        )
        self.restore_best_weights = bool(restore_best_weights)
        self.start_from_epoch = checks.integer(
            "EarlyStopping", "start_from_epoch", start_from_epoch, 0
        )
        self._reset()

    def _reset(self) -> None:
        self.stopped_epoch: int | None = None
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._waited = 0
        self._weights: npt.NDArray[np.floating[Any]] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, keep the best, stop."""
        value = self._figure(logs)
        if epoch < self.start_from_epoch:
            return
        self._waited += 1
        if self._improves(value, self.best):
            self.best, self.best_epoch = value, epoch
            # As in Keras: waiting begins again only with what beats the baseline, too.
            if self.baseline is None or self._improves(value, self.baseline):
                self._waited = 0
        elif self._waited >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True
        if self.restore_best_weights and (self.best_epoch == epoch or self._weights is None):
            self._weights = self.model.parameters.copy()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Put the best epoch's weights back."""
        if self._weights is not None:
            self.model.parameters[...] = self._weights
            self._weights = None


class ReduceLROnPlateau(Monitor):
    """Lower the learning rate when a figure no longer improves, as Keras does.

    Parameters
    ----------
    monitor : str
        The figure, as named in the history.
    factor : float in [0, 1)
        What the learning rate is multiplied by.
    patience : int, at least 0
        Epochs without improvement after which it is.
    mode : {"auto", "min", "max"}
        Whether less or more is better; "auto" asks the metric, and takes more for an accuracy.
    min_delta : float, at least 0
        An improvement is larger than this.
    cooldown : int, at least 0
        Epochs after a change that are not counted.
    min_lr : float, at least 0
        The learning rate is never made lower.

    Raises
    ------
    ValueError
        In `fit`, before anything changes, if there is no such figure, or a schedule gives the
        learning rate.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        label = "ReduceLROnPlateau"
        self.factor = checks.number(label, "factor", factor, "[0, 1)")
        self.patience = checks.integer(label, "patience", patience, 0)
        self.cooldown = checks.integer(label, "cooldown", cooldown, 0)
        self.min_lr = checks.number(label, "min_lr", min_lr, "[0, inf)")
        self._reset()

    def _reset(self) -> None:
        self._best: float | None = None
        self._waited = self._cooling = 0

    def check(self, model: Sequential) -> None:
        """Refuse a schedule."""
        self._rate(model)

    def _rate(self, model: Sequential) -> float:
        assert model.optimizer is not None
        rate = model.optimizer.learning_rate
        if not isinstance(rate, float):
            raise ValueError(f"ReduceLROnPlateau: learning_rate must be a number, got {rate!r}")
        return rate

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, and lower the learning rate of the epochs to come."""
        value = self._figure(logs)
        if self._cooling:
            self._cooling -= 1
        if self._improves(value, self._best):
            self._best, self._waited = value, 0
        elif not self._cooling:
            self._waited += 1
            rate = self._rate(self.model)
            if self._waited >= self.patience and rate > self.min_lr:
                assert self.model.optimizer is not None
                self.model.optimizer.learning_rate = max(rate * self.factor, self.min_lr)
                self._waited, self._cooling = 0, self.cooldown


def check(callbacks: object) -> list[Callback]:
    """A list of callbacks.

    Raises
    ------
    TypeError
        If it is none.
    """
    if callbacks is None:
        return []
    listed = [callbacks] if isinstance(callbacks, Callback) else callbacks
    if not isinstance(listed, (list, tuple)) or not all(isinstance(c, Callback) for c in listed):
        raise TypeError(f"fit: callbacks must be a list of callbacks, got {callbacks!r}")
    return list(listed)
