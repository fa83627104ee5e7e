"""Numba's CUDA simulator, and what it lacks: ways for a warp's threads to talk to each other.

Each thread is a Python thread here; those of a warp meet twice, once to lay down what they have
and once when all have read it.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel as running
from numba.cuda.simulator.kernel import BlockThread
from numba.cuda.simulator.kernelapi import FakeCUDALocal, FakeCUDAModule, FakeCUDAShared
from numba.np import numpy_support

WARP = 32


class _Cuda:
    """What ``cuda`` is to the kernel that runs.

    The simulator itself puts it among a function's globals while that is called: with many threads
    in one device function, the first to leave would take it from the others.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(running._get_kernel_context(), name)


cuda: Any = _Cuda()
"""Stands in kernels for the module of this name."""

_making = threading.Lock()


class _Warp:
    """The meeting place of the threads of one warp."""

    def __init__(self, size: int) -> None:
        self.barrier, self.values = threading.Barrier(size), [None] * size


def exchange(value: Any) -> tuple[list[Any], int]:
    """What every lane of the warp has given, and the caller's lane."""
    thread: Any = threading.current_thread()
    manager = thread._manager
    number, lane = divmod(thread.thread_id, WARP)
    with _making:
        warps = manager.__dict__.setdefault("warps", {})
        if number not in warps:
            x, y, z = manager._block_dim
            warps[number] = _Warp(min(WARP, x * y * z - WARP * number))
    warp = warps[number]
    warp.values[lane] = value
    warp.barrier.wait()
    values = list(warp.values)
    warp.barrier.wait()
    return values, lane


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
    with _making:
        if place not in self._allocations:
            self._allocations[place] = _poisoned(shape, dtype)
        return self._allocations[place]


def _shuffle_xor(module: Any, mask: int, value: Any, other: int) -> Any:
    values, lane = exchange(value)
    return values[lane ^ other] if lane ^ other < len(values) else value


def _shuffle_down(module: Any, mask: int, value: Any, delta: int) -> Any:
    values, lane = exchange(value)
    return values[lane + delta] if lane + delta < len(values) else value


def _shuffle(module: Any, mask: int, value: Any, source: int) -> Any:
    values, _ = exchange(value)
    return values[source % WARP]


def _ballot(module: Any, mask: int, predicate: Any) -> int:
    values, _ = exchange(bool(predicate))
    return sum(1 << lane for lane, is_set in enumerate(values) if is_set)


def _syncwarp(module: Any, mask: int = 0xFFFFFFFF) -> None:
    exchange(None)


_run_thread = BlockThread.run


def _run_quietly(self: Any) -> None:
    """Run a thread as a GPU does: floating point warns of nothing.

    A thread that fails lets none of its warp wait for it.
    """
    with np.errstate(all="ignore"):  # which is each thread's own
        _run_thread(self)
    if self.exception:
        with _making:
            warps = list(self._manager.__dict__.get("warps", {}).values())
        for warp in warps:
            warp.barrier.abort()
        if isinstance(self.exception[0], threading.BrokenBarrierError):
            self.exception = None  # another's tells what happened


BlockThread.run = _run_quietly
FakeCUDAModule.shfl_xor_sync = _shuffle_xor
FakeCUDAModule.shfl_down_sync = _shuffle_down
FakeCUDAModule.shfl_sync = _shuffle
FakeCUDAModule.ballot_sync = _ballot
FakeCUDAModule.syncwarp = _syncwarp
FakeCUDALocal.array = _local_array
FakeCUDAShared.array = _shared_array
