"""Metrics: scikit-learn's and Keras's figures, in one batch or many, by hand and in a model."""

import doctest
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn import metrics
from fastnn.metrics import classification, regression
from helpers import assert_close

Array = NDArray[Any]

ROWS, CLASSES, FEATURES = 83, 6, 5


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(41)


@pytest.fixture
def sklearn() -> Any:
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")


@pytest.fixture
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("torch", reason="PyTorch is not installed")
    return pytest.importorskip("keras", reason="Keras is not installed")


class Data:
    """Predictions and targets of each kind that metrics are of."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.labels = rng.integers(0, CLASSES, ROWS)
        self.one_hot = np.eye(CLASSES)[self.labels]
        noise = rng.dirichlet(np.ones(CLASSES), ROWS)
        self.p = 0.7 * noise + 0.3 * np.eye(CLASSES)[(self.labels + (noise[:, 0] > 0.3)) % CLASSES]
        self.bits = rng.integers(0, 2, ROWS)
        self.q = np.clip(0.3 * self.bits + rng.uniform(0.0, 0.7, ROWS), 0.0, 1.0)
        # Far from 0, where the difference of large sums would lose all digits.
        self.y = 1e6 + rng.normal(size=(ROWS, 2))
        self.z = self.y + 0.3 * rng.normal(size=(ROWS, 2))
        self.z[::4] = self.y[::4] + 1e-3


def best(p: Array) -> Array:
    return p.argmax(axis=1)


# name: (metric, names of targets and predictions, scikit-learn's figure of the data)
AGAINST_SKLEARN: dict[str, tuple[fastnn.Metric, str, Callable[[Any, Data], Any]]] = {
    "accuracy": (
        fastnn.Accuracy(),
        "labels p",
        lambda m, d: m.accuracy_score(d.labels, best(d.p)),
    ),
    "accuracy of bits": (
        fastnn.Accuracy(),
        "bits q",
        lambda m, d: m.accuracy_score(d.bits, d.q > 0.5),
    ),
    "categorical": (
        metrics.CategoricalAccuracy(),
        "one_hot p",
        lambda m, d: m.accuracy_score(d.labels, best(d.p)),
    ),
    "binary": (
        metrics.BinaryAccuracy(0.3),
        "bits q",
        lambda m, d: m.accuracy_score(d.bits, d.q > 0.3),
    ),
    "binary, several": (
        metrics.BinaryAccuracy(),
        "one_hot p",
        lambda m, d: 1 - m.hamming_loss(d.one_hot, d.p > 0.5),
    ),
    "top 2": (
        fastnn.TopKCategoricalAccuracy(2),
        "labels p",
        lambda m, d: m.top_k_accuracy_score(d.labels, d.p, k=2),
    ),
    "precision": (
        fastnn.Precision(),
        "bits q",
        lambda m, d: m.precision_score(d.bits, d.q > 0.5),
    ),
    "precision, all classes": (
        fastnn.Precision(0.3),
        "one_hot p",
        lambda m, d: m.precision_score(d.one_hot, d.p > 0.3, average="micro"),
    ),
    "precision of a class": (
        fastnn.Precision(0.3, class_id=2),
        "labels p",
        lambda m, d: m.precision_score(d.one_hot[:, 2], d.p[:, 2] > 0.3),
    ),
    "recall": (fastnn.Recall(0.4), "bits q", lambda m, d: m.recall_score(d.bits, d.q > 0.4)),
    "recall of a class": (
        fastnn.Recall(0.3, class_id=1),
        "labels p",
        lambda m, d: m.recall_score(d.one_hot[:, 1], d.p[:, 1] > 0.3),
    ),
    **{
        f"F1 {average}": (
            fastnn.F1Score(average),
            "labels p",
            lambda m, d, average=average: m.f1_score(d.labels, best(d.p), average=average),
        )
        for average in (None, "micro", "macro", "weighted")
    },
    "F1 of bits": (
        fastnn.F1Score("micro", 0.5),
        "bits q",
        lambda m, d: m.f1_score(d.bits, d.q > 0.5),
    ),
    "confusion": (
        fastnn.ConfusionMatrix(),
        "labels p",
        lambda m, d: m.confusion_matrix(d.labels, best(d.p)),
    ),
    "confusion of bits": (
        fastnn.ConfusionMatrix(0.4),
        "bits q",
        lambda m, d: m.confusion_matrix(d.bits, d.q > 0.4),
    ),
    "MSE": (
        metrics.MeanSquaredError(),
        "y z",
        lambda m, d: m.mean_squared_error(d.y, d.z),
    ),
    "RMSE": (
        metrics.RootMeanSquaredError(),
        "y z",
        lambda m, d: np.sqrt(m.mean_squared_error(d.y, d.z)),
    ),
    "MAE": (
        metrics.MeanAbsoluteError(),
        "y z",
        lambda m, d: m.mean_absolute_error(d.y, d.z),
    ),
    "R2": (fastnn.R2Score(), "y z", lambda m, d: m.r2_score(d.y, d.z)),
    "R2 weighted": (
        fastnn.R2Score("variance_weighted_average"),
        "y z",
        lambda m, d: m.r2_score(d.y, d.z, multioutput="variance_weighted"),
    ),
    "R2 of columns": (
        fastnn.R2Score(None),
        "y z",
        lambda m, d: m.r2_score(d.y, d.z, multioutput="raw_values"),
    ),
    "cosine": (
        metrics.CosineSimilarity(),
        "one_hot p",
        lambda m, d: m.pairwise.paired_cosine_distances(d.one_hot, d.p).mean() * -1 + 1,
    ),
}


def by_hand(metric: fastnn.Metric, y: Array, z: Array, batch: int = ROWS) -> Any:
    metric.reset_state()
    for begin in range(0, ROWS, batch):
        metric.update_state(y[begin : begin + batch], z[begin : begin + batch])
    return metric.result()


@pytest.mark.parametrize("batch", [ROWS, 10, 1])
@pytest.mark.parametrize("case", AGAINST_SKLEARN)
def test_figures_are_scikit_learns(
    case: str, batch: int, sklearn: Any, rng: np.random.Generator
) -> None:
    metric, names, figure = AGAINST_SKLEARN[case]
    data = Data(rng)
    y, z = (getattr(data, name) for name in names.split())
    # Targets of 1e6 have no more than ten digits of their differences.
    assert_close(by_hand(metric, y, z, batch), figure(sklearn, data), "float64", scale=100.0)


@pytest.mark.parametrize("curve", ["ROC", "PR"])
@pytest.mark.parametrize("thresholds", [3, 20, 200])
@pytest.mark.parametrize("names", ["bits q", "one_hot p"])
def test_area_is_keras(
    names: str, thresholds: int, curve: str, keras: Any, rng: np.random.Generator
) -> None:
    data = Data(rng)
    y, z = (getattr(data, name) for name in names.split())
    theirs = keras.metrics.AUC(num_thresholds=thresholds, curve=curve)
    theirs.update_state(y, z)
    own = by_hand(fastnn.AUC(thresholds, curve), y, z, batch=7)
    assert_close(own, float(theirs.result()), "float32")


def test_area_comes_near_the_exact_one(sklearn: Any, rng: np.random.Generator) -> None:
    data = Data(rng)
    exact = sklearn.roc_auc_score(data.bits, data.q)
    assert abs(by_hand(fastnn.AUC(10_000), data.bits, data.q) - exact) < 1e-3
    assert by_hand(fastnn.AUC(), data.bits, data.bits.astype(float)) == 1.0
    assert by_hand(fastnn.AUC(), data.bits, 1.0 - data.bits) == 0.0


KERAS_NAMES = {
    "precision": ("Precision", "bits q"),
    "recall": ("Recall", "bits q"),
    "top_k_categorical_accuracy": ("TopKCategoricalAccuracy", "one_hot p"),
    "binary_accuracy": ("BinaryAccuracy", "bits q"),
    "categorical_accuracy": ("CategoricalAccuracy", "one_hot p"),
    "f1_score": ("F1Score", "one_hot p"),
    "cosine_similarity": ("CosineSimilarity", "one_hot p"),
    "r2_score": ("R2Score", "one_hot p"),
    "root_mean_squared_error": ("RootMeanSquaredError", "one_hot p"),
}


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_defaults_are_keras(name: str, keras: Any, rng: np.random.Generator) -> None:
    class_name, names = KERAS_NAMES[name]
    data = Data(rng)
    y, z = (getattr(data, each) for each in names.split())
    theirs = getattr(keras.metrics, class_name)()
    assert theirs.name == name
    rows = (slice(None), None) if y.ndim == 1 else slice(None)
    theirs.update_state(y[rows], z[rows])
    expected = theirs.result().tolist()
    assert_close(by_hand(metrics.METRICS[name](), y, z), expected, "float32")


def test_regression_accuracy_is_that_of_the_book(rng: np.random.Generator) -> None:
    data = Data(rng)
    expected = (np.abs(data.z - data.y) < np.std(data.y) / 250).mean()
    assert 0.2 < expected < 0.5
    assert_close(by_hand(metrics.RegressionAccuracy(), data.y, data.z), expected, "float64")
    one_hot = np.abs(data.p - data.one_hot) < np.std(data.one_hot) / 250
    found = by_hand(metrics.RegressionAccuracy(), data.labels, data.p)
    assert_close(found, one_hot.mean(), "float64")


def test_figures_of_nothing() -> None:
    """No positive answer, no positive target, no variance: 0, or 1 where all is right."""
    zeros, ones = np.zeros(3), np.ones(3)
    assert by_hand(fastnn.Precision(), ones, zeros) == 0.0
    assert by_hand(fastnn.Recall(), zeros, ones) == 0.0
    assert by_hand(fastnn.F1Score("macro", 0.5), zeros, zeros) == 0.0
    assert by_hand(fastnn.F1Score("weighted", 0.5), zeros, zeros) == 0.0
    for curve in ("ROC", "PR"):
        assert by_hand(fastnn.AUC(curve=curve), zeros, ones) == 0.0
    assert by_hand(fastnn.R2Score(), ones, ones) == 1.0
    assert by_hand(fastnn.R2Score(), ones, zeros) == 0.0
    assert by_hand(fastnn.R2Score("variance_weighted_average"), ones, zeros) == 0.0


def test_a_prediction_that_is_no_number_is_not_right() -> None:
    nan = np.full((1, 3), np.nan)
    for metric in (fastnn.TopKCategoricalAccuracy(1), fastnn.Precision(), fastnn.Recall()):
        metric.update_state([1], nan)
        assert metric.result() == 0.0
    for metric in (metrics.MeanSquaredError(), fastnn.R2Score()):
        metric.update_state(np.ones((1, 3)), nan)
        assert np.isnan(metric.result()) or metric.result() == 0.0


# In a model

ALL = [
    "accuracy",
    "categorical_accuracy",
    "binary_accuracy",
    fastnn.TopKCategoricalAccuracy(2),
    "precision",
    "recall",
    "f1_score",
    fastnn.F1Score("macro", name="f1_macro"),
    "auc",
    "confusion_matrix",
    "mse",
    "mae",
    "rmse",
    "cosine_similarity",
    "r2_score",
    "regression_accuracy",
]


class Identity(fastnn.Layer):
    """A layer in Python: a model with it runs batch by batch, without a program."""

    def forward(self, x: Array, training: bool = False) -> Array:
        return x

    def backward(self, dy: Array) -> Array:
        return dy


def model_of(
    *more: fastnn.Layer, activation: str | None = "softmax", loss: Any = "categorical_crossentropy"
) -> fastnn.Sequential:
    model = fastnn.Sequential(
        [*more, fastnn.Dense(7, "tanh"), fastnn.Dense(CLASSES, activation)],
        (FEATURES,),
        dtype="float64",
        seed=5,
    )
    model.compile(fastnn.SGD(0.1), loss, metrics=ALL)
    return model


def rows_of(rng: np.random.Generator) -> tuple[Array, Array]:
    return 2 * rng.normal(size=(ROWS, FEATURES)), rng.integers(0, CLASSES, ROWS)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("batch", [1, 10, 1024])
@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        ("softmax", "categorical_crossentropy"),
        (None, fastnn.CategoricalCrossentropy(from_logits=True)),
        ("softmax", "categorical_hinge"),
        ("softmax", fastnn.CategoricalCrossentropy(label_smoothing=0.3)),
    ],
    ids=["joint", "logits", "apart", "smoothed"],
)
def test_a_model_reports_what_its_metrics_say_of_predictions(
    activation: str | None, loss: Any, batch: int, rng: np.random.Generator
) -> None:
    x, y = rows_of(rng)
    model = model_of(activation=activation, loss=loss)
    figures = model.evaluate(x, y, batch_size=batch, sample_weight=rng.uniform(size=ROWS))
    predictions = model.predict(x)
    if activation is None:
        e = np.exp(predictions - predictions.max(axis=1, keepdims=True))
        predictions = e / e.sum(axis=1, keepdims=True)
    for metric in model.metrics:
        assert_close(figures[metric.name], by_hand(metric, y, predictions), "float64", scale=10.0)


def test_fit_keeps_all_figures_of_all_epochs(rng: np.random.Generator) -> None:
    x, y = rows_of(rng)
    model, twin = model_of(), model_of()
    history = model.fit(x, y, 16, 3, verbose=0, validation_data=(x[:30], y[:30])).history
    names = [metric.name for metric in model.metrics]
    assert list(history) == [
        "loss", *names, "val_loss", *(f"val_{name}" for name in names), "learning_rate",
    ]  # fmt: skip
    assert {len(values) for values in history.values()} == {3}
    assert [matrix.sum() for matrix in history["confusion_matrix"]] == [ROWS] * 3
    assert [matrix.sum() for matrix in history["val_confusion_matrix"]] == [30] * 3
    last = model.evaluate(x[:30], y[:30])
    assert_same({f"val_{k}": v for k, v in last.items()},
                {k: v[-1] for k, v in history.items() if k.startswith("val_")})  # fmt: skip
    # train_on_batch has the figures from before its step.
    expected = twin.evaluate(x, y)
    for name, value in twin.train_on_batch(x, y).items():
        assert_close(value, expected[name], "float64", scale=10.0)


def test_figures_do_not_depend_on_how_steps_are_run(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastnn.engine import cpu
    from fastnn.training import loop

    x, y = rows_of(rng)
    compiled = model_of().fit(x, y, 16, 2, verbose=0, validation_split=0.2).history
    in_python = model_of(Identity())
    in_python.set_weights(model_of().get_weights())
    eager = in_python.fit(x, y, 16, 2, verbose=0, validation_split=0.2).history
    assert_same(compiled, eager)
    monkeypatch.setattr(cpu, "TEAM_COST", 1)
    monkeypatch.setattr(loop, "TEAM_STEPS", 0)
    before = fastnn.get_num_threads()
    try:
        for threads in (1, 2, 5):
            fastnn.set_num_threads(threads)
            by_team = model_of().fit(x, y, 16, 2, verbose=0, validation_split=0.2).history
            assert_same(compiled, by_team)
    finally:
        fastnn.set_num_threads(before)


def test_the_bar_shows_numbers_alone(
    rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    model_of().fit(*rows_of(rng), epochs=1, verbose=2)
    shown = capsys.readouterr().out
    assert "auc=" in shown
    assert "confusion" not in shown


def test_stopping_early_knows_which_figures_should_grow(rng: np.random.Generator) -> None:
    x, y = rows_of(rng)
    for name, grows in (("auc", True), ("r2_score", True), ("mean_squared_error", False)):
        stopping = fastnn.EarlyStopping(name, restore_best_weights=True, patience=9)
        history = model_of().fit(x, y, 16, 4, verbose=0, callbacks=[stopping]).history[name]
        assert stopping.best == (max if grows else min)(history)
    for name in ("confusion_matrix", "f1_score"):
        with pytest.raises(ValueError, match=f"monitor '{name}' is not among"):
            model_of().fit(x, y, verbose=0, callbacks=[fastnn.EarlyStopping(name)])


def test_accuracy_of_a_hinge(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(ROWS, 2)), rng.integers(0, 2, ROWS)
    model = fastnn.Sequential([fastnn.Dense(1)], (2,), seed=1)
    model.compile("sgd", "hinge", metrics=["accuracy"])
    expected = ((model.predict(x)[:, 0] > 0) == y).mean()
    for targets in (y, 2 * y - 1):
        assert model.evaluate(x, targets)["accuracy"] == pytest.approx(expected)


# The door


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (metrics.CategoricalAccuracy(), "categorical_accuracy needs at least 2 outputs"),
        (fastnn.TopKCategoricalAccuracy(), "needs at least 2 outputs, the network has 1"),
        (fastnn.F1Score(), "f1_score needs at least 2 outputs"),
        (fastnn.Recall(class_id=1), "recall: class_id must be below 1, .* got 1"),
    ],
)
def test_a_figure_that_there_is_not_is_refused(metric: fastnn.Metric, words: str) -> None:
    model = fastnn.Sequential([fastnn.Dense(1)])
    model.compile("sgd", "mse", metrics=[metric])
    x, y = np.ones((3, 2)), np.ones(3)
    with pytest.raises(ValueError, match=words):
        model.fit(x, y, verbose=0)
    assert not model.built
    with pytest.raises(ValueError, match=words):
        metric.update_state(y, y)


def test_by_hand_the_door_is_the_same() -> None:
    metric = fastnn.Precision()
    with pytest.raises(RuntimeError, match="call update_state before result"):
        metric.result()
    with pytest.raises(ValueError, match="y_true must have 2 rows"):
        metric.update_state([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"y_pred must be \(N, C\), got shape \(1, 1, 1\)"):
        metric.update_state([1.0], [[[1.0]]])
    metric.update_state([1.0], [0.9])
    with pytest.raises(ValueError, match=r"y_pred must be \(N, 1\), got shape \(1, 2\)"):
        metric.update_state([[1.0, 0.0]], [[1.0, 0.0]])
    assert metric.result() == 1.0


def test_docstring_examples() -> None:
    results = [doctest.testmod(module) for module in (classification, regression)]
    assert sum(result.attempted for result in results) >= 6
    assert sum(result.failed for result in results) == 0


def test_nan_is_no_right_answer() -> None:
    z = np.array([[np.nan, -1.0], [-1.0, -1.0]], np.float32)
    for metric, targets, right in (
        (fastnn.metrics.BinaryAccuracy(), np.zeros((2, 2)), 0.75),
        (fastnn.metrics.CategoricalAccuracy(), np.array([0, 0]), 0.5),
        (fastnn.metrics.CategoricalAccuracy(), np.array([[1.0, 0.0], [1.0, 0.0]]), 0.5),
        (fastnn.metrics.TopKCategoricalAccuracy(k=1), np.array([0, 0]), 0.5),
    ):
        metric.reset_state()
        metric.update_state(targets, z)
        assert metric.result() == pytest.approx(right)
