"""What tests of fastnn.sklearn share: data, estimators in pairs, and when two say the same."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.preprocessing import scale
from threadpoolctl import ThreadpoolController

from fastnn.sklearn import MLPClassifier, MLPRegressor
from helpers import assert_close

Array = NDArray[Any]

PAIRS = {
    "classifier": (TheirClassifier, MLPClassifier),
    "regressor": (TheirRegressor, MLPRegressor),
}

AGREEMENT = 1e4
"""Times the table's float64: 1e-8, to which sums of other orders may come apart in 20 epochs."""

FITTED = [
    "best_loss_", "best_validation_score_", "classes_", "coefs_", "feature_names_in_",
    "intercepts_", "loss_", "loss_curve_", "n_features_in_", "n_iter_", "n_layers_", "n_outputs_",
    "out_activation_", "t_", "validation_scores_", "_no_improvement_count",
]  # fmt: skip
"""What scikit-learn's estimators know after a fit; the last of it, its own tests read."""

_BLAS = ThreadpoolController()


def digits(rows: int | None = None) -> tuple[Array, Array]:
    x, y = load_digits(return_X_y=True)
    return x[:rows] / 16, y[:rows]


def breast_cancer() -> tuple[Array, Array]:
    x, y = load_breast_cancer(return_X_y=True)
    return scale(x), y


def diabetes(rows: int | None = None) -> tuple[Array, Array]:
    x, y = load_diabetes(return_X_y=True)
    return scale(x)[:rows], scale(y)[:rows]


def small(**parameters: Any) -> dict[str, Any]:
    """Parameters of a network that fits within milliseconds."""
    return {"hidden_layer_sizes": (17,), "max_iter": 20, "random_state": 0, **parameters}


def ours(kind: str, **parameters: Any) -> Any:
    """fastnn's estimator, small."""
    return PAIRS[kind][1](**small(**parameters))


def quietly(act: Callable[[], Any]) -> Any:
    """What `act` returns, its warnings unheard: most fits here are too short to converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return act()


def heard(act: Callable[[Any], Any], estimator: Any) -> tuple[Any, list[tuple[type, str]]]:
    """What `act` makes of the estimator, an error among it, and the warnings on the way."""
    with warnings.catch_warnings(record=True) as caught, _BLAS.limit(limits=1):
        warnings.simplefilter("always")
        try:
            result = act(estimator)
        except Exception as error:
            result = error
    return result, [(w.category, str(w.message)) for w in caught]


def agreed(kind: str, act: Callable[[Any], Any], **parameters: Any) -> Any:
    """Let both libraries' estimators do the same: results, warnings and attributes must agree.

    Returns fastnn's estimator.
    """
    theirs, own = (estimator(**small(**parameters)) for estimator in PAIRS[kind])
    expected, said_there = heard(act, theirs)
    result, said = heard(act, own)
    for outcome in (expected, result):
        if isinstance(outcome, Exception):
            raise outcome
    assert said == said_there
    assert_same(result, expected, "result")
    assert_same_state(own, theirs)
    return own


def agreed_error(kind: str, act: Callable[[Any], Any], **parameters: Any) -> Exception:
    """The error that both libraries' estimators meet, in the same words."""
    theirs, own = (estimator(**small(**parameters)) for estimator in PAIRS[kind])
    (expected, _), (error, _) = heard(act, theirs), heard(act, own)
    assert isinstance(expected, Exception)
    assert_same(error, expected, "error")
    return expected


def assert_same_state(own: Any, theirs: Any) -> None:
    """Assert that all that is known after a fit agrees."""
    for name in FITTED:
        assert hasattr(own, name) == hasattr(theirs, name), name
        if hasattr(own, name):
            assert_same(getattr(own, name), getattr(theirs, name), name)


def assert_same(actual: Any, expected: Any, what: str) -> None:
    """Assert that two values agree: numbers within AGREEMENT and by type, all else exactly."""
    if isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), what
        for index, pair in enumerate(zip(actual, expected, strict=True)):
            assert_same(*pair, f"{what}[{index}]")
    elif isinstance(expected, Exception):
        assert (type(actual), str(actual)) == (type(expected), str(expected)), what
    elif isinstance(expected, (float, np.ndarray)) and np.asarray(expected).dtype.kind == "f":
        assert np.asarray(actual).dtype == np.asarray(expected).dtype, what
        assert_close(actual, expected, scale=AGREEMENT)
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype, what
        np.testing.assert_array_equal(actual, expected, what)
    elif not isinstance(expected, (TheirClassifier, TheirRegressor)):
        assert actual == expected, what


def fitted(x: Any, y: Any, *weights: Any) -> Callable[[Any], Any]:
    """An act of `agreed`: fit, and predict."""

    def act(estimator: Any) -> list[Any]:
        estimator.fit(x, y, *weights)
        return outputs(estimator, x)

    return act


def outputs(estimator: Any, x: Any) -> list[Any]:
    """All that an estimator predicts."""
    names = [n for n in ("predict", "predict_proba", "predict_log_proba") if hasattr(estimator, n)]
    return [getattr(estimator, name)(x) for name in names]
