"""What layers that draw random numbers have in common, and what is peculiar to each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.kernels import reference
from helpers import assert_close

Array = NDArray[Any]

SEED, ROWS = 11, 6
LIMIT = -1.0507009873554805 * 1.6732632423543772


class Member(NamedTuple):
    """A layer of the family: made by its rate or stddev, its rows, and the oracle's word on it.

    The oracle is given rows and (rate, seed, stream, step); `back` is what it makes of a gradient
    where that is something else.
    """

    make: Callable[[float], fastnn.Layer]
    shape: tuple[int, ...]
    oracle: Callable[..., Array]
    back: Callable[..., Array] | None = None


def flat(oracle: Callable[..., Array]) -> Callable[..., Array]:
    """An oracle of matrices for rows of any shape."""
    return lambda x, *place: oracle(x.reshape(len(x), -1), *place).reshape(x.shape)


def gaussian_dropout(x: Array, rate: float, *place: int) -> Array:
    return flat(reference.gaussian_dropout)(x, np.sqrt(rate / (1 - rate)), *place)


def drop_block(block_size: int) -> Callable[..., Array]:
    return lambda x, rate, *place: reference.drop_block_forward(x, rate, block_size, *place)


FAMILY: dict[str, Member] = {
    "Dropout": Member(lambda p: fastnn.Dropout(p, SEED), (3, 50), flat(reference.dropout_forward)),
    "AlphaDropout": Member(
        lambda p: fastnn.AlphaDropout(p, SEED),
        (150,),
        reference.alpha_dropout_forward,
        reference.alpha_dropout_backward,
    ),
    "SpatialDropout1D": Member(
        lambda p: fastnn.SpatialDropout1D(p, SEED), (3, 70), reference.spatial_dropout_forward
    ),
    "SpatialDropout2D": Member(
        lambda p: fastnn.SpatialDropout2D(p, SEED), (5, 4, 7), reference.spatial_dropout_forward
    ),
    "DropBlock2D": Member(lambda p: fastnn.DropBlock2D(p, 3, SEED), (6, 7, 4), drop_block(3)),
    "DropBlock2D, even": Member(lambda p: fastnn.DropBlock2D(p, 2, SEED), (5, 4, 3), drop_block(2)),
    "GaussianNoise": Member(
        lambda p: fastnn.GaussianNoise(p, SEED),
        (3, 50),
        flat(reference.gaussian_noise),
        lambda dy, *_: dy,
    ),
    "GaussianDropout": Member(lambda p: fastnn.GaussianDropout(p, SEED), (150,), gaussian_dropout),
}

of_every_member = pytest.mark.parametrize("name", FAMILY)


def rows_of(shape: tuple[int, ...], rows: int = ROWS) -> Array:
    return np.random.default_rng(1).uniform(1.0, 2.0, size=(rows, *shape))


def made(name: str, rate: float, dtype: str = "float64") -> fastnn.Layer:
    layer = FAMILY[name].make(rate)
    layer.prepare(FAMILY[name].shape, dtype, SEED)
    return layer


def test_every_layer_that_draws_is_a_member() -> None:
    known = {
        kind.__name__
        for kind in vars(fastnn.layers).values()
        if isinstance(kind, type) and hasattr(kind, "draws")
    }
    assert {name.partition(",")[0] for name in FAMILY} == known


@of_every_member
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_is_the_oracle_in_each_step(name: str, dtype: str) -> None:
    member, rate = FAMILY[name], 0.3
    layer = made(name, rate, dtype)
    x, dy = rows_of(member.shape).astype(dtype), rows_of(member.shape)[::-1].astype(dtype)
    outputs = []
    for step in range(3):
        outputs.append(layer.forward(x, training=True))
        expected = member.oracle(x.astype(np.float64), rate, SEED, 0, step)
        assert_close(outputs[-1], expected)
        np.testing.assert_array_equal(outputs[-1] == 0, expected == 0)  # bit by bit
        layer.forward(x)  # predicting in between takes no step
        back = (member.back or member.oracle)(dy.astype(np.float64), rate, SEED, 0, step)
        assert_close(layer.backward(dy), back)
    assert (outputs[0] != outputs[1]).any()
    assert (outputs[1] != outputs[2]).any()


@of_every_member
def test_nothing_is_done_at_rate_0_nor_when_predicting(name: str) -> None:
    x = rows_of(FAMILY[name].shape)
    idle = made(name, 0.0)
    np.testing.assert_array_equal(idle.forward(x, training=True), x)
    np.testing.assert_array_equal(idle.backward(x), x)
    np.testing.assert_array_equal(made(name, 0.9).forward(x), x)


@of_every_member
def test_mean_of_sums_over_many_masks_is_the_plain_sum(name: str) -> None:
    rate, steps = 0.3, 400
    layer, x = made(name, rate), rows_of(FAMILY[name].shape)
    expected = x.sum()
    if name == "AlphaDropout":  # what it keeps is a mean of 0: others shrink by a·(1 − rate)
        expected *= (1 - rate) * ((1 - rate) * (1 + LIMIT**2 * rate)) ** -0.5
    if name.startswith("DropBlock2D"):
        # An element is dropped less often at the edge. By the count of what is left, each row's
        # sum is right where its elements are equal.
        x = np.broadcast_to(x[(slice(None), *[slice(1)] * (x.ndim - 1))], x.shape).copy()
        expected = x.sum()
        dropped = [(layer.forward(x, training=True) == 0).mean() for _ in range(50)]
        assert 0.2 < np.mean(dropped) < rate
    sums = np.array([layer.forward(x, training=True).sum() for _ in range(steps)])
    assert abs(sums.mean() - expected) <= 4 * sums.std() / np.sqrt(steps) + 1e-12 * expected
    assert sums.std() > 0 or name.startswith("DropBlock2D")


def test_alpha_dropout_keeps_mean_0_and_variance_1() -> None:
    x = np.random.default_rng(2).normal(size=(400, 500))
    for rate in (0.05, 0.3, 0.8):
        y = fastnn.AlphaDropout(rate, SEED).forward(x, training=True).astype(np.float64)
        # Standard errors of a sample's mean and variance.
        assert abs(y.mean()) < 4 * np.sqrt(y.var() / y.size)
        assert abs(y.var() - 1) < 4 * np.sqrt(((y**2).var()) / y.size)


@pytest.mark.parametrize("block_size", [1, 2, 3, 4])
def test_blocks_begin_wherever_they_end_within_the_picture(block_size: int) -> None:
    height, width, channels, rate, rows = 4, 5, 2, 0.3, 3000
    layer = fastnn.DropBlock2D(rate, block_size, SEED)
    y = layer.forward(np.ones((rows, height, width, channels)), training=True)
    down, across = height - block_size + 1, width - block_size + 1
    begin = rate / block_size**2 * height * width / (down * across)
    # An element is kept where none of the blocks that would hold it begins.
    blocks = np.zeros((height, width))
    for i, j in np.ndindex(down, across):
        blocks[i : i + block_size, j : j + block_size] += 1
    expected = 1 - (1 - begin) ** blocks[..., None]
    error = np.sqrt(expected * (1 - expected) / rows)
    assert (abs((y == 0).mean(axis=0) - expected) < 4.5 * error).all()
    # By channel: the two of one place are dropped together as often as chance has it.
    both = (y == 0).all(axis=-1).mean(axis=0)
    together = expected[..., 0] ** 2
    assert (abs(both - together) < 4.5 * np.sqrt(together / rows)).all()
    kept = (y != 0).sum(axis=(1, 2, 3))
    assert_close(y.sum(axis=(1, 2, 3))[kept > 0] / y[0].size, np.ones((kept > 0).sum()), "float32")
    assert np.isfinite(y).all()


def test_a_picture_of_which_nothing_is_left_is_0() -> None:
    layer = fastnn.DropBlock2D(0.5, 3, SEED)
    y = layer.forward(np.ones((64, 3, 3, 1)), training=True)
    rows = {tuple(row.ravel()) for row in y}
    assert rows == {(0.0,) * 9, (1.0,) * 9}


# Keras: the same results where it is given the same random numbers


def call_keras(layer: Any, x: Array, **replaced: Any) -> Array:
    """What a layer of Keras makes of x in training, with other functions for random numbers."""
    module = sys.modules[type(layer).__module__]
    with pytest.MonkeyPatch.context() as patch:
        for name, function in replaced.items():
            for room in {"backend", "ops"} & vars(module).keys():
                patch.setattr(getattr(module, room).random, name, function)
        return np.asarray(layer(x, training=True).detach())


@pytest.mark.parametrize("name", [n for n in FAMILY if not n.startswith("DropBlock2D")])
def test_layer_is_keras_own(name: str, keras: Any) -> None:
    rate, shape = 0.3, FAMILY[name].shape
    layer = getattr(keras.layers, name)(rate, dtype="float64")
    x = rows_of(shape)
    place = SEED, 0, 0

    def tensor(values: Array) -> Any:
        return keras.ops.convert_to_tensor(values)

    def matrix(shape: Any) -> tuple[int, int]:
        return int(shape[0]), int(np.prod(shape[1:]))

    def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        shape = tuple(inputs.shape if noise_shape is None else noise_shape)
        return inputs * tensor(reference.dropout_mask(matrix(shape), rate, *place).reshape(shape))

    def uniform(shape: Any, **_: Any) -> Any:  # only ever compared with the rate
        kept = reference.dropout_mask(matrix(shape), rate, *place) > 0
        return tensor(np.where(kept, 1.0, 0.0).reshape(tuple(shape)))

    def normal(shape: Any, mean: float, stddev: float, **_: Any) -> Any:
        z = reference.normal_numbers(matrix(shape), *place).reshape(tuple(shape))
        return tensor(mean + stddev * z)

    expected = call_keras(layer, x, dropout=dropout, uniform=uniform, normal=normal)
    assert not np.array_equal(expected, x)
    assert_close(made(name, rate).forward(x, training=True), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *(
            (lambda kind=kind, p=p: getattr(fastnn, kind)(p), rf"{kind}: rate must .*\[0, 1\), got")
            for kind in ("AlphaDropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout")
            for p in (1.0, -0.1, np.nan, "half", None)
        ),
        (lambda: fastnn.DropBlock2D(1.0, 2), r"DropBlock2D: rate must be a number in \[0, 1\)"),
        (lambda: fastnn.DropBlock2D(0.1, 0), r"DropBlock2D: block_size must be at least 1, got 0"),
        (lambda: fastnn.GaussianNoise(-0.1), r"GaussianNoise: stddev .*\[0, inf\), got -0.1"),
        (lambda: fastnn.GaussianNoise(np.inf), r"GaussianNoise: stddev .*\[0, inf\), got inf"),
        (lambda: fastnn.AlphaDropout(0.1, seed=-1), r"AlphaDropout: seed must be at least 0"),
        (lambda: fastnn.GaussianNoise(0.1, seed=2**64), r"GaussianNoise: seed must be below"),
        (
            lambda: fastnn.DropBlock2D(0.1, 5).prepare((4, 6, 3)),
            r"DropBlock2D: block_size must be at most 4 for rows of shape \(4, 6, 3\), got 5",
        ),
        (
            lambda: fastnn.DropBlock2D(0.1, 2).prepare((4, 6)),
            r"DropBlock2D: rows must be \(H, W, C\), got shape \(4, 6\)",
        ),
        (
            lambda: fastnn.SpatialDropout1D(0.1).prepare((4, 6, 3)),
            r"SpatialDropout1D: rows must be \(T, C\), got shape \(4, 6, 3\)",
        ),
        (
            lambda: fastnn.SpatialDropout2D(0.1).prepare((7,)),
            r"SpatialDropout2D: rows must be \(H, W, C\), got shape \(7,\)",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
