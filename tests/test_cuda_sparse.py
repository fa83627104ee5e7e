"""The layer over sparse rows on the GPU, in the simulator: more rows than a warp has threads."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import cuda_cases
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels import state as s
from kernel_cases import CASES, DTYPES, Draw, Example

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

OPS = ("sparse_forward", "sparse_backward_kernel")

of_both_types = pytest.mark.parametrize("dtype", DTYPES)
of_both_ops = pytest.mark.parametrize("name", OPS)


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


def drawn(name: str, dtype: str, rows: int, inputs: int, outputs: int) -> Example:
    return CASES[name](Draw(name, dtype, 4, {"N": rows, "I": inputs, "O": outputs}))


@of_both_types
@of_both_ops
@pytest.mark.parametrize("outputs", [8, 37])
def test_more_rows_than_a_warp(device: Any, name: str, dtype: str, outputs: int) -> None:
    """With and without loads of 16 bytes; several warps for the kernel's rows and columns."""
    cuda_cases.check(device, drawn(name, dtype, 35, 9, outputs))


@of_both_ops
def test_rows_of_any_length(device: Any, name: str) -> None:
    """An empty row, one of a single column several times over, and one of all columns."""
    case = drawn(name, "float64", 3, 9, 5)
    columns = np.array([4] * 6 + list(range(9)), "int32")
    starts = np.array([0, 0, 6, 15])
    values = np.random.default_rng(1).normal(size=15)
    rows = [slice(0, 0), slice(0, 6), slice(6, 15)]
    x = np.zeros((3, 9))
    for i, part in enumerate(rows):
        np.add.at(x[i], columns[part], values[part])
    case = case.replace(values=values, columns=columns, starts=starts, order=None)
    case.slots = {s.FIRST: 0}
    if name == "sparse_forward":
        case.oracle = lambda o: {"y": x @ o["w"] + o["b"]}
    else:
        case.oracle = lambda o: {"dw": x.T @ o["dy"], "db": o["dy"].sum(axis=0)}
    cuda_cases.check(device, case)
