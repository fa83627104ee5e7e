"""Passes over the data on a GPU."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine.compiler import Report
from fastnn.engine.cuda import many_steps
from fastnn.engine.cuda.arrays import DeviceArray
from fastnn.engine.cuda.device import Device
from fastnn.engine.cuda.executor import Bound, Linked, Run
from fastnn.engine.cuda.feeding import Feeder
from fastnn.engine.cuda.mirror import Mirror
from fastnn.kernels import state as s
from fastnn.training.loop import KEPT_RUNS, Pause, Step, program_of
from fastnn.training.planner import Sources

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    State = npt.NDArray[np.int64]

ANEW = ("order", "rates", "scales", "sums")
"""Sources that each epoch finds changed."""

WRITTEN = ("out", "sums")
"""Sources that steps write."""


class CudaStep:
    """A step's program, see `program_of`, and what passes over it have left."""

    def __init__(
        self,
        step: Step,
        like: Sources,
        rows: int,
        dtype: str,
        training: bool,
        mirror: Mirror,
        precision: str,
    ) -> None:
        self.program = program_of(step, like, rows, dtype, training)
        self.program.fuse_activations()
        if training:
            way = many_steps.way_of(self.program.calls, rows, precision, mirror.device)
            if way.name == many_steps.COOPERATIVE:
                self.program.keep_apart()
        self.mirror, self.training, self._precision = mirror, training, precision
        self._idle: list[Linked] = []

    def link(self) -> Linked:
        """A linked copy that nothing else uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return Linked(self.program, self.mirror, self._precision)

    def put_back(self, linked: Linked) -> None:
        """Take back what `link` gave."""
        if len(self._idle) < KEPT_RUNS:
            self._idle.append(linked)


def said_of_ways(
    step: Step, like: Sources, dtype: str, precision: str, device: Device
) -> list[str]:
    """Lines that say which way steps of training go, by a batch's rows, and why."""
    program = program_of(step, like, 1, dtype, training=True)
    program.fuse_activations()
    # The thresholds stand in `ways`.
    lines = [f"steps of training on {device.name}, by a batch's rows (predicted, not measured):"]
    for first, last, way in many_steps.ways_of(program.calls, precision, device):
        rows = f"from {first:,}" if last is None else f"{first:,} to {last:,}"
        lines.append(f"  {rows}: {way}")
    return lines


ROWS = ("x", "targets", "weights")
"""Sources that steps gather rows from."""

RESIDENT_SHARE = 0.8
"""The most that whole arrays may take of the device memory that is free."""


class CudaPass:
    """A step over whole arrays on a GPU, which are there, or are brought chunk by chunk."""

    def __init__(
        self, step: CudaStep, sources: Sources, state: State, report: Report | None = None
    ) -> None:
        self._report = report
        self._step, self._sources, self._state = step, sources._asdict(), state
        self._mirror, self._device = step.mirror, step.mirror.device
        self._feeder: Feeder | None = None
        self._copied = state.copy()

    def __enter__(self) -> CudaPass:
        """Copy the arrays to the device; the model follows with every epoch.

        Raises
        ------
        MemoryError
            If there is not room for a batch.
        """
        try:
            self._linked = self._step.link()
            self._bound = self._places()
            if self._feeder is None:
                self._linked.bind(self._bound, self._report)
        except MemoryError as error:
            raise MemoryError(f"{error}; {self._advice()}") from None
        self._run = Run(self._linked, self._state)
        return self

    def _places(self) -> dict[str, Bound]:
        """Where the arrays are, with those that steps only read copied there."""
        given = {name: a for name, a in self._sources.items() if a is not None}
        streamed: list[str] = []
        there = {name for name, array in given.items() if isinstance(array, DeviceArray)}
        size = sum(self._linked.wanted(name, given[name].nbytes) for name in given.keys() - there)
        if not there and size > self._device.memory()[0] * RESIDENT_SHARE:
            streamed = [name for name in given if name in (*ROWS, "out", "order")]
            rows = {name: given[name] for name in given if name in ROWS}
            self._feeder = Feeder(self._device, rows, given.get("out"), self._step.program.rows)
        bound = dict.fromkeys(self._sources, Bound(0, 0))
        for name, array in given.items():
            if name in streamed:
                continue
            if name in there:
                bound[name] = Bound(array.address, len(array))
                continue
            bound[name] = Bound(self._linked.place(name, array.nbytes), len(array))
            if name not in (*ANEW, *WRITTEN):
                self._device.write(bound[name].address, np.ascontiguousarray(array))
        return bound

    def _advice(self) -> str:
        """What would fit."""
        program, free = self._step.program, self._device.memory()[0]
        rows = int(free / max(1.0, program.arena_bytes / program.rows))
        if 0 < rows < program.rows:
            return f"a batch of {rows} rows would fit, not one of {program.rows}"
        return f"a batch of {program.rows} rows takes {program.arena_bytes:,} of them"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the host have the model as it then is, or was when it was last copied there."""
        try:
            if not self._device.lost:
                self._publish()
        finally:
            if self._device.lost:
                self._state[:], self._mirror.ahead = self._copied, False
            if self._feeder is not None:
                self._feeder.close()
        self._step.put_back(self._linked)

    def _publish(self) -> None:
        if self._step.training and self._mirror.ahead:
            self._run.catch_up()  # an interruption may have come before it
            self._mirror.to_host()
            self._copied[:] = self._state

    def epoch(
        self,
        total: int,
        batch: int,
        on_pause: Pause | None = None,
        first: int = 0,
        unseen: bool = False,
    ) -> None:
        """Run the program on `batch` rows after the other until `total` are done."""
        self._mirror.to_device()
        for name in ANEW:
            self._write(name)
        if self._step.training:
            self._mirror.ahead = True

        def pause() -> bool:
            self._read("sums")
            return on_pause is not None and on_pause()

        if self._feeder is None:
            self._run.epoch(total, batch, pause, first)
        else:
            self._fed_epoch(self._feeder, total, batch, pause, first)
        for name in WRITTEN:
            self._read(name)
        if not unseen:
            self._publish()

    def _fed_epoch(
        self, feeder: Feeder, total: int, batch: int, on_pause: Pause, first: int
    ) -> None:
        """The same with rows that are brought chunk by chunk."""
        feeder.begin(self._sources["order"], total)
        while first < total:
            chunk = first // feeder.rows
            last = min((chunk + 1) * feeder.rows, total)
            self._linked.bind(self._bound | feeder.bring(chunk), self._report)
            self._run.epoch(last, batch, on_pause, first)
            feeder.fetch(chunk, last)
            if int(self._state[s.FIRST]) < last:
                return
            first = last

    def _write(self, name: str) -> None:
        array = self._sources[name]
        if array is not None and self._bound[name].address:
            self._device.write(self._bound[name].address, np.ascontiguousarray(array))

    def _read(self, name: str) -> None:
        array = self._sources[name]
        if array is not None and not isinstance(array, DeviceArray) and self._bound[name].address:
            self._device.read(self._bound[name].address, array)
