"""Whole passes over the data: compiled programs, or a loop in Python for layers that need it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fastnn.engine import arena, cpu
from fastnn.engine.program import Program
from fastnn.engine.tape import Eager, Tape
from fastnn.engine.threads import get_num_threads
from fastnn.kernels import state as s
from fastnn.training.planner import Sources

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    State = npt.NDArray[np.int64]

Step = Callable[[Tape, Sources], None]
"""Puts one step on a tape, given where its rows come from."""

Pause = Callable[[], None]
"""Called every few milliseconds during a pass."""


class Pass(Protocol):
    """A step made ready to be run over whole arrays, any number of times."""

    def epoch(self, total: int, batch: int, on_pause: Pause | None = None) -> None:
        """Run the step on `batch` rows after the other until `total` are done."""

    def __enter__(self) -> Pass:
        """Take memory and threads."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back."""


def compile_step(step: Step, like: Sources, rows: int, dtype: str, training: bool) -> Program:
    """The program of a step, for batches of up to `rows` rows.

    `like` has the element types and row shapes of the arrays that it will be run over.
    """
    program = Program(rows, dtype, training)
    handles = [
        # How many rows an outside array has is not known here, and never looked at.
        None if array is None else program.external(name, (0, *array.shape[1:]), str(array.dtype))
        for name, array in zip(Sources._fields, like, strict=True)
    ]
    step(program, Sources(*handles))
    program.fuse()
    return program


class CompiledPass:
    """A program linked to arrays, on an arena that no other pass is using."""

    def __init__(self, program: Program, sources: Sources, state: State) -> None:
        self._program, self._sources, self._state = program, sources, state

    def __enter__(self) -> CompiledPass:
        """Take an arena, and threads where the work is worth them."""
        program = self._program
        try:
            self._memory = program.idle_arenas.pop()
        except IndexError:
            self._memory = arena.allocate(program.arena_bytes)
        code = program.link(self._memory, self._sources._asdict())
        threads = get_num_threads()
        large = threads > 1 and program.cost() >= cpu.TEAM_COST
        self._team = cpu.Team(threads) if large else None
        try:
            self._run = cpu.Run(code, self._state, self._team)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back."""
        if self._team is not None:
            self._team.close()
        self._program.idle_arenas.append(self._memory)

    def epoch(self, total: int, batch: int, on_pause: Pause | None = None) -> None:
        """Run the program on `batch` rows after the other until `total` are done."""
        self._run.epoch(total, batch, on_pause)


class EagerPass:
    """The same in Python, batch by batch."""

    def __init__(
        self, step: Step, sources: Sources, state: State, dtype: str, training: bool
    ) -> None:
        self._step, self._sources, self._state = step, sources, state
        self._dtype, self._training = dtype, training

    def __enter__(self) -> EagerPass:
        """Nothing is to be taken."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is to be given back."""

    def epoch(self, total: int, batch: int, on_pause: Pause | None = None) -> None:
        """Run the step on `batch` rows after the other until `total` are done."""
        state = self._state
        state[s.FIRST], state[s.TOTAL], state[s.BATCH] = 0, total, batch
        while state[s.FIRST] < total:
            state[s.STATUS] = s.PAUSED
            tape = Eager(
                min(batch, total - int(state[s.FIRST])), self._dtype, state, self._training
            )
            self._step(tape, self._sources)
            if tape.stopped and self._training:
                raise cpu.diverged(int(state[s.STEP]), "the loss or a gradient")
            if not self._training:  # else the step's last op has counted it
                state[s.FIRST] += tape.rows
            if on_pause is not None:
                on_pause()
