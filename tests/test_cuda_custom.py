"""Formulas of the user's own on the GPU, in the simulator: the ops of `test_custom`."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from test_custom import CASES, Wave, op_of

import cuda_cases
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels.cuda.adapter import has_kernel
from fastnn.kernels.signatures import signature
from kernel_cases import DTYPES, Draw, assert_same_bits

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

KERNELS = [name for name in CASES if has_kernel(name)]
LENGTHS = st.fixed_dictionaries({letter: st.sampled_from((1, 3, 8, 17, 33)) for letter in "NFCP"})

of_both_types = pytest.mark.parametrize("dtype", DTYPES)
of_all_kernels = pytest.mark.parametrize(
    "name", KERNELS, ids=lambda name: re.sub("_[0-9a-f]{32}", "", name)
)


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


def test_own_layers_have_kernels() -> None:
    assert {op_of(Wave, way) for way in ("_forward", "_backward")} <= set(KERNELS)


@of_both_types
@of_all_kernels
@given(LENGTHS, st.integers(0, 2**32), st.integers(0, 3))
@settings(max_examples=3)
def test_op_is_the_oracle(
    device: Any, name: str, dtype: str, lengths: dict[str, int], seed: int, shift: int
) -> None:
    example = CASES[name](Draw(name, dtype, seed, lengths))
    cuda_cases.check(device, example, shift=shift, blocks=2, threads=32)
    if signature(name).in_place:
        apart, in_place = (
            cuda_cases.run(device, example, in_place=place, blocks=2, threads=32)
            for place in (False, True)
        )
        assert_same_bits(apart, in_place)
