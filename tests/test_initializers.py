"""How weights begin: variances, seeds, and what a symmetric start does."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn import initializers

Array = NDArray[Any]

FAN_IN, FAN_OUT = 300, 200
VARIANCES = {
    "zeros": 0.0,
    "ones": 0.0,
    "random_normal": 0.05**2,
    "random_uniform": 0.05**2 / 3,
    "glorot_uniform": 2 / (FAN_IN + FAN_OUT),
    "glorot_normal": 2 / (FAN_IN + FAN_OUT),
    "he_uniform": 2 / FAN_IN,
    "he_normal": 2 / FAN_IN,
    "lecun_uniform": 1 / FAN_IN,
    "lecun_normal": 1 / FAN_IN,
}


def test_every_initializer_has_a_variance() -> None:
    assert set(VARIANCES) == set(initializers.INITIALIZERS)


@pytest.mark.parametrize("name", VARIANCES)
def test_initializers_have_mean_and_variance(name: str) -> None:
    layer = fastnn.Dense(FAN_OUT, kernel_initializer=name)
    layer.prepare((FAN_IN,), "float64", seed=7)
    w, variance = layer.kernel, VARIANCES[name]
    if variance == 0:
        assert (w == (name == "ones")).all()
        return
    # An estimated variance is off by √((κ−1)/n) of itself: κ is 3 for normal, 9/5 for uniform.
    kurtosis = 3 if "normal" in name else 1.8
    assert abs(w.mean()) < 5 * np.sqrt(variance / w.size)
    assert abs(w.var() / variance - 1) < 5 * np.sqrt((kurtosis - 1) / w.size)
    if "uniform" in name:
        limit = np.sqrt(3 * variance)
        assert 0.999 * limit < np.abs(w).max() <= limit
    assert (layer.bias == 0).all()


def test_weights_follow_from_seed_and_place() -> None:
    def weights(seed: int, dtype: str = "float64") -> list[Array]:
        stack = [fastnn.Dense(8), fastnn.Dense(8), fastnn.Dense(8)]
        return fastnn.Sequential(stack, (8,), dtype=dtype, seed=seed).get_weights()[::2]

    one, again, other = weights(1), weights(1), weights(2)
    for w, same, different in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(w, same)
        assert (w != different).all()
    assert (one[0] != one[1]).all()
    assert (one[1] != one[2]).all()
    for w, narrow in zip(one, weights(1, "float32"), strict=True):
        np.testing.assert_array_equal(w.astype(np.float32), narrow)


def test_a_symmetric_start_stays_symmetric() -> None:
    """Units that begin alike are told the same and stay alike, to the last bit: so a constant
    start is no start for hidden layers, and no unit's arithmetic depends on its place."""
    model = fastnn.Sequential(
        [fastnn.Dense(37, "tanh", kernel_initializer="ones"), fastnn.Dense(3, "softmax")],
        input_shape=(10,),
        seed=1,
    )
    model.layers[1].kernel = np.tile([0.1, -0.2, 0.3], (37, 1))
    model.compile("adam", "categorical_crossentropy")
    x = np.random.default_rng(1).normal(size=(50, 10)) / 4
    model.fit(x, np.arange(50) % 3, batch_size=16, epochs=3, verbose=0)
    kernel, _, second, _ = model.get_weights()
    assert (kernel == kernel[:, :1]).all()
    assert (second == second[:1]).all()
    assert (kernel != 1).any()


def test_initializers_of_the_user() -> None:
    def halves(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        assert isinstance(generator, np.random.Generator)
        return np.full(shape, 0.5)

    layer = fastnn.Dense(3, kernel_initializer=halves)
    layer.prepare((4,))
    assert (layer.kernel == 0.5).all()
    with pytest.raises(ValueError, match=r"shape \(2,\) where \(4, 3\) is needed"):
        fastnn.Dense(3, kernel_initializer=lambda s, g: np.ones(2)).prepare((4,))
