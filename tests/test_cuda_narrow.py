"""A narrow network's step in two kernels, by Numba's simulator: against the CPU's in float64."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import fastnn
from cuda_cases import WITHIN, note_launches
from fastnn.engine.cuda import narrow as narrow_steps
from fastnn.kernels.cuda import narrow, ways
from fastnn.kernels.cuda.narrow_format import Format, Layer

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

of_both = pytest.mark.parametrize("precision", ["tf32", "bf16"])

CLASSES = "sparse_categorical_crossentropy"


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all kernels that are launched; batches of 4 rows are large, tiles have 32."""
    names: list[str] = []
    note_launches(monkeypatch, lambda one: names.append(one.key[0]))
    monkeypatch.setattr(narrow_steps, "NARROW", ways.NARROW._replace(least_rows=4))
    monkeypatch.setattr(narrow, "TILES", (32,))
    return names


def network(
    device: str, widths: tuple[int, ...], loss: str, activation: Any = "relu", **how: Any
) -> fastnn.Sequential:
    inputs, *hidden, outputs = widths
    layers: list[fastnn.Layer] = [fastnn.Dense(n, activation) for n in hidden]
    layers.append(fastnn.Dense(outputs, "softmax" if loss == CLASSES else "linear"))
    model = fastnn.Sequential(layers, input_shape=(inputs,), seed=1, device=device, **how)
    metrics = ["accuracy"] if loss == CLASSES else []
    model.compile(fastnn.SGD(1.0), loss, metrics=metrics)
    return model


def data(rows: int, widths: tuple[int, ...], loss: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, widths[0])).astype(np.float32)
    if loss == CLASSES:
        return x, rng.integers(0, widths[-1], rows)
    return x, rng.normal(size=(rows, widths[-1])).astype(np.float32)


@of_both
@pytest.mark.parametrize(
    ("widths", "rows", "loss", "activation"),
    [
        ((16, 32, 10), 41, CLASSES, "relu"),
        ((5, 20, 17, 3), 70, CLASSES, "tanh"),
        ((12, 48, 2), 33, "mse", "sigmoid"),
        ((3, 2), 7, "mse", "linear"),
    ],
)
def test_gradients_are_those_of_the_oracle(
    widths: tuple[int, ...], rows: int, loss: str, activation: str, precision: str, launched: Any
) -> None:
    """By one step of gradient descent at a rate of 1; the last tile has fewer rows."""
    one = network("cuda", widths, loss, activation, precision=precision)
    other = network("cpu", widths, loss, activation, dtype="float64")
    other.set_weights([w.astype(np.float64) for w in one.get_weights()])
    before = [w.copy() for w in other.get_weights()]
    x, y = data(rows, widths, loss)
    weights = np.linspace(0.5, 1.5, rows)
    histories = [
        model.fit(x, y, batch_size=rows, sample_weight=weights, shuffle=False, verbose=0).history
        for model in (one, other)
    ]
    assert launched.count(narrow.STEP) == launched.count(narrow.GRADIENTS) == 1
    assert not any(name.startswith("dense_") for name in launched)
    within = WITHIN[precision]
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=within)
    for w, found, expected in zip(before, one.get_weights(), other.get_weights(), strict=True):
        largest = np.abs(expected - w).max()
        assert np.abs(found - expected).max() <= within * largest


@of_both
def test_a_block_takes_several_tiles(
    precision: str, launched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of two blocks; what these have is the same bits every time."""
    monkeypatch.setattr(narrow, "PROCESSORS", 1)
    widths = (4, 16, 2)
    x, y = data(100, widths, "mse")
    models = [network("cuda", widths, "mse", precision=precision) for _ in range(2)]
    other = network("cpu", widths, "mse", dtype="float64")
    before = [w.astype(np.float64) for w in models[0].get_weights()]
    other.set_weights(before)
    for model in (*models, other):
        model.fit(x, y, batch_size=100, shuffle=False, verbose=0)
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)
    for w, found, expected in zip(
        before, models[0].get_weights(), other.get_weights(), strict=True
    ):
        assert np.abs(found - expected).max() <= WITHIN[precision] * np.abs(expected - w).max()


def test_an_epoch_follows_the_cpu(launched: Any) -> None:
    """Adam; layers without biases; the last batch has fewer rows, and fewer tiles."""
    x, y = data(70, (4, 8, 3), CLASSES)
    histories = []
    for how in ({"device": "cuda", "precision": "tf32"}, {"device": "cpu"}):
        layers = [
            fastnn.Dense(8, "tanh", use_bias=False),
            fastnn.Dense(3, "softmax", use_bias=False),
        ]
        model = fastnn.Sequential(layers, input_shape=(4,), seed=1, **how)
        model.compile(fastnn.Adam(0.02), CLASSES, metrics=["accuracy"])
        histories.append(model.fit(x, y, batch_size=40, epochs=2, verbose=0).history)
    assert launched.count(narrow.STEP) == 4
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=2e-3)


@pytest.mark.parametrize(("large", "what"), [(1e30, "the loss"), (1e12, "a gradient")])
def test_what_is_not_finite_changes_nothing(large: float, what: str, launched: Any) -> None:
    """Of two steps the second fails: parameters are those after the first."""
    x, y = data(8, (3, 4, 2), "mse")
    one, other = (network("cuda", (3, 4, 2), "mse", precision="tf32") for _ in range(2))
    other.fit(x[:4], y[:4], batch_size=4, shuffle=False, verbose=0)
    x[5] = large
    with pytest.raises(fastnn.DivergenceError, match=f"{what}.* at step 1"):
        one.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert narrow.STEP in launched
    np.testing.assert_array_equal(one.parameters, other.parameters)


@pytest.mark.parametrize(
    ("widths", "rows", "activation", "precision"),
    [
        ((3, 129, 2), 4, "relu", "tf32"),
        ((3, 4, 2), 3, "relu", "tf32"),
        ((3, 4, 2), 4, "relu", "fp32"),
        ((3, 4, 2), 4, "gelu", "tf32"),
    ],
)
def test_other_networks_and_batches_take_other_kernels(
    widths: tuple[int, ...], rows: int, activation: str, precision: str, launched: Any
) -> None:
    """Too wide, too few rows, not rounded, and an activation whose derivative needs its input."""
    model = network("cuda", widths, "mse", activation, precision=precision)
    x, y = data(rows, widths, "mse")
    model.fit(x, y, batch_size=rows, verbose=0)
    assert narrow.STEP not in launched
    assert launched


def test_other_layers_take_other_kernels(launched: Any) -> None:
    """What stands between the products, and penalties of weights or outputs."""
    x, y = data(4, (3, 4, 2), "mse")
    for inside in (
        [fastnn.Dense(4), fastnn.Dropout(0.5)],
        [fastnn.Dense(4, kernel_regularizer="l2")],
        [fastnn.Dense(4), fastnn.LayerNormalization()],
    ):
        model = fastnn.Sequential(
            [*inside, fastnn.Dense(2)], input_shape=(3,), seed=1, device="cuda", precision="tf32"
        )
        model.compile("sgd", "mse")
        model.fit(x, y, batch_size=4, verbose=0)
    assert narrow.STEP not in launched


def test_smoothed_labels_take_other_kernels(launched: Any) -> None:
    """They become rows of targets only after the forward pass."""
    loss = fastnn.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model = network("cuda", (3, 4, 2), CLASSES, precision="tf32")
    model.compile("sgd", loss)
    x, y = data(4, (3, 4, 2), CLASSES)
    model.fit(x, y, batch_size=4, verbose=0)
    assert "one_hot" in launched
    assert narrow.STEP not in launched


def layers(*widths: int) -> list[Layer]:
    return [Layer(*pair, 0) for pair in pairwise(widths)]


@pytest.mark.parametrize(
    ("precision", "widths", "rows", "tile", "blocks"),
    [
        ("tf32", (64, 64, 64, 10), 4096, 64, 64),
        ("tf32", (64, 64, 64, 10), 16384, 128, 128),
        ("tf32", (64, 64, 64, 10), 65536, 128, 132),
        ("bf16", (64, 64, 64, 10), 65536, 128, 264),
        ("tf32", (64, 128, 128, 10), 16384, 64, 132),
        ("bf16", (128, 128, 128, 128), 65536, 64, 132),
    ],
)
def test_tiles_fit_into_shared_memory(
    precision: str, widths: tuple[int, ...], rows: int, tile: int, blocks: int
) -> None:
    found = narrow.launches_of(precision, layers(*widths), rows, 1000, 227 << 10)
    assert found is not None
    step, _ = found
    assert (step.constants, step.blocks, step.threads) == ((tile,), (blocks, 1), 2 * tile)
    assert step.shared <= 227 << 10


def test_too_many_layers_for_shared_memory() -> None:
    assert narrow.launches_of("tf32", layers(*[128] * 6), 4096, 1000, 227 << 10) is None


BANKS = 32


@of_both
@pytest.mark.parametrize("width", [16, 48, 64, 128])
def test_a_warp_reads_from_different_banks(precision: str, width: int) -> None:
    """Rows along the depth as matrices of eight; in tf32, columns word by word."""
    pitch = Format(precision).pitch(width)
    chunks = [pitch // 4 * row % (BANKS // 4) for row in range(8)]
    assert pitch % 4 == 0
    # In tf32 two of eight rows meet in a bank: so columns, read twice as often, do not.
    assert len(set(chunks)) == (8 if precision == "bf16" else 4)
    if precision == "tf32":
        words = {(lane % 4 * pitch + lane // 4) % BANKS for lane in range(32)}
        assert len(words) == BANKS
