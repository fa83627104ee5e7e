"""Normalisation and the rectifier's sums on the GPU, in the simulator: rows and columns of lengths
at which other numbers of threads and other ways are taken.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import cuda_cases
from fastnn.engine.cuda.device import launch_of
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels import reference
from helpers import assert_close
from kernel_cases import CASES, DTYPES, Draw, Example, assert_same_bits

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

of_both_types = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


def drawn(name: str, dtype: str, without: str = "", **lengths: int) -> Example:
    return CASES[name](Draw(name, dtype, 3, lengths, without))


@of_both_types
@pytest.mark.parametrize("columns", [64, 67, 260, 1025])
def test_rows_held_by_more_threads(device: Any, dtype: str, columns: int) -> None:
    """By some of a warp's, by all of them several pieces each, and by a block's."""
    cuda_cases.check(device, drawn("layer_normalization_forward", dtype, N=3, C=columns))


def test_rows_too_long_to_be_held(device: Any) -> None:
    columns = 8193 + 512
    launch = launch_of(
        ("layer_normalization_forward", "float64"), {"N": 1, "F": columns, "C": columns}, True
    )
    assert launch.constants[1] == 0
    cuda_cases.check(device, drawn("layer_normalization_forward", "float64", N=1, C=columns))


@of_both_types
def test_rows_whose_length_no_operand_tells(device: Any, dtype: str) -> None:
    example = drawn("layer_normalization_forward", dtype, "kept", N=3, C=37)
    cuda_cases.check(device, example.replace(gamma=None, beta=None))


@of_both_types
@pytest.mark.parametrize(("rows", "columns"), [(150, 3), (70, 40), (40, 300), (9, 1100)])
@pytest.mark.parametrize("without", ["", "sums"])
def test_slices_of_a_batch(device: Any, dtype: str, rows: int, columns: int, without: str) -> None:
    """Several slices; columns of more than a warp; a slice of more than one chunk, or block."""
    example = drawn("layer_normalization_backward", dtype, without, N=rows, C=columns)
    cuda_cases.check(device, example)


@of_both_types
@pytest.mark.parametrize(("rows", "columns"), [(300, 3), (40, 70)])
def test_columns_of_many_rows(device: Any, dtype: str, rows: int, columns: int) -> None:
    for name in ("batch_statistics", "batch_normalization_parameters"):
        cuda_cases.check(device, drawn(name, dtype, N=rows, C=columns))
    cuda_cases.check(device, drawn("prelu_sums", dtype, N=rows, F=columns))


@pytest.mark.parametrize(("rows", "columns", "parts"), [(771, 3, 3), (520, 33, 2)])
def test_columns_of_rows_cut_into_parts(device: Any, rows: int, columns: int, parts: int) -> None:
    """Of what the blocks have, the last one makes the same bits every time."""
    example = drawn("batch_statistics", "float32", N=rows, C=columns)
    assert cuda_cases.launch_for(example).launch.blocks == (-(-columns // 32), parts)
    cuda_cases.check(device, example)
    assert_same_bits(*(cuda_cases.run(device, example) for _ in range(2)))


def test_fewer_rows_than_parts(device: Any) -> None:
    """The last batch of an epoch: blocks without a row have sums of 0."""
    for name, rows, columns in (
        ("batch_statistics", 780, 3),
        ("layer_normalization_backward", 30, 1100),
    ):
        example, whole = (drawn(name, "float32", N=n, C=columns) for n in (1, rows))
        how = cuda_cases.launch_for(whole).launch
        assert how.blocks[1] > 2
        cuda_cases.check(device, example, like=how)


@pytest.mark.parametrize("rows", [3, 100])
def test_variance_far_from_zero(device: Any, rows: int) -> None:
    """In float32, 10⁵ has two digits behind the point: those of `mean` and `low` are more."""
    rng = np.random.default_rng(1)
    x = (1e5 + rng.normal(size=(rows, 5))).astype("float32")
    example = drawn("batch_statistics", "float32", N=rows, C=5).replace(x=x)
    results = cuda_cases.run(device, example)
    mean, variance = reference.batch_statistics(x, 5)
    np.testing.assert_allclose(np.float64(results["mean"]) + results["low"], mean, rtol=1e-12)
    np.testing.assert_allclose(results["variance"], variance, rtol=1e-5)


def test_rows_far_from_zero(device: Any) -> None:
    """What rounding took from a row's mean is made up for, and in the variance too."""
    x = (1e6 + np.random.default_rng(1).normal(size=(3, 45))).astype("float32")
    case = drawn("layer_normalization_forward", "float32", N=3, C=45)
    case = case.replace(x=x, gamma=None, beta=None)
    y = cuda_cases.run(device, case)["y"]
    expected, _, _ = reference.layer_normalization_forward(x, 45, case.scalars["epsilon"])
    assert_close(y, expected)


@of_both_types
@pytest.mark.parametrize("members", [30, 150])
def test_sums_of_many_members(device: Any, dtype: str, members: int) -> None:
    """By some of a warp's threads, and by a block's."""
    rng = np.random.default_rng(2)
    order = rng.permutation(3 * members).reshape(3, members)
    sums = rng.normal(size=3 * members)
    case = drawn("sum_members", dtype, N=1, F=3 * members).replace(sums=sums, members=order)
    case.oracle = lambda o: {"total": o["sums"][order].sum(axis=1)}
    cuda_cases.check(device, case)


@of_both_types
def test_sums_are_the_same_bits_for_any_columns_beside(device: Any, dtype: str) -> None:
    """What a column's sums are depends on its own rows alone, wherever it stands."""
    whole = drawn("batch_statistics", dtype, N=45, C=18)
    columns = whole.inputs["x"].reshape(-1, 18)[:, 11:13]
    part = drawn("batch_statistics", dtype, N=45, C=2).replace(x=np.ascontiguousarray(columns))
    one, other = (cuda_cases.run(device, example) for example in (whole, part))
    assert_same_bits({k: v[11:13].copy() for k, v in one.items()}, other)
