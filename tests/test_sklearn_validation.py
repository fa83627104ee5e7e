"""Rows kept apart, early stopping, callbacks, and what a fit prints."""

import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import accuracy_score, log_loss, r2_score

from fastnn.callbacks import EarlyStopping, LambdaCallback, ReduceLROnPlateau
from helpers import assert_close
from sklearn_cases import agreed, diabetes, digits, fitted, ours, outputs, quietly

X, Y = digits(300)
PARTS = slice(200), slice(200, None)
TRAINED, HELD = (tuple(a[part] for a in digits(300)) for part in PARTS)
NUMBERS, HELD_NUMBERS = (tuple(a[part] for a in diabetes(300)) for part in PARTS)
WEIGHTS = 1.0 + np.arange(100) % 3
SUMS = 10.0  # times the tolerance of a few operations, for means of a hundred rows


def test_the_validation_loss_of_classes_is_their_log_loss() -> None:
    seen: list[Any] = []
    look = LambdaCallback(on_epoch_end=lambda *_: seen.append(own.predict_proba(HELD[0])))
    for held in (HELD, (*HELD, WEIGHTS), (*HELD, None), (sparse.csr_array(HELD[0]), HELD[1])):
        seen.clear()
        own = ours("classifier", callbacks=[look], alpha=1.0, max_iter=5, batch_size=64)
        quietly(lambda own=own, held=held: own.fit(*TRAINED, validation_data=held))
        weights = held[2] if len(held) > 2 else None
        expected = [log_loss(HELD[1], p, sample_weight=weights, labels=range(10)) for p in seen]
        assert_close(own.validation_loss_curve_, expected, "float64", scale=SUMS)
        assert len(expected) == own.n_iter_ == 5


def test_the_validation_loss_of_two_classes_and_of_several_labels() -> None:
    def cross_entropy(y: Any, p: Any) -> Any:
        return -(y * np.log(p) + (1 - y) * np.log(1 - p))

    own = ours("classifier", max_iter=2)
    quietly(lambda: own.fit(X, Y % 2, validation_data=(HELD[0], HELD[1] % 2)))
    expected = cross_entropy(HELD[1] % 2, own.predict_proba(HELD[0])[:, 1]).mean()
    assert_close(own.validation_loss_curve_[-1], expected, "float64", scale=SUMS)
    labels = (np.stack([Y > 3, Y % 2 == 0, Y < 8], axis=1)).astype(int)
    quietly(lambda: own.fit(X, labels, validation_data=(HELD[0], labels[200:])))
    expected = cross_entropy(labels[200:], own.predict_proba(HELD[0])).sum(axis=1).mean()
    assert_close(own.validation_loss_curve_[-1], expected, "float64", scale=SUMS)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs_", [1, 2])
def test_the_validation_loss_of_numbers(loss: str, outputs_: int) -> None:
    x, y = HELD_NUMBERS
    stretch = (lambda a: np.stack([a, 2 * a], axis=1)) if outputs_ == 2 else (lambda a: a[:, None])
    y = stretch(np.abs(y))
    own = ours("regressor", loss=loss, max_iter=3)
    train = (NUMBERS[0], stretch(np.abs(NUMBERS[1])))
    quietly(lambda: own.fit(*train, validation_data=(x, y, WEIGHTS)))
    found = own.predict(x).reshape(y.shape)
    if loss == "squared_error":  # of the outputs the mean, of the deviance the sum
        rows = 0.5 * ((found - y) ** 2).mean(axis=1)
    else:
        rows = (y * np.log(y / found) - y + found).sum(axis=1)
    expected = np.average(rows, weights=WEIGHTS)
    assert_close(own.validation_loss_curve_[-1], expected, "float64", scale=SUMS)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize("more", [{}, {"batch_norm": True}], ids=str)
def test_early_stopping_looks_at_the_rows_given(kind: str, more: dict[str, Any]) -> None:
    train, held = (TRAINED, HELD) if kind == "classifier" else (NUMBERS, HELD_NUMBERS)
    score = accuracy_score if kind == "classifier" else r2_score
    seen: list[Any] = []
    look = LambdaCallback(on_epoch_end=lambda *_: seen.append(outputs(own, held[0])))
    own = ours(
        kind, callbacks=[look], early_stopping=True, n_iter_no_change=3, max_iter=80,
        learning_rate_init=0.1, **more,
    )  # fmt: skip
    quietly(lambda: own.fit(*train, validation_data=(*held, WEIGHTS)))
    assert own.n_iter_ < 80
    assert own.t_ == 200 * own.n_iter_  # no row is taken away from training
    scores = [score(held[1], found[0], sample_weight=WEIGHTS) for found in seen]
    assert_close(own.validation_scores_, scores, "float64")
    assert own.best_validation_score_ == max(own.validation_scores_)
    best = int(np.argmax(scores))
    assert best < own.n_iter_ - 1
    for now, then in zip(outputs(own, held[0]), seen[best], strict=True):
        np.testing.assert_array_equal(now, then)
    assert len(own.validation_loss_curve_) == own.n_iter_


def test_early_stopping_in_partial_fits() -> None:
    own = ours("classifier", early_stopping=True, n_iter_no_change=2, learning_rate_init=0.01)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        own.partial_fit(*TRAINED, classes=range(10))
    for _ in range(20):
        own.partial_fit(*TRAINED, classes=range(10), validation_data=HELD)
    good = own.best_validation_score_
    assert good == max(own.validation_scores_) > 0.5
    best = [array.copy() for array in own._best_coefs]
    own._optimizer.optimizer.learning_rate = own._optimizer.rate = 5.0  # spoil what is learnt
    own._optimizer.initial_rate = 5.0
    for call in range(3):
        own.partial_fit(*TRAINED, validation_data=HELD)
        back = all((a == b).all() for a, b in zip(own.coefs_, best, strict=True))
        assert back == (call == 2)
    assert own.score(*HELD) == good


def test_early_stopping_may_begin_in_a_later_fit() -> None:
    own = ours("classifier", warm_start=True, max_iter=3)
    quietly(lambda: own.fit(*TRAINED))
    own.set_params(early_stopping=True)
    quietly(lambda: own.fit(*TRAINED))
    quietly(lambda: own.partial_fit(*TRAINED, validation_data=HELD))
    assert len(own.validation_scores_) == 4
    own.set_params(early_stopping=False)
    quietly(lambda: own.fit(*TRAINED))
    assert own.best_loss_ == min(own.loss_curve_[:3] + own.loss_curve_[-3:])


WRONG: list[tuple[Any, str]] = [
    (HELD[0], "must be .* got ndarray"),
    ((HELD[0],), "must be .* got tuple"),
    ((HELD[0][:, :3], HELD[1]), "X has 3 features, but MLPClassifier is expecting 64"),
    ((HELD[0], HELD[1][1:]), "inconsistent numbers of samples"),
    ((HELD[0], HELD[1] + 1), r"y has classes not in `self.classes_`: \[10\]"),
    ((np.full((2, 64), np.nan), [0, 1]), "contains NaN"),
    ((*HELD, WEIGHTS[1:]), "sample_weight.shape"),
    ((HELD[0], np.eye(9, dtype=int)[HELD[1] % 9]), "not fitted with multilabel"),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[said for _, said in WRONG])
def test_wrong_validation_data_are_refused_and_nothing_changes(given: Any, said: str) -> None:
    own = ours("classifier", max_iter=2)
    quietly(lambda: own.fit(*TRAINED))
    before = dict(vars(own))
    for act in (own.fit, own.partial_fit):
        with pytest.raises(ValueError, match=said):
            act(*TRAINED, validation_data=given)
        assert vars(own) == before
    with pytest.raises(ValueError, match="'lbfgs'"):
        own.set_params(solver="lbfgs").fit(*TRAINED, validation_data=HELD)


def test_validation_data_of_another_number_of_outputs() -> None:
    x, y = HELD_NUMBERS
    with pytest.raises(ValueError, match="validation_data: y has 2 outputs"):
        ours("regressor").fit(*NUMBERS, validation_data=(x, np.stack([y, y], axis=1)))


# Callbacks.


def test_callbacks_stop_and_restore_by_the_validation_loss() -> None:
    stop = EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    own = ours("classifier", callbacks=[stop], max_iter=200, learning_rate_init=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what a callback ends has not failed to converge
        own.fit(*TRAINED, validation_data=HELD)
    curve = own.validation_loss_curve_
    assert own.n_iter_ == len(curve) == int(np.argmin(curve)) + 3
    proba = own.predict_proba(HELD[0])
    assert_close(log_loss(HELD[1], proba), min(curve), "float64", scale=SUMS)


def test_callbacks_know_that_more_is_better_in_scores() -> None:
    stop = EarlyStopping("val_score", patience=3)
    own = ours("classifier", callbacks=[stop], early_stopping=True, max_iter=60)
    own.set_params(learning_rate_init=0.01)
    quietly(lambda: own.fit(*TRAINED, validation_data=HELD))
    assert stop.best == max(own.validation_scores_) > own.validation_scores_[0]


def test_callbacks_lower_the_rate() -> None:
    rates: list[float] = []
    look = LambdaCallback(on_epoch_end=lambda epoch, logs: rates.append(logs["learning_rate"]))
    lower = ReduceLROnPlateau("loss", factor=0.5, patience=2, min_delta=100.0)
    own = ours("classifier", callbacks=[lower, look], max_iter=6, learning_rate_init=0.01)
    quietly(lambda: own.fit(*TRAINED))
    assert rates == [0.01, 0.01, 0.01, 0.005, 0.005, 0.0025]
    quietly(lambda: own.fit(*TRAINED))
    assert rates[6:] == rates[:6]


def test_callbacks_hear_of_every_epoch() -> None:
    heard: list[Any] = []
    look = LambdaCallback(
        on_train_begin=lambda logs: heard.append("begin"),
        on_epoch_begin=lambda epoch, logs: heard.append(epoch),
        on_epoch_end=lambda epoch, logs: heard.append(sorted(logs)),
        on_train_end=lambda logs: heard.append("end"),
    )
    own = ours("classifier", callbacks=(look,), early_stopping=True, max_iter=2)
    quietly(lambda: own.fit(*TRAINED, validation_data=HELD))
    figures = ["learning_rate", "loss", "val_loss", "val_score"]
    assert heard == ["begin", 0, figures, 1, figures, "end"]


@pytest.mark.parametrize("monitor", ["val_loss", "val_score", "accuracy"])
def test_a_callback_that_waits_for_what_never_comes_is_refused(monitor: str) -> None:
    own = ours("regressor", callbacks=[EarlyStopping(monitor)])
    with pytest.raises(ValueError, match=f"monitor '{monitor}' is not among loss, learning_rate$"):
        own.fit(*NUMBERS)
    assert not hasattr(own, "coefs_")


# What is printed.

SPOKEN: dict[str, dict[str, Any]] = {
    "epochs": {},
    "a number": {"verbose": 10, "solver": "sgd"},
    "stops": {"tol": 10.0, "n_iter_no_change": 2},
    "early stopping": {"early_stopping": True, "tol": 0.5, "n_iter_no_change": 3},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1,
        "learning_rate_init": 1e-5, "max_iter": 40,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SPOKEN)
def test_what_is_printed_is_scikit_learns_line_for_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # `agreed` lets scikit-learn's go first.
    agreed("classifier", fitted(*TRAINED), **{"verbose": True, **SPOKEN[name]})
    lines = capsys.readouterr().out.splitlines()
    theirs, own = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    assert own == theirs
    assert lines[0].startswith("Iteration 1, loss = 2.")


def test_a_bar_is_all_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    own = ours("classifier", verbose="bar", early_stopping=True, max_iter=3)
    quietly(lambda: own.fit(*TRAINED))
    said = capsys.readouterr()
    assert said.out == ""
    assert "val_score" in said.err
    quietly(lambda: own.set_params(solver="lbfgs", early_stopping=False).fit(*TRAINED))
    assert own.verbose == "bar"
    quietly(lambda: own.set_params(solver="adam", verbose=False).fit(*TRAINED))
    assert capsys.readouterr().err == ""
    assert len(outputs(own, X)) == 3
