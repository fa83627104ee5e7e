"""How long training takes, without what comes before it."""

from __future__ import annotations

import time

import fastnn


class Clock(fastnn.Callback):
    """Adds up the seconds that epochs take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start."""
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop."""
        self.seconds += time.perf_counter() - self._begin
