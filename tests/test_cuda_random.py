"""Random words on the GPU, in the simulator: the CPU's very masks, in rows of several groups."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import cuda_cases
import kernel_cases
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels import state as s
from kernel_cases import CASES, DTYPES, Draw, Example, assert_same_bits

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

SHAPES = [(1, 1), (3, 64), (5, 65), (2, 200)]
PLACES = [(0, 0, 0), (7, 3, 1), (2**62 + 12345, 2**32 - 1, 2**40 + 17)]
"""Seeds, streams and steps: of few bits, and of as many as there may be."""

of_both_types = pytest.mark.parametrize("dtype", DTYPES)
of_all_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


def example(name: str, dtype: str, shape: tuple[int, int], place: tuple[int, int, int]) -> Example:
    """An op's example of a shape, with its words at a place."""
    rows, columns = shape
    lengths = {"N": rows, "F": columns, "C": columns, "O": 1}
    example = CASES[name](Draw(name, dtype, 5, lengths))
    seed, example.scalars["stream"], step = place
    example.slots = {s.SEED: seed, s.STEP: step}
    return example


@of_both_types
@of_all_shapes
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masks_are_the_cpu_s(
    device: Any, dtype: str, shape: tuple[int, int], place: tuple[int, int, int], rate: float
) -> None:
    for name in ("dropout", "alpha_dropout", "spatial_dropout"):
        case = example(name, dtype, shape, place)
        case.scalars["rate"] = rate
        assert_same_bits(cuda_cases.run(device, case), kernel_cases.run(case))


@of_both_types
@of_all_shapes
def test_numbers_of_all_four_words(device: Any, dtype: str, shape: tuple[int, int]) -> None:
    lengths = dict(zip("NF", shape, strict=True))
    case = CASES["gaussian_noise"](Draw("gaussian_noise", dtype, 5, lengths))
    cuda_cases.check(device, case)


def test_blocks_begin_in_all_four_words(device: Any) -> None:
    """A picture with more places than a group of counters has words."""
    draw = Draw("drop_block", "float32", 5, {"N": 2, "O": 7, "I": 6, "C": 3, "P": 1})
    case = CASES["drop_block"](draw)
    assert draw.F > 2 * 64
    assert_same_bits(cuda_cases.run(device, case), kernel_cases.run(case))


def test_a_dropped_nan_is_seen(device: Any) -> None:
    case = example("dropout", "float32", (1, 64), (1, 2, 3))
    case.scalars["rate"] = 0.9
    case = case.replace(x=np.full((1, 64), np.nan, np.float32))
    assert np.isnan(cuda_cases.run(device, case)["y"]).all()
