"""Files of Keras: Keras writes them, and is the oracle of what they hold."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from door_cases import refused
from fastnn import layers
from fastnn.io import from_keras_weights
from helpers import assert_close

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

Array = NDArray[Any]

DENSE: dict[str, Any] = {
    "units": 5,
    "activation": "gelu",
    "kernel_initializer": "he_normal",
    "bias_regularizer": "l2",
    "kernel_constraint": "max_norm",
}

CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "Dense": ("Dense", DENSE, (4,)),
    "Dense without bias": ("Dense", {"units": 1, "use_bias": False}, (4,)),
    "Activation": ("Activation", {"activation": "leaky_relu"}, (4,)),
    "ReLU": ("ReLU", {}, (4,)),
    "LeakyReLU": ("LeakyReLU", {}, (4,)),  # of slope 0.3, unlike fastnn's
    "ELU": ("ELU", {"alpha": 0.5}, (3, 4)),
    "PReLU": ("PReLU", {"shared_axes": [1]}, (3, 4)),
    "Softmax": ("Softmax", {}, (4,)),
    "Dropout": ("Dropout", {"rate": 0.3, "seed": 7}, (4,)),
    "AlphaDropout": ("AlphaDropout", {"rate": 0.3}, (4,)),
    "SpatialDropout1D": ("SpatialDropout1D", {"rate": 0.3}, (3, 4)),
    "GaussianDropout": ("GaussianDropout", {"rate": 0.3}, (4,)),
    "GaussianNoise": ("GaussianNoise", {"stddev": 0.3}, (4,)),
    "ActivityRegularization": ("ActivityRegularization", {"l1": 0.1}, (4,)),
    "Flatten": ("Flatten", {}, (3, 4)),
    "Reshape": ("Reshape", {"target_shape": (2, -1)}, (3, 4)),
    "BatchNormalization": ("BatchNormalization", {"momentum": 0.7, "trainable": False}, (3, 4)),
    "LayerNormalization": ("LayerNormalization", {"epsilon": 0.1, "center": False}, (3, 4)),
    "Normalization": ("Normalization", {}, (3, 4)),
    "Normalization by given": ("Normalization", {"mean": 2.0, "variance": 4.0}, (3, 4)),
    "Rescaling": ("Rescaling", {"scale": 0.5, "offset": 0.25}, (3, 4)),
}


def drawn(model: Any) -> Any:
    """The model with all of its numbers away from where they begin."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if type(layer).__name__ == "Normalization" and layer.input_mean is None:
            layer.adapt(rng.normal(size=(9, *layer.get_build_config()["input_shape"][1:])))
            continue
        layer.set_weights([rng.uniform(0.2, 1.2, w.shape) for w in layer.get_weights()])
    return model


def rows(shape: Any) -> Array:
    return np.random.default_rng(2).normal(size=(5, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_a_layer_is_built_and_gets_its_weights(name: str, keras: Any, tmp_path: Path) -> None:
    kind, arguments, shape = CASES[name]
    source = drawn(
        keras.Sequential([keras.Input(shape), getattr(keras.layers, kind)(**arguments, name="it")])
    )
    source.save(tmp_path / "net.keras")
    model = from_keras_weights(tmp_path / "net.keras", seed=3)
    (layer,) = model.layers
    assert (type(layer).__name__, layer.name, model.seed) == (kind, "it", 3)
    for own, reference in zip(model.get_weights(), source.get_weights(), strict=True):
        if own.shape:  # not Normalization's number of rows
            np.testing.assert_array_equal(own, reference)
    x = rows(shape)
    expected = source(x, training=False).detach().numpy()
    assert_close(model(x), expected, scale=2)  # both are rounded


def test_arguments_of_training_are_kept(keras: Any, tmp_path: Path) -> None:
    source = keras.Sequential([keras.Input((4,)), keras.layers.Dense(**DENSE)])
    source.add(keras.layers.BatchNormalization(momentum=0.7, trainable=False))
    source.save(tmp_path / "net.keras")
    dense, norm = from_keras_weights(tmp_path / "net.keras").layers
    assert isinstance(dense, layers.Dense)
    assert isinstance(norm, layers.BatchNormalization)
    assert repr(dense.bias_regularizer) == repr(fastnn.regularizers.L2(0.01))
    assert repr(dense.kernel_constraint) == repr(fastnn.constraints.MaxNorm(2.0))
    assert (norm.momentum, norm.trainable) == (0.7, False)


def stack(keras: Any) -> Any:
    """Several layers of a class, which files number, and a skip connection."""
    ends = keras.Input((4,))
    x = keras.layers.Dense(6, "relu", name="any name")(ends)
    inner = keras.layers.Dense(3, "tanh")(keras.layers.Dropout(0.2)(x))
    x = keras.layers.Add()([x, keras.layers.Dense(6)(inner)])
    x = keras.layers.PReLU()(keras.layers.BatchNormalization()(x))
    return drawn(keras.Model(ends, keras.layers.Dense(2, "softmax")(x)))


def twin() -> fastnn.Sequential:
    return fastnn.Sequential(
        [
            layers.Dense(6, "relu"),
            layers.Residual([layers.Dropout(0.2), layers.Dense(3, "tanh"), layers.Dense(6)]),
            *(layers.BatchNormalization(), layers.PReLU(), layers.Dense(2, "softmax")),
        ],
        (4,),
        seed=0,
    )


@pytest.mark.parametrize("ending", ["weights.h5", "keras"])
def test_a_model_gets_the_weights_of_a_file(ending: str, keras: Any, tmp_path: Path) -> None:
    source, model, path = stack(keras), twin(), tmp_path / f"net.{ending}"
    source.save(path) if ending == "keras" else source.save_weights(path)
    assert from_keras_weights(path, model) is model
    x = rows((4,))
    assert_close(model.predict(x), source(x, training=False).detach().numpy(), scale=2)
    model.compile("adam", "categorical_crossentropy")
    model.fit(x, np.arange(5) % 2, epochs=2, verbose=0)


def test_float64_stays_float64(keras_in_float64: Any, tmp_path: Path) -> None:
    keras = keras_in_float64
    source = drawn(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh")]))
    source.save(tmp_path / "net.keras")
    model = from_keras_weights(tmp_path / "net.keras")
    assert model.dtype == "float64"
    for own, reference in zip(model.get_weights(), source.get_weights(), strict=True):
        assert own.dtype == np.float64
        np.testing.assert_array_equal(own, reference)


def wrong_twins() -> dict[str, tuple[Any, str]]:
    dense = layers.Dense
    return {
        "shape": ([dense(3), dense(5)], r"dense_1.kernel must have shape \(3, 5\), got \(3, 2\)"),
        "no bias": ([dense(3), dense(2, use_bias=False)], "dense_1 has 1 arrays, the file 2"),
        "a layer more": ([dense(3), dense(2), dense(2)], "dense_2 has 2 arrays, the file 0"),
        "a layer less": ([dense(3)], "the model has no layer for layers/dense_1"),
        "another": ([dense(3), layers.PReLU(), dense(2)], "1 arrays, .*layers/p_re_lu"),
    }


@pytest.mark.parametrize("name", wrong_twins())
def test_a_file_that_does_not_fit_changes_nothing(name: str, keras: Any, tmp_path: Path) -> None:
    source = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    source.save_weights(tmp_path / "net.weights.h5")
    own, words = wrong_twins()[name]
    model = fastnn.Sequential(own, (4,), seed=0)
    with refused(model, f"from_keras_weights: .*net.weights.h5: .*{words}"):
        from_keras_weights(tmp_path / "net.weights.h5", model)


def test_what_has_no_counterpart_is_named(keras: Any, tmp_path: Path) -> None:
    of = keras.layers
    path = tmp_path / "net.keras"
    for layer, words in (
        (of.Conv1D(2, 1, name="it"), r"layer 'it' \(Conv1D\): there is no such layer"),
        (of.ReLU(max_value=6.0, name="it"), r"\(ReLU\): max_value=6.0 is not known here"),
        (of.BatchNormalization(axis=1), "axis must be -1, got 1"),
        (of.Activation("relu6"), "activation must be one of .* got 'relu6'"),
        (of.Dense(2, kernel_regularizer="orthogonal_regularizer"), "OrthogonalRegularizer is not"),
        (keras.Sequential([of.ReLU()]), "Sequential.*there is no such layer"),
    ):
        keras.Sequential([keras.Input((3, 4)), layer]).save(path)
        with pytest.raises(ValueError, match=words):
            from_keras_weights(path)
    stack(keras).save(path)
    with pytest.raises(ValueError, match="it is no Sequential but a Functional: give the model"):
        from_keras_weights(path)


def test_a_model_inside_the_model_is_refused(keras: Any, tmp_path: Path) -> None:
    inner = keras.Sequential([keras.layers.Dense(2)])
    keras.Sequential([keras.Input((4,)), inner]).save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(ValueError, match="layers/sequential is a model inside the model"):
        from_keras_weights(tmp_path / "net.weights.h5", fastnn.Sequential([layers.Dense(2)], 4))


@pytest.mark.parametrize(
    ("path", "model", "error", "words"),
    [
        ("net.h5", None, ValueError, r"must end in .keras or .weights.h5, got '.*net.h5'"),
        ("none.keras", None, FileNotFoundError, "no such file: .*none.keras"),
        ("net.weights.h5", None, ValueError, "holds weights alone: give the model"),
        ("net.weights.h5", 5, TypeError, "model must be a Sequential, got 5"),
        (
            "net.weights.h5",
            fastnn.Sequential([layers.Dense(2)]),
            RuntimeError,
            "from_keras_weights: the model is not built yet",
        ),
    ],
)
def test_wrong_arguments_are_named(
    path: str, model: Any, error: Any, words: str, tmp_path: Path
) -> None:
    (tmp_path / "net.weights.h5").write_bytes(b"")
    with pytest.raises(error, match=words):
        from_keras_weights(tmp_path / path, model)


# Files that nobody can trust


def small() -> fastnn.Sequential:
    return fastnn.Sequential([layers.Dense(2)], (4,), seed=0)


def test_links_into_other_files_are_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "net.weights.h5", tmp_path / "secret.h5"
    with h5py.File(other, "w") as file:
        file["0"], file["1"] = np.zeros((4, 2), np.float32), np.zeros(2, np.float32)

    def linked(file: Any) -> None:
        file["layers/dense/vars"] = h5py.ExternalLink(str(other), "/")

    def soft(file: Any) -> None:
        file["layers/dense/vars/0"] = h5py.SoftLink("/layers")

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((4, 2), np.float32)
        layout[:] = h5py.VirtualSource(str(other), "0", (4, 2))
        file.create_virtual_dataset("layers/dense/vars/0", layout)

    def outside(file: Any) -> None:
        where = [(str(other), 0, 32)]
        file.create_dataset("layers/dense/vars/0", (4, 2), np.float32, external=where)

    for write, words in (
        (linked, "no layers/dense/vars of its own"),
        (soft, "no layers/dense/vars/0 of its own"),
        (virtual, "/layers/dense/vars/0 lies in another file"),
        (outside, "/layers/dense/vars/0 lies in another file"),
    ):
        with h5py.File(path, "w") as file:
            write(file)
        with refused(model := small(), words):
            from_keras_weights(path, model)


def test_a_huge_array_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (1 << 40,), np.float32, chunks=True)
        file["layers/dense/vars/1"] = np.zeros(2, np.float32)
    with refused(small(), r"dense_0.kernel must have shape \(4, 2\), got \(1099511627776,\)"):
        from_keras_weights(path, small())


def test_weights_of_keras_2_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file.attrs["layer_names"] = ["dense"]
    with pytest.raises(ValueError, match="it is of Keras 2"):
        from_keras_weights(tmp_path / "net.weights.h5", small())


def test_damaged_files_are_refused_or_read(keras: Any, tmp_path: Path) -> None:
    """With 100 cuts and 200 bytes changed: an error of one kind, or a model."""
    path = tmp_path / "net.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(4)
    damaged = [whole[: len(whole) * end // 100] for end in range(100)]
    for _ in range(200):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        damaged.append(bytes(changed))
    refusals = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            from_keras_weights(path)
        except ValueError as error:
            refusals += 1
            assert str(path) in str(error)  # noqa: PT017
    assert refusals >= 100


def test_an_architecture_larger_than_its_weights_is_refused(keras: Any, tmp_path: Path) -> None:
    """The JSON text asks for some terabytes."""
    path = tmp_path / "net.keras"
    for shape, units in (((4,), 1 << 40), ((1 << 40,), 1)):
        source = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="it")])
        source.save(path)
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5")
        first, last = config["config"]["layers"]
        first["config"]["batch_shape"], last["config"]["units"] = [None, *shape], units
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", weights)
        with pytest.raises(ValueError, match="it would be larger than the file"):
            from_keras_weights(path)


def test_a_member_longer_than_the_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({}))
        archive.writestr("model.weights.h5", bytes(1 << 20))
    with pytest.raises(ValueError, match=r"model.weights.h5 would be 1048576 bytes long"):
        from_keras_weights(tmp_path / "net.keras", small())
