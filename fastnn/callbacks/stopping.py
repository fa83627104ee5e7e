"""A callback that ends training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import checks
from fastnn.callbacks.base import Logs, Monitor

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


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
        Whether less or more is better; "auto" asks the metric, and takes more for an accuracy
        or a `val_score`.
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

    _remembered = ("stopped_epoch", "best", "best_epoch", "_waited", "_weights")

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
        self._weights: list[Array] | None = None

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
            self._weights = self.model.get_weights()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Put the best epoch's weights back."""
        if self._weights is not None:
            self.model.set_weights(self._weights)
            self._weights = None
