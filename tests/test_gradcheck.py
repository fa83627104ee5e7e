"""`gradcheck` finds right gradients right and wrong ones wrong, and leaves the model alone."""

import doctest
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from door_cases import frozen, refused
from fastnn import losses
from fastnn.training import gradcheck as room

Array = NDArray[Any]

ROWS, FEATURES = 7, 5
X = np.random.default_rng(51).normal(size=(ROWS, FEATURES))


class Scale(fastnn.Layer):
    """Each feature times a weight; with `fault` its gradient is that much too large."""

    def __init__(self, fault: float = 0.0, name: str | None = None) -> None:
        super().__init__(name)
        self.fault = fault

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.add_weight("factor", input_shape, "ones")

    def forward(self, x: Array, training: bool = False) -> Array:
        self.x = x
        return x * self.params["factor"]

    def backward(self, dy: Array) -> Array:
        self.grads["factor"] = (1 + self.fault) * (dy * self.x).sum(axis=0)
        return dy * self.params["factor"]

    def get_config(self) -> dict[str, Any]:
        return {"fault": self.fault, "name": self.name}


def network(loss: Any, *more: fastnn.Layer, **options: Any) -> fastnn.Sequential:
    model = fastnn.Sequential(
        [
            fastnn.Dense(8, "tanh"),
            fastnn.Dropout(0.4),
            *more,
            fastnn.Dense(6, "sigmoid"),
            fastnn.Dense(3, "softmax"),
        ],
        **{"input_shape": (FEATURES,), "seed": 4, **options},
    )
    model.compile("adam", loss)
    return model


def targets_of(loss: fastnn.Loss) -> Array:
    labels = np.arange(ROWS) % 3
    return labels if loss.targets == "classes" else np.eye(3)[labels]


@pytest.mark.parametrize("name", sorted({kind.name for kind in losses.LOSSES.values()}))
@pytest.mark.parametrize("weights", [None, np.linspace(0.0, 2.0, ROWS)], ids=["", "weighted"])
def test_right_gradients_pass(name: str, weights: Array | None) -> None:
    loss = losses.check(name)
    model = network(loss)
    errors = fastnn.gradcheck(model, X, targets_of(loss), weights)
    assert list(errors) == [
        f"dense_{index}.{array}" for index in (0, 2, 3) for array in ("kernel", "bias")
    ]
    assert max(errors.values()) <= 1e-5


def test_a_smoothed_loss_and_a_layer_in_python() -> None:
    model = network(fastnn.CategoricalCrossentropy(label_smoothing=0.2), Scale())
    assert "scale_2.factor" in fastnn.gradcheck(model, X, np.arange(ROWS) % 3)


@pytest.mark.parametrize("fault", [-2.0, 1e-3, 2e-5])
def test_a_wrong_gradient_is_named(fault: float) -> None:
    model = network("mse", Scale(fault))
    with pytest.raises(fastnn.GradientError, match=r"1e-05 of their size: scale_2\.factor \(") as e:
        fastnn.gradcheck(model, X, np.eye(3)[np.arange(ROWS) % 3])
    wrong = [name for name, error in e.value.errors.items() if error > 1e-5]
    assert wrong == ["scale_2.factor"]
    assert fastnn.gradcheck(model, X, np.eye(3)[np.arange(ROWS) % 3], tolerance=3.0)


def test_masks_are_those_of_the_next_step() -> None:
    """Without a fixed mask, no difference would be near a gradient; each step has its own."""
    model = network("mse", seed=6)
    y = np.eye(3)[np.arange(ROWS) % 3]
    first = fastnn.gradcheck(model, X, y)
    assert fastnn.gradcheck(model, X, y) == first
    weights = model.get_weights()
    model.train_on_batch(X, y)
    model.set_weights(weights)
    assert fastnn.gradcheck(model, X, y) != first


@pytest.mark.parametrize("built", [True, False])
def test_the_model_is_left_alone(built: bool) -> None:
    model = network("categorical_crossentropy", input_shape=(FEATURES,) if built else None)
    if built:
        model.fit(X, np.arange(ROWS) % 3, verbose=0)
    before = frozen(model)
    fastnn.gradcheck(model, X, np.arange(ROWS) % 3)
    assert frozen(model) == before


def test_large_arrays_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    difference = room.difference

    def spy(trial: Any, w: Array, index: int, step: float) -> float:
        looked_at.append(w.size)
        return difference(trial, w, index, step)

    monkeypatch.setattr(room, "difference", spy)
    fastnn.gradcheck(network("mse"), X, np.eye(3)[np.arange(ROWS) % 3], entries=7)
    sizes = (5 * 8, 8, 8 * 6, 6, 6 * 3, 3)
    assert looked_at == [size for size in sizes for _ in range(min(size, 7))]


class Stubborn(Scale):
    """A layer that does not say what it was made with."""

    def __init__(self, must: int) -> None:
        super().__init__()

    def get_config(self) -> dict[str, Any]:
        return {}


def test_the_door() -> None:
    y = np.arange(ROWS) % 3
    model = network("categorical_crossentropy")
    for arguments, words in (
        ({"epsilon": 0}, r"gradcheck: epsilon must be a number in \(0, inf\), got 0"),
        ({"tolerance": -1.0}, "gradcheck: tolerance must be"),
        ({"entries": 0}, "gradcheck: entries must be at least 1, got 0"),
        ({"y": y + 1}, "y must hold labels from 0 to 2, got 3"),
        ({"x": X[:, 1:]}, r"x must have rows of shape \(5,\)"),
        ({"x": np.full_like(X, np.nan)}, "x must be finite"),
    ):
        with refused(model, words):
            fastnn.gradcheck(**{"model": model, "x": X, "y": y, **arguments})
    stubborn = network("categorical_crossentropy", Stubborn(1))
    with refused(stubborn, "stubborn_2 cannot be made again of its get_config"):
        fastnn.gradcheck(stubborn, X, y)
    raw = fastnn.Sequential([fastnn.Dense(1)])
    with refused(raw, r"gradcheck: call compile"):
        fastnn.gradcheck(raw, X, y)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    model = fastnn.Sequential([fastnn.Dense(1)], (FEATURES,), seed=1)
    model.compile("sgd", "poisson")
    model.layers[0].bias[...] = -100.0
    with refused(model, "gradcheck: the loss is infinite or NaN"):
        fastnn.gradcheck(model, X, np.ones(ROWS))


def test_docstring_examples() -> None:
    result = doctest.testmod(room)
    assert result.attempted >= 4
    assert result.failed == 0


def test_layers_with_functions_for_arguments_are_made_again_with_them() -> None:
    def start(shape: tuple[int, ...], generator: np.random.Generator) -> Any:
        return generator.normal(size=shape)

    rng = np.random.default_rng(5)
    model = fastnn.Sequential([fastnn.Dense(3, "tanh", kernel_initializer=start), fastnn.Dense(2)])
    model.compile("sgd", "mse")
    errors = fastnn.gradcheck(model, rng.normal(size=(6, 4)), rng.normal(size=(6, 2)))
    assert max(errors.values()) < 1e-4
