"""Many steps of a small network in one launch, by Numba's simulator: against the CPU's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import fastnn
from cuda_cases import note_launches
from fastnn.engine import cache
from fastnn.kernels.cuda import persistent

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all kernels that are launched."""
    names: list[str] = []
    note_launches(monkeypatch, lambda one: names.append(one.key[0]))
    return names


CLASSES: dict[str, Any] = {
    "optimizer": "adam",
    "loss": "sparse_categorical_crossentropy",
    "metrics": ["accuracy"],
}
ONE_HOT = CLASSES | {"loss": "categorical_crossentropy"}
YES_OR_NO = CLASSES | {"loss": "binary_crossentropy"}
NUMBERS: dict[str, Any] = {"optimizer": "sgd", "loss": "mse"}


def network(
    device: str, inputs: int, widths: tuple[int, ...], how: dict[str, Any], activation: str = "relu"
) -> fastnn.Sequential:
    """An untrained network, whose last activation is its loss's."""
    last = "sigmoid" if how is YES_OR_NO else "linear" if how is NUMBERS else "softmax"
    layers = [fastnn.Dense(n, activation) for n in widths[:-1]]
    layers.append(fastnn.Dense(widths[-1], last))
    model = fastnn.Sequential(layers, input_shape=(inputs,), seed=1, device=device)
    model.compile(**how)
    return model


def data(rows: int, inputs: int, outputs: int, how: dict[str, Any]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, inputs)).astype(np.float32)
    if how is CLASSES:
        return x, rng.integers(0, outputs, rows)
    if how is ONE_HOT:
        return x, np.eye(outputs)[rng.integers(0, outputs, rows)]
    if how is YES_OR_NO:
        return x, rng.integers(0, 2, (rows, outputs))
    return x, rng.normal(size=(rows, outputs)).astype(np.float32)


@pytest.mark.parametrize(
    ("inputs", "widths", "rows", "batch", "how", "activation"),
    [
        (20, (64, 64, 2), 38, 32, CLASSES, "relu"),
        (3, (5, 4, 3), 17, 7, CLASSES, "tanh"),
        (5, (8, 3), 9, 4, NUMBERS, "sigmoid"),
        (4, (1,), 5, 5, NUMBERS, "linear"),
        (3, (4, 3), 5, 5, ONE_HOT, "relu"),
        (3, (4, 2), 5, 5, YES_OR_NO, "relu"),
    ],
)
def test_steps_in_one_launch_follow_the_cpu(
    inputs: int,
    widths: tuple[int, ...],
    rows: int,
    batch: int,
    how: dict[str, Any],
    activation: str,
    launched: list[str],
) -> None:
    """The last batch has fewer rows; an epoch of fewer steps than a launch does is one launch."""
    one, other = (network(device, inputs, widths, how, activation) for device in ("cuda", "cpu"))
    x, y = data(rows, inputs, widths[-1], how)
    weights = np.linspace(0.5, 1.5, rows)
    histories = [
        model.fit(x, y, batch_size=batch, epochs=2, sample_weight=weights, verbose=0).history
        for model in (one, other)
    ]
    assert launched == [persistent.NAME] * 2
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=1e-5)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-5, atol=1e-6)


def test_a_hundred_steps_follow_the_cpu(launched: list[str]) -> None:
    one, other = (network(device, 3, (4, 2), CLASSES, "tanh") for device in ("cuda", "cpu"))
    x, y = data(100 * 2, 3, 2, CLASSES)
    for model in (one, other):
        model.fit(x, y, batch_size=2, verbose=0)
    # A first slice of a few steps is one launch, and so is what is left.
    assert launched == [persistent.NAME] * 2
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=0, atol=1e-4)


def test_what_is_not_finite_changes_nothing(launched: list[str]) -> None:
    """Of two steps the second fails: parameters are those after the first."""
    x, y = data(8, 3, 2, NUMBERS)
    one, other = (network("cuda", 3, (4, 2), NUMBERS) for _ in range(2))
    other.fit(x[:4], y[:4], batch_size=4, shuffle=False, verbose=0)
    x[5] = 1e30
    with pytest.raises(fastnn.DivergenceError, match="at step 1"):
        one.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert set(launched) == {persistent.NAME}
    np.testing.assert_array_equal(one.parameters, other.parameters)


def test_it_is_kept_though_its_name_is_long(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    key = ".".join([persistent.NAME, *(f"dense_forward+float32+1,{n}" for n in range(20))])
    assert cache.write(key, b"code", "symbol")
    assert cache.read(key) == (b"code", "symbol")
    assert cache.read(key[:-1]) is None
