"""What fastnn's estimators take more than scikit-learn's: each against NumPy, or what it equals."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import losses
from fastnn.schedules import ExponentialDecay
from helpers import assert_close, assert_is_gradient
from sklearn_cases import (
    AGREEMENT,
    TheirClassifier,
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
QUICK: dict[str, Any] = {"max_iter": 4}
STANDING = {"solver": "sgd", "learning_rate_init": 1e-300, "shuffle": False, "alpha": 0}
"""Training that changes nothing: the first loss is that of the weights that remain."""


def fit(x: Any = X, y: Any = Y, kind: str = "classifier", **parameters: Any) -> Any:
    return quietly(lambda: ours(kind, **{**QUICK, **parameters}).fit(x, y))


def assert_same_weights(a: Any, b: Any) -> None:
    for ours_, theirs in zip([*a.coefs_, *a.intercepts_], [*b.coefs_, *b.intercepts_], strict=True):
        np.testing.assert_array_equal(ours_, theirs)


def differ(a: Any, b: Any) -> bool:
    return bool((a.coefs_[0] != b.coefs_[0]).any())


# Dropout.


@pytest.mark.parametrize("rates", [0.5, [0.5, 0.0], (0.25, 0.75)])
def test_dropout_is_in_training_alone_and_follows_random_state(rates: Any) -> None:
    widths = {"hidden_layer_sizes": (9, 8)}
    one, same = fit(dropout=rates, **widths), fit(dropout=rates, **widths)
    assert_same_weights(one, same)
    assert differ(one, fit(dropout=rates, random_state=1, **widths))
    assert differ(one, fit(**widths))
    for a, b in zip(outputs(one, X), outputs(one, X), strict=True):
        np.testing.assert_array_equal(a, b)
    hidden = X
    for coef, bias in zip(one.coefs_[:-1], one.intercepts_[:-1], strict=True):
        hidden = np.maximum(hidden @ coef + bias, 0)
    logits = hidden @ one.coefs_[-1] + one.intercepts_[-1]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    assert_close(one.predict_proba(X), expected, scale=10)  # sums of 64


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_dropout_scales_what_is_left(kind: str) -> None:
    # Of one hidden unit of 1, the output over many steps is that without dropout on average.
    x, y = np.ones((4000, 1)), np.arange(4000) % 2
    options = {"hidden_layer_sizes": (400,), "batch_size": 4000, "max_iter": 1, **STANDING}
    plain, dropped = (fit(x, y, kind, dropout=rate, **options) for rate in (0.0, 0.3))
    assert plain.loss_ != dropped.loss_
    assert abs(plain.loss_ - dropped.loss_) < 0.1


def test_no_dropout_is_none_and_lists_of_none_are_none() -> None:
    plain = fit(hidden_layer_sizes=(9, 8))
    assert_same_weights(plain, fit(hidden_layer_sizes=(9, 8), dropout=[0, 0.0]))
    assert_same_weights(plain, fit(hidden_layer_sizes=(9, 8), dropout=0.0))


def test_lbfgs_minimises_one_function_with_dropout_too() -> None:
    x, y = X[:30, 18:23], Y[:30] % 3
    own = fit(x, y, solver="lbfgs", dropout=0.5, activation="tanh", hidden_layer_sizes=(6,))
    indicators = np.eye(3, dtype=bool)[y]

    def loss_and_gradient(weights: Any) -> Any:
        return own._loss_grad_lbfgs(weights, x, indicators, None)

    weights = np.random.default_rng(0).normal(size=5 * 6 + 6 * 3 + 6 + 3)
    gradient = loss_and_gradient(weights)[1]
    assert_is_gradient(gradient, lambda at: loss_and_gradient(at)[0], weights)
    assert own.loss_ < fit(x, y, solver="lbfgs", dropout=0.5, max_iter=1).loss_


# Activations.


@fastnn.activation
def own_tanh(x: Any) -> Any:
    return 2.0 / (1.0 + np.exp(-2.0 * x)) - 1.0


def test_an_activation_for_each_layer() -> None:
    for name in ("tanh", "logistic"):
        same = fit(hidden_layer_sizes=(9, 8), activation=[name, name])
        assert_same_weights(same, fit(hidden_layer_sizes=(9, 8), activation=name))
    own = fit(hidden_layer_sizes=(9, 8), activation=("tanh", "identity"), dropout=[0.1, 0.0])
    hidden = np.tanh(X @ own.coefs_[0] + own.intercepts_[0])
    logits = (hidden @ own.coefs_[1] + own.intercepts_[1]) @ own.coefs_[2] + own.intercepts_[2]
    assert_close(
        own.predict_log_proba(X),
        logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)),
        scale=10,  # sums of 64
    )


def test_an_activation_of_ones_own_trains_as_its_equal() -> None:
    own, named = fit(activation=own_tanh), fit(activation="tanh")
    assert_same(own.coefs_, named.coefs_, "coefs_")
    listed = fit(activation=[own_tanh])
    assert_same_weights(own, listed)


@pytest.mark.parametrize("name", ["gelu", "sigmoid", "linear"])
def test_names_of_fastnns(name: str) -> None:
    own = fit(activation=name)
    assert own.loss_curve_[-1] < own.loss_curve_[0]
    theirs = {"sigmoid": "logistic", "linear": "identity"}
    if name in theirs:
        assert_same_weights(own, fit(activation=theirs[name]))


# Solvers and learning rates.

SOLVERS = ["adadelta", "adagrad", "adamax", "adamw", "lion", "nadam", "rmsprop"]


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_by_name_are_instances_at_the_rate_given(name: str) -> None:
    instance = fastnn.optimizers.OPTIMIZERS[name](learning_rate=0.01)
    named = fit(solver=name, learning_rate_init=0.01)
    given = fit(solver=instance, learning_rate_init=0.5)
    assert_same_weights(named, given)
    assert named.loss_curve_[-1] < named.loss_curve_[0]


def test_an_instance_is_scikit_learns_sgd_where_it_says_the_same() -> None:
    instance = fastnn.SGD(0.05, momentum=0.9, nesterov=True)
    named = fit(solver="sgd", learning_rate_init=0.05)
    assert_same_weights(fit(solver=instance), named)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1, "max_iter": 10},
        {"learning_rate": "invscaling"},
        {"learning_rate": ExponentialDecay(0.1, 2, 0.5)},
        {"callbacks": [fastnn.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1.0)]},
    ],
    ids=str,
)
def test_an_instance_is_never_changed(parameters: dict[str, Any]) -> None:
    instance = fastnn.SGD(0.1, momentum=0.5)
    before = copy.deepcopy(vars(instance))
    own = fit(solver=instance, **parameters)
    assert own.solver is instance
    assert vars(instance) == before
    assert (own._optimizer.learning_rate != 0.1) == bool(parameters)
    own.partial_fit(X, Y)
    assert vars(instance) == before


def test_invscaling_scales_the_rate_that_an_instance_has() -> None:
    own = fit(solver=fastnn.SGD(0.5), learning_rate="invscaling", learning_rate_init=1e-9)
    assert own._optimizer.learning_rate == 0.5 / (own.t_ + 1) ** 0.5


@pytest.mark.parametrize("solver", ["sgd", fastnn.SGD(9.0)], ids=str)
def test_a_schedule_gives_the_rate_of_every_step(solver: Any) -> None:
    schedule = ExponentialDecay(0.5, 4, 0.5)
    options = {"momentum": 0.0, "shuffle": False, "batch_size": 60}
    own = fit(solver=solver, learning_rate=schedule, **options)
    theirs = TheirClassifier(**small(solver="sgd", learning_rate_init=0.5, **options))
    for step in range(16):  # four epochs of four batches
        rows = slice(60 * (step % 4), 60 * (step % 4) + 60)
        if step > 0:
            theirs._optimizer.learning_rate = 0.5 * 0.5 ** (step / 4)
        quietly(lambda rows=rows: theirs.partial_fit(X[rows], Y[rows], classes=range(10)))
    assert_same(own.coefs_, theirs.coefs_, "coefs_")
    assert own._optimizer.learning_rate == pytest.approx(0.5 * 0.5 ** (15 / 4))


def test_a_schedule_under_adam_and_in_partial_fits_goes_on() -> None:
    schedule = ExponentialDecay(0.02, 3, 0.5)
    own, parts = fit(learning_rate=schedule, shuffle=False), ours("classifier", shuffle=False)
    parts.set_params(learning_rate=schedule)
    for _ in range(QUICK["max_iter"]):
        parts.partial_fit(X, Y, classes=range(10))
    assert_same_weights(own, parts)
    assert differ(own, fit(learning_rate_init=0.02, shuffle=False))


def test_averaged_weights_take_the_place_of_the_last() -> None:
    options = {"shuffle": False, "batch_size": ROWS, "max_iter": 3, "alpha": 0}
    average = fit(solver=fastnn.SGD(0.1, use_ema=True, ema_momentum=0.75), **options)
    first, second, third = (
        fit(solver=fastnn.SGD(0.1), **{**options, "max_iter": epochs}).coefs_[0]
        for epochs in (1, 2, 3)
    )
    expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
    assert_close(average.coefs_[0], expected, scale=10)  # of three steps
    assert (average.coefs_[0] != third).any()


@pytest.mark.parametrize("solver", ["adam", "sgd", "nadam"])
def test_a_warm_start_that_keeps_its_optimizer_is_one_longer_fit(solver: str) -> None:
    options: dict[str, Any] = {"solver": solver, "shuffle": False, "tol": 0, "dropout": 0.2}
    options["n_iter_no_change"] = 1000
    once = fit(max_iter=8, **options)
    twice = ours("classifier", max_iter=4, warm_start=True, reset_optimizer=False, **options)
    quietly(lambda: twice.fit(X, Y).fit(X, Y))
    assert_same_weights(twice, once)
    assert twice.loss_curve_ == once.loss_curve_
    anew = ours("classifier", max_iter=4, warm_start=True, **options)
    quietly(lambda: anew.fit(X, Y).fit(X, Y))
    assert differ(anew, once)


# Weights of classes.


@pytest.mark.parametrize("labels", [Y, np.array(["a", "b", "c"])[Y % 3], Y % 2], ids=len)
def test_class_weights_are_weights_of_rows(labels: Any) -> None:
    kinds, counts = np.unique(labels, return_counts=True)
    balanced = dict(zip(kinds.tolist(), len(labels) / (len(kinds) * counts), strict=True))
    given = {kind: 0.5 + index for index, kind in enumerate(kinds.tolist())}
    rows = 1.0 + np.arange(ROWS) % 3
    for weights, of_class in (("balanced", balanced), (given, given)):
        of_rows = np.array([of_class[label] for label in labels.tolist()])
        for early in (False, True):
            weighted = ours("classifier", class_weight=weights, early_stopping=early, **QUICK)
            plain = ours("classifier", early_stopping=early, **QUICK)
            quietly(lambda w=weighted: w.fit(X, labels, rows))
            quietly(lambda p=plain, of_rows=of_rows: p.fit(X, labels, rows * of_rows))
            assert_same_weights(weighted, plain)
            quietly(lambda w=weighted: w.fit(X, labels))
            quietly(lambda p=plain, of_rows=of_rows: p.fit(X, labels, of_rows))
            assert_same_weights(weighted, plain)


def test_class_weights_in_partial_fits() -> None:
    weights = dict.fromkeys(range(10), 1.0) | {3: 7.0}
    weighted, plain = ours("classifier", class_weight=weights), ours("classifier")
    of_rows = np.where(Y == 3, 7.0, 1.0)
    for _ in range(3):
        weighted.partial_fit(X, Y, classes=range(10))
        plain.partial_fit(X, Y, of_rows, classes=range(10))
    assert_same_weights(weighted, plain)
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
        ours("classifier", class_weight="balanced").partial_fit(X, Y, classes=range(10))


# Losses, types, batch normalisation.

ONE_HOT = np.eye(10)[Y]
FIGURES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "smoothed": (
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        lambda p: -((0.9 * ONE_HOT + 0.01) * np.log(p)).sum(axis=1),
    ),
    "mse": ("mse", lambda p: ((p - ONE_HOT) ** 2).mean(axis=1)),
    "kl_divergence": ("kl_divergence", lambda p: -np.log((p * ONE_HOT).sum(axis=1))),
}


@pytest.mark.parametrize("name", FIGURES)
def test_losses_of_classifiers(name: str) -> None:
    loss, figure = FIGURES[name]
    own = fit(loss=loss, max_iter=1, **STANDING)
    # Keras's divergence counts probabilities of 0 as 1e-7.
    tolerance = {"scale": 1e7} if name == "kl_divergence" else {"scale": 10.0}
    assert_close(own.loss_curve_[0], figure(own.predict_proba(X)).mean(), "float64", **tolerance)
    trained = fit(loss=loss)
    assert trained.loss_curve_[-1] < trained.loss_curve_[0]


def test_losses_of_regressors() -> None:
    x, y = diabetes(ROWS)
    own = fit(x, y, "regressor", loss="mae", max_iter=1, **STANDING)
    assert_close(own.loss_curve_[0], np.abs(own.predict(x) - y).mean(), "float64", scale=10)
    # The mean of squares is twice scikit-learn's half of it.
    options = {"solver": "sgd", "momentum": 0.0, "alpha": 0}
    double = fit(x, y, "regressor", loss="mse", learning_rate_init=0.01, **options)
    half = fit(x, y, "regressor", learning_rate_init=0.02, **options)
    assert_same(double.coefs_, half.coefs_, "coefs_")
    assert_close(double.loss_curve_, 2 * np.array(half.loss_curve_), "float64", scale=AGREEMENT)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_float64_data_are_trained_on_in_single_precision(kind: str) -> None:
    x, y = digits(ROWS) if kind == "classifier" else diabetes(ROWS)
    own = fit(x, y, kind, dtype="float32", early_stopping=True)
    single = fit(x.astype(np.float32), y, kind, early_stopping=True)
    assert {a.dtype.name for a in (*own.coefs_, *own.intercepts_)} == {"float32"}
    assert_same_weights(own, single)
    assert outputs(own, x)[-1].dtype == np.float64
    wide = fit(x.astype(np.float32), y, kind, dtype="float64")
    assert wide.coefs_[0].dtype == np.float64
    too_large = np.where(x == x.max(), 1e39, x)
    with pytest.raises(ValueError, match="X"):
        own.fit(too_large, y)


def test_batch_normalisation_learns_and_is_as_numpy_has_it() -> None:
    own = fit(batch_norm=True, max_iter=10, learning_rate_init=0.01)
    assert own.loss_curve_[-1] < 0.5 * own.loss_curve_[0]
    norm = own._norms[0]
    hidden = X @ own.coefs_[0] + own.intercepts_[0] - norm["moving_mean"]
    hidden = hidden / np.sqrt(norm["moving_variance"] + 1e-3) * norm["gamma"] + norm["beta"]
    logits = np.maximum(hidden, 0) @ own.coefs_[1] + own.intercepts_[1]
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert_close(own.predict_log_proba(X), expected, scale=100)  # sums of 64, divided by spreads


def test_a_device_that_is_found_is_this_one() -> None:
    assert_same_weights(fit(device="auto"), fit())
