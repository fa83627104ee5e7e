"""Every op against the NumPy oracle: fresh inputs, poisoned outputs, watched margins.

The examples are those of the tests. An error that ends the GPU's context ends the process, and
another goes on with the next kernel; what was not tried stands as not yet run.
"""

from __future__ import annotations

import contextlib
import importlib
import secrets
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.stage import LOST, Findings

TESTS = Path(__file__).parents[2] / "tests"

SIZES = (
    {"N": 1, "F": 1, "I": 1, "O": 1, "C": 2, "P": 1},
    {"N": 33, "F": 65, "I": 61, "O": 67, "C": 10, "P": 4099},
    {"N": 300, "F": 512, "I": 784, "O": 256, "C": 1000, "P": 100_003},
)
"""One of each, ragged, and as in use."""

SIMULATED_SIZES = ({"N": 3, "F": 5, "I": 4, "O": 6, "C": 3, "P": 9},)

NOT_YET_RUN, BEGUN, RIGHT = "not yet run", "has not ended", "right"


def measure(found: Findings, simulated: bool) -> None:
    """Try every kernel, of both element types, and of products every precision."""
    if not TESTS.is_dir():
        raise SystemExit("the examples of ops are in tests/: run from a checkout")
    sys.path.insert(0, str(TESTS))
    cuda_cases, cases = map(importlib.import_module, ("cuda_cases", "kernel_cases"))
    from fastnn.engine.cuda import opening
    from fastnn.engine.cuda.device import precisions_of
    from fastnn.kernels.cuda.adapter import has_kernel

    kinds = [
        (name, dtype, precision)
        for dtype in cases.DTYPES
        for name in cases.CASES
        if has_kernel(name)
        for precision in precisions_of(name, dtype)
    ]
    ops: dict[str, Any] = found.setdefault("ops", {" ".join(kind): NOT_YET_RUN for kind in kinds})
    seed: int = found.setdefault("seed", secrets.randbits(32))
    device = opening.open_device()
    for dtype in cases.DTYPES:
        examples = {
            kind: [
                cases.CASES[kind[0]](cases.Draw(kind[0], dtype, seed, dict(sizes)))
                for sizes in (SIMULATED_SIZES if simulated else SIZES)
            ]
            for kind in kinds
            if kind[1] == dtype and ops[" ".join(kind)] == NOT_YET_RUN
        }
        if not simulated:  # all at once, on all cores; what does not compile fails its own check
            launches = [
                cuda_cases.launch_for(example, kind[2])
                for kind, each in examples.items()
                for example in each
            ]
            with contextlib.suppress(Exception):
                device.load(launches, None)  # type: ignore[attr-defined]
        for kind, each in examples.items():
            op = " ".join(kind)
            ops[op] = BEGUN
            found.keep()
            ops[op] = _problems(cuda_cases, device, each, kind[2]) or RIGHT
            found.keep()
            if device.lost:
                raise SystemExit(LOST)


def _problems(cuda_cases: Any, device: Any, examples: list[Any], precision: str) -> list[str]:
    """What is wrong with a kernel, in a line for each example, up to one that loses the GPU."""
    problems = []
    for example in examples:
        try:
            cuda_cases.check(device, example, precision=precision)
        except Exception as error:  # also of the compiler, or the driver
            said = str(error).strip()[:500]
            problems.append(f"{example.rows} rows: {type(error).__name__}: {said}")
        if device.lost:
            break
    return problems
