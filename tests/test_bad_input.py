"""The door: bad data and options are refused by an error that names them, with nothing changed."""

from typing import Any

import numpy as np
import pytest

import fastnn
from door_cases import (
    BAD_OPTIONS,
    BAD_WEIGHTS,
    BAD_X,
    BAD_Y,
    CLASSES,
    COLUMNS,
    HUGE,
    ONE_HOT,
    ROWS,
    X,
    Y,
    cases,
    network,
    refused,
    trained_network,
    x_with,
)
from fastnn import checks


@pytest.fixture
def trained() -> fastnn.Sequential:
    return trained_network()


@pytest.fixture(params=[trained_network, network], ids=["trained", "unbuilt"])
def model(request: pytest.FixtureRequest) -> fastnn.Sequential:
    made: fastnn.Sequential = request.param()
    return made


@pytest.mark.parametrize("method", ["fit", "train_on_batch", "evaluate", "predict"])
@cases(BAD_X)
def test_bad_x(trained: fastnn.Sequential, method: str, bad: Any, words: str) -> None:
    with refused(trained, words):
        getattr(trained, method)(bad, *([Y] if method != "predict" else []))


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
@cases(BAD_X)
def test_bad_x_leaves_a_model_unbuilt(method: str, bad: Any, words: str) -> None:
    model = network()
    with refused(model, words):
        getattr(model, method)(bad, Y)
    assert not model.built


@pytest.mark.parametrize("method", ["fit", "train_on_batch", "evaluate", "predict"])
def test_wrong_number_of_features(trained: fastnn.Sequential, method: str) -> None:
    for x in (X[:, 1:], np.hstack([X, X])):
        with refused(trained, rf"x must have rows of shape \(4,\), got \({x.shape[1]},\)"):
            getattr(trained, method)(x, *([Y] if method != "predict" else []))


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
@cases(BAD_Y)
def test_bad_y(model: fastnn.Sequential, method: str, bad: Any, words: str) -> None:
    with refused(model, words):
        getattr(model, method)(X, bad)


@cases(BAD_Y)
def test_bad_y_in_evaluate(trained: fastnn.Sequential, bad: Any, words: str) -> None:
    with refused(trained, words):
        trained.evaluate(X, bad)


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
@cases(BAD_WEIGHTS)
def test_bad_weights(model: fastnn.Sequential, method: str, bad: Any, words: str) -> None:
    with refused(model, words):
        getattr(model, method)(X, Y, **bad)


@cases(BAD_OPTIONS)
def test_bad_options_of_fit(model: fastnn.Sequential, bad: Any, words: str) -> None:
    with refused(model, words):
        model.fit(X, Y, **bad)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "32", True, None])
def test_bad_batch_size_elsewhere(trained: fastnn.Sequential, batch_size: Any) -> None:
    with refused(trained, r"predict: batch_size must be"):
        trained.predict(X, batch_size=batch_size)
    with refused(trained, r"evaluate: batch_size must be"):
        trained.evaluate(X, Y, batch_size=batch_size)


@pytest.mark.parametrize(
    ("loss", "units", "bad", "words"),
    [
        ("mse", 2, X[:, :3], r"y must have shape \(12, 2\), got \(12, 3\)"),
        ("mse", 2, X[:, 0], r"y must have shape \(12, 2\), got \(12,\)"),
        ("mse", 1, x_with(HUGE, float)[:, 3:], r"y must be finite in float32, got 1e\+300"),
        ("binary_crossentropy", 1, Y, r"y must lie in \[0, 1\].*from 0 to 2"),
        ("binary_crossentropy", 1, -ONE_HOT[:, :1], r"y must lie in \[0, 1\]"),
        ("categorical_crossentropy", 1, 0 * Y, r"classes need at least 2 outputs"),
        ("poisson", 1, -ONE_HOT[:, :1], r"y must not be negative for poisson, got -1"),
        ("hinge", 1, Y, r"y must hold -1 and 1, or 0 and 1, for a hinge loss, got 2"),
        ("squared_hinge", 1, Y - 1, r"y must hold -1 and 1, or 0 and 1.*, got 0"),
        ("kl_divergence", 3, 2 * ONE_HOT, r"y must have rows of probabilities"),
    ],
)
def test_bad_y_of_other_losses(loss: str, units: int, bad: Any, words: str) -> None:
    model = fastnn.Sequential([fastnn.Dense(units)], seed=1)
    model.compile("sgd", loss)
    with refused(model, words):
        model.fit(X, bad)


@pytest.mark.parametrize("rows", [ROWS, 2**18 + 3, 2**19])
@pytest.mark.parametrize("order", ["C", "F"])
def test_nan_in_any_row_of_a_large_array(rows: int, order: Any) -> None:
    # The door looks at 2^20 elements at a time.
    x = np.zeros((rows, COLUMNS), np.float32, order)
    for row in {0, min(rows, 2**18) - 1, rows - 1}:
        x[row, 2] = np.nan
        with pytest.raises(ValueError, match=rf"x must be finite in float32, got nan in row {row}"):
            checks.features(x, "x", None, "float32")
        x[row, 2] = 0


def test_float64_network_takes_what_float32_cannot_hold() -> None:
    assert checks.features(x_with(HUGE, float), "x", None, "float64").max() == HUGE
    with pytest.raises(ValueError, match=r"x must be finite in float64"):
        checks.features(x_with(10 * np.longdouble(1e308), np.longdouble), "x", None, "float64")


def test_a_refused_fit_leaves_layers_as_they_were() -> None:
    # A layer may have weights from a life of its own before the model takes it up.
    layer = fastnn.Dense(CLASSES)
    layer.forward(X)
    kernel = layer.kernel.copy()
    model = fastnn.Sequential([fastnn.Dropout(0.5, seed=7), layer], seed=1)
    model.compile("sgd", "categorical_crossentropy")
    with refused(model, "y must"):
        model.fit(X, Y + 1)
    np.testing.assert_array_equal(layer.kernel, kernel)


@pytest.mark.parametrize(
    "bad", [["a", "b"], [1 + 2j, 1.0], [None, 1.0]], ids=["strings", "complex", "objects"]
)
def test_a_layer_refuses_what_is_no_number_before_it_is_built(bad: Any) -> None:
    layer = fastnn.Dense(2)
    with pytest.raises((ValueError, TypeError), match=r"dense|Dense.*x"):
        layer.forward([bad])
    assert not layer.built


def test_loops_by_hand_are_told_of_wrong_order_and_shapes() -> None:
    layer, loss = fastnn.Dense(CLASSES, "relu"), fastnn.CategoricalCrossentropy()
    with pytest.raises(ValueError, match=r"x must be \(N, \.\.\.\)"):
        layer.forward(X[0])
    with pytest.raises(RuntimeError, match=r"forward\(x, training=True\) before backward"):
        layer.backward(ONE_HOT)
    with pytest.raises(RuntimeError, match=r"forward before backward"):
        loss.backward()
    probabilities = np.full((ROWS, CLASSES), 1 / CLASSES)
    for bad, words in BAD_Y.values():
        with pytest.raises((ValueError, TypeError), match=words.replace("y", "y_true", 1)):
            loss.forward(probabilities, bad)
    with pytest.raises(ValueError, match=r"y_pred must be \(N, C\)"):
        loss.forward(probabilities[0], Y)
    layer.forward(X, training=True)
    for wrong in (ONE_HOT[1:], ONE_HOT[:, 1:], ONE_HOT[0]):
        with pytest.raises(ValueError, match=r"dy must have shape \(12, 3\)"):
            layer.backward(wrong)
    with pytest.raises(ValueError, match=r"built for rows of shape \(4,\), got \(3,\)"):
        layer.forward(X[:, 1:])
