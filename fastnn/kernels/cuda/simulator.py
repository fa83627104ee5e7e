"""Numba's CUDA simulator, with what it lacks, and a block's threads as greenlets.

Numba's own runs each thread of a block as one of Python's, and looks all the time which of them
wait; here they take turns, each until it waits for others. What it lacks is ways for a warp's
threads to talk to each other. Shared and local memory begins as NaN in every block.

What a GPU would let pass, or hang at, is an error here: a barrier or an exchange that not all
threads reach, or that they reach at different places of the kernel; and two threads at one element
of shared memory, one of them writing, with no barrier between.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet
from numba.cuda.simulator import kernel as running
from numba.cuda.simulator.kernelapi import Dim3, FakeCUDALocal, FakeCUDAModule, FakeCUDAShared
from numba.np import numpy_support

WARP = 32

BLOCK = -1
"""What a thread waits for that waits for its whole block; else the number of its warp."""


class _Cuda:
    """What ``cuda`` is to the kernel that runs."""

    def __getattr__(self, name: str) -> Any:
        return getattr(running._get_kernel_context(), name)


cuda: Any = _Cuda()
"""Stands in kernels for the module of this name."""


class _Thread(greenlet):
    """A thread of a block."""

    def __init__(self, block: _Block, place: tuple[int, ...], number: int) -> None:
        super().__init__(self._run)
        self.block, self.threadIdx = block, Dim3(*place)
        self.warp, self.lane = divmod(number, WARP)
        self.waits_for: int | None = None
        self.waits_at: tuple[str, int] | None = None
        self.barriers = self.exchanges = 0

    def _run(self) -> None:
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            self.block.function(*self.block.arguments)

    def wait(self, for_whom: int) -> None:
        """Let the others go on until all of the block, or of the warp, wait likewise."""
        caller = sys._getframe(2 if for_whom == BLOCK else 3)
        self.waits_for, self.waits_at = for_whom, (caller.f_code.co_filename, caller.f_lineno)
        self.parent.switch()


class _Block:
    """A block under way: takes the place of Numba's ``BlockManager``."""

    def __init__(
        self, function: Any, grid: tuple[int, ...], block: tuple[int, ...], debug: bool
    ) -> None:
        self.function, self._grid, self._shape = function, grid, block

    def run(self, place: tuple[int, ...], *arguments: Any) -> None:
        """Run all threads to their end."""
        # From the last block to the first: nothing may depend on their order, either.
        turned = (length - 1 - i for length, i in zip(self._grid, place, strict=True))
        self.blockIdx, self.arguments = Dim3(*turned), arguments
        running._get_kernel_context().shared._allocations.clear()
        x, y, z = self._shape
        places = itertools.product(range(z), range(y), range(x))
        threads = [_Thread(self, p[::-1], number) for number, p in enumerate(places)]
        self.all_threads, warps = threads, range(-(-len(threads) // WARP))
        # What each lane gives, of two exchanges in turn: who is ahead of another is so by one.
        self.given = [[[None] * WARP, [None] * WARP] for _ in warps]
        while threads:
            ready = [thread for thread in threads if thread.waits_for is None]
            if not ready:
                raise RuntimeError("threads of a block wait for each other at different places")
            for thread in ready:
                thread.switch()
            # The other way round next time: nothing may depend on who comes first.
            threads = [thread for thread in reversed(threads) if not thread.dead]
            self._release(threads)

    def _release(self, threads: list[_Thread]) -> None:
        """Let go on those who wait for nobody any more."""
        if threads and all(thread.waits_for == BLOCK for thread in threads):
            self._let_go(self.all_threads)
        for number in {thread.warp for thread in threads}:
            own = [thread for thread in threads if thread.warp == number]
            if all(thread.waits_for == number for thread in own):
                self._let_go([thread for thread in self.all_threads if thread.warp == number])

    def _let_go(self, waiting: list[_Thread]) -> None:
        """End the wait of a block or a warp, all of whose threads are to have come to one place."""
        if any(thread.dead for thread in waiting):
            raise RuntimeError("threads wait for others that have come to their end")
        if len({thread.waits_at for thread in waiting}) > 1:
            raise RuntimeError("threads wait for each other at different places")
        for thread in waiting:
            thread.barriers += thread.waits_for == BLOCK
            thread.waits_for = None


class _Shared:
    """An array of shared memory that looks for threads which do not wait for each other."""

    def __init__(self, array: Any) -> None:
        self._array, self._places = array, np.arange(array.size).reshape(array.shape)
        self._written: dict[int, _Access] = {}
        self._read: dict[int, list[_Access]] = {}
        self.size, self.itemsize, self.ctypes = array.size, array.itemsize, array.ctypes

    def __getitem__(self, index: Any) -> Any:
        own = _Access()
        for place in np.ravel(self._places[index]).tolist():
            own.comes_after(self._written.get(place))
            readers = self._read.setdefault(place, [])
            readers[:] = [other for other in readers if other.thread is not own.thread]
            readers.append(own)
        return self._array[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        own = _Access()
        for place in np.ravel(self._places[index]).tolist():
            own.comes_after(self._written.get(place))
            for other in self._read.pop(place, []):
                own.comes_after(other)
            self._written[place] = own
        self._array[index] = value


class _Access:
    """A thread's access to shared memory, and how often it had waited for others before."""

    def __init__(self) -> None:
        self.thread: Any = getcurrent()
        self.barriers, self.exchanges = self.thread.barriers, self.thread.exchanges

    def comes_after(self, other: _Access | None) -> None:
        """Raise an error if nothing has the caller's access come after another thread's."""
        if other is None or other.thread is self.thread or other.barriers < self.barriers:
            return
        if other.thread.warp != self.thread.warp or other.exchanges >= self.exchanges:
            raise RuntimeError("two threads use shared memory at once")


def exchange(value: Any) -> tuple[list[Any], int]:
    """What every lane of the warp has given, and the caller's lane."""
    thread: Any = getcurrent()
    given = thread.block.given[thread.warp][thread.exchanges % 2]
    thread.exchanges += 1
    given[thread.lane] = value
    thread.wait(thread.warp)
    return list(given), thread.lane


def _poisoned(shape: Any, dtype: Any) -> Any:
    """An array of what nothing has written: NaN, as floats."""
    array = np.empty(shape, numpy_support.as_dtype(dtype))
    array.view(np.uint8)[...] = 0xFF
    return array


def _local_array(self: Any, shape: int, dtype: Any, alignment: int | None = None) -> Any:
    return _poisoned(shape, dtype)


def _shared_array(self: Any, shape: int, dtype: Any, alignment: int | None = None) -> Any:
    """The block's array that is made on the caller's line."""
    caller = sys._getframe(1)
    place = caller.f_code.co_filename, caller.f_lineno
    if place not in self._allocations:
        self._allocations[place] = _Shared(_poisoned(shape, dtype))
    return self._allocations[place]


def _of_lane(values: list[Any], lane: int, own: Any) -> Any:
    """What a lane has given; of one that there is not, the caller's."""
    return own if not 0 <= lane < WARP or values[lane] is None else values[lane]


def _shuffle_xor(module: Any, mask: int, value: Any, other: int) -> Any:
    values, lane = exchange(value)
    return _of_lane(values, lane ^ other, value)


def _shuffle_down(module: Any, mask: int, value: Any, delta: int) -> Any:
    values, lane = exchange(value)
    return _of_lane(values, lane + delta, value)


def _shuffle(module: Any, mask: int, value: Any, source: int) -> Any:
    values, _ = exchange(value)
    return values[source % WARP]


def _ballot(module: Any, mask: int, predicate: Any) -> int:
    values, _ = exchange(bool(predicate))
    return sum(1 << lane for lane, is_set in enumerate(values) if is_set)


def _syncwarp(module: Any, mask: int = 0xFFFFFFFF) -> None:
    exchange(None)


def _syncthreads(module: Any) -> None:
    getcurrent().wait(BLOCK)


running.BlockManager = _Block
FakeCUDAModule.threadIdx = property(lambda module: getcurrent().threadIdx)
FakeCUDAModule.blockIdx = property(lambda module: getcurrent().block.blockIdx)
FakeCUDAModule.syncthreads = _syncthreads
FakeCUDAModule.shfl_xor_sync = _shuffle_xor
FakeCUDAModule.shfl_down_sync = _shuffle_down
FakeCUDAModule.shfl_sync = _shuffle
FakeCUDAModule.ballot_sync = _ballot
FakeCUDAModule.syncwarp = _syncwarp
FakeCUDALocal.array = _local_array
FakeCUDAShared.array = _shared_array
