"""Layers that normalise, against PyTorch, Keras and the oracle, and where they could go astray."""

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from door_cases import refused
from fastnn.engine.threads import get_num_threads, set_num_threads
from fastnn.kernels import reference
from fastnn.kernels import state as s
from fastnn.layers import normalization, scaling
from helpers import assert_close

Array = NDArray[Any]

STEPS, BATCH, FEATURES = 20, 17, 5
EPSILON = 1e-3


def numbers(*shape: int, seed: int = 1, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def network(dtype: str = "float64", **options: Any) -> fastnn.Sequential:
    """Dense layers with both normalisations in between; options of the first."""
    model = fastnn.Sequential(
        [
            fastnn.Dense(9, "tanh"),
            fastnn.BatchNormalization(momentum=0.9, **options),
            fastnn.Dense(6),
            fastnn.LayerNormalization(),
            fastnn.Dense(2),
            fastnn.BatchNormalization(scale=False),
        ],
        input_shape=(FEATURES,),
        dtype=dtype,
        seed=4,
    )
    model.compile(fastnn.SGD(0.05, momentum=0.9), "mse")
    return model


def batches() -> list[tuple[Array, Array]]:
    """Rows and targets of 20 steps, every fifth of which has but three."""
    x, y = numbers(STEPS, BATCH, FEATURES), numbers(STEPS, BATCH, 2, seed=2)
    counts = [BATCH if step % 5 else 3 for step in range(STEPS)]
    return [(a[:n], b[:n]) for a, b, n in zip(x, y, counts, strict=True)]


def moving(model: fastnn.Sequential) -> list[Array]:
    return [a.copy() for layer in model.layers for a in layer.buffers.values()]


# Against PyTorch and Keras


class TorchNetwork:
    """The same of torch's functions; moving averages as Keras has them, of biased variances."""

    def __init__(self, torch: Any, model: fastnn.Sequential, frozen: bool) -> None:
        self.torch, self.frozen = torch, frozen
        self.weights = [torch.tensor(w) for w in model.get_weights()]
        # Those of the first BatchNormalization, if it is frozen, and all moving averages stay out.
        fixed = {4, 5, 13, 14} | ({2, 3} if frozen else set())
        self.trained = [w for i, w in enumerate(self.weights) if i not in fixed]
        self.velocities = [torch.zeros_like(w) for w in self.trained]
        for w in self.trained:
            w.requires_grad_()

    def batch_normalization(
        self, x: Any, gamma: Any, beta: Any, averages: list[Any], momentum: float, learns: bool
    ) -> Any:
        if learns:
            for average, now in zip(averages, (x.mean(0), x.var(0, correction=0)), strict=True):
                average.mul_(momentum).add_((1 - momentum) * now.detach())
        mean, variance = (None, None) if learns else averages
        return self.torch.nn.functional.batch_norm(
            x, mean, variance, gamma, beta, training=learns, eps=EPSILON
        )

    def forward(self, x: Array, training: bool) -> Any:
        w, functional = self.weights, self.torch.nn.functional
        z = self.torch.tanh(self.torch.tensor(x) @ w[0] + w[1])
        z = self.batch_normalization(z, *w[2:4], w[4:6], 0.9, training and not self.frozen)
        z = functional.layer_norm(z @ w[6] + w[7], (6,), *w[8:10], eps=EPSILON)
        return self.batch_normalization(z @ w[10] + w[11], None, w[12], w[13:15], 0.99, training)

    def step(self, x: Array, y: Array) -> float:
        loss = ((self.forward(x, True) - self.torch.tensor(y)) ** 2).mean()
        gradients = self.torch.autograd.grad(loss, self.trained)
        with self.torch.no_grad():
            for w, velocity, gradient in zip(self.trained, self.velocities, gradients, strict=True):
                velocity.mul_(0.9).sub_(0.05 * gradient)
                w += velocity
        return float(loss.detach())


@pytest.mark.parametrize("frozen", [False, True])
def test_training_follows_torch(frozen: bool) -> None:
    """Losses, and all weights and moving averages after 20 steps."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = network(trainable=not frozen)
    model.set_weights([w + 0.1 + 0.1 * i for i, w in enumerate(model.get_weights())])
    twin = TorchNetwork(torch, model, frozen)
    for x, y in batches():
        own = model.train_on_batch(x, y)["loss"]
        np.testing.assert_allclose(own, twin.step(x, y), rtol=1e-9)
    for own, expected in zip(model.get_weights(), twin.weights, strict=True):
        np.testing.assert_allclose(own, expected.detach().numpy(), rtol=1e-9, atol=1e-9)
    x = numbers(7, FEATURES, seed=5)
    predicted = twin.forward(x, False).detach().numpy()
    np.testing.assert_allclose(model.predict(x), predicted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(6, 4), (5, 3, 4), (3, 2, 2, 4)])
@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization", "Normalization"])
def test_layers_are_keras(kind: str, shape: tuple[int, ...], keras: Any) -> None:
    """To float32, in which Keras computes; in order and number of its weights, too."""
    own = getattr(fastnn, kind)()
    twin = getattr(keras.layers, kind)()
    x = 3 + 2 * numbers(*shape, dtype="float32")
    if kind == "Normalization":
        own.adapt(x)
        twin.adapt(x)
        own.forward(x)
    else:
        own.prepare(shape[1:])
        twin.build(shape)
        start = [w + np.float32(0.5) for w in own.weights.values()]
        twin.set_weights(start)
        for w, value in zip(own.weights.values(), start, strict=True):
            w[...] = value
        expected = keras.ops.convert_to_numpy(twin(x, training=True))
        assert_close(own.forward(x, training=True), expected, scale=4)
    assert_close(own.forward(x), keras.ops.convert_to_numpy(twin(x)), scale=4)
    for (name, w), expected in zip(own.weights.items(), twin.get_weights(), strict=True):
        if name != "count":  # Keras no longer writes it
            assert_close(w, np.asarray(expected, np.float32).reshape(w.shape))


# Numbers far from 0, few rows, constant columns


@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization"])
def test_spread_far_from_zero_is_kept(kind: str) -> None:
    """What float32 has of numbers around 10⁴ and 10⁶, whose mean it cannot write down."""
    for mean, rows, columns in ((1e4, 1000, 37), (-1e6, 37, 1000)):
        x = (mean + numbers(rows, columns)).astype("float32")
        layer = getattr(fastnn, kind)()
        y = layer.forward(x, training=True)
        dy = numbers(rows, columns, seed=2, dtype="float32")
        dx = layer.backward(dy)
        if kind == "BatchNormalization":
            batch_mean, variance = reference.batch_statistics(x, columns)
            assert_close(y, reference.normalize_columns(x, batch_mean, variance, epsilon=EPSILON))
            assert_close(layer.buffers["moving_variance"], 0.99 + 0.01 * variance)
            back = (dy, x, batch_mean, variance)
            gradients = reference.batch_normalization_parameters(*back, EPSILON)
            expected = reference.batch_normalization_backward(*back, 1.0, *gradients, EPSILON)
        else:
            normalized, _, factor = reference.layer_normalization_forward(x, columns, EPSILON)
            assert_close(y, normalized)
            expected, *gradients = reference.layer_normalization_backward(dy, normalized, factor)
        assert_close(dx, expected)
        for name, gradient in zip(("gamma", "beta"), gradients, strict=True):
            assert_close(layer.grads[name], gradient, scale=rows**0.5)  # a sum of as many terms


@pytest.mark.parametrize("rows", [3, 4 * 4 * 8 + 5, 1000])
@pytest.mark.parametrize("columns", [7, 64, 100_003])
def test_gradients_of_rows_up_to_longer_ones_than_the_workspace(rows: int, columns: int) -> None:
    if columns > 1000:
        rows = rows % 10 + 2
        assert 2 * 4 * columns > s.WORKSPACE_BYTES
    layer = fastnn.LayerNormalization()
    x, dy = (numbers(rows, columns, seed=seed, dtype="float32") for seed in (1, 2))
    layer.forward(x, training=True)
    dx = layer.backward(dy)
    normalized, _, factor = reference.layer_normalization_forward(x, columns, EPSILON)
    expected, *gradients = reference.layer_normalization_backward(dy, normalized, factor)
    assert_close(dx, expected)
    for name, gradient in zip(("gamma", "beta"), gradients, strict=True):
        assert_close(layer.grads[name], gradient, scale=rows**0.5)


@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization"])
@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1), (1, 3, 4), (9, 1, 1)])
def test_of_nothing_but_a_constant_comes_beta(kind: str, shape: tuple[int, ...]) -> None:
    layer = getattr(fastnn, kind)(beta_initializer=lambda shape, rng: np.full(shape, 0.25))
    by_batch = kind == "BatchNormalization"
    x = np.broadcast_to(np.float32(0.1), shape)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, np.full(shape, 0.25))
    dx = layer.backward(numbers(*shape))
    assert np.isfinite(dx).all()
    if by_batch and shape[0] == 1 and len(shape) == 2:  # a row alone is its own mean
        assert_close(dx, np.zeros(shape), "float32", scale=30.0)  # 1/√ε
    if shape[-1] == 1 and not by_batch:
        np.testing.assert_allclose(dx, 0.0, atol=1e-5)


def test_no_rows_move_nothing() -> None:
    layer = fastnn.BatchNormalization()
    empty = layer.forward(np.zeros((0, 3)), training=True)
    assert empty.shape == layer.backward(empty).shape == (0, 3)
    np.testing.assert_array_equal(layer.buffers["moving_mean"], np.zeros(3))
    np.testing.assert_array_equal(layer.buffers["moving_variance"], np.ones(3))


# In a model


def test_gradients_by_central_differences() -> None:
    x, y = batches()[1]
    errors = fastnn.gradcheck(network(), x, y)
    assert len(errors) == 11
    frozen = network(trainable=False)
    fastnn.gradcheck(frozen, x, y)


def test_moving_averages_take_the_place_of_a_batchs() -> None:
    """`evaluate` and `predict` use them, `fit` moves them, once a step; by hand it is the same."""
    model, (x, y) = network(), batches()[1]
    before = moving(model)
    model.evaluate(x, y)
    model.predict(x)
    for own, kept in zip(moving(model), before, strict=True):
        np.testing.assert_array_equal(own, kept)
    inner = model.layers[0].forward(x)
    model.fit(x, y, batch_size=len(x), epochs=1, verbose=0, shuffle=False)
    expected = reference.moving_average(before[0], inner.mean(axis=0), 0.9)
    assert_close(moving(model)[0], expected)
    hand = network()
    z = x
    for layer in hand.layers:
        z = layer.forward(z, training=True)
    for own, by_hand in zip(moving(model), moving(hand), strict=True):
        np.testing.assert_array_equal(own, by_hand)


def test_frozen_layer_stays_as_it_is() -> None:
    x, y = batches()[1]
    model = network(trainable=False)
    before = {n: w.copy() for n, w in model.layers[1].weights.items()}
    z = model.layers[0].forward(x)
    model.fit(x, y, epochs=3, verbose=0)
    for name, w in model.layers[1].weights.items():
        np.testing.assert_array_equal(w, before[name])
    own = model.layers[1].forward(z, training=True)
    np.testing.assert_array_equal(own, model.layers[1].forward(z))
    model.layers[1].trainable = True
    model.fit(x, y, epochs=1, verbose=0)
    assert (model.layers[1].buffers["moving_mean"] != before["moving_mean"]).all()


def test_step_that_diverges_moves_nothing() -> None:
    model, (x, y) = network("float32"), batches()[1]
    model.train_on_batch(x, y)
    before = moving(model)
    model.layers[5].params["beta"] = np.full(2, 1e30)
    with pytest.raises(fastnn.DivergenceError):
        model.train_on_batch(x, y)
    for own, kept in zip(moving(model), before, strict=True):
        np.testing.assert_array_equal(own, kept)


def test_bits_depend_on_no_threads_and_no_batch() -> None:
    """Columns and rows enough for a team, and for more than one slice of rows."""
    x, y = numbers(700, 70, dtype="float32"), numbers(700, 300, seed=2)
    threads, weights, predictions = get_num_threads(), [], []
    try:
        for count in (1, 2):
            set_num_threads(count)
            model = fastnn.Sequential(
                [
                    fastnn.Dense(1100),
                    fastnn.BatchNormalization(),
                    fastnn.LayerNormalization(),
                    fastnn.Dense(300),
                ],
                seed=1,
            )
            model.compile("adam", "mse")
            model.fit(x, y, batch_size=350, epochs=2, verbose=0)
            weights.append(model.get_weights())
            predictions += [model.predict(x, batch_size=n) for n in (1024, 37)]
    finally:
        set_num_threads(threads)
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)
    for other in predictions[1:]:
        np.testing.assert_array_equal(other, predictions[0])


def test_saved_averages_are_loaded(tmp_path: Path) -> None:
    model, (x, y) = network(), batches()[1]
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = fastnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    model.fit(x, y, epochs=1, verbose=0)
    loaded.fit(x, y, epochs=1, verbose=0)
    for own, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


# Normalization of the input


DATA = {
    "float32": 5 + numbers(50, 3, dtype="float32"),
    "float64": numbers(50, 3),
    "int64": np.random.default_rng(3).integers(-1000, 1000, (50, 3)),
    "uint8": np.random.default_rng(3).integers(0, 256, (50, 2, 3), "uint8"),
    "bool": numbers(50, 3) > 0,
    "not contiguous": numbers(3, 50).T,
    "large mean": 1e8 + numbers(50, 3),
}


@pytest.mark.parametrize("kind", DATA)
def test_adapt_finds_mean_and_variance(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnn.checks.ROWS_AT_ONCE", 40)  # in blocks
    data = DATA[kind]
    layer = fastnn.Normalization()
    layer.adapt(numbers(9, 3))  # forgotten
    layer.adapt(data)
    layer.prepare(data.shape[1:], "float64")
    rows = data.reshape(-1, 3).astype(np.longdouble)
    mean, variance = layer.buffers["mean"], layer.buffers["variance"]
    assert_close(mean, rows.mean(axis=0).astype(np.float64))
    assert_close(variance, rows.var(axis=0).astype(np.float64))
    assert layer.buffers["count"] == len(rows)
    normalized = layer.forward(data).reshape(-1, 3)
    assert_close(normalized, (rows.astype(np.float64) - mean) / np.sqrt(variance))
    layer.adapt(data[:7])  # when it is built already
    assert_close(layer.buffers["mean"], data[:7].reshape(-1, 3).astype(np.float64).mean(axis=0))


def test_constant_columns_are_zero() -> None:
    data = np.tile([0.1, 1e6 + 1 / 3, 0.0], (1000, 1))
    for dtype in ("float32", "float64"):
        layer = fastnn.Normalization()
        layer.adapt(data)
        layer.prepare((3,), dtype)
        np.testing.assert_array_equal(layer.forward(data[:2]), np.zeros((2, 3)))


def test_normalization_is_saved_with_its_model(tmp_path: Path) -> None:
    x, y = 50 + 7 * numbers(64, 4), numbers(64, 2, seed=2)
    layer = fastnn.Normalization()
    model = fastnn.Sequential([layer, fastnn.Dense(2)], input_shape=(4,), seed=1)
    model.compile("adam", "mse")
    for use in (lambda: model.predict(x), lambda: model.fit(x, y, verbose=0)):
        with pytest.raises(RuntimeError, match=r"normalization_0: .*call adapt\(training data\)"):
            use()
    layer.adapt(x)
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(layer.buffers["mean"], x.mean(axis=0).astype("float32"))
    model.save(tmp_path / "model.safetensors")
    loaded = fastnn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    fastnn.gradcheck(model, x[:5], y[:5])


def test_fit_before_adapt_changes_nothing() -> None:
    model = fastnn.Sequential([fastnn.Normalization(), fastnn.Dense(2)])
    model.compile("adam", "mse")
    with refused(model, r"call adapt\(training data\) first"):
        model.fit(numbers(8, 4), numbers(8, 2), verbose=0)
    assert not model.built


@pytest.mark.parametrize("scale", [1 / 255, -2.0])
def test_bytes_are_rescaled_as_by_keras(scale: float, keras: Any) -> None:
    x = np.arange(256, dtype="uint8").reshape(8, 32)
    own, twin = fastnn.Rescaling(scale, 0.5), keras.layers.Rescaling(scale, 0.5)
    assert_close(own.forward(x, training=True), keras.ops.convert_to_numpy(twin(x)))
    assert_close(own.backward(x), scale * x.astype("float32"))


# At the door


def adapted(data: Any, **arguments: Any) -> fastnn.Normalization:
    layer = fastnn.Normalization(**arguments)
    layer.adapt(data)
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fastnn.BatchNormalization(axis=1), "BatchNormalization: axis must be -1.*got 1"),
        (lambda: fastnn.BatchNormalization([0]), r"BatchNormalization: axis must be -1.*got \[0\]"),
        (lambda: fastnn.BatchNormalization(momentum=1.1), r"momentum .* \[0, 1\], got 1.1"),
        (lambda: fastnn.BatchNormalization(epsilon=0), r"BatchNormalization: epsilon .*\(0, inf\)"),
        (lambda: fastnn.BatchNormalization(gamma_initializer="one"), "gamma_initializer .*'one'"),
        (lambda: fastnn.BatchNormalization(beta_regularizer="l3"), "beta_regularizer .*'l3'"),
        (lambda: fastnn.LayerNormalization(axis=(-2, -1)), "LayerNormalization: axis must be -1"),
        (lambda: fastnn.LayerNormalization(epsilon=-1e-3), "LayerNormalization: epsilon .*-0.001"),
        (lambda: fastnn.LayerNormalization(gamma_constraint="max"), "gamma_constraint .*'max'"),
        (lambda: fastnn.Rescaling(np.nan), "Rescaling: scale .*got nan"),
        (lambda: fastnn.Rescaling(1.0, "0"), "Rescaling: offset .*got '0'"),
        (lambda: fastnn.Normalization(axis=None), "Normalization: axis must be -1, .*got None"),
        (lambda: fastnn.Normalization(mean=1.0), "mean and variance must be given both or neither"),
        (lambda: fastnn.Normalization(mean=0.0, variance=-1.0), "variance must not be negative"),
        (lambda: fastnn.Normalization(mean=[[0.0]], variance=1.0), r"mean must be .*\(1, 1\)"),
        (lambda: fastnn.Normalization(mean=np.inf, variance=1.0), "mean must be finite"),
        (lambda: adapted(numbers(4, 3), mean=0.0, variance=1.0), "given already"),
        (lambda: adapted(np.zeros((0, 3))), "data is empty"),
        (lambda: adapted(np.zeros(3)), r"data must be \(N, ...\).*\(3,\)"),
        (lambda: adapted([[1.0, np.nan]]), "data must be finite.*nan in row 0"),
        (lambda: adapted(numbers(4, 3)).prepare((2,)), "mean is of 3 columns, rows have 2"),
        (lambda: adapted(1e30 * numbers(4, 3)).prepare((3,)), "variance must be finite in float32"),
    ],
)
def test_wrong_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_data_of_other_columns_change_nothing() -> None:
    layer = adapted(numbers(4, 3))
    layer.prepare((3,))
    before = {name: a.copy() for name, a in layer.buffers.items()}
    for data, message in (
        (numbers(4, 2), r"rows of \(3,\), got \(2,\)"),
        (1e30 * numbers(4, 3), "data's variance must be finite in float32"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.adapt(data)
    for name, a in layer.buffers.items():
        np.testing.assert_array_equal(a, before[name])


def test_docstring_examples() -> None:
    results = [doctest.testmod(module) for module in (normalization, scaling)]
    assert [result.failed for result in results] == [0, 0]
    assert all(result.attempted >= 5 for result in results)


def test_statistics_that_overflow_stop_training_and_stay_whole() -> None:
    x = np.full((8, 3), 1e30, np.float32) * np.arange(8, dtype=np.float32)[:, None]
    model = fastnn.Sequential([fastnn.BatchNormalization(), fastnn.Dense(1)], (3,), seed=1)
    model.compile("sgd", "mse")
    with pytest.raises(fastnn.DivergenceError):
        model.fit(x, np.zeros(8), epochs=2, verbose=0)
    assert np.isfinite(np.concatenate([w.ravel() for w in model.get_weights()])).all()
    np.testing.assert_array_equal(model.layers[0].buffers["moving_variance"], 1.0)


def test_gradients_of_a_model_not_built_are_checked_with_what_adapt_found() -> None:
    x = np.random.default_rng(0).normal(5.0, 3.0, size=(20, 3))
    layer = fastnn.Normalization()
    layer.adapt(x)
    model = fastnn.Sequential([layer, fastnn.Dense(2)])
    model.compile("sgd", "mse")
    assert set(fastnn.gradcheck(model, x[:4], np.zeros((4, 2)))) == {
        "dense_1.bias", "dense_1.kernel",
    }  # fmt: skip
