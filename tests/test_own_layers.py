"""Layers of the user's own, written in Python: they train as fastnn's would."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn

Array = NDArray[Any]

FEATURES, CLASSES, ROWS = 7, 3, 45


class OwnReLU(fastnn.Layer):
    """ReLU by NumPy: no rounding, so the same bits."""

    def forward(self, x: Array, training: bool = False) -> Array:
        self.y = np.maximum(x, 0)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * (self.y > 0)


class OwnDense(fastnn.Layer):
    """Dense by NumPy, with its parameters looked up in `params`."""

    def __init__(self, units: int, name: str | None = None) -> None:
        super().__init__(name)
        self.units = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.add_weight("kernel", (input_shape[0], self.units), "glorot_uniform")
        self.add_weight("bias", (self.units,), "zeros")

    def forward(self, x: Array, training: bool = False) -> Array:
        self.x = x
        return x @ self.params["kernel"] + self.params["bias"]

    def backward(self, dy: Array) -> Array:
        self.grads["kernel"] = self.x.T @ dy
        self.grads["bias"] = dy.sum(axis=0)
        return dy @ self.params["kernel"].T

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units, "name": self.name}


class KerasDense(OwnDense):
    """The same as one writes it for Keras: `build` keeps what `add_weight` returned."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight("kernel", (input_shape[0], self.units))
        self.bias = self.add_weight("bias", (self.units,), "zeros")

    def forward(self, x: Array, training: bool = False) -> Array:
        self.x = x
        return x @ self.kernel + self.bias

    def backward(self, dy: Array) -> Array:
        self.grads["kernel"][...] = self.x.T @ dy
        self.grads["bias"][...] = dy.sum(axis=0)
        return dy @ self.kernel.T


class Halves(fastnn.Layer):
    """Each row twice as long: another shape comes out, found by trying."""

    def forward(self, x: Array, training: bool = False) -> Array:
        return np.concatenate([x, -x], axis=1)

    def backward(self, dy: Array) -> Array:
        return dy[:, : dy.shape[1] // 2] - dy[:, dy.shape[1] // 2 :]


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(ROWS, FEATURES)), rng.integers(0, CLASSES, ROWS)


def network(first: fastnn.Layer, activation: fastnn.Layer, dtype: str) -> fastnn.Sequential:
    model = fastnn.Sequential(
        [
            first,
            activation,
            fastnn.Dropout(0.2),
            fastnn.Dense(CLASSES, activation="softmax"),
        ],
        input_shape=(FEATURES,),
        dtype=dtype,
        seed=4,
    )
    model.compile(fastnn.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    return model


def train(model: fastnn.Sequential) -> dict[str, list[float]]:
    x, y = data()
    return model.fit(x, y, batch_size=16, epochs=4, validation_split=0.2, verbose=0).history


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_without_weights_trains_to_the_same_bits(dtype: str) -> None:
    own = network(fastnn.Dense(9), OwnReLU(), dtype)
    reference = network(fastnn.Dense(9), fastnn.ReLU(), dtype)
    assert train(own) == train(reference)
    np.testing.assert_array_equal(own.parameters, reference.parameters)
    np.testing.assert_array_equal(own.predict(data()[0]), reference.predict(data()[0]))


@pytest.mark.parametrize("kind", [OwnDense, KerasDense])
def test_a_layer_with_weights_trains_like_dense(kind: type[OwnDense]) -> None:
    """The order of NumPy's sums is its own: the same to rounding, not to the bit."""
    own = network(kind(9), fastnn.ReLU(), "float64")
    reference = network(fastnn.Dense(9), fastnn.ReLU(), "float64")
    np.testing.assert_array_equal(own.parameters, reference.parameters)  # one start by one seed
    own_history, history = train(own), train(reference)
    np.testing.assert_allclose(own.parameters, reference.parameters, rtol=1e-9, atol=1e-12)
    for name, values in history.items():
        np.testing.assert_allclose(own_history[name], values, rtol=1e-9)


def test_weights_of_an_own_layer_are_live_and_saved(tmp_path: Path) -> None:
    model = network(KerasDense(9), fastnn.ReLU(), "float64")
    x, _ = data()
    train(model)
    model.save(tmp_path / "own.safetensors")
    loaded = fastnn.load(tmp_path / "own.safetensors", custom_objects={"KerasDense": KerasDense})
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert train(loaded) == train(model)
    model.parameters[:] = 0
    np.testing.assert_allclose(model.predict(x), 1 / CLASSES)


def test_an_own_layer_between_all_kinds_of_layers() -> None:
    """Of another shape, first, last, and without an `__init__`."""
    x, y = data()
    model = fastnn.Sequential(
        [Halves(), fastnn.Dense(4, "tanh"), Halves(), fastnn.Dense(CLASSES, "softmax"), OwnReLU()],
        seed=1,
    )
    model.compile("adam", "categorical_crossentropy")
    losses = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.layers[0].output_shape == (2 * FEATURES,)
    assert model.count_params() == (2 * FEATURES + 1) * 4 + (8 + 1) * CLASSES


def test_a_model_of_own_layers_only() -> None:
    x, _ = data()
    model = fastnn.Sequential([OwnDense(2)], (FEATURES,), dtype="float64", seed=1)
    model.compile(fastnn.SGD(0.1), "mse")
    y = x[:, :2]
    losses = model.fit(x, y, epochs=100, verbose=0).history["loss"]
    assert losses[-1] < 1e-3 * losses[0]


class WrongForward(OwnReLU):
    def forward(self, x: Array, training: bool = False) -> Array:
        return super().forward(x)[:-1] if training else super().forward(x)


class WrongBackward(OwnReLU):
    def backward(self, dy: Array) -> Array:
        return dy[:, :-1]


class Failing(OwnReLU):
    def backward(self, dy: Array) -> Array:
        raise LookupError("of the user's")


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (WrongForward, ValueError, r"wrong_forward_1.forward returned shape \(15, 9\)"),
        (WrongBackward, ValueError, r"wrong_backward_1.backward returned shape \(16, 8\)"),
        (Failing, LookupError, "of the user's"),
    ],
)
def test_what_is_wrong_with_an_own_layer_is_said(
    kind: type[OwnReLU], error: type[Exception], message: str
) -> None:
    model = network(fastnn.Dense(9), kind(), "float32")
    x, y = data()
    before = model.parameters.copy()
    with pytest.raises(error, match=message):
        model.fit(x, y, batch_size=16, verbose=0)
    np.testing.assert_array_equal(model.parameters, before)


class Nothing(fastnn.Layer):
    pass


class OnlyForward(fastnn.Layer):
    def forward(self, x: Array, training: bool = False) -> Array:
        return x


def test_a_layer_that_lacks_a_way_is_named() -> None:
    with pytest.raises((NotImplementedError, TypeError), match=r"(?i)nothing.*forward"):
        fastnn.Sequential([Nothing()], input_shape=(3,))
    model = network(fastnn.Dense(9), OnlyForward(), "float32")
    model.predict(data()[0])
    with pytest.raises((NotImplementedError, TypeError), match=r"(?i)only_?forward.*backward"):
        model.train_on_batch(*data())
