"""The rectifier with a learned slope: against Keras and PyTorch, in rows of any rank and size."""

import doctest
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.kernels import reference
from fastnn.layers import prelu
from helpers import assert_close
from kernel_cases import apply, assert_same_bits, run_as_team

Array = NDArray[Any]

ROWS = 6
SHAPES: list[tuple[tuple[int, ...], list[int] | None]] = [
    ((9,), None),
    ((9,), [1]),
    ((4, 5), [2]),
    ((3, 4, 5), None),
    ((3, 4, 5), [1, 2]),
    ((3, 4, 5), [2, 3]),
    ((3, 4, 5), [2]),
    ((3, 4, 5), [1, 3]),
    ((2, 3, 2, 3), [4, 1]),
    ((3, 4, 5), [1, 2, 3]),
]


def example(shape: tuple[int, ...], axes: list[int] | None) -> tuple[fastnn.PReLU, Array, Array]:
    rng = np.random.default_rng(8)
    x, dy = rng.normal(size=(2, ROWS, *shape))
    x[0], x[1] = 0.0, -0.0
    layer = fastnn.PReLU(fastnn.initializers.RandomNormal(0.1, 0.5), shared_axes=axes)
    layer.prepare(shape, "float64", seed=3)
    return layer, x, dy


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_it_is_that_of_keras(shape: tuple[int, ...], axes: list[int] | None, keras: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layer, x, dy = example(shape, axes)
    theirs = keras.layers.PReLU(shared_axes=axes, dtype="float64")
    theirs.build((None, *shape))
    assert theirs.alpha.shape == layer.alpha.shape
    theirs.alpha.assign(layer.alpha)
    given = torch.tensor(x, requires_grad=True)
    y = theirs(given)
    y.backward(torch.tensor(dy))
    assert_close(layer.forward(x, training=True), y.detach().numpy())
    # At 0 Keras's gradient, of −α·relu(−x) + relu(x), is 0, and PyTorch's and ours is α.
    assert_close(layer.backward(dy)[2:], given.grad.numpy()[2:])
    assert_close(layer.grads["alpha"], theirs.alpha.value.grad.numpy(), scale=4)  # 6 to 360 terms


@pytest.mark.parametrize(("shape", "channels"), [((9,), False), ((5, 3, 4), True), ((5,), True)])
def test_it_is_that_of_pytorch(shape: tuple[int, ...], channels: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    axes = list(range(2, len(shape) + 1)) if channels else [1]
    layer, x, dy = example(shape, axes)
    theirs = torch.nn.PReLU(layer.alpha.size, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(layer.alpha.reshape(-1)))
    given = torch.tensor(x, requires_grad=True)
    y = theirs(given)
    y.backward(torch.tensor(dy))
    assert_close(layer.forward(x, training=True), y.detach().numpy())
    assert_close(layer.backward(dy), given.grad.numpy())
    assert_close(layer.grads["alpha"].reshape(-1), theirs.weight.grad.numpy(), scale=4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shared", [False, True])
def test_rows_longer_than_a_chunk(shared: bool, dtype: str) -> None:
    rng = np.random.default_rng(9)
    rows, columns = 3, prelu_columns()
    x, dy = rng.normal(size=(2, rows, columns)).astype(dtype)
    place = rng.permutation(columns) % (columns // 5) if shared else None
    members = None if place is None else np.argsort(place, kind="stable").reshape(-1, 5)
    alpha = rng.normal(size=columns // 5 if shared else columns).astype(dtype)
    slopes = alpha if place is None else alpha[place]
    calls: dict[str, dict[str, Any]] = {
        "prelu_forward": {"y": np.empty_like(x), "x": x, "alpha": alpha, "place": place},
        "prelu_backward": {
            "dx": np.empty_like(x), "dy": dy, "x": x, "alpha": alpha, "place": place,
        },
        "prelu_sums": {"sums": np.empty(columns), "dy": dy, "x": x},
    }  # fmt: skip
    results = {}
    for name, operands in calls.items():
        output = next(iter(operands))
        results[output] = apply(name, rows, dtype, **operands)[output].copy()
        operands[output].fill(np.nan)
        run_as_team(name, operands, fastnn.engine.cpu.new_state(), rows, 5)
        assert_same_bits({output: operands[output]}, {output: results[output]})
    dx, sums = reference.prelu_backward(dy, x, slopes)
    assert_close(results["y"], reference.prelu_forward(x, slopes), dtype)
    assert_close(results["dx"], dx, dtype)
    assert_close(results["sums"], sums, dtype)
    total = np.empty_like(alpha)
    apply("sum_members", rows, dtype, total=total, sums=results["sums"], members=members)
    expected = sums if place is None else np.bincount(place, sums)
    assert_close(total, expected, dtype, scale=5)  # 5 of them


def prelu_columns() -> int:
    """More than a chunk of each kernel, and no whole number of them."""
    from fastnn.kernels.cpu.prelu import CHUNK, COLUMNS

    columns = CHUNK + 5 * 31
    assert columns % 5 != 0 or columns % COLUMNS != 0
    return columns - columns % 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_long_sum_keeps_its_digits(dtype: str) -> None:
    """A slope of all elements of all rows: in float32 a sum of as many would lose them."""
    x = np.full((1000, 300), -1.0, dtype)
    dy = np.full_like(x, 0.1)
    layer = fastnn.PReLU(shared_axes=1)
    layer.prepare((300,), dtype)
    layer.forward(x, training=True)
    layer.backward(dy)
    assert_close(layer.grads["alpha"], [-300_000 * float(dy[0, 0])], dtype)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e-42, -1e-42, 3e38, -3e38])
def test_edges(value: float) -> None:
    layer = fastnn.PReLU("ones", shared_axes=1)
    layer.prepare((5,))
    layer.alpha = [0.5]
    x = np.full((1, 5), value, np.float32)
    expected = x if value > 0 else np.float32(0.5) * x
    np.testing.assert_array_equal(layer.forward(x), expected)


def network(dtype: str = "float32", **arguments: Any) -> fastnn.Sequential:
    layers = [fastnn.Dense(64), fastnn.PReLU(**arguments), fastnn.Dense(48), fastnn.PReLU(),
              fastnn.Dense(3, "softmax")]  # fmt: skip
    model = fastnn.Sequential(layers, (20,), dtype=dtype, seed=4)
    model.compile("adam", "categorical_crossentropy")
    return model


def data(rows: int = 4096) -> tuple[Array, Array]:
    x = np.random.default_rng(10).normal(size=(rows, 20))
    return x, np.abs(x[:, :3]).argmax(axis=1)


@pytest.mark.parametrize("axes", [None, 1])
def test_the_same_bits_on_any_number_of_threads(axes: int | None) -> None:
    x, y = data()
    results, before = set(), fastnn.get_num_threads()
    for threads in (1, 2, 3):
        model = network(shared_axes=axes)
        fastnn.set_num_threads(threads)
        try:
            loss = model.fit(x, y, batch_size=2048, epochs=6, verbose=0).history["loss"]
        finally:
            fastnn.set_num_threads(before)
        assert loss[-1] < loss[0]
        results.add(model.parameters.tobytes())
    assert len(results) == 1


def test_gradients_in_a_model_and_a_frozen_slope() -> None:
    x, y = data(12)
    model = network(alpha_initializer="random_normal", shared_axes=1)
    assert max(fastnn.gradcheck(model, x, y, entries=10).values()) < 1e-5
    model.layers[1].trainable = False
    frozen, other = model.layers[1].alpha.copy(), model.layers[3].alpha.copy()
    model.fit(x, y, epochs=2, verbose=0)
    np.testing.assert_array_equal(model.layers[1].alpha, frozen)
    assert (model.layers[3].alpha != other).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shared_axes": [0]}, "PReLU: shared_axes must be at least 1, got 0"),
        ({"shared_axes": 1.5}, "PReLU: shared_axes must be an integer, got 1.5"),
        ({"shared_axes": [1, 4]}, r"shared_axes .* rows of shape \(2, 3, 4\), from 1 to 3, got"),
        ({"alpha_initializer": "quarter"}, "PReLU: alpha_initializer must be one of"),
        ({"alpha_regularizer": "l3"}, "PReLU: alpha_regularizer must be"),
        ({"alpha_constraint": 5}, "PReLU: alpha_constraint must be"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        fastnn.PReLU(**arguments).prepare((2, 3, 4))


def test_alpha_is_a_live_view() -> None:
    layer = fastnn.PReLU()
    with pytest.raises(AttributeError, match="PReLU is not built yet"):
        _ = layer.alpha
    layer.prepare((3,))
    layer.alpha = [0.5, 0.25, 0.0]
    assert layer.forward([[-4.0, -4.0, -4.0]]).tolist() == [[-2.0, -1.0, 0.0]]
    with pytest.raises(ValueError, match=r"alpha must have shape \(3,\), got \(2,\)"):
        layer.alpha = [0.5, 0.25]


def test_docstring_example() -> None:
    result = doctest.testmod(prelu)
    assert result.attempted >= 3
    assert result.failed == 0
