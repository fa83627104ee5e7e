"""Every op against the NumPy oracle: fresh inputs, poisoned outputs, watched margins.

The examples are those of the tests. An error that ends the GPU's context ends the stage: what was
not tried stands as not yet run.
"""

from __future__ import annotations

import importlib
import secrets
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.stage import Findings
from fastnn.engine.cuda import opening

TESTS = Path(__file__).parents[2] / "tests"

SIZES = (
    {"N": 1, "F": 1, "I": 1, "O": 1, "C": 2, "P": 1},
    {"N": 33, "F": 65, "I": 61, "O": 67, "C": 10, "P": 4099},
    {"N": 300, "F": 512, "I": 784, "O": 256, "C": 1000, "P": 100_003},
)
"""One of each, ragged, and as in use."""

SIMULATED_SIZES = ({"N": 3, "F": 5, "I": 4, "O": 6, "C": 3, "P": 9},)

NOT_YET_RUN, RIGHT = "not yet run", "right"


def measure(found: Findings, simulated: bool) -> None:
    """Try every kernel, of both element types, and of products every precision."""
    if not TESTS.is_dir():
        raise SystemExit("the examples of ops are in tests/: run from a checkout")
    sys.path.insert(0, str(TESTS))
    cuda_cases, cases = map(importlib.import_module, ("cuda_cases", "kernel_cases"))
    from fastnn.engine.cuda.device import precisions_of
    from fastnn.kernels.cuda.adapter import has_kernel

    kinds = [
        (name, dtype, precision)
        for dtype in cases.DTYPES
        for name in cases.CASES
        if has_kernel(name)
        for precision in precisions_of(name, dtype)
    ]
    ops: dict[str, Any] = {" ".join(kind): NOT_YET_RUN for kind in kinds}
    found["seed"] = seed = secrets.randbits(32)
    found["ops"] = ops
    device = opening.open_device()
    examples = {
        (name, dtype, precision): [
            cases.CASES[name](cases.Draw(name, dtype, seed, dict(sizes)))
            for sizes in (SIMULATED_SIZES if simulated else SIZES)
        ]
        for name, dtype, precision in kinds
    }
    if not simulated:  # all at once, on all cores
        launches = [
            cuda_cases.launch_for(example, precision)
            for (_, _, precision), each in examples.items()
            for example in each
        ]
        device.load(launches, None)  # type: ignore[attr-defined]
    for kind, each in examples.items():
        problems = []
        for example in each:
            try:
                cuda_cases.check(device, example, precision=kind[2])
            except Exception as error:  # of one kernel: the others are still to be tried
                what = f"{type(error).__name__}: {str(error).strip()}"
                problems.append(f"{example.rows} rows: {what[:500]}")
            if device.lost:
                break
        ops[" ".join(kind)] = problems or RIGHT
        found.keep()
        if device.lost:
            raise SystemExit(f"{' '.join(kind)} has ended the GPU's context")
