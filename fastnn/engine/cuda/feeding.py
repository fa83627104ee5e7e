"""Rows that do not all fit on the device: chunks of them, the next one on its way meanwhile.

There is room for two chunks. While steps go through one, a thread gathers the rows of the next in
the epoch's order into pinned memory, and the GPU copies them beside what it computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine.cuda.device import Device
from fastnn.engine.cuda.executor import Bound

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

CHUNK_BYTES = 1 << 27
"""The most that a chunk takes of device memory: its copy then takes some milliseconds."""

SHARE = 0.25
"""The most that a chunk takes of what is free."""


def row_bytes(array: Array) -> int:
    """Bytes of a row."""
    return math.prod(array.shape[1:]) * array.itemsize


class _Room:
    """Room for two chunks of an array's rows, on the device and, to copy from, on the host."""

    def __init__(self, device: Device, array: Array, rows: int) -> None:
        self.array, self.rows, self.row_bytes = array, rows, row_bytes(array)
        self._memory = device.allocate(2 * rows * self.row_bytes)
        self.staging = device.pinned(rows * self.row_bytes)

    def address(self, chunk: int) -> int:
        """Where a chunk begins."""
        return self._memory.address + chunk % 2 * self.rows * self.row_bytes

    def bound(self, chunk: int) -> Bound:
        """The array as steps on a chunk see it: rows are found by their place in the epoch."""
        first = chunk * self.rows
        return Bound(self.address(chunk) - first * self.row_bytes, first + self.rows)

    def staged(self, rows: int) -> Array:
        """The pinned memory as so many rows."""
        size = rows * self.row_bytes
        return self.staging[:size].view(self.array.dtype).reshape(rows, *self.array.shape[1:])


class Feeder:
    """Brings the rows of arrays to the device chunk by chunk, and back from it.

    Parameters
    ----------
    device : Device
    inputs : mapping of str to ndarray, (N, ...)
        What steps gather rows from.
    out : ndarray, (N, ...), or None
        Where steps write rows, in their order in the epoch.
    batch : int
        Rows of a step: a chunk has a multiple.
    """

    def __init__(
        self, device: Device, inputs: Mapping[str, Array], out: Array | None, batch: int
    ) -> None:
        arrays = [*inputs.values(), *([] if out is None else [out])]
        of_row = sum(row_bytes(array) for array in arrays)
        size = min(CHUNK_BYTES, int(device.memory()[0] * SHARE))
        self.rows = max(1, size // max(1, of_row * batch)) * batch
        self._device, self._out = device, out
        self._rooms = {name: _Room(device, a, self.rows) for name, a in inputs.items()}
        self._room_out = None if out is None else _Room(device, out, self.rows)
        self._thread = ThreadPoolExecutor(1, "fastnn-feeder")
        self._coming: dict[int, Future[None]] = {}

    def begin(self, order: npt.NDArray[np.int64] | None, total: int) -> None:
        """From now on bring the rows of an epoch, `total` of them, in this order."""
        self._settle()
        self._order, self._total = order, total

    def bring(self, chunk: int) -> dict[str, Bound]:
        """Have a chunk on the device, and the next one on its way; where arrays then are."""
        for each in (chunk, chunk + 1):
            if each not in self._coming and each * self.rows < self._total:
                self._coming[each] = self._thread.submit(self._copy, each)
        self._coming.pop(chunk).result()
        bound = {name: room.bound(chunk) for name, room in self._rooms.items()}
        if self._room_out is not None:
            bound["out"] = self._room_out.bound(chunk)
        return bound

    def _copy(self, chunk: int) -> None:
        first = chunk * self.rows
        last = min(first + self.rows, self._total)
        for room in self._rooms.values():
            staged = room.staged(last - first)
            if self._order is None:
                staged[...] = room.array[first:last]
            else:
                # Without a mode NumPy would gather into memory of its own first.
                np.take(room.array, self._order[first:last], 0, out=staged, mode="clip")
            self._device.write_beside(room.address(chunk), staged)

    def fetch(self, chunk: int, last: int) -> None:
        """Copy what steps wrote of a chunk, up to row `last` of the epoch, back."""
        if self._out is not None and self._room_out is not None:
            first = chunk * self.rows
            self._device.read(self._room_out.address(chunk), self._out[first:last])

    def _settle(self) -> None:
        for coming in self._coming.values():
            coming.result()
        self._coming.clear()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
