"""The CPU executor: compiled steps on one thread or a team, in slices of a few milliseconds.

A slice is one call into compiled code, which holds no lock of Python's. Between slices Python
lives: progress, Ctrl-C. A slice ends after an amount of work that is adjusted to take
`SLICE_SECONDS`; it can end in the middle of a step, which the next one takes up again.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine import arena, compiler
from fastnn.kernels import state as s

if TYPE_CHECKING:
    import numpy.typing as npt

SLICE_SECONDS = 0.02
"""How long compiled code keeps Python waiting; Ctrl-C is heard after a slice at the latest."""

TEAM_COST = 200_000
"""A step estimated to take less than this, in nanoseconds, runs on one thread."""

_FIRST_BUDGET = 2_000_000

# status = op(result*, exception**, operands, state, rank, team)
_OP = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)
# status = run_steps(result*, exception**, code, ops, state, rank, team)
_RUN = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 5)


class DivergenceError(ArithmeticError):
    """The loss or a gradient became infinite or NaN.

    Attributes
    ----------
    step : int
        The training step, from 0, in which it did. Weights are those with which that step began,
        except that elements with a finite new value may have been updated: all are finite.
    """

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


def diverged(step: int, what: str) -> DivergenceError:
    """The error for a value that is not finite, `what`, met in `step`."""
    return DivergenceError(
        step,
        f"training diverged: {what} became infinite or NaN at step {step}; the last finite weights "
        "are kept. A smaller learning rate or scaled inputs help.",
    )


def new_state(seed: int = 0) -> npt.NDArray[np.int64]:
    """A state array with `seed` as the key of its random numbers."""
    state = np.zeros(s.SLOTS, np.int64)
    state[s.SEED] = np.uint64(seed & (2**64 - 1)).astype(np.int64)
    return state


def floats(state: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The state's float slots, as a view of the whole array."""
    return state.view(np.float64)


@cache
def _yield_address() -> int:
    """The address of the system's function that gives the core away."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


class Scratch:
    """What a run needs besides its program: the shared block, each thread's workspace."""

    def __init__(self, team: int) -> None:
        shared_bytes = 8 * s.SHARED_SLOTS
        self._memory = arena.allocate(shared_bytes + team * s.WORKSPACE_BYTES)
        self.shared_address = self._memory.ctypes.data
        self.workspace_address = self.shared_address + shared_bytes
        self._shared = self._memory[:shared_bytes].view(np.int64)
        self._shared[s.SHARED_YIELD] = _yield_address()

    def clear_flag(self) -> None:
        """Forget that an op met a value that is not finite."""
        self._shared[s.SHARED_FLAG] = 0

    @property
    def flag(self) -> int:
        """1 + the position of the op that met a value that is not finite; 0: none has."""
        return int(self._shared[s.SHARED_FLAG])


_idle_scratch: list[Scratch] = []


@contextlib.contextmanager
def workspace() -> Iterator[Scratch]:
    """Scratch memory for one thread, taken from a store and put back."""
    try:
        scratch = _idle_scratch.pop()
    except IndexError:
        scratch = Scratch(1)
    try:
        yield scratch
    finally:
        _idle_scratch.append(scratch)


def _call(function: Any, *arguments: int) -> None:
    result, exception = ctypes.c_int64(), ctypes.c_void_p()
    status = function(ctypes.addressof(result), ctypes.addressof(exception), *arguments)
    if status != 0:
        raise SystemError(f"a compiled op ended with status {status}")


def call_op(function: int, operands: npt.NDArray[np.int64], state: npt.NDArray[np.int64]) -> None:
    """Run one op on this thread."""
    _call(_OP(function), operands.ctypes.data, state.ctypes.data, 0, 1)


class Team:
    """Threads that run one program together.

    The caller's thread runs no part: Ctrl-C reaches the main thread only, wherever it is, and a
    thread that the others wait for must not be stopped half-way to them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._jobs: list[queue.SimpleQueue[Callable[[int], None] | None]] = []
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        try:
            for rank in range(size):
                jobs: queue.SimpleQueue[Callable[[int], None] | None] = queue.SimpleQueue()
                threading.Thread(
                    target=self._work, args=(rank, jobs), name=f"fastnn-{rank}", daemon=True
                ).start()
                self._jobs.append(jobs)
        except RuntimeError:  # no more threads to be had: fewer do the same work
            for surplus in self._jobs[1:]:
                surplus.put(None)
            if not self._jobs:
                raise
            del self._jobs[1:]
            self.size = 1

    def _work(self, rank: int, jobs: queue.SimpleQueue[Callable[[int], None] | None]) -> None:
        while (job := jobs.get()) is not None:
            if rank == 0:
                for others in self._jobs[1:]:
                    others.put(job)
            try:
                job(rank)
            except BaseException as error:
                self._done.put(error)
            else:
                self._done.put(None)

    def run(self, job: Callable[[int], None]) -> None:
        """Call ``job(rank)`` on every thread, and wait for all."""
        # One `put`, which cannot be interrupted half-way; the first thread calls the others.
        self._jobs[0].put(job)
        waiting, interruption = self.size, None
        while waiting:
            try:
                error = self._done.get()
                waiting -= 1
                if error is not None:
                    interruption = error
            except BaseException as error:  # the slice ends by itself in a moment
                interruption = error
        if interruption is not None:
            raise interruption

    def close(self) -> None:
        """Send the threads home."""
        for jobs in self._jobs:
            jobs.put(None)


class Run:
    """A linked program being run.

    Parameters
    ----------
    code : ndarray
        The linked program.
    state : ndarray
        The state that it goes on from and keeps up to date.
    team : Team or None
        The threads to run on; None: the caller's.
    update_begins : int or None
        Position of the first op that changes parameters.
    """

    def __init__(
        self,
        code: npt.NDArray[np.int64],
        state: npt.NDArray[np.int64],
        team: Team | None = None,
        update_begins: int | None = None,
    ) -> None:
        self.code, self.state, self.team = code, state, team
        self.update_begins = update_begins
        self._function = _RUN(compiler.address(("run_steps",)))
        size = team.size if team is not None else 1
        self._scratch = Scratch(size)
        self._states = np.zeros((size, s.SLOTS), np.int64)
        self._budget = _FIRST_BUDGET

    def epoch(self, total: int, batch: int, on_pause: Callable[[], None] | None = None) -> None:
        """Run whole steps of `batch` rows until `total` rows are done, the last step with the rest.

        `on_pause` is called between slices. Whatever it raises, and Ctrl-C, is passed on with the
        parameters as some whole number of steps left them.

        Raises
        ------
        DivergenceError
            If a loss or a new weight was not finite.
        """
        self.state[[s.FIRST, s.POSITION, s.PIECE]] = 0
        self.state[s.TOTAL], self.state[s.BATCH] = total, batch
        if total == 0:
            return
        self._states[:] = self.state
        try:
            while self._slice() == s.PAUSED:
                if on_pause is not None:
                    on_pause()
        except DivergenceError:
            raise
        except BaseException:
            self._finish_update()
            raise

    def _finish_update(self) -> None:
        """Finish a step that has begun to change parameters; forget any other half step."""
        # The interruption may have come between the end of a slice and this copy of its state.
        self.state[:] = self._states[0]
        begun = self.update_begins is not None and self.state[s.POSITION] >= self.update_begins
        while begun and self.state[s.POSITION] > 0:
            with contextlib.suppress(KeyboardInterrupt):
                self._slice(finish=True)
        self.state[[s.POSITION, s.PIECE]] = 0

    def _slice(self, finish: bool = False) -> int:
        """One call into compiled code: why it came back. The next budget follows its duration.

        With `finish`, the least that can be done: an op, or a piece of one.
        """
        self.state[s.BUDGET] = 1 if finish else self._budget
        self.state[s.SHARED] = self._scratch.shared_address
        self._scratch.clear_flag()
        self._states[:] = self.state
        self._states[:, s.WORKSPACE] = self._scratch.workspace_address + s.WORKSPACE_BYTES * (
            np.arange(len(self._states))
        )
        begin = time.perf_counter()
        if self.team is None:
            self._run(0)
        else:
            self.team.run(self._run)
        seconds = time.perf_counter() - begin
        self.state[:] = self._states[0]
        if not finish:
            done = self._budget - int(self.state[s.BUDGET])
            wanted = int(done * SLICE_SECONDS / max(seconds, 1e-6))
            self._budget = min(max(wanted, 1), 4 * self._budget)
        status = int(self.state[s.STATUS])
        if status == s.DIVERGED:
            updating = self.update_begins is not None and (
                self.state[s.POSITION] >= self.update_begins
            )
            self.state[[s.POSITION, s.PIECE]] = 0
            raise diverged(int(self.state[s.STEP]), "a gradient" if updating else "the loss")
        return status

    def _run(self, rank: int) -> None:
        state = self._states[rank]
        _call(
            self._function,
            self.code.ctypes.data,
            len(self.code),
            state.ctypes.data,
            rank,
            len(self._states),
        )
