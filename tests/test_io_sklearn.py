"""Networks of scikit-learn's, which is the oracle of what they predict."""

import warnings
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.io import from_sklearn
from helpers import assert_close

neural_network = pytest.importorskip(
    "sklearn.neural_network", reason="scikit-learn is not installed"
)

X = np.random.default_rng(0).normal(size=(40, 5))
SUMS = X @ np.arange(5)


def fitted(kind: str, y: Any, dtype: str = "float64", **arguments: Any) -> Any:
    estimator = getattr(neural_network, kind)(max_iter=5, random_state=1, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 5 iterations are few
        return estimator.fit(X.astype(dtype), y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_a_classifier_predicts_the_same(activation: str, dtype: str) -> None:
    estimator = fitted(
        "MLPClassifier",
        np.array(["a", "b", "c", "d"])[np.digitize(SUMS, [-4, 0, 4])],
        dtype,
        hidden_layer_sizes=(7, 3),
        activation=activation,
    )
    model = from_sklearn(estimator, seed=2)
    assert (model.dtype, model.seed) == (dtype, 2)
    x = X.astype(dtype)
    assert_close(model.predict(x), estimator.predict_proba(x), scale=4)  # three layers
    chosen = estimator.classes_[model.predict(x).argmax(axis=1)]
    np.testing.assert_array_equal(chosen, estimator.predict(x))


def test_two_classes_are_one_column() -> None:
    estimator = fitted("MLPClassifier", SUMS > 0)
    model = from_sklearn(estimator)
    assert_close(model.predict(X), estimator.predict_proba(X)[:, 1:], scale=4)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(X, SUMS > 0, epochs=60, verbose=0)
    assert model.evaluate(X, SUMS > 0)["accuracy"] > 0.9


def test_several_labels_are_columns() -> None:
    estimator = fitted("MLPClassifier", np.stack([SUMS > 0, X[:, 0] > 0], axis=1))
    assert_close(from_sklearn(estimator).predict(X), estimator.predict_proba(X), scale=4)


@pytest.mark.parametrize("y", [SUMS, np.stack([SUMS, -SUMS], axis=1)], ids=["one", "two"])
def test_a_regressor_predicts_the_same(y: Any) -> None:
    estimator = fitted("MLPRegressor", y, activation="tanh")
    expected = estimator.predict(X).reshape(len(X), -1)
    assert_close(from_sklearn(estimator).predict(X), expected, scale=4)


def test_the_exponential_of_a_poisson_regressor() -> None:
    try:
        estimator = fitted("MLPRegressor", np.abs(SUMS), loss="poisson")
    except TypeError:
        pytest.skip("scikit-learn before 1.7 has no loss of MLPRegressor")
    model = from_sklearn(estimator)
    assert isinstance(model.layers[-1], fastnn.Dense)
    assert model.layers[-1].activation == "exponential"
    assert_close(model.predict(X)[:, 0], estimator.predict(X), scale=4)


def test_other_estimators_and_unfitted_ones_are_refused() -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(TypeError, match="estimator must be an MLPClassifier or MLPRegressor"):
        from_sklearn(fastnn)
    with pytest.raises(NotFittedError):
        from_sklearn(neural_network.MLPClassifier())
