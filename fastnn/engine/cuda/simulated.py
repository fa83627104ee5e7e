"""The simulator as a device: its memory is this process's, its kernels are Python."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from fastnn.engine import arena
from fastnn.engine.cuda.device import Key, Launched, takes_any_grid
from fastnn.kernels.cuda.adapter import entry

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_BLOCKS, MOST_THREADS = 3, 64
"""Grids and blocks of kernels that take any are cut down to these: a thread costs 0.1 ms."""


@cache
def _kernel(key: Key, constants: tuple[int, ...]) -> Any:
    function, _ = entry(key[0], key[1:], constants)
    return cuda.jit(function)


class SimulatedMemory:
    """A block of this process's memory."""

    def __init__(self, size: int) -> None:
        self._block = arena.allocate(size + 256)
        self._block[:] = 0xFF  # what nothing has written is NaN
        self.address, self.size = -(-self._block.ctypes.data // 256) * 256, size


class SimulatedGraph:
    """Launches, run by the simulator."""

    def __init__(self, launches: Sequence[Launched]) -> None:
        self._launches = list(launches)

    def run(self, times: int = 1) -> None:
        """Do them all, `times` times."""
        for _ in range(times):
            for one in self._launches:
                run_kernel(one)


def run_kernel(one: Launched) -> None:
    """Run one launch."""
    blocks, threads, constants = one.launch
    kernel = _kernel(one.key, constants)
    if takes_any_grid(one.key):
        blocks, threads = (min(blocks[0], MOST_BLOCKS), blocks[1]), min(threads, MOST_THREADS)
    with np.errstate(all="ignore"):
        kernel[blocks, threads](*map(np.int64, one.words))


class SimulatedDevice:
    """The simulator; see `Device`."""

    name = "simulator"

    def allocate(self, size: int) -> SimulatedMemory:
        """A block of `size` bytes."""
        return SimulatedMemory(size)

    def write(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy an array to an address."""
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def read(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy from an address into an array."""
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def prepare(self, launches: Sequence[Launched]) -> SimulatedGraph:
        """The launches as one."""
        return SimulatedGraph(launches)

    def wait(self) -> None:
        """Nothing is done behind the caller's back."""
