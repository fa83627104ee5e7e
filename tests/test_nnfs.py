"""`fastnn.nnfs` by hand: the book's figures, its formulas bit for bit, and what is refused."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import nnfs
from fastnn.nnfs.datasets import sine_data, spiral_data, vertical_data
from helpers import assert_close, assert_is_gradient
from nnfs_book import RULES, linear_end, sigmoid_end, softmax_end, train

DTYPES = ("float32", "float64")


@pytest.fixture(autouse=True)
def settings_put_back() -> Iterator[None]:
    """`init` sets NumPy's generator and a type for the whole process."""
    before = np.random.get_state()
    yield
    nnfs.init(default_dtype=None, random_seed=None)
    np.random.set_state(before)


class Net:
    """Dense, ReLU, dense and a loss as the book's loops have them."""

    def __init__(self, sizes: tuple[int, int, int], optimizer: Any, **regularizers: float) -> None:
        inputs, hidden, outputs = sizes
        self.dense1 = nnfs.Layer_Dense(inputs, hidden, **regularizers)
        self.activation1 = nnfs.Activation_ReLU()
        self.dense2 = nnfs.Layer_Dense(hidden, outputs)
        self.optimizer = optimizer

    def forward(self, x: Any) -> Any:
        self.dense1.forward(x)
        self.activation1.forward(self.dense1.output)
        self.dense2.forward(self.activation1.output)
        return self.dense2.output

    def backward(self, dvalues: Any) -> None:
        self.dense2.backward(dvalues)
        self.activation1.backward(self.dense2.dinputs)
        self.dense1.backward(self.activation1.dinputs)
        self.optimizer.pre_update_params()
        self.optimizer.update_params(self.dense1)
        self.optimizer.update_params(self.dense2)
        self.optimizer.post_update_params()

    @property
    def parameters(self) -> list[Any]:
        return [*self.dense1.get_parameters(), *self.dense2.get_parameters()]


# The runs of chapters 10 to 14 and 16, 64 neurons, from seed 0: the optimizer, regularization, and
# accuracy and loss at epochs 100 and 1000 as the book's formulas give them in NumPy.
L2 = {"weight_regularizer_l2": 5e-4, "bias_regularizer_l2": 5e-4}
RUNS: dict[str, tuple[Callable[[], Any], dict[str, float], list[float]]] = {
    "SGD": (nnfs.Optimizer_SGD, {}, [0.400, 1.087, 0.400, 1.062]),
    "decay": (lambda: nnfs.Optimizer_SGD(decay=1e-3), {}, [0.400, 1.088, 0.443, 1.063]),
    "momentum": (
        lambda: nnfs.Optimizer_SGD(decay=1e-3, momentum=0.9), {}, [0.443, 1.053, 0.837, 0.447],
    ),
    "Adagrad": (lambda: nnfs.Optimizer_Adagrad(decay=1e-4), {}, [0.453, 1.011, 0.690, 0.670]),
    "RMSprop": (
        lambda: nnfs.Optimizer_RMSprop(0.02, decay=1e-5, rho=0.999), {},
        [0.467, 1.013, 0.730, 0.637],
    ),
    "Adam": (lambda: nnfs.Optimizer_Adam(0.05, decay=5e-7), {}, [0.670, 0.705, 0.940, 0.217]),
    "L2": (lambda: nnfs.Optimizer_Adam(0.02, decay=5e-7), L2, [0.690, 0.845, 0.870, 0.434]),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_the_books_runs(name: str) -> None:
    make, regularizers, expected = RUNS[name]
    nnfs.init()
    x, y = spiral_data(samples=100, classes=3)
    net = Net((2, 64, 3), make(), **regularizers)
    joint = nnfs.Activation_Softmax_Loss_CategoricalCrossentropy()
    found = []
    for epoch in range(1001):
        loss = joint.forward(net.forward(x), y) + joint.loss.regularization_loss(net.dense1)
        if epoch in (100, 1000):
            found += [float(np.mean(np.argmax(joint.output, axis=1) == y)), float(loss)]
        joint.backward(joint.output, y)
        net.backward(joint.dinputs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.003)


def test_the_books_binary_run() -> None:
    nnfs.init()
    x, labels = spiral_data(samples=100, classes=2)
    y = labels.reshape(-1, 1)
    net = Net((2, 64, 1), nnfs.Optimizer_Adam(decay=5e-7), **L2)
    sigmoid, bce = nnfs.Activation_Sigmoid(), nnfs.Loss_BinaryCrossentropy()
    found = []
    for epoch in range(1001):
        sigmoid.forward(net.forward(x))
        loss = bce.calculate(sigmoid.output, y) + bce.regularization_loss(net.dense1)
        if epoch in (100, 1000):
            found += [float(np.mean((sigmoid.output > 0.5) * 1 == y)), float(loss)]
        bce.backward(sigmoid.output, y)
        sigmoid.backward(bce.dinputs)
        net.backward(sigmoid.dinputs)
    np.testing.assert_allclose(found, [0.630, 0.674, 0.785, 0.560], rtol=0, atol=0.003)


def data(dtype: str, kind: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(37, 5)).astype(dtype)
    targets = {
        "softmax": rng.integers(0, 3, 37),
        "sigmoid": rng.integers(0, 2, (37, 3)).astype(np.uint8),  # as the book's labels
        "linear": rng.normal(size=(37, 3)).astype(dtype),
    }
    return x, targets[kind]


ENDS: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[..., Any]]] = {
    "softmax": (nnfs.Activation_Softmax, nnfs.Loss_CategoricalCrossentropy, softmax_end),
    "sigmoid": (nnfs.Activation_Sigmoid, nnfs.Loss_BinaryCrossentropy, sigmoid_end),
    "linear": (nnfs.Activation_Linear, nnfs.Loss_MeanSquaredError, linear_end),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rule", "kind"),
    [*((rule, "softmax") for rule in RULES), ("Adam", "sigmoid"), ("Adam", "linear")],
)
def test_steps_have_the_bits_of_numpy(rule: str, kind: str, dtype: str) -> None:
    name, arguments, oracle = RULES[rule]
    make_activation, make_loss, end = ENDS[kind]
    nnfs.init(default_dtype=dtype, random_seed=1)
    x, y = data(dtype, kind)
    x, y = (x, y) if rule != "Adam" else (np.tile(x, (30, 1)), np.concatenate([y] * 30))
    optimizer = getattr(nnfs, name)(**arguments)
    net, activation, loss = Net((5, 33, 3), optimizer), make_activation(), make_loss()
    joint = nnfs.Activation_Softmax_Loss_CategoricalCrossentropy()
    start = [array.copy() for array in net.parameters]
    *_, expected = train([(x, y)] * 25, start, end, lambda: oracle(**arguments))
    for _ in range(25):
        activation.forward(net.forward(x))
        value = loss.calculate(activation.output, y)
        if kind == "softmax":
            joint.backward(activation.output, y)
            dvalues = joint.dinputs
        else:
            loss.backward(activation.output, y)
            activation.backward(loss.dinputs)
            dvalues = activation.dinputs
        net.backward(dvalues)
    assert_close(value, expected.loss, dtype)
    for found, wanted in zip(net.parameters, expected.parameters, strict=True):
        assert found.dtype == dtype
        if dtype == "float32":
            np.testing.assert_array_equal(found, wanted)
        else:  # products of float64 are rounded as their sums go
            assert_close(found, wanted, scale=100.0)
    assert_close(activation.output, expected.output, dtype, scale=100.0)


def rows(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(
    "activation",
    [
        nnfs.Activation_ReLU,
        nnfs.Activation_Softmax,
        nnfs.Activation_Sigmoid,
        nnfs.Activation_Linear,
    ],
)
def test_activations_gradients(activation: Callable[[], Any]) -> None:
    x, upstream, layer = rows(0, 4, 5), rows(1, 4, 5), activation()

    def value(inputs: Any) -> float:
        layer.forward(inputs, training=True)
        return float((layer.output * upstream).sum())

    value(x)
    layer.backward(upstream)
    assert_is_gradient(layer.dinputs.copy(), value, x)


LOSSES = {
    "labels": (nnfs.Loss_CategoricalCrossentropy, np.array([2, 0, 1, 2])),
    "one-hot": (nnfs.Loss_CategoricalCrossentropy, np.eye(3)[[2, 0, 1, 2]]),
    "binary": (
        nnfs.Loss_BinaryCrossentropy,
        np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1]]),
    ),
    "squared": (nnfs.Loss_MeanSquaredError, rows(2, 4, 3)),
    "absolute": (nnfs.Loss_MeanAbsoluteError, rows(2, 4, 3)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_gradients_and_accumulated_values(name: str) -> None:
    make, y = LOSSES[name]
    p = np.random.default_rng(0).uniform(0.05, 0.95, (4, 3))
    loss = make()
    loss.backward(p, y)
    assert_is_gradient(loss.dinputs, lambda q: float(make().calculate(q, y)), p)
    parts = [float(loss.calculate(p[part], y[part])) for part in (slice(3), slice(3, 4))]
    assert_close(loss.calculate_accumulated(), (3 * parts[0] + parts[1]) / 4, "float64")
    loss.new_pass()
    assert loss.calculate(p, y) == pytest.approx(float(np.mean(loss.forward(p, y))))
    assert loss.accumulated_count == 4


def test_targets_of_one_column_may_be_a_vector() -> None:
    p, y = np.array([[1.0], [3.0]]), np.array([0.0, 1.0])
    for make in (nnfs.Loss_MeanSquaredError, nnfs.Loss_MeanAbsoluteError):
        loss, other = make(), make()
        assert_close(loss.forward(p, y), other.forward(p, y[:, None]))
        loss.backward(p, y)
        other.backward(p, y[:, None])
        assert_close(loss.dinputs, other.dinputs)
        assert loss.dinputs.shape == p.shape


def test_dense_gradients_with_all_regularizers() -> None:
    strengths = dict.fromkeys(
        ("weight_regularizer_l1", "weight_regularizer_l2", "bias_regularizer_l1",
         "bias_regularizer_l2"), 0.1,
    )  # fmt: skip
    layer, loss = nnfs.Layer_Dense(5, 3, **strengths, weight_scale=1.0), nnfs.Loss()
    x, upstream = rows(0, 4, 5), rows(1, 4, 3)
    layer.biases = rows(2, 1, 3)

    def value_of(name: str) -> Callable[[Any], float]:
        def value(array: Any) -> float:
            kept = getattr(layer, name)
            setattr(layer, name, array)
            layer.forward(x)
            total = float((layer.output * upstream).sum()) + loss.regularization_loss(layer)
            setattr(layer, name, kept)
            return total

        return value

    layer.forward(x)
    layer.backward(upstream)
    gradients = layer.dweights.copy(), layer.dbiases.copy()
    assert_is_gradient(gradients[0], value_of("weights"), layer.weights)
    assert_is_gradient(gradients[1], value_of("biases"), layer.biases)
    assert_close(layer.dinputs, upstream @ layer.weights.T)
    loss.remember_trainable_layers([layer, layer])
    assert_close(loss.regularization_loss(), 2 * loss.regularization_loss(layer))
    # The book's slope of |w| at 0 is 1.
    layer.biases = np.zeros((1, 3))
    layer.backward(np.zeros((4, 3)))
    assert_close(layer.dbiases, np.full((1, 3), 0.1))


def test_dropout_draws_as_the_book_does() -> None:
    layer, x = nnfs.Layer_Dropout(0.25), np.ones((50, 40), np.float32)
    assert layer.rate == 0.75
    np.random.seed(5)
    layer.forward(x)
    np.random.seed(5)
    mask = np.random.binomial(1, 0.75, size=x.shape) / 0.75
    np.testing.assert_array_equal(layer.output, mask.astype(np.float32))
    layer.backward(2 * x)
    np.testing.assert_array_equal(layer.dinputs, 2 * mask.astype(np.float32))
    layer.forward(x, training=False)
    np.testing.assert_array_equal(layer.output, x)
    assert layer.output is not x


# Values of the nnfs package 0.5.1 after its own init().
SPIRAL = np.float32(
    [[0.002995557, 0.009646608], [0.32209808, -0.38901007], [-0.9427888, 0.33339068]]
)
WEIGHTS = np.float32([-0.013065268, 0.016581306])
VERTICAL = np.float32([[-0.056931205, 0.58689636], [0.5702055, 0.5820248]])


def test_data_sets_and_first_weights() -> None:
    nnfs.init()
    x, y = spiral_data(samples=100, classes=3)
    assert (x.dtype, y.dtype, x.shape) == (np.float32, np.uint8, (300, 2))
    np.testing.assert_array_equal(x[[1, 150, 299]], SPIRAL)
    weights = nnfs.Layer_Dense(2, 64).weights
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights[0, :2], WEIGHTS)
    x, y = vertical_data(samples=4, classes=3)
    np.testing.assert_array_equal(x[[0, 11]], VERTICAL)
    np.testing.assert_array_equal(y, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    x, y = sine_data(8)
    assert_close(x[:3, 0], [0.0, 0.125, 0.25])
    assert_close(y[:3, 0], [0.0, 0.5**0.5, 1.0])
    nnfs.init(default_dtype=None, random_seed=0)
    drawn = nnfs.Layer_Dense(3, 2, weight_scale=0.1).weights
    np.random.seed(0)
    np.testing.assert_array_equal(drawn, 0.1 * np.random.randn(3, 2))


@pytest.mark.parametrize("room", ["layers", "model", "datasets"])
def test_examples_in_docstrings(room: str) -> None:
    result = doctest.testmod(importlib.import_module(f"fastnn.nnfs.{room}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_arrays_may_be_assigned_in_any_form() -> None:
    layer, optimizer = nnfs.Layer_Dense(3, 2), nnfs.Optimizer_SGD()
    weights = np.arange(6.0).reshape(2, 3)
    layer.weights, layer.biases = weights.T, np.array([[1, -1]])
    layer.forward([[1, 2, 3]])
    assert_close(layer.output, [[9.0, 25.0]])
    layer.backward([[1, 0]])
    optimizer.update_params(layer)
    assert_close(layer.weights, weights.T - [[1, 0], [2, 0], [3, 0]])
    assert_close(layer.biases, [[0.0, -1.0]])
    assert_close(weights, np.arange(6.0).reshape(2, 3))  # seen from another side, not in place
    layer.weights = np.ones((3, 2), np.float32)
    own = layer.weights
    layer.forward(np.ones((4, 3)))
    assert layer.output.dtype == np.float32
    layer.backward(layer.output)
    optimizer.update_params(layer)
    assert layer.weights is own  # in place, as in the book


def test_a_gradient_that_is_not_finite_stops() -> None:
    layer = nnfs.Layer_Dense(2, 2)
    before = layer.weights.copy()
    layer.dweights, layer.dbiases = np.full((2, 2), np.nan), np.zeros((1, 2))
    with pytest.raises(fastnn.DivergenceError, match="step 0"):
        nnfs.Optimizer_Adam().update_params(layer)
    np.testing.assert_array_equal(layer.weights, before)


def test_accuracies() -> None:
    categorical = nnfs.Accuracy_Categorical()
    categorical.init([1])
    assert categorical.calculate(np.array([0, 1, 2]), np.array([0, 1, 1])) == pytest.approx(2 / 3)
    assert categorical.calculate(np.array([1]), np.eye(3)[[1]]) == 1
    assert categorical.calculate_accumulated() == 0.75
    categorical.new_pass()
    binary = nnfs.Accuracy_Categorical(binary=True)
    assert binary.calculate(np.array([[0], [1]]), np.array([[0], [0]])) == 0.5
    assert binary.calculate(np.array([[0], [1]]), np.array([0, 1])) == 1  # not in all pairs
    regression, y = nnfs.Accuracy_Regression(), np.array([[0.0], [500.0]])
    regression.init(y)
    assert regression.precision == 1.0
    regression.init(10 * y)
    assert regression.precision == 1.0
    assert regression.calculate(np.array([[0.9], [501.1]]), y) == 0.5
    regression.init(10 * y, reinit=True)
    assert regression.precision == 10.0


def forward(layer: Any, x: Any) -> Callable[[], None]:
    return lambda: layer.forward(x)


X = np.ones((4, 3))
WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "n_inputs": (lambda: nnfs.Layer_Dense(0, 2), ValueError, "n_inputs must be at least 1, got 0"),
    "l2": (lambda: nnfs.Layer_Dense(1, 2, weight_regularizer_l2=-1), ValueError, "_l2 must be"),
    "rate": (lambda: nnfs.Layer_Dropout(1.0), ValueError, r"rate must be .* \[0, 1\), got 1.0"),
    "decay": (lambda: nnfs.Optimizer_SGD(decay=-1), ValueError, "decay must be .* got -1"),
    "rho": (lambda: nnfs.Optimizer_RMSprop(rho=1), ValueError, "rho must be"),
    "dtype": (lambda: nnfs.init("float16"), ValueError, "default_dtype must be .* 'float16'"),
    "classes": (lambda: spiral_data(10, 300), ValueError, "classes must be at most 256, got 300"),
    "width": (forward(nnfs.Layer_Dense(2, 2), X), ValueError, r"\(N, 2\), got \(4, 3\)"),
    "empty": (forward(nnfs.Layer_Dense(3, 2), X[:0]), ValueError, "inputs is empty"),
    "text": (forward(nnfs.Layer_Dense(3, 2), [["a"] * 3]), TypeError, "inputs must be an array"),
    "softmax": (forward(nnfs.Activation_Softmax(), X[0]), ValueError, r"\(N, C\), got \(3,\)"),
    "label": (
        lambda: nnfs.Loss_CategoricalCrossentropy().calculate(X, np.array([0, 1, 2, 3])),
        ValueError, "labels from 0 to 2, got 0 to 3",
    ),
    "float label": (
        lambda: nnfs.Loss_CategoricalCrossentropy().calculate(X, np.ones(4)),
        TypeError, "integer labels, got float64",
    ),
    "labels": (
        lambda: nnfs.Loss_CategoricalCrossentropy().calculate(X, np.array([0, 1])),
        ValueError, r"\(4,\) or \(4, 3\), got \(2,\)",
    ),
    "targets": (
        lambda: nnfs.Loss_MeanSquaredError().calculate(X, np.ones(4)),
        ValueError, r"y_true must have shape \(4, 3\), got \(4,\)",
    ),
    "parameters": (
        lambda: nnfs.Layer_Dense(3, 2).set_parameters(np.ones((2, 3)), np.ones((1, 2))),
        ValueError, r"weights must have shape \(3, 2\), got \(2, 3\)",
    ),
    "compare": (
        lambda: nnfs.Accuracy_Regression().calculate(X, X), RuntimeError, "call init",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused(name: str) -> None:
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()


def test_assigned_parameters_of_other_shapes_are_refused() -> None:
    layer = nnfs.Layer_Dense(3, 2)
    layer.biases = np.zeros((1, 1))
    with pytest.raises(ValueError, match=r"biases must have shape \(1, 2\), got \(1, 1\)"):
        layer.forward(X)
    layer.weights = np.zeros(3)
    with pytest.raises(ValueError, match=r"weights must have shape .*, got \(3,\)"):
        layer.forward(X)


def test_gradients_of_other_shapes_are_refused() -> None:
    layer, relu, dropout = nnfs.Layer_Dense(3, 2), nnfs.Activation_ReLU(), nnfs.Layer_Dropout(0.5)
    layer.forward(X)
    relu.forward(layer.output)
    dropout.forward(layer.output)
    for call in (
        lambda: layer.backward(np.ones((3, 2))),
        lambda: layer.backward(np.ones((4, 3))),
        lambda: relu.backward(np.ones((4, 3))),
        lambda: dropout.backward(np.ones((4, 1))),
    ):
        with pytest.raises(ValueError, match="dvalues must have"):
            call()
    layer.dweights, layer.dbiases = np.ones((2, 3)), np.ones((1, 2))
    with pytest.raises(ValueError, match=r"dweights must have shape \(3, 2\)"):
        nnfs.Optimizer_SGD().update_params(layer)
