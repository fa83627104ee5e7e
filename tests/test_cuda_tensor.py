"""Products on tensor cores, in the simulator: as exact as their precision, and not more so."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import cuda_cases
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels.cuda import product
from fastnn.kernels.cuda.tensor import ROUNDED, Layout, fragments_of
from helpers import assert_close
from kernel_cases import CASES, Array, Draw, Example, assert_same_bits

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

BEYOND = {"tf32": 1e-5, "bf16": 1e-4}
"""The least that the worst result is off, as a share of the largest: factors are rounded."""

DEPTH = {"dense_forward": "I", "dense_backward_input": "O", "dense_backward_kernel": "N"}
"""The dimension along which each product sums."""

SHAPES = [(1, 1, 1), (2, 3, 5), (7, 17, 33), (34, 20, 12)]
"""Rows and columns, of one block or two, and the depth, of up to three slices."""

of_both = pytest.mark.parametrize("precision", list(BEYOND))
of_all_products = pytest.mark.parametrize("name", list(DEPTH))


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


def example(name: str, rows: int, columns: int, depth: int, without: str = "") -> Example:
    """An op's example whose product has these lengths."""
    others = [letter for letter in "NIO" if letter != DEPTH[name]]
    lengths = dict(zip(others, (rows, columns), strict=True)) | {DEPTH[name]: depth}
    return CASES[name](Draw(name, "float32", rows + depth, lengths, without))


def integers(case: Example) -> Example:
    """The example with small integers, which bfloat16 holds as they are."""
    rng = np.random.default_rng(1)

    def like(operand: Array | None) -> Array | None:
        return None if operand is None else rng.integers(-8, 9, operand.shape).astype(np.float32)

    return case.replace(**{name: like(operand) for name, operand in case.inputs.items()})


@of_both
@of_all_products
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_as_exact_as_their_precision(
    device: Any, name: str, precision: str, shape: tuple[int, int, int]
) -> None:
    cuda_cases.check(device, example(name, *shape), precision=precision)


@of_both
@of_all_products
def test_factors_are_rounded(device: Any, name: str, precision: str) -> None:
    found = cuda_cases.errors(device, example(name, 7, 17, 33), precision=precision)
    for output, error in found.items():
        assert (error > BEYOND[precision]) is (output != "db")


@of_both
@of_all_products
@pytest.mark.parametrize("shape", [(7, 17, 33), (8, 36, 20), (9, 5, 131), (4, 12, 260)], ids=str)
def test_what_needs_no_rounding_is_exact(
    device: Any, name: str, precision: str, shape: tuple[int, int, int]
) -> None:
    # The last two are deep: groups of warps take a part each.
    case = integers(example(name, *shape))
    results = cuda_cases.run(device, case, precision=precision)
    for output, value in case.expected().items():
        np.testing.assert_array_equal(results[output], value)


@of_both
@of_all_products
@pytest.mark.parametrize(("tile", "odd"), [(0, 0), (1, 1)])
def test_large_tiles(
    device: Any, monkeypatch: Any, name: str, precision: str, tile: int, odd: int
) -> None:
    # A tile is taken that has so many blocks, of 128 rows or of 64.
    monkeypatch.setattr(product, "ENOUGH_BLOCKS", 1 + tile)
    case = integers(example(name, 68 + odd, 72 + odd, 36 + odd))
    results = cuda_cases.run(device, case, precision=precision)
    for output, value in case.expected().items():
        np.testing.assert_array_equal(results[output], value)


@of_both
@of_all_products
def test_any_place_in_memory(device: Any, name: str, precision: str) -> None:
    case = example(name, 8, 36, 20)
    aligned, shifted = (
        cuda_cases.run(device, case, precision=precision, shift=shift) for shift in (0, 3)
    )
    assert_same_bits(aligned, shifted)


@of_both
@pytest.mark.parametrize(
    ("name", "without"),
    [("dense_forward", "b"), ("dense_backward_input", "gate"), ("dense_backward_kernel", "db")],
)
def test_product_without_an_operand(device: Any, name: str, without: str, precision: str) -> None:
    case = example(name, 6, 9, 20, without)
    assert case.inputs[without] is None
    cuda_cases.check(device, case, precision=precision)


@of_both
def test_sums_of_columns_are_of_numbers_not_rounded(device: Any, precision: str) -> None:
    case = example("dense_backward_kernel", 5, 11, 70)
    results = cuda_cases.run(device, case, precision=precision)
    assert_close(results["db"], case.expected()["db"], "float32", case.scale)


@of_both
def test_what_is_not_finite_is_not_hidden(device: Any, precision: str) -> None:
    case = example("dense_forward", 4, 5, 6)
    for row, value in enumerate((np.nan, np.inf, -np.inf)):
        case.inputs["x"][row, row] = value
    found = cuda_cases.run(device, case.replace(), precision=precision)["y"]
    expected = case.replace().expected()["y"]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    assert np.isfinite(found[3]).all()


BANKS = 32
"""Words of shared memory that come at once, if they lie in different banks."""


@of_both
@pytest.mark.parametrize("depth_runs", [True, False])
def test_a_warp_reads_from_different_banks(precision: str, depth_runs: bool) -> None:
    rounded = ROUNDED[precision]
    for tile in rounded.tiles:
        layout = Layout(rounded, tile, tile.columns, depth_runs)
        fragments = fragments_of(layout, rounded, depth_runs)
        at = [fragments.first(lane, 0) for lane in range(32)]
        if precision == "tf32" and not depth_runs:  # word by word
            assert len({word % BANKS for word in at}) == BANKS
            continue
        for eight in (at[i : i + 8] for i in range(0, 32, 8)):  # chunks of four words
            assert len({word // 4 % (BANKS // 4) for word in eight}) == 8


@of_both
@pytest.mark.parametrize("depth_runs", [True, False])
def test_a_slice_is_brought_once(precision: str, depth_runs: bool) -> None:
    rounded = ROUNDED[precision]
    for tile in rounded.tiles:
        layout = Layout(rounded, tile, tile.columns, depth_runs)
        brought = []
        for thread in range(tile.group):
            line, chunk = layout.place(thread)
            for piece in range(layout.pieces):
                at = layout.index(line, chunk) + piece * layout.words_apart
                assert at == layout.index(line + piece * layout.lines_apart, chunk)
                brought.append(at)
        assert sorted(brought) == list(range(0, layout.words, 4))
