"""Wide products by cuBLASLt, which a stand-in takes the place of, against the ops' oracles."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")
pytest.importorskip("nvmath", reason="nvmath-python is not installed")

import cuda_cases
import fastnn
from fake_cublaslt import FakeCublasLt
from fastnn.engine.cuda import blas
from fastnn.engine.cuda.blas import Library
from fastnn.engine.cuda.device import CudaError
from fastnn.engine.cuda.mirror import Mirror
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.engine.operands import Call
from fastnn.kernels.cuda.launch import PRECISIONS
from kernel_cases import CASES, DTYPES, Draw

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

LENGTHS = {"N": 12, "I": 20, "O": 8, "F": 1, "C": 1, "P": 1}
EVERY_LENGTH = {"float32": 1, "float64": 1}

# The epilogue by which an op does all that it does; each example draws ReLU or not.
EPILOGUES = [
    ("dense_forward", "", {"BIAS", "RELU_BIAS"}),
    ("dense_forward", "b", {"DEFAULT", "RELU"}),
    ("dense_backward_input", "", {"DEFAULT"}),  # and a kernel of ours
    ("dense_backward_input", "gate", {"DEFAULT"}),
    ("dense_backward_kernel", "", {"BGRADA"}),
    ("dense_backward_kernel", "db", {"DEFAULT"}),
]


@pytest.fixture(autouse=True)
def every_length_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "LEAST_LENGTH", EVERY_LENGTH)


@pytest.fixture
def fake() -> FakeCublasLt:
    return FakeCublasLt()


@pytest.fixture
def device(fake: FakeCublasLt) -> SimulatedDevice:
    device = SimulatedDevice()
    device.library = Library(device, fake)
    return device


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "without", "epilogues"), EPILOGUES)
def test_product_is_the_oracle(
    device: Any, fake: FakeCublasLt, name: str, without: str, epilogues: set[str], dtype: str
) -> None:
    for seed in range(6):
        example = CASES[name](Draw(name, dtype, seed, dict(LENGTHS), without))
        cuda_cases.check(device, example, by_library=True)
    assert set(fake.products) == epilogues


def test_narrow_or_unaligned_products_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"y": (12, 8), "x": (12, 20), "w": (20, 8)}
    given = {name: np.ones(shape, np.float32) for name, shape in arrays.items()}
    addresses = {id(array): 64 * place for place, array in enumerate(given.values(), 1)}

    def is_wide(op: str, operands: dict[str, Any]) -> bool:
        call = Call(op, operands)
        return blas.product_of(call, 12, lambda array: addresses[id(array)]) is not None

    assert is_wide("dense_forward", given)
    assert not is_wide("relu_forward", {"y": given["y"], "x": given["y"]})
    for least, wide in ((8, True), (9, False)):
        monkeypatch.setattr(blas, "LEAST_LENGTH", {"float32": least})
        assert is_wide("dense_forward", given) == wide
    monkeypatch.setattr(blas, "LEAST_LENGTH", EVERY_LENGTH)
    addresses[id(given["w"])] += 4
    assert not is_wide("dense_forward", given)


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


@pytest.mark.parametrize("precision", PRECISIONS)
def test_factors_are_rounded_as_the_model_wants(
    device: SimulatedDevice, fake: FakeCublasLt, precision: str
) -> None:
    x, y = data()
    model = network(device)
    model.precision = precision
    model.train_on_batch(x, y)
    assert fake.computed_in == {blas._COMPUTE["float32", precision]}


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

    for name, number in blas._TYPES.items():
        assert number == nvmath.CudaDataType[f"CUDA_R_{name.removeprefix('float')}F"]
    compute = {
        ("float32", "fp32"): cublas.ComputeType.COMPUTE_32F,
        ("float32", "tf32"): cublas.ComputeType.COMPUTE_32F_FAST_TF32,
        ("float32", "bf16"): cublas.ComputeType.COMPUTE_32F_FAST_16BF,
        ("float64", "fp32"): cublas.ComputeType.COMPUTE_64F,
    }
    assert compute == blas._COMPUTE
    assert blas._NOT_SUPPORTED == cublas.Status.NOT_SUPPORTED


def test_without_binding_or_library_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvmath.bindings import cublasLt

    def missing() -> int:
        raise RuntimeError("libcublasLt.so.13: cannot open shared object file")

    monkeypatch.setattr(cublasLt, "get_version", missing, raising=True)
    assert blas.opened(SimulatedDevice()) is None
    monkeypatch.setitem(sys.modules, "nvmath.bindings", None)
    assert blas.opened(SimulatedDevice()) is None
