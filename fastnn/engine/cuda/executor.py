"""Programs on a device: linked once, then whole epochs of steps, each one launch of a graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.engine.compiler import Report
from fastnn.engine.cpu import SLICE_SECONDS, diverged
from fastnn.engine.cuda import blas, many_steps, narrow
from fastnn.engine.cuda.device import Graph, Launched, Memory, Work, launch_of
from fastnn.engine.cuda.many_steps import lengths_of
from fastnn.engine.cuda.mirror import Mirror
from fastnn.engine.cuda.workspace import workspace_bytes, workspace_for
from fastnn.engine.fusion import activation_of
from fastnn.engine.operands import Call, bits_of
from fastnn.engine.program import Buffer, Program
from fastnn.kernels import state as s
from fastnn.kernels.cuda.launch import Launch, followed_by
from fastnn.kernels.cuda.parts import STEPS
from fastnn.kernels.cuda.slots import STATE_SLOTS

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

KEPT_GRAPHS = 8
"""Graphs that a linked program keeps: arrays that lie on a GPU come back to a few places."""

_FIRST_STEPS = 8
"""Steps of the first slice, from whose duration follow those of the next."""


class Bound(NamedTuple):
    """Where an outside array lies on the device, 0 if it is left out, and how many rows it has."""

    address: int
    rows: int


class Linked:
    """A program on a device, with memory of its own for a batch's rows and for outside arrays.

    Parameters
    ----------
    program : Program
    mirror : Mirror
        Where arrays are that the program names itself.
    precision : str
        What the factors of products may be rounded to, see `launch.PRECISIONS`.
    """

    def __init__(self, program: Program, mirror: Mirror, precision: str) -> None:
        self.program, self.mirror, self.device = program, mirror, mirror.device
        self._precision = precision
        self._arena = self.device.allocate(max(program.arena_bytes, 1))
        self._state = self.device.allocate(8 * STATE_SLOTS)
        self._workspace = workspace_for(self.device, self._state.address, 0)
        self._steps_at_once = 1
        self._held: dict[str, Memory] = {}
        self._bound: dict[str, Bound] = {}
        self._graphs: dict[tuple[tuple[str, Bound], ...], tuple[Graph, Graph]] = {}

    def wanted(self, name: str, size: int) -> int:
        """How much more device memory `place` would take."""
        held = self._held.get(name)
        return 0 if held is not None and held.size >= size else size

    def place(self, name: str, size: int) -> int:
        """The address of `size` bytes of device memory for the outside array called `name`."""
        held = self._held.get(name)
        if held is None or held.size < size:
            self._held.pop(name, None)  # given back before more is asked for
            held = self._held[name] = self.device.allocate(max(size, 1))
        return held.address

    def bind(self, arrays: Mapping[str, Bound], report: Report | None = None) -> None:
        """Let the program find its outside arrays at these places; `report`: see `prepare`."""
        self._bound = dict(arrays)
        places = tuple(self._bound.items())
        kept = self._graphs.pop(places, None)
        while len(self._graphs) >= KEPT_GRAPHS:
            del self._graphs[next(iter(self._graphs))]
        self._graphs[places] = self._graph, self._whole = kept or self._prepared(report)

    def _prepared(self, report: Report | None) -> tuple[Graph, Graph]:
        """Graphs of a step of any number of rows, and of all that the program has."""
        launches = self._launches()
        few = self._in_few(launches)
        if few is None:
            by_library = self._launches(whole=True)
        else:
            launches = by_library = few
        wanted = workspace_bytes([*launches, *by_library])
        if wanted > self._workspace.size:
            self._workspace = workspace_for(self.device, self._state.address, wanted)
        graph = self.device.prepare(launches, report)
        if by_library == launches:
            return graph, graph
        return graph, self.device.prepare(by_library, report)

    def _launches(self, whole: bool = False) -> list[Work]:
        """What a step consists of; if its batch is `whole`, wide products are the library's."""
        launches: list[Work] = []
        for position, call in enumerate(self.program.calls):
            product = self._product(call) if whole else None
            own = call if product is None else blas.rest_of(call)
            launches += [] if product is None else [product]
            launches += [] if own is None else [self._launched(position, own)]
        return [*launches, Launched(("next_step",), Launch((1, 1), 1), [self._state.address])]

    def _in_few(self, launches: Sequence[Work]) -> list[Work] | None:
        """What does a step of training of a small network, or many; None for other programs."""
        program, state, self._steps_at_once = self.program, self._state.address, 1
        if not program.training:
            return None
        way = many_steps.way_of(program.calls, program.rows, self._precision, self.device)
        if way.name == many_steps.TWO:
            on_device = state, self.device.most_shared, self._address_of
            return narrow.in_two(program, launches, self._precision, *on_device)
        own = [one for one in launches[:-1] if isinstance(one, Launched)]
        if way.name == many_steps.BLOCK:
            one = many_steps.by_block(program.calls, own, state)
        elif way.name == many_steps.COOPERATIVE:
            grid, place_of = self.device.grid, self._place_of
            one = many_steps.by_grid(program.calls, own, program.rows, grid, place_of, state)
        else:
            return None
        self._steps_at_once = STEPS
        return [one]

    def _place_of(self, array: Any) -> tuple[int, int]:
        """Where an operand begins and ends; arrays from outside do not overlap."""
        begin = self._address_of(array)
        if isinstance(array, Buffer):
            size = 1 if array.name is not None else array.size(self.program.rows)
        else:
            size = array.nbytes
        return begin, begin + size

    def _address_of(self, value: Any) -> int:
        """Where an operand begins."""
        if not isinstance(value, Buffer):
            return self.mirror.address_of(value)
        if value.name is not None:
            return self._bound[value.name].address
        places, _ = self.program.plan()
        return self._arena.address + places[id(value.root)]

    def _product(self, call: Call) -> blas.BlasCall | None:
        """A call as a product that the library has an algorithm for, if it is one."""
        product = blas.product_of(call, self.program.rows, self._address_of, self._precision)
        library = self.device.library if product is not None else None
        return product if product is not None and library and library.supports(product) else None

    def _launched(self, position: int, call: Call) -> Launched:
        rows, address_of = self.program.rows, self._address_of
        addresses = [address_of(array) for array in call.arrays.values() if array is not None]
        aligned = all(address % 16 == 0 for address in addresses)
        launch = launch_of(call.key, lengths_of(call, rows), aligned, self._precision)
        parameter = 0
        if call.finish:
            name = activation_of(call, call.finish[0])
            launch = launch._replace(constants=followed_by(launch.constants, str(name)))
            parameter = bits_of(float(call.finish[0].scalars.get("parameter") or 0.0))
        words = call.integers(address_of, lambda function: 0, parameter, rows)
        for operand in call.signature.arrays:
            array, letter = call.arrays[operand.name], operand.dimensions[0]
            if isinstance(array, Buffer) and array.name is not None and letter != "N":
                # How many rows an outside array has is not known before it is bound.
                place = call.signature.dimensions.index(letter)
                words[place] = max(words[place], self._bound[array.name].rows)
        return Launched(call.key, launch, [*words, call.phase, position, self._state.address])

    def run(self, steps: int, whole: int) -> None:
        """Begin to do so many steps, of which the first `whole` take all of the program's rows.

        Where a launch does many, it may do more of the epoch's than are asked for.
        """
        if self._steps_at_once > 1:
            self._graph.run(-(-steps // self._steps_at_once))
            return
        self._whole.run(whole)
        self._graph.run(steps - whole)

    def write_state(self, state: npt.NDArray[np.int64]) -> None:
        """Let the next steps go on from `state`, with no flag raised."""
        self.device.write(self._state.address, np.append(state, np.zeros(s.SHARED_SLOTS, np.int64)))

    def read_state(self, state: npt.NDArray[np.int64]) -> int:
        """Update `state` from the device; the flag that is raised there, 0 if none is."""
        read = np.empty(s.SLOTS + s.SHARED_SLOTS, np.int64)
        self.device.read(self._state.address, read)
        state[:] = read[: s.SLOTS]
        shared = read[s.SLOTS :]
        return int(shared[s.SHARED_FLAG] or shared[s.SHARED_LATE_FLAG])


class Run:
    """Steps of a linked program, as `cpu.Run` has them.

    Whole steps are all that is ever begun: whenever Python looks, state and parameters on the
    device are those of some number of them.

    Parameters
    ----------
    linked : Linked
    state : ndarray
        The state that it goes on from and keeps up to date.
    """

    def __init__(self, linked: Linked, state: npt.NDArray[np.int64]) -> None:
        self._linked, self.state = linked, state
        self._steps = _FIRST_STEPS

    def epoch(
        self,
        total: int,
        batch: int,
        on_pause: Callable[[], bool] | None = None,
        first: int = 0,
    ) -> None:
        """Run whole steps of `batch` rows until `total` rows are done, the last step with the rest.

        See `cpu.Run.epoch`.
        """
        state = self.state
        state[s.FIRST], state[s.TOTAL], state[s.BATCH] = first, total, batch
        state[s.ROWS], state[s.STATUS] = min(batch, total - first), s.PAUSED
        if first >= total:
            return
        self._linked.write_state(state)
        while state[s.FIRST] < total:
            left = -(-(total - int(state[s.FIRST])) // batch)
            self._slice(min(self._steps, left), total, batch)
            if on_pause is not None and on_pause():
                break

    def _slice(self, steps: int, total: int, batch: int) -> None:
        """Do so many steps; the next slice's number follows from how long they took."""
        begin = time.perf_counter()
        complete = (total - int(self.state[s.FIRST])) // batch
        whole = min(steps, complete) if batch == self._linked.program.rows else 0
        self._linked.run(steps, whole)
        flag = self._linked.read_state(self.state)
        seconds = max(time.perf_counter() - begin, 1e-6)
        if flag:
            late = self._linked.program.calls[flag - 1].phase != s.GRADIENT
            raise diverged(int(self.state[s.STEP]), "a gradient" if late else "the loss")
        wanted = int(steps * SLICE_SECONDS / seconds)
        self._steps = min(max(wanted, 1), 4 * self._steps)

    def catch_up(self) -> None:
        """Bring `state` up to date after an interruption."""
        self._linked.read_state(self.state)
