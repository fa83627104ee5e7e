"""Every layer goes through one harness; then what is peculiar to some of them."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn import activations, constraints, initializers, layers, regularizers, serialization
from helpers import assert_close, assert_is_gradient

Array = NDArray[Any]
Make = Callable[[], fastnn.Layer]

ACTIVATIONS = [name for name in activations.NAMES if activations.has_derivative(name)]

QUARTER = initializers.Constant(0.25)
SEED = 7
ROWS = 5
KNOWN = {**vars(layers), **vars(initializers), **vars(regularizers), **vars(constraints)}

CASES: dict[str, tuple[Make, tuple[int, ...]]] = {
    "Dense": (lambda: fastnn.Dense(3), (4,)),
    "Dense to one unit": (lambda: fastnn.Dense(1, activation="sigmoid"), (17,)),
    "Dense of one input": (lambda: fastnn.Dense(19, activation="tanh"), (1,)),
    "Dense with regularizers": (
        lambda: fastnn.Dense(
            3,
            "tanh",
            kernel_regularizer="l1",
            bias_regularizer=regularizers.L2(0.1),
            activity_regularizer=regularizers.L1L2(0.1, 0.05),
            bias_initializer="ones",
        ),
        (4,),
    ),
    "Dense with constraints": (
        lambda: fastnn.Dense(
            3, kernel_constraint=constraints.MaxNorm(1.0), bias_constraint="min_max_norm"
        ),
        (4,),
    ),
    "Dense trained slowly": (lambda: fastnn.Dense(3, learning_rate_multiplier=0.5), (4,)),
    "Dense without bias": (lambda: fastnn.Dense(3, "relu", use_bias=False), (4,)),
    "Dense with initializers": (
        lambda: fastnn.Dense(3, kernel_initializer="he_normal", bias_initializer="random_normal"),
        (4,),
    ),
    **{
        f"Dense {name}": (lambda name=name: fastnn.Dense(7, activation=name), (6,))
        for name in ACTIVATIONS
    },
    **{
        f"Activation {name}": (lambda name=name: fastnn.Activation(name), (6,))
        for name in ACTIVATIONS
    },
    "Activation of images": (lambda: fastnn.Activation("tanh"), (3, 5, 2)),
    "Activation with a parameter": (lambda: fastnn.Activation("celu", alpha=0.5), (11,)),
    "Activation with a flag": (lambda: fastnn.Activation("gelu", approximate=True), (11,)),
    "ReLU": (fastnn.ReLU, (11,)),
    "LeakyReLU": (lambda: fastnn.LeakyReLU(0.1), (11,)),
    "ELU": (lambda: fastnn.ELU(alpha=0.5), (11,)),
    "PReLU": (fastnn.PReLU, (11,)),
    "PReLU of one slope": (lambda: fastnn.PReLU(QUARTER, shared_axes=1), (7,)),
    "PReLU of images": (lambda: fastnn.PReLU(QUARTER, shared_axes=[1, 2]), (3, 4, 2)),
    "PReLU of rows and channels": (lambda: fastnn.PReLU(QUARTER, "l2", "non_neg", [2]), (2, 3, 4)),
    "Sigmoid": (fastnn.Sigmoid, (11,)),
    "Tanh": (fastnn.Tanh, (2, 3)),
    "Softmax": (fastnn.Softmax, (11,)),
    "Dropout": (lambda: fastnn.Dropout(0.3), (70,)),
    "Dropout of images": (lambda: fastnn.Dropout(0.5), (3, 4, 2)),
    "Dropout of nothing": (lambda: fastnn.Dropout(0.0), (6,)),
    "AlphaDropout": (lambda: fastnn.AlphaDropout(0.3), (70,)),
    "SpatialDropout1D": (lambda: fastnn.SpatialDropout1D(0.5), (4, 5)),
    "SpatialDropout2D": (lambda: fastnn.SpatialDropout2D(0.3), (2, 3, 5)),
    "DropBlock2D": (lambda: fastnn.DropBlock2D(0.2, 2), (4, 5, 2)),
    "GaussianNoise": (lambda: fastnn.GaussianNoise(0.1), (33,)),
    "GaussianDropout": (lambda: fastnn.GaussianDropout(0.1), (4, 9)),
    "Flatten": (fastnn.Flatten, (2, 3, 4)),
    "Flatten of vectors": (fastnn.Flatten, (5,)),
    "Reshape": (lambda: fastnn.Reshape((3, 8)), (2, 3, 4)),
    "Reshape with a length left open": (lambda: fastnn.Reshape([4, -1, 2]), (24,)),
    "BatchNormalization": (fastnn.BatchNormalization, (7,)),
    "BatchNormalization of images": (
        lambda: fastnn.BatchNormalization(momentum=0.5, gamma_initializer="random_uniform"),
        (3, 2, 4),
    ),
    "BatchNormalization, bare": (
        lambda: fastnn.BatchNormalization(center=False, scale=False, epsilon=0.1),
        (4,),
    ),
    "LayerNormalization": (fastnn.LayerNormalization, (19,)),
    "LayerNormalization of series": (
        lambda: fastnn.LayerNormalization(epsilon=0.1, beta_regularizer="l2"),
        (3, 5),
    ),
    "LayerNormalization, bare": (
        lambda: fastnn.LayerNormalization(center=False, scale=False),
        (6,),
    ),
    "Rescaling": (lambda: fastnn.Rescaling(0.5, offset=-1.0), (4, 3)),
    "Normalization": (lambda: fastnn.Normalization(mean=[1.0, 2.0], variance=4.0), (3, 2)),
    "ActivityRegularization": (lambda: fastnn.ActivityRegularization(0.1, 0.2), (5,)),
    "Residual": (
        lambda: fastnn.Residual([fastnn.Dense(9, "tanh"), fastnn.Dropout(0.2), fastnn.Dense(6)]),
        (6,),
    ),
    "Residual in a residual": (
        lambda: fastnn.Residual(
            [fastnn.Dense(4, "tanh"), fastnn.Residual([fastnn.Dense(4, name="inner")])]
        ),
        (4,),
    ),
    "Residual of images": (lambda: fastnn.Residual([fastnn.Tanh()]), (3, 2)),
    "Input": (lambda: fastnn.Input((2, 3)), (2, 3)),
    "Input of vectors": (lambda: fastnn.Input(4), (4,)),
}


def test_every_layer_has_a_case() -> None:
    known = {
        kind
        for kind in vars(layers).values()
        if inspect.isclass(kind) and issubclass(kind, fastnn.Layer) and kind is not fastnn.Layer
    }
    assert {type(make()) for make, _ in CASES.values()} == known


@pytest.mark.parametrize("case", CASES)
def test_layer(case: str, tmp_path: Path) -> None:
    make, input_shape = CASES[case]
    run_layer_test(make, input_shape, tmp_path)


def run_layer_test(make: Make, input_shape: tuple[int, ...], folder: Path) -> None:
    """What holds of every layer that `make` makes, for rows of `input_shape`."""
    check_forward(make, input_shape)
    check_gradients(make, input_shape)
    check_refusals(make, input_shape)
    check_config(make, input_shape)
    check_inside_model(make, input_shape, folder)


def rows_of(input_shape: tuple[int, ...], dtype: str = "float64", rows: int = ROWS) -> Array:
    return np.random.default_rng(1).normal(size=(rows, *input_shape)).astype(dtype)


def built(make: Make, input_shape: tuple[int, ...], dtype: str = "float64") -> fastnn.Layer:
    layer = make()
    layer.prepare(input_shape, dtype, SEED)
    return layer


def check_forward(make: Make, input_shape: tuple[int, ...]) -> None:
    results = {}
    for dtype in ("float32", "float64"):
        layer = built(make, input_shape, dtype)
        assert layer.built
        assert layer.input_shape == input_shape
        x = rows_of(input_shape, dtype)
        before = x.copy()
        for training in (False, True):
            y = layer.forward(x, training=training)
            assert y.shape == (ROWS, *layer.output_shape)
            assert y.dtype == dtype
            assert np.isfinite(y).all()
            assert not np.shares_memory(y, x)  # the docstring says: a new array
            np.testing.assert_array_equal(x, before)
        results[dtype] = y = layer.forward(x)
        # What stands in a row is that row's alone, whatever its neighbours and the layout are.
        np.testing.assert_array_equal(layer.forward(x[2:3]), y[2:3])
        np.testing.assert_array_equal(layer.forward(x[::-1]), y[::-1])
        np.testing.assert_array_equal(layer.forward(np.asfortranarray(x)), y)
        np.testing.assert_array_equal(layer.forward(x.tolist()), y)
        assert layer.forward(x[:0]).shape == (0, *layer.output_shape)
        for leaf in layer.leaves():
            for name, parameter in leaf.params.items():
                assert parameter.dtype == leaf.grads[name].dtype == dtype
                assert parameter.shape == leaf.grads[name].shape
    # Sums of up to 17 terms near 1, and weights that were rounded to float32.
    assert_close(results["float32"], results["float64"], "float32", scale=4)


def check_gradients(make: Make, input_shape: tuple[int, ...]) -> None:
    """Gradients of Σ forward(x)·direction with respect to x and to each parameter."""
    layer = built(make, input_shape)
    x = rows_of(input_shape)
    direction = np.random.default_rng(2).normal(size=(ROWS, *layer.output_shape))

    def value(x: Array, leaf: int = 0, **changed: Array) -> float:
        # A fresh layer, for the mask of a layer's first training step.
        twin = built(make, input_shape)
        for name, parameter in changed.items():
            twin.leaves()[leaf].params[name] = parameter
        y = twin.forward(x, training=True)
        return float((y * direction).sum()) + twin.penalty()

    layer.forward(x, training=True)
    dx = layer.backward(direction)
    assert dx.dtype == "float64"
    assert_is_gradient(dx, value, x)
    for leaf, own in enumerate(layer.leaves()):
        for name, parameter in own.params.items():
            assert_is_gradient(
                own.grads[name],
                lambda p, leaf=leaf, name=name: value(x, leaf, **{name: p}),
                parameter,
            )
    # Overwritten, not added up.
    first = [{n: gradient.copy() for n, gradient in leaf.grads.items()} for leaf in layer.leaves()]
    layer.backward(direction)
    for leaf_before, leaf_after in zip(first, layer.leaves(), strict=True):
        for name, gradient in leaf_after.grads.items():
            np.testing.assert_array_equal(gradient, leaf_before[name])


def check_refusals(make: Make, input_shape: tuple[int, ...]) -> None:
    layer = built(make, input_shape)
    label = layer.label
    with pytest.raises(RuntimeError, match=f"{label}: call forward"):
        layer.backward(np.zeros((ROWS, *layer.output_shape)))
    with pytest.raises(ValueError, match=label):
        layer.forward(np.zeros((ROWS, *input_shape, 2)))
    with pytest.raises(ValueError, match=label):
        layer.forward(np.zeros(ROWS))
    layer.forward(rows_of(input_shape), training=True)
    with pytest.raises(ValueError, match="dy must have shape"):
        layer.backward(np.zeros((ROWS + 1, *layer.output_shape)))


def check_config(make: Make, input_shape: tuple[int, ...]) -> None:
    layer = make()
    described = serialization.describe(layer)
    again = serialization.make(json.loads(json.dumps(described)), KNOWN, {})  # out of a file
    assert serialization.describe(again) == described
    x = rows_of(input_shape)
    for training in (False, True):
        np.testing.assert_array_equal(
            built(lambda: again, input_shape).forward(x, training=training),
            built(make, input_shape).forward(x, training=training),
        )
    described["config"] |= {"name": "of_the_user", "trainable": False}
    named = serialization.make(described, KNOWN, {})
    assert (named.name, named.trainable) == ("of_the_user", False)


def check_inside_model(make: Make, input_shape: tuple[int, ...], folder: Path) -> None:
    for dtype in ("float32", "float64"):
        layer = make()
        model = fastnn.Sequential(
            [layer, fastnn.Flatten(), fastnn.Dense(2)], input_shape, dtype=dtype, seed=SEED
        )
        model.compile(fastnn.SGD(0.02), "mse")
        x = rows_of(input_shape, dtype)
        y = np.random.default_rng(3).normal(size=(ROWS, 2))
        np.testing.assert_array_equal(model.predict(x), model(x))
        before = model.evaluate(x, y)["loss"]
        start = model.parameters.copy()
        model.train_on_batch(x, y)
        assert np.isfinite(model.parameters).all()
        assert (model.parameters != start).any()
        for leaf in layer.leaves():
            for name, parameter in leaf.params.items():
                assert (leaf.grads[name] != 0).any(), name
                assert np.shares_memory(parameter, model.parameters)
        for _ in range(50):
            model.train_on_batch(x, y)
        assert model.evaluate(x, y)["loss"] < before

        path = folder / f"{dtype}.safetensors"
        model.save(path)
        loaded = fastnn.load(path)
        assert serialization.describe(loaded.layers[0]) == serialization.describe(layer)
        np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


# Building and memory


def test_build_by_hand_is_kept_by_forward() -> None:
    """`layer.build(shape)` is in the public contract: what is then written stays."""
    layer = fastnn.Dense(3)
    layer.build((4,))
    layer.kernel = kernel = np.arange(12, dtype=np.float32).reshape(4, 3)
    layer.bias = [1.0, 2.0, 3.0]
    x = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(layer.forward(x), kernel + layer.bias)
    np.testing.assert_array_equal(layer.kernel, kernel)


def test_parameters_can_only_be_written_in_their_shape() -> None:
    layer = built(lambda: fastnn.Dense(3), (4,))
    memory = layer.kernel
    layer.kernel = np.ones((4, 3))
    assert layer.kernel is memory
    assert (memory == 1).all()
    with pytest.raises(ValueError, match=r"kernel must have shape \(4, 3\), got \(3, 4\)"):
        layer.kernel = np.ones((3, 4))
    with pytest.raises(ValueError, match=r"bias must have shape \(3,\), got \(\)"):
        layer.bias = 1.0
    with pytest.raises(AttributeError, match="not built"):
        _ = fastnn.Dense(3).kernel
    with pytest.raises(AttributeError, match="no bias"):
        _ = built(lambda: fastnn.Dense(3, use_bias=False), (4,)).bias


def test_dense_is_the_affine_map() -> None:
    layer = built(lambda: fastnn.Dense(9, bias_initializer="random_normal"), (33,))
    x = rows_of((33,))
    assert_close(layer.forward(x), x @ layer.kernel + layer.bias, scale=4)  # 33 terms a sum


@pytest.mark.parametrize("shape", [(2, 3), (5,), (4, 3, 2)])
def test_flatten_keeps_the_order_of_rows_of_c(shape: tuple[int, ...]) -> None:
    x = rows_of(shape)
    layer = built(fastnn.Flatten, shape)
    np.testing.assert_array_equal(layer.forward(x, training=True), x.reshape(ROWS, -1))
    np.testing.assert_array_equal(layer.backward(x.reshape(ROWS, -1)), x)


def test_reshape_finds_the_length_left_open() -> None:
    x = rows_of((4, 6))
    layer = built(lambda: fastnn.Reshape((2, -1, 3)), (4, 6))
    np.testing.assert_array_equal(layer.forward(x, training=True), x.reshape(ROWS, 2, 4, 3))
    np.testing.assert_array_equal(layer.backward(x.reshape(ROWS, 2, 4, 3)), x)


def test_input_first_builds_the_model() -> None:
    model = fastnn.Sequential([fastnn.Input((2, 3)), fastnn.Flatten(), fastnn.Dense(4)])
    assert model.built
    assert model.input_shape == (2, 3)
    assert model.count_params() == 28
    with pytest.raises(ValueError, match=r"shape is \(2, 3\)"):
        fastnn.Sequential([fastnn.Input((2, 3)), fastnn.Flatten()], input_shape=(3, 2))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastnn.Dense(0), ValueError, "Dense: units must be at least 1, got 0"),
        (lambda: fastnn.Dense(-3), ValueError, "Dense: units must be at least 1, got -3"),
        (lambda: fastnn.Dense(2.0), TypeError, "Dense: units must be an integer, got 2.0"),
        (lambda: fastnn.Dense(True), TypeError, "Dense: units must be an integer, got True"),
        (lambda: fastnn.Dense(3, "rleu"), ValueError, "relu, .*got 'rleu'"),
        (lambda: fastnn.Dense(3, kernel_initializer="he"), ValueError, "he_normal.*got 'he'"),
        (lambda: fastnn.Dense(3, bias_initializer=0), TypeError, "bias_initializer.*got 0"),
        (lambda: fastnn.Dense(3, name=5), TypeError, "name must be a string, got 5"),
        (lambda: fastnn.Activation("softmx"), ValueError, "swish, got 'softmx'"),
        (lambda: fastnn.Dropout(1.0), ValueError, r"Dropout: rate .* \[0, 1\), got 1.0"),
        (lambda: fastnn.Dropout(-0.1), ValueError, r"Dropout: rate .* \[0, 1\), got -0.1"),
        (lambda: fastnn.Dropout(float("nan")), ValueError, "Dropout: rate .* got nan"),
        (lambda: fastnn.Dropout("0.1"), ValueError, "Dropout: rate .* got '0.1'"),
        (lambda: fastnn.Dropout(0.1, seed=-1), ValueError, "Dropout: seed"),
        (lambda: fastnn.Input(0), ValueError, "Input: shape"),
        (lambda: fastnn.Input((3, -1)), ValueError, "Input: shape"),
        (lambda: fastnn.Input(()), ValueError, "Input: shape"),
        (lambda: fastnn.Reshape((2, 0)), ValueError, "Reshape: target_shape must be a tuple"),
        (lambda: fastnn.Reshape((-1, -1)), ValueError, r"may have one -1, got \(-1, -1\)"),
        (
            lambda: built(lambda: fastnn.Reshape((4, -1)), (6,)),
            ValueError,
            r"cannot be .*\(4, -1\)",
        ),
        (lambda: built(lambda: fastnn.Reshape(7), (6,)), ValueError, r"rows of shape \(6,\)"),
        (lambda: built(lambda: fastnn.Dense(3), (2, 2)), ValueError, r"put Flatten\(\) before"),
        (lambda: built(fastnn.Softmax, (2, 2)), ValueError, "softmax takes rows that are vectors"),
    ],
)
def test_wrong_arguments_are_named(make: Make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# Dropout


def test_dropout_keeps_the_mean() -> None:
    """Every element is 0 or 1/(1−rate), with mean 1, over elements, over steps and everywhere."""
    rate, steps, shape = 0.3, 400, (6, 131)
    layer = fastnn.Dropout(rate, seed=11)
    ones = np.ones(shape)
    layer.prepare(shape[1:], "float64", 11)
    masks = np.stack([layer.forward(ones, training=True) for _ in range(steps)])
    assert set(np.unique(masks)) == {0.0, 1 / (1 - rate)}
    deviation = np.sqrt(rate / (1 - rate))  # of one element
    assert abs(masks.mean() - 1) < 4 * deviation / np.sqrt(masks.size)
    # The largest of 786 means over steps; 5 deviations are passed once in 2000 times.
    assert np.abs(masks.mean(axis=0) - 1).max() < 5 * deviation / np.sqrt(steps)


def test_dropout_of_neighbours_is_independent() -> None:
    """Neither neighbours in a row, nor in a column, nor the same element in the next step agree
    more than chance; nor do two layers, or two seeds."""
    layer = fastnn.Dropout(0.5, seed=12)
    masks = np.stack([layer.forward(np.ones((64, 200)), True) for _ in range(8)]) - 1
    other_seed = fastnn.Dropout(0.5, seed=13).forward(np.ones((64, 200)), True) - 1
    second = fastnn.Dropout(0.5)
    fastnn.Sequential([fastnn.Dropout(0.5), second], input_shape=(200,), seed=12)
    other_layer = second.forward(np.ones((64, 200)), True) - 1
    pairs = [
        (masks[:, :, 1:], masks[:, :, :-1]),
        (masks[:, :, 16:], masks[:, :, :-16]),  # the same counter's next word
        (masks[:, 1:], masks[:, :-1]),
        (masks[1:], masks[:-1]),
        (masks[0], other_seed),
        (masks[0], other_layer),
    ]
    for one, other in pairs:
        assert abs((one * other).mean()) < 5 / np.sqrt(one.size)


def test_dropout_draws_by_step_seed_and_nothing_else() -> None:
    ones = np.ones((9, 70), np.float32)

    def masks(seed: int) -> Array:
        layer = fastnn.Dropout(0.4, seed=seed)
        return np.stack([layer.forward(ones, training=True) for _ in range(3)])

    np.testing.assert_array_equal(masks(1), masks(1))
    assert (masks(1) != masks(2)).any()
    first = masks(1)
    assert (first[0] != first[1]).any()
    assert (first[1] != first[2]).any()
    # A row's mask is a function of its place: a shorter batch has the same first rows.
    short = fastnn.Dropout(0.4, seed=1).forward(ones[:4], training=True)
    np.testing.assert_array_equal(short, first[0][:4])
    prepared = fastnn.Dropout(0.4, seed=1)
    prepared.prepare((70,))
    np.testing.assert_array_equal(prepared.forward(ones, training=True), first[0])
    # Backward has the mask of its own forward, whatever was predicted in between.
    layer = fastnn.Dropout(0.4, seed=1)
    layer.forward(ones, training=True)
    layer.forward(ones)
    np.testing.assert_array_equal(layer.backward(ones), first[0])


def test_dropout_does_nothing_when_predicting() -> None:
    x = rows_of((33,), "float32")
    np.testing.assert_array_equal(fastnn.Dropout(0.9).forward(x), x)
    dense = fastnn.Dense(4)
    model = fastnn.Sequential(
        [fastnn.Dropout(0.9), dense, fastnn.Dropout(0.9)], input_shape=(33,), seed=1
    )
    np.testing.assert_array_equal(model.predict(x), dense.forward(x))
    model.compile("sgd", "mse")
    y = model.predict(x)
    assert model.evaluate(x, y)["loss"] == 0
