"""Fitted estimators of scikit-learn to fastnn's and back: they predict and train on alike."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

import fastnn
from fastnn import losses
from fastnn.schedules import ExponentialDecay
from fastnn.sklearn import MLPClassifier, from_sklearn
from sklearn_cases import (
    PAIRS,
    TheirClassifier,
    assert_same,
    assert_same_state,
    diabetes,
    digits,
    ours,
    outputs,
    quietly,
    small,
)

X, Y = digits(211)
NUMBERS = diabetes(211)

FITS: dict[str, dict[str, Any]] = {
    "adam": {},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.05},
    "plain momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.05},
    "no momentum": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1,
    },
    "three layers": {"hidden_layer_sizes": (7, 6), "activation": "logistic", "beta_1": 0.8},
    "early stopping": {"early_stopping": True},
}  # fmt: skip


def data_of(kind: str) -> Any:
    return (X, Y) if kind == "classifier" else NUMBERS


def trained_on(estimator: Any, data: Any) -> list[Any]:
    """What is predicted after further training, which early_stopping would refuse."""
    estimator.set_params(early_stopping=False)
    estimator.best_loss_ = np.inf
    for rows in (211, 50, 211):
        quietly(lambda rows=rows: estimator.partial_fit(data[0][:rows], data[1][:rows]))
    return outputs(estimator, data[0])


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize("name", FITS)
def test_from_scikit_learn(name: str, kind: str) -> None:
    data = data_of(kind)
    theirs = quietly(lambda: PAIRS[kind][0](**small(max_iter=8, **FITS[name])).fit(*data))
    before = pickle.dumps(theirs)
    own = from_sklearn(theirs)
    assert type(own) is PAIRS[kind][1]
    assert own.get_params().items() >= theirs.get_params().items()
    assert_same(outputs(own, data[0]), outputs(theirs, data[0]), "prediction")
    assert_same_state(own, theirs)
    further = trained_on(own, data)
    assert pickle.dumps(theirs) == before
    assert_same(further, trained_on(theirs, data), "prediction")
    assert_same_state(own, theirs)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize("name", FITS)
def test_to_scikit_learn(name: str, kind: str) -> None:
    data = data_of(kind)
    own = quietly(lambda: ours(kind, max_iter=8, **FITS[name]).fit(*data))
    before = pickle.dumps(own)
    theirs = own.to_sklearn()
    assert type(theirs) is PAIRS[kind][0]
    assert own.get_params().items() >= theirs.get_params().items()
    assert set(vars(theirs)) <= set(vars(quietly(lambda: type(theirs)().fit(*data)))) | {
        "best_validation_score_"
    }
    assert_same(outputs(theirs, data[0]), outputs(own, data[0]), "prediction")
    further = trained_on(theirs, data)
    assert pickle.dumps(own) == before
    assert_same(further, trained_on(own, data), "prediction")
    assert_same_state(own, theirs)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_there_and_back_is_the_same(kind: str) -> None:
    data = data_of(kind)
    own = quietly(lambda: ours(kind, solver="lbfgs", max_iter=4).fit(*data))
    back = from_sklearn(own.to_sklearn())
    np.testing.assert_array_equal(back.predict(data[0]), own.predict(data[0]))
    assert back.get_params() == own.get_params()
    again = from_sklearn(own)
    assert again is not own
    np.testing.assert_array_equal(again.predict(data[0]), own.predict(data[0]))


def test_parameters_changed_after_the_fit_leave_the_optimizer_as_it_is() -> None:
    # As in scikit-learn, whose optimizer was made with those of before.
    theirs = quietly(lambda: TheirClassifier(**small(max_iter=3)).fit(X, Y))
    theirs.set_params(learning_rate_init=0.5, beta_1=0.1)
    own = from_sklearn(theirs)
    assert_same(trained_on(own, (X, Y)), trained_on(theirs, (X, Y)), "prediction")


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_batch_normalisation_goes_into_the_weights(kind: str) -> None:
    data = data_of(kind)
    parameters = {"batch_norm": True, "dropout": 0.1, "hidden_layer_sizes": (9, 8), "max_iter": 5}
    own = quietly(lambda: ours(kind, **parameters).fit(*data))
    theirs = own.to_sklearn()
    assert_same(outputs(theirs, data[0]), outputs(own, data[0]), "prediction")
    assert (theirs.coefs_[0] != own.coefs_[0]).any()
    quietly(lambda: theirs.partial_fit(*data))


LACKED: dict[str, dict[str, Any]] = {
    "solver": {"solver": "rmsprop"},
    "learning_rate": {"learning_rate": ExponentialDecay(0.01, 5, 0.5)},
    "verbose": {"verbose": "bar"},
}


@pytest.mark.parametrize("name", LACKED)
def test_defaults_stand_for_what_only_training_would_need(name: str) -> None:
    own = quietly(lambda: ours("classifier", max_iter=3, **LACKED[name]).fit(X, Y))
    theirs = own.to_sklearn()
    assert getattr(theirs, name) == TheirClassifier().get_params()[name]
    assert_same(outputs(theirs, X), outputs(own, X), "prediction")
    quietly(lambda: theirs.partial_fit(X, Y).fit(X, Y))


def test_losses_that_scikit_learn_has_not() -> None:
    own = quietly(lambda: ours("regressor", loss="huber", max_iter=3).fit(*NUMBERS))
    theirs = own.to_sklearn()
    assert theirs.loss == "squared_error"
    assert_same(outputs(theirs, NUMBERS[0]), outputs(own, NUMBERS[0]), "prediction")
    loss = losses.CategoricalCrossentropy(label_smoothing=0.1)
    assert quietly(lambda: ours("classifier", loss=loss).fit(X, Y)).to_sklearn().loss == "log_loss"


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ("sigmoid", "logistic"),
        ("linear", "identity"),
        (["tanh"], "tanh"),
        (["logistic"], "logistic"),
    ],
)
def test_names_of_activations(own: Any, theirs: str) -> None:
    fitted = quietly(lambda: ours("classifier", activation=own, max_iter=2).fit(X, Y))
    assert fitted.to_sklearn().activation == theirs
    assert_same(outputs(fitted.to_sklearn(), X), outputs(fitted, X), "prediction")


@fastnn.activation
def cube(x: Any) -> Any:
    return x * x * x


@pytest.mark.parametrize(
    ("activation", "said"),
    [("elu", "got elu, elu$"), (["relu", "tanh"], "got relu, tanh$"), ([cube, cube], "got .*cube")],
)
def test_activations_that_scikit_learn_has_not(activation: Any, said: str) -> None:
    parameters = {"activation": activation, "hidden_layer_sizes": (5, 4), "max_iter": 1}
    own = quietly(lambda: ours("classifier", **parameters).fit(X, Y))
    with pytest.raises(ValueError, match=f"linear, relu, sigmoid, tanh for all layers, {said}"):
        own.to_sklearn()


def test_what_cannot_be_converted() -> None:
    with pytest.raises(
        TypeError, match=r"an MLPClassifier or MLPRegressor, got LogisticRegression"
    ):
        from_sklearn(LogisticRegression())
    with pytest.raises(TypeError, match="got <class"):
        from_sklearn(TheirClassifier)
    with pytest.raises(NotFittedError):
        from_sklearn(TheirClassifier())
    with pytest.raises(NotFittedError):
        MLPClassifier().to_sklearn()
