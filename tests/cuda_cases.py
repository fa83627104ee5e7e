"""Examples of ops, run on a GPU or by Numba's simulator of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.engine import cpu
from fastnn.engine.cuda import blas
from fastnn.engine.cuda.device import Launched, Work, at_most, launch_of
from fastnn.engine.cuda.workspace import workspace_bytes, workspace_for
from fastnn.engine.operands import Call
from fastnn.kernels import state as s
from fastnn.kernels.cuda.launch import Launch
from fastnn.kernels.cuda.slots import FLAG, LATE_FLAG, STATE_SLOTS
from fastnn.kernels.signatures import signature
from helpers import assert_close
from kernel_cases import Array, Example, Operands, Watched, poison

if TYPE_CHECKING:
    import pytest


def note_launches(monkeypatch: pytest.MonkeyPatch, note: Callable[[Launched], None]) -> None:
    """Have `note` called with all that the simulator launches."""
    from fastnn.engine.cuda import simulated

    run = simulated.run_kernel

    def noted(one: Launched) -> None:
        note(one)
        run(one)

    monkeypatch.setattr(simulated, "run_kernel", noted)


def without_product(key: tuple[str, ...]) -> int:
    """The address of a compiled function that CPU kernels call: none is needed here."""
    return 0


@dataclass
class Done:
    """What an op has made of its operands, their margins with them, and of the state."""

    operands: Operands
    watched: dict[str, Watched]
    state: NDArray[np.int64]

    @property
    def flags(self) -> tuple[int, int]:
        """The flag of an op before the update, and that of one of the update."""
        return int(self.state[FLAG]), int(self.state[LATE_FLAG])


def launch(
    device: Any,
    example: Example,
    in_place: bool = False,
    shift: int = 0,
    blocks: int = 1 << 20,
    threads: int = 1024,
    phase: int = s.GRADIENT,
    flag: int = 0,
    precision: str = "fp32",
    by_library: bool = False,
    like: Launch | None = None,
) -> Done:
    """Launch an example's op, at position 0, in that phase, where that flag has been raised.

    Factors of products may be rounded to that precision, or the library may multiply them.
    Where the kernel takes any grid, of at most so many `blocks` along x and so many `threads`; or
    `like` a launch for more rows.
    """
    watched = {n: Watched(v, shift) for n, v in example.inputs.items() if v is not None}
    for name, value in example.expected().items():
        if name not in watched and name not in example.written_floats:
            nothing = np.full(value.shape, poison(example.dtype), example.dtype)
            watched[name] = Watched(nothing, shift)
    operands: Operands = {name: w.array for name, w in watched.items()}
    if in_place:
        pair = signature(example.name).in_place
        assert pair is not None
        operands[pair[0]] = operands[pair[1]]
    # The margins go to the device, too: what is written there is seen.
    memory = {name: device.allocate(w.block.nbytes) for name, w in watched.items()}
    addresses = {}
    for name, w in watched.items():
        device.write(memory[name].address, w.block)
        addresses[id(w.array)] = memory[name].address + w.inside.start * w.array.itemsize
    state = np.concatenate([example.state(), np.zeros(s.SHARED_SLOTS, np.int64)])
    state[s.ROWS], state[FLAG] = example.rows, flag
    state_memory = device.allocate(8 * STATE_SLOTS)
    device.write(state_memory.address, state)
    call = Call(example.name, operands | example.scalars)
    aligned = all(address % 16 == 0 for address in addresses.values())

    def address_of(array: Any) -> int:
        return addresses[id(array)]

    def launched(call: Call) -> Launched:
        words = call.integers(address_of, without_product)
        how = like or _launch(call, example.rows, aligned, precision)
        how = at_most(call.key, how, blocks, threads)
        return Launched(call.key, how, [*words, phase, 0, state_memory.address])

    work: list[Work] = [launched(call)]
    if by_library:
        product = blas.product_of(call, example.rows, address_of, precision)
        rest = blas.rest_of(call)
        assert product is not None
        assert device.library.supports(product)
        work = [product, *([] if rest is None else [launched(rest)])]
    size = workspace_bytes(work)
    memory["workspace"] = workspace_for(device, state_memory.address, size)
    device.prepare(work).run()
    for name, w in watched.items():
        device.read(memory[name].address, w.block)
    device.read(state_memory.address, state)
    return Done(operands, watched, state)


def run(device: Any, example: Example, **how: Any) -> dict[str, Array]:
    """What an example's op writes: launched as `launch` says, it raises no flag."""
    done = launch(device, example, **how)
    operands = done.operands
    assert not done.state[s.SLOTS :].any(), "a flag is raised"
    overwritten = {id(operands[name]) for name in example.expected() if name in operands}
    for w in done.watched.values():
        if id(w.array) in overwritten:
            w.assert_margins_kept()
        else:
            w.assert_kept()
    results = {n: operands[n] for n in example.expected() if n not in example.written_floats}
    for name, slot in example.written_floats.items():
        results[name] = cpu.floats(done.state)[slot : slot + 1].copy()
    return results


def launch_for(example: Example, precision: str = "fp32") -> Launched:
    """What `run` launches for an example whose arrays are aligned, but for the words."""
    outputs = {
        name: np.empty(value.shape, example.dtype)
        for name, value in example.expected().items()
        if name not in example.written_floats
    }
    inputs = {name: value for name, value in example.inputs.items() if value is not None}
    call = Call(example.name, outputs | inputs | example.scalars)
    return Launched(call.key, _launch(call, example.rows, True, precision), [])


def _launch(call: Call, rows: int, aligned: bool, precision: str) -> Launch:
    lengths = {letter: n for letter, n in call.lengths.items() if n is not None}
    return launch_of(call.key, {"N": rows} | lengths, aligned, precision)


WITHIN = {"tf32": 2e-3, "bf16": 2e-2}
"""The most that a product of rounded factors may be off, as a share of the largest result."""


def errors(device: Any, example: Example, **how: Any) -> dict[str, float]:
    """Of each output of an example the largest error, as a share of the largest value."""
    results = run(device, example, **how)
    return {
        name: float(np.abs(results[name] - value).max() / max(np.abs(value).max(), 1e-30))
        for name, value in example.expected().items()
    }


def check(device: Any, example: Example, precision: str = "fp32", **how: Any) -> None:
    """Run an example and compare it with the oracle."""
    if precision != "fp32":
        found = errors(device, example, precision=precision, **how)
        assert max(found.values()) <= WITHIN[precision], found
        return
    results = run(device, example, **how)
    for name, value in example.expected().items():
        unit = example.units.get(name, 1.0)
        dtype = "float64" if name in example.written_floats else example.dtype
        actual = results[name].astype(np.float64).reshape(value.shape)
        assert_close(actual / unit, value / unit, dtype, example.scale)
