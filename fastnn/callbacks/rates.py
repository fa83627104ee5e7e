"""Callbacks that lower the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastnn import checks
from fastnn.callbacks.base import Logs, Monitor

if TYPE_CHECKING:
    from fastnn.model import Sequential


class Lowering(Monitor):
    """What they have in common: the learning rate is a number, and changed between epochs."""

    def check(self, model: Sequential) -> None:
        """Refuse a schedule."""
        self._rate(model)

    def _rate(self, model: Sequential) -> float:
        assert model.optimizer is not None
        rate = model.optimizer.learning_rate
        if not isinstance(rate, float):
            raise ValueError(f"{type(self).__name__}: learning_rate must be a number, got {rate!r}")
        return rate

    def _set_rate(self, rate: float) -> None:
        assert self.model.optimizer is not None
        self.model.optimizer.learning_rate = rate


class ReduceLROnPlateau(Lowering):
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
        Whether less or more is better; "auto" asks the metric, and takes more for an accuracy
        or a `val_score`.
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

    _remembered = ("_best", "_waited", "_cooling")

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
                self._set_rate(max(rate * self.factor, self.min_lr))
                self._waited, self._cooling = 0, self.cooldown


DECAY_METHODS = ("default", "epoch_only", "score_only", "restart")


class OpenNMTDecay(Lowering):
    """Lower the learning rate after every epoch, once there is a reason to, as OpenNMT does.

    A reason is that the figure has not improved by more than `start_decay_score_delta` since the
    epoch before, or that `start_decay_at` epochs of this fit are done. From then on the learning
    rate is multiplied by `decay` after each epoch.

    OpenNMT's own "score_only" waits for a new reason after every epoch, here the first one will do;
    its "restart" is a second argument there.

    Parameters
    ----------
    monitor : str
        The figure, as named in the history.
    start_decay_score_delta : float, at least 0
        An improvement is larger than this.
    start_decay_at : int, at least 1
        Epochs after which the learning rate is lowered in any case: after the last of them, too.
    decay : float in (0, 1)
        What the learning rate is multiplied by.
    decay_method : {"default", "epoch_only", "score_only", "restart"}
        Which reasons count: both, the epochs alone, the figure alone. "restart" is "default", and
        lets the optimizer begin afresh with every lower rate (Denkowski & Neubig 2017, arXiv
        1706.09733).
    min_learning_rate : float, at least 0
        A learning rate below this one ends training.
    mode : {"auto", "min", "max"}
        Whether less or more is better; "auto" asks the metric, and takes more for an accuracy
        or a `val_score`.

    Raises
    ------
    ValueError
        In `fit`, before anything changes, if there is no such figure and it counts, or a schedule
        gives the learning rate.
    """

    _remembered = ("_previous", "_decaying")

    def __init__(
        self,
        monitor: str = "val_loss",
        start_decay_score_delta: float = 0.0,
        start_decay_at: int = 9,
        decay: float = 0.7,
        decay_method: str = "default",
        min_learning_rate: float = 0.0,
        mode: str = "auto",
    ) -> None:
        label = "OpenNMTDecay"
        delta = checks.number(label, "start_decay_score_delta", start_decay_score_delta, "[0, inf)")
        # Where the figure does not count, there need be none: a loss there is in any case.
        super().__init__("loss" if decay_method == "epoch_only" else monitor, delta, mode)
        self.start_decay_at = checks.integer(label, "start_decay_at", start_decay_at, 1)
        self.decay = checks.number(label, "decay", decay, "(0, 1)")
        if decay_method not in DECAY_METHODS:
            names = ", ".join(DECAY_METHODS)
            raise ValueError(f"{label}: decay_method must be one of {names}, got {decay_method!r}")
        self.decay_method = decay_method
        self.min_learning_rate = checks.number(
            label, "min_learning_rate", min_learning_rate, "[0, inf)"
        )
        self._reset()

    def _reset(self) -> None:
        self._previous: float | None = None
        self._decaying = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare with the epoch before, and lower the learning rate of the epochs to come."""
        value = self._figure(logs)
        by_epoch = self.decay_method != "score_only" and epoch + 1 >= self.start_decay_at
        compared = self.decay_method != "epoch_only" and self._previous is not None
        by_score = compared and not self._improves(value, self._previous)
        self._previous = value
        self._decaying = self._decaying or by_epoch or by_score
        if self._decaying:
            self._set_rate(self._rate(self.model) * self.decay)
            if self.decay_method == "restart":
                self.model.restart_optimizer()
        if self._rate(self.model) < self.min_learning_rate:
            self.model.stop_training = True
