"""The CPU executor: compiled steps on one thread or a team, in slices of a few milliseconds.

A slice is one call into compiled code, which holds no lock of Python's. Between slices Python
lives: progress, Ctrl-C. A slice ends after an amount of work that is adjusted to take
`SLICE_SECONDS`; it can end in the middle of a step, which the next one takes up again.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine import arena, compiler
from fastnn.engine.shapes import TEAM_COST as TEAM_COST
from fastnn.engine.team import Contention
from fastnn.engine.team import Team as Team
from fastnn.kernels import state as s

if TYPE_CHECKING:
    import numpy.typing as npt

SLICE_SECONDS = 0.02
"""How long compiled code keeps Python waiting; Ctrl-C is heard after a slice at the latest."""

LEAST_BLOCK_BYTES, MOST_BLOCK_BYTES = 1 << 17, s.MOST_BLOCK_BYTES
"""Bounds of `block_bytes`."""

_FIRST_BUDGET = 2_000_000

# status = op(result*, exception**, operands, state, rank, team)
_OP = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)
# status = run_steps(result*, exception**, code, ops, state, rank, team)
_RUN = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 5)
# The same for arguments that are C objects already: to convert seven costs a microsecond.
_PREPARED = ctypes.CFUNCTYPE(ctypes.c_int32)


class DivergenceError(ArithmeticError):
    """The loss or a gradient became infinite or NaN.

    Attributes
    ----------
    step : int
        The training step, from 0, in which it did. Weights are those with which that step began;
        only where the update itself overflows have the other elements been updated.
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
    floats(state)[s.PENALTY_SCALE] = 1.0
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


@cache
def block_bytes() -> int:
    """Bytes of a product's blocks: a quarter of the L2 cache, where the system tells its size.

    A power of two, so that machines of one kind, which tell it more or less exactly, cut alike.
    """
    size = 0
    if hasattr(os, "sysconf"):
        with contextlib.suppress(ValueError, OSError):
            size = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    share = (size if size > 0 else 1 << 20) // 4
    return min(max(1 << (share.bit_length() - 1), LEAST_BLOCK_BYTES), MOST_BLOCK_BYTES)


class Scratch:
    """What a run needs besides its program: the shared block, each thread's workspace."""

    def __init__(self, team: int) -> None:
        shared_bytes = 8 * s.SHARED_SLOTS
        self._memory = arena.allocate(shared_bytes + team * s.WORKSPACE_BYTES)
        self.shared_address = self._memory.ctypes.data
        self.workspace_address = self.shared_address + shared_bytes
        self._shared = self._memory[:shared_bytes].view(np.int64)
        self._shared[s.SHARED_YIELD] = _yield_address()

    def clear(self) -> None:
        """Forget that an op met a value that is not finite."""
        self._shared[s.SHARED_FLAG] = 0

    def lend(self, state: npt.NDArray[np.int64]) -> None:
        """Let `state` point here."""
        state[s.SHARED], state[s.WORKSPACE] = self.shared_address, self.workspace_address
        state[s.BLOCK_BYTES] = block_bytes()

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


def check_status(status: int) -> None:
    """Refuse what a compiled function returns only if it failed, which none of fastnn's can."""
    if status != 0:
        raise SystemError(f"a compiled op ended with status {status}")


def _call(function: Any, *arguments: int) -> None:
    result, exception = ctypes.c_int64(), ctypes.c_void_p()
    check_status(function(ctypes.addressof(result), ctypes.addressof(exception), *arguments))


def call_op(function: int, operands: npt.NDArray[np.int64], state: npt.NDArray[np.int64]) -> None:
    """Run one op on this thread."""
    _call(_OP(function), operands.ctypes.data, state.ctypes.data, 0, 1)


def call_program(
    code: npt.NDArray[np.int64], state: npt.NDArray[np.int64], rank: int = 0, team: int = 1
) -> None:
    """Run a linked program, as one thread of a team, until the executor returns."""
    function = _RUN(compiler.address(("run_steps",)))
    _call(function, code.ctypes.data, len(code), state.ctypes.data, rank, team)


def prepared(
    code: npt.NDArray[np.int64], state: npt.NDArray[np.int64], rank: int = 0, team: int = 1
) -> Callable[[], int]:
    """`call_program` as a function without arguments that returns the status, 0 if all is well.

    It is the cheapest way to make the same call often. `code` and `state` must outlive it.
    """
    integers = (code.ctypes.data, len(code), state.ctypes.data, rank, team)
    return _without_arguments(compiler.address(("run_steps",)), integers)


def _without_arguments(function: int, integers: tuple[int, ...]) -> Callable[[], int]:
    return functools.partial(
        _PREPARED(function),
        ctypes.byref(ctypes.c_int64()),
        ctypes.byref(ctypes.c_void_p()),
        *map(ctypes.c_int64, integers),
    )


def prepared_op(
    function: int, operands: npt.NDArray[np.int64], state: npt.NDArray[np.int64]
) -> Callable[[], int]:
    """`call_op` in the same form."""
    integers = (operands.ctypes.data, state.ctypes.data, 0, 1)
    return _without_arguments(function, integers)


class Run:
    """A linked program being run.

    Compiled code itself keeps `state` up to date, together with the parameters: whenever Python
    looks, and wherever an interruption ends a run, both are those of some number of whole steps.

    Parameters
    ----------
    code : ndarray
        The linked program.
    state : ndarray
        The state that it goes on from and keeps up to date.
    team : Team or None
        The threads to run on; None: the caller's.
    scratch : Scratch or None
        One thread's, where the caller keeps it; None: a new one, for as many as there are.
    """

    def __init__(
        self,
        code: npt.NDArray[np.int64],
        state: npt.NDArray[np.int64],
        team: Team | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        self.code, self.state, self.team = code, state, team
        size = team.size if team is not None else 1
        self._scratch = scratch if scratch is not None and size == 1 else Scratch(size)
        self._others = np.zeros((size - 1, s.SLOTS), np.int64)
        self._alone = prepared(code, state)
        self._calls = [
            prepared(code, own, rank, size)
            for rank, own in enumerate((state, *self._others))
            if team is not None
        ]
        self._contention = Contention()
        self._by_one = team is None
        self._shares = [1.0] * size
        self._budget = _FIRST_BUDGET

    def epoch(
        self,
        total: int,
        batch: int,
        on_pause: Callable[[], bool] | None = None,
        first: int = 0,
    ) -> None:
        """Run whole steps of `batch` rows until `total` rows are done, the last step with the rest.

        The first step begins with row `first`. `on_pause` is called between slices. If it returns
        True the step under way is the last one: FIRST says how many rows are done. Whatever it
        raises, and Ctrl-C, is passed on.

        Raises
        ------
        DivergenceError
            If a loss, a gradient or a new weight was not finite.
        """
        state = self.state
        state[s.POSITION] = state[s.PIECE] = 0
        state[s.FIRST], state[s.TOTAL], state[s.BATCH] = first, total, batch
        if first >= total:
            return
        # Not between slices: one may end while an op in pieces has met such a value.
        self._scratch.clear()
        while self._slice() == s.PAUSED:
            if on_pause is not None and on_pause():
                state[s.TOTAL] = min(state[s.TOTAL], state[s.FIRST] + batch)

    def _slice(self) -> int:
        """One call into compiled code: why it came back. The next budget follows its duration."""
        self._scratch.lend(self.state)
        self.state[s.BUDGET] = self._budget
        if self.state[s.PIECE] == 0:  # else an op goes on in the pieces in which it began
            self._by_one = self.team is None or self._contention.alone
        team = None if self._by_one else self.team
        begin = time.perf_counter()
        if team is None:
            check_status(self._alone())
        else:
            self._others[:] = self.state
            self._others[:, s.WORKSPACE] += s.WORKSPACE_BYTES * np.arange(1, team.size)
            team.run(self._run)
        seconds = max(time.perf_counter() - begin, 1e-6)
        done = self._budget - int(self.state[s.BUDGET])
        if self.team is not None:
            self._contention.look(done / seconds, min(self._shares))
        wanted = int(done * SLICE_SECONDS / seconds)
        self._budget = min(max(wanted, 1), 4 * self._budget)
        status = int(self.state[s.STATUS])
        if status == s.DIVERGED:
            late = self.code[self.state[s.POSITION], s.CODE_PHASE] != s.GRADIENT
            raise diverged(int(self.state[s.STEP]), "a gradient" if late else "the loss")
        return status

    def _run(self, rank: int) -> None:
        begin, ran = time.perf_counter(), time.thread_time()
        check_status(self._calls[rank]())
        seconds = max(time.perf_counter() - begin, 1e-6)
        self._shares[rank] = (time.thread_time() - ran) / seconds
