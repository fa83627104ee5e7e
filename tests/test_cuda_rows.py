"""CUDA kernels of rows: every way in which threads share a row, special values, many rows."""

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
from fastnn.kernels import state as s
from fastnn.kernels.cuda import row_plans, rows
from fastnn.kernels.cuda.groups import WARP
from fastnn.kernels.cuda.row_plans import BLOCK, MOST_KEPT, plan_for
from fastnn.kernels.cuda.rows import THREADS
from fastnn.kernels.pointwise import PAIRS
from fastnn.kernels.signatures import ITEM_BYTES, signature
from helpers import assert_close
from kernel_cases import CASES, DTYPES, SUM, Draw, Example, assert_same_bits, sums

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)


def names_of(name: str) -> list[str]:
    return [operand.name for operand in signature(name).arrays]


OPS = (
    "softmax_forward",
    "softmax_backward",
    "log_softmax_forward",
    "log_softmax_backward",
    "sparsemax_forward",
    "sparsemax_backward",
    "softmax_crossentropy",
    "softmax_crossentropy_soft",
    "categorical_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "sparsemax_loss",
    "huber",
    "one_hot",
    "categorical_accuracy",
    "categorical_accuracy_soft",
    "binary_accuracy",
    "top_k_accuracy",
)
"""Every kernel of rows; one of those that are made alike from pairs of formulas."""

LOSSES = (*(name for name in OPS if "dz" in names_of(name)), *(p for p in PAIRS if p != "huber"))

WAYS = {
    "through shared memory": 10,
    "by lanes": 37,
    "by lanes, wide": 100,
    "by a block": 130,
    "read again": 261,
    "read again, wide": 264,
}
"""Columns that threads share in each way; the last three where blocks are small."""

of_both_types = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


@pytest.fixture(params=WAYS)
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Columns of each way."""
    count = WAYS[request.param]
    if count > WAYS["by lanes, wide"]:
        small_blocks(monkeypatch)
    return count


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks have 64 threads, each with 4 columns of float32: the simulator is slow."""
    monkeypatch.setattr(row_plans, "BLOCK", 64)
    monkeypatch.setattr(row_plans, "MOST_KEPT", 16)


def example(name: str, dtype: str, rows: int, columns: int, seed: int = 5) -> Example:
    lengths = dict.fromkeys("FIOP", 1) | {"N": rows, "C": columns}
    return CASES[name](Draw(name, dtype, seed, lengths))


# Who has what of a row


@of_both_types
def test_each_column_is_one_threads(dtype: str) -> None:
    for columns in (*range(1, 300), 511, 512, 513, 1000, 1023, 1024, 1025, 4096, 8191, 8192, 8193):
        plan = plan_for(dtype, columns, True)
        assert plan.threads in (1, 2, 4, 8, 16, WARP, BLOCK)
        assert plan.each * ITEM_BYTES[dtype] <= MOST_KEPT
        if plan.each == 0:
            assert columns * ITEM_BYTES[dtype] > BLOCK * MOST_KEPT
            continue
        shares = [
            first * plan.run + k // plan.run * plan.span + k % plan.run
            for first in range(plan.threads)
            for k in range(plan.each)
        ]
        assert sorted(shares) == list(range(plan.threads * plan.each))
        assert columns <= len(shares)
        assert plan.full == (columns == len(shares))


def test_each_column_is_owned_by_one_thread(columns: int) -> None:
    plan = plan_for("float32", columns, True)
    owns = rows.Rows("float32", plan).owns
    firsts = [first for first in range(0, plan.span, plan.run) if first < columns]
    for column in range(columns):
        owners = [first for first in firsts if owns((0, first, columns - first, first), column)]
        assert owners == [column % plan.span // plan.run * plan.run]
    assert not owns((1, columns, 0, 0), 0), "a row beyond the batch's"


def test_ways_are_what_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = list(WAYS.values())
    plans = [plan_for("float32", length, True) for length in lengths[:3]]
    small_blocks(monkeypatch)
    plans += [plan_for("float32", length, True) for length in lengths[3:]]
    assert [plan.shared for plan in plans] == [True, False, False, False, False, False]
    assert [plan.run for plan in plans] == [1, 1, 4, 1, 1, 4]
    assert [plan.threads for plan in plans] == [1, 8, 8, 64, 64, 64]
    assert [plan.each > 0 for plan in plans] == [True, True, True, True, False, False]


@pytest.mark.parametrize("columns", [3, 10, 16, 37, 1000, 1030, 8193])
def test_every_row_has_threads(columns: int) -> None:
    for count in (1, 2, 31, 33, 127, 10_000):
        lengths = {"N": count, "C": columns}
        launch = launch_of(("softmax_forward", "float32"), lengths, True)
        threads = launch.constants[0]
        assert launch.blocks[0] * launch.threads >= count * threads
        assert (launch.blocks[0] - 1) * launch.threads < count * threads
        assert launch.threads % WARP == 0


# Every op in every way


@pytest.mark.parametrize("name", OPS)
def test_op_is_the_oracle_in_every_way(device: Any, name: str, columns: int) -> None:
    cuda_cases.check(device, example(name, "float32", 2, columns))


@of_both_types
@pytest.mark.parametrize("width", [1030, 8193, 8196])
def test_blocks_as_large_as_on_a_gpu(device: Any, width: int, dtype: str) -> None:
    cuda_cases.check(device, example("softmax_crossentropy", dtype, 2, width))


@pytest.mark.parametrize("name", ["softmax_crossentropy", "softmax_forward", "categorical_hinge"])
def test_place_in_memory_and_in_place_change_no_bit(device: Any, name: str, columns: int) -> None:
    one = example(name, "float32", 3, columns)
    first = cuda_cases.run(device, one)
    assert_same_bits(first, cuda_cases.run(device, one, shift=1))
    assert_same_bits(first, cuda_cases.run(device, one, in_place=True))


@pytest.mark.parametrize("width", [10, 8])
@pytest.mark.parametrize("name", ["softmax_crossentropy", "sparsemax_forward"])
def test_blocks_of_several_warps_change_no_bit(
    device: Any, monkeypatch: pytest.MonkeyPatch, name: str, width: int
) -> None:
    one = example(name, "float32", 75, width)
    by_warps = cuda_cases.run(device, one)
    monkeypatch.setattr(rows, "ENOUGH_WARPS", 0)
    launch = launch_of((name, "float32"), {"N": 75, "C": width}, True)
    assert launch.threads == THREADS
    assert_same_bits(by_warps, cuda_cases.run(device, one))


# Special values


def test_softmax_of_extreme_rows(device: Any, columns: int) -> None:
    one = example("softmax_forward", "float32", 7, columns)
    x = one.inputs["x"].copy()
    x[0, :-1] = -np.inf  # all in one class
    x[1, ::2] = -np.inf  # the first of a thread's, too
    x[2] = 3e38
    x[3] = -3e38
    x[4, columns // 2] = np.nan
    x[5, columns // 3] = np.inf
    x[6] = -np.inf
    with np.errstate(all="ignore"):
        expected = reference.softmax_forward(x)
    y = cuda_cases.run(device, one.replace(x=x))["y"]
    for row in (4, 5, 6):  # what is not a number stays in its row
        assert np.isnan(y[row]).any()
    finite = [0, 1, 2, 3]
    assert_close(y[finite] * columns, expected[finite] * columns, "float32")
    logarithms = cuda_cases.run(device, renamed(one, "log_softmax_forward").replace(x=x))["y"]
    assert np.isnan(logarithms[4:]).any(axis=1).all()
    with np.errstate(all="ignore"):
        assert_close(logarithms[finite], reference.log_softmax_forward(x[finite]), "float32")


def renamed(one: Example, name: str) -> Example:
    """The same operands for another op of the same signature."""
    other = one.replace()
    other.name = name
    return other


def test_loss_of_extreme_logits(device: Any, columns: int) -> None:
    one = example("softmax_crossentropy", "float32", 3, columns)
    z, labels = one.inputs["z"].copy(), np.array([0, columns - 1, 1], np.int32)
    z[0] = np.linspace(-1e4, 1e4, columns)  # the wrong class, without doubt
    z[1] = np.linspace(-1e4, 1e4, columns)  # the right one
    z[2, 0] = np.nan
    one = one.replace(z=z, labels=labels, weights=np.ones(3, "float32"))
    results = cuda_cases.run(device, one)
    assert_close(results["loss"][:2], one.expected()["loss"][:2], "float32")
    assert np.isnan(results["loss"][2])
    assert np.isfinite(results["dz"][:2]).all()
    assert np.isnan(results["dz"][2]).all()


def test_label_in_every_part_of_a_row(device: Any, columns: int) -> None:
    labels = np.unique(np.linspace(0, columns - 1, 9).astype(np.int32))
    labels = np.append(labels, [0, columns - 1]).astype(np.int32)
    for name in ("softmax_crossentropy", "categorical_crossentropy", "one_hot"):
        one = example(name, "float32", len(labels), columns)
        cuda_cases.check(device, one.replace(labels=labels))


def test_first_of_equal_columns_counts_and_nan_hits_nothing(device: Any, columns: int) -> None:
    one = example("categorical_accuracy", "float32", 6, columns)
    z, last = np.zeros((6, columns), "float32"), columns - 1
    z[1, [last // 2, last]] = 1.0
    z[2, [last - 1, last]] = 1.0
    z[3, last // 2], z[3, 1] = 1.0, np.nan  # NaN is passed over,
    z[4, last // 2], z[4, 0] = 1.0, np.nan  # but for one in the first column, which stays
    z[5] = -np.inf
    right = np.array([0, last // 2, last - 1, last // 2, 0, 0], np.int32)
    hits = cuda_cases.run(device, one.replace(z=z, labels=right))["hits"]
    np.testing.assert_array_equal(hits, [1, 1, 1, 1, 0, 1])
    wrong = np.array([last, last, last, 1, last // 2, last], np.int32)
    hits = cuda_cases.run(device, one.replace(z=z, labels=wrong))["hits"]
    np.testing.assert_array_equal(hits, np.zeros(6))


def test_sparsemax_of_rows_of_one_and_of_all(device: Any, columns: int) -> None:
    one = example("sparsemax_forward", "float32", 3, columns)
    x = one.inputs["x"].copy()
    x[0], x[1] = 0.25, np.linspace(0.0, 2.0 * columns, columns)
    x[2, columns // 2] = np.nan
    y = cuda_cases.run(device, one.replace(x=x))["y"]
    assert_close(y[0] * columns, np.ones(columns), "float32")
    np.testing.assert_array_equal(y[1], np.eye(columns)[-1])
    assert np.isnan(y[2]).all()


@of_both_types
@pytest.mark.parametrize("name", LOSSES)
def test_nan_in_a_prediction_is_seen_in_the_loss(device: Any, name: str, dtype: str) -> None:
    one = example(name, dtype, 3, 6)
    z = one.inputs["z"].copy()
    z[1] = np.nan
    key = "labels" if "labels" in one.inputs else "targets"
    targets = one.inputs[key].copy()
    targets[1] = 1
    weights = np.ones(3, dtype)
    loss = cuda_cases.run(device, one.replace(z=z, weights=weights, **{key: targets}))["loss"]
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])


# Sums of many rows


@pytest.mark.parametrize(
    ("count", "width", "dtype"), [(300, 2, "float32"), (2, 300, "float64"), (300, 1, "float64")]
)
@pytest.mark.parametrize(
    "name",
    ["count_positives", "count_confusion", "count_buckets", "count_close", "sum_squares"],
)
def test_sums_of_more_than_a_block(
    device: Any, name: str, count: int, width: int, dtype: str
) -> None:
    for seed in (1, 2):  # of count_positives, one takes the largest
        cuda_cases.check(device, example(name, dtype, count, width, seed))


@pytest.mark.parametrize("name", ["count_positives", "count_confusion", "count_buckets"])
def test_sums_go_on_from_those_of_batches_before(device: Any, name: str) -> None:
    one = example(name, "float32", 20, 3)
    cuda_cases.check(device, one.replace(sums=one.inputs["sums"] + 3.0))


def test_places_that_one_thread_has_by_turns_are_kept_apart(device: Any) -> None:
    """Of 20 classes, (0, 5) and (13, 1) are `BLOCK` places apart."""
    draw = Draw("count_confusion", "float32", 0, dict.fromkeys("FIOP", 1) | {"N": 9, "C": 20})
    targets, z = np.zeros((9, 20), "float32"), np.zeros((9, 20), "float32")
    by_turns = np.arange(9) % 2 == 0
    targets[np.arange(9), np.where(by_turns, 0, 13)] = 1
    z[np.arange(9), np.where(by_turns, 5, 1)] = 1
    one = sums(draw, z, targets, reference.count_confusion, threshold=0.5)
    assert one.expected()["sums"][3 + 5] == 5
    assert one.expected()["sums"][3 + 5 + BLOCK] == 4
    cuda_cases.check(device, one)


@pytest.mark.parametrize("count", [1, 255, 257, 1000])
def test_values_of_many_rows_accumulate(device: Any, count: int) -> None:
    cuda_cases.check(device, example("accumulate", "float32", count, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sum_that_is_not_finite_raises_the_flag_and_is_not_added(device: Any, bad: float) -> None:
    one = example("accumulate", "float32", 40, 1)
    values = one.inputs["values"].copy()
    values[37] = bad
    for guard in (0, 1):
        other = one.replace(values=values)
        other.scalars = {"slot": SUM, "guard": guard}
        done = cuda_cases.launch(device, other)
        assert done.flags == (guard, 0)
        assert np.isfinite(done.state.view(np.float64)[SUM]) == bool(guard)


def test_squares_of_far_targets_do_not_cancel(device: Any) -> None:
    """Two batches one after the other, of targets near 1e8 that differ by 1."""
    rng = np.random.default_rng(3)
    targets = 1e8 + rng.normal(size=(70, 3))
    z = targets + 0.1
    figures, first = np.zeros(14), 0
    for part in (slice(0, 40), slice(40, 70)):
        one = example("sum_squares", "float64", len(z[part]), 3)
        one.slots = {s.FIRST: first}
        one = one.replace(sums=figures, z=z[part], targets=targets[part])
        figures = cuda_cases.launch(device, one).operands["sums"]
        first += len(z[part])
    # Rounded to 1e-8, the targets themselves are no nearer.
    expected = reference.sum_squares(z, targets)
    np.testing.assert_allclose(figures[3:12].reshape(3, 3), expected, rtol=1e-8)


# The simulator


def test_thread_that_fails_lets_no_other_wait(device: Any) -> None:
    one = example("softmax_crossentropy", "float32", 5, WAYS["by lanes"])
    labels = one.inputs["labels"].copy()
    labels[3] = 10**6  # out of the array
    with pytest.raises(IndexError, match="out of bounds"):
        cuda_cases.run(device, one.replace(labels=labels))
