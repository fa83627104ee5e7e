"""Penalties and constraints of weights, and penalties of outputs: Keras's, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn import constraints, regularizers, schedules
from fastnn.engine import shapes
from fastnn.engine.program import Program
from fastnn.training import planner
from helpers import assert_close

Array = NDArray[Any]

STEPS = 20

# Arguments of the hidden layer, as both libraries have them.
LIMITS: dict[str, dict[str, tuple[str, str, dict[str, Any]]]] = {
    "l1": {"kernel_regularizer": ("regularizers", "L1", {"l1": 0.05})},
    "l2": {"kernel_regularizer": ("regularizers", "L2", {"l2": 0.05})},
    "both, everywhere": {
        "kernel_regularizer": ("regularizers", "L1L2", {"l1": 0.02, "l2": 0.1}),
        "bias_regularizer": ("regularizers", "L1L2", {"l1": 0.01, "l2": 0.2}),
        "activity_regularizer": ("regularizers", "L1L2", {"l1": 0.03, "l2": 0.01}),
    },
    "max norm": {"kernel_constraint": ("constraints", "MaxNorm", {"max_value": 0.6})},
    "max norm of rows": {
        "kernel_constraint": ("constraints", "MaxNorm", {"max_value": 0.6, "axis": 1})
    },
    "non-negative": {
        "kernel_constraint": ("constraints", "NonNeg", {}),
        "bias_constraint": ("constraints", "NonNeg", {}),
    },
    "unit norm": {
        "kernel_constraint": ("constraints", "UnitNorm", {}),
        "bias_constraint": ("constraints", "UnitNorm", {}),
    },
    "norm in an interval": {
        "kernel_constraint": (
            "constraints",
            "MinMaxNorm",
            {"min_value": 0.7, "max_value": 0.8, "rate": 0.4},
        )
    },
}


def arguments(library: Any, limits: str) -> dict[str, Any]:
    return {
        argument: getattr(getattr(library, room), name)(**own)
        for argument, (room, name, own) in LIMITS[limits].items()
    }


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(11, 5)), rng.normal(size=(11, 3))


def network(limits: str, dtype: str = "float64") -> fastnn.Sequential:
    first = fastnn.Dense(7, "tanh", bias_initializer="ones", **arguments(fastnn, limits))
    model = fastnn.Sequential([first, fastnn.Dense(3)], (5,), dtype=dtype, seed=3)
    model.compile(fastnn.SGD(0.05, momentum=0.5), "mse")
    return model


@pytest.mark.parametrize("limits", LIMITS)
def test_training_follows_keras(limits: str, keras_in_float64: Any) -> None:
    """Its regularizers and constraints; products by PyTorch, for Keras's there are in float32."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = arguments(keras_in_float64, limits)
    own, (x, y) = network(limits), data()
    tx, ty = torch.tensor(x), torch.tensor(y)
    w = [torch.tensor(a, requires_grad=True) for a in own.get_weights()]
    optimizer = torch.optim.SGD(w, lr=0.05, momentum=0.5)
    for _ in range(STEPS):
        hidden = torch.tanh(tx @ w[0] + w[1])
        loss = ((hidden @ w[2] + w[3] - ty) ** 2).mean()
        for of, values, rows in (("kernel", w[0], 1), ("bias", w[1], 1), ("activity", hidden, 11)):
            if (penalty := theirs.get(f"{of}_regularizer")) is not None:
                loss = loss + penalty(values) / rows
        assert_close(own.evaluate(x, y)["loss"], loss.item(), scale=100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for of, values in (("kernel", w[0]), ("bias", w[1])):
            if (constraint := theirs.get(f"{of}_constraint")) is not None:
                with torch.no_grad():  # Keras's own product with 0 and 1 is in float32
                    values.copy_((torch.relu if limits == "non-negative" else constraint)(values))
        assert_close(own.train_on_batch(x, y)["loss"], loss.item(), scale=100)
    for weights, expected in zip(own.get_weights(), w, strict=True):
        np.testing.assert_allclose(weights, expected.detach().numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("limits", LIMITS)
def test_batches_eager_and_compiled_are_the_same_bits(limits: str) -> None:
    x, y = data()
    compiled, eager = network(limits, "float32"), network(limits, "float32")
    eager.layers[0].__class__ = type("Watched", (fastnn.Dense,), {"in_python": True})
    for model in (compiled, eager):
        model.fit(x, y, batch_size=4, epochs=3, verbose=0)
    assert compiled.parameters.tobytes() == eager.parameters.tobytes()
    assert compiled.evaluate(x, y) == eager.evaluate(x, y)


@pytest.mark.parametrize("limits", [name for name in LIMITS if "norm" in name])
def test_by_hand_is_a_fit(limits: str) -> None:
    x, y = data()
    model, by_hand = network(limits), network(limits)
    optimizer, loss = fastnn.SGD(0.05, momentum=0.5), fastnn.MeanSquaredError()
    for _ in range(3):
        model.train_on_batch(x, y)
        loss.forward(by_hand(x, training=True), y)
        gradient = loss.backward()
        for layer in reversed(by_hand.layers):
            gradient = layer.backward(gradient)
        optimizer.update(by_hand.layers)
    assert_close(model.parameters, by_hand.parameters)


def test_gradients_of_penalties_pass_the_check() -> None:
    x, y = data()
    assert max(fastnn.gradcheck(network("both, everywhere"), x, y).values()) < 1e-6


def test_the_loss_is_the_same_in_batches() -> None:
    """The penalty of weights counts once, that of outputs is the mean over all rows."""
    x, y = data()
    model = network("both, everywhere")
    whole, parts = (model.evaluate(x, y, batch_size=rows)["loss"] for rows in (11, 4))
    assert_close(parts, whole)
    layer = model.layers[0]
    output = np.tanh(x @ layer.kernel + layer.bias)
    penalty = (
        0.02 * abs(layer.kernel).sum()
        + 0.1 * (layer.kernel**2).sum()
        + 0.01 * abs(layer.bias).sum()
        + 0.2 * (layer.bias**2).sum()
        + (0.03 * abs(output).sum() + 0.01 * (output**2).sum()) / 11
    )
    error = ((model.predict(x) - y) ** 2).mean()
    assert_close(whole, error + penalty, scale=10)
    layer.forward(x, training=True)
    assert_close(layer.penalty(), penalty, scale=10)


@pytest.mark.parametrize("limits", ["l2", "both, everywhere", "max norm"])
def test_updates_stay_fused_where_they_can(limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A penalty's gradient goes into a large kernel's product; one of its bias stops that."""
    x, y = (array.astype(np.float32) for array in data())
    plain = network(limits, "float32")
    plain.fit(x, y, batch_size=4, epochs=3, verbose=0)
    monkeypatch.setattr(shapes, "UPDATE_BYTES", 1)
    fused = network(limits, "float32")
    program = Program(4, "float32", training=True)
    handles = [program.external(n, (0, a.shape[1]), "float32") for n, a in (("x", x), ("y", y))]
    assert fused.loss is not None
    assert fused.optimizer is not None
    planner.training_step(
        program, fused.layers, fused.loss, [], fused.optimizer, fused.flat(),
        planner.Sources(*handles), "float32",
    )  # fmt: skip
    program.fuse()
    finishes = [
        [finish.signature.name for finish in call.finish]
        for call in program.calls
        if call.signature.name == "dense_backward_kernel"
    ]
    first = {"l2": ["penalty_gradient", "sgd"], "max norm": ["sgd"]}.get(limits, [])
    assert sorted(finishes) == sorted([first, ["sgd"]])
    fused.fit(x, y, batch_size=4, epochs=3, verbose=0)
    assert fused.parameters.tobytes() == plain.parameters.tobytes()


def test_averages_are_of_weights_within_their_constraints() -> None:
    x, y = data()
    model = network("unit norm")
    model.compile(fastnn.SGD(0.05, use_ema=True, ema_momentum=0.0), "mse")
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(model.layers[0].kernel, axis=0), 1.0, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (513,), (3, 700), (2, 3, 5, 7)])
def test_norms_of_any_axis_and_rank(shape: tuple[int, ...]) -> None:
    """700 columns are more than are summed up at a time."""
    for axis in range(-len(shape), len(shape)):
        layer = fastnn.Layer()
        w = layer.add_weight(
            "w", shape, "random_normal", constraint=constraints.UnitNorm(axis=axis)
        )
        before = w.astype(np.float64)
        layer.grads["w"][...] = 0.0
        fastnn.SGD().update(layer)
        norms = np.sqrt((before**2).sum(axis=axis, keepdims=True))
        assert_close(w, before / (norms + 1e-7), scale=2)


def test_frozen_weights_are_not_touched_and_cost_nothing(keras: Any) -> None:
    x, y = data()
    model = network("l2")
    assert model.layers[0].penalty() > 0
    model.layers[0].trainable = False
    kernel = model.layers[0].kernel.copy()
    assert_close(model.evaluate(x, y)["loss"], ((model.predict(x) - y) ** 2).mean(), scale=10)
    model.fit(x, y, epochs=2, verbose=0)
    np.testing.assert_array_equal(model.layers[0].kernel, kernel)
    theirs = keras.layers.Dense(7, kernel_regularizer="l2")
    theirs.build((5,))
    assert len(theirs.losses) == 1
    theirs.trainable = False
    assert len(theirs.losses) == 0  # as there


def test_a_penalty_that_is_infinite_stops_training() -> None:
    x, y = data()
    model = fastnn.Sequential(
        [fastnn.Dense(3, kernel_regularizer=regularizers.L2(1e308))], (5,), dtype="float64", seed=1
    )
    model.compile(fastnn.SGD(schedules.ExponentialDecay(0.1, 1, 0.5)), "mse")
    before = model.parameters.copy()
    model.layers[0].kernel[0, 0] = before[0] = 10.0
    with pytest.raises(fastnn.DivergenceError):
        model.fit(x, y, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: regularizers.L1(-0.1), ValueError, r"L1: l1 must be .* \[0, inf\), got -0.1"),
        (lambda: regularizers.L2(math.inf), ValueError, "L2: l2"),
        (lambda: regularizers.L1L2(l2=math.nan), ValueError, "L1L2: l2"),
        (lambda: constraints.MaxNorm(-1.0), ValueError, "MaxNorm: max_value"),
        (lambda: constraints.MinMaxNorm(2.0, 1.0), ValueError, "min_value must be at most"),
        (lambda: constraints.MinMaxNorm(rate=1.5), ValueError, r"rate must be .* \[0, 1\]"),
        (lambda: constraints.UnitNorm(axis=0.5), TypeError, "UnitNorm: axis"),
        (
            lambda: fastnn.Dense(3, kernel_regularizer="l3"),
            ValueError,
            "Dense: kernel_regularizer must be one of l1, l2, l1_l2, got 'l3'",
        ),
        (
            lambda: fastnn.Dense(3, bias_constraint=2.0),
            TypeError,
            "Dense: bias_constraint must be a name or a Constraint, got 2.0",
        ),
        (
            lambda: fastnn.Sequential(
                [fastnn.Dense(3, kernel_constraint=constraints.UnitNorm(axis=2))], (5,)
            ),
            ValueError,
            r"kernel_constraint: axis of UnitNorm must be in \[-2, 1\] .* shape \(5, 3\), got 2",
        ),
        (
            lambda: fastnn.Layer().add_weight("w", (2,), trainable=False, regularizer="l1"),
            ValueError,
            "w is not trained",
        ),
    ],
)
def test_wrong_arguments_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_penalty_of_weights_does_not_depend_on_rows() -> None:
    layer = fastnn.Dense(3, kernel_regularizer="l2", kernel_initializer="ones")
    layer.forward(np.ones((5, 2)), training=True)
    before = layer.penalty()
    layer.forward(np.ones((0, 2)), training=True)
    assert_close(layer.penalty(), before)
    assert before > 0
