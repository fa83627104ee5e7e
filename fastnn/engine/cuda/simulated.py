"""The simulator as a device: its memory is this process's, its kernels are Python."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from fastnn.engine import arena
from fastnn.engine.compiler import Report
from fastnn.engine.cuda import dlpack
from fastnn.engine.cuda.device import Key, Launched, Work, at_most, not_enough
from fastnn.kernels.cuda.adapter import entry
from fastnn.kernels.cuda.simulator import at_once

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.engine.cuda.blas import Library

MOST_BLOCKS, MOST_THREADS = 2, 32
"""Grids and blocks of kernels that take any are cut down to these: a thread costs 0.02 ms."""


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

    def __init__(self, launches: Sequence[Work], library: Library | None) -> None:
        self._launches, self._library = list(launches), library

    def run(self, times: int = 1) -> None:
        """Do them all, `times` times."""
        for _ in range(times):
            for one in self._launches:
                if isinstance(one, Launched):
                    run_kernel(one)
                else:
                    assert self._library is not None
                    self._library.begin(one, 0)


def run_kernel(one: Launched) -> None:
    """Run one launch."""
    kernel = _kernel(one.key, one.launch.constants)
    launch = at_most(one.key, one.launch, MOST_BLOCKS, MOST_THREADS)
    together = at_once() if launch.at_once else nullcontext()
    with np.errstate(all="ignore"), together:
        kernel[launch.blocks, launch.threads, 0, launch.shared](*map(np.int64, one.words))


class SimulatedDevice:
    """The simulator; see `Device`.

    Parameters
    ----------
    total : int
        Bytes of its memory.
    """

    name, lost = "simulator", False
    dlpack_device = dlpack.CPU, 0
    stream_number: int | None = None
    grid = 3, MOST_THREADS
    most_shared = 227 << 10

    def __init__(self, total: int = 1 << 34) -> None:
        self._total, self._used = total, 0
        self.library: Library | None = None

    def allocate(self, size: int) -> SimulatedMemory:
        """A block of `size` bytes."""
        free, total = self.memory()
        if size > free:
            raise MemoryError(not_enough(self.name, size, free, total))
        memory = SimulatedMemory(size)
        self._used += size
        weakref.finalize(memory, self._give_back, size)
        return memory

    def _give_back(self, size: int) -> None:
        self._used -= size

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and in all."""
        return self._total - self._used, self._total

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        """Any memory of the host is as good."""
        return arena.allocate(size)

    def write_beside(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy an array to an address."""
        self.write(address, array)

    def write(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy an array to an address."""
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def read(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy from an address into an array."""
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def prepare(self, launches: Sequence[Work], report: Report | None = None) -> SimulatedGraph:
        """The launches as one; nothing is compiled."""
        return SimulatedGraph(launches, self.library)

    def context(self) -> AbstractContextManager[None]:
        """There is nothing to enter."""
        return nullcontext()

    def wait(self) -> None:
        """Nothing is done behind the caller's back."""

    def wait_for(self, stream: int) -> None:
        """There are no streams."""

    def holds(self, address: int) -> bool:
        """What others have of this process's memory is as good as its own."""
        return True
