"""Bugs that were met once, each held by the smallest case that showed it."""

import threading
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.engine import cpu, program
from fastnn.kernels import state as s

ROWS, COLUMNS, CLASSES = 24, 5, 3
X = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
Y = np.arange(ROWS, dtype=np.int32) % CLASSES


def classifier(*layers: fastnn.Layer) -> fastnn.Sequential:
    model = fastnn.Sequential([*layers, fastnn.Dense(CLASSES, "softmax")], COLUMNS, seed=3)
    model.compile(fastnn.SGD(0.1), "categorical_crossentropy", ["accuracy"])
    return model


def test_a_bad_gradient_met_in_one_slice_is_not_forgotten_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "PIECE_COST", 100)
    monkeypatch.setattr(cpu, "_FIRST_BUDGET", 1)
    monkeypatch.setattr(cpu, "SLICE_SECONDS", 0.0)
    model = fastnn.Sequential([fastnn.Dense(400, kernel_initializer="zeros")], 2, seed=0)
    model.compile(fastnn.SGD(1e-3), "mse")
    before = model.parameters.copy()
    # The first column of the kernel's first row alone has a gradient whose square overflows.
    x, y = np.full((1, 2), [1.0, 0.0], np.float32), np.zeros((1, 400), np.float32)
    model.layers[0].bias[0] = 1e18
    before[-400] = 1e18
    x[0, 0] = 1e5
    with pytest.raises(fastnn.DivergenceError):
        model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.parameters, before)


def test_labels_changed_while_fitting_are_not_looked_at() -> None:
    y = Y.copy()

    def spoil(epoch: int, logs: object) -> None:
        y[:] = 10**9

    one, other = classifier(), classifier()
    spoiler = fastnn.LambdaCallback(on_epoch_begin=spoil)
    one.fit(X, y, epochs=2, callbacks=[spoiler], verbose=0)
    other.fit(X, Y, epochs=2, verbose=0)
    np.testing.assert_array_equal(one.parameters, other.parameters)


def test_a_model_is_trained_by_one_at_a_time() -> None:
    model = classifier()
    refusals: list[str] = []

    def try_to_train(*_: object) -> None:
        for train in (model.fit, model.train_on_batch):
            with pytest.raises(RuntimeError, match="being trained already") as refusal:
                train(X, Y)
            refusals.append(str(refusal.value))

    def from_elsewhere(*_: object) -> None:
        thread = threading.Thread(target=try_to_train)
        thread.start()
        thread.join()

    both = fastnn.LambdaCallback(on_epoch_begin=try_to_train, on_epoch_end=from_elsewhere)
    model.fit(X, Y, callbacks=[both], verbose=0)
    assert len(refusals) == 4
    assert model.state[s.STEP] == 1
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_layer_of_fastnns_cannot_have_its_ops_bypassed(way: str) -> None:
    with pytest.raises(TypeError, match=rf"Twice: {way} of one of fastnn's own layers"):
        type("Twice", (fastnn.Dense,), {way: lambda self, *arguments: None})
    type("Wider", (fastnn.Dense,), {"get_config": lambda self: {}})


def test_a_called_model_converts_as_predict_does() -> None:
    class Square(fastnn.Layer):
        def forward(self, x: Any, training: bool = False) -> Any:
            return x * x

    model = fastnn.Sequential([Square()], 1)
    x = np.array([[20]], np.uint8)
    assert model(x).item() == model.predict(x).item() == 400


def test_layers_built_before_have_masks_of_their_own() -> None:
    first, second = fastnn.Dropout(0.5, seed=1), fastnn.Dropout(0.5, seed=1)
    for layer in (first, second):
        layer.forward(np.ones((1, 1000)))
    model = fastnn.Sequential([first, second], 1000, seed=2)
    kept = (model(np.ones((1, 1000)), training=True) > 0).mean()
    assert 0.15 < kept < 0.35


def test_rows_without_columns_are_refused_and_no_rows_give_no_gradient() -> None:
    with pytest.raises(ValueError, match="rows must be a tuple of positive integers"):
        fastnn.Dense(2).forward(np.ones((3, 0)))
    layer = fastnn.Dense(2)
    layer.forward(np.ones((4, 3)), training=True)
    layer.backward(np.ones((4, 2)))
    layer.forward(np.ones((0, 3)), training=True)
    assert layer.backward(np.ones((0, 2))).shape == (0, 3)
    assert not layer.grads["kernel"].any()
    assert not layer.grads["bias"].any()


def test_metrics_fit_into_the_state() -> None:
    class Named(fastnn.Accuracy):
        def __init__(self, name: str) -> None:
            self.name = name

    model = classifier()
    most = [Named(f"m{i}") for i in range(s.MAX_METRICS)]
    model.compile("sgd", "categorical_crossentropy", most)
    assert len(model.evaluate(X, Y)) == s.MAX_METRICS + 1
    with pytest.raises(ValueError, match="metrics must be at most"):
        model.compile("sgd", "categorical_crossentropy", [*most, Named("more")])
    with pytest.raises(ValueError, match="must not be named 'loss'"):
        model.compile("sgd", "categorical_crossentropy", [Named("loss")])


def test_a_weight_may_be_a_scalar() -> None:
    class Scale(fastnn.Layer):
        def build(self, input_shape: tuple[int, ...]) -> None:
            self.add_weight("alpha", (), "ones")

        def forward(self, x: Any, training: bool = False) -> Any:
            return x * self.params["alpha"]

    model = fastnn.Sequential([Scale()], 2)
    model.set_weights([3.0])
    assert model.predict([[1, 2]]).tolist() == [[3.0, 6.0]]
    with pytest.raises(ValueError, match="alpha must be finite"):
        model.set_weights([np.nan])


def test_parameters_let_nothing_past_their_checks() -> None:
    layer = classifier().layers[0]
    with pytest.raises(ValueError, match="kernel must be finite"):
        layer.params.update(kernel=np.full((COLUMNS, CLASSES), np.nan))
    with pytest.raises(TypeError, match="kernel cannot be removed"):
        del layer.params["kernel"]
    assert np.isfinite(layer.params["kernel"]).all()


def test_best_weights_are_put_back_once() -> None:
    class Fails(fastnn.Callback):
        def on_train_begin(self, logs: object = None) -> None:
            raise ZeroDivisionError

    model = classifier()
    stopping = fastnn.EarlyStopping("loss", restore_best_weights=True)
    model.fit(X, Y, epochs=2, callbacks=[stopping], verbose=0)
    model.parameters[:] = 0
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y, callbacks=[Fails(), stopping], verbose=0)
    assert not model.parameters.any()


def test_every_callback_hears_the_end() -> None:
    ended: list[int] = []

    def fail(logs: object) -> None:
        raise ZeroDivisionError

    callbacks = [
        fastnn.LambdaCallback(on_train_end=fail),
        fastnn.LambdaCallback(on_train_end=lambda logs: ended.append(1)),
    ]
    with pytest.raises(ZeroDivisionError):
        classifier().fit(X, Y, callbacks=callbacks, verbose=0)
    assert ended == [1]


def test_a_changed_rate_is_taken_up() -> None:
    dropout = fastnn.Dropout(0.9)
    model, plain = classifier(dropout), classifier(fastnn.Dropout(0.0))
    model.train_on_batch(X, Y)
    dropout.rate = 0.0
    model.set_weights(plain.get_weights())
    assert model.train_on_batch(X, Y) == plain.train_on_batch(X, Y)
    with pytest.raises(AttributeError):
        fastnn.SGD().momentum = 0.9  # type: ignore[misc]


def test_seeds_have_64_bits() -> None:
    fastnn.Sequential(seed=2**64 - 1)
    for make in (lambda: fastnn.Sequential(seed=2**64), lambda: fastnn.Dropout(0.5, 2**64)):
        with pytest.raises(ValueError, match=r"seed must be below 2\*\*64"):
            make()


def test_an_input_layer_that_is_added_tells_the_shape() -> None:
    model = fastnn.Sequential()
    model.add(fastnn.Input(4))
    model.add(fastnn.Dense(3))
    assert model.predict(np.ones((2, 4))).shape == (2, 3)
