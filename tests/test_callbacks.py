"""Callbacks: who is called when, and when training stops; the decisions are those of Keras."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.callbacks import Callback, EarlyStopping, LambdaCallback

Array = NDArray[Any]

ROWS = 20


def regression(optimizer: Any = "sgd") -> tuple[fastnn.Sequential, Array, Array]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 3))
    y = x @ [[1.0], [-2.0], [0.5]] + rng.normal(size=(ROWS, 1)) / 10
    model = fastnn.Sequential([fastnn.Dense(1)], input_shape=(3,), dtype="float64", seed=1)
    model.compile(optimizer, "mse")
    return model, x, y


class Notes(Callback):
    """A callback that notes its calls in a list shared with others."""

    def __init__(self, calls: list[tuple[Any, ...]], name: str) -> None:
        self.calls, self.name = calls, name

    def on_train_begin(self, logs: object = None) -> None:
        self.calls.append((self.name, "train begins"))

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.calls.append((self.name, "epoch begins", epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.calls.append((self.name, "epoch ends", epoch, sorted(logs)))

    def on_train_end(self, logs: object = None) -> None:
        self.calls.append((self.name, "train ends"))


def test_callbacks_are_called_in_order() -> None:
    model, x, y = regression()
    calls: list[tuple[Any, ...]] = []
    callbacks = [Notes(calls, "a"), Notes(calls, "b")]
    model.fit(x, y, epochs=2, validation_split=0.2, callbacks=callbacks, verbose=0)
    names = ["learning_rate", "loss", "val_loss"]
    epochs = [
        (name, *what)
        for epoch in range(2)
        for what in (("epoch begins", epoch), ("epoch ends", epoch, names))
        for name in "ab"
    ]
    assert calls == [
        ("a", "train begins"),
        ("b", "train begins"),
        *epochs,
        ("a", "train ends"),
        ("b", "train ends"),
    ]
    assert all(callback.model is model for callback in callbacks)


def test_lambda_callback_calls_its_functions() -> None:
    model, x, y = regression()
    calls: list[tuple[Any, ...]] = []
    callback = LambdaCallback(
        on_train_begin=lambda *_: calls.append(("train begins",)),
        on_epoch_begin=lambda epoch, *_: calls.append(("epoch begins", epoch)),
        on_epoch_end=lambda epoch, logs: calls.append(("epoch ends", epoch, logs["loss"])),
        on_train_end=lambda *_: calls.append(("train ends",)),
    )
    losses = model.fit(x, y, epochs=2, callbacks=[callback], verbose=0).history["loss"]
    assert calls == [
        ("train begins",),
        ("epoch begins", 0),
        ("epoch ends", 0, losses[0]),
        ("epoch begins", 1),
        ("epoch ends", 1, losses[1]),
        ("train ends",),
    ]
    model.fit(x, y, callbacks=[LambdaCallback()], verbose=0)  # with nothing to call
    with pytest.raises(TypeError, match="on_epoch_end must be a function, got 5"):
        LambdaCallback(on_epoch_end=5)


def test_without_epochs_training_begins_and_ends() -> None:
    model, x, y = regression()
    calls: list[tuple[Any, ...]] = []
    model.fit(x, y, epochs=0, callbacks=[Notes(calls, "a")], verbose=0)
    assert calls == [("a", "train begins"), ("a", "train ends")]


def test_a_callback_sees_the_weights_of_its_epoch() -> None:
    model, x, y = regression()
    stepwise, _, _ = regression()
    seen: list[Array] = []
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(model.parameters.copy()))
    model.fit(x, y, epochs=3, callbacks=[note], verbose=0)
    for weights in seen:
        stepwise.fit(x, y, verbose=0)
        np.testing.assert_array_equal(weights, stepwise.parameters)


def test_stop_training_ends_after_the_epoch() -> None:
    model, x, y = regression()

    def stop(epoch: int, logs: dict[str, float]) -> None:
        model.stop_training = epoch == 2

    history = model.fit(x, y, epochs=10, callbacks=[LambdaCallback(on_epoch_end=stop)], verbose=0)
    assert history.epoch == [0, 1, 2]
    assert len(history.history["loss"]) == 3
    # The next fit starts anew.
    assert model.fit(x, y, epochs=2, verbose=0).epoch == [0, 1]


def test_an_error_in_a_callback_comes_out_and_training_ends() -> None:
    model, x, y = regression()
    reference, _, _ = regression()
    calls: list[tuple[Any, ...]] = []

    def fail(epoch: int, logs: dict[str, float]) -> None:
        raise LookupError("of the user's")

    with pytest.raises(LookupError, match="of the user's"):
        model.fit(
            x,
            y,
            epochs=5,
            callbacks=[LambdaCallback(on_epoch_end=fail), Notes(calls, "a")],
            verbose=0,
        )
    assert calls[-1] == ("a", "train ends")
    reference.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.parameters, reference.parameters)
    model.fit(x, y, verbose=0)


@pytest.mark.parametrize("callbacks", [5, ["early"], [EarlyStopping], {"a": 1}])
def test_what_is_no_callback_is_refused(callbacks: Any) -> None:
    model, x, y = regression()
    before = model.parameters.copy()
    with pytest.raises(TypeError, match="callbacks must be a list of callbacks"):
        model.fit(x, y, callbacks=callbacks, verbose=0)
    np.testing.assert_array_equal(model.parameters, before)


# EarlyStopping


class Scripted:
    """Stands in for a model in training: its weight is the number of the epoch."""

    def __init__(self) -> None:
        self.parameters = np.array([-1.0])
        self.stop_training = False
        self.metrics: list[Any] = []

    def get_weights(self) -> list[Array]:
        return [self.parameters.copy()]

    def set_weights(self, weights: list[Array]) -> None:
        self.parameters[...] = weights[0]


def stopped_at(callback: Any, figures: list[float]) -> tuple[int | None, float]:
    """The epoch after which training is stopped, if it is, and the one whose weights remain."""
    model = Scripted()
    if hasattr(callback, "set_model"):
        callback.set_model(model)
    else:
        callback.model = model
    callback.on_train_begin()
    for epoch, figure in enumerate(figures):
        model.parameters[...] = epoch
        callback.on_epoch_end(epoch, {"val_loss": figure, "val_accuracy": figure})
        if model.stop_training:
            break
    callback.on_train_end()
    return (epoch if model.stop_training else None), float(model.parameters[0])


# Columns: the epochs' figures, arguments, where training stops, the epoch whose weights remain.
SCRIPTS: dict[str, tuple[list[float], dict[str, Any], int | None, int]] = {
    "patience 0 stops at once": ([3, 2, 2, 1], {}, 2, 2),
    "patience 1 stops at once": ([3, 2, 2, 1], {"patience": 1}, 2, 2),
    "patience 2": ([3, 2, 2.5, 2, 1], {"patience": 2}, 3, 3),
    "patience is for a row of epochs": ([3, 2, 2.5, 1, 2, 2, 2], {"patience": 2}, 5, 5),
    "never worse": ([3, 2, 1], {}, None, 2),
    "equal is no improvement": ([1, 1, 1], {"patience": 2}, 2, 2),
    "restored": ([3, 1, 2, 3], {"patience": 2, "restore_best_weights": True}, 3, 1),
    "restored at the end too": (
        [3, 1, 2],
        {"patience": 9, "restore_best_weights": True},
        None,
        1,
    ),
    "the first best is restored": ([1, 1, 1], {"patience": 2, "restore_best_weights": True}, 2, 0),
    "min_delta": ([3, 2.6, 2.4, 2.1, 2], {"min_delta": 0.5, "patience": 2}, 4, 4),
    "max": ([0.5, 0.6, 0.4], {"mode": "max", "restore_best_weights": True}, 2, 1),
    "auto takes more accuracy": (
        [0.5, 0.6, 0.4],
        {"monitor": "val_accuracy", "restore_best_weights": True},
        2,
        1,
    ),
    "min of an accuracy": ([0.5, 0.6], {"monitor": "val_accuracy", "mode": "min"}, 1, 1),
    "start_from_epoch": ([1, 2, 3, 2, 3], {"start_from_epoch": 2}, 4, 4),
    "what came before is not best": (
        [1, 2, 3, 2, 3],
        {"start_from_epoch": 2, "restore_best_weights": True},
        4,
        3,
    ),
    "NaN is no improvement": (
        [3, float("nan"), 2, float("nan"), float("nan")],
        {"patience": 2, "restore_best_weights": True},
        4,
        2,
    ),
    "infinity at first": ([float("inf"), 2, 3], {"restore_best_weights": True}, 2, 1),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_early_stopping_by_script(case: str) -> None:
    figures, arguments, stopped, remaining = SCRIPTS[case]
    callback = EarlyStopping(**arguments)
    for _ in range(2):  # a second fit with the same callback starts anew
        assert stopped_at(callback, figures) == (stopped, remaining)
        assert callback.stopped_epoch == stopped


@pytest.mark.parametrize("baseline", [None, 0.5], ids=["", "baseline"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_early_stopping_decides_like_keras(keras: Any, mode: str, baseline: float | None) -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        # Few different values, so that many are equal.
        figures = (rng.integers(0, 9, 12) / 8).tolist()
        arguments = {
            "monitor": "val_loss",
            "patience": int(rng.integers(0, 4)),
            "min_delta": float(rng.choice([0.0, 0.125, 0.2])),
            "mode": mode,
            "baseline": baseline,
            "restore_best_weights": bool(rng.integers(2)),
            "start_from_epoch": int(rng.choice([0, 0, 3])),
        }
        own = stopped_at(EarlyStopping(**arguments), figures)
        reference = stopped_at(keras.callbacks.EarlyStopping(**arguments), figures)
        assert own == reference, (arguments, figures)


def test_early_stopping_in_fit() -> None:
    """A validation set that training on other data makes worse, from some epoch on."""
    model, x, y = regression(fastnn.SGD(0.05))
    stepwise, _, _ = regression(fastnn.SGD(0.05))
    held = (x, y / 2)  # the way to y leads past y / 2
    callback = EarlyStopping(patience=3, restore_best_weights=True)
    history = model.fit(x, y, epochs=100, validation_data=held, callbacks=[callback], verbose=0)
    losses = history.history["val_loss"]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1 < 99
    assert callback.best_epoch == best
    assert callback.best == losses[best]
    assert callback.stopped_epoch == history.epoch[-1] == best + 3
    stepwise.fit(x, y, epochs=best + 1, verbose=0)
    np.testing.assert_array_equal(model.parameters, stepwise.parameters)
    assert model.evaluate(*held)["loss"] == losses[best]


def test_early_stopping_brings_back_what_is_not_trained() -> None:
    class Counting(fastnn.Layer):
        def build(self, input_shape: tuple[int, ...]) -> None:
            self.steps = self.add_weight("steps", (1,), "zeros", trainable=False)

        def forward(self, x: Array, training: bool = False) -> Array:
            self.steps += training
            return x

        def backward(self, dy: Array) -> Array:
            return dy

    x = np.random.default_rng(1).normal(size=(ROWS, 3))
    model = fastnn.Sequential([Counting(), fastnn.Dense(1)], input_shape=(3,), seed=1)
    model.compile(fastnn.SGD(0.1), "mse")
    held = x, -x.sum(axis=1)
    callback = EarlyStopping(patience=2, restore_best_weights=True)
    model.fit(x, x.sum(axis=1), validation_data=held, epochs=9, callbacks=[callback], verbose=0)
    assert callback.stopped_epoch is not None
    assert callback.best_epoch is not None
    assert model.layers[0].buffers["steps"] == callback.best_epoch + 1 < callback.stopped_epoch + 1


def test_a_figure_that_is_not_there_is_an_error() -> None:
    model, x, y = regression()
    with pytest.raises(ValueError, match=r"monitor 'val_loss' is not among loss, learning_rate"):
        model.fit(x, y, epochs=5, callbacks=[EarlyStopping()], verbose=0)
    assert np.isfinite(model.parameters).all()
    model.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "more"}, "mode must be 'auto', 'min' or 'max', got 'more'"),
        ({"patience": -1}, "patience must be at least 0, got -1"),
        ({"patience": 1.5}, "patience must be an integer, got 1.5"),
        ({"min_delta": float("nan")}, "min_delta must be a number"),
        ({"start_from_epoch": -1}, "start_from_epoch must be at least 0"),
        ({"baseline": "low"}, "baseline must be a number"),
    ],
)
def test_wrong_arguments_of_early_stopping(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"EarlyStopping: {message}"):
        EarlyStopping(**arguments)


# A learning rate that is lowered


def rates_after(callback: Any, figures: list[float]) -> list[float]:
    """The learning rate after each epoch, from 1 on."""
    model = Scripted()
    model.optimizer = fastnn.SGD(1.0)
    if hasattr(callback, "set_model"):
        callback.set_model(model)
    else:
        callback.model = model
    callback.on_train_begin()
    rates = []
    for epoch, figure in enumerate(figures):
        callback.on_epoch_end(epoch, {"val_loss": figure})
        rates.append(float(model.optimizer.learning_rate))
    return rates


@pytest.mark.parametrize("mode", ["min", "max"])
def test_learning_rate_is_lowered_as_by_keras(keras: Any, mode: str) -> None:
    rng = np.random.default_rng(6)
    lowered = 0
    for _ in range(300):
        # Few different values, so that many are equal.
        figures = (rng.integers(0, 9, 14) / 8).tolist()
        arguments = {
            "factor": 0.5,
            "patience": int(rng.integers(0, 4)),
            "mode": mode,
            "min_delta": float(rng.choice([0.0, 0.125])),
            "cooldown": int(rng.integers(0, 4)),
            "min_lr": float(rng.choice([0.0, 0.2])),
        }
        own = rates_after(fastnn.callbacks.ReduceLROnPlateau(**arguments), figures)
        reference = rates_after(keras.callbacks.ReduceLROnPlateau(**arguments), figures)
        assert own == reference, (arguments, figures)
        lowered += own[-1] < 1.0
    assert lowered > 100


def test_lowered_rates_are_in_the_history() -> None:
    model, x, y = regression(fastnn.SGD(0.05))
    callback = fastnn.callbacks.ReduceLROnPlateau("loss", 0.5, patience=2, min_delta=1e6)
    history = model.fit(x, y, epochs=6, callbacks=[callback], verbose=0).history
    assert history["learning_rate"] == [0.05, 0.05, 0.05, 0.025, 0.025, 0.0125]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, r"factor must be a number in \[0, 1\)"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"cooldown": 0.5}, "cooldown must be an integer"),
        ({"min_lr": -1.0}, "min_lr must be a number"),
        ({"mode": "less"}, "mode must be 'auto', 'min' or 'max', got 'less'"),
    ],
)
def test_wrong_arguments_of_a_lowered_rate(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"ReduceLROnPlateau: {message}"):
        fastnn.callbacks.ReduceLROnPlateau(**arguments)


def test_a_schedule_is_not_lowered() -> None:
    model, x, y = regression(fastnn.SGD(fastnn.schedules.InvScaling(0.1)))
    before = model.parameters.copy()
    callback = fastnn.callbacks.ReduceLROnPlateau("loss")
    with pytest.raises(ValueError, match="ReduceLROnPlateau: learning_rate must be a number"):
        model.fit(x, y, callbacks=[callback], verbose=0)
    np.testing.assert_array_equal(model.parameters, before)
    with pytest.raises(ValueError, match="ReduceLROnPlateau: monitor 'val_loss' is not among"):
        model.fit(x, y, callbacks=[fastnn.callbacks.ReduceLROnPlateau()], verbose=0)
