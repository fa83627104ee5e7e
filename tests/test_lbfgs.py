"""Fits by L-BFGS, against scikit-learn and exact solutions; and how they are fits like others."""

import doctest
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.callbacks import EarlyStopping, LambdaCallback, OpenNMTDecay, ReduceLROnPlateau
from fastnn.kernels import state as s
from fastnn.optimizers import lbfgs
from helpers import assert_close

Array = NDArray[Any]

ROWS, FEATURES, HIDDEN, CLASSES = 150, 5, 7, 3


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ROWS, FEATURES))
    noise = rng.normal(size=(ROWS, CLASSES))
    return x, (x @ rng.normal(size=(FEATURES, CLASSES)) + noise).argmax(axis=1)


def network(
    dtype: str = "float64", between: fastnn.Layer | None = None, **arguments: Any
) -> fastnn.Sequential:
    layers = [fastnn.Dense(HIDDEN, "tanh"), fastnn.Dense(CLASSES, "softmax")]
    if between is not None:
        layers.insert(1, between)
    model = fastnn.Sequential(layers, (FEATURES,), dtype=dtype, seed=2)
    model.compile(fastnn.LBFGS(**arguments), "categorical_crossentropy", ["accuracy"])
    return model


class Pass(fastnn.Layer):
    """A layer of the user's that changes nothing, but for what it does at one of its passes."""

    def __init__(self, at: int = -1, error: BaseException | None = None) -> None:
        super().__init__()
        self.at, self.error, self.passes = at, error, 0

    def forward(self, x: Array, training: bool = False) -> Array:
        self.passes += training
        if training and self.passes == self.at:
            if self.error is not None:
                raise self.error
            return np.full_like(x, np.inf)
        return x

    def backward(self, dy: Array) -> Array:
        return dy


class Weights(LambdaCallback):
    """Notes a model's parameters after each epoch."""

    def __init__(self) -> None:
        super().__init__(on_epoch_end=lambda epoch, logs: self.note())
        self.noted: list[Array] = []

    def note(self) -> None:
        self.noted.append(self.model.parameters.copy())


# Against others


@pytest.fixture
def by_sklearn() -> Callable[[int], Any]:
    """scikit-learn's fit of some iterations, from the weights of `network`."""
    neural = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    first, _, second, _ = network().get_weights()

    class Begun(neural.MLPClassifier):  # type: ignore[misc, name-defined]
        def _initialize(self, *arguments: Any) -> None:
            super()._initialize(*arguments)
            self.coefs_ = [first.copy(), second.copy()]
            self.intercepts_ = [np.zeros(HIDDEN), np.zeros(CLASSES)]

    def fit(iterations: int) -> Any:
        return Begun((HIDDEN,), "tanh", solver="lbfgs", alpha=0, max_iter=iterations, tol=1e-5,
                     max_fun=15000).fit(*data())  # fmt: skip

    return fit


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_iterations_are_those_of_scikit_learn(by_sklearn: Callable[[int], Any]) -> None:
    losses = network().fit(*data(), epochs=12, verbose=0).history["loss"]
    for iterations in (1, 2, 3, 7, 12):
        assert losses[iterations - 1] == pytest.approx(by_sklearn(iterations).loss_, rel=1e-9)


def test_it_converges_to_what_scikit_learn_does(by_sklearn: Callable[[int], Any]) -> None:
    model, x, y = network(tol=1e-5), *data()
    history = model.fit(x, y, epochs=2000, verbose=0)
    assert history.history["loss"][-1] == pytest.approx(by_sklearn(2000).loss_, abs=1e-6)
    assert len(history.epoch) < 1000
    assert model.optimizer is not None
    assert "CONVERGENCE" in str(model.optimizer.message)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-8)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_linear_model_is_solved(weighted: bool, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=60)
    weights = rng.uniform(0, 2, 60) if weighted else np.ones(60)
    model = fastnn.Sequential([fastnn.Dense(1)], (4,), dtype=dtype, seed=1)
    model.compile(fastnn.LBFGS(tol=1e-8), "mse")
    history = model.fit(x, y, 8, epochs=200, sample_weight=weights, verbose=0).history
    columns = np.sqrt(weights)[:, None] * np.column_stack([x, np.ones(60)])
    solution, residue, *_ = np.linalg.lstsq(columns, np.sqrt(weights) * y, rcond=None)
    # A loss so near to the least is that of weights off by the root of it.
    assert history["loss"][-1] == pytest.approx(residue[0] / 60, rel=tolerance)
    np.testing.assert_allclose(model.parameters, solution, atol=tolerance**0.5)


def test_penalties_count() -> None:
    """Ridge regression: (XᵀX/N + λ)w = Xᵀy/N for centred data, whose bias is 0."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=60)
    x, y, penalty = x - x.mean(axis=0), y - y.mean(), 0.3
    model = fastnn.Sequential(
        [fastnn.Dense(1, kernel_regularizer=fastnn.regularizers.L2(penalty))],
        (4,),
        dtype="float64",
        seed=1,
    )
    model.compile(fastnn.LBFGS(tol=1e-8), "mse")
    loss = model.fit(x, y, epochs=200, verbose=0).history["loss"][-1]
    solution = np.linalg.solve(x.T @ x / 60 + penalty * np.eye(4), x.T @ y / 60)
    np.testing.assert_allclose(model.layers[0].kernel[:, 0], solution, atol=1e-4)
    expected = np.mean((x @ solution - y) ** 2) + penalty * (solution**2).sum()
    assert loss == pytest.approx(expected, rel=1e-8)


# A fit like others


def test_epochs_are_iterations_with_callbacks_validation_and_history() -> None:
    model, x, y = network(), *data()
    calls: list[Any] = []
    note = LambdaCallback(
        on_train_begin=lambda logs: calls.append("begin"),
        on_epoch_begin=lambda epoch, logs: calls.append(epoch),
        on_epoch_end=lambda epoch, logs: calls.append((epoch, logs["loss"])),
        on_train_end=lambda logs: calls.append("end"),
    )
    weights = Weights()
    history = model.fit(x, y, epochs=5, validation_split=0.2, callbacks=[note, weights], verbose=0)
    losses = history.history["loss"]
    assert calls == ["begin", *(c for e in range(5) for c in (e, (e, losses[e]))), "end"]
    assert list(history.history) == [
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
    ]
    assert (np.diff(losses) < 0).all()
    first, last = slice(0, 120), slice(120, ROWS)
    for epoch, noted in enumerate(weights.noted):
        model.parameters[:] = noted
        assert_close(model.evaluate(x[first], y[first])["loss"], losses[epoch])
        assert_close(model.evaluate(x[last], y[last])["loss"], history.history["val_loss"][epoch])
    assert model.epochs_done == model.state[s.STEP] == 5


def test_a_callback_ends_it_and_the_best_weights_come_back() -> None:
    model, x, y = network(), *data()
    weights, stop = Weights(), EarlyStopping(patience=2, restore_best_weights=True)
    held = data()[0][::-1], data()[1]  # on which training makes it worse
    history = model.fit(x, y, epochs=99, validation_data=held, callbacks=[weights, stop], verbose=0)
    assert stop.best_epoch is not None
    assert stop.stopped_epoch == history.epoch[-1] == stop.best_epoch + 2
    np.testing.assert_array_equal(model.parameters, weights.noted[stop.best_epoch])


def test_limits() -> None:
    x, y = data()
    few = network(max_fun=5)
    assert len(few.fit(x, y, epochs=99, verbose=0).epoch) < 7
    assert "EVALUATIONS" in str(few.optimizer.message)  # type: ignore[union-attr]
    none = network()
    before = none.parameters.copy()
    assert none.fit(x, y, epochs=0, verbose=0).epoch == []
    np.testing.assert_array_equal(none.parameters, before)
    done = network(tol=1e9)
    stop = LambdaCallback(on_epoch_end=lambda *_: setattr(done, "stop_training", True))
    history = done.fit(x, y, epochs=9, callbacks=[stop], verbose=0)
    np.testing.assert_array_equal(done.parameters, before)
    assert history.history["loss"] == [pytest.approx(done.evaluate(x, y)["loss"])]
    short, long = network(history=1), network(history=30)
    for model in (short, long):
        model.fit(x, y, epochs=9, verbose=0)
    assert (short.parameters != long.parameters).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_compiled_by_layers_and_on_any_number_of_threads(dtype: str) -> None:
    x, y = (np.tile(part.T, 300).T for part in data())  # enough for a team
    results = []
    for between, threads in ((None, 1), (None, 2), (None, 3), (Pass(), 1)):
        model = network(dtype, between)
        model.set_weights(network(dtype).get_weights())
        before = fastnn.get_num_threads()
        fastnn.set_num_threads(threads)
        try:
            model.fit(x, y, epochs=4, verbose=0)
        finally:
            fastnn.set_num_threads(before)
        results.append(model.parameters.tobytes())
    assert len(set(results)) == 1


def test_one_mask_of_dropout_in_a_fit_and_another_in_the_next() -> None:
    model, x, y = network(between=fastnn.Dropout(0.5)), *data()
    losses = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert (np.diff(losses) < 0).all()  # no function with another mask each time would fall so
    assert model.state[s.STEP] == 30
    again = model.fit(x, y, epochs=1, verbose=0).history["loss"][0]
    assert again > losses[-1]


def test_gradients_that_are_wrong_lead_nowhere() -> None:
    class Backwards(fastnn.Layer):
        def forward(self, x: Array, training: bool = False) -> Array:
            return x

        def backward(self, dy: Array) -> Array:
            return -dy

    model, x, y = fastnn.Sequential([fastnn.Dense(1), Backwards()], (FEATURES,), seed=1), *data()
    model.compile("lbfgs", "mse")
    before = model.parameters.copy()
    history = model.fit(x, y, epochs=9, verbose=0)
    np.testing.assert_array_equal(model.parameters, before)
    assert history.history["loss"] == [pytest.approx(model.evaluate(x, y)["loss"])]
    assert "CONVERGENCE" not in str(model.optimizer.message)  # type: ignore[union-attr]


@pytest.mark.parametrize("at", [1, 2, 9])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), None], ids=["Ctrl-C", "infinity"])
def test_what_ends_a_fit_leaves_the_last_iteration(error: BaseException | None, at: int) -> None:
    model, weights, (x, y) = network(between=Pass(at, error)), Weights(), data()
    weights.noted.append(model.parameters.copy())
    expected = KeyboardInterrupt if error is not None else fastnn.DivergenceError
    with pytest.raises(expected):
        model.fit(x, y, epochs=50, callbacks=[weights], verbose=0)
    np.testing.assert_array_equal(model.parameters, weights.noted[-1])
    assert len(weights.noted) == 1 or at == 9
    assert model.state[s.STEP] == len(weights.noted) - 1
    before = model.evaluate(x, y)["loss"]
    assert model.fit(x, y, epochs=3, verbose=0).history["loss"][-1] < before


def test_frozen_layers_stay(tmp_path: Path) -> None:
    x, y = data()
    model = network()
    model.fit(x, y, epochs=2, verbose=0)  # which leaves gradients behind
    model.save(tmp_path / "model")
    other = fastnn.load(tmp_path / "model")
    for each in (model, other):
        each.layers[0].trainable = False
        before = each.get_weights()
        each.fit(x, y, epochs=4, verbose=0)
        after = each.get_weights()
        for frozen in (0, 1):
            np.testing.assert_array_equal(before[frozen], after[frozen])
        assert (before[2] != after[2]).all()
    assert other.parameters.tobytes() == model.parameters.tobytes()


def test_it_is_saved_with_the_model(tmp_path: Path) -> None:
    model, x, y = network(max_fun=99, tol=1e-5, history=4), *data()
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "model")
    loaded = fastnn.load(tmp_path / "model")
    assert repr(loaded.optimizer) == "LBFGS(max_fun=99, tol=1e-05, history=4)"
    for each in (model, loaded):
        each.fit(x, y, epochs=3, verbose=0)
    assert loaded.parameters.tobytes() == model.parameters.tobytes()


def test_lines_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    network().fit(*data(), epochs=2, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


# What it refuses


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = network(), *data()
    before = model.parameters.copy()
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r'LBFGS .*SciPy: pip install "fastnn\[lbfgs\]"'):
        model.fit(x, y, epochs=3, verbose=0)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("callback", [ReduceLROnPlateau("loss"), OpenNMTDecay("loss")])
def test_there_is_no_learning_rate_to_lower(callback: Any) -> None:
    with pytest.raises(ValueError, match=f"{type(callback).__name__}: LBFGS has no learning rate"):
        network().fit(*data(), callbacks=[callback], verbose=0)


def one_layer(**arguments: Any) -> None:
    model = fastnn.Sequential([fastnn.Dense(CLASSES, **arguments)], (FEATURES,), seed=1)
    model.compile("lbfgs", fastnn.CategoricalCrossentropy(from_logits=True))
    model.fit(*data(), verbose=0)


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "a batch": (lambda: network().train_on_batch(*data()), "train_on_batch: LBFGS .*: use fit"),
    "by hand": (lambda: fastnn.LBFGS().update([]), "LBFGS: update: .*: use fit"),
    "a multiplier": (
        lambda: one_layer(learning_rate_multiplier=0.5),
        "LBFGS: dense_0: there is no learning rate to multiply",
    ),
    "a constraint": (
        lambda: one_layer(kernel_constraint="non_neg"),
        "LBFGS: dense_0: it minimises without constraints",
    ),
    "max_fun": (lambda: fastnn.LBFGS(max_fun=0), "LBFGS: max_fun must be at least 1, got 0"),
    "tol": (lambda: fastnn.LBFGS(tol=-1), r"LBFGS: tol must be a number in \[0, inf\), got -1"),
    "history": (lambda: fastnn.LBFGS(history=2.5), "LBFGS: history must be an integer, got 2.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case: str) -> None:
    bad, words = BAD[case]
    with pytest.raises((ValueError, TypeError), match=words):
        bad()


def test_docstring_example() -> None:
    result = doctest.testmod(lbfgs)
    assert result.attempted >= 5
    assert result.failed == 0
