"""`fastnn.nnfs.Model`: compiled training against the loop in Python, printed lines, files."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import nnfs
from fastnn.nnfs import compiled, training
from fastnn.nnfs.datasets import sine_data, spiral_data
from helpers import assert_close
from nnfs_book import RULES, softmax_end, train


@pytest.fixture(autouse=True)
def settings_put_back() -> Iterator[None]:
    """`init` sets NumPy's generator and a type for the whole process."""
    before = np.random.get_state()
    yield
    nnfs.init(default_dtype=None, random_seed=None)
    np.random.set_state(before)


def optimizer_of(rule: str) -> Any:
    return getattr(nnfs, RULES[rule].name)(**RULES[rule].arguments)


ENDS: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]] = {
    "softmax": (
        nnfs.Activation_Softmax, nnfs.Loss_CategoricalCrossentropy, nnfs.Accuracy_Categorical,
    ),
    "sigmoid": (
        nnfs.Activation_Sigmoid, nnfs.Loss_BinaryCrossentropy,
        lambda: nnfs.Accuracy_Categorical(binary=True),
    ),
    "squared": (nnfs.Activation_Linear, nnfs.Loss_MeanSquaredError, nnfs.Accuracy_Regression),
    "absolute": (nnfs.Activation_ReLU, nnfs.Loss_MeanAbsoluteError, nnfs.Accuracy_Regression),
}  # fmt: skip


def model_of(
    kind: str = "softmax",
    rule: str = "Adam",
    layers: tuple[Any, ...] = (),
    dtype: str = "float64",
    **regularizers: float,
) -> Any:
    """5-16-3 from seed 1, with `layers` in its midst."""
    nnfs.init(default_dtype=dtype, random_seed=1)
    activation, loss, accuracy = ENDS[kind]
    model = nnfs.Model()
    model.add(nnfs.Layer_Dense(5, 16, **regularizers, weight_scale=0.5))
    for layer in (nnfs.Activation_ReLU(), *layers, nnfs.Layer_Dense(16, 3), activation()):
        model.add(layer)
    model.set(loss=loss(), optimizer=optimizer_of(rule), accuracy=accuracy())
    model.finalize()
    return model


def data(kind: str = "softmax", rows: int = 37) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 5))
    return x, {
        "softmax": rng.integers(0, 3, rows),
        "sigmoid": rng.integers(0, 2, (rows, 3)),
        "squared": rng.normal(size=(rows, 3)),
        "absolute": rng.normal(size=(rows, 3)),
    }[kind]


def steps_in_python(
    model: Any, x: Any, y: Any, batch_size: int | None, validation_data: Any
) -> training.Steps:
    return training.EagerSteps(model, x, y, batch_size or len(x), validation_data)


L2 = {"weight_regularizer_l2": 0.01, "bias_regularizer_l2": 0.02}


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize(
    ("kind", "rule", "regularizers"),
    [
        *(("softmax", rule, {}) for rule in RULES),
        ("softmax", "Adam", L2),
        *((kind, "Adam", {}) for kind in ("sigmoid", "squared", "absolute")),
    ],
)
def test_compiled_training_is_the_loop_in_python(
    kind: str,
    rule: str,
    regularizers: dict[str, float],
    batch_size: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    x, y = data(kind)
    models, printed = [], []
    for in_python in (False, True):
        model = model_of(kind, rule, **regularizers)
        assert compiled.takes(model)
        if in_python:
            monkeypatch.setattr(training, "steps_of", steps_in_python)
        capsys.readouterr()
        for epochs in (3, 2):  # the second goes on where the first stopped
            model.train(x, y, epochs=epochs, batch_size=batch_size, print_every=2,
                        validation_data=(x[:9], y[:9]))  # fmt: skip
        printed.append(capsys.readouterr().out)
        models.append(model)
    assert printed[0] == printed[1]
    ours, loop = models
    assert ours.optimizer.iterations == loop.optimizer.iterations > 0
    assert ours.optimizer.current_learning_rate == loop.optimizer.current_learning_rate
    for name in ("accumulated_sum", "accumulated_count"):
        for part in ("loss", "accuracy"):
            own, other = (getattr(getattr(model, part), name) for model in models)
            assert own == pytest.approx(other, rel=1e-10)
    for own, other in zip(ours.trainable_layers, loop.trainable_layers, strict=True):
        arrays = {k: v for k, v in vars(other).items() if k.startswith(("weight", "bias"))}
        for name, array in arrays.items():
            if isinstance(array, np.ndarray):
                # Rounding adds up over the steps, and Adam divides by small roots.
                assert_close(getattr(own, name), array, scale=1e4)


def test_compiled_float32_training_follows_the_book() -> None:
    model = model_of(dtype="float32")
    x, y = data(rows=300)
    start = [array.copy() for pair in model.get_parameters() for array in pair]
    batches = [(x[i : i + 128].astype(np.float32), y[i : i + 128]) for i in (0, 128, 256)] * 2
    _, arguments, make = RULES["Adam"]
    *_, last = train(batches, start, softmax_end, lambda: make(**arguments))
    model.train(x, y, epochs=2, batch_size=128)
    found = [array for pair in model.get_parameters() for array in pair]
    for own, expected in zip(found, last.parameters, strict=True):
        assert_close(own, expected, scale=10.0)  # six steps of Adam


LINE = "acc: {}, loss: {} (data_loss: {}, reg_loss: {}), lr: {}"


def test_lines_are_the_books(capsys: pytest.CaptureFixture[str]) -> None:
    nnfs.init()
    x, y = spiral_data(samples=100, classes=3)
    model = nnfs.Model()
    for layer in (nnfs.Layer_Dense(2, 64), nnfs.Activation_ReLU(), nnfs.Layer_Dense(64, 3),
                  nnfs.Activation_Softmax()):  # fmt: skip
        model.add(layer)
    model.set(
        loss=nnfs.Loss_CategoricalCrossentropy(),
        optimizer=nnfs.Optimizer_SGD(learning_rate=1.0, decay=1e-3),
        accuracy=nnfs.Accuracy_Categorical(),
    )
    model.finalize()
    model.train(x, y, epochs=101, print_every=100, validation_data=(x[:1], y[:1]))
    captured = capsys.readouterr().out.splitlines()
    rate = 1.0 * (1.0 / (1.0 + 1e-3 * 99))
    first = LINE.format("0.400", "1.088", "1.088", "0.000", rate)
    p = model.predict(x[:1])[0]
    held = f"validation, acc: {float(p.argmax() == y[0]):.3f}, loss: {-np.log(p[y[0]]):.3f}"
    assert captured == [f"epoch: 100, {first}", held]
    model.train(x, y, epochs=2, batch_size=128, print_every=2, validation_data=(x[:1], y[:1]))
    heads = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()]
    one = ["step: 0", "step: 2", "training", "validation"]
    assert heads == ["epoch: 1", *one, "epoch: 2", *one]


class MyLayer:
    """A reader's own layer, of the book's protocol and no more."""

    def forward(self, inputs: Any, training: bool) -> None:
        self.output = 2 * inputs

    def backward(self, dvalues: Any) -> None:
        self.dinputs = 2 * dvalues


class MyReLU(nnfs.Activation_ReLU):
    """A subclass may do anything, so it is not compiled."""

    def forward(self, inputs: Any, training: bool = True) -> None:
        super().forward(inputs, training)
        self.calls = getattr(self, "calls", 0) + 1


class MyLoss(nnfs.Loss):
    """Half the squared error."""

    def forward(self, y_pred: Any, y_true: Any) -> Any:
        return ((y_true - y_pred) ** 2).sum(axis=1) / 2

    def backward(self, dvalues: Any, y_true: Any) -> None:
        self.dinputs = (dvalues - y_true) / len(dvalues)


class MySGD:
    """A reader's own optimizer."""

    current_learning_rate = 0.05

    def pre_update_params(self) -> None:
        self.updated = 0

    def update_params(self, layer: Any) -> None:
        layer.weights += -self.current_learning_rate * layer.dweights
        layer.biases += -self.current_learning_rate * layer.dbiases
        self.updated += 1

    def post_update_params(self) -> None:
        assert self.updated == 2


def test_parts_of_ones_own_mix_freely(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data("squared")
    model = model_of("squared", layers=(MyLayer(), MyReLU(), nnfs.Layer_Dropout(0.1)))
    model.set(loss=MyLoss(), optimizer=MySGD())
    model.finalize()
    assert not compiled.takes(model)
    model.train(x, y, epochs=40, print_every=40)
    assert model.layers[3].calls == 40
    lines = capsys.readouterr().out
    model.train(x, y, epochs=80, print_every=80)
    before, after = (
        float(text.split("data_loss: ")[1][:5]) for text in (lines, capsys.readouterr().out)
    )
    assert after < before


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.set(accuracy=nnfs.Accuracy_Regression()),
        lambda model: setattr(model.layers[0], "bias_regularizer_l1", 0.1),
        lambda model: setattr(model.layers[0], "weights", model.layers[0].weights.astype("f4")),
    ],
    ids=["accuracy", "L1", "types"],
)
def test_what_the_engine_does_otherwise_is_left_to_python(change: Callable[[Any], None]) -> None:
    model = model_of()
    change(model)
    assert not compiled.takes(model)
    model.train(*data(), epochs=2)
    assert model.optimizer.iterations == 2


def test_dropout_is_drawn_from_numpys_seed() -> None:
    def weights() -> Any:
        model = model_of(layers=(nnfs.Layer_Dropout(0.5),))
        assert compiled.takes(model)
        model.train(*data(), epochs=3, batch_size=8)
        return model.layers[0].weights, float(np.random.rand())

    first, second = weights(), weights()
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]
    assert np.abs(first[0] - model_of().layers[0].weights).max() > 1e-3


def test_arrays_stay_the_layers_own() -> None:
    model = model_of()
    layer = model.layers[0]
    weights, biases = layer.weights, layer.biases
    before = weights.copy()
    model.train(*data(), epochs=2)
    assert layer.weights is weights
    assert layer.biases is biases
    assert (weights != before).any()
    momentums = layer.weight_momentums
    model.train(*data(), epochs=2)
    assert layer.weight_momentums is momentums


def test_predict_and_evaluate_in_batches(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data()
    model = model_of()
    whole = model.predict(x)
    np.testing.assert_allclose(model.predict(x, batch_size=10), whole, rtol=1e-14)
    assert_close(whole.sum(axis=1), np.ones(len(x)))
    model.evaluate(x, y)
    model.evaluate(x, y, batch_size=10)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    accuracy = float(np.mean(whole.argmax(axis=1) == y))
    loss = float(-np.log(whole[np.arange(len(y)), y]).mean())
    assert first == f"validation, acc: {accuracy:.3f}, loss: {loss:.3f}"


def test_the_sine_model_learns() -> None:
    nnfs.init()
    x, y = sine_data()
    model = nnfs.Model()
    for layer in (nnfs.Layer_Dense(1, 64, weight_scale=0.1), nnfs.Activation_ReLU(),
                  nnfs.Layer_Dense(64, 64, weight_scale=0.1), nnfs.Activation_ReLU(),
                  nnfs.Layer_Dense(64, 1, weight_scale=0.1), nnfs.Activation_Linear()):  # fmt: skip
        model.add(layer)
    model.set(
        loss=nnfs.Loss_MeanSquaredError(),
        optimizer=nnfs.Optimizer_Adam(learning_rate=0.005, decay=1e-3),
        accuracy=nnfs.Accuracy_Regression(),
    )
    model.finalize()
    assert compiled.takes(model)
    model.train(x, y, epochs=1000, print_every=1000)
    assert float(np.mean((model.predict(x) - y) ** 2)) < 1e-3


def test_an_interruption_leaves_a_model_that_goes_on() -> None:
    model = model_of()
    weights = model.layers[0].weights
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.train(*data(), epochs=10**9, batch_size=8, print_every=10**9)
    done = model.optimizer.iterations
    assert done > 0
    assert model.layers[0].weights is weights
    assert np.isfinite(weights).all()
    model.train(*data(), epochs=1)
    assert model.optimizer.iterations == done + 1


def test_divergence_keeps_the_last_finite_weights() -> None:
    model = model_of("squared", "SGD")
    model.optimizer.current_learning_rate = 1e200
    with pytest.raises(fastnn.DivergenceError):
        model.train(*data("squared"), epochs=50)
    for pair in model.get_parameters():
        assert all(np.isfinite(array).all() for array in pair)


X, Y = data()
WRONG: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "epochs": (lambda m: m.train(X, Y, epochs=-1), ValueError, "epochs must be at least 0, got -1"),
    "batch": (lambda m: m.train(X, Y, batch_size=0), ValueError, "batch_size must be at least 1"),
    "print": (lambda m: m.train(X, Y, print_every=0), ValueError, "print_every must be at least 1"),
    "rows": (lambda m: m.train(X, Y[:9]), ValueError, "equally many rows, got 37 and 9"),
    "none": (lambda m: m.train(X[:0], Y[:0]), ValueError, "equally many rows, got 0 and 0"),
    "width": (lambda m: m.train(X[:, :4], Y), ValueError, r"rows of shape \(5,\), got \(4,\)"),
    "NaN": (lambda m: m.train(X * np.nan, Y), ValueError, "X must be finite"),
    "labels": (lambda m: m.train(X, Y + 1), ValueError, "labels from 0 to 2, got 3"),
    "validation": (
        lambda m: m.train(X, Y, validation_data=(X,)), ValueError, r"must be \(X, y\), got 1",
    ),
    "held labels": (
        lambda m: m.train(X, Y, batch_size=8, validation_data=(X, Y + 1)),
        ValueError, "y_val must hold labels from 0 to 2, got 3",
    ),
    "parameters": (lambda m: m.set_parameters([]), ValueError, "those of 2 layers, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_change_nothing(name: str) -> None:
    call, kind, message = WRONG[name]
    model = model_of()
    before = [array.copy() for pair in model.get_parameters() for array in pair]
    with pytest.raises(kind, match=message):
        call(model)
    after = [array for pair in model.get_parameters() for array in pair]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.optimizer.iterations == 0


def test_a_model_that_is_not_complete_says_what_is_missing() -> None:
    model = nnfs.Model()
    with pytest.raises(ValueError, match="no layers"):
        model.finalize()
    with pytest.raises(RuntimeError, match=r"train: set\(loss=...\)"):
        model.train(X, Y)
    with pytest.raises(RuntimeError, match="predict: finalize"):
        model.predict(X)


def test_saved_models_and_parameters_go_on_alike(tmp_path: Path) -> None:
    model = model_of(**L2)
    model.train(X, Y, epochs=3, batch_size=8)
    model.save(tmp_path / "a.model")
    model.save_parameters(tmp_path / "a.parms")
    expected = model.predict(X)
    other = model_of(rule="SGD")
    other.load_parameters(tmp_path / "a.parms")
    np.testing.assert_array_equal(other.predict(X), expected)
    code = (
        "import sys, numpy as np; from fastnn.nnfs import Model; "
        "model = Model.load(sys.argv[1]); "
        "np.save(sys.argv[3], model.predict(np.load(sys.argv[2]))); "
        "assert 'numba' not in sys.modules"
    )
    np.save(tmp_path / "x.npy", X)
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.model", tmp_path / "x.npy", tmp_path / "p.npy"],
        check=True,
    )
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), expected)
    again = nnfs.Model.load(tmp_path / "a.model")
    for each in (model, again):
        each.train(X, Y, epochs=2, batch_size=8)
    assert again.optimizer.iterations == model.optimizer.iterations
    for own, loaded in zip(model.get_parameters(), again.get_parameters(), strict=True):
        for array, from_file in zip(own, loaded, strict=True):
            np.testing.assert_array_equal(array, from_file)


class Scale:
    """A reader's own layer with numbers to keep."""

    def __init__(self, factor: float) -> None:
        self.factor, self.shift = factor, np.arange(16.0)

    def forward(self, inputs: Any, training: bool) -> None:
        self.output = self.factor * inputs + self.shift

    def backward(self, dvalues: Any) -> None:
        self.dinputs = self.factor * dvalues


def test_files_of_parts_of_ones_own(tmp_path: Path) -> None:
    model = model_of(layers=(Scale(0.5),))
    model.save(tmp_path / "own")
    with pytest.raises(ValueError, match=r"Scale is not known; pass custom_objects=\{'Scale'"):
        nnfs.Model.load(tmp_path / "own")
    loaded = nnfs.Model.load(tmp_path / "own", custom_objects={"Scale": Scale})
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    model.layers[2].factor = [object()]
    with pytest.raises(TypeError, match=r"Scale.factor is .*; only numbers"):
        model.save(tmp_path / "own")
    loaded = nnfs.Model.load(tmp_path / "own", custom_objects={"Scale": Scale})
    assert loaded.layers[2].factor == 0.5  # the file from before the error


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickles_are_refused(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "fashion_mnist.model"
    path.write_bytes(pickle.dumps([(np.ones((2, 3)), np.ones((1, 3)))], protocol))
    for load in (nnfs.Model.load, model_of().load_parameters):
        with pytest.raises(ValueError, match=r"is a pickle.*numpy.savez.*set_parameters"):
            load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    model = model_of()
    model.save(tmp_path / "model")
    model.save_parameters(tmp_path / "parameters")
    with pytest.raises(FileNotFoundError):
        nnfs.Model.load(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no model"):
        nnfs.Model.load(tmp_path / "parameters")
    with pytest.raises(ValueError, match="holds no parameters"):
        model.load_parameters(tmp_path / "model")
    net = fastnn.Sequential([fastnn.Dense(2)], input_shape=(3,))
    net.save(tmp_path / "sequential")
    with pytest.raises(ValueError, match="holds no model"):
        nnfs.Model.load(tmp_path / "sequential")
    with pytest.raises(ValueError, match="cannot be loaded"):
        fastnn.load(tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    for length in (0, 5, 100, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut"):
            nnfs.Model.load(tmp_path / "cut")
