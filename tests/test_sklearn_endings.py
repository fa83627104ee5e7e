"""Fits that end before their time: interrupted, diverged, or failed in a callback."""

import warnings
from typing import Any

import numpy as np
import pytest

from fastnn.callbacks import LambdaCallback
from processes import python
from sklearn_cases import (
    PAIRS,
    agreed_error,
    assert_same,
    diabetes,
    digits,
    heard,
    ours,
    quietly,
    small,
)

X, Y = digits(300)
NUMBERS = diabetes(200)


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def in_epoch(which: int) -> Any:
    return lambda epoch, logs: interrupt() if epoch == which else None


PLACES: dict[str, tuple[dict[str, Any], int]] = {
    "before all": ({"on_train_begin": interrupt}, 0),
    "before the first epoch": ({"on_epoch_begin": in_epoch(0)}, 0),
    "after the first epoch": ({"on_epoch_end": in_epoch(0)}, 1),
    "before the third epoch": ({"on_epoch_begin": in_epoch(2)}, 2),
}


@pytest.mark.parametrize("more", [{}, {"batch_norm": True, "solver": "sgd"}], ids=str)
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_an_interruption_leaves_what_was_learnt(
    place: str, early: bool, more: dict[str, Any]
) -> None:
    functions, epochs = PLACES[place]
    parameters = {"early_stopping": early, "learning_rate_init": 0.01, **more}
    own = ours("classifier", callbacks=[LambdaCallback(**functions)], **parameters)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        own.fit(X, Y)
    short = ours("classifier", **{**parameters, "max_iter": max(epochs, 1)})
    quietly(lambda: short.fit(X, Y))
    assert own.n_iter_ == len(own.loss_curve_) == epochs
    for a, b, initial in zip(own.coefs_, short.coefs_, first_weights(), strict=True):
        np.testing.assert_array_equal(a, b if epochs else initial)
    if early and epochs:
        assert own.best_validation_score_ == max(own.validation_scores_)
        assert own.validation_scores_ == short.validation_scores_
    own.set_params(callbacks=None, early_stopping=False)
    quietly(lambda: own.partial_fit(X, Y))
    assert own.predict(X).shape == (300,)


def first_weights() -> list[Any]:
    return quietly(
        lambda: ours("classifier", solver="sgd", learning_rate_init=1e-300, alpha=0).fit(X, Y)
    ).coefs_


INTERRUPTED = """
import os, signal, threading, warnings
import numpy as np
from fastnn.callbacks import LambdaCallback
from fastnn.sklearn import MLPClassifier

def soon(logs):  # in the middle of an epoch, most likely
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

x, y = np.random.default_rng(0).normal(size=(20_000, 100)), np.arange(20_000) % 10
model = MLPClassifier((64,), random_state=0, max_iter=10**6, n_iter_no_change=np.inf,
                      callbacks=[LambdaCallback(on_train_begin=soon)])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model.fit(x, y)
print([str(w.message) for w in caught])
assert all(np.isfinite(w).all() for w in (*model.coefs_, *model.intercepts_))
assert model.n_iter_ == len(model.loss_curve_)
model.set_params(callbacks=None).partial_fit(x, y)
assert model.t_ == 20_000 * len(model.loss_curve_)
print(model.predict(x[:3]).shape)
"""


def test_a_signal_ends_a_long_fit() -> None:
    x, y = np.zeros((20_000, 100)), np.arange(20_000) % 10
    quietly(lambda: ours("classifier", hidden_layer_sizes=(64,), max_iter=1).fit(x, y))  # compiles
    assert python(INTERRUPTED).splitlines() == ["['Training interrupted by user.']", "(3,)"]


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_a_fit_that_diverges_says_so_in_scikit_learns_words(kind: str) -> None:
    data = (X * 1e6, Y) if kind == "classifier" else NUMBERS
    parameters = {"solver": "sgd", "learning_rate_init": 1e200, "activation": "identity"}
    error = agreed_error(kind, lambda e: e.fit(*data), **parameters)
    assert "non-finite parameter weights" in str(error)
    own = ours(kind, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="non-finite parameter weights"):
            own.fit(*data)
    assert all(np.isfinite(w).all() for w in (*own.coefs_, *own.intercepts_))
    assert np.isnan(own.loss_curve_[-1])
    assert len(own.predict(data[0])) == len(data[1])
    quietly(lambda: own.set_params(learning_rate_init=1e-4).fit(data[0] / 1e6, data[1]))
    assert np.isfinite(own.loss_)


def test_early_stopping_saves_a_fit_that_diverges() -> None:
    parameters = {"solver": "sgd", "learning_rate_init": 1e6, "early_stopping": True}
    theirs, own = (estimator(**small(**parameters)) for estimator in PAIRS["regressor"])
    for estimator in (theirs, own):
        result, _ = heard(lambda e: e.fit(*NUMBERS), estimator)
        assert result is estimator
    assert_same(own.predict(NUMBERS[0]), theirs.predict(NUMBERS[0]), "prediction")


def test_an_error_in_a_callback_is_its_own() -> None:
    heard_of: list[str] = []

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    first = LambdaCallback(on_train_end=lambda logs: heard_of.append("end"))
    failing = LambdaCallback(on_epoch_end=fail)
    own = ours("regressor", callbacks=[first, failing])
    with pytest.raises(OSError, match="disk full"):
        own.fit(*NUMBERS)
    assert heard_of == ["end"]
    assert not any(hasattr(callback, "model") for callback in (first, failing))
    quietly(lambda: own.set_params(callbacks=[first], max_iter=2).fit(*NUMBERS))
    assert own.n_iter_ == 2
