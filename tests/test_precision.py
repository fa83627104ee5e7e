"""The precision of a model on a GPU, which Numba's simulator stands for."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

import fastnn
from cuda_cases import WITHIN  # predictions are near 1

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

of_both = pytest.mark.parametrize("precision", list(WITHIN))


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 5)).astype(np.float32), rng.integers(0, 3, 20)


def network(device: str, precision: str = "fp32", dtype: str = "float32") -> fastnn.Sequential:
    layers = [fastnn.Dense(6, activation="relu"), fastnn.Dense(3, activation="softmax")]
    model = fastnn.Sequential(
        layers, input_shape=(5,), dtype=dtype, seed=3, device=device, precision=precision
    )
    model.compile(optimizer=fastnn.SGD(0.1), loss="categorical_crossentropy")
    return model


@of_both
def test_predictions_are_as_exact_as_the_precision(precision: str) -> None:
    x, _ = data()
    off = np.abs(network("cuda", precision).predict(x) - network("cpu").predict(x)).max()
    assert 1e-5 < off < WITHIN[precision]


@of_both
def test_training_is_near_that_in_fp32_and_repeatable(precision: str) -> None:
    x, y = data()
    exact, one, other = network("cpu"), network("cuda", precision), network("cuda", precision)
    for model in (exact, one, other):
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert one.parameters.tobytes() == other.parameters.tobytes()
    assert 1e-6 < np.abs(one.parameters - exact.parameters).max() < WITHIN[precision]


def test_a_file_keeps_the_precision(tmp_path: Any) -> None:
    x, _ = data()
    model = network("cuda", "bf16")
    model.save(tmp_path / "model.safetensors")
    loaded = fastnn.load(tmp_path / "model.safetensors")
    assert (loaded.precision, loaded.device) == ("bf16", "cpu")
    np.testing.assert_array_equal(loaded.predict(x), network("cpu").predict(x))
    np.testing.assert_array_equal(loaded.to("cuda").predict(x), model.predict(x))


def test_a_cpu_computes_in_fp32() -> None:
    x, _ = data()
    expected = network("cpu").predict(x)
    for model in (network("cuda", "bf16").to("cpu"), network("auto", "bf16")):
        assert model.device == "cpu"
        np.testing.assert_array_equal(model.predict(x), expected)


@pytest.mark.parametrize(
    ("device", "precision", "dtype", "said"),
    [
        ("cuda", "fp16", "float32", "precision must be one of .*'fp16'"),
        ("cuda", "tf32", "float64", "precision='tf32' is for dtype='float32', got dtype='float64'"),
        ("cpu", "bf16", "float32", "precision='bf16' is for device='cuda', got device='cpu'"),
    ],
)
def test_what_cannot_be_is_refused(device: str, precision: str, dtype: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^Sequential: {said}$"):
        network(device, precision, dtype)
