"""Models on disk: all comes back, to the bit; no file is half written; no bad file is believed."""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastnn
from fastnn import losses, metrics, optimizers, schedules, serialization

Array = NDArray[Any]

FEATURES, CLASSES, ROWS = 6, 3, 40

OPTIMIZERS = {
    "SGD": lambda: fastnn.SGD(0.05),
    "momentum": lambda: fastnn.SGD(0.02, momentum=0.8),
    "nesterov": lambda: fastnn.SGD(0.02, momentum=0.8, nesterov=True),
    "Adam": lambda: fastnn.Adam(0.02, beta_1=0.8, beta_2=0.99, epsilon=1e-6),
    "Adagrad": lambda: fastnn.Adagrad(0.05, initial_accumulator_value=0.2),
    "RMSprop": lambda: fastnn.RMSprop(0.01, momentum=0.5, clipvalue=0.1),
    "Adadelta": lambda: fastnn.Adadelta(schedules.Cyclical(0.1, 1.0, 3)),
    "AdamW": lambda: fastnn.AdamW(0.01, weight_decay=0.1, amsgrad=True, global_clipnorm=0.1),
    "Nadam": lambda: fastnn.Nadam(schedules.PiecewiseConstantDecay([3, 9], [0.03, 0.02, 0.01])),
    "Adamax": lambda: fastnn.Adamax(schedules.CosineDecay(0.0, 20, 0.1, 0.05, 5), clipnorm=0.1),
    "Lion": lambda: fastnn.Lion(0.01, weight_decay=0.1),
}

LOSSES: dict[str, Callable[[], fastnn.Loss]] = {
    "categorical": fastnn.CategoricalCrossentropy,
    "categorical on logits": lambda: fastnn.CategoricalCrossentropy(from_logits=True),
    "binary": fastnn.BinaryCrossentropy,
    "binary on logits": lambda: fastnn.BinaryCrossentropy(from_logits=True),
    "smoothed": lambda: fastnn.BinaryCrossentropy(label_smoothing=0.1),
    "squares": fastnn.MeanSquaredError,
    "distances": fastnn.MeanAbsoluteError,
    "Huber": lambda: fastnn.Huber(0.5),
    "log cosh": fastnn.LogCosh,
    "Poisson": fastnn.Poisson,
    "HalfPoissonDeviance": lambda: fastnn.HalfPoissonDeviance(from_logits=True),
    "hinge": fastnn.Hinge,
    "squared hinge": fastnn.SquaredHinge,
    "categorical hinge": fastnn.CategoricalHinge,
    "divergence": fastnn.KLDivergence,
    "cosine": fastnn.CosineSimilarity,
    "sparsemax": fastnn.SparsemaxLoss,
}


METRICS = [
    fastnn.Accuracy(),
    metrics.CategoricalAccuracy(name="right"),
    metrics.BinaryAccuracy(0.4),
    fastnn.TopKCategoricalAccuracy(2),
    fastnn.Precision(0.3, class_id=1),
    fastnn.Recall(0.4),
    fastnn.F1Score("macro", 0.35),
    fastnn.AUC(50, "PR"),
    fastnn.ConfusionMatrix(0.4),
    metrics.MeanSquaredError(),
    metrics.RootMeanSquaredError(),
    metrics.MeanAbsoluteError(),
    metrics.CosineSimilarity(),
    fastnn.R2Score(None),
    metrics.RegressionAccuracy(),
]


class Scale(fastnn.Layer):
    """A layer of the user's own: each feature times a weight."""

    def __init__(self, start: float, name: str | None = None) -> None:
        super().__init__(name)
        self.start = start

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.add_weight("factor", input_shape, lambda shape, _: np.full(shape, self.start))

    def forward(self, x: Array, training: bool = False) -> Array:
        self.x = x
        return x * self.params["factor"]

    def backward(self, dy: Array) -> Array:
        self.grads["factor"] = (dy * self.x).sum(axis=0)
        return dy * self.params["factor"]

    def get_config(self) -> dict[str, Any]:
        return {"start": self.start, "name": self.name}


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(ROWS, FEATURES)), rng.integers(0, CLASSES, ROWS)


def network(
    optimizer: str = "Adam", dtype: str = "float32", first: fastnn.Layer | None = None
) -> fastnn.Sequential:
    model = fastnn.Sequential(
        [
            first or fastnn.Dense(8, activation="relu", kernel_initializer="he_normal"),
            fastnn.Dropout(0.2),
            fastnn.Dense(5, use_bias=False, name="of_the_user"),
            fastnn.Tanh(),
            fastnn.Dense(CLASSES, activation="softmax"),
        ],
        input_shape=(FEATURES,),
        dtype=dtype,
        seed=3,
        name="a network",
    )
    model.compile(OPTIMIZERS[optimizer](), "categorical_crossentropy", metrics=["accuracy"])
    return model


def train(model: fastnn.Sequential, epochs: int) -> dict[str, list[float]]:
    return model.fit(*data(), batch_size=16, epochs=epochs, verbose=0).history


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    """The file of a model that was trained for an epoch."""
    model = network()
    train(model, 1)
    model.save(path)
    return path


# Round trips


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_goes_on_from_a_file_as_if_never_stopped(
    dtype: str, optimizer: str, path: Path
) -> None:
    """Weights, moments, the step of dropout and Adam, the epoch of the shuffling."""
    whole, half = network(optimizer, dtype), network(optimizer, dtype)
    history = train(whole, 4)
    train(half, 2)
    half.save(path)
    loaded = fastnn.load(path)
    rest = train(loaded, 2)
    assert rest == {name: values[2:] for name, values in history.items()}
    assert loaded.parameters.tobytes() == whole.parameters.tobytes()
    x, y = data()
    assert loaded.predict(x).tobytes() == whole.predict(x).tobytes()
    assert loaded.evaluate(x, y) == whole.evaluate(x, y)


def test_all_that_makes_a_model_comes_back(path: Path) -> None:
    model = network()
    model.optimizer.learning_rate = 0.003
    model.save(path)
    loaded = fastnn.load(path)
    assert [repr(layer) for layer in loaded.layers] == [repr(layer) for layer in model.layers]
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert repr(loaded.optimizer) == repr(model.optimizer)
    assert loaded.optimizer.learning_rate == 0.003
    assert repr(loaded.loss) == repr(model.loss)
    assert [metric.name for metric in loaded.metrics] == ["accuracy"]
    for name in ("name", "dtype", "seed", "input_shape", "output_shape", "epochs_done"):
        assert getattr(loaded, name) == getattr(model, name)


class Halving(schedules.Schedule):
    """A schedule of the user's, with an argument."""

    def __init__(self, first: float) -> None:
        self.first = first

    def rates(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.first * 0.5**steps


def test_a_schedule_of_ones_own_comes_back(path: Path) -> None:
    model = network()
    model.optimizer.learning_rate = Halving(0.5)
    model.save(path)
    with pytest.raises(ValueError, match="class Halving is not known"):
        fastnn.load(path)
    loaded = fastnn.load(path, custom_objects={"Halving": Halving})
    assert repr(loaded.optimizer) == repr(model.optimizer)
    assert loaded.optimizer.learning_rate(2) == 0.125


def test_averaged_weights_and_their_average_come_back(path: Path) -> None:
    model = network()
    model.compile(fastnn.SGD(0.1, use_ema=True), "categorical_crossentropy", ["accuracy"])
    train(model, 2)
    model.save(path)
    loaded = fastnn.load(path)
    assert loaded.parameters.tobytes() == model.parameters.tobytes()
    assert train(loaded, 2) == train(model, 2)
    assert loaded.parameters.tobytes() == model.parameters.tobytes()


def test_what_overflowed_in_an_optimizer_does_not_keep_weights_from_coming_back(path: Path) -> None:
    """As after a divergence, which leaves the weights finite."""
    model = network()
    model.flat().slots["v"][3] = np.inf
    model.save(path)
    loaded = fastnn.load(path)
    assert np.isinf(loaded.flat().slots["v"][3])
    assert loaded.parameters.tobytes() == model.parameters.tobytes()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_come_back(name: str, path: Path) -> None:
    model = fastnn.Sequential([fastnn.Dense(3, "sigmoid")], (FEATURES,), seed=1)
    model.compile("sgd", LOSSES[name]())
    model.save(path)
    loaded = fastnn.load(path)
    assert type(loaded.loss) is type(model.loss)
    assert loaded.loss.get_config() == model.loss.get_config()
    x, _ = data()
    y = np.eye(3)[np.arange(ROWS) % 3]
    assert loaded.evaluate(x, y) == model.evaluate(x, y)


def test_metrics_come_back(path: Path) -> None:
    model = fastnn.Sequential([fastnn.Dense(CLASSES, "softmax")], (FEATURES,), seed=1)
    model.compile("sgd", "categorical_crossentropy", METRICS)
    model.save(path)
    loaded = fastnn.load(path)
    assert [repr(metric) for metric in loaded.metrics] == [repr(metric) for metric in METRICS]
    np.testing.assert_equal(loaded.evaluate(*data()), model.evaluate(*data()))


def test_everything_that_has_a_name_was_tried() -> None:
    # L-BFGS has its own tests: of the steps before it keeps nothing.
    tried = {type(make()) for make in OPTIMIZERS.values()}
    assert tried == {*optimizers.OPTIMIZERS.values()} - {fastnn.LBFGS}
    assert {type(make()) for make in LOSSES.values()} == set(losses.LOSSES.values())
    assert {type(metric) for metric in METRICS} == set(metrics.METRICS.values())


def test_a_model_that_is_not_compiled(path: Path) -> None:
    model = fastnn.Sequential([fastnn.Flatten(), fastnn.Dense(2)], (2, 3), seed=1)
    model.save(str(path))  # a string does too
    loaded = fastnn.load(str(path))
    assert loaded.loss is loaded.optimizer is None
    x = np.ones((4, 2, 3))
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    with pytest.raises(RuntimeError, match="compile"):
        loaded.fit(x, np.ones((4, 2)), verbose=0)


def test_a_model_without_weights(path: Path) -> None:
    fastnn.Sequential([fastnn.Softmax()], (3,)).save(path)
    np.testing.assert_allclose(fastnn.load(path).predict(np.zeros((1, 3))), 1 / 3)


def test_layers_of_the_users_own(path: Path) -> None:
    model, whole = network(first=Scale(0.5)), network(first=Scale(0.5))
    train(model, 1)
    model.save(path)
    with pytest.raises(ValueError, match=r"class Scale is not known; pass custom_objects="):
        fastnn.load(path)
    loaded = fastnn.load(path, custom_objects={"Scale": Scale})
    assert isinstance(loaded.layers[0], Scale)
    train(loaded, 1)
    train(whole, 2)
    assert loaded.parameters.tobytes() == whole.parameters.tobytes()


def test_an_initializer_that_is_a_function_is_not_needed_again(path: Path) -> None:
    layer = fastnn.Dense(2, kernel_initializer=lambda shape, _: np.full(shape, 0.5))
    fastnn.Sequential([layer], (3,)).save(path)
    assert (fastnn.load(path).layers[0].kernel == 0.5).all()


def test_a_model_that_is_not_built_cannot_be_saved(path: Path) -> None:
    model = fastnn.Sequential([fastnn.Dense(2)])
    with pytest.raises(RuntimeError, match="save: the model is not built"):
        model.save(path)
    assert not path.exists()


# The file


def test_the_file_is_plain_safetensors(saved: Path) -> None:
    model = fastnn.load(saved)
    tensors = load_file(saved)
    weights = {
        f"layers.{index}.{name}": array
        for index, layer in enumerate(model.layers)
        for name, array in layer.params.items()
    }
    assert set(tensors) == {*weights, "optimizer.m", "optimizer.v"}
    for name, array in weights.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], array)
    for name in ("m", "v"):
        assert tensors[f"optimizer.{name}"].shape == model.parameters.shape
        assert (tensors[f"optimizer.{name}"] != 0).any()
    with safe_open(saved, framework="numpy") as file:
        described = json.loads(file.metadata()["fastnn"])
    assert [layer["class"] for layer in described["layers"]] == [
        "Dense",
        "Dropout",
        "Dense",
        "Tanh",
        "Dense",
    ]


def test_the_same_model_makes_the_same_file(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    fastnn.load(saved).save(again)
    assert again.read_bytes() == saved.read_bytes()


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(
    mask: int, umask: Callable[[int], int], path: Path
) -> None:
    umask(mask)
    network().save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert umask(mask) == mask  # left as it was


def refuse(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_save_that_fails_leaves_the_old_file(
    function: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()
    model = fastnn.load(saved)
    train(model, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse)
        with pytest.raises(OSError, match="No space left"):
            model.save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]
    model.save(saved)
    assert saved.read_bytes() != before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_write_that_stops_half_way_leaves_the_old_file(saved: Path) -> None:
    """The system itself refuses here, at 1000 bytes."""
    resource = pytest.importorskip("resource", reason="the system has no resource limits")
    before = saved.read_bytes()
    assert len(before) > 1000
    model = fastnn.load(saved)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            model.save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        network().save(tmp_path / "nowhere" / "net.safetensors")


# Files that are not to be believed


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"load: no such file: .*nothing\.safetensors"):
        fastnn.load(tmp_path / "nothing.safetensors")


def test_a_file_with_more_at_its_end_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"load: .*net\.safetensors cannot be loaded"):
        fastnn.load(saved)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip", b"\x80\x04\x95 a pickle", b"\xff" * 64, bytes(64)]
)
def test_garbage_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be loaded"):
        fastnn.load(path)


def test_safetensors_of_another_tool_are_refused(path: Path) -> None:
    save_file({"weight": np.ones((2, 2), np.float32)}, path)
    with pytest.raises(ValueError, match="it holds no model of fastnn's"):
        fastnn.load(path)
    save_file({"weight": np.ones((2, 2), np.float32)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="it holds no model of fastnn's"):
        fastnn.load(path)


def edited(saved: Path, change: Callable[[dict[str, Any], dict[str, Array]], Any]) -> None:
    """Write the file again with its description and tensors changed, and the checksums right."""
    tensors = load_file(saved)
    with safe_open(saved, framework="numpy") as file:
        described = json.loads(file.metadata()["fastnn"])
    for added in ("checksum", "arrays"):
        del described[added]
    change(described, tensors)
    serialization.write(saved, described, tensors)


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Array]], Any], str]] = {
    "a tensor is missing": (lambda d, t: t.pop("layers.2.kernel"), r"layers\.2\.kernel"),
    "a moment is missing": (lambda d, t: t.pop("optimizer.v"), r"optimizer\.v"),
    "a tensor has another shape": (
        lambda d, t: t.update({"layers.0.bias": np.zeros(9, np.float32)}),
        r"layers\.0\.bias.*\(9,\)",
    ),
    "a tensor has another type": (
        lambda d, t: t.update({"layers.0.bias": np.zeros(8, np.float64)}),
        r"layers\.0\.bias.*float64",
    ),
    "a moment has another shape": (
        lambda d, t: t.update({"optimizer.m": np.zeros(1, np.float32)}),
        r"optimizer\.m",
    ),
    "a weight is NaN": (
        lambda d, t: t["layers.0.bias"].fill(np.nan),
        r"bias.*finite",
    ),
    "a tensor is too many": (
        lambda d, t: t.update({"layers.9.kernel": np.zeros((2, 2), np.float32)}),
        r"layers\.9\.kernel",
    ),
    "a later format": (
        lambda d, t: d.update(format=3, fastnn="9.0"),
        "its format is 3, this version reads 2; fastnn 9.0 wrote it",
    ),
    "a format without checksums": (
        lambda d, t: d.update(format=1),
        "its format is 1, this version reads 2",
    ),
    "no format": (lambda d, t: d.update(format=None), "its format is None"),
    "an unknown layer": (lambda d, t: d["layers"][0].update({"class": "Sparse"}), "class Sparse"),
    "an unknown optimizer": (
        lambda d, t: d["compiled"]["optimizer"].update({"class": "Tiger"}),
        "class Tiger",
    ),
    "an unknown loss": (
        lambda d, t: d["compiled"]["loss"].update({"class": "Nonesuch"}),
        "class Nonesuch",
    ),
    "an argument too many": (lambda d, t: d["layers"][0]["config"].update(width=5), "width"),
    "an argument that is wrong": (
        lambda d, t: d["layers"][0]["config"].update(units=-8),
        "units must be at least 1, got -8",
    ),
    "a step that is no number": (lambda d, t: d.update(step="many"), "step|many"),
    "epochs that are no number": (lambda d, t: d.update(epochs_done="many"), "epochs_done|many"),
    "layers that are no list": (lambda d, t: d.update(layers=5), "cannot be loaded"),
    "layers that are a list of nothing": (lambda d, t: d.update(layers=[1]), "cannot be loaded"),
    "a base class": (
        lambda d, t: d["layers"][1].update({"class": "Layer", "config": {}}),
        "Layer",
    ),
    "a layer larger than any memory": (
        lambda d, t: d["layers"][0]["config"].update(units=10**14),
        "shape",
    ),
    "an empty description": (lambda d, t: d.clear(), "layers"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_file_that_does_not_fit_is_refused(case: str, saved: Path) -> None:
    change, message = CHANGES[case]
    edited(saved, change)
    with pytest.raises(ValueError, match=r"(?s)net\.safetensors cannot be loaded: ") as caught:
        fastnn.load(saved)
    assert caught.match(message)


def test_preprocessing_is_saved_with_the_model(path: Path) -> None:
    model = network()
    assert model.preprocessing is None
    model.preprocessing = {"kind": "my own", "scale": [1.5, 2.5]}
    model.save(path)
    assert fastnn.load(path).preprocessing == {"kind": "my own", "scale": [1.5, 2.5]}
    model.preprocessing = {"scale": np.ones(3)}
    with pytest.raises(TypeError, match="JSON"):
        model.save(path)
    assert fastnn.load(path).preprocessing == {"kind": "my own", "scale": [1.5, 2.5]}
