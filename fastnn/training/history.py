"""What `fit` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


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

    def arrays(self) -> dict[str, Array]:
        """Each quantity's entries as one array, (epochs,) or of arrays (epochs, ...)."""
        return {name: np.array(values) for name, values in self.history.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> History:
        """The history that gave these `arrays`."""
        history = cls()
        for name, array in arrays.items():
            history.history[name] = array.tolist() if array.ndim == 1 else list(array)
            history.epoch = list(range(len(array)))
        return history

    def last(self) -> dict[str, Any]:
        """The figures of the last epoch; empty before the first."""
        return {name: values[-1] for name, values in self.history.items()}

    def __repr__(self) -> str:
        return f"History({len(self.epoch)} epochs: {', '.join(self.history)})"
