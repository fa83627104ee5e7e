"""What `fit` returns."""

from __future__ import annotations

from typing import Any


class History:
    """One list for each quantity, one entry for each epoch.

    Attributes
    ----------
    history : dict of str to list
        ``loss``, each metric, the same with ``val_`` before it, and ``learning_rate``, that of the
        epoch's last step: numbers, and arrays of metrics that are some.
    epoch : list of int
        The epochs' numbers, from 0.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def append(self, epoch: int, logs: dict[str, Any]) -> None:
        """Add one epoch's figures."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        return f"History({len(self.epoch)} epochs: {', '.join(self.history)})"
