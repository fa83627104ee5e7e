"""Estimators in searches, pipelines and notebooks."""

import json
from typing import Any

import numpy as np
import pytest
import sklearn
from joblib import parallel_config
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn.callbacks import EarlyStopping
from fastnn.schedules import ExponentialDecay
from processes import python
from sklearn_cases import TheirClassifier, assert_same, digits, ours, outputs, quietly, small

X, Y = digits(211)
GRID = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(4,), (9,)]}


def searched(estimator: Any, **options: Any) -> GridSearchCV:
    return quietly(
        lambda: GridSearchCV(estimator, GRID, cv=3, error_score="raise", **options).fit(X, Y)
    )


def test_a_search_finds_what_scikit_learns_estimator_does() -> None:
    own = searched(ours("classifier", max_iter=5))
    theirs = searched(TheirClassifier(**small(max_iter=5)))
    assert own.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(
        own.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


AROUND: dict[str, Any] = {
    "bagging": lambda e: BaggingClassifier(e, 3, random_state=0),
    "boosting": lambda e: AdaBoostClassifier(e, n_estimators=3, random_state=0),
    "calibration": lambda e: CalibratedClassifierCV(e, cv=3),
    "one against the rest": OneVsRestClassifier,
}


@pytest.mark.parametrize("name", AROUND)
def test_estimators_of_estimators_find_what_they_do_with_scikit_learns(name: str) -> None:
    own, theirs = (
        quietly(lambda e=e: AROUND[name](e).fit(X, Y)).predict_proba(X)
        for e in (ours("classifier"), TheirClassifier(**small()))
    )
    assert_same(own, theirs, "predict_proba")


def test_threads_find_what_one_does() -> None:
    estimator = ours(
        "classifier", max_iter=5, dropout=0.1, callbacks=[EarlyStopping("loss", patience=2)],
        learning_rate=ExponentialDecay(0.01, 10, 0.9),
    )  # fmt: skip
    one = searched(estimator)
    with parallel_config("threading", n_jobs=4):
        many = searched(estimator)
    for name in ("mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(many.cv_results_[name], one.cv_results_[name])
    for a, b in zip(many.best_estimator_.coefs_, one.best_estimator_.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


# In a process of its own, since functions reach loky's workers by value only from `__main__`. Fits
# end by tol: a warning in a worker would be written to stderr.
LOKY = """
import json, sys
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from fastnn.sklearn import MLPClassifier

def look(estimator, x, y):
    return {"score": estimator.score(x, y), "compiler": float("numba" in sys.modules)}

if __name__ == "__main__":
    x, y = load_digits(return_X_y=True)
    x, y = x[:211] / 16, y[:211]
    found = []
    for jobs in (1, 2):
        estimator = MLPClassifier((9,), max_iter=40, tol=1e3, n_iter_no_change=5, random_state=0)
        search = GridSearchCV(estimator, json.loads(sys.argv[1]), scoring=look, refit="score",
                              cv=3, n_jobs=jobs, error_score="raise").fit(x, y)
        results = search.cv_results_
        found.append([search.best_params_, results["mean_test_score"].tolist(),
                      results["mean_test_compiler"].tolist()])
    print(json.dumps(found))
"""


def test_processes_find_what_one_does_and_compile_nothing() -> None:
    quietly(lambda: ours("classifier", max_iter=1).fit(X, Y).predict(X))  # fills the cache
    one, two = json.loads(python(LOKY, json.dumps(GRID)))
    assert one == two
    assert one[2] == [0.0] * 4


def test_weights_are_routed_to_fits_that_ask_for_them() -> None:
    weights, held = 1.0 + np.arange(211) % 3, (X[:50], Y[:50])
    direct = quietly(lambda: ours("classifier", max_iter=3).fit(X, Y, weights, held))
    with sklearn.config_context(enable_metadata_routing=True):
        asking = ours("classifier", max_iter=3)
        asking.set_fit_request(sample_weight=True, validation_data=True)
        scaler = StandardScaler(with_mean=False, with_std=False)
        pipeline = make_pipeline(scaler.set_fit_request(sample_weight=False), asking)
        quietly(lambda: pipeline.fit(X, Y, sample_weight=weights, validation_data=held))
        silent = make_pipeline(ours("classifier"))
        with pytest.raises(UnsetMetadataPassedError, match=r"sample_weight.* MLPClassifier\.fit"):
            silent.fit(X, Y, sample_weight=weights)
    routed = pipeline[-1]
    assert routed.validation_loss_curve_ == direct.validation_loss_curve_
    for a, b in zip(outputs(routed, X), outputs(direct, X), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pipeline_s_frames_keep_their_columns_names() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    pipeline = make_pipeline(StandardScaler(), ours("classifier", max_iter=2))
    quietly(lambda: pipeline.set_output(transform="pandas").fit(frame, Y))
    assert pipeline[-1].feature_names_in_.tolist() == list(frame.columns)
    assert pipeline.predict(frame).shape == (211,)


def test_notebooks_show_parameters_and_whether_it_is_fitted() -> None:
    own = ours("classifier", dropout=0.25, max_iter=2)
    page = own._repr_html_()
    assert "MLPClassifier" in page
    assert "Not fitted" in page
    assert "0.25" in page
    page = quietly(lambda: own.fit(X, Y))._repr_html_()
    assert "Not fitted" not in page
    assert " ".join(repr(own).split()) == (
        "MLPClassifier(dropout=0.25, hidden_layer_sizes=(17,), max_iter=2, random_state=0)"
    )
