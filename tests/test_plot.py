"""fastnn.plot: what is drawn is what the arrays say, and models are left alone."""

from __future__ import annotations

import doctest
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from door_cases import frozen
from fastnn import plot
from helpers import assert_close
from processes import python

Array = NDArray[Any]


@pytest.fixture(scope="module", autouse=True)
def pyplot() -> Any:
    """Pyplot without a window system; first imported here, where what it imports may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        matplotlib.use("agg")
        return importlib.import_module("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def every_figure_can_be_drawn(pyplot: Any) -> Iterator[None]:
    """Render what a test has drawn, warnings being errors, and close it."""
    yield
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()
    pyplot.close("all")


@pytest.fixture
def model() -> fastnn.Sequential:
    """A compiled network of which two hidden units are dead for rows of [0, 1]."""
    made = fastnn.Sequential(
        [fastnn.Dense(6, "relu"), fastnn.Dropout(0.5), fastnn.Dense(3, "softmax")],
        input_shape=(4,),
        seed=3,
    )
    made.compile("adam", "categorical_crossentropy")
    made.layers[0].kernel = abs(made.layers[0].kernel)
    made.layers[0].bias = [0, -50, 0, 0, -50, 0]
    return made


X = np.random.default_rng(7).random((40, 4))
Y = np.arange(40) % 3


# History.


def test_history_draws_each_quantity_with_its_validation(model: fastnn.Sequential) -> None:
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy", "confusion_matrix"])
    history = model.fit(X, Y, epochs=4, validation_data=(X, Y), verbose=0)
    axes = plot.history(history)
    assert [ax.get_ylabel() for ax in axes] == ["loss", "accuracy", "learning rate"]
    for ax, name in zip(axes[:2], ("loss", "accuracy"), strict=True):
        for line, key in zip(ax.lines[:2], (name, f"val_{name}"), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
            np.testing.assert_array_equal(line.get_ydata(), history.history[key])
    best = 1 + int(np.argmin(history.history["val_loss"]))
    assert list(axes[0].lines[2].get_xdata()) == [best, best]
    assert len(axes[2].lines) == 1


@pytest.mark.parametrize(("last", "scale"), [(0.11, "linear"), (0.01, "log"), (0.0, "linear")])
def test_learning_rates_of_several_magnitudes_are_drawn_by_them(last: float, scale: str) -> None:
    (ax,) = plot.history({"learning_rate": [1.0, last]})
    assert ax.get_yscale() == scale


def test_a_quantity_known_of_validation_alone_is_drawn() -> None:
    axes = plot.history({"loss": [1.0], "val_score": [0.5]})
    assert [ax.get_ylabel() for ax in axes] == ["loss", "val score"]


# Confusion matrix.


def test_confusion_matrix_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    true, outputs = rng.integers(0, 4, 200), rng.random((200, 4))
    counts = metrics.confusion_matrix(true, outputs.argmax(axis=1))
    for y, predictions in ((true, outputs), (np.eye(4)[true], outputs.argmax(axis=1))):
        ax = plot.confusion_matrix(y, predictions, names=["a", "b", "c", "d"])
        assert [int(text.get_text()) for text in ax.texts] == counts.ravel().tolist()
        np.testing.assert_array_equal(
            ax.images[0].get_array(), counts / counts.sum(axis=1, keepdims=True)
        )
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c", "d"]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")


def test_one_output_is_the_probability_of_the_second_class() -> None:
    ax = plot.confusion_matrix([0, 1, 1], [[0.4], [0.6], [0.5]])
    assert [text.get_text() for text in ax.texts] == ["1", "0", "1", "1"]


def test_classes_that_are_never_met_have_a_place() -> None:
    ax = plot.confusion_matrix([0, 0], np.eye(3)[[0, 1]])
    assert ax.images[0].get_array().shape == (3, 3)
    assert len(plot.confusion_matrix([0, 0], [0, 0]).texts) == 4


def test_counts_of_many_classes_are_not_written() -> None:
    assert not plot.confusion_matrix(np.arange(31), np.arange(31)).texts


# Decision boundary.


class Halves:
    """A classifier of points by the sign of their first coordinate, whatever its answer's form."""

    def __init__(self, form: str) -> None:
        self.form = form

    def predict(self, x: Array) -> Array:
        right = x[:, 0] > 0
        certain = np.where(abs(x[:, 0]) > 0.5, 1.0, 0.75)
        p = np.where(right, certain, 1 - certain)
        forms = {"labels": right.astype(int), "one": p[:, None], "two": np.stack([1 - p, p], 1)}
        return forms[self.form]


@pytest.mark.parametrize("form", ["labels", "one", "two"])
def test_decision_boundary_is_where_the_answer_changes(form: str) -> None:
    corners = np.array([[-1.0, -1.0], [1.0, 1.0]])
    ax = plot.decision_boundary(Halves(form), corners, [0, 1], resolution=60)
    image = np.asarray(ax.images[0].get_array())
    left, right = (ax.collections[0].get_facecolors()[row, :3] for row in (0, 1))
    np.testing.assert_array_equal(image[:, :30, :3], np.broadcast_to(left, (60, 30, 3)))
    np.testing.assert_array_equal(image[:, 30:, :3], np.broadcast_to(right, (60, 30, 3)))
    faint = image[:, 29:31, 3] < image[:, [0, -1], 3]
    assert faint.all() if form != "labels" else not faint.any()
    assert_close(ax.images[0].get_extent(), [-1.2, 1.2, -1.2, 1.2], "float64")
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), corners)


def test_points_on_a_line_have_room_around_them() -> None:
    ax = plot.decision_boundary(Halves("one"), [[0, 2], [1, 2]], [0, 1], resolution=2)
    assert_close(ax.images[0].get_extent(), [-0.1, 1.1, 1.9, 2.1], "float64")


# Images.


def test_weights_are_the_units_columns_on_one_scale(model: fastnn.Sequential) -> None:
    axes = plot.weights(model.layers[0], most=5)
    kernel = model.layers[0].kernel
    assert [ax.get_title() for ax in axes] == ["0", "1", "2", "3", "4"]
    for unit, ax in enumerate(axes):
        np.testing.assert_array_equal(ax.images[0].get_array(), kernel[:, unit].reshape(2, 2))
        assert ax.images[0].get_clim() == (-abs(kernel[:, :5]).max(), abs(kernel[:, :5]).max())
    (first, *_) = plot.weights(model.layers[0], shape=(1, 4))
    assert first.images[0].get_array().shape == (1, 4)


def test_misclassified_are_shown_by_certainty() -> None:
    x = np.arange(5.0)[:, None] * np.ones((5, 4))
    outputs = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7], [0.05, 0.95]])
    axes = plot.misclassified(x, [0, 0, 1, 1, 0], outputs, names=["cat", "dog"], most=2)
    assert [ax.get_title() for ax in axes] == ["cat, not dog\n95%", "dog, not cat\n80%"]
    for ax, row in zip(axes, (4, 2), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), x[row].reshape(2, 2))
        assert ax.images[0].get_clim() == (0, 4)
    assert axes[0].figure.get_suptitle() == "3 of 5 misclassified"
    titles = [ax.get_title() for ax in plot.misclassified(x, [0, 0, 1, 1, 0], outputs[:, 1:])]
    assert titles == ["0, not 1\n95%", "1, not 0\n80%", "0, not 1\n60%"]


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_images_of_several_axes_are_drawn_as_they_are(channels: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 5, *channels), np.uint8)
    (ax,) = plot.misclassified(x, [0, 1], [1, 1])
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (3, 5, *(channels if channels != (1,) else ()))
    expected = x[0].reshape(shown.shape)
    np.testing.assert_array_equal(shown, expected if shown.ndim == 2 else expected / x.max())


def test_no_mistake_is_no_picture() -> None:
    assert len(plot.misclassified(np.zeros((2, 4)), [0, 1], [0, 1])) == 0


# Activations and gradients.


def heights(ax: Any) -> list[int]:
    """Numbers in each of the two histograms of a picture: of dead units, of the others."""
    return [round(sum(bar.get_height() for bar in bars)) for bars in ax.containers]


def test_activations_show_dead_units(model: fastnn.Sequential) -> None:
    before = frozen(model)
    axes = plot.activations(model, X)
    assert frozen(model) == before
    titles = ["dense_0: 2 of 6 units dead", "dense_2: 0 of 3 units dead"]
    assert [ax.get_title() for ax in axes] == titles
    assert heights(axes[0]) == [2 * 40, 4 * 40]
    assert heights(axes[1]) == [0, 3 * 40]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == [
        "dead: 1, 4",
        "others",
    ]
    assert axes[1].get_legend() is None
    root = np.sqrt(np.mean(model.predict(X).astype(np.float64) ** 2))
    assert axes[1].get_xlabel() == f"output, root mean square {root:.3g}"


def test_a_unit_that_says_the_same_of_every_row_is_dead(model: fastnn.Sequential) -> None:
    model.layers[0].kernel[:, 5] = 0
    model.layers[0].bias[5] = 3
    assert plot.activations(model, X)[0].get_title() == "dense_0: 3 of 6 units dead"


def test_gradients_show_units_that_get_none(model: fastnn.Sequential) -> None:
    before = frozen(model)
    axes = plot.gradients(model, X, Y)
    assert frozen(model) == before
    assert [ax.get_title() for ax in axes] == [
        "dense_0.kernel: 2 of 6 units dead",
        "dense_2.kernel: 0 of 3 units dead",
    ]
    assert heights(axes[0]) == [2 * 4, 4 * 4]


def test_gradients_are_those_of_the_loop_by_hand(model: fastnn.Sequential) -> None:
    plain = fastnn.Sequential([fastnn.Dense(6, "tanh"), fastnn.Dense(3)], (4,), "float64", seed=1)
    loss = fastnn.CategoricalCrossentropy(from_logits=True)
    plain.compile("adam", loss)
    (first, _) = plot.gradients(plain, X, Y)
    loss.forward(plain(X, training=True), Y)
    gradient = loss.backward()
    for layer in reversed(plain.layers):
        gradient = layer.backward(gradient)
    expected = plain.layers[0].grads["kernel"]
    root = np.sqrt(np.mean(expected**2))
    assert first.get_xlabel() == f"gradient, root mean square {root:.3g}"
    edges = [bar.get_x() for bar in first.containers[1]]
    assert_close(edges[0], expected.min(), "float64", scale=10)  # the sum of 40 rows


# Where it is drawn, and what is refused.


def test_the_callers_axes_and_figures_are_used(model: fastnn.Sequential, pyplot: Any) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    assert plot.confusion_matrix(Y, Y, ax=ax) is ax
    assert plot.decision_boundary(Halves("one"), X[:, :2], Y % 2, ax=ax) is ax
    left, *_ = figure.subfigures(1, 5)
    for axes in (
        plot.history({"loss": [1.0, 2.0]}, left),
        plot.weights(model.layers[0], figure=left),
        plot.activations(model, X, left),
        plot.gradients(model, X, Y, left),
        plot.misclassified(X, Y, 0 * Y, figure=left),
    ):
        assert all(each.figure is left for each in axes)
    assert not pyplot.get_fignums()


def unbuilt() -> fastnn.Dense:
    return fastnn.Dense(3, name="mine")


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no history": (lambda m: plot.history([1.0]), TypeError, "a dict, got [1.0]"),
    "no epoch": (lambda m: plot.history(fastnn.History()), ValueError, "must have an epoch"),
    "labels": (
        lambda m: plot.confusion_matrix([0.5], [0]),
        ValueError,
        "confusion_matrix: y must be labels (N,), integers from 0, or rows (N, C) of numbers, "
        "got float64 of shape (1,)",
    ),
    "NaN": (lambda m: plot.confusion_matrix([0], [np.nan]), ValueError, "predictions must be"),
    "texts": (lambda m: plot.confusion_matrix([0], ["a"]), ValueError, "predictions must be"),
    "rows": (lambda m: plot.confusion_matrix([0, 1], [0]), ValueError, "must have 2 rows, got 1"),
    "names": (
        lambda m: plot.confusion_matrix(Y, Y, names=["a"]),
        ValueError,
        "names must be 3, one for each class, got ['a']",
    ),
    "plane": (
        lambda m: plot.decision_boundary(m, X, Y),
        ValueError,
        "x must be points (N, 2), got shape (40, 4)",
    ),
    "points": (
        lambda m: plot.decision_boundary(Halves("one"), X[:, :2], Y[:5]),
        ValueError,
        "y must have 40 rows like x, got 5",
    ),
    "not finite": (
        lambda m: plot.decision_boundary(Halves("one"), [[np.nan, 1.0]], [0]),
        ValueError,
        "x must be finite",
    ),
    "no layer": (lambda m: plot.weights(m), TypeError, "weights: layer must be a layer, got"),
    "not built": (lambda m: plot.weights(unbuilt()), ValueError, "mine must be built"),
    "no square": (
        lambda m: plot.weights(m.layers[2]),
        ValueError,
        "weights: shape must be (height, width) or (height, width, channels) with 6 numbers, "
        "got (2, 2)",
    ),
    "colours": (lambda m: plot.weights(m.layers[0], (1, 1, 4)), ValueError, "a grey image"),
    "shape": (
        lambda m: plot.misclassified(X, Y, Y, shape=(3, 3)),
        ValueError,
        "with 4 numbers, got (3, 3)",
    ),
    "as many": (
        lambda m: plot.misclassified(X, Y, Y[:3]),
        ValueError,
        "must have as many rows, got 40, 40 and 3",
    ),
    "one row": (lambda m: plot.activations(m, X[:1]), ValueError, "at least 2 rows"),
    "no model": (lambda m: plot.activations(3, X), TypeError, "must be a Sequential, got 3"),
    "frozen": (
        lambda m: plot.gradients(all_frozen(m), X, Y),
        ValueError,
        "a kernel that is trained",
    ),
}


def all_frozen(model: fastnn.Sequential) -> fastnn.Sequential:
    for layer in model.layers:
        layer.trainable = False
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arguments_are_named(case: str, model: fastnn.Sequential, pyplot: Any) -> None:
    draw, kind, message = REFUSED[case]
    with pytest.raises(kind) as raised:
        draw(model)
    assert message in str(raised.value)
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("name", sorted(plot.__all__))
def test_without_matplotlib_the_line_that_installs_it_is_told(
    name: str, model: fastnn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, tuple[Any, ...]] = {
        "history": ({"loss": [1.0]},),
        "confusion_matrix": (Y, Y),
        "decision_boundary": (Halves("one"), X[:, :2], Y),
        "weights": (model.layers[0],),
        "misclassified": (X, Y, Y),
        "activations": (model, X),
        "gradients": (model, X, Y),
    }
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError) as raised:
        getattr(plot, name)(*arguments[name])
    assert str(raised.value) == f'{name} needs matplotlib: pip install "fastnn[plot]"'


def test_importing_it_brings_no_matplotlib() -> None:
    assert python("import fastnn.plot, sys; print('matplotlib' in sys.modules)") == "False\n"


@pytest.mark.parametrize("room", ["images", "insides", "predictions", "training"])
def test_docstring_examples(room: str) -> None:
    result = doctest.testmod(importlib.import_module(f"fastnn.plot.{room}"))
    assert result.attempted >= 2
    assert result.failed == 0
