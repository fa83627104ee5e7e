"""What the simulator refuses that a GPU would let pass or hang at."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from numba import types

from fastnn.kernels.cuda import simulator
from fastnn.kernels.cuda.groups import ALL, WARP
from fastnn.kernels.cuda.ptx import arrive, look, tell
from fastnn.kernels.cuda.target import cuda

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)


def launch(kernel: Any, threads: int) -> list[int]:
    """What the kernel's threads have each written."""
    from numba import cuda as numba_cuda

    out = np.full(threads, -1)
    numba_cuda.jit(kernel)[1, threads](out)
    return out.tolist()


def neighbours_by(wait: Any, step: int) -> Any:
    """The kernel whose threads read what the thread `step` places on has written, after `wait`."""

    def kernel(out: Any) -> None:
        shared = cuda.shared.array(2 * WARP, types.int64)
        thread = cuda.threadIdx.x
        shared[thread] = thread
        wait()
        out[thread] = shared[thread ^ step]

    return kernel


def of_block() -> None:
    cuda.syncthreads()


def of_warp() -> None:
    cuda.syncwarp()


def no_wait() -> None:
    pass


@pytest.mark.parametrize(("wait", "step"), [(of_block, 1), (of_block, WARP), (of_warp, 1)])
def test_threads_may_read_what_was_written_before_they_waited(wait: Any, step: int) -> None:
    assert launch(neighbours_by(wait, step), 2 * WARP) == [i ^ step for i in range(2 * WARP)]


@pytest.mark.parametrize(("wait", "step"), [(no_wait, 1), (of_warp, WARP)])
def test_threads_that_wait_too_little_are_told(wait: Any, step: int) -> None:
    with pytest.raises(RuntimeError, match="two threads use shared memory at once"):
        launch(neighbours_by(wait, step), 2 * WARP)


def test_thread_may_not_write_what_others_may_still_read() -> None:
    def kernel(out: Any) -> None:
        shared = cuda.shared.array(2, types.int64)
        thread = cuda.threadIdx.x
        for turn in range(2):
            shared[thread] = turn
            cuda.syncthreads()
            out[thread] = shared[1 - thread]

    with pytest.raises(RuntimeError, match="two threads use shared memory at once"):
        launch(kernel, 2)


def test_nobody_may_end_while_others_wait() -> None:
    def kernel(out: Any) -> None:
        if cuda.threadIdx.x == 1:
            return
        cuda.syncthreads()

    with pytest.raises(RuntimeError, match="have come to their end"):
        launch(kernel, 2)


def test_no_lane_may_miss_an_exchange() -> None:
    def kernel(out: Any) -> None:
        for _ in range(cuda.threadIdx.x):
            cuda.shfl_xor_sync(ALL, 1, 1)

    with pytest.raises(RuntimeError, match="have come to their end"):
        launch(kernel, 2)


@pytest.mark.parametrize("wait", [of_block, of_warp])
def test_threads_may_not_wait_at_different_places(wait: Any) -> None:
    def kernel(out: Any) -> None:
        if cuda.threadIdx.x == 0:
            if wait is of_block:
                cuda.syncthreads()
            else:
                cuda.syncwarp()
        elif wait is of_block:
            cuda.syncthreads()
        else:
            cuda.syncwarp()

    with pytest.raises(RuntimeError, match="at different places"):
        launch(kernel, 2)


def blocks_that_wait(words: Any) -> None:
    """Each block counts itself; the last tells the others how many there are."""
    if arrive(words, 0) == cuda.gridDim.x - 1:
        tell(words, 1, words[0])
    while look(words, 1) == 0:
        pass
    words[2 + cuda.blockIdx.x] = look(words, 1)


def launch_blocks(kernel: Any, blocks: int) -> list[int]:
    from numba import cuda as numba_cuda

    words = np.zeros(2 + blocks, np.int64)
    numba_cuda.jit(kernel)[blocks, 1](words)
    return words.tolist()


def test_blocks_that_run_at_once_may_wait_for_each_other() -> None:
    with simulator.at_once():
        assert launch_blocks(blocks_that_wait, 3) == [3, 3, 3, 3, 3]


def test_blocks_that_run_one_after_the_other_may_not() -> None:
    with pytest.raises(RuntimeError, match="wait for each other for ever"):
        launch_blocks(blocks_that_wait, 3)


def test_nobody_may_wait_for_what_nobody_tells() -> None:
    def kernel(words: Any) -> None:
        while look(words, 0) == 0:
            pass

    with simulator.at_once(), pytest.raises(RuntimeError, match="wait for each other for ever"):
        launch_blocks(kernel, 2)


def test_blocks_that_run_at_once_have_shared_memory_of_their_own() -> None:
    def kernel(words: Any) -> None:
        shared = cuda.shared.array(1, types.int64)
        shared[0] = cuda.blockIdx.x
        arrive(words, 0)
        while look(words, 0) < cuda.gridDim.x:
            pass
        words[2 + cuda.blockIdx.x] = shared[0]

    with simulator.at_once():
        assert launch_blocks(kernel, 3)[2:] == [0, 1, 2]
