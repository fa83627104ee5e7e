"""CUDA kernels where a value is not finite, after a flag, and in batches of no rows; long sums."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import cuda_cases
from fastnn.engine import cpu
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels import state as s
from fastnn.kernels.cuda.adapter import has_kernel
from fastnn.kernels.cuda.regularization import CHUNK, LONG_ROW
from fastnn.kernels.updates import NORM_BLOCK
from kernel_cases import CASES, DTYPES, UPDATE_CASES, Draw, assert_same_bits

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

KERNELS = [name for name in CASES if has_kernel(name)]
SIZES = dict.fromkeys("NFIOCP", 5)
BAD = (np.nan, np.inf, -np.inf)
NO_FLAG, RAISED, RAISED_LATE = (0, 0), (1, 0), (0, 1)

of_both_types = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


# Whether an op runs


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("what", ["no rows", "a flag"])
def test_op_does_nothing_after_a_flag_and_without_rows(device: Any, name: str, what: str) -> None:
    example = CASES[name](Draw(name, "float32", 3, dict(SIZES)))
    before = example.state()
    if what == "no rows":
        example.rows = 0
    before[s.ROWS] = example.rows
    flag = 7 if what == "a flag" else 0
    done = cuda_cases.launch(device, example, blocks=2, threads=32, flag=flag)
    for watched in done.watched.values():
        watched.assert_kept()
    assert done.flags == (flag, 0)
    np.testing.assert_array_equal(done.state[: s.SLOTS], before)


# Flags


@of_both_types
def test_guard_raises_the_flag_for_every_bad_gradient(device: Any, dtype: str) -> None:
    example = CASES["guard"](Draw("guard", dtype, 3, SIZES | {"P": 6}))
    # The largest number with a finite square.
    largest = np.sqrt(np.finfo(dtype).max).astype(dtype)
    well = np.where(np.arange(6) % 2, largest, -largest).astype(dtype)
    assert cuda_cases.launch(device, example.replace(g=well), threads=2).flags == NO_FLAG
    for bad in (*BAD, 1.001 * largest, -np.finfo(dtype).max):
        for place in range(6):
            ill = well.copy()
            ill[place] = bad
            done = cuda_cases.launch(device, example.replace(g=ill), threads=2)
            assert done.flags == RAISED, f"{bad} at {place}"


@of_both_types
@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (name, bad)
        for name in ("sgd", "sgd plain", "adam", *UPDATE_CASES)
        for bad in (*BAD, "overflow")
        # These two look at a gradient's size, not its square, and step no further for it.
        if bad != "overflow" or name not in ("adamax", "lion")
    ],
)
def test_update_that_is_not_finite_is_left_out(
    device: Any, bad: float | str, name: str, dtype: str
) -> None:
    # "overflow": finite, but its square, or its product with the learning rate, is not.
    name, _, plain = name.partition(" ")
    sizes = SIZES | {"P": 13}
    example = CASES[name](Draw(name, dtype, 15, sizes, "velocity" if plain else ""))
    if bad == "overflow":
        example.floats[s.LEARNING_RATE] = 10.0
    places = [0, 5, 12]
    g = example.inputs["g"].copy()
    g[places] = np.finfo(dtype).max / 2 if bad == "overflow" else bad
    how = {"threads": 2, "phase": s.COMMIT}
    well = cuda_cases.launch(device, example, **how)
    ill = cuda_cases.launch(device, example.replace(g=g), **how)
    assert (well.flags, ill.flags) == (NO_FLAG, RAISED_LATE)
    others = np.setdiff1d(np.arange(13), places)
    for output in example.outputs:
        left, new, before = (o[output] for o in (ill.operands, well.operands, example.inputs))
        np.testing.assert_array_equal(left[places], before[places])
        np.testing.assert_array_equal(left[others], new[others])


@of_both_types
def test_decay_that_is_not_finite_is_left_out(device: Any, dtype: str) -> None:
    example = CASES["weight_decay"](Draw("weight_decay", dtype, 15, SIZES | {"P": 13}))
    example.scalars["decay"] = 1e9
    w = example.inputs["w"].copy()
    w[[0, 12]] = np.finfo(dtype).max
    done = cuda_cases.launch(device, example.replace(w=w), threads=2, phase=s.COMMIT)
    assert done.flags == RAISED_LATE
    left = done.operands["w"]
    np.testing.assert_array_equal(left[[0, 12]], w[[0, 12]])
    assert (left[1:12] != w[1:12]).all()


@pytest.mark.parametrize("place", [0, 8])
def test_flag_of_an_op_stops_none_of_its_own_blocks(device: Any, place: int) -> None:
    # On a GPU some threads of a block might look before the flag is raised, and some after.
    example = CASES["moving_average"](Draw("moving_average", "float32", 15, SIZES | {"P": 13}))
    value = example.inputs["value"].copy()
    value[place] = np.nan
    how = {"blocks": 2, "threads": 2, "phase": s.GRADIENT}
    well = cuda_cases.launch(device, example, **how)
    ill = cuda_cases.launch(device, example.replace(value=value), **how)
    assert ill.flags == RAISED
    left, expected = (np.delete(o.operands["average"], place) for o in (ill, well))
    np.testing.assert_array_equal(left, expected)


@of_both_types
@pytest.mark.parametrize("bad", BAD)
def test_norm_that_is_not_finite_clips_nothing(device: Any, bad: float, dtype: str) -> None:
    example = CASES["clip_norm"](Draw("clip_norm", dtype, 3, dict(SIZES)))
    done = cuda_cases.launch(device, example.replace(sums=np.array([1.0, bad])), phase=s.CHECK)
    assert done.flags == RAISED
    done.watched["g"].assert_kept()


@of_both_types
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("guard", [0, 1])
def test_guarded_penalty_stops_at_what_is_not_finite(
    device: Any, guard: int, bad: float, dtype: str
) -> None:
    example = CASES["penalty"](Draw("penalty", dtype, 3, dict(SIZES)))
    w = example.inputs["w"].copy()
    w[2] = bad
    example.scalars["guard"] = guard
    done = cuda_cases.launch(device, example.replace(w=w))
    assert done.flags == (RAISED if guard else NO_FLAG)
    total = cpu.floats(done.state)[s.PENALTY_SUM]
    assert total == 2.0 if guard else not np.isfinite(total)


def test_clipping_keeps_nan(device: Any) -> None:
    example = CASES["clip_value"](Draw("clip_value", "float32", 3, dict(SIZES)))
    g = example.inputs["g"].copy()
    g[[0, 4]] = np.nan
    done = cuda_cases.launch(device, example.replace(g=g))
    np.testing.assert_array_equal(np.isnan(done.operands["g"]), np.isnan(g))


# Sums of more than one block, or of more than one element to a thread


@of_both_types
@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("penalty", {"P": 2 * CHUNK + 37}),
        ("sum_of_squares", {"P": 2 * NORM_BLOCK + 5}),
        ("activity_penalty", {"N": 3, "F": LONG_ROW + 6}),
        ("activity_penalty", {"N": 3, "F": LONG_ROW - 3}),
    ],
)
def test_long_sum_is_the_oracle_for_any_grid(
    device: Any, name: str, lengths: dict[str, int], dtype: str
) -> None:
    example = CASES[name](Draw(name, dtype, 21, SIZES | lengths))
    cuda_cases.check(device, example, blocks=3)
    for how in ({"blocks": 1}, {"blocks": 2, "shift": 1}):
        assert_same_bits(
            cuda_cases.run(device, example, blocks=3), cuda_cases.run(device, example, **how)
        )


def test_norm_of_many_sums(device: Any) -> None:
    example = CASES["clip_norm"](Draw("clip_norm", "float32", 3, dict(SIZES)))
    sums = np.full(300, example.inputs["sums"][0] / 300)
    many = example.replace(sums=sums)
    many.scalars["limit"] = example.scalars["limit"]
    cuda_cases.check(device, many)
