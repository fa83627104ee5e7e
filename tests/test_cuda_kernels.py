"""The CUDA kernels on trial, in the simulator: every op against fastnn.kernels.reference."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import cuda_cases
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels.cuda import product, shared_sums
from fastnn.kernels.cuda.adapter import has_kernel
from fastnn.kernels.signatures import signature
from kernel_cases import CASES, DTYPES, Draw, assert_same_bits

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

# What needs no twin: products that round as NumPy's do, the check of gradients that are never
# written, and the order of an epoch, which the host draws.
ON_THE_CPU_ALONE = ("dense_forward_rounded", "dense_backward_rounded", "guard_product", "shuffle")
KERNELS = [name for name in CASES if has_kernel(name)]
IN_PLACE = [name for name in KERNELS if signature(name).in_place]
OPTIONAL = [(n, o.name) for n in KERNELS for o in signature(n).arrays if o.optional]

SIZES = st.sampled_from((1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 17, 31, 33))
SEEDS = st.integers(0, 2**32)
THREADS = st.sampled_from((1, 7, 32, 33))

of_both_types = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(scope="module")
def device() -> SimulatedDevice:
    return SimulatedDevice()


def lengths() -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries({letter: SIZES for letter in "NFIOCP"})


def test_every_op_has_a_twin() -> None:
    assert [name for name in CASES if name not in KERNELS] == list(ON_THE_CPU_ALONE)


@of_both_types
@pytest.mark.parametrize("name", KERNELS)
@given(lengths(), SEEDS, st.integers(1, 3), THREADS)
@settings(max_examples=4)
def test_op_is_the_oracle(
    device: Any, name: str, dtype: str, sizes: dict[str, int], seed: int, blocks: int, threads: int
) -> None:
    cuda_cases.check(
        device, CASES[name](Draw(name, dtype, seed, sizes)), blocks=blocks, threads=threads
    )


@of_both_types
@pytest.mark.parametrize(("name", "depth"), [("dense_forward", "I"), ("dense_backward_input", "O"),
                                             ("dense_backward_kernel", "N")])  # fmt: skip
@pytest.mark.parametrize("length", [128, 131, 140])
def test_deep_products_are_summed_up_by_groups(
    device: Any, name: str, dtype: str, depth: str, length: int
) -> None:
    sizes = {"N": 3, "I": 4, "O": 5} | {depth: length}
    cuda_cases.check(device, CASES[name](Draw(name, dtype, length, sizes)))


@of_both_types
@pytest.mark.parametrize("columns", [5, 40])
def test_a_kernels_gradient_that_blocks_have_parts_of(
    device: Any, monkeypatch: Any, dtype: str, columns: int
) -> None:
    """More parts than one block adds up, some of them without rows, of one tile or two."""
    monkeypatch.setattr(product, "LEAST_DEPTH", 6)
    monkeypatch.setattr(shared_sums, "FAN", 2)
    example = CASES["dense_backward_kernel"](
        Draw("dense_backward_kernel", dtype, 5, {"N": 31, "I": 4, "O": columns})
    )
    assert cuda_cases.launch_for(example).launch.blocks == (5 if columns == 5 else 10, 1)
    cuda_cases.check(device, example)
    assert_same_bits(*(cuda_cases.run(device, example) for _ in range(2)))


@pytest.mark.parametrize(("name", "without"), OPTIONAL)
@given(lengths(), SEEDS)
@settings(max_examples=2)
def test_op_without_an_operand(
    device: Any, name: str, without: str, sizes: dict[str, int], seed: int
) -> None:
    example = CASES[name](Draw(name, "float32", seed, sizes, without))
    assert example.inputs[without] is None
    cuda_cases.check(device, example, blocks=2, threads=32)


@pytest.mark.parametrize("name", IN_PLACE)
@given(lengths(), SEEDS)
@settings(max_examples=2)
def test_in_place_changes_no_bit(device: Any, name: str, sizes: dict[str, int], seed: int) -> None:
    example = CASES[name](Draw(name, "float32", seed, sizes))
    apart, in_place = (
        cuda_cases.run(device, example, in_place=place, blocks=2, threads=32)
        for place in (False, True)
    )
    assert_same_bits(apart, in_place)


@of_both_types
@pytest.mark.parametrize("name", KERNELS)
@given(lengths(), SEEDS, st.integers(1, 3))
@settings(max_examples=2)
def test_any_place_in_memory(
    device: Any, name: str, dtype: str, sizes: dict[str, int], seed: int, shift: int
) -> None:
    example = CASES[name](Draw(name, dtype, seed, sizes))
    cuda_cases.check(device, example, shift=shift, blocks=2, threads=32)
