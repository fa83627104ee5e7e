"""Parameters that cannot be: refused in scikit-learn's manner, before anything changes."""

from typing import Any

import numpy as np
import pytest
from sklearn.utils._param_validation import InvalidParameterError

import fastnn
from fastnn import losses
from fastnn.callbacks import EarlyStopping
from fastnn.sklearn import MLPClassifier, MLPRegressor
from sklearn_cases import (
    TheirClassifier,
    TheirRegressor,
    agreed_error,
    diabetes,
    digits,
    ours,
    quietly,
)

X, Y = digits(100)
NUMBERS = diabetes(100)

THEIRS: list[dict[str, Any]] = [
    {"hidden_layer_sizes": 0},
    {"hidden_layer_sizes": -3},
    {"hidden_layer_sizes": (5, 0, 2)},
    {"hidden_layer_sizes": "ten"},
    {"hidden_layer_sizes": 5.5},
    {"hidden_layer_sizes": None},
    {"alpha": -1.0},
    {"alpha": "small"},
    {"batch_size": 0},
    {"batch_size": 2.5},
    {"batch_size": "all"},
    {"learning_rate_init": 0.0},
    {"learning_rate_init": -1e-3},
    {"power_t": -0.1},
    {"max_iter": 0},
    {"max_iter": 2.5},
    {"shuffle": "yes"},
    {"random_state": -1},
    {"random_state": "seed"},
    {"tol": -1e-4},
    {"warm_start": 2},
    {"momentum": 1.5},
    {"momentum": -0.1},
    {"nesterovs_momentum": None},
    {"early_stopping": "yes"},
    {"validation_fraction": 1.0},
    {"validation_fraction": -0.5},
    {"beta_1": 1.0},
    {"beta_2": -0.1},
    {"epsilon": 0.0},
    {"n_iter_no_change": 0},
    {"n_iter_no_change": 2.5},
    {"max_fun": 0},
]


@pytest.mark.parametrize("wrong", THEIRS, ids=str)
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_scikit_learns_parameters_are_refused_in_its_words(
    kind: str, wrong: dict[str, Any]
) -> None:
    data = (X, Y) if kind == "classifier" else NUMBERS
    agreed_error(kind, lambda e: e.fit(*data), **wrong)


def square(x: Any) -> Any:
    return x * x


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"activation": "rely"}, r"a str among \{.*'relu'.*\}.* Got 'rely' instead"),
    ({"activation": "step"}, "Got 'step' instead"),
    ({"activation": "exp"}, "Got 'exp' instead"),
    ({"activation": 3}, "Got 3 instead"),
    ({"activation": square}, "Got <function square"),
    (
        {"activation": ["relu", "tanh"]},
        r"one name, or a list of 1\. Got \['relu', 'tanh'\] instead",
    ),
    ({"activation": []}, r"one name, or a list of 1\. Got \[\] instead"),
    ({"activation": ["rely"]}, r"made of names among .*relu.* Got \['rely'\] instead"),
    ({"activation": ["step"]}, r"made of names among"),
    ({"activation": [["relu"]]}, r"made of names among"),
    (
        {"solver": "adma"},
        r"a str among \{.*'adam'.*\} or an instance .* Got 'adma' instead",
    ),
    ({"solver": fastnn.Adam}, "Got <class"),
    ({"solver": fastnn.LBFGS()}, "'lbfgs' for fits of all data at once"),
    ({"learning_rate": "falling"}, r"a str among \{.*'adaptive'.*\} or an instance"),
    ({"learning_rate": 0.01}, "Got 0.01 instead"),
    ({"verbose": "loud"}, r"str among \{'bar'\}\. Got 'loud' instead"),
    ({"verbose": -1}, "Got -1 instead"),
    ({"dropout": 1.0}, r"a float in the range \[0.0, 1.0\).* Got 1.0 instead"),
    ({"dropout": -0.1}, "Got -0.1 instead"),
    ({"dropout": np.nan}, "Got nan instead"),
    ({"dropout": "much"}, "Got 'much' instead"),
    ({"dropout": None}, "Got None instead"),
    ({"dropout": [0.1, 0.2]}, r"a float in \[0, 1\), or a list of 1 of them"),
    ({"dropout": [1.0]}, r"Got \[1.0\] instead"),
    ({"dropout": [np.nan]}, r"Got \[nan\] instead"),
    ({"dropout": ["a"]}, r"Got \['a'\] instead"),
    ({"dropout": [None]}, r"Got \[None\] instead"),
    ({"batch_norm": "yes"}, "Got 'yes' instead"),
    ({"batch_norm": 2}, "Got 2 instead"),
    ({"dtype": "float16"}, r"a str among \{.*'float32'.*\} or None"),
    ({"dtype": np.float32}, "Got <class 'numpy.float32'> instead"),
    ({"device": "gpu"}, r"a str among \{.*'cpu'.*\}\. Got 'gpu' instead"),
    ({"device": None}, "Got None instead"),
    ({"callbacks": EarlyStopping("loss")}, "an instance of 'list'"),
    ({"callbacks": [EarlyStopping]}, "a list of callbacks"),
    ({"callbacks": [print]}, "a list of callbacks"),
    ({"reset_optimizer": None}, "Got None instead"),
    ({"loss": "log"}, "Got 'log' instead"),
    ({"loss": losses.SparsemaxLoss()}, "a loss of "),
    ({"loss": losses.MeanSquaredError}, "Got <class"),
]


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said for _, said in WRONG])
def test_fastnns_parameters_are_refused_alike(kind: str, wrong: dict[str, Any], said: str) -> None:
    refused(kind, wrong, said)


OF_CLASSIFIERS: list[tuple[dict[str, Any], str]] = [
    (
        {"class_weight": "equal"},
        r"an instance of 'dict', a str among \{'balanced'\} or None",
    ),
    ({"class_weight": [1, 2]}, r"Got \[1, 2\] instead"),
    ({"loss": "squared_error"}, "Got 'squared_error' instead"),
]


@pytest.mark.parametrize(("wrong", "said"), OF_CLASSIFIERS)
def test_those_of_classifiers(wrong: dict[str, Any], said: str) -> None:
    refused("classifier", wrong, said)


OF_REGRESSORS: list[tuple[dict[str, Any], str]] = [
    ({"loss": "log_loss"}, "Got 'log_loss' instead"),
    ({"loss": "categorical_crossentropy"}, "a loss of values or counts"),
]


@pytest.mark.parametrize(("wrong", "said"), OF_REGRESSORS)
def test_those_of_regressors(wrong: dict[str, Any], said: str) -> None:
    refused("regressor", wrong, said)


def refused(kind: str, wrong: dict[str, Any], said: str) -> None:
    """Assert that an estimator, new or fitted, refuses a parameter and stays as it is."""
    data = (X, Y) if kind == "classifier" else NUMBERS
    (name,) = wrong
    match = rf"^The '{name}' parameter of MLP{kind.capitalize()} must be .*{said}"
    fresh = ours(kind, **wrong)
    before = dict(vars(fresh))
    with pytest.raises(InvalidParameterError, match=match):
        fresh.fit(*data)
    assert vars(fresh) == before
    fitted = quietly(lambda: ours(kind, max_iter=2).fit(*data)).set_params(**wrong)
    before = dict(vars(fitted))
    weights = [array.copy() for array in fitted.coefs_]
    with pytest.raises(InvalidParameterError, match=match):
        fitted.fit(data[0][:, :5], data[1])
    assert vars(fitted).keys() == before.keys()
    assert all(vars(fitted)[key] is value for key, value in before.items())
    for now, then in zip(fitted.coefs_, weights, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_what_lbfgs_cannot_do(kind: str) -> None:
    data = (X, Y) if kind == "classifier" else NUMBERS
    for wrong in ({"batch_norm": True}, {"callbacks": [EarlyStopping("loss")]}):
        own = ours(kind, solver="lbfgs", **wrong)
        with pytest.raises(InvalidParameterError, match="with the solver 'lbfgs'"):
            own.fit(*data)
        assert not hasattr(own, "coefs_")


def test_binary_and_multilabel_outputs_are_no_classes() -> None:
    for y in (Y % 2, np.stack([Y > 3, Y > 5], axis=1).astype(int)):
        own = ours("classifier", loss="categorical_crossentropy")
        with pytest.raises(InvalidParameterError, match="a loss of probabilities or values"):
            own.fit(X, y)
        assert not hasattr(own, "coefs_")


@pytest.mark.parametrize(
    ("own", "theirs"), [(MLPClassifier, TheirClassifier), (MLPRegressor, TheirRegressor)]
)
def test_defaults_are_scikit_learns(own: Any, theirs: Any) -> None:
    given = theirs().get_params()
    assert {name: own().get_params()[name] for name in given} == given
    assert isinstance(own(), theirs)
    more = own().get_params().keys() - given.keys()
    assert more - {"loss", "class_weight"} == {
        "dropout", "batch_norm", "dtype", "device", "callbacks", "reset_optimizer",
    }  # fmt: skip
    assert set(own._parameter_constraints) == set(own().get_params())
