"""Examples of ops, run on a GPU or by Numba's simulator of one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.engine import cpu
from fastnn.engine.cuda.device import Launched, kernel_of, launch_of
from fastnn.engine.operands import Call
from fastnn.kernels import state as s
from fastnn.kernels.cuda.launch import Launch
from fastnn.kernels.cuda.slots import STATE_SLOTS
from fastnn.kernels.signatures import signature
from helpers import assert_close
from kernel_cases import Array, Example, Operands, Watched, poison


def without_product(key: tuple[str, ...]) -> int:
    """The address of a compiled function that CPU kernels call: none is needed here."""
    return 0


def run(
    device: Any,
    example: Example,
    in_place: bool = False,
    shift: int = 0,
    blocks: int = 0,
    threads: int = 0,
) -> dict[str, Array]:
    """What an example's op writes.

    Where the kernel takes any grid, of at most so many `blocks` along x, and of so many `threads`.
    """
    line = signature(example.name)
    watched = {n: Watched(v, shift) for n, v in example.inputs.items() if v is not None}
    for name, value in example.expected().items():
        if name not in watched and name not in example.written_floats:
            nothing = np.full(value.shape, poison(example.dtype), example.dtype)
            watched[name] = Watched(nothing, shift)
    operands: Operands = {name: w.array for name, w in watched.items()}
    if in_place:
        assert line.in_place is not None
        output, source = line.in_place
        operands[output] = operands[source]
    # The margins go to the device, too: what is written there is seen.
    memory = {name: device.allocate(w.block.nbytes) for name, w in watched.items()}
    addresses = {}
    for name, w in watched.items():
        device.write(memory[name].address, w.block)
        addresses[id(w.array)] = memory[name].address + w.inside.start * w.array.itemsize
    state = np.concatenate([example.state(), np.zeros(s.SHARED_SLOTS, np.int64)])
    state[s.ROWS] = example.rows
    state_memory = device.allocate(8 * STATE_SLOTS)
    device.write(state_memory.address, state)
    call = Call(example.name, operands | example.scalars)
    words = call.integers(lambda array: addresses[id(array)], without_product)
    launch = _launch(call, example.rows, all(a % 16 == 0 for a in addresses.values()))
    if kernel_of(call.key).any_grid:
        x, y = launch.blocks
        launch = launch._replace(blocks=(min(x, blocks or x), y), threads=threads or launch.threads)
    graph = device.prepare([Launched(call.key, launch, [*words, 0, 0, state_memory.address])])
    graph.run()
    for name, w in watched.items():
        device.read(memory[name].address, w.block)
    device.read(state_memory.address, state)
    assert not state[s.SLOTS :].any(), "a flag is raised"
    overwritten = {id(operands[name]) for name in example.expected() if name in operands}
    for w in watched.values():
        if id(w.array) in overwritten:
            w.assert_margins_kept()
        else:
            w.assert_kept()
    results = {n: operands[n] for n in example.expected() if n not in example.written_floats}
    for name, slot in example.written_floats.items():
        results[name] = cpu.floats(state)[slot : slot + 1].copy()
    return results


def _launch(call: Call, rows: int, aligned: bool) -> Launch:
    lengths = {letter: n for letter, n in call.lengths.items() if n is not None}
    return launch_of(call.key, {"N": rows} | lengths, aligned)


def check(device: Any, example: Example, **how: Any) -> None:
    """Run an example and compare it with the oracle."""
    results = run(device, example, **how)
    for name, value in example.expected().items():
        unit = example.units.get(name, 1.0)
        dtype = "float64" if name in example.written_floats else example.dtype
        actual = results[name].astype(np.float64).reshape(value.shape)
        assert_close(actual / unit, value / unit, dtype, example.scale)
