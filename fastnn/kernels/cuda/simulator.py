"""Numba's CUDA simulator, with what it lacks, and a block's threads as greenlets.

Numba's own runs each thread of a block as one of Python's, and looks all the time which of them
wait; here they take turns, each until it waits for others. What it lacks is ways for a warp's
threads to talk to each other. Shared and local memory begins as NaN in every block.

A grid's blocks run one after the other, or, where they wait for each other, all at once: see
`at_once`.

What a GPU would let pass, or hang at, is an error here: a barrier or an exchange that not all
threads reach, or that they reach at different places of the kernel; two threads at one element of
shared memory, one of them writing, with no barrier between; and blocks that wait for each other
for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Iterator
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
        self.rests_at: tuple[str, int] | None = None

    def _run(self) -> None:
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            self.block.function(*self.block.arguments)

    def wait(self, for_whom: int) -> None:
        """Let the others go on until all of the block, or of the warp, wait likewise."""
        self.waits_for, self.waits_at = for_whom, _line_of(3 if for_whom == BLOCK else 4)
        self.parent.switch()


def _line_of(caller: int) -> tuple[str, int]:
    """Where the function stands that has called, through so many, this one."""
    frame = sys._getframe(caller)
    return frame.f_code.co_filename, frame.f_lineno


_resident: list[_Block] | None = None
"""The blocks so far of a grid all of which are to run at once."""


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Run all blocks of the grids that are launched in the ``with`` block at once."""
    global _resident
    _resident = []
    try:
        yield
    finally:
        _resident = None


class _Block:
    """A block under way: takes the place of Numba's ``BlockManager``."""

    def __init__(
        self, function: Any, grid: tuple[int, ...], block: tuple[int, ...], debug: bool
    ) -> None:
        self.function, self._grid, self._shape = function, grid, block
        self.shared: dict[tuple[str, int], _Shared] = {}

    def run(self, place: tuple[int, ...], *arguments: Any) -> None:
        """Run all threads to their end: at once, or with those of the grid's last block."""
        # From the last block to the first: nothing may depend on their order, either.
        turned = (length - 1 - i for length, i in zip(self._grid, place, strict=True))
        self.blockIdx, self.arguments = Dim3(*turned), arguments
        if _resident is None:
            _run([self])
            return
        _resident.append(self)
        if len(_resident) == math.prod(self._grid):
            blocks = _resident.copy()
            _resident.clear()
            _run(blocks)

    def begin(self) -> None:
        """Make all threads."""
        x, y, z = self._shape
        places = itertools.product(range(z), range(y), range(x))
        threads = [_Thread(self, p[::-1], number) for number, p in enumerate(places)]
        self.all_threads, warps = threads, range(-(-len(threads) // WARP))
        self.threads = threads
        # What each lane gives, of two exchanges in turn: who is ahead of another is so by one.
        self.given = [[[None] * WARP, [None] * WARP] for _ in warps]
        # What all threads say at a barrier, by the number of those before it.
        self.said: dict[int, list[Any]] = {}

    def turn(self) -> bool:
        """Let each thread go on that can, until it waits; whether one did more than look around."""
        ready = [thread for thread in self.threads if thread.waits_for is None]
        if not ready:
            raise RuntimeError("threads of a block wait for each other at different places")
        moved = False
        for thread in ready:
            rested_at, thread.rests_at = thread.rests_at, None
            thread.switch()
            moved |= thread.rests_at is None or thread.rests_at != rested_at
        # The other way round next time: nothing may depend on who comes first.
        self.threads = [thread for thread in reversed(self.threads) if not thread.dead]
        self._release(self.threads)
        return moved

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


def _run(blocks: list[_Block]) -> None:
    """Run blocks to their end, all at once."""
    for block in blocks:
        block.begin()
    while blocks:
        moved = [block.turn() for block in blocks]
        if not any(moved):
            raise RuntimeError("blocks wait for each other for ever, or for some that do not run")
        blocks = [block for block in reversed(blocks) if block.threads]


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


def rest() -> None:
    """Let all others go on that can: the caller looks again and again for what they tell."""
    thread: Any = getcurrent()
    thread.rests_at = _line_of(3)
    thread.parent.switch()


def exchange(value: Any) -> tuple[list[Any], int]:
    """What every lane of the warp has given, and the caller's lane."""
    thread: Any = getcurrent()
    given = thread.block.given[thread.warp][thread.exchanges % 2]
    thread.exchanges += 1
    given[thread.lane] = value
    thread.wait(thread.warp)
    return list(given), thread.lane


def any_of_block(predicate: Any) -> bool:
    """Whether it is set in any of the block's threads, all of which wait here."""
    thread: Any = getcurrent()
    said = thread.block.said.setdefault(thread.barriers, [])
    said.append(predicate)
    thread.wait(BLOCK)
    return any(said)


def _poisoned(shape: Any, dtype: Any) -> Any:
    """An array of what nothing has written: NaN, as floats."""
    array = np.empty(shape, numpy_support.as_dtype(dtype))
    array.view(np.uint8)[...] = 0xFF
    return array


def _local_array(self: Any, shape: int, dtype: Any, alignment: int | None = None) -> Any:
    return _poisoned(shape, dtype)


def _shared_array(self: Any, shape: int, dtype: Any, alignment: int | None = None) -> Any:
    """The block's array that is made on the caller's line; of length 0, all that it was launched
    with.
    """
    place = _line_of(2)
    arrays: dict[tuple[str, int], _Shared] = getcurrent().block.shared  # type: ignore[attr-defined]
    if place not in arrays:
        if shape == 0:
            shape = self._dynshared_size // numpy_support.as_dtype(dtype).itemsize
        arrays[place] = _Shared(_poisoned(shape, dtype))
    return arrays[place]


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
