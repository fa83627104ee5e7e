"""Formulas of the user's own on a GPU: against NumPy in the simulator, and compiled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from test_custom import CASES

import cuda_cases
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels.cuda.adapter import has_kernel
from kernel_cases import DTYPES, Draw
from processes import python

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

KERNELS = [name for name in CASES if has_kernel(name)]
SIZES = {"N": 5, "F": 7, "C": 3, "P": 13}

# Between them these call every function that a formula may.
COMPILE = """
import test_custom
from fastnn.engine.cuda.cubin import compile_kernel

for name in (f"{test_custom.everything.op}_forward", test_custom.OwnAdam.op):
    for dtype in ("float32", "float64"):
        assert compile_kernel(name, (dtype,)).code
"""


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KERNELS, ids=lambda name: name.rpartition("_")[0])
def test_op_is_the_oracle(device: Any, name: str, dtype: str) -> None:
    for shift in (0, 1):
        example = CASES[name](Draw(name, dtype, 3, dict(SIZES)))
        cuda_cases.check(device, example, shift=shift, blocks=2, threads=32)


def test_every_word_compiles() -> None:
    python(COMPILE, NUMBA_ENABLE_CUDASIM="0", PYTHONPATH=str(Path(__file__).parent))
