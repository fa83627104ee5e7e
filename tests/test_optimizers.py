"""Optimizers follow the libraries whose formulas they are, step by step, with every option.

In float64 over 100 steps, in which gradients follow the weights. Adagrad and Adam follow PyTorch,
for Keras has its epsilon elsewhere; there the oracle decays weights as Keras does. It clips all
gradients, too, for Keras on PyTorch takes their norm in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn import optimizers, schedules
from fastnn.engine import cpu
from fastnn.engine.tape import Eager
from fastnn.kernels import reference, updates
from fastnn.kernels import state as s
from helpers import assert_close
from kernel_cases import DTYPES, UPDATE_CASES

Array = NDArray[Any]

STEPS = 100
TOLERANCE = 1e-9
SHAPES = {"kernel": (5, 3), "bias": (3,)}

# A class, its arguments, and the library that it follows.
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "sgd": ("SGD", {"learning_rate": 0.05}, "keras"),
    "momentum": ("SGD", {"learning_rate": 0.02, "momentum": 0.9}, "keras"),
    "nesterov": ("SGD", {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True}, "keras"),
    "adagrad": ("Adagrad", {"learning_rate": 0.05, "epsilon": 1e-3}, "torch"),
    "rmsprop": ("RMSprop", {"learning_rate": 0.01}, "keras"),
    "rmsprop, momentum": ("RMSprop", {"learning_rate": 0.01, "momentum": 0.5}, "keras"),
    "rmsprop, centered": ("RMSprop", {"learning_rate": 0.01, "centered": True}, "keras"),
    "rmsprop, both": (
        "RMSprop",
        {"learning_rate": 0.01, "rho": 0.8, "momentum": 0.5, "centered": True, "epsilon": 1e-3},
        "keras",
    ),
    "adadelta": ("Adadelta", {"learning_rate": 0.5, "epsilon": 1e-4}, "keras"),
    "adam": ("Adam", {"learning_rate": 0.02, "epsilon": 1e-3}, "torch"),
    "amsgrad": ("Adam", {"learning_rate": 0.02, "amsgrad": True}, "torch"),
    "adamw": ("AdamW", {"learning_rate": 0.02}, "torch"),
    "nadam": ("Nadam", {"learning_rate": 0.02, "epsilon": 1e-3}, "keras"),
    "nadam, no momentum": ("Nadam", {"learning_rate": 0.02, "beta_1": 0.0}, "keras"),
    "adamax": ("Adamax", {"learning_rate": 0.02, "epsilon": 1e-3}, "keras"),
    "lion": ("Lion", {"learning_rate": 0.01}, "keras"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "alone": {},
    "decay": {},
    "weight_decay": {"weight_decay": 0.3},
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.2},
    "all": {"weight_decay": 0.1, "clipnorm": 0.25, "use_ema": True, "ema_momentum": 0.9},
}


def rates_of(kind: str, option: str, library: Any = schedules) -> Any:
    """The learning rate of a case: a schedule where it decays."""
    rate = KINDS[kind][1]["learning_rate"]
    if option not in ("decay", "all"):
        return rate
    return library.InverseTimeDecay(rate, decay_steps=10, decay_rate=0.3)


def make(kind: str, option: str = "alone") -> optimizers.Optimizer:
    name, arguments, _ = KINDS[kind]
    given = {**arguments, "learning_rate": rates_of(kind, option), **OPTIONS[option]}
    optimizer = getattr(fastnn, name)(**given)
    assert isinstance(optimizer, optimizers.Optimizer)
    return optimizer


class Path:
    """Weights from the same start on, with gradients of a bowl with noise."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        self.weights = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
        self.noise = {name: rng.normal(size=(STEPS, *shape)) for name, shape in SHAPES.items()}

    def gradients(self, weights: dict[str, Array], step: int) -> dict[str, Array]:
        return {name: 0.3 * w + 0.5 * self.noise[name][step] for name, w in weights.items()}


def own_path(optimizer: optimizers.Optimizer) -> list[Array]:
    """The weights after each step; after these, averaged ones if there are such."""
    path, layer = Path(), fastnn.Dense(3)
    layer.prepare((5,), "float64", seed=0)
    layer.kernel, layer.bias = path.weights["kernel"], path.weights["bias"]
    weights: list[Array] = []
    for step in range(STEPS):
        for name, g in path.gradients(dict(layer.params), step).items():
            layer.grads[name] = g
        optimizer.update(layer)
        weights.append(np.concatenate([w.ravel() for w in layer.params.values()]))
    if optimizer.use_ema:
        optimizer.finalize(layer)
        weights.append(np.concatenate([w.ravel() for w in layer.params.values()]))
    return weights


@functools.cache
def end_alone(kind: str) -> Array:
    """Where an optimizer arrives without an option."""
    return own_path(make(kind))[-1]


def keras_path(keras: Any, kind: str, option: str) -> list[Array]:
    name, arguments, _ = KINDS[kind]
    rate = rates_of(kind, option, keras.optimizers.schedules)
    options = {k: v for k, v in OPTIONS[option].items() if not k.startswith(("clip", "global"))}
    optimizer = getattr(keras.optimizers, name)(**{**arguments, "learning_rate": rate, **options})
    path = Path()
    variables = {name: keras.Variable(w) for name, w in path.weights.items()}
    optimizer.build(list(variables.values()))

    def now() -> dict[str, Array]:
        return {name: np.array(v.value.detach().numpy()) for name, v in variables.items()}

    weights: list[Array] = []
    for step in range(STEPS):
        gradients = clipped(path.gradients(now(), step), OPTIONS[option])
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients.values()])
        weights.append(np.concatenate([w.ravel() for w in now().values()]))
    if OPTIONS[option].get("use_ema"):
        optimizer.finalize_variable_values(list(variables.values()))
        weights.append(np.concatenate([w.ravel() for w in now().values()]))
    return weights


def torch_path(torch: Any, kind: str, option: str) -> list[Array]:
    name, arguments, _ = KINDS[kind]
    options = dict(OPTIONS[option])
    own = make(kind, option)
    rate = rates_of(kind, option)
    names = {"epsilon": "eps", "amsgrad": "amsgrad"}
    given = {"eps": 1e-7, **{names[k]: v for k, v in arguments.items() if k in names}}
    if name == "Adagrad":
        given["initial_accumulator_value"] = 0.1
    if name == "AdamW":
        given["weight_decay"] = own.weight_decay
    path = Path()
    tensors = {k: torch.tensor(w, requires_grad=True) for k, w in path.weights.items()}
    optimizer = getattr(torch.optim, name)(list(tensors.values()), lr=1.0, **given)
    weights, average = [], None
    for step in range(STEPS):
        now = {k: t.detach().numpy() for k, t in tensors.items()}
        optimizer.param_groups[0]["lr"] = eta = rate(step) if callable(rate) else rate
        gradients = clipped(path.gradients(now, step), options)
        for k, tensor in tensors.items():
            if name != "AdamW":
                decayed = reference.weight_decay(now[k], eta, options.get("weight_decay", 0.0))
                tensor.data = torch.tensor(decayed)
            tensor.grad = torch.tensor(gradients[k])
        optimizer.step()
        weights.append(np.concatenate([t.detach().numpy().ravel() for t in tensors.values()]))
        average = reference.weight_average(
            weights[0] if average is None else average, weights[-1], step + 1, 0.9
        )
    return [*weights, average] if options.get("use_ema") else weights


def clipped(gradients: dict[str, Array], options: dict[str, Any]) -> dict[str, Array]:
    """Gradients clipped by the oracle."""
    if "clipvalue" in options:
        limit = options["clipvalue"]
        return {name: np.clip(g, -limit, limit) for name, g in gradients.items()}
    if "clipnorm" in options:
        limit = options["clipnorm"]
        return {name: reference.clip_norm([g], limit)[0] for name, g in gradients.items()}
    if "global_clipnorm" in options:
        together = reference.clip_norm(list(gradients.values()), options["global_clipnorm"])
        return dict(zip(gradients, together, strict=True))
    return gradients


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_100_steps_follow_the_library(
    kind: str, option: str, request: pytest.FixtureRequest
) -> None:
    if KINDS[kind][2] == "keras":
        expected = keras_path(request.getfixturevalue("keras_in_float64"), kind, option)
    else:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        expected = torch_path(torch, kind, option)
    actual = own_path(make(kind, option))
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)
    # It went somewhere, and options made a difference.
    assert abs(actual[-1] - actual[0]).max() > 100 * TOLERANCE
    if option != "alone":
        assert abs(actual[-1] - end_alone(kind)).max() > 100 * TOLERANCE


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_gradients_are_clipped_as_by_keras(option: str, keras: Any) -> None:
    rng = np.random.default_rng(1)
    gradients = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    by_keras = keras.optimizers.SGD(**OPTIONS[option])._clip_gradients(
        [keras.ops.convert_to_tensor(g) for g in gradients.values()]
    )
    # In float32, whatever the gradients are; of one and of several variables.
    for own, expected in zip(clipped(gradients, OPTIONS[option]).values(), by_keras, strict=True):
        assert_close(own, expected.numpy(), "float32")


def test_every_optimizer_follows_one() -> None:
    # That of L-BFGS is no op, see test_lbfgs.py.
    assert {make(kind).name for kind in KINDS} == set(optimizers.OPTIMIZERS) - {"lbfgs"}
    # Two more are of the book's optimizers, see test_nnfs.py.
    ops = {"sgd", "adam", *updates.UPDATES} - {"rmsprop_outside", "adam_corrected"}
    assert {make(kind).op for kind in KINDS} == ops


# Compiled, eager and by hand


def network(kind: str, option: str) -> fastnn.Sequential:
    layers = [fastnn.Dense(7, "tanh"), fastnn.Dense(3)]
    model = fastnn.Sequential(layers, (5,), seed=3)
    model.compile(make(kind, option), "mse")
    return model


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(50, 5)).astype("float32"), rng.normal(size=(50, 3)).astype("float32")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_by_hand_is_fit(kind: str, option: str) -> None:
    fitted, model = network(kind, option), network(kind, option)
    (x, y), loss = data(), fastnn.MeanSquaredError()
    fitted.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    optimizer = model.optimizer
    assert optimizer is not None
    for part in [slice(begin, begin + 16) for begin in range(0, 50, 16)] * 2:
        z = x[part]
        for layer in model.layers:
            z = layer.forward(z, training=True)
        loss.forward(z, y[part])
        delta = loss.backward()
        for layer in reversed(model.layers):
            delta = layer.backward(delta)
        optimizer.update(model.layers)
    if optimizer.use_ema:
        optimizer.finalize(model.layers)
    assert model.parameters.tobytes() == fitted.parameters.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_of_many_blocks(dtype: str) -> None:
    # The sum over blocks of 4096 is the whole's, and the same for any number of threads.
    rng = np.random.default_rng(5)
    gradients = [rng.normal(size=n).astype(dtype) for n in (9000, 1, 4096, 4097)]
    expected = reference.clip_norm(gradients, 3.0)
    tape = Eager(0, dtype, cpu.new_state())
    fastnn.SGD(global_clipnorm=3.0).clip_ops(tape, gradients)
    for g, e in zip(gradients, expected, strict=True):
        assert_close(g, e, dtype)
    assert not tape.stopped


@pytest.mark.parametrize("option", OPTIONS)
def test_nothing_to_train_is_no_error(option: str) -> None:
    x, _ = data()
    model = fastnn.Sequential([fastnn.Tanh()], (5,), seed=0)
    model.compile(make("momentum", option), "mse")
    model.fit(x, np.zeros((50, 5)), verbose=0)
    make("momentum", option).update(fastnn.Tanh())
    make("momentum", option).update([])


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm"])
def test_a_norm_that_overflows_stops(option: str) -> None:
    layer = fastnn.Dense(3)
    layer.prepare((5,), "float64", seed=0)
    before = layer.kernel.copy()
    # Each square is finite, their sum is not.
    layer.grads["kernel"] = np.full((5, 3), 1.2e154)
    with pytest.raises(fastnn.DivergenceError):
        make("sgd", option).update(layer)
    np.testing.assert_array_equal(layer.kernel, before)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("option", ["clipvalue", "clipnorm", "global_clipnorm"])
def test_no_clip_hides_a_bad_gradient(option: str, bad: float) -> None:
    layer = fastnn.Dense(3)
    layer.prepare((5,), "float32", seed=0)
    before = layer.kernel.copy()
    layer.grads["bias"] = [0.0, bad, 1.0]
    layer.grads["kernel"] = np.ones((5, 3))
    optimizer = make("momentum", option)
    with pytest.raises(fastnn.DivergenceError):
        optimizer.update(layer)
    np.testing.assert_array_equal(layer.kernel, before)
    np.testing.assert_array_equal(layer.bias, np.zeros(3))


# Means and averages


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATE_CASES)
def test_means_shrink_to_nothing(name: str, dtype: str) -> None:
    """Numbers below the smallest normal one are slow to compute with, and never become 0."""
    smallest = np.finfo(dtype).smallest_normal
    means = {mean: np.full(9, 3 * smallest, dtype) for mean in updates.UPDATES[name].means}
    scalars = {"beta_1": 0.5, "weight_1": 0.5, "beta_2": 0.5, "weight_2": 0.5, "rho": 0.5,
               "weight": 0.5, "momentum": 0.5, "centered": 1, "epsilon": 1e-7}  # fmt: skip
    scalars = {k: v for k, v in scalars.items() if k in updates.UPDATES[name].numbers}
    state = cpu.new_state()
    cpu.floats(state)[[s.UPDATE_CORRECTION, s.UPDATE_SECOND_CORRECTION]] = 1.0
    tape = Eager(0, dtype, state)
    w, g = np.ones(9, dtype), np.zeros(9, dtype)
    seen: set[float] = set()
    for _ in range(5):
        tape.op(name, w=w, g=g, **means, **scalars)
        for mean in means.values():
            assert ((mean == 0) | (mean >= smallest)).all()
            seen |= set(mean.tolist())
    assert not tape.stopped
    # Maxima and sums stay what they are, all else is halved and then gone.
    lasting = {"adagrad": "accumulator", "amsgrad": "v_max"}.get(name)
    for mean, values in means.items():
        assert (values == (3 * smallest if mean == lasting else 0)).all(), mean


def test_variance_is_never_negative() -> None:
    # Of like gradients v and the mean's square are equal, but for rounding.
    layer = fastnn.Dense(3)
    layer.prepare((5,), "float32", seed=0)
    optimizer = fastnn.RMSprop(1e-3, centered=True)
    rng = np.random.default_rng(6)
    constant = rng.uniform(100.0, 1000.0, (5, 3))
    for _ in range(300):
        layer.grads["kernel"] = constant
        optimizer.update(layer)
    assert np.isfinite(layer.kernel).all()


def test_fit_ends_with_the_average_of_weights() -> None:
    model, plain = (network("momentum", option) for option in ("alone", "alone"))
    model.compile(fastnn.SGD(0.02, 0.9, use_ema=True, ema_momentum=0.8), "mse")
    x, y = data()
    expected: Array | None = None
    for _ in range(6):
        plain.train_on_batch(x, y)
        last = plain.parameters.astype(np.float64)
        expected = last if expected is None else 0.8 * expected + 0.2 * last
    model.fit(x, y, batch_size=50, epochs=6, shuffle=False, verbose=0)
    assert_close(model.parameters, expected, "float32", 5.0)
    # Nothing was trained: nothing changes.
    before = model.parameters.copy()
    model.fit(x, y, epochs=0, verbose=0)
    np.testing.assert_array_equal(model.parameters, before)


def test_finalize_needs_averages() -> None:
    with pytest.raises(RuntimeError, match="SGD: finalize needs use_ema=True"):
        fastnn.SGD().finalize(fastnn.Dense(3))


@pytest.mark.parametrize("option", ["weight_decay", "all"])
def test_decay_that_overflows_leaves_finite_weights(option: str) -> None:
    model = network("sgd", option)
    assert model.optimizer is not None
    model.optimizer.learning_rate = 1e38
    model.layers[0].kernel[0] = 1e30
    x, y = data()
    x[:, 0] = 0
    with pytest.raises(fastnn.DivergenceError):
        model.fit(x, y, batch_size=50, verbose=0)
    assert np.isfinite(model.parameters).all()


# The door


FIXED: dict[str, Callable[[], Any]] = {
    "momentum": lambda: fastnn.RMSprop(),
    "centered": lambda: fastnn.RMSprop(),
    "amsgrad": lambda: fastnn.Adam(),
    "use_ema": lambda: fastnn.SGD(),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_comes_with_a_vector_is_fixed(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(FIXED[name](), name, 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_config_makes_it_again(kind: str) -> None:
    for option in OPTIONS:
        optimizer = make(kind, option)
        again = type(optimizer)(**optimizer.get_config())
        assert repr(again) == repr(optimizer)
        assert again.vectors == optimizer.vectors


def test_names_and_defaults_are_keras(keras: Any) -> None:
    for kind in {*optimizers.OPTIMIZERS.values()} - {fastnn.LBFGS}:  # Keras has none
        reference_config = getattr(keras.optimizers, kind.__name__)().get_config()
        options = {"weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema",
                   "ema_momentum"}  # fmt: skip
        own = kind()
        names = {*own.get_config(), *options}
        for name in names:
            expected = reference_config[name]
            value = getattr(own, name)
            assert value == (pytest.approx(expected) if isinstance(expected, float) else expected)
        missing = set(reference_config) - names
        assert missing <= {"name", "ema_overwrite_frequency", "loss_scale_factor",
                           "gradient_accumulation_steps"}  # fmt: skip


def test_learning_rate_may_be_read_at_any_step() -> None:
    optimizer = make("adam", "decay")
    np.testing.assert_array_equal(
        optimizer.rates(5, 8), [optimizer.learning_rate(step) for step in (5, 6, 7)]
    )
    np.testing.assert_array_equal(fastnn.SGD(0.1).rates(5, 8), [0.1] * 3)


def test_average_of_a_layer_that_comes_later_begins_with_its_weights() -> None:
    optimizer = fastnn.SGD(0.0, use_ema=True, ema_momentum=0.9)
    first, second = (fastnn.Dense(2) for _ in range(2))
    for layer in (first, second):
        layer.build((3,)) if not layer.built else None
        layer.forward(np.ones((4, 3)), training=True)
        layer.backward(np.ones((4, 2)))
    optimizer.update(first)
    before = second.kernel.copy()
    optimizer.update([first, second])
    optimizer.finalize([first, second])
    np.testing.assert_allclose(second.kernel, before, rtol=1e-6)
    with pytest.raises(RuntimeError, match="never given to update"):
        optimizer.finalize(fastnn.Sequential([fastnn.Dense(1)], (2,)).layers)


def test_update_by_hand_changes_nothing_where_any_gradient_is_bad() -> None:
    layers = [fastnn.Dense(2), fastnn.Dense(2)]
    for layer in layers:
        layer.forward(np.ones((4, 2)), training=True)
        layer.backward(np.ones((4, 2)))
    before = [layer.kernel.copy() for layer in layers]
    layers[1].grads["kernel"][0, 0] = np.nan
    optimizer = fastnn.Adam()
    with pytest.raises(fastnn.DivergenceError):
        optimizer.update(layers)
    for layer, kernel in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer.kernel, kernel)
