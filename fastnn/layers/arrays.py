"""A layer's arrays by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks

Array = npt.NDArray[Any]


class Arrays(MutableMapping[str, Array]):
    """Arrays by name whose memory is fixed: assigning to a name writes into its array."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self:
            self._arrays[name] = np.asarray(checks.array(value, name, any_shape=True), order="C")
            return
        if np.shape(value) != self[name].shape:
            raise ValueError(f"{name} has shape {self[name].shape}, got {np.shape(value)}")
        self[name][...] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} cannot be removed from its layer")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return repr(self._arrays)

    def move(self, name: str, array: Array) -> None:
        """Let `name` stand for other memory from now on."""
        self._arrays[name] = array

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Stand for `arrays` again, and no others."""
        self._arrays = dict(arrays)


class Parameters(Arrays):
    """The same for parameters: only finite numbers are let in."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, checks.like(value, name, self[name]) if name in self else value)
