"""Figures are what NumPy and scikit-learn make of the predictions; weights are live."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn

Array = NDArray[Any]

FEATURES, CLASSES, ROWS = 6, 4, 83


def model_for(
    loss: Any, activation: str | None, units: int = CLASSES, dtype: str = "float64"
) -> fastnn.Sequential:
    model = fastnn.Sequential(
        [fastnn.Dense(9, "tanh"), fastnn.Dropout(0.5), fastnn.Dense(units, activation)],
        input_shape=(FEATURES,),
        dtype=dtype,
        seed=2,
    )
    model.compile("sgd", loss, metrics=["accuracy"])
    return model


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return 2 * rng.normal(size=(ROWS, FEATURES))


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


LOSSES = {
    # name: (loss, last activation, kind of targets, rows' losses of predictions and targets)
    "labels": (
        "categorical_crossentropy",
        "softmax",
        "labels",
        lambda p, y: -np.log(p[np.arange(ROWS), y]),
    ),
    "labels, the other name": (
        "sparse_categorical_crossentropy",
        "softmax",
        "labels",
        lambda p, y: -np.log(p[np.arange(ROWS), y]),
    ),
    "labels on logits": (
        fastnn.CategoricalCrossentropy(from_logits=True),
        None,
        "labels",
        lambda z, y: -np.log(softmax(z)[np.arange(ROWS), y]),
    ),
    "one-hot rows": (
        "categorical_crossentropy",
        "softmax",
        "one-hot",
        lambda p, y: -(y * np.log(p)).sum(axis=1),
    ),
    "soft rows": (
        "categorical_crossentropy",
        "softmax",
        "soft",
        lambda p, y: -(y * np.log(p)).sum(axis=1),
    ),
    "bits": (
        "binary_crossentropy",
        "sigmoid",
        "bits",
        lambda p, y: -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=1),
    ),
    "bits on logits": (
        fastnn.BinaryCrossentropy(from_logits=True),
        None,
        "bits",
        lambda z, y: -(y * np.log(sigmoid(z)) + (1 - y) * np.log(1 - sigmoid(z))).mean(axis=1),
    ),
    "numbers": ("mse", None, "numbers", lambda p, y: ((p - y) ** 2).mean(axis=1)),
    "numbers from a softmax": (
        "mean_squared_error",
        "softmax",
        "soft",
        lambda p, y: ((p - y) ** 2).mean(axis=1),
    ),
}


def targets_of(kind: str, rng: np.random.Generator) -> Array:
    labels = rng.integers(0, CLASSES, ROWS)
    return {
        "labels": labels,
        "one-hot": np.eye(CLASSES)[labels],
        "soft": rng.dirichlet(np.ones(CLASSES), ROWS),
        "bits": rng.integers(0, 2, (ROWS, CLASSES)).astype(float),
        "numbers": rng.normal(size=(ROWS, CLASSES)),
    }[kind]


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("batch_size", [1, 10, 1024])
def test_the_loss_is_what_numpy_makes_of_predict(
    case: str, batch_size: int, x: Array, rng: np.random.Generator
) -> None:
    loss, activation, kind, row_losses = LOSSES[case]
    model = model_for(loss, activation)
    y, weights = targets_of(kind, rng), rng.uniform(0, 3, ROWS)
    expected = row_losses(model.predict(x), y)
    figures = model.evaluate(x, y, batch_size=batch_size)
    np.testing.assert_allclose(figures["loss"], expected.mean(), rtol=1e-12)
    weighted = model.evaluate(x, y, batch_size=batch_size, sample_weight=weights)
    np.testing.assert_allclose(weighted["loss"], (weights * expected).mean(), rtol=1e-12)
    # The plain metrics do not look at weights, as in Keras.
    assert weighted["accuracy"] == figures["accuracy"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_figures_are_scikit_learns(dtype: str, x: Array, rng: np.random.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    weights = rng.uniform(0, 3, ROWS)

    y = targets_of("labels", rng)
    model = model_for("categorical_crossentropy", "softmax", dtype=dtype)
    p = model.predict(x).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    figures = model.evaluate(x, y, sample_weight=weights)
    loss = metrics.log_loss(y, p, sample_weight=weights, labels=range(CLASSES)) * weights.mean()
    np.testing.assert_allclose(figures["loss"], loss, rtol=tolerance)
    assert figures["accuracy"] == metrics.accuracy_score(y, p.argmax(axis=1))

    y = targets_of("numbers", rng)
    model = model_for("mse", None, dtype=dtype)
    loss = metrics.mean_squared_error(y, model.predict(x))
    np.testing.assert_allclose(model.evaluate(x, y)["loss"], loss, rtol=tolerance)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("categorical_crossentropy", "labels"),
        ("categorical_crossentropy", "one-hot"),
        ("categorical_crossentropy", "soft"),
        ("mse", "one-hot"),
        ("mse", "soft"),
    ],
)
def test_accuracy_of_classes(loss: str, kind: str, x: Array, rng: np.random.Generator) -> None:
    y = targets_of(kind, rng)
    labels = y if y.ndim == 1 else y.argmax(axis=1)
    model = model_for(loss, "softmax")
    hits = model.predict(x).argmax(axis=1) == labels
    assert 0 < hits.mean() < 1
    assert model.evaluate(x, y)["accuracy"] == hits.mean()


@pytest.mark.parametrize("units", [1, CLASSES])
@pytest.mark.parametrize("logits", [False, True], ids=["sigmoid", "logits"])
def test_accuracy_of_bits(units: int, logits: bool, x: Array, rng: np.random.Generator) -> None:
    """The share of outputs on the right side of one half."""
    y = rng.integers(0, 2, (ROWS, units))
    loss = fastnn.BinaryCrossentropy(from_logits=logits)
    model = model_for(loss, None if logits else "sigmoid", units)
    right = (model.predict(x) > (0 if logits else 0.5)) == y
    assert 0 < right.mean() < 1
    np.testing.assert_allclose(model.evaluate(x, y)["accuracy"], right.mean(), rtol=1e-12)
    if units == 1:
        assert model.evaluate(x, y[:, 0]) == model.evaluate(x, y)


def test_of_several_largest_outputs_the_first_counts() -> None:
    model = fastnn.Sequential([fastnn.Dense(3, "softmax", kernel_initializer="zeros")], (2,))
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    assert model.evaluate(np.ones((3, 2)), [0, 1, 2])["accuracy"] == pytest.approx(1 / 3)
    assert model.evaluate(np.ones((1, 2)), [0])["accuracy"] == 1


def test_sure_and_wrong_is_finite() -> None:
    """Never log(clip(p)): the loss of a network that is sure and wrong is what it is."""
    for loss, activation, y in (
        ("categorical_crossentropy", "softmax", [0]),
        ("binary_crossentropy", "sigmoid", [[1.0, 0.0]]),
    ):
        model = fastnn.Sequential([fastnn.Dense(2, activation)], (1,))
        model.compile("sgd", loss)
        model.set_weights([[[-500.0, 500.0]], [0.0, 0.0]])
        expected = 1000.0 if activation == "softmax" else 500.0
        assert model.evaluate([[1.0]], y)["loss"] == expected


def test_predict_is_the_composition_of_the_layers(x: Array) -> None:
    model = model_for("mse", "sigmoid")
    kernel, bias, second, third = model.get_weights()
    expected = sigmoid(np.tanh(x @ kernel + bias) @ second + third)
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-12)
    np.testing.assert_array_equal(model(x), model.predict(x))


def test_images_go_in_as_they_are(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (20, 5, 4), dtype=np.uint8)
    model = fastnn.Sequential(
        [fastnn.Flatten(), fastnn.Dense(3, "softmax")], input_shape=(5, 4), seed=1
    )
    np.testing.assert_array_equal(model.predict(images), model.predict(images.astype(np.float32)))
    assert model.predict(images).dtype == np.float32


# Weights


def test_parameters_are_all_weights_in_order() -> None:
    model = model_for("mse", None)
    weights = model.get_weights()
    assert [w.shape for w in weights] == [(FEATURES, 9), (9,), (9, CLASSES), (CLASSES,)]
    np.testing.assert_array_equal(model.parameters, np.concatenate([w.ravel() for w in weights]))
    assert model.count_params() == model.parameters.size
    assert model.parameters.ctypes.data % 64 == 0


def test_writing_weights_changes_predictions_and_training(x: Array) -> None:
    model = model_for("mse", None)
    y = np.zeros((ROWS, CLASSES))
    model.fit(x, y, verbose=0)  # with programs already linked
    first, _, last = model.layers

    last.kernel[...] = 0
    last.bias = [1.0, 2.0, 3.0, 4.0]
    np.testing.assert_array_equal(model.predict(x), np.tile([1.0, 2.0, 3.0, 4.0], (ROWS, 1)))
    assert model.evaluate(x, y)["loss"] == 7.5
    assert model.train_on_batch(x, y)["loss"] == 7.5

    model.parameters[:] = 0
    assert (first.kernel == 0).all()
    assert (model.predict(x) == 0).all()
    model.parameters[-CLASSES:] = 5
    np.testing.assert_array_equal(last.bias, np.full(CLASSES, 5.0))
    assert (model.predict(x) == 5).all()
    kernel = first.kernel
    model.fit(x, y, verbose=0)
    assert kernel is first.kernel or np.shares_memory(kernel, first.kernel)
    np.testing.assert_array_equal(kernel.ravel(), model.parameters[: kernel.size])


def test_weights_go_out_and_in(x: Array) -> None:
    model, other = model_for("mse", None), model_for("mse", None)
    other.parameters[:] = 0
    weights = model.get_weights()
    other.set_weights(weights)
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    weights[0][...] = 0  # they are copies, in both directions
    np.testing.assert_array_equal(other.parameters, model.parameters)
    assert (model.get_weights()[0] != 0).any()
    narrow = model_for("mse", None, dtype="float32")
    narrow.set_weights(model.get_weights())
    np.testing.assert_array_equal(narrow.parameters, model.parameters.astype(np.float32))


def test_wrong_weights_are_refused_whole() -> None:
    model = model_for("mse", None)
    before = model.parameters.copy()
    good = [np.zeros_like(w) for w in model.get_weights()]
    for wrong, message in (
        (good[:3], "must be 4 arrays, got 3"),
        ([*good[:3], np.zeros(CLASSES + 1)], r"dense_2\.bias must have shape \(4,\), got \(5,\)"),
        ([*good[:2], good[2].T, good[3]], r"dense_2\.kernel must have shape \(9, 4\)"),
        ([*good[:3], np.array([0, 0, np.nan, 0])], r"dense_2\.bias must be finite"),
        ([*good[:3], np.array(["a"] * 4)], r"dense_2\.bias must be an array of numbers"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            model.set_weights(wrong)
        np.testing.assert_array_equal(model.parameters, before)
