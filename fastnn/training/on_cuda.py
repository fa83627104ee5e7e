"""Passes over the data on a GPU."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine.cuda.executor import Bound, Linked, Run
from fastnn.engine.cuda.mirror import Mirror
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
        self, step: Step, like: Sources, rows: int, dtype: str, training: bool, mirror: Mirror
    ) -> None:
        self.program = program_of(step, like, rows, dtype, training)
        self.program.fuse_relu()
        self.mirror, self.training = mirror, training
        self._idle: list[Linked] = []

    def link(self) -> Linked:
        """A linked copy that nothing else uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return Linked(self.program, self.mirror)

    def put_back(self, linked: Linked) -> None:
        """Take back what `link` gave."""
        if len(self._idle) < KEPT_RUNS:
            self._idle.append(linked)


class CudaPass:
    """A step over whole arrays on a GPU."""

    def __init__(self, step: CudaStep, sources: Sources, state: State) -> None:
        self._step, self._sources, self._state = step, sources._asdict(), state
        self._mirror = step.mirror

    def __enter__(self) -> CudaPass:
        """Copy the model and the arrays to the device."""
        self._mirror.to_device()
        self._linked = linked = self._step.link()
        self._bound = {
            name: Bound(0, 0)
            if array is None
            else Bound(linked.place(name, array.nbytes), len(array))
            for name, array in self._sources.items()
        }
        for name, array in self._sources.items():
            if array is not None and name not in (*ANEW, *WRITTEN):
                linked.device.write(self._bound[name].address, np.ascontiguousarray(array))
        linked.bind(self._bound)
        self._run = Run(linked, self._state)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the host have the model as it then is."""
        self._publish()
        self._step.put_back(self._linked)

    def _publish(self) -> None:
        if self._step.training and self._mirror.ahead:
            self._run.catch_up()  # an interruption may have come before it
            self._mirror.to_host()

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

        self._run.epoch(total, batch, pause, first)
        for name in WRITTEN:
            self._read(name)
        if not unseen:
            self._publish()

    def _write(self, name: str) -> None:
        array = self._sources[name]
        if array is not None:
            self._linked.device.write(self._bound[name].address, np.ascontiguousarray(array))

    def _read(self, name: str) -> None:
        array = self._sources[name]
        if array is not None:
            self._linked.device.read(self._bound[name].address, array)
