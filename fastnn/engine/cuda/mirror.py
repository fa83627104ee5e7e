"""A model's arrays on the device: the host's are the truth, but while steps of training are run.

Parameters, gradients, the optimizer's vectors, layers' buffers: programs name them as NumPy arrays,
views of a few large blocks. Each block has a twin on the device, made when a program first asks
for an address in it. A pass begins by copying blocks there; after an epoch, if somebody may look at
the model before the next, they are copied back.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine.cuda.device import Device, Memory

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

ALIGNMENT = 256
"""An element's place on the device and on the host are the same, so many bytes apart."""


def block_of(array: Array) -> Array:
    """The array that owns the memory of which `array` is a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class _Twin:
    """A block, which may be gone by now, and its place on the device."""

    def __init__(self, block: Array, device: Device) -> None:
        self.host, self.begin, self.bytes = weakref.ref(block), block.ctypes.data, block.nbytes
        self._memory: Memory = device.allocate(block.nbytes + ALIGNMENT)
        self.address = self._memory.address + self.begin % ALIGNMENT


class Mirror:
    """The device's twins of blocks of host memory.

    Parameters
    ----------
    device : Device

    Attributes
    ----------
    ahead : bool
        Whether the device's blocks are the newer ones, so that none may be copied there.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._twins: dict[int, _Twin] = {}
        self._lock = threading.Lock()
        self.ahead = False

    def address_of(self, array: Array) -> int:
        """The address on the device of an array's first element; its block gets a twin."""
        block = block_of(array)
        if not block.flags.c_contiguous:
            raise ValueError(f"an array of shape {array.shape} is a view of one that has gaps")
        with self._lock:
            twin = self._twins.get(id(block))
            if twin is None or twin.host() is not block:
                twin = self._twins[id(block)] = _Twin(block, self.device)
                self.device.write(twin.address, block)
        return twin.address + array.ctypes.data - twin.begin

    def _living(self) -> list[tuple[_Twin, Array]]:
        with self._lock:
            living = [(twin, twin.host()) for twin in self._twins.values()]
            self._twins = {id(b): twin for twin, b in living if b is not None}
        return [(twin, block) for twin, block in living if block is not None]

    def to_device(self) -> None:
        """Copy all blocks to the device, unless its own are newer."""
        if self.ahead:
            return
        for twin, block in self._living():
            self.device.write(twin.address, block)

    def to_host(self) -> None:
        """Copy all blocks back, if the device's are newer."""
        if not self.ahead:
            return
        for twin, block in self._living():
            self.device.read(twin.address, block)
        self.ahead = False
