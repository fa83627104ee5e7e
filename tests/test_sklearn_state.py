"""What a fitted estimator is: weights that can be assigned, copies, pickles."""

import copy
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

import fastnn
import fastnn.sklearn
from fastnn.callbacks import EarlyStopping, LambdaCallback, ReduceLROnPlateau
from fastnn.schedules import ExponentialDecay
from processes import python
from sklearn_cases import (
    TheirClassifier,
    agreed,
    agreed_error,
    assert_same,
    diabetes,
    digits,
    ours,
    outputs,
    quietly,
    small,
)

ROWS = 211
X, Y = digits(ROWS)
QUICK: dict[str, Any] = {"max_iter": 3}


def assert_same_bits(actual: list[Any], expected: list[Any]) -> None:
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def weights_of(estimator: Any) -> list[Any]:
    return [array.copy() for array in (*estimator.coefs_, *estimator.intercepts_)]


# Assigned weights.


def assign_an_item(estimator: Any) -> None:
    estimator.coefs_[0] = np.linspace(-1, 1, 64 * 17).reshape(64, 17)
    estimator.intercepts_[-1] = np.arange(10.0)


def assign_lists(estimator: Any) -> None:
    estimator.coefs_ = [0.5 * coef for coef in estimator.coefs_]
    estimator.intercepts_ = [bias + 0.125 for bias in estimator.intercepts_]


def write_in_place(estimator: Any) -> None:
    estimator.coefs_[1] *= -0.5
    estimator.coefs_[0][3:5, ::2] = 0.25
    estimator.intercepts_[0][:] = 1.0


def assign_and_write(estimator: Any) -> None:
    own = np.full((64, 17), 0.01)
    estimator.coefs_[0] = own
    estimator.predict(X)
    own[:, ::2] = -0.01


CHANGES = [assign_an_item, assign_lists, write_in_place, assign_and_write]


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("change", CHANGES)
def test_predictions_and_training_follow_what_is_assigned(
    change: Callable[[Any], None], solver: str
) -> None:
    def act(estimator: Any) -> list[Any]:
        change(estimator.fit(X, Y))
        seen = [outputs(estimator, X), outputs(estimator, X[:1])]
        for _ in range(2):
            estimator.partial_fit(X, Y)
            seen.append(outputs(estimator, X))
        return seen

    agreed("classifier", act, solver=solver, **QUICK)


def test_weights_of_other_shapes_are_another_network() -> None:
    def act(estimator: Any) -> list[Any]:
        estimator.fit(X, Y)
        arrays = np.random.default_rng(1)
        estimator.coefs_ = [arrays.normal(size=shape) for shape in ((64, 5), (5, 10))]
        estimator.intercepts_ = [arrays.normal(size=n) for n in (5, 10)]
        return outputs(estimator, X)

    own = agreed("classifier", act, **QUICK)
    quietly(lambda: own.partial_fit(X, Y))  # scikit-learn fails in its optimizer, of old shapes
    assert [coef.shape for coef in own.coefs_] == [(64, 5), (5, 10)]
    own.intercepts_[0] = np.zeros(4)
    with pytest.raises(ValueError, match="could not broadcast"):
        own.predict(X)


def test_wider_weights_widen_the_network() -> None:
    def act(estimator: Any) -> list[Any]:
        estimator.fit(X.astype(np.float32), Y)
        estimator.coefs_ = [coef.astype(np.float64) for coef in estimator.coefs_]
        return [estimator.predict_proba(X.astype(np.float32)).dtype.name]

    theirs = quietly(lambda: act(TheirClassifier((17,), max_iter=1)))
    own = ours("classifier", **QUICK)
    assert quietly(lambda: act(own)) == theirs == ["float64"]
    single = quietly(lambda: ours("classifier", dtype="float32", **QUICK).fit(X, Y))
    single.coefs_[0] = np.asarray(single.coefs_[0], np.float64)
    quietly(lambda: single.partial_fit(X, Y))
    assert single.coefs_[0].dtype == np.float32


def test_a_refit_leaves_the_lists_of_before_as_they_were() -> None:
    own = quietly(lambda: ours("classifier", **QUICK).fit(X, Y))
    kept, before = (own.coefs_, own.intercepts_), weights_of(own)
    quietly(lambda: own.set_params(random_state=1).fit(X, Y))
    assert_same_bits([*kept[0], *kept[1]], before)
    assert all((a != b).any() for a, b in zip(own.coefs_, before, strict=False))


def test_parameters_that_make_the_network_count_at_once() -> None:
    def act(estimator: Any) -> list[Any]:
        estimator.fit(X, Y).set_params(activation="tanh")
        return [outputs(estimator, X), outputs(estimator, X[:1])]

    agreed("classifier", act, **QUICK)


def test_lists_that_are_parameters_count_as_they_are_now() -> None:
    own = ours("classifier", activation=["relu"], dropout=[0.0], **QUICK)
    quietly(lambda: own.fit(X, Y))
    own.activation[0] = "tanh"
    hidden = np.tanh(X @ own.coefs_[0] + own.intercepts_[0])
    expected = (hidden @ own.coefs_[1] + own.intercepts_[1]).argmax(axis=1)
    np.testing.assert_array_equal(own.predict(X), expected)
    plain = copy.deepcopy(own)
    own.dropout[0] = 0.9
    for estimator in (own, plain):
        estimator.partial_fit(X, Y)
    assert (own.coefs_[0] != plain.coefs_[0]).any()


LIVES: list[tuple[dict[str, Any], Any, Any]] = [
    ({"solver": "lbfgs"}, X[:, :9], Y % 2),
    ({"batch_norm": True, "dropout": 0.5, "early_stopping": True}, X, Y),
    (
        {"solver": fastnn.SGD(0.1), "activation": ["tanh", "relu"], "hidden_layer_sizes": (3, 4)},
        X,
        Y,
    ),
    ({"loss": "mse", "dtype": "float32", "learning_rate": ExponentialDecay(0.1, 9, 0.5)}, X, Y % 3),
    (
        {"solver": "sgd", "learning_rate": "invscaling"},
        sparse.csr_array(X),
        np.eye(10, dtype=int)[Y],
    ),
]


def test_a_fit_forgets_what_was_before() -> None:
    used = ours("classifier")
    for parameters, x, y in LIVES * 2:
        fresh = ours("classifier", **{**QUICK, **parameters})
        used.set_params(**fresh.get_params())
        quietly(lambda x=x, y=y, fresh=fresh: (used.fit(x, y), fresh.fit(x, y)))
        assert (used.n_iter_, used.t_, used.loss_) == (fresh.n_iter_, fresh.t_, fresh.loss_)
        assert_same_bits(weights_of(used), weights_of(fresh))
        assert_same_bits(outputs(used, x), outputs(fresh, x))


# Copies.


def joblib_loaded(estimator: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda e: pickle.loads(pickle.dumps(e)),
    "joblib": joblib_loaded,
}


PARAMETERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "momentum": {"solver": "sgd", "learning_rate": "invscaling"},
    "nadam": {"solver": "nadam"},
    "an instance": {"solver": fastnn.RMSprop(0.01, centered=True)},
    "averages": {"solver": fastnn.SGD(0.1, use_ema=True, ema_momentum=0.9)},
    "a schedule": {"learning_rate": ExponentialDecay(0.01, 5, 0.5)},
    "dropout": {"dropout": 0.4},
    "batch_norm": {"batch_norm": True, "early_stopping": True, "max_iter": 12},
    "callbacks": {"callbacks": [EarlyStopping("loss"), ReduceLROnPlateau("loss", patience=1)]},
    "single": {"dtype": "float32"},
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", PARAMETERS)
def test_copies_go_on_to_the_same_bits_apart_from_each_other(name: str, way: str) -> None:
    own = quietly(lambda: ours("classifier", **{**QUICK, **PARAMETERS[name]}).fit(X, Y))
    own.set_params(early_stopping=False)
    other = COPIES[way](own)
    assert_same_bits(outputs(other, X), outputs(own, X))
    before = weights_of(own)
    quietly(lambda: [other.partial_fit(X, Y) for _ in range(3)])
    assert_same_bits(weights_of(own), before)
    quietly(lambda: [own.partial_fit(X, Y) for _ in range(3)])
    assert_same_bits(weights_of(own), weights_of(other))
    assert_same_bits(outputs(own, X), outputs(other, X))
    assert (own.t_, own.loss_) == (other.t_, other.loss_)


@pytest.mark.parametrize("name", PARAMETERS)
def test_clones_are_fitted_anew_to_the_same_bits(name: str) -> None:
    own = ours("classifier", **{**QUICK, **PARAMETERS[name]})
    early = clone(own)
    quietly(lambda: own.fit(X, Y))
    late = clone(own)
    for other in (early, late):
        assert not hasattr(other, "coefs_")
        quietly(lambda other=other: other.fit(X, Y))
        assert_same_bits(weights_of(other), weights_of(own))
    assert repr(late) == repr(own) or "object at" in repr(own)


CONTINUED = """
import pathlib, pickle, sys
model, x, y = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
before = model.predict_proba(x)
for _ in range(2):
    model.partial_fit(x, y)
assert "numba" not in sys.modules
found = (before, model.predict_proba(x), model.coefs_, model.intercepts_)
pathlib.Path(sys.argv[2]).write_bytes(pickle.dumps(found))
"""


def test_a_new_process_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    own = ours("classifier", dropout=0.3, batch_norm=True, learning_rate_init=0.01, **QUICK)
    quietly(lambda: own.fit(X, Y))
    given, result = tmp_path / "model", tmp_path / "result"
    given.write_bytes(pickle.dumps((own, X, Y)))
    before = own.predict_proba(X)
    for _ in range(2):
        own.partial_fit(X, Y)
    python(CONTINUED, given, result)
    there, after, coefs, intercepts = pickle.loads(result.read_bytes())
    assert_same_bits([there, after], [before, own.predict_proba(X)])
    assert_same_bits([*coefs, *intercepts], weights_of(own))


def test_pickles_of_another_format_are_refused() -> None:
    own = quietly(lambda: ours("regressor", **QUICK).fit(*diabetes(50)))
    state = own.__getstate__()
    assert state["_fastnn"] == (fastnn.__version__, 1)
    state["_fastnn"] = ("9.8.7", 2)
    with pytest.raises(
        ValueError,
        match=r"MLPRegressor: this pickle is of fastnn 9\.8\.7, in format 2; .* reads format 1",
    ):
        ours("regressor").__setstate__(state)


def test_pickles_of_scikit_learns_become_fastnns_under_patch() -> None:
    theirs = TheirClassifier(**small(**QUICK))
    new = pickle.dumps(theirs)
    fitted = pickle.dumps(quietly(lambda: theirs.fit(X, Y)))
    fastnn.sklearn.patch()
    try:
        early, late = pickle.loads(new), pickle.loads(fitted)
    finally:
        fastnn.sklearn.unpatch()
    assert type(early) is type(late) is fastnn.sklearn.MLPClassifier
    assert early.get_params() == late.get_params() == ours("classifier", **QUICK).get_params()
    assert_same(outputs(late, X), outputs(theirs, X), "prediction")
    for estimator in (late, theirs, early):
        estimator.partial_fit(X, Y, classes=range(10))
    assert_same(outputs(late, X), outputs(theirs, X), "prediction")
    assert early.t_ == 211


def test_pickles_hold_neither_network_nor_model() -> None:
    own = ours("classifier", callbacks=[LambdaCallback()], **QUICK)
    quietly(lambda: own.fit(X, Y))
    assert b"fastnn.model" not in pickle.dumps(own)
    assert not hasattr(own.callbacks[0], "model")


# Many threads.


def test_predictions_from_several_threads_at_once() -> None:
    own = quietly(lambda: ours("classifier", **QUICK).fit(X, Y))
    expected = outputs(own, X)
    for estimator in (own, pickle.loads(pickle.dumps(own))):  # the latter has no network yet
        seen: list[Any] = [None] * 8
        gate = threading.Barrier(8)

        def work(
            index: int, estimator: Any = estimator, seen: Any = seen, gate: Any = gate
        ) -> None:
            gate.wait()
            seen[index] = [outputs(estimator, X) for _ in range(20)]

        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for rounds in seen:
            for found in rounds:
                assert_same_bits(found, expected)
        estimator.partial_fit(X, Y)
    assert_same(own.coefs_, estimator.coefs_, "coefs_")


def test_what_is_not_fitted_says_so() -> None:
    for act in (lambda e: e.predict(X), lambda e: e.predict_proba(X), lambda e: e.score(X, Y)):
        agreed_error("classifier", act)
