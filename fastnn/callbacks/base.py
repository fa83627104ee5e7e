"""What every callback is, and what those have in common that wait for a figure to improve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastnn import checks

if TYPE_CHECKING:
    from fastnn.model import Sequential

Logs = dict[str, Any]


class Callback:
    """What `fit` calls: override what you need. `model` is the model being fitted.

    A callback that remembers something from one epoch to the next has `state` and `restore`, so
    that a fit can go on from a file of `Checkpoint`'s.
    """

    model: Sequential

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch; `logs` is empty."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before epoch `epoch`, from 0; `logs` is empty.

        Not again where ``fit(resume_from=...)`` takes an epoch up in its middle.
        """

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After it; `logs` has its figures."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch, also where training was interrupted; `logs` has its figures."""

    def state(self) -> dict[str, Any]:
        """What it remembers: by names, values as JSON takes them and arrays, in lists and dicts."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Remember what `state` gave; called after `on_train_begin` of all callbacks."""


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

    _remembered: tuple[str, ...] = ()
    """Names of the attributes that `state` gives."""

    def check(self, model: Sequential) -> None:
        """Refuse a model that it cannot work with, before anything is changed."""

    def __init__(self, monitor: str, min_delta: float, mode: str) -> None:
        label = type(self).__name__
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{label}: mode must be 'auto', 'min' or 'max', got {mode!r}")
        self.monitor, self.mode = monitor, mode
        self.min_delta = checks.number(label, "min_delta", min_delta, "[0, inf)")

    def state(self) -> dict[str, Any]:
        """The attributes that it remembers."""
        return {name: getattr(self, name) for name in self._remembered}

    def restore(self, state: dict[str, Any]) -> None:
        """Set them."""
        vars(self).update({name: state[name] for name in self._remembered})

    def _improves(self, value: float, other: float | None) -> bool:
        if other is None:
            return not math.isnan(value)
        more = self.mode == "max" or (self.mode == "auto" and self._more_is_better())
        change = value - other if more else other - value
        return change > self.min_delta

    def _more_is_better(self) -> bool:
        name = self.monitor.removeprefix("val_")
        of_metric = any(m.more_is_better for m in self.model.metrics if m.name == name)
        return of_metric or "acc" in self.monitor or self.monitor == "val_score"

    def _figure(self, logs: Logs | None) -> float:
        logs = logs or {}
        if self.monitor not in logs:
            names = ", ".join(logs)
            raise ValueError(
                f"{type(self).__name__}: monitor {self.monitor!r} is not among {names}"
            )
        figure: float = logs[self.monitor]
        return figure


def check_monitors(callbacks: Iterable[Callback], figures: Sequence[str], model: Any) -> None:
    """Refuse a callback that waits for a figure which there will not be, or cannot do with `model`.

    Raises
    ------
    ValueError
        If what it monitors is not among `figures`.
    """
    for callback in callbacks:
        monitor = getattr(callback, "monitor", figures[0])
        if monitor not in figures:
            raise ValueError(
                f"{type(callback).__name__}: monitor {monitor!r} is not among {', '.join(figures)}"
            )
        if isinstance(callback, Monitor):
            callback.check(model)


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
