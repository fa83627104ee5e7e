"""Losses by their classes: Keras's values and gradients, their targets, and their edges."""

import doctest
import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import mean_poisson_deviance

import fastnn
from fastnn import losses
from fastnn.kernels import reference
from fastnn.kernels.pointwise import PAIRS
from helpers import assert_close, assert_is_gradient
from kernel_cases import apply

Array = NDArray[Any]

ROWS, CLASSES = 9, 4

# name: (class in both libraries, arguments, kind of predictions, kind of targets)
AGAINST_KERAS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "crossentropy": ("CategoricalCrossentropy", {}, "simplex", "soft"),
    "crossentropy, smoothed": (
        "CategoricalCrossentropy",
        {"label_smoothing": 0.2},
        "simplex",
        "one-hot",
    ),
    "crossentropy, smoothed soft": (
        "CategoricalCrossentropy",
        {"label_smoothing": 0.2},
        "simplex",
        "soft",
    ),
    "logits, smoothed": (
        "CategoricalCrossentropy",
        {"label_smoothing": 0.2, "from_logits": True},
        "numbers",
        "one-hot",
    ),
    "binary": ("BinaryCrossentropy", {}, "simplex", "bits"),
    "binary, smoothed": ("BinaryCrossentropy", {"label_smoothing": 0.2}, "simplex", "bits"),
    "binary logits, smoothed": (
        "BinaryCrossentropy",
        {"label_smoothing": 0.2, "from_logits": True},
        "numbers",
        "bits",
    ),
    "mse": ("MeanSquaredError", {}, "numbers", "numbers"),
    "mae": ("MeanAbsoluteError", {}, "numbers", "numbers"),
    "huber": ("Huber", {}, "numbers", "numbers"),
    "huber, delta": ("Huber", {"delta": 0.3}, "numbers", "numbers"),
    "log cosh": ("LogCosh", {}, "numbers", "numbers"),
    "poisson": ("Poisson", {}, "simplex", "counts"),
    "hinge of bits": ("Hinge", {}, "numbers", "bits"),
    "hinge of signs": ("Hinge", {}, "numbers", "signs"),
    "squared hinge": ("SquaredHinge", {}, "numbers", "signs"),
    "categorical hinge": ("CategoricalHinge", {}, "numbers", "one-hot"),
    "categorical hinge, soft": ("CategoricalHinge", {}, "numbers", "soft"),
    "divergence": ("KLDivergence", {}, "simplex", "soft"),
    "divergence, one-hot": ("KLDivergence", {}, "simplex", "one-hot"),
    "cosine": ("CosineSimilarity", {}, "numbers", "numbers"),
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(31)


@pytest.fixture
def torch_keras() -> tuple[Any, Any]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend than PyTorch")
    return torch, keras


def drawn(kind: str, rng: np.random.Generator) -> Array:
    shape = ROWS, CLASSES
    labels = rng.integers(0, CLASSES, ROWS)
    return {
        "numbers": lambda: rng.normal(size=shape),
        "simplex": lambda: rng.dirichlet(np.ones(CLASSES), ROWS),
        "soft": lambda: rng.dirichlet(np.ones(CLASSES), ROWS),
        "one-hot": lambda: np.eye(CLASSES)[labels],
        "bits": lambda: rng.integers(0, 2, shape).astype(float),
        "signs": lambda: 2.0 * rng.integers(0, 2, shape) - 1.0,
        "counts": lambda: rng.poisson(2.0, shape).astype(float),
    }[kind]()


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("case", AGAINST_KERAS)
def test_losses_are_keras(
    case: str, weighted: bool, torch_keras: tuple[Any, Any], rng: np.random.Generator
) -> None:
    torch, keras = torch_keras
    name, arguments, predictions, targets = AGAINST_KERAS[case]
    z, y = drawn(predictions, rng), drawn(targets, rng)
    weights = rng.uniform(0.0, 3.0, ROWS) if weighted else None
    tz = torch.tensor(z, requires_grad=True)
    theirs = getattr(keras.losses, name)(**arguments)(torch.tensor(y), tz, sample_weight=weights)
    theirs.backward()
    own, gradient = getattr(fastnn, name)(**arguments), tz.grad.numpy()
    value, found = own.forward(z, y, weights), own.backward()
    if name == "CategoricalCrossentropy" and "from_logits" not in arguments:
        # Keras divides a row by its sum first. Along the simplex the gradients are the same.
        gradient, found = (g - g.mean(axis=1, keepdims=True) for g in (gradient, found))
    # Keras takes its means in float32, whatever it is given.
    assert_close(value, theirs.item(), "float32")
    assert_close(found, gradient, "float32")


@pytest.mark.parametrize("name", ["categorical_crossentropy", "categorical_hinge",
                                  "kl_divergence", "sparsemax_loss"])  # fmt: skip
def test_labels_are_one_hot_rows(name: str, rng: np.random.Generator) -> None:
    loss = losses.check(name)
    p, labels = drawn("simplex", rng), rng.integers(0, CLASSES, ROWS)
    one = loss.forward(p, labels), loss.backward().copy()
    other = loss.forward(p, np.eye(CLASSES)[labels]), loss.backward()
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])


def test_zeros_count_as_minus_one(rng: np.random.Generator) -> None:
    z, bits = drawn("numbers", rng), drawn("bits", rng)
    for loss in (fastnn.Hinge(), fastnn.SquaredHinge()):
        assert loss.forward(z, bits) == loss.forward(z, 2 * bits - 1)
        assert loss.forward(z, np.ones_like(z)) == loss.forward(z, np.ones(z.shape, bool))


def test_class_weights_of_signs(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(ROWS, 2)), rng.integers(0, 2, ROWS)
    weights = np.where(y == 1, 3.0, 0.5)
    figures = []
    for targets, options in (
        (y, {"class_weight": {0: 0.5, 1: 3.0}}),
        (2 * y - 1, {"class_weight": {0: 0.5, 1: 3.0}}),
        (y, {"sample_weight": weights}),
    ):
        model = fastnn.Sequential([fastnn.Dense(1)], (2,), dtype="float64", seed=1)
        model.compile("sgd", "hinge")
        figures.append(model.train_on_batch(x, targets, **options)["loss"])
    assert figures[0] == figures[1] == figures[2]


@pytest.mark.parametrize("name", [n for n in losses.LOSSES if "_" in n or n in PAIRS])
def test_training_makes_the_loss_smaller(name: str, rng: np.random.Generator) -> None:
    kind = losses.LOSSES[name].targets
    model = fastnn.Sequential([fastnn.Dense(8, "tanh"), fastnn.Dense(2, "sigmoid")], (3,), seed=2)
    model.compile(fastnn.Adam(0.05), name)
    x = rng.normal(size=(60, 3))
    bits = np.stack([x[:, 0] > 0, x[:, 0] <= 0], axis=1).astype(float)
    y = bits.argmax(axis=1) if kind == "classes" else bits
    history = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    before, after = history[0], history[-1]
    assert after < before - 0.02


# Edges

EDGES = [0.0, -0.0, 1e-45, 1e-38, -1e-7, 1e-3, 0.5, -1.0, 3.0, -30.0, 88.0, 1e4, -1e38, 1e38]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["mean_squared_error", "mean_absolute_error", "huber", "log_cosh",
                                  "hinge", "squared_hinge",
                                  "sigmoid_binary_crossentropy"])  # fmt: skip
def test_one_element_is_right_to_four_units_in_the_last_place(name: str, dtype: str) -> None:
    rng = np.random.default_rng(32)
    spread = np.exp(rng.uniform(-60.0, 60.0, 4000)) * rng.choice([-1.0, 1.0], 4000)
    z = np.concatenate([EDGES, spread, rng.normal(scale=2.0, size=4000)]).astype(dtype)[:, None]
    y = np.ones_like(z) if "hinge" in name else np.zeros_like(z)
    loss, dz = np.empty(len(z), dtype), np.empty_like(z)
    for i in range(len(z)):
        apply(name, 1, dtype, loss=loss[i : i + 1], dz=dz[i : i + 1], z=z[i : i + 1],
              targets=y[i : i + 1], parameter=1.0)  # fmt: skip
    with np.errstate(over="ignore"):
        expected = getattr(reference, name)(z, y)
    for actual, right in ((loss, expected[0]), (dz[:, 0], len(z) * expected[1][:, 0])):
        with np.errstate(over="ignore"):
            rounded = right.astype(dtype)
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(actual[~finite], rounded[~finite])
        units = np.abs(actual - right)[finite] / np.spacing(np.abs(rounded[finite]))
        assert units.max() <= 4, z[finite][np.argmax(units), 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["mean_squared_error", "mean_absolute_error", "huber",
                                  "log_cosh", "poisson", "hinge", "squared_hinge",
                                  "cosine_similarity", "sparsemax_loss"])  # fmt: skip
def test_infinity_is_not_hidden(name: str, dtype: str) -> None:
    for bad in (np.inf, np.nan):
        z = np.array([[bad, 1.0]], dtype)
        y = np.array([[-1.0, 1.0]] if "hinge" in name else [[1.0, 0.0]], dtype)
        loss = apply(
            name, 1, dtype, loss=np.empty(1, dtype), dz=np.empty_like(z), z=z, targets=y,
            **({"parameter": 1.0} if name in PAIRS else {}),
        )["loss"]  # fmt: skip
        assert not np.isfinite(loss[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_of_any_size(dtype: str) -> None:
    largest = 5e37 if dtype == "float32" else 1e150
    for size in (largest, 1.0, 1e-6, 1e-8, 0.0):
        z, y = (size * np.array([[3.0, 4.0]])).astype(dtype), np.array([[4.0, 3.0]], dtype)
        loss = fastnn.CosineSimilarity()
        value = loss.forward(z, y)
        expected, gradient = reference.cosine_similarity(z, y)
        assert_close(value, expected[0], dtype)
        norm = max(5 * size, 1e-7)
        assert_close(loss.backward().astype(np.float64) * norm, gradient * norm, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparsemax_of_many_and_of_equal_logits(dtype: str) -> None:
    rng = np.random.default_rng(33)
    loss = fastnn.SparsemaxLoss()
    for columns in (2, 16, 1000):
        for z in (
            np.zeros((3, columns)),
            1e6 + rng.normal(size=(3, columns)) / columns,
            rng.normal(size=(3, columns)) / columns,
            rng.choice([-1e30, 0.0, 1e-3], (3, columns)),
        ):
            rows = z.astype(dtype)
            labels = rng.integers(0, columns, 3)
            loss.forward(rows, labels)
            p = 3 * loss.backward().astype(np.float64) + np.eye(columns)[labels]
            _, dz = reference.sparsemax_loss(rows, np.eye(columns)[labels])
            assert_close(p, 3 * dz + np.eye(columns)[labels], dtype)
            assert_close(p.sum(axis=1), np.ones(3), dtype, scale=10.0)  # of `columns` terms


def test_gradients_of_a_smoothed_loss(rng: np.random.Generator) -> None:
    z, labels = drawn("numbers", rng), rng.integers(0, CLASSES, ROWS)
    for y in (labels, drawn("soft", rng)):
        loss = fastnn.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)

        def value(v: Array, loss: fastnn.Loss = loss, y: Array = y) -> float:
            return loss.forward(v, y)

        value(z)
        assert_is_gradient(loss.backward().copy(), value, z)


def test_docstring_examples() -> None:
    result = doctest.testmod(losses)
    assert result.attempted >= 8
    assert result.failed == 0


def test_sparsemax_and_its_loss_are_computed_in_one() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(60, 5)), rng.integers(0, 4, 60)
    results = []
    for last in ("linear", "sparsemax"):
        model = fastnn.Sequential([fastnn.Dense(4, last)], (5,), dtype="float64", seed=1)
        model.compile("sgd", "sparsemax_loss", ["accuracy", "precision", "auc"])
        history = model.fit(x, y, epochs=3, batch_size=16, verbose=0).history
        results.append((history, model.parameters.tobytes()))
        rows = model.predict(x)
    assert results[0] == results[1]
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)


def test_sparsemax_ends_where_a_rounded_threshold_lets_an_element_in_again() -> None:
    # Of these logits, the threshold of three elements is the third one itself, that of two is less.
    z = np.array([[0.0, -8388615 / 2**24, -12582915 / 2**24]], np.float32)
    p = fastnn.activations.sparsemax(z)
    np.testing.assert_allclose(p, reference.sparsemax_forward(z), atol=1e-7)
    assert np.isfinite(fastnn.SparsemaxLoss().forward(z, [0]))
    for row in ([np.nan, 0.0], [np.inf, 0.0]):
        assert np.isnan(fastnn.activations.sparsemax(np.array([row], np.float32))).any()


def test_a_loss_that_is_changed_is_another_in_evaluate_too() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)), 5 * rng.normal(size=(40, 2))
    model = fastnn.Sequential([fastnn.Dense(2)], (3,), seed=1)
    model.compile("sgd", fastnn.Huber(delta=1.0))
    before = model.evaluate(x, y)["loss"]
    model.loss.delta = 0.1
    assert model.evaluate(x, y)["loss"] < 0.5 * before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_half_poisson_deviance_after_an_exponential(dtype: str) -> None:
    """Given logarithms, or behind the activation that makes means of them: scikit-learn's loss."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(37, 4)).astype(dtype), rng.poisson(2.0, (37, 3)).astype(dtype)
    models = [
        fastnn.Sequential([fastnn.Dense(3, last)], (4,), dtype, seed=2)
        for last in ("exponential", "linear")
    ]
    for model, from_logits in zip(models, (False, True), strict=True):
        model.compile(fastnn.SGD(0.1), fastnn.HalfPoissonDeviance(from_logits))
    figures = [model.evaluate(x, y)["loss"] for model in models]
    predicted = models[0].predict(x).astype(np.float64)
    expected = mean_poisson_deviance(y.reshape(-1), predicted.reshape(-1)) / 2
    assert figures[0] == figures[1]
    assert_close(np.asarray(figures[0], dtype), np.asarray(expected))
    for model in models:
        model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    assert models[0].parameters.tobytes() == models[1].parameters.tobytes()
