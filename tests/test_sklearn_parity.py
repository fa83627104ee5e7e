"""fastnn's estimators against scikit-learn's: the same data and seed give the same networks."""

from typing import Any

import numpy as np
import pytest

from sklearn_cases import (
    agreed,
    agreed_error,
    breast_cancer,
    diabetes,
    digits,
    fitted,
    ours,
    outputs,
    quietly,
)

ROWS = 311  # a prime: no batch size divides it
LABELS = digits(ROWS)
NUMBERS = diabetes(ROWS)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("name", ["digits", "breast cancer", "diabetes"])
def test_agree_to_1e_8_after_20_epochs(name: str, solver: str) -> None:
    data = {"digits": digits, "breast cancer": breast_cancer, "diabetes": diabetes}[name]()
    kind = "regressor" if name == "diabetes" else "classifier"
    own = agreed(kind, fitted(*data), hidden_layer_sizes=(100,), solver=solver, random_state=3)
    assert own.n_iter_ == 20
    assert own.loss_curve_[-1] < 0.9 * own.loss_curve_[0]


SGD = {"solver": "sgd", "learning_rate_init": 0.1}

OPTIONS: dict[str, dict[str, Any]] = {
    "adam": {},
    "shuffle off": {"shuffle": False},
    "shuffle off, remainder": {"shuffle": False, "batch_size": 64},
    "batch of 1": {"batch_size": 1, "max_iter": 2},
    "remainder of 1": {"batch_size": ROWS - 1},
    "all rows": {"batch_size": ROWS},
    "more than all rows": {"batch_size": ROWS + 1},
    "no penalty": {"alpha": 0},
    "large penalty": {"alpha": 50.0, "batch_size": 100},
    "betas of 0": {"beta_1": 0.0, "beta_2": 0.0},
    "large epsilon": {"epsilon": 0.1},
    "identity": {"activation": "identity"},
    "logistic": {"activation": "logistic"},
    "tanh": {"activation": "tanh"},
    "three layers": {"hidden_layer_sizes": (13, 5, 9), "activation": "tanh"},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "an integer": {"hidden_layer_sizes": np.int64(3), "batch_size": np.int64(50)},
    "an array": {"hidden_layer_sizes": np.array([8, 4]), "alpha": np.float32(0.01)},
    "stops by tol": {"tol": 0.5, "n_iter_no_change": 3, "max_iter": 40},
    "never stops": {"tol": 1e9, "n_iter_no_change": np.inf},
    "early stopping": {"early_stopping": True},
    "early stopping stops": {
        "early_stopping": True, "tol": 0.2, "n_iter_no_change": 2, "validation_fraction": 0.31,
    },
    "wide layers": {"hidden_layer_sizes": (300, 130), "max_iter": 3},
    "one unit": {"hidden_layer_sizes": 1},
    "another seed": {"random_state": 123456},
    "sgd": SGD,
    "momentum 0": {**SGD, "momentum": 0.0},
    "momentum 1": {**SGD, "momentum": 1.0, "learning_rate_init": 1e-3},
    "plain momentum": {**SGD, "nesterovs_momentum": False},
    "numpy's true": {**SGD, "nesterovs_momentum": np.True_, "early_stopping": np.True_},
    "invscaling": {**SGD, "learning_rate": "invscaling", "power_t": 0.3},
    "invscaling, power 0": {**SGD, "learning_rate": "invscaling", "power_t": 0.0},
    "adaptive": {
        **SGD, "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1, "max_iter": 60,
    },
    "adaptive, early stopping": {
        **SGD, "learning_rate": "adaptive", "early_stopping": True, "tol": 0.5,
        "n_iter_no_change": 2,
    },
    "adaptive under adam": {"learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str, kind: str) -> None:
    data = LABELS if kind == "classifier" else NUMBERS
    agreed(kind, fitted(*data), **OPTIONS[name])


def test_options_do_what_they_are_for() -> None:
    # The table above would hold options that do nothing to be the same as in scikit-learn.
    epochs = {"stops by tol": 40, "early stopping stops": 20, "adaptive under adam": 20}
    for name, most in epochs.items():
        assert agreed("classifier", fitted(*LABELS), **OPTIONS[name]).n_iter_ < most, name
    adaptive = agreed("classifier", fitted(*LABELS), **OPTIONS["adaptive"])
    assert adaptive._optimizer.learning_rate <= 1e-6
    scaled = agreed("classifier", fitted(*LABELS), **OPTIONS["invscaling"])
    assert scaled._optimizer.learning_rate < 0.01


def test_generators_are_drawn_from_as_scikit_learn_draws() -> None:
    def with_one_of_ones_own(estimator: Any) -> list[Any]:
        generator = np.random.RandomState(3)
        estimator.set_params(random_state=generator)
        return [*(fitted(*LABELS)(estimator) for _ in range(2)), generator.random_sample(3)]

    def with_numpys(estimator: Any) -> list[Any]:
        before = np.random.get_state()  # noqa: NPY002 (the default is to draw from it)
        np.random.seed(5)  # noqa: NPY002
        try:
            return fitted(*LABELS)(estimator.set_params(random_state=None))
        finally:
            np.random.set_state(before)  # noqa: NPY002

    for act in (with_one_of_ones_own, with_numpys):
        agreed("classifier", act, early_stopping=True, max_iter=3)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_lbfgs(kind: str, activation: str) -> None:
    data = LABELS if kind == "classifier" else NUMBERS
    agreed(kind, fitted(*data), solver="lbfgs", activation=activation, max_iter=5)


def test_lbfgs_ends_by_itself_and_by_calls() -> None:
    x, y = diabetes(40)
    agreed("regressor", fitted(x, y), solver="lbfgs", tol=1e-2, max_iter=500)
    agreed("regressor", fitted(x, y), solver="lbfgs", max_fun=7)


WEIGHTS = np.arange(ROWS) % 4


@pytest.mark.parametrize(
    "parameters",
    [{}, {"early_stopping": True}, {"shuffle": False, "batch_size": 64}, SGD, {"solver": "lbfgs"}],
    ids=lambda parameters: "-".join(parameters) or "adam",
)
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_weights_of_rows_zeros_among_them(kind: str, parameters: dict[str, Any]) -> None:
    data = LABELS if kind == "classifier" else NUMBERS
    agreed(kind, fitted(*data, WEIGHTS), **{"max_iter": 8, **parameters})


def test_weights_of_other_kinds() -> None:
    for weights in (2.0, WEIGHTS - 0.5, WEIGHTS.astype(np.float32), WEIGHTS.tolist()):
        agreed("classifier", fitted(*LABELS, weights), max_iter=3)


def test_a_batch_without_weight_is_refused() -> None:
    weights = (np.arange(ROWS) >= 200).astype(float)
    error = agreed_error("classifier", lambda e: e.fit(*LABELS, weights), shuffle=False)
    assert isinstance(error, ZeroDivisionError)
    # Of shuffled rows, one in a batch of its own.
    weights = (np.arange(ROWS) > 0).astype(float)
    error = agreed_error("classifier", lambda e: e.fit(*LABELS, weights), batch_size=1)
    assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("weights", [np.zeros(ROWS), np.ones(ROWS - 1), ["a"] * ROWS])
def test_wrong_weights(weights: Any) -> None:
    agreed_error("classifier", lambda e: e.fit(*LABELS, weights))
    agreed_error("classifier", lambda e: e.fit(*LABELS, weights), solver="lbfgs")


def indicators(y: Any) -> Any:
    return np.stack([y % 2 == 0, y < 3, y > 5], axis=1).astype(int)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"early_stopping": True}, SGD, {"solver": "lbfgs"}, {"hidden_layer_sizes": (6, 5)}],
    ids=lambda parameters: "-".join(parameters) or "adam",
)
def test_several_labels_a_row(parameters: dict[str, Any]) -> None:
    x, y = LABELS
    agreed("classifier", fitted(x, indicators(y)), **{"max_iter": 8, **parameters})
    agreed("classifier", fitted(x, indicators(y), WEIGHTS), **{"max_iter": 3, **parameters})


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_losses_of_one_output_and_of_several(loss: str, solver: str) -> None:
    x, y = NUMBERS
    counts = np.abs(y) * (np.arange(ROWS) % 5 > 0)  # zeros among them
    several = np.stack([counts, counts[::-1], np.zeros(ROWS)], axis=1)
    parameters: dict[str, Any] = {"loss": loss, "solver": solver, "max_iter": 6}
    for targets in (counts, counts[:, None], several):
        agreed("regressor", fitted(x, targets), **parameters)
    agreed("regressor", fitted(x, several, WEIGHTS), **parameters)
    agreed("regressor", fitted(x, counts), early_stopping=True, **parameters)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_few_classes(classes: int) -> None:
    x, y = LABELS
    agreed("classifier", fitted(x, y % classes))
    agreed("classifier", fitted(x, y % classes), early_stopping=True)


def test_one_row() -> None:
    agreed("classifier", fitted(LABELS[0][:1], LABELS[1][:1]))
    agreed("regressor", fitted(NUMBERS[0][:1], NUMBERS[1][:1]))


@pytest.mark.parametrize(
    "parameters",
    [{}, {**SGD, "learning_rate": "invscaling"}, {"solver": "lbfgs"}],
    ids=lambda parameters: "-".join(parameters) or "adam",
)
def test_warm_start_twice_on_other_rows(parameters: dict[str, Any]) -> None:
    x, y = LABELS

    def act(estimator: Any) -> list[Any]:
        first = outputs(estimator.fit(x, y), x)
        second = outputs(estimator.fit(x[100:], y[100:]), x)
        return [first, second, outputs(estimator.fit(x, y), x)]

    agreed("classifier", act, warm_start=True, **{"max_iter": 5, **parameters})


def test_warm_start_with_early_stopping() -> None:
    x, y = LABELS
    own = agreed(
        "classifier",
        lambda e: outputs(e.fit(x, y).fit(x, y), x),
        warm_start=True,
        early_stopping=True,
        learning_rate_init=0.01,
        max_iter=4,
    )
    assert np.argmax(own.validation_scores_) >= 4  # the second fit found better weights


def test_warm_start_keeps_the_best_weights_where_none_are_better() -> None:
    # scikit-learn trains on the very arrays that it keeps as the best, and so loses them here.
    x, y = LABELS
    own = ours("classifier", warm_start=True, early_stopping=True, learning_rate_init=0.01)
    before = outputs(quietly(lambda: own.fit(x, y)), x)
    quietly(lambda: own.set_params(learning_rate_init=10.0).fit(x, y))
    assert max(own.validation_scores_[20:]) < own.best_validation_score_
    for actual, expected in zip(outputs(own, x), before, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_warm_start_wants_the_same_classes() -> None:
    x, y = LABELS

    def act(estimator: Any) -> None:
        estimator.fit(x, y).fit(x, y + 1)

    agreed_error("classifier", act, warm_start=True, max_iter=1)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"shuffle": False, "batch_size": 64}, SGD, {**SGD, "learning_rate": "invscaling"}],
    ids=lambda parameters: "-".join(parameters) or "adam",
)
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_partial_fits_of_changing_sizes(kind: str, parameters: dict[str, Any]) -> None:
    x, y = LABELS if kind == "classifier" else NUMBERS
    first = {"classes": np.unique(y)} if kind == "classifier" else {}

    def act(estimator: Any) -> list[Any]:
        seen = [outputs(estimator.partial_fit(x[:250], y[:250], **first), x)]
        for rows in (ROWS, 3, 1, 77):
            seen.append(outputs(estimator.partial_fit(x[-rows:], y[-rows:]), x))
        seen.append(outputs(estimator.partial_fit(x, y, WEIGHTS), x))
        return [*seen, estimator._optimizer.learning_rate]

    agreed(kind, act, **parameters)


CHANGES: list[dict[str, Any]] = [
    {"learning_rate_init": 0.5}, {"solver": "adam"}, {"alpha": 10.0}, {"activation": "tanh"},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_after_a_fit_and_a_change(solver: str, change: dict[str, Any]) -> None:
    def act(estimator: Any) -> list[Any]:
        estimator.fit(*LABELS).set_params(**change)
        before = outputs(estimator, LABELS[0])
        for _ in range(2):
            estimator.partial_fit(*LABELS)
        return [before, outputs(estimator, LABELS[0])]

    agreed("classifier", act, solver=solver, learning_rate="invscaling", max_iter=3)
