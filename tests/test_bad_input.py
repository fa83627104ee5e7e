"""The door: bad input is refused by an error that names it, with nothing changed; odd but good
input gives the bits of its plain copy; divergence keeps the last finite weights.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import activations, checks, initializers, losses, metrics, optimizers
from fastnn.callbacks import EarlyStopping, LambdaCallback
from fastnn.kernels import state as slot_of

ROWS, COLUMNS, CLASSES = 12, 4, 3
X = np.random.default_rng(0).integers(0, 8, (ROWS, COLUMNS)).astype(np.float32)
Y = np.arange(ROWS) % CLASSES
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[Y]
HUGE = 1e300  # finite in float64, infinite in float32


def network(input_shape: Any = None, **options: Any) -> fastnn.Sequential:
    """A small classifier, compiled."""
    model = fastnn.Sequential(
        [fastnn.Dense(5, "relu"), fastnn.Dropout(0.2), fastnn.Dense(CLASSES, "softmax")],
        input_shape=input_shape,
        **{"seed": 3, **options},
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def trained() -> fastnn.Sequential:
    model = network(COLUMNS)
    model.fit(X, Y, batch_size=5, verbose=0)
    return model


@pytest.fixture(params=["trained", "unbuilt"])
def model(request: pytest.FixtureRequest) -> fastnn.Sequential:
    made: fastnn.Sequential = (
        request.getfixturevalue("trained") if request.param == "trained" else network()
    )
    return made


def frozen(value: Any, inside: tuple[Any, ...] = ()) -> Any:
    """All that `value` holds, however deep, comparable by ``==``; arrays with their addresses.

    What equals its class's default is left out, and so are caches.
    """
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.ctypes.data, value.tobytes()
    if isinstance(value, dict):
        return {key: frozen(entry, inside) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [frozen(entry, inside) for entry in value]
    if not type(value).__module__.startswith("fastnn") or any(value is o for o in inside):
        return value
    held = {
        name: frozen(entry, (*inside, value))
        for name, entry in vars(value).items()
        if name not in ("_programs", "_lock")
        and not (isinstance(entry, dict) and not entry)
        and not (entry is getattr(type(value), name, None) or entry is None)
    }
    return id(value), held


@contextlib.contextmanager
def refused(model: fastnn.Sequential, words: str) -> Iterator[None]:
    """Expect an error with `words` in it, and not a bit of `model` changed."""
    before = frozen(model)
    with pytest.raises((ValueError, TypeError, RuntimeError), match=words):
        yield
    assert frozen(model) == before


def patched(array: Any, where: Any, value: Any, dtype: Any = None) -> Any:
    """A copy of `array` with one element changed."""
    copy = np.array(array, dtype or np.asarray(array).dtype)
    copy[where] = value
    return copy


def x_with(value: Any, dtype: Any = np.float32) -> Any:
    return patched(X, (-1, -1), value, dtype)


BAD_X: dict[str, tuple[Any, str]] = {
    "None": (None, r"x must be an array of numbers"),
    "scalar": (1.0, r"x must be .*one row a sample"),
    "vector": (X[0], r"x must be \(N, \.\.\.\).*got shape \(4,\)"),
    "no rows": (X[:0], r"x is empty"),
    "no columns": (X[:, :0], r"x is empty"),
    "empty list": ([], r"x is empty"),
    "ragged": ([[1.0, 2.0, 3.0, 4.0], [1.0]], r"x must be an array of numbers"),
    "strings": (X.astype(str), r"x must be an array of numbers, got dtype <U"),
    "bytes": (X.astype(bytes), r"x must be an array of numbers"),
    "objects": (X.astype(object), r"x must be an array of numbers, got dtype object"),
    "complex": (X.astype(complex), r"x must be an array of numbers, got dtype complex"),
    "dates": (np.zeros((ROWS, COLUMNS), "datetime64[s]"), r"x must be an array of numbers"),
    "records": (np.zeros(ROWS, "f4,f4"), r"x must be an array of numbers"),
    "dict": ({"x": X}, r"x must be an array of numbers"),
    "iterator": (iter(X), r"x must be an array of numbers"),
    "large integers": ([[2**70] * COLUMNS] * ROWS, r"x must be an array of numbers"),
    "NaN": (x_with(np.nan), r"x must be finite.*got nan in row 11"),
    "infinity": (x_with(np.inf), r"x must be finite.*got inf in row 11"),
    "minus infinity": (x_with(-np.inf), r"x must be finite.*got -inf in row 11"),
    "NaN, float64": (x_with(np.nan, np.float64), r"x must be finite"),
    "NaN, float16": (x_with(np.nan, np.float16), r"x must be finite"),
    "NaN, other bytes": (x_with(np.nan, ">f4"), r"x must be finite"),
    "beyond float32": (x_with(HUGE, np.float64), r"x must be finite in float32, got 1e\+300"),
    "minus that": (x_with(-HUGE, np.float64), r"x must be finite in float32, got -1e\+300"),
    "longdouble": (x_with(HUGE, np.longdouble), r"x must be finite in float32"),
    "images": (X.reshape(ROWS, 2, 2), r"rows.*\(4,\)|rows must be vectors.*Flatten"),
}
BAD_Y: dict[str, tuple[Any, str]] = {
    "None": (None, r"y must be an array of numbers"),
    "scalar": (1, r"y must be "),
    "too short": (Y[:-1], r"y must have 12 rows like x, got 11"),
    "too long": (np.zeros(ROWS + 1, int), r"y must have 12 rows like x, got 13"),
    "empty": (Y[:0], r"y is empty"),
    "ragged": ([[1, 0, 0]] * (ROWS - 1) + [[1]], r"y must be an array of numbers"),
    "strings": (Y.astype(str), r"y must be an array of numbers"),
    "objects": (Y.astype(object), r"y must be an array of numbers"),
    "complex": (Y.astype(complex), r"y must be an array of numbers"),
    "label too large": (patched(Y, -1, 3), r"y must hold labels from 0 to 2, got 3"),
    "negative label": (patched(Y, -1, -1), r"y must hold labels from 0 to 2, got -1"),
    "label beyond int64": (np.full(ROWS, 2**63, np.uint64), r"y must hold labels from 0 to 2"),
    "label beyond int32": (patched(Y, 0, 2**32), r"y must hold labels from 0 to 2"),
    "fraction": (patched(Y, -1, 0.5, float), r"y must hold integer labels, got 0.5"),
    "NaN": (patched(Y, -1, np.nan, float), r"y must be finite.*row 11"),
    "infinity": (patched(Y, -1, np.inf, float), r"y must be finite.*row 11"),
    "one-hot, too narrow": (ONE_HOT[:, :2], r"y must be labels \(N,\) or rows \(N, 3\)"),
    "one-hot, too wide": (np.eye(4)[Y], r"y must be labels \(N,\) or rows \(N, 3\)"),
    "one-hot, 3-D": (ONE_HOT[:, None], r"y must be labels \(N,\) or rows \(N, 3\)"),
    "one-hot, none hot": (patched(ONE_HOT, -1, 0), r"y must have rows of probabilities"),
    "one-hot, two hot": (patched(ONE_HOT, -1, 1), r"y must have rows of probabilities"),
    "one-hot, NaN": (patched(ONE_HOT, (-1, 0), np.nan), r"y must be finite"),
    "soft, negative": (patched(ONE_HOT, -1, (1.5, -0.5, 0)), r"y must have rows of prob"),
}
WEIGHTS = np.ones(ROWS)
BAD_WEIGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "length": ({"sample_weight": WEIGHTS[1:]}, r"sample_weight must have shape \(12,\)"),
    "2-D": ({"sample_weight": WEIGHTS[:, None]}, r"sample_weight must have shape \(12,\)"),
    "scalar": ({"sample_weight": 2.0}, r"sample_weight must be"),
    "negative": ({"sample_weight": -WEIGHTS}, r"sample_weight must not be negative"),
    "NaN": ({"sample_weight": patched(WEIGHTS, -1, np.nan)}, r"sample_weight must be finite"),
    "huge": ({"sample_weight": patched(WEIGHTS, -1, HUGE)}, r"sample_weight must be finite"),
    "strings": ({"sample_weight": WEIGHTS.astype(str)}, r"sample_weight must be an array"),
    "of classes, list": ({"class_weight": [1, 2, 3]}, r"class_weight must be a dict"),
    "of unknown class": ({"class_weight": {3: 1.0}}, r"class_weight .*0 to 2, got 3"),
    "of negative class": ({"class_weight": {-1: 1.0}}, r"class_weight .*0 to 2, got -1"),
    "of fraction": ({"class_weight": {1.5: 1.0}}, r"class_weight .*got 1.5"),
    "of name": ({"class_weight": {"cat": 1.0}}, r"class_weight .*got 'cat'"),
    "of classes, negative": ({"class_weight": {0: -1.0}}, r"class_weight.*of class 0 .*-1"),
    "of classes, NaN": ({"class_weight": {0: np.nan}}, r"class_weight.*of class 0 .*nan"),
    "of classes, None": ({"class_weight": {0: None}}, r"class_weight.*of class 0 .*None"),
    "of classes, huge": ({"class_weight": {0: HUGE}}, r"class_weight.*1e\+300"),
    "huge together": (
        {"class_weight": {0: 1e30}, "sample_weight": 1e30 * WEIGHTS},
        r"(class|sample)_weight",
    ),
}
BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"batch_size {value!r}": ({"batch_size": value}, rf"batch_size must be .*{value!r}")
        for value in (0, -1, 2.5, "32", True, None)
    },
    **{
        f"epochs {value!r}": ({"epochs": value}, rf"epochs must be .*{value!r}")
        for value in (-1, 1.5, "1", True, None)
    },
    **{
        f"verbose {value!r}": ({"verbose": value}, r"verbose must be 0, 1 or 2")
        for value in (3, -1, "quiet", None, [1, 2])
    },
    "verbose array": ({"verbose": np.array([1, 2])}, r"verbose must be 0, 1 or 2"),
    **{
        f"validation_split {value!r}": ({"validation_split": value}, r"validation_split.*\[0, 1\)")
        for value in (1.0, -0.1, np.nan, "half", None)
    },
    "validation_split of all": ({"validation_split": 0.99}, r"validation_split.*empty"),
    "callbacks, number": ({"callbacks": 5}, r"callbacks must be"),
    "callbacks, numbers": ({"callbacks": [5]}, r"callbacks must be"),
    "callbacks, class": ({"callbacks": [LambdaCallback]}, r"callbacks must be"),
    "validation, x only": ({"validation_data": X}, r"validation_data must be \(x, y\)"),
    "validation, one": ({"validation_data": (X,)}, r"validation_data must be \(x, y\)"),
    "validation, four": ({"validation_data": (X, Y, Y, Y)}, r"validation_data must be \(x, y\)"),
    "validation, width": ({"validation_data": (X[:, 1:], Y)}, r"validation_data: x .*\(4,\)"),
    "validation, rows": ({"validation_data": (X, Y[1:])}, r"validation_data: y must have 12"),
    "validation, label": ({"validation_data": (X, Y + 1)}, r"validation_data: y .*0 to 2"),
    "validation, NaN": ({"validation_data": (x_with(np.nan), Y)}, r"validation_data: x .*finite"),
    "validation, weights": ({"validation_data": (X, Y, -WEIGHTS)}, r"validation_data: sample_w"),
}


def cases(table: dict[str, tuple[Any, str]]) -> Any:
    return pytest.mark.parametrize(("bad", "words"), table.values(), ids=table)


@pytest.mark.parametrize("method", ["fit", "train_on_batch", "evaluate", "predict"])
@cases(BAD_X)
def test_bad_x(trained: fastnn.Sequential, method: str, bad: Any, words: str) -> None:
    with refused(trained, words):
        getattr(trained, method)(bad, *([Y] if method != "predict" else []))


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
@cases(BAD_X)
def test_bad_x_leaves_a_model_unbuilt(method: str, bad: Any, words: str) -> None:
    model = network()
    with refused(model, words):
        getattr(model, method)(bad, Y)
    assert not model.built


@pytest.mark.parametrize("method", ["fit", "train_on_batch", "evaluate", "predict"])
def test_wrong_number_of_features(trained: fastnn.Sequential, method: str) -> None:
    for x in (X[:, 1:], np.hstack([X, X])):
        with refused(trained, rf"x must have rows of shape \(4,\), got \({x.shape[1]},\)"):
            getattr(trained, method)(x, *([Y] if method != "predict" else []))


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
@cases(BAD_Y)
def test_bad_y(model: fastnn.Sequential, method: str, bad: Any, words: str) -> None:
    with refused(model, words):
        getattr(model, method)(X, bad)


@cases(BAD_Y)
def test_bad_y_in_evaluate(trained: fastnn.Sequential, bad: Any, words: str) -> None:
    with refused(trained, words):
        trained.evaluate(X, bad)


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
@cases(BAD_WEIGHTS)
def test_bad_weights(model: fastnn.Sequential, method: str, bad: Any, words: str) -> None:
    with refused(model, words):
        getattr(model, method)(X, Y, **bad)


@cases(BAD_OPTIONS)
def test_bad_options_of_fit(model: fastnn.Sequential, bad: Any, words: str) -> None:
    with refused(model, words):
        model.fit(X, Y, **bad)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "32", True, None])
def test_bad_batch_size_elsewhere(trained: fastnn.Sequential, batch_size: Any) -> None:
    with refused(trained, r"predict: batch_size must be"):
        trained.predict(X, batch_size=batch_size)
    with refused(trained, r"evaluate: batch_size must be"):
        trained.evaluate(X, Y, batch_size=batch_size)


@pytest.mark.parametrize(
    ("loss", "units", "bad", "words"),
    [
        ("mse", 2, X[:, :3], r"y must have shape \(12, 2\), got \(12, 3\)"),
        ("mse", 2, X[:, 0], r"y must have shape \(12, 2\), got \(12,\)"),
        ("mse", 1, x_with(HUGE, float)[:, 3:], r"y must be finite in float32, got 1e\+300"),
        ("binary_crossentropy", 1, Y, r"y must lie in \[0, 1\].*from 0 to 2"),
        ("binary_crossentropy", 1, -ONE_HOT[:, :1], r"y must lie in \[0, 1\]"),
        ("categorical_crossentropy", 1, 0 * Y, r"categorical_crossentropy needs at least 2"),
    ],
)
def test_bad_y_of_other_losses(loss: str, units: int, bad: Any, words: str) -> None:
    model = fastnn.Sequential([fastnn.Dense(units)], seed=1)
    model.compile("sgd", loss)
    with refused(model, words):
        model.fit(X, bad)


@pytest.mark.parametrize("rows", [ROWS, 2**18 + 3, 2**19])
@pytest.mark.parametrize("order", ["C", "F"])
def test_nan_in_any_row_of_a_large_array(rows: int, order: Any) -> None:
    # The door looks at 2^20 elements at a time.
    x = np.zeros((rows, COLUMNS), np.float32, order)
    for row in {0, min(rows, 2**18) - 1, rows - 1}:
        x[row, 2] = np.nan
        with pytest.raises(ValueError, match=rf"x must be finite in float32, got nan in row {row}"):
            checks.features(x, "x", None, "float32")
        x[row, 2] = 0


def test_float64_network_takes_what_float32_cannot_hold() -> None:
    assert checks.features(x_with(HUGE, float), "x", None, "float64").max() == HUGE
    with pytest.raises(ValueError, match=r"x must be finite in float64"):
        checks.features(x_with(10 * np.longdouble(1e308), np.longdouble), "x", None, "float64")


def test_a_refused_fit_leaves_layers_as_they_were() -> None:
    # A layer may have weights from a life of its own before the model takes it up.
    layer = fastnn.Dense(CLASSES)
    layer.forward(X)
    kernel = layer.kernel.copy()
    model = fastnn.Sequential([fastnn.Dropout(0.5, seed=7), layer], seed=1)
    model.compile("sgd", "categorical_crossentropy")
    with refused(model, "y must"):
        model.fit(X, Y + 1)
    np.testing.assert_array_equal(layer.kernel, kernel)


@pytest.mark.parametrize(
    "bad", [["a", "b"], [1 + 2j, 1.0], [None, 1.0]], ids=["strings", "complex", "objects"]
)
def test_a_layer_refuses_what_is_no_number_before_it_is_built(bad: Any) -> None:
    layer = fastnn.Dense(2)
    with pytest.raises((ValueError, TypeError), match=r"dense|Dense.*x"):
        layer.forward([bad])
    assert not layer.built


def test_loops_by_hand_are_told_of_wrong_order_and_shapes() -> None:
    layer, loss = fastnn.Dense(CLASSES, "relu"), fastnn.CategoricalCrossentropy()
    with pytest.raises(ValueError, match=r"x must be \(N, \.\.\.\)"):
        layer.forward(X[0])
    with pytest.raises(RuntimeError, match=r"forward\(x, training=True\) before backward"):
        layer.backward(ONE_HOT)
    with pytest.raises(RuntimeError, match=r"forward before backward"):
        loss.backward()
    probabilities = np.full((ROWS, CLASSES), 1 / CLASSES)
    for bad, words in BAD_Y.values():
        with pytest.raises((ValueError, TypeError), match=words.replace("y", "y_true", 1)):
            loss.forward(probabilities, bad)
    with pytest.raises(ValueError, match=r"y_pred must be \(N, C\)"):
        loss.forward(probabilities[0], Y)
    layer.forward(X, training=True)
    for wrong in (ONE_HOT[1:], ONE_HOT[:, 1:], ONE_HOT[0]):
        with pytest.raises(ValueError, match=r"dy must have shape \(12, 3\)"):
            layer.backward(wrong)
    with pytest.raises(ValueError, match=r"built for rows of shape \(4,\), got \(3,\)"):
        layer.forward(X[:, 1:])


BAD_CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    **{
        f"Dense({units!r})": (lambda u=units: fastnn.Dense(u), r"Dense: units must be .*integer")
        for units in (2.5, "8", True, None)
    },
    "Dense(0)": (lambda: fastnn.Dense(0), r"Dense: units must be at least 1, got 0"),
    "Dense(-3)": (lambda: fastnn.Dense(-3), r"Dense: units must be at least 1, got -3"),
    "Dense name": (lambda: fastnn.Dense(3, name=5), r"Dense: name must be a string"),
    **{
        f"Dropout({rate!r})": (lambda r=rate: fastnn.Dropout(r), r"Dropout: rate .*\[0, 1\)")
        for rate in (1.0, 1, -0.1, np.nan, np.inf, "half", None, True)
    },
    "Dropout seed": (lambda: fastnn.Dropout(0.1, seed=-1), r"Dropout: seed must be"),
    **{
        f"Input({shape!r})": (lambda s=shape: fastnn.Input(s), r"Input: shape must")
        for shape in ((), (0,), -1, (4.5,), "784", None, (None, 4), True)
    },
    "shape, array": (lambda: network(np.array([4, 4])), r"input_shape must"),
    "shape, zero": (lambda: network((0,)), r"input_shape must be .*positive.*\(0,\)"),
    "dtype": (lambda: network(dtype="float16"), r"dtype must be .*float32.*float64.*'float16'"),
    "device": (lambda: network(device="tpu"), r"device must be .*'cpu'.*'tpu'"),
    "seed, negative": (lambda: network(seed=-1), r"Sequential: seed must be at least 0"),
    "seed, fraction": (lambda: network(seed=0.5), r"Sequential: seed must be an integer"),
    "layers, number": (lambda: fastnn.Sequential(5), r"Sequential: layers must be"),
    "layers, one": (lambda: fastnn.Sequential(fastnn.Dense(3)), r"Sequential: layers must be"),
    "layers, class": (lambda: fastnn.Sequential([fastnn.Dense]), r"Sequential: layers must be"),
    "layers, names": (lambda: fastnn.Sequential(["relu"]), r"Sequential: layers must be .*'relu'"),
    "layers, twice": (lambda: fastnn.Sequential([fastnn.ReLU()] * 2), r"already belongs"),
    **{
        f"SGD {name} {value!r}": (lambda n=name, v=value: fastnn.SGD(**{n: v}), rf"SGD: {name}")
        for name, value in (
            [("learning_rate", v) for v in (-0.1, np.nan, np.inf, "0.1", None, True)]
            + [("momentum", v) for v in (1.0, -0.1, np.nan, "a")]
        )
    },
    "SGD nesterov": (lambda: fastnn.SGD(nesterov=True), r"nesterov needs a momentum"),
    **{
        f"Adam {name} {value!r}": (lambda n=name, v=value: fastnn.Adam(**{n: v}), rf"Adam: {name}")
        for name, value in [
            ("learning_rate", -1e-3),
            ("beta_1", 1.0),
            ("beta_2", -0.1),
            ("epsilon", 0.0),
            ("epsilon", np.nan),
        ]
    },
    "LambdaCallback": (lambda: LambdaCallback(on_epoch_end=5), r"on_epoch_end must be a function"),
    "EarlyStopping mode": (lambda: EarlyStopping(mode="most"), r"mode must be 'auto', 'min'"),
    "EarlyStopping patience": (lambda: EarlyStopping(patience=-1), r"patience must be at least 0"),
    "EarlyStopping min_delta": (lambda: EarlyStopping(min_delta=-1), r"min_delta must be"),
    "EarlyStopping baseline": (lambda: EarlyStopping(baseline="low"), r"baseline must be"),
    "NaN out of an initializer": (
        lambda: fastnn.Dense(2, kernel_initializer=lambda s, g: np.full(s, np.nan)).forward(X),
        r"initializer|kernel",
    ),
    "wrong shape out of one": (
        lambda: fastnn.Dense(2, kernel_initializer=lambda s, g: np.ones(3)).forward(X),
        r"initializer returned shape \(3,\) where \(4, 2\)",
    ),
}


@cases(BAD_CALLS)
def test_bad_hyperparameters(bad: Callable[[], Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        bad()


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda name: fastnn.Dense(3, activation=name), activations.NAMES),
        (lambda name: fastnn.Activation(name), activations.NAMES),
        (lambda name: fastnn.Dense(3, kernel_initializer=name), initializers.INITIALIZERS),
        (lambda name: fastnn.Dense(3, bias_initializer=name), initializers.INITIALIZERS),
        (lambda name: network().compile(name, "mse"), optimizers.OPTIMIZERS),
        (lambda name: network().compile("adam", name), losses.LOSSES),
        (lambda name: network().compile("adam", "mse", metrics=[name]), metrics.METRICS),
    ],
    ids=["activation", "Activation", "kernel", "bias", "optimizer", "loss", "metric"],
)
def test_a_wrong_name_lists_the_right_ones(call: Callable[[Any], Any], names: Any) -> None:
    with pytest.raises(ValueError, match="'nonesuch'") as error:
        call("nonesuch")
    assert all(name in str(error.value) for name in names)
    with pytest.raises((ValueError, TypeError), match="must be"):
        call(5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "adam"},
        {"optimizer": "nonesuch", "loss": "mse"},
        {"optimizer": None, "loss": "mse"},
        {"optimizer": "sgd", "loss": 5},
        {"optimizer": "sgd", "loss": "mse", "metrics": "accuracy"},
        {"optimizer": "sgd", "loss": "mse", "metrics": [5]},
        {"optimizer": "sgd", "loss": "mse", "metrics": ["accuracy", "acc"]},
    ],
)
def test_a_refused_compile_keeps_the_old_one(model: Any, arguments: dict[str, Any]) -> None:
    with refused(model, "optimizer|loss|metric"):
        model.compile(**arguments)


def test_a_rate_is_checked_whenever_it_is_set(trained: fastnn.Sequential) -> None:
    with refused(trained, "Adam: learning_rate must be"):
        trained.optimizer.learning_rate = -1.0


def test_what_must_come_first() -> None:
    model = fastnn.Sequential([fastnn.Dense(CLASSES)], seed=0)
    for call in (
        lambda: model.fit(X, Y),
        lambda: model.train_on_batch(X, Y),
        lambda: model.evaluate(X, Y),
    ):
        with refused(model, r"call compile\(optimizer, loss\) first"):
            call()
    model.compile("sgd", "categorical_crossentropy")
    for call in (
        lambda: model.predict(X),
        lambda: model.evaluate(X, Y),
        lambda: model.parameters,
        lambda: model.output_shape,
        lambda: model.get_weights(),
        lambda: model.set_weights([]),
        lambda: model.count_params(),
        lambda: model.summary(),
        lambda: model.save("nowhere"),
    ):
        with refused(model, r"not built yet"):
            call()


def test_a_model_with_no_layers() -> None:
    model = fastnn.Sequential([], seed=0)
    model.compile("sgd", "mse")
    for call in (lambda: model.fit(X, X), lambda: model.build(4), lambda: model.predict(X)):
        with refused(model, r"no layers|not built"):
            call()
    with pytest.raises(ValueError, match="no layers"):
        fastnn.Sequential([], input_shape=4)


def test_layers_belong_to_one_model(trained: fastnn.Sequential) -> None:
    with refused(trained, "once the model is built"):
        trained.add(fastnn.ReLU())
    with pytest.raises(ValueError, match="already belongs to a model"):
        fastnn.Sequential([trained.layers[0]])
    layer = fastnn.Dense(CLASSES)
    first, second = fastnn.Sequential([layer], seed=0), fastnn.Sequential([layer], seed=1)
    first.build(COLUMNS)
    with refused(first, "already belongs to a model"):
        second.build(COLUMNS)


def weights_of(model: fastnn.Sequential, index: int, value: Any) -> list[Any]:
    changed: list[Any] = model.get_weights()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.get_weights()[1:], r"weights must be 4 arrays, got 3"),
        (lambda m: [*m.get_weights(), X], r"weights must be 4 arrays, got 5"),
        (lambda m: [], r"weights must be 4 arrays, got 0"),
        (lambda m: None, r"set_weights: weights must be"),
        (lambda m: weights_of(m, 3, np.ones(4)), r"bias must have shape \(3,\), got \(4,\)"),
        (lambda m: weights_of(m, 3, np.ones((3, 1))), r"bias must have shape \(3,\)"),
        (lambda m: weights_of(m, 0, m.get_weights()[0].T), r"kernel must have shape \(4, 5\)"),
        (lambda m: weights_of(m, 3, [1, np.nan, 1]), r"bias must be finite"),
        (lambda m: weights_of(m, 3, [1, np.inf, 1]), r"bias must be finite"),
        (lambda m: weights_of(m, 3, [1, HUGE, 1]), r"bias must be finite in float32"),
        (lambda m: weights_of(m, 3, ["a", "b", "c"]), r"bias must be an array of numbers"),
        (lambda m: weights_of(m, 3, [1j, 1, 1]), r"bias must be an array of numbers"),
        (lambda m: weights_of(m, 3, None), r"bias must be an array of numbers"),
        (lambda m: weights_of(m, 3, [[1], [1, 2], 3]), r"bias must be an array of numbers"),
    ],
)
def test_bad_weights_are_not_set(trained: Any, change: Callable[[Any], Any], words: str) -> None:
    weights = change(trained)
    with refused(trained, words):
        trained.set_weights(weights)


@pytest.mark.parametrize("bad", [np.ones(4), np.full(CLASSES, np.nan), ["a", "b", "c"], "abc"])
def test_bad_weights_are_not_assigned(trained: fastnn.Sequential, bad: Any) -> None:
    with refused(trained, "bias"):
        trained.layers[-1].bias = bad


def test_a_nan_written_into_live_weights_is_met_before_training(trained: Any) -> None:
    trained.layers[0].kernel[0, 0] = np.nan
    before = trained.parameters.tobytes()
    with pytest.raises((ValueError, fastnn.DivergenceError)):
        trained.fit(X, Y, verbose=0)
    assert trained.parameters.tobytes() == before


def test_files_that_are_none(tmp_path: Path, trained: fastnn.Sequential) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        fastnn.load(tmp_path / "none.safetensors")
    for content in (b"", b"\0" * 64, b"not a model", bytes(range(256))):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(ValueError, match="bad cannot be loaded"):
            fastnn.load(tmp_path / "bad")
    before = frozen(trained)
    with pytest.raises(OSError, match="missing"):
        trained.save(tmp_path / "missing" / "model")
    assert frozen(trained) == before
    assert not (tmp_path / "missing").exists()


# What must work.


class Frame:
    """Like a pandas frame: an array only when asked."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._array, dtype)


def spread(array: Any) -> Any:
    """The same elements, every second one of a larger array's."""
    wide = np.full([2 * n for n in array.shape], np.nan, array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def read_only(array: Any) -> Any:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def mapped(array: Any, file: Path) -> Any:
    np.save(file, array)
    return np.load(file, mmap_mode="r")


FORMS: dict[str, Callable[[Any], Any]] = {
    "list": lambda a: a.tolist(),
    "tuple of rows": lambda a: tuple(a),
    "frame": Frame,
    "every second": spread,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "Fortran": np.asfortranarray,
    "read-only": read_only,
    "broadcast": lambda a: np.broadcast_to(a, (1, *a.shape))[0],
    "misaligned": lambda a: np.frombuffer(b"." + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    **{
        dtype: lambda a, dtype=dtype: a.astype(dtype)
        for dtype in ("u1", "i1", "u2", "i4", "i8", "u8", "f2", "f8", "g", ">f4", ">f8", ">i2")
    },
}


def results(x: Any, y: Any, loss: str = "categorical_crossentropy", **options: Any) -> Any:
    """Everything that comes of training on x and y, as bits."""
    model = network()
    model.compile("adam", loss, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=5, epochs=2, verbose=0, **options)
    on_batch = model.train_on_batch(x, y)
    return (
        model.parameters.tobytes(),
        model.predict(x).tobytes(),
        model.evaluate(x, y),
        on_batch,
        history.history,
    )


@pytest.mark.parametrize("form", FORMS)
def test_x_in_any_form_gives_the_same_bits(form: str) -> None:
    x = FORMS[form](X)
    kept = np.array(x)
    assert results(x, Y) == results(X, Y)
    np.testing.assert_array_equal(np.asarray(x), kept)


def test_x_of_booleans_and_from_disk_gives_the_same_bits(tmp_path: Path) -> None:
    assert results(X > 3, Y) == results((X > 3).astype(np.float32), Y)
    assert results(mapped(X, tmp_path / "x.npy"), mapped(Y, tmp_path / "y.npy")) == results(X, Y)


@pytest.mark.parametrize("form", FORMS)
def test_y_in_any_form_gives_the_same_bits(form: str) -> None:
    change = FORMS[form]
    expected = results(X, Y)
    assert results(X, change(Y.astype(np.float32))) == expected
    assert results(X, change(Y[:, None].astype(np.float32))) == expected
    assert results(X, change(ONE_HOT)) == expected


@pytest.mark.parametrize("form", [form for form in FORMS if not re.search(r"[iu]\d", form)])
def test_soft_rows_and_weights_in_any_form_give_the_same_bits(form: str) -> None:
    change, soft, weights = FORMS[form], 0.5 * ONE_HOT + [0.25, 0.25, 0.0], np.arange(ROWS) / 4
    soft, weights = soft.astype(np.float32), weights.astype(np.float32)
    assert results(X, change(soft)) == results(X, soft)
    assert results(X, change(soft), "mse") == results(X, soft, "mse")
    expected = results(X, Y, sample_weight=weights)
    assert results(X, Y, sample_weight=change(weights)) == expected
    assert expected != results(X, Y)


def test_sizes_at_the_edge_work(trained: fastnn.Sequential) -> None:
    assert trained.predict(X[:1]).shape == (1, CLASSES)
    assert trained.predict(X, batch_size=10**12).tobytes() == trained.predict(X, 1).tobytes()
    before = trained.parameters.copy()
    assert trained.fit(X, Y, epochs=0, verbose=0).history == {}
    np.testing.assert_array_equal(trained.parameters, before)
    whole, larger = network(), network()
    whole.fit(X, Y, batch_size=ROWS, verbose=0)
    larger.fit(X, Y, batch_size=10**12, verbose=0)
    assert whole.parameters.tobytes() == larger.parameters.tobytes()
    trained.fit(X[:1], Y[:1], batch_size=np.int64(3), epochs=np.uint8(2), verbose=0)


# Divergence.


def regression(optimizer: Any, *layers: Any) -> fastnn.Sequential:
    model = fastnn.Sequential([*layers, fastnn.Dense(1)], input_shape=COLUMNS, seed=0)
    model.compile(optimizer, "mse")
    return model


class Doubled(fastnn.Layer):
    """A layer that exists only in Python: the model runs in the eager loop."""

    def forward(self, x: Any, training: bool = False) -> Any:
        return 2 * x

    def backward(self, dy: Any) -> Any:
        return 2 * dy


@pytest.mark.parametrize("layers", [(), (Doubled,)], ids=["compiled", "in Python"])
def test_divergence_says_when_and_keeps_the_last_finite_weights(layers: Any) -> None:
    # Every step makes the error some 1e10 times larger: its square overflows in the third.
    fitted, stepped = (regression(fastnn.SGD(1e9), *(kind() for kind in layers)) for _ in "ab")
    ended: list[bool] = []
    callback = LambdaCallback(on_train_end=lambda: ended.append(True))
    with pytest.raises(fastnn.DivergenceError, match=r"at step 2\b") as error:
        fitted.fit(X, X[:, :1], ROWS, epochs=9, shuffle=False, verbose=0, callbacks=[callback])
    stepped.train_on_batch(X, X[:, :1])
    stepped.train_on_batch(X, X[:, :1])
    assert error.value.step == 2
    assert ended == [True]
    assert np.isfinite(fitted.parameters).all()
    assert fitted.parameters.tobytes() == stepped.parameters.tobytes()
    # The model goes on.
    assert fitted.predict(X).tobytes() == stepped.predict(X).tobytes()
    fitted.set_weights([np.zeros((COLUMNS, 1)), [0]])
    fitted.optimizer.learning_rate = 1e-3
    losses = fitted.fit(X, X[:, :1], epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", fastnn.SGD(0.1, momentum=0.9)])
def test_a_loss_that_overflows_changes_nothing(optimizer: Any) -> None:
    model = regression(optimizer)
    before = model.parameters.copy()
    with pytest.raises(fastnn.DivergenceError, match=r"at step 0\b"):
        model.train_on_batch(X + np.float32(1e30), Y)
    np.testing.assert_array_equal(model.parameters, before)
    assert model.state[slot_of.STEP] == 0


@pytest.mark.parametrize("optimizer", ["adam", fastnn.SGD(0.1, momentum=0.9)])
def test_optimizer_state_stays_finite_too(optimizer: Any) -> None:
    # The loss, 1e38, is finite and so is the gradient, 1e20; its square is not.
    model = regression(optimizer)
    with contextlib.suppress(fastnn.DivergenceError):
        model.train_on_batch(X, np.full(ROWS, 1e19))
    for vector in (model.parameters, *model.flat().slots.values()):
        assert np.isfinite(vector).all()
