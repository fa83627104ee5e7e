"""Ops alone, at the sizes of real work: microseconds, and the share of the copy rate.

Operands lie in so many sets, launched one after the other in one graph, that no cache holds them.
Bytes are those that must move: what is read once, what is written once.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.gpu.rates import seconds
from benchmarks.gpu.stage import LOST, Findings

BEYOND_CACHES = 160_000_000
"""Bytes of all sets: more than twice an H200's L2 cache."""

MOST_SETS = 32

OPS: dict[str, tuple[dict[str, int], ...]] = {
    "relu_forward": ({"N": 8192, "F": 1024},),
    "gelu_forward": ({"N": 8192, "F": 1024},),
    "gelu_backward": ({"N": 8192, "F": 1024},),
    "dropout": ({"N": 8192, "F": 1024},),
    "softmax_crossentropy": (
        {"N": 65536, "C": 10},
        {"N": 8192, "C": 1000},
        {"N": 1024, "C": 32000},
        {"N": 512, "C": 128000},
    ),
    "softmax_forward": ({"N": 8192, "C": 1000},),
    "mean_squared_error": ({"N": 65536, "C": 10},),
    "adam": ({"P": 100_000}, {"P": 10_000_000}),
    "sgd": ({"P": 10_000_000},),
    "guard": ({"P": 10_000_000},),
    "batch_statistics": ({"N": 8192, "F": 1024, "C": 1024},),
    "normalize_columns": ({"N": 8192, "F": 1024, "C": 1024},),
    "layer_normalization_forward": ({"N": 8192, "F": 1024, "C": 1024, "K": 3},),
    "layer_normalization_backward": ({"N": 8192, "F": 1024, "C": 1024, "K": 3, "B": 32},),
    "gather": ({"N": 8192, "F": 784, "R": 60000},),
    "dense_forward": (
        {"N": 32, "I": 784, "O": 128},
        {"N": 1024, "I": 784, "O": 512},
        {"N": 4096, "I": 4096, "O": 4096},
    ),
    "dense_backward_input": ({"N": 1024, "I": 784, "O": 512}, {"N": 4096, "I": 4096, "O": 4096}),
    "dense_backward_kernel": ({"N": 1024, "I": 784, "O": 512}, {"N": 4096, "I": 4096, "O": 4096}),
}
"""Ops, and the lengths of their dimensions."""

UPDATED = {"adam": ("w", "m", "v"), "sgd": ("w", "velocity")}
"""Operands that are read and written."""

SCALARS = {"columns": 1024, "rate": 0.2, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}


def measure(found: Findings, simulated: bool) -> None:
    """Every op at every size."""
    from fastnn.engine.cuda import opening
    from fastnn.engine.cuda.device import precisions_of

    ops: dict[str, Any] = found.setdefault("ops", {})
    device = opening.open_device()
    for name, sizes in OPS.items():
        for lengths in sizes:
            if simulated:
                lengths = {letter: min(length, 5) for letter, length in lengths.items()}
            place = ", ".join(f"{letter} {length:,}" for letter, length in lengths.items())
            for precision in precisions_of(name, "float32"):
                rounded = "" if precision == "fp32" else f" {precision}"
                op = f"{name}{rounded}: {place}"
                if op in ops:
                    continue
                try:
                    ops[op] = measured(name, lengths, simulated, precision)
                except Exception as error:  # one op's failure costs no other its figures
                    ops[op] = {"failed": repr(error)[:500]}
                found.keep()
                if device.lost:
                    raise SystemExit(LOST)


def measured(name: str, lengths: dict[str, int], simulated: bool, precision: str) -> dict[str, Any]:
    """One op's figures, its factors rounded to a precision."""
    import numpy as np

    from fastnn.engine.cuda import opening
    from fastnn.engine.cuda.device import Launched, launch_of
    from fastnn.engine.cuda.workspace import workspace_bytes, workspace_for
    from fastnn.engine.operands import Call
    from fastnn.kernels import state as s
    from fastnn.kernels.cuda.slots import STATE_SLOTS
    from fastnn.kernels.signatures import signature

    device, line = opening.open_device(), signature(name)
    rows = lengths.get("N", 1)
    arrays = {
        operand.name: _array(operand.type, [lengths.get(d, 1) for d in operand.dimensions], lengths)
        for operand in line.arrays
    }
    scalars = {scalar.name: SCALARS.get(scalar.name, 0) for scalar in line.scalars}
    if "columns" in scalars:
        scalars["columns"] = lengths["C"]
    call = Call(name, arrays | scalars)
    size = sum(array.nbytes for array in arrays.values())
    moved = size + sum(arrays[each].nbytes for each in UPDATED.get(name, ()))
    if name == "gather":  # of the source, no more than the batch
        moved = 2 * arrays["out"].nbytes + 8 * rows
    sets = min(MOST_SETS, max(2, -(-BEYOND_CACHES // size)))
    state = np.zeros(STATE_SLOTS, np.int64)
    state[s.ROWS] = state[s.BATCH] = state[s.TOTAL] = rows
    state_memory = device.allocate(state.nbytes)
    device.write(state_memory.address, state)
    launch = launch_of(call.key, dict(lengths) | {"N": rows}, True, precision)
    held: list[Any] = []
    launches = []
    for _ in range(sets):
        places = {id(array): device.allocate(max(array.nbytes, 1)) for array in arrays.values()}
        for array in arrays.values():
            device.write(places[id(array)].address, array)
        held.append(places)

        def address_of(array: Any, places: dict[int, Any] = places) -> int:
            address: int = places[id(array)].address
            return address

        words = call.integers(address_of, lambda _: 0, rows=rows)
        launches.append(Launched(call.key, launch, [*words, 0, 0, state_memory.address]))
    held.append(workspace_for(device, state_memory.address, workspace_bytes(launches)))
    graph = device.prepare(launches)
    if simulated:
        graph.run()
        return {"sets": sets, "launch": [*launch.blocks, launch.threads]}
    once = seconds(device.wait, graph.run, times=3)
    repeats = max(1, int(0.02 / once))
    turns = []
    for _ in range(7):
        device.wait()
        begin = time.perf_counter()
        graph.run(repeats)
        device.wait()
        turns.append((time.perf_counter() - begin) / repeats / sets)
    took = statistics.median(turns)
    figures = {"sets": sets, "microseconds": 1e6 * took, "bytes_per_second": moved / took}
    if name.startswith("dense"):
        figures["flops"] = 2 * rows * lengths["I"] * lengths["O"] / took
    return figures


def _array(kind: str, shape: list[int], lengths: dict[str, int]) -> Any:
    """Numbers that any op may be given."""
    import numpy as np

    count = int(np.prod(shape))
    if kind in ("int32", "int64"):
        most = lengths.get("R", lengths.get("C", 1))
        return (np.arange(count) % most).astype(kind).reshape(shape)
    dtype = {"T": "float32", "S": "float32"}.get(kind, kind)
    return (np.arange(count, dtype="uint32") % 1021 / 1021 + 0.1).astype(dtype).reshape(shape)
