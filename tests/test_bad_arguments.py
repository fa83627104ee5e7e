"""Hyperparameters, names, the order of calls and weights: what is wrong is refused by an error that
names it, with nothing changed.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from door_cases import (
    CLASSES,
    COLUMNS,
    HUGE,
    X,
    Y,
    cases,
    frozen,
    network,
    refused,
    trained_network,
)
from fastnn import activations, initializers, losses, metrics, optimizers
from fastnn.callbacks import EarlyStopping, LambdaCallback


@pytest.fixture
def trained() -> fastnn.Sequential:
    return trained_network()


@pytest.fixture(params=[trained_network, network], ids=["trained", "unbuilt"])
def model(request: pytest.FixtureRequest) -> fastnn.Sequential:
    made: fastnn.Sequential = request.param()
    return made


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
    **{
        f"label_smoothing {s!r}": (
            lambda s=s, loss=loss: loss(label_smoothing=s),
            rf"{loss.__name__}: label_smoothing must be a number in \[0, 1\]",
        )
        for s in (-0.1, 1.5, np.nan, "0.1")
        for loss in (fastnn.BinaryCrossentropy, fastnn.CategoricalCrossentropy)
    },
    **{
        f"Huber({delta!r})": (lambda d=delta: fastnn.Huber(d), r"Huber: delta must be .*\(0, inf\)")
        for delta in (0, -1.0, np.inf, None)
    },
    "BinaryAccuracy": (lambda: metrics.BinaryAccuracy(np.nan), r"threshold must be a number"),
    "TopK": (lambda: fastnn.TopKCategoricalAccuracy(0), r"k must be at least 1, got 0"),
    "Precision": (lambda: fastnn.Precision([0.5]), r"Precision: thresholds must be a number"),
    "Recall": (lambda: fastnn.Recall(class_id=-1), r"Recall: class_id must be at least 0"),
    "F1Score": (lambda: fastnn.F1Score("mean"), r"F1Score: average must be one of .*'mean'"),
    "F1Score, threshold": (lambda: fastnn.F1Score(threshold="0"), r"F1Score: threshold must be"),
    "AUC": (lambda: fastnn.AUC(2), r"AUC: num_thresholds must be at least 3, got 2"),
    "AUC, curve": (lambda: fastnn.AUC(curve="roc"), r"AUC: curve must be 'ROC' or 'PR', got 'roc'"),
    "R2Score": (lambda: fastnn.R2Score("mean"), r"R2Score: class_aggregation must be one of"),
    "metric name": (lambda: fastnn.AUC(name=5), r"AUC: name must be a string, got 5"),
    "Dropout seed": (lambda: fastnn.Dropout(0.1, seed=-1), r"Dropout: seed must be"),
    **{
        f"Input({shape!r})": (lambda s=shape: fastnn.Input(s), r"Input: shape must")
        for shape in ((), (0,), -1, (4.5,), "784", None, (None, 4), True)
    },
    "shape, array": (lambda: network(np.array([4, 4])), r"input_shape must"),
    "shape, zero": (lambda: network((0,)), r"input_shape must be .*positive.*\(0,\)"),
    "dtype": (lambda: network(dtype="float16"), r"dtype must be .*float32.*float64.*'float16'"),
    "dtype, object": (lambda: network(dtype=np.dtype("float32")), r"dtype must be .*'float32'"),
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
            + [("momentum", v) for v in (1.1, -0.1, np.nan, "a")]
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
    **{
        f"{kind} {name} {value!r}": (
            lambda k=kind, n=name, v=value: getattr(fastnn, k)(**{n: v}),
            rf"{kind}: {name} must be a number in .*, got {re.escape(repr(value))}",
        )
        for kind, name, value in [
            ("Adagrad", "initial_accumulator_value", -0.1),
            ("Adagrad", "epsilon", -1e-7),
            ("RMSprop", "rho", 1.1),
            ("RMSprop", "momentum", 1.0),
            ("RMSprop", "epsilon", 0.0),
            ("Adadelta", "rho", -0.1),
            ("Adadelta", "epsilon", 0.0),
            ("AdamW", "weight_decay", -0.1),
            ("Nadam", "beta_1", 1.0),
            ("Adamax", "beta_2", 1.0),
            ("Lion", "beta_2", 1.5),
            ("SGD", "weight_decay", np.inf),
            ("SGD", "clipnorm", 0),
            ("SGD", "clipnorm", -1.0),
            ("SGD", "clipvalue", 0.0),
            ("SGD", "global_clipnorm", True),
            ("SGD", "ema_momentum", 1.1),
            ("SGD", "learning_rate", "cosine"),
        ]
    },
    "two ways to clip": (
        lambda: fastnn.SGD(clipnorm=1.0, clipvalue=0.5),
        r"SGD: of clipnorm, clipvalue and global_clipnorm only one may be given, got 1.0, 0.5",
    ),
    "no such option": (lambda: fastnn.SGD(weight_dekay=0.1), r"weight_dekay"),
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_call_builds_a_model_as_fit_would(dtype: str) -> None:
    built, called = network(COLUMNS, seed=5, dtype=dtype), network(seed=5, dtype=dtype)
    np.testing.assert_array_equal(called(X), built(X), strict=True)
