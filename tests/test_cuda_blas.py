"""Wide products by cuBLASLt, which a stand-in takes the place of, against the ops' oracles."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("nvmath", reason="nvmath-python is not installed")

import fastnn
from fake_cublaslt import FakeCublasLt
from fastnn.engine.cuda import blas
from fastnn.engine.cuda.blas import Library
from fastnn.engine.cuda.device import CudaError
from fastnn.engine.cuda.mirror import Mirror
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.engine.operands import Call
from helpers import assert_close
from kernel_cases import CASES, DTYPES, Draw, Watched, poison

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

LENGTHS = {"N": 12, "I": 20, "O": 8, "F": 1, "C": 1, "P": 1}
ALL_ALIGNED = {"float32": 1, "float64": 1}

# The epilogue by which an op does all that it does; each example draws ReLU or not.
EPILOGUES = [
    ("dense_forward", "", {"BIAS", "RELU_BIAS"}),
    ("dense_forward", "b", {"DEFAULT", "RELU"}),
    ("dense_backward_input", "gate", {"DEFAULT"}),
    ("dense_backward_kernel", "", {"BGRADA"}),
    ("dense_backward_kernel", "db", {"DEFAULT"}),
]


@pytest.fixture(autouse=True)
def every_length_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "LEAST_LENGTH", ALL_ALIGNED)


@pytest.fixture
def fake() -> FakeCublasLt:
    return FakeCublasLt()


@pytest.fixture
def device(fake: FakeCublasLt) -> SimulatedDevice:
    device = SimulatedDevice()
    device.library = Library(device, fake)
    return device


def watched_call(example: Any, shift: int = 0) -> tuple[Call, dict[str, Watched]]:
    """An example's op, its arrays between margins."""
    watched = {n: Watched(v, shift) for n, v in example.inputs.items() if v is not None}
    for name, value in example.expected().items():
        nothing = np.full(value.shape, poison(example.dtype), example.dtype)
        watched[name] = Watched(nothing, shift)
    arrays = {name: w.array for name, w in watched.items()}
    return Call(example.name, arrays | example.scalars), watched


def address_of(array: Any) -> int:
    return int(array.ctypes.data)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "without", "epilogues"), EPILOGUES)
def test_product_is_the_oracle(
    device: Any, fake: FakeCublasLt, name: str, without: str, epilogues: set[str], dtype: str
) -> None:
    for seed in range(6):
        example = CASES[name](Draw(name, dtype, seed, dict(LENGTHS), without))
        call, watched = watched_call(example)
        product = blas.product_of(call, LENGTHS["N"], address_of)
        assert product is not None
        assert blas.rest_of(call) is None
        assert device.library.supports(product)
        device.prepare([product]).run()
        for output, value in example.expected().items():
            actual = watched[output].array.astype(np.float64)
            assert_close(actual, value, dtype, example.scale)
        for operand, w in watched.items():
            (w.assert_margins_kept if operand in example.expected() else w.assert_kept)()
    assert set(fake.products) == epilogues


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gate_is_left_to_a_kernel_of_ours(dtype: str) -> None:
    example = CASES["dense_backward_input"](
        Draw("dense_backward_input", dtype, 0, dict(LENGTHS), "")
    )
    call, watched = watched_call(example)
    rest = blas.rest_of(call)
    assert rest is not None
    assert rest.key == ("relu_backward", dtype)
    dx, gate = watched["dx"].array, watched["gate"].array
    assert [rest.arrays[name] is array for name, array in (("dx", dx), ("dy", dx), ("y", gate))]


def test_narrow_or_unaligned_products_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    example = CASES["dense_forward"](Draw("dense_forward", "float32", 0, dict(LENGTHS), ""))
    aligned, _ = watched_call(example)
    assert blas.product_of(aligned, 12, address_of) is not None
    shifted, _ = watched_call(example, shift=1)
    assert blas.product_of(shifted, 12, address_of) is None
    for least, is_wide in ((8, True), (9, False)):
        monkeypatch.setattr(blas, "LEAST_LENGTH", {"float32": least})
        assert (blas.product_of(aligned, 12, address_of) is not None) == is_wide
    assert blas.product_of(Call("relu_forward", {"y": np.ones((9, 9)), "x": np.ones((9, 9))}), 9,
                           address_of) is None  # fmt: skip


# Models

ROWS, FEATURES = 22, 8


def network(device: SimulatedDevice | None = None) -> fastnn.Sequential:
    layers = [fastnn.Dense(12, activation="relu"), fastnn.Dense(8, activation="relu")]
    model = fastnn.Sequential([*layers, fastnn.Dense(4)], input_shape=(FEATURES,), seed=3)
    model.compile(optimizer=fastnn.SGD(0.1), loss="mse")
    if device is not None:
        model.to("cuda")
        model._mirror = Mirror(device)
    return model


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    return x, rng.normal(size=(ROWS, 4)).astype(np.float32)


def test_whole_steps_are_the_librarys_and_the_last_one_ours(
    device: SimulatedDevice, fake: FakeCublasLt
) -> None:
    x, y = data()
    models = [network(), network(device)]
    histories = [model.fit(x, y, batch_size=8, epochs=2, verbose=0) for model in models]
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(*(h.history["loss"] for h in histories), rtol=1e-5)
    # Three layers forward, two gradients of inputs, three of kernels; of 8, 8 and 6 rows.
    a_step = ["RELU_BIAS", "RELU_BIAS", "BIAS"]
    assert fake.products[:3] == a_step
    assert len(fake.products) == 2 * 2 * 8
    assert fake.products.count("BGRADA") == 2 * 2 * 3


def test_an_algorithm_is_chosen_once_for_a_shape(
    device: SimulatedDevice, fake: FakeCublasLt
) -> None:
    x, y = data()
    for _ in range(2):
        network(device).fit(x, y, batch_size=8, epochs=1, verbose=0)
    assert len(fake.chosen) == len(device.library._plans) <= 2 * 8  # type: ignore[union-attr]


def test_predictions_of_fewer_rows_are_ours(device: SimulatedDevice, fake: FakeCublasLt) -> None:
    x, _ = data()
    model = network(device)
    expected = network().predict(x)
    np.testing.assert_allclose(model.predict(x[:5]), expected[:5], rtol=1e-5, atol=1e-6)
    assert not fake.products
    np.testing.assert_allclose(model.predict(x, batch_size=16), expected, rtol=1e-5, atol=1e-6)
    assert len(fake.products) == 3


def test_what_the_library_cannot_do_is_ours(device: SimulatedDevice, fake: FakeCublasLt) -> None:
    x, y = data()
    fake.unsupported = {"BGRADA"}
    models = [network(), network(device)]
    for model in models:
        model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert "BGRADA" not in fake.products
    assert len(fake.products) == 2 * 5


def test_divergence_is_met_though_the_library_sees_no_flag(
    device: SimulatedDevice, fake: FakeCublasLt
) -> None:
    x, y = data()
    model = network(device)
    model.compile(optimizer=fastnn.SGD(1e38), loss="mse")
    with pytest.raises(fastnn.DivergenceError):
        model.fit(x, y, batch_size=8, epochs=3, verbose=0)
    assert fake.products
    assert np.isfinite(model.parameters).all()


def test_an_error_of_the_library_is_named(device: SimulatedDevice, fake: FakeCublasLt) -> None:
    x, _ = data()
    fake.failing = 14
    with pytest.raises(CudaError, match="matmul_algo_get_heuristic: status 14"):
        network(device).predict(x, batch_size=16)


# The library itself


def test_its_numbers_are_nvidias() -> None:
    import nvmath
    from nvmath.bindings import cublas

    for name, (number, compute) in blas._TYPES.items():
        letters = name.removeprefix("float")
        assert number == nvmath.CudaDataType[f"CUDA_R_{letters}F"]
        assert compute == cublas.ComputeType[f"COMPUTE_{letters}F"]
    assert blas._NOT_SUPPORTED == cublas.Status.NOT_SUPPORTED


def test_without_binding_or_library_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvmath.bindings import cublasLt

    def missing() -> int:
        raise RuntimeError("libcublasLt.so.13: cannot open shared object file")

    monkeypatch.setattr(cublasLt, "get_version", missing, raising=True)
    assert blas.opened(SimulatedDevice()) is None
    monkeypatch.setitem(sys.modules, "nvmath.bindings", None)
    assert blas.opened(SimulatedDevice()) is None
