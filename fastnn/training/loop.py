"""Whole passes over the data: compiled programs, or a loop in Python for layers that need it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fastnn.engine import compiler, cpu
from fastnn.engine.linking import Linked
from fastnn.engine.program import Program
from fastnn.engine.tape import Eager, Tape
from fastnn.engine.threads import get_num_threads
from fastnn.kernels import state as s
from fastnn.training.planner import Sources

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    Array = npt.NDArray[Any]
    State = npt.NDArray[np.int64]

Step = Callable[[Tape, Sources], None]
"""Puts one step on a tape, given where its rows come from."""

Pause = Callable[[], bool]
"""Called every few milliseconds during a pass: whether to end it with the step under way."""


class Pass(AbstractContextManager["Pass"], Protocol):
    """A step made ready to be run over whole arrays, any number of times.

    What it needs, memory and threads, it has within a ``with`` block.
    """

    def epoch(
        self,
        total: int,
        batch: int,
        on_pause: Pause | None = None,
        first: int = 0,
        unseen: bool = False,
    ) -> None:
        """Run the step on `batch` rows after the other until `total` are done, `first` being so.

        The state's FIRST says how many are: fewer than `total`, if `on_pause` so wanted. `unseen`:
        nobody looks at the model before the next call or the block's end, so that a GPU need not
        copy it back.
        """


class NothingTaken:
    """What needs nothing that a ``with`` block would have to take or give back."""

    def __enter__(self) -> Self:
        """Nothing is to be taken."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be given back."""


KEPT_RUNS = 8
"""Linked copies of a step that are kept for passes to come; more are made while more passes run."""


TEAM_STEPS = 4
"""A pass of less work than so many of the smallest steps that a team is given is not worth the
start of its threads."""


def program_of(
    step: Step, like: Sources, rows: int, dtype: str, training: bool, at_once: bool = False
) -> Program:
    """The step's program, for batches of up to `rows` rows.

    With `at_once` rows are read where they lie: `x` then is the batch itself.

    Parameters
    ----------
    step : Step
    like : Sources
        Arrays with the element types and row shapes of those that it will be run over.
    rows : int
    dtype : str
        Element type of the network.
    training : bool
    at_once : bool
    """
    program = Program(rows, dtype, training)
    # How many rows an outside array has is not known here, and never looked at.
    lengths = {name: None if at_once and name == "x" else 0 for name in Sources._fields}
    handles = [
        None if a is None else program.external(name, (lengths[name], *a.shape[1:]), str(a.dtype))
        for name, a in zip(Sources._fields, like, strict=True)
    ]
    step(program, Sources(*handles))
    return program


class CompiledStep:
    """A step's program, see `program_of`, and what passes over it have left."""

    def __init__(
        self,
        step: Step,
        like: Sources,
        rows: int,
        dtype: str,
        training: bool,
        at_once: bool = False,
    ) -> None:
        self.program = program_of(step, like, rows, dtype, training, at_once)
        by_team = self.program.cost() >= cpu.TEAM_COST and get_num_threads() > 1
        self.program.fuse(team=by_team)
        self.cost = self.program.cost()
        self._bound = {n: a is not None for n, a in zip(Sources._fields, like, strict=True)}
        self._idle: list[Linked] = []
        self._ready = False

    def prepare(self, report: compiler.Report | None) -> None:
        """Have all ops compiled that it needs."""
        if not self._ready:
            orders = [("shuffle", "float64")] if self._bound["order"] else []
            compiler.prepare([*self.program.needs, *orders, ("run_steps",)], report)
            self._ready = True

    def link(self) -> Linked:
        """A linked copy that nothing else uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return Linked(self.program, self._bound)

    def put_back(self, linked: Linked) -> None:
        """Take back what `link` gave."""
        if len(self._idle) < KEPT_RUNS:
            self._idle.append(linked)


class CompiledPass:
    """A compiled step over whole arrays, on an arena that no other pass is using."""

    def __init__(self, step: CompiledStep, sources: Sources, state: State) -> None:
        self._step, self._sources, self._state = step, sources, state
        self._team: cpu.Team | None = None

    def __enter__(self) -> CompiledPass:
        """Take an arena, and threads where the work is worth them."""
        self._linked = linked = self._step.link()
        linked.bind(self._sources._asdict())
        cost, rows = self._step.cost, self._step.program.rows
        total = cost * -(-self._sources.rows // rows)
        large = cost >= cpu.TEAM_COST and total >= TEAM_STEPS * cpu.TEAM_COST
        if large and (threads := get_num_threads()) > 1:
            self._team = cpu.Team(threads)
        try:
            self._run = cpu.Run(linked.code, self._state, self._team, linked.scratch)
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
        self._step.put_back(self._linked)

    def epoch(
        self,
        total: int,
        batch: int,
        on_pause: Pause | None = None,
        first: int = 0,
        unseen: bool = False,
    ) -> None:
        """Run the program on `batch` rows after the other until `total` are done."""
        self._run.epoch(total, batch, on_pause, first)


class EagerPass(NothingTaken):
    """The same in Python, batch by batch."""

    def __init__(
        self, step: Step, sources: Sources, state: State, dtype: str, training: bool
    ) -> None:
        self._step, self._sources, self._state = step, sources, state
        self._dtype, self._training = dtype, training

    def epoch(
        self,
        total: int,
        batch: int,
        on_pause: Pause | None = None,
        first: int = 0,
        unseen: bool = False,
    ) -> None:
        """Run the step on `batch` rows after the other until `total` are done."""
        state = self._state
        state[s.FIRST], state[s.TOTAL], state[s.BATCH] = first, total, batch
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
            if on_pause is not None and on_pause():
                break
