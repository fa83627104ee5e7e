"""Every CUDA kernel as it is compiled: ``python -m benchmarks.cubins``. No GPU is needed.

Compiles, links and disassembles each kernel for the architectures sm_90a and sm_80 and prints what
it takes of a processor and what its machine code does. Nothing is run: bytes moved and resident
warps are predictions. What is compiled, so that all of it takes minutes:

- for sm_90a and float32 (and what has no float type), every launch of `SHAPES` that differs in
  threads or constants; of losses element by element, which differ in two formulas alone, the first
  has them all and the others that on large arrays;
- a narrow network's step in two kernels, in tf32 for sm_90a and in bfloat16 for sm_80;
- for sm_90a and float64, and for sm_80 and float32, the launch on the widest arrays: products have
  their largest tile, and kernels of rows take the least time to compile. Of these the linker alone
  is asked what lies in local memory; they are not disassembled.

Writes ``benchmarks/results/cubins-<date>.json``, or `--output`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import RESULTS, machine, tables

Key = tuple[str, ...]
"""An op's name and its element types."""


class Shape(NamedTuple):
    """Rows, the length of every other dimension, and whether arrays begin on 16-byte multiples."""

    rows: int
    width: int
    aligned: bool


SHAPES = {
    "large": Shape(4096, 1024, True),
    "small": Shape(32, 10, True),
    "unaligned": Shape(1024, 101, False),
    "widest": Shape(256, 32768, True),
}
"""The arrays that launches are made for; one that has come before is not compiled again."""

WIDEST = "widest"

HOPPER, AMPERE = (9, 0), (8, 0)
"""Compute capabilities."""


STEPS = {
    "persistent_steps": """
gather+float32,float32+ gather+int32,int32+
dense_forward+float32+1,0 dense_forward+float32+1,0 dense_forward+float32+0,0
categorical_accuracy+float32+1,2,1,1,1 accumulate+float32+
softmax_crossentropy+float32+1,2,1,1,1 accumulate+float32+
dense_backward_kernel+float32+0,0 dense_backward_input+float32+0,0
dense_backward_kernel+float32+1,0 dense_backward_input+float32+1,0 dense_backward_kernel+float32+1,0
guard+float32+ adam_rates+float64+ adam+float32+
""",
    "cooperative_steps": """
gather+float32,float32+ gather+int32,int32+
| dense_forward+float32+2,1,0 | dense_forward+float32+2,0,0
| categorical_accuracy+float32+1,10,1,1,1 softmax_crossentropy+float32+1,10,1,1,1
| accumulate+float32+ accumulate+float32+
  dense_backward_kernel+float32+2,0,0 dense_backward_input+float32+1,0,0
| dense_backward_kernel+float32+2,1,0 adam_rates+float64+
| guard+float32+ | adam+float32+
""",
}
"""Kernels of many steps, and the parts of a step: of 20, 64, 64 and 2 units in one block, and of
784, 128 and 10 in batches of 128 rows in several."""


class Processor(NamedTuple):
    """What a multiprocessor has, by the tables of the CUDA Programming Guide."""

    registers: int
    warps: int
    blocks: int
    shared: int


PROCESSORS = {
    HOPPER: Processor(65536, 64, 32, 228 << 10),
    AMPERE: Processor(65536, 64, 32, 164 << 10),
}

RESERVED = 1 << 10
"""Bytes of shared memory that the system takes of every block's."""


class Task(NamedTuple):
    """A kernel to compile, and the shape that it is launched on so.

    `shared`: bytes of shared memory beside those that the kernel names itself.
    """

    key: Key
    shape: str
    capability: tuple[int, int]
    threads: int
    constants: tuple[int, ...]
    shared: int = 0


def kernel_keys() -> list[Key]:
    """Every op that has a CUDA kernel, with each choice of element types, and kernels of steps."""
    from fastnn.engine.catalogue import every_key
    from fastnn.kernels.cuda.adapter import has_kernel
    from fastnn.kernels.signatures import NAMES

    keys = [key for key in every_key() if key[0] in NAMES and has_kernel(key[0])]
    return [*keys, ("next_step",), *((name, *parts.split()) for name, parts in STEPS.items())]


def tasks(names: Sequence[str] = ()) -> list[Task]:
    """All that is compiled, of the ops called `names` or of every one."""
    from fastnn.kernels.cuda.launch import followed_by
    from fastnn.kernels.pointwise import PAIRS

    alike = tuple(PAIRS)[1:]  # losses whose kernels differ in their formulas alone
    keys = [key for key in kernel_keys() if not names or key[0] in names]
    found: list[Task] = []
    for key in keys:
        is_twin = key[1:2] == ("float64",) and (key[0], "float32", *key[2:]) in keys
        if is_twin:
            found.append(Task(key, WIDEST, HOPPER, *launch(key, WIDEST)))
            continue
        launches: dict[tuple[int, tuple[int, ...]], str] = {}
        for shape in ("large",) if key[0] in alike else SHAPES:
            for precision in precisions(key):
                launches.setdefault(launch(key, shape, precision), shape)
        if key[0] in ("dense_forward", "dense_backward_input"):  # with an activation after it
            threads, constants = launch(key, "large")
            launches[threads, followed_by(constants, "tanh")] = "large"
        found += [Task(key, shape, HOPPER, *how) for how, shape in launches.items()]
        found += [Task(key, WIDEST, AMPERE, *launch(key, WIDEST, p)) for p in precisions(key)]
    return [*found, *(task for task in narrow_tasks() if not names or task.key[0] in names)]


def narrow_tasks() -> list[Task]:
    """The kernels of a narrow network's step."""
    from fastnn.kernels.cuda import narrow
    from fastnn.kernels.cuda.launch import FOLLOWING
    from fastnn.kernels.cuda.narrow_format import Layer

    relu, shape = 1 + FOLLOWING.index("relu"), "narrow"
    layers = [Layer(64, 64, relu), Layer(64, 10, 0)]
    tasks = []
    for capability, precision in ((HOPPER, "tf32"), (AMPERE, "bf16")):
        most = PROCESSORS[capability].shared - RESERVED
        launches = narrow.launches_of(precision, layers, 16384, 4810, most)
        assert launches is not None
        key = narrow.step_key(precision, "softmax_crossentropy", True, layers)
        for own, how in zip((key, (narrow.GRADIENTS,)), launches, strict=True):
            tasks.append(Task(own, shape, capability, how.threads, how.constants, how.shared))
    return tasks


def precisions(key: Key) -> Key:
    """What an op's factors may be rounded to, if it is a product of float32."""
    from fastnn.engine.cuda.device import precisions_of
    from fastnn.kernels.cuda.launch import PRECISIONS

    return precisions_of(*key) if len(key) == 2 else PRECISIONS[:1]


def launch(key: Key, shape: str, precision: str = "fp32") -> tuple[int, tuple[int, ...]]:
    """Threads and constants of an op's launch on arrays of that shape."""
    from fastnn.engine.cuda.device import launch_of
    from fastnn.kernels.cuda import cooperative
    from fastnn.kernels.cuda.launch import THREADS
    from fastnn.kernels.signatures import signature

    if key == ("next_step",):
        return 1, ()
    if key[0] in STEPS:
        return THREADS, (THREADS,) if key[0] == cooperative.NAME else ()
    rows, width, aligned = SHAPES[shape]
    lengths = dict.fromkeys(signature(key[0]).dimensions, width) | {"N": rows}
    found = launch_of(key, lengths, aligned, precision)
    return found.threads, found.constants


def inspect(task: Task) -> dict[str, Any]:
    """What there is to know of a kernel: a line of the report."""
    from benchmarks import sass
    from fastnn.engine.cuda.cubin import compile_kernel

    name, *types = task.key
    begin = time.process_time()
    cubin = compile_kernel(name, tuple(types), task.constants, task.threads, task.capability)
    is_full = task.capability == HOPPER and "float64" not in types[:1]
    opcodes = sass.instructions(cubin.code) if is_full else None
    suffix = "a" if task.capability >= HOPPER else ""
    return {
        "op": name,
        "types": [] if name in STEPS else types,
        "shape": task.shape,
        "architecture": "sm_{}{}{}".format(*task.capability, suffix),
        "constants": task.constants,
        "threads": task.threads,
        "registers": cubin.registers,
        "stack": cubin.stack,
        "spilled": cubin.spilled,
        "shared": cubin.shared + task.shared,
        "resident_warps": resident_warps(
            task.threads,
            cubin.registers,
            cubin.shared + task.shared,
            PROCESSORS[task.capability],
        ),
        "element_bytes": element_bytes(task.key),
        "code_bytes": len(cubin.code),
        "seconds": time.process_time() - begin,
        **({} if opcodes is None else sass.counts(opcodes)),
    }


def resident_warps(threads: int, registers: int, shared: int, processor: Processor) -> int:
    """Warps that a processor holds at once of blocks of so many threads.

    Registers are given out to a warp by 256 and belong to one quarter of the processor.
    """
    warps = -(-threads // 32)
    of_a_warp = -(-max(registers, 1) * 32 // 256) * 256
    by_registers = 4 * (processor.registers // 4 // of_a_warp) // warps
    by_shared = processor.shared // (shared + RESERVED)
    return warps * min(by_registers, by_shared, processor.warps // warps, processor.blocks)


def element_bytes(key: Key) -> int | None:
    """See `traffic.bytes_of_an_element`; None for products and for what has no arrays."""
    from benchmarks.traffic import bytes_of_an_element
    from fastnn.kernels.signatures import NAMES, signature

    if key[0] not in NAMES or not signature(key[0]).arrays:
        return None
    is_product = any(scalar.type == "product" for scalar in signature(key[0]).scalars)
    return None if is_product else bytes_of_an_element(key)


def report(todo: Sequence[Task], processes: int) -> dict[str, Any]:
    """All lines, made by so many processes."""
    begin = time.perf_counter()
    # Fresh processes: a fork would share what Numba and the linker have set up.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        kernels = list(pool.map(inspect, todo))
    return {
        "date": datetime.date.today().isoformat(),
        "versions": machine.versions(
            "fastnn", "numba", "numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink"
        ),
        "shapes": {name: shape._asdict() for name, shape in SHAPES.items()},
        "processes": processes,
        "wall_seconds": time.perf_counter() - begin,
        "run": False,
        "kernels": kernels,
    }


COLUMNS = {
    "threads": "threads",
    "registers": "registers",
    "stack": "stack",
    "spilled": "spilled",
    "shared": "shared",
    "resident_warps": "warps",
    "code_bytes": "code",
    "ldg_128": "LDG.128",
    "stg_128": "STG.128",
    "lds_128": "LDS.128",
    "local": "LDL/STL",
    "ffma": "FFMA",
    "mma": "MMA",
    "element_bytes": "B/element",
}
"""Columns of the table: a line's key, and the head."""


def table(kernels: Sequence[dict[str, Any]]) -> str:
    """The lines as text."""
    lines = [
        [
            line["op"],
            " ".join(line["types"]),
            line["architecture"],
            line["shape"],
            " ".join(map(str, line["constants"])),
            *("" if line.get(column) is None else str(line[column]) for column in COLUMNS),
        ]
        for line in kernels
    ]
    head = ("op", "types", "for", "on", "constants", *COLUMNS.values())
    return tables.columns(head, lines, left=5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Inspect all kernels, print the table, and write it to a file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cubins", description="CUDA kernels as they are compiled."
    )
    parser.add_argument("--ops", type=lambda text: text.split(","), default=[], help="these alone")
    parser.add_argument("--processes", type=int, default=len(machine.available_cores()))
    parser.add_argument("--output", type=Path, help="the results file")
    options = parser.parse_args(arguments)
    from fastnn.engine.cuda.device import simulated

    if simulated():
        parser.error("nothing is compiled for the simulator: unset NUMBA_ENABLE_CUDASIM")
    todo = tasks(options.ops)
    if not todo:
        parser.error(f"--ops: no kernel is called {' or '.join(options.ops)}")
    found = report(todo, options.processes)
    print(table(found["kernels"]))
    print(
        f"\n{len(todo)} kernels compiled by {options.processes} processes in "
        f"{found['wall_seconds']:.0f} s; none was run"
    )
    if options.ops and options.output is None:
        return 0  # a part is no report
    path = options.output or RESULTS / f"cubins-{found['date']}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
