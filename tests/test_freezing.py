"""Layers that are frozen, or trained at a rate of their own; weights that nobody trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.engine import shapes
from fastnn.training import planner
from fusion_cases import ALL_OPTIMIZERS
from helpers import assert_close

Array = NDArray[Any]


class Mean(fastnn.Layer):
    """x minus a mean that the layer keeps, which training moves towards that of the batches."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.mean = self.add_weight("mean", input_shape, "zeros", trainable=False)

    def forward(self, x: Array, training: bool = False) -> Array:
        if training:
            self.mean += 0.5 * (x.mean(axis=0) - self.mean)
        return np.asarray(x - self.mean)

    def backward(self, dy: Array) -> Array:
        return dy


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(11, 5)), rng.normal(size=(11, 3))


def network(dtype: str = "float64", optimizer: Any = None, **options: Any) -> fastnn.Sequential:
    """Three layers, of which the middle one has `options`."""
    layers = [fastnn.Dense(6, "tanh"), fastnn.Dense(7, "tanh", **options), fastnn.Dense(3)]
    model = fastnn.Sequential(layers, (5,), dtype=dtype, seed=3)
    model.compile(optimizer or fastnn.Adam(0.01), "mse")
    return model


@pytest.mark.parametrize("optimizer", ALL_OPTIMIZERS)
def test_a_multiplier_is_a_learning_rate_of_its_own(optimizer: str) -> None:
    """All steps of one layer are those of an optimizer with its rate times the multiplier."""
    layer, twin = (fastnn.Dense(7, learning_rate_multiplier=m) for m in (0.25, 1.0))
    own, other = ALL_OPTIMIZERS[optimizer](), ALL_OPTIMIZERS[optimizer]()
    rates = other.rates
    other.rates = lambda first, last: 0.25 * rates(first, last)
    gradients = np.random.default_rng(1).normal(size=(5, 7))
    for each, by in ((layer, own), (twin, other)):
        each.prepare((5,), "float64", seed=2)
        for step in range(3):
            each.grads["kernel"][...] = gradients * (step + 1)
            each.grads["bias"][...] = 0.5
            by.update(each)
    for name, w in layer.params.items():
        assert_close(w, twin.params[name])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "nadam", "adamax"])
def test_groups_are_updated_as_layers_by_hand(
    optimizer: str, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fused:
        monkeypatch.setattr(shapes, "UPDATE_BYTES", 1)
    (x, y), loss = data(), fastnn.MeanSquaredError()
    model, by_hand = (
        network("float32", ALL_OPTIMIZERS[optimizer](), learning_rate_multiplier=0.5)
        for _ in range(2)
    )
    for each in (model, by_hand):
        each.layers[0].trainable = False
    assert len(planner.groups_of(model.layers, model.flat())) == 2
    own = ALL_OPTIMIZERS[optimizer]()
    for _ in range(3):
        model.fit(x, y, batch_size=11, shuffle=False, verbose=0)
        loss.forward(by_hand(x, training=True), y)
        gradient = loss.backward()
        for layer in reversed(by_hand.layers):
            gradient = layer.backward(gradient)
        own.update(by_hand.layers)
        if own.use_ema:
            own.finalize(by_hand.layers)
    assert_close(model.parameters, by_hand.parameters)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "amsgrad", "adamax", "adadelta"])
def test_a_frozen_layer_stays_what_it_is(optimizer: str) -> None:
    """With decay, clipping and averages around the update, too; all else goes on as before."""
    x, y = data()
    model = network("float32", ALL_OPTIMIZERS[optimizer](), trainable=False)
    before = model.get_weights()
    model.fit(x, y, batch_size=4, epochs=3, verbose=0)
    after = model.get_weights()
    changed = [bool((a != b).any()) for a, b in zip(before, after, strict=True)]
    assert changed == [True, True, False, False, True, True]
    model.layers[1].trainable = True  # counts from the next fit on
    model.fit(x, y, batch_size=4, verbose=0)
    assert (model.layers[1].kernel != after[2]).any()


def test_a_frozen_gradient_is_not_computed() -> None:
    x, y = data()
    model = network(trainable=False)
    model.layers[1].grads["kernel"][...] = np.nan  # would stop the training if it were looked at
    model.fit(x, y, verbose=0)
    assert np.isnan(model.layers[1].grads["kernel"]).all()
    assert set(fastnn.gradcheck(model, x, y)) == {
        "dense_0.bias", "dense_0.kernel", "dense_2.bias", "dense_2.kernel",
    }  # fmt: skip


def test_first_layers_frozen_is_training_of_the_rest_alone() -> None:
    """Features of a frozen front, and a model that is trained on them: the same bits."""
    x, y = data()
    model = network("float32")
    model.layers[0].trainable = False
    rest = fastnn.Sequential(
        [fastnn.Dense(7, "tanh"), fastnn.Dense(3)], (6,), dtype="float32", seed=model.seed
    )
    rest.set_weights(model.get_weights()[2:])
    rest.compile(fastnn.Adam(0.01), "mse")
    features = model.layers[0].forward(x)
    model.fit(x, y, batch_size=4, epochs=3, verbose=0)
    rest.fit(features, y, batch_size=4, epochs=3, verbose=0)
    for own, expected in zip(model.get_weights()[2:], rest.get_weights(), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_nothing_to_train() -> None:
    x, y = data()
    for model in (network(trainable=False), fastnn.Sequential([fastnn.Tanh()], (3,))):
        for layer in model.layers:
            layer.trainable = False
        model.compile("adam", "mse")
        before = model.predict(x[:, : model.input_shape[0]])
        history = model.fit(x[:, : model.input_shape[0]], y, batch_size=4, epochs=2, verbose=0)
        assert len(history.history["loss"]) == 2
        np.testing.assert_array_equal(model.predict(x[:, : model.input_shape[0]]), before)
        assert model.get_config()["step"] == 6


def test_a_frozen_layer_is_saved_as_one(tmp_path: Path) -> None:
    model = network(trainable=False, learning_rate_multiplier=0.5)
    model.save(tmp_path / "net.safetensors")
    layer = fastnn.load(tmp_path / "net.safetensors").layers[1]
    assert (layer.trainable, layer.learning_rate_multiplier) == (False, 0.5)


def test_weights_nobody_trains_are_kept_beside_the_parameters(tmp_path: Path) -> None:
    x, y = data()
    model = fastnn.Sequential([Mean(), fastnn.Dense(3)], (5,), dtype="float64", seed=1)
    model.compile("sgd", "mse")
    assert model.count_params() == 5 + 18
    assert model.parameters.size == 18
    model.fit(x, y, batch_size=11, verbose=0)
    np.testing.assert_allclose(model.layers[0].buffers["mean"], 0.5 * x.mean(axis=0))
    assert model.layers[0].mean is model.layers[0].buffers["mean"]
    weights = model.get_weights()
    assert [w.shape for w in weights] == [(5,), (5, 3), (3,)]
    model.save(tmp_path / "net.safetensors")
    again = fastnn.load(tmp_path / "net.safetensors", {"Mean": Mean})
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    again.set_weights([np.zeros_like(w) for w in weights])
    assert (again.layers[0].mean == 0).all()
    lines: list[str] = []
    model.summary(lines.append)
    assert lines[-2].split()[:2] == ["total", "23"]
    assert lines[-1].split()[:4] == ["of", "it", "trained", "18"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"trainable": 1}, TypeError, "Dense: trainable must be True or False, got 1"),
        ({"learning_rate_multiplier": -1.0}, ValueError, r"multiplier must be .* \[0, inf\)"),
        ({"learning_rate_multiplier": "1"}, ValueError, "multiplier"),
    ],
)
def test_wrong_options_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fastnn.Dense(3, **options)


def test_averages_of_what_was_frozen_begin_with_it() -> None:
    x, y = data()
    model = network(optimizer=fastnn.SGD(0.0, use_ema=True, ema_momentum=0.9), trainable=False)
    before = model.get_weights()
    model.take_average()  # of no step
    model.fit(x, y, verbose=0)
    model.layers[1].trainable = True
    model.take_average()
    model.fit(x, y, verbose=0)
    for own, expected in zip(model.get_weights(), before, strict=True):
        assert_close(own, expected)


@pytest.mark.parametrize("in_python", [False, True])
def test_nothing_is_frozen_or_thawed_while_a_model_is_trained(in_python: bool) -> None:
    x, y = data()
    model = fastnn.Sequential([fastnn.Dense(3), *([Mean()] if in_python else [])], (5,), seed=1)
    model.compile("sgd", "mse")
    for option, value in (("trainable", False), ("learning_rate_multiplier", 0.5)):
        change = fastnn.LambdaCallback(
            on_epoch_end=lambda epoch, logs, o=option, v=value: setattr(model.layers[0], o, v)
        )
        with pytest.raises(RuntimeError, match=f"dense_0: {option} cannot be set while"):
            model.fit(x, y, callbacks=[change], verbose=0)
        setattr(model.layers[0], option, value)


def test_a_layer_that_is_given_twice_is_updated_once() -> None:
    block = fastnn.Residual([fastnn.Dense(2, kernel_initializer="ones")])
    block.forward(np.ones((1, 2)))
    block.layers[0].grads["kernel"][...] = 1.0
    fastnn.SGD(0.5).update([block, block.layers[0]])
    np.testing.assert_array_equal(block.layers[0].kernel, 0.5)


def test_an_unknown_option_names_the_layer() -> None:
    with pytest.raises(TypeError, match="Dense: no argument is called 'foo'; every layer takes"):
        fastnn.Dense(3, foo=1)
