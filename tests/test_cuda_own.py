"""Formulas of the user's own on a GPU: against NumPy in the simulator, and compiled."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

from test_custom import CASES, Wave, op_of

import cuda_cases
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels.cuda.adapter import has_kernel
from kernel_cases import DTYPES, Draw, assert_same_bits
from processes import python

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

KERNELS = [name for name in CASES if has_kernel(name)]
SIZES = [{"N": 5, "F": 7, "C": 3, "P": 13}, {"N": 35, "F": 12, "C": 8, "P": 16}]

# Between them these call every function that a formula may.
COMPILE = """
import test_custom
from numba.cuda import dispatcher
from fastnn.engine.cuda.cubin import compile_kernel

for_others = dispatcher.get_current_device
for name in (f"{test_custom.everything.op}_forward", test_custom.OwnAdam.op):
    for dtype in ("float32", "float64"):
        assert compile_kernel(name, (dtype,)).code
assert dispatcher.get_current_device is for_others
"""


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=["ragged", "wide"])
@pytest.mark.parametrize("name", KERNELS, ids=lambda name: re.sub("_[0-9a-f]{32}", "", name))
def test_op_is_the_oracle(device: Any, name: str, dtype: str, sizes: dict[str, int]) -> None:
    for shift in (0, 1):
        example = CASES[name](Draw(name, dtype, 3, dict(sizes)))
        cuda_cases.check(device, example, shift=shift, blocks=2, threads=32)


def test_every_kind_has_a_kernel() -> None:
    assert list(CASES) == KERNELS


@pytest.mark.parametrize("way", ["_forward", "_backward"])
def test_an_own_layer_in_place(device: Any, way: str) -> None:
    name = op_of(Wave, way)
    example = CASES[name](Draw(name, "float32", 3, dict(SIZES[1])))
    apart, in_place = (cuda_cases.run(device, example, in_place=place) for place in (False, True))
    assert_same_bits(apart, in_place)


def test_every_word_compiles() -> None:
    python(COMPILE, NUMBA_ENABLE_CUDASIM="0", PYTHONPATH=str(Path(__file__).parent))
