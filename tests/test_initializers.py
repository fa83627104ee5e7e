"""How weights begin: distributions, matrices, gains, seeds, and what a symmetric start does."""

import doctest
import math
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats as stats
from numpy.typing import NDArray

import fastnn
from fastnn import initializers
from fastnn.initializers import distributions, gains
from fastnn.layers.base import snake_case
from helpers import assert_close

Array = NDArray[Any]

VarianceScaling = initializers.VarianceScaling

SHAPES = {
    (300, 200): (300, 200),
    (7, 1500): (7, 1500),
    (12000, 1): (12000, 1),
    (5, 3, 16, 40): (240, 600),
    (3, 70, 60): (210, 180),
    (20000,): (20000, 20000),
}
"""Shapes of kernels, and a unit's inputs and outputs there."""


def normal(variance: float) -> Any:
    return stats.norm(scale=math.sqrt(variance))


def uniform(variance: float) -> Any:
    limit = math.sqrt(3 * variance)
    return stats.uniform(-limit, 2 * limit)


def truncated(variance: float) -> Any:
    return stats.truncnorm(-2, 2, scale=math.sqrt(variance / stats.truncnorm(-2, 2).var()))


# What is drawn, and its distribution by a unit's inputs and outputs.
DISTRIBUTIONS: dict[str, tuple[Any, Callable[[int, int], Any]]] = {
    "random_normal": ("random_normal", lambda i, o: stats.norm(0, 0.05)),
    "random_uniform": ("random_uniform", lambda i, o: stats.uniform(-0.05, 0.1)),
    "truncated_normal": ("truncated_normal", lambda i, o: stats.truncnorm(-2, 2, scale=0.05)),
    "variance_scaling": ("variance_scaling", lambda i, o: truncated(1 / i)),
    "glorot_uniform": ("glorot_uniform", lambda i, o: uniform(2 / (i + o))),
    "glorot_normal": ("glorot_normal", lambda i, o: normal(2 / (i + o))),
    "he_uniform": ("he_uniform", lambda i, o: uniform(2 / i)),
    "he_normal": ("he_normal", lambda i, o: normal(2 / i)),
    "lecun_uniform": ("lecun_uniform", lambda i, o: uniform(1 / i)),
    "lecun_normal": ("lecun_normal", lambda i, o: normal(1 / i)),
    "a mean and a deviation": (
        initializers.RandomNormal(3.0, 0.5),
        lambda i, o: stats.norm(3.0, 0.5),
    ),
    "two ends": (initializers.RandomUniform(1.0, 3.0), lambda i, o: stats.uniform(1.0, 2.0)),
    "cut off around a mean": (
        initializers.TruncatedNormal(-1.0, 2.0),
        lambda i, o: stats.truncnorm(-2, 2, -1.0, 2.0),
    ),
    "outputs": (VarianceScaling(3.0, "fan_out", "uniform"), lambda i, o: uniform(3 / o)),
    "both": (VarianceScaling(0.1, "fan_avg"), lambda i, o: truncated(0.2 / (i + o))),
}


def drawn(initializer: Any, shape: tuple[int, ...], seed: int = 7) -> Array:
    return initializers.draw(initializer, shape, initializers.generator(seed, 0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_numbers_are_of_their_distribution(case: str, shape: tuple[int, ...]) -> None:
    initializer, distribution = DISTRIBUTIONS[case]
    w, expected = drawn(initializer, shape), distribution(*SHAPES[shape])
    low, high = expected.support()
    assert low <= w.min() <= w.max() <= high
    # Of the right distribution 1 in 10000 seeds would be beyond: so far are the two apart at most.
    assert stats.kstest(w.ravel(), expected.cdf).pvalue > 1e-4
    assert abs(w.mean() - expected.mean()) < 5 * expected.std() / math.sqrt(w.size)
    # An estimated variance is off by √((κ−1)/n) of itself.
    kurtosis = 3 + float(expected.stats("k"))
    assert abs(w.var() / expected.var() - 1) < 5 * math.sqrt((kurtosis - 1) / w.size)


@pytest.mark.parametrize(
    "name", [name for name in initializers.INITIALIZERS if name in DISTRIBUTIONS]
)
def test_keras_draws_from_the_same_distribution(name: str, keras: Any) -> None:
    initializer: Any = initializers.INITIALIZERS[name]
    if name in ("glorot_normal", "he_normal", "lecun_normal"):
        # Of these, Keras's are cut off.
        initializer = VarianceScaling(initializer.scale, initializer.mode)
    for shape in ((90, 110), (3, 3, 20, 30)):
        keras_class = getattr(keras.initializers, type(initializers.INITIALIZERS[name]).__name__)
        theirs = np.asarray(keras.ops.convert_to_numpy(keras_class(seed=3)(shape)), np.float64)
        ours = drawn(initializer, shape)
        assert stats.ks_2samp(ours.ravel(), theirs.ravel()).pvalue > 1e-4
        if name != "random_normal":  # all others are bounded
            np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=2e-3)


@pytest.mark.parametrize("name", initializers.INITIALIZERS)
def test_arguments_and_defaults_are_those_of_keras(name: str, keras: Any) -> None:
    ours = type(initializers.INITIALIZERS[name])
    arguments, theirs = (
        # What is None by default is a seed, or axes of kernels in another order than Keras's own.
        [(p.name, p.default) for p in signature(kind).parameters.values() if p.default is not None]
        for kind in (ours, getattr(keras.initializers, ours.__name__))
    )
    assert arguments == theirs
    assert snake_case(ours.__name__) == name


@pytest.mark.parametrize("name", ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"])
def test_the_numbers_of_a_seed_are_fixed(name: str) -> None:
    shape = (3, 5, 4)
    variance = 2 / (12 + 15 if name.startswith("glorot") else 15)
    generator, limit = initializers.generator(7, 0), math.sqrt(3 * variance)
    expected = (
        generator.uniform(-limit, limit, shape)
        if name.endswith("uniform")
        else generator.normal(0.0, math.sqrt(variance), shape)
    )
    assert_close(drawn(name, shape), expected)
    assert drawn(name, shape).tobytes() == drawn(name, shape).tobytes()
    assert (drawn(name, shape) != drawn(name, shape, seed=8)).all()


def test_a_kernel_without_chance() -> None:
    assert drawn("zeros", (2, 3)).tolist() == [[0.0] * 3] * 2
    assert drawn("ones", (2,)).tolist() == [1.0, 1.0]
    assert drawn("constant", (2,)).tolist() == [0.0, 0.0]
    assert drawn(initializers.Constant(-0.5), (1, 2)).tolist() == [[-0.5, -0.5]]
    assert drawn("identity", (2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert drawn(initializers.Identity(3), (2, 2)).tolist() == [[3.0, 0.0], [0.0, 3.0]]


@pytest.mark.parametrize("gain", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(1, 1), (40, 40), (7, 90), (90, 7), (3, 3, 5, 12), (2, 3, 50)])
def test_orthogonal(shape: tuple[int, ...], gain: float) -> None:
    w = drawn(initializers.Orthogonal(gain), shape).reshape(-1, shape[-1])
    rows, columns = w.shape
    product = w @ w.T if rows <= columns else w.T @ w
    np.testing.assert_allclose(product, gain**2 * np.eye(min(rows, columns)), rtol=0, atol=1e-12)


def test_orthogonal_matrices_are_uniform() -> None:
    """The first column of a uniform one is a uniform direction: in three dimensions, each of its
    elements is uniform from −1 to 1."""
    generator = initializers.generator(1, 0)
    columns = [initializers.draw("orthogonal", (3, 3), generator)[:, 0] for _ in range(2000)]
    for elements in np.transpose(columns):
        assert stats.kstest(elements, stats.uniform(-1, 2).cdf).pvalue > 1e-4


# Gains


def second_moment(function: Callable[[Array], Array]) -> float:
    """E[f(z)²] for z of the standard normal distribution: a sum over a fine grid, an oracle."""
    z, step = np.linspace(-14, 14, 700_001, retstep=True)
    return float((function(z) ** 2 * stats.norm.pdf(z)).sum() * step)


@pytest.mark.parametrize("r", [1.0, 2.0, 3.5])
def test_gains_of_the_bionodal_root_units(r: float) -> None:
    def eru(z: Array) -> Array:
        root = (r * r * np.maximum(z, 0) + 1) ** (1 / r)
        return np.where(z >= 0, root, np.exp(r * np.minimum(z, 0))) - 1 / r

    def oru(z: Array) -> Array:
        return np.sign(z) * ((r * r * np.abs(z) + 1) ** (1 / r) - 1)

    for name, function in (("eru", eru), ("oru", oru)):
        expected = second_moment(function) ** -0.5
        assert abs(initializers.gain(name, r=r) / expected - 1) < 1e-9


def test_gains_that_are_known() -> None:
    gain = initializers.gain
    assert_close(gain("relu"), math.sqrt(2))
    assert_close(gain("leaky_relu", negative_slope=0.25), math.sqrt(2 / (1 + 0.25**2)))
    assert_close(gain("selu"), 1.0)  # its fixed point
    assert gain("linear") == 1.0
    assert_close(gain("oru", r=1.0), 1.0)
    assert_close(gain("exponential"), math.exp(-1))  # E[e^(2z)] = e²
    # E[(e^z − 1)²; z < 0] = e²Φ(−2) − 2e^(1/2)Φ(−1) + 1/2
    phi = stats.norm.cdf
    below = math.exp(2) * phi(-2) - 2 * math.exp(0.5) * phi(-1) + 0.5
    assert_close(gain("eru", r=1.0), (0.5 + below) ** -0.5)
    # It bends at ±1: E[z²; |z| < 1] = 2(Φ(1) − 1/2) − 2φ(1)
    inside = 2 * (phi(1) - 0.5) - 2 * stats.norm.pdf(1)
    assert_close(gain("hard_tanh"), (inside + 2 * phi(-1)) ** -0.5)
    assert gain("gelu") != gain("gelu", approximate=True)


@pytest.mark.parametrize(("name", "own"), [("eru", {"r": 2.0}), ("oru", {"r": 2.0}), ("tanh", {})])
def test_a_gain_keeps_the_variance(name: str, own: dict[str, float]) -> None:
    """Twelve layers deep, inputs of the units are still about as large as at first."""
    start = VarianceScaling(initializers.gain(name, **own) ** 2, "fan_in", "untruncated_normal")
    z = np.random.default_rng(2).normal(size=(100, 400))
    for layer in range(12):
        y = fastnn.Activation(name, **own).forward(z)
        z = y @ initializers.draw(start, (400, 400), initializers.generator(5, layer))
    assert 0.75 < (z * z).mean() < 1.25  # of the linear layer's weights 1.35, 2.14 and 0.04


@pytest.mark.parametrize("room", [distributions, gains])
def test_docstring_examples(room: Any) -> None:
    result = doctest.testmod(room)
    assert result.attempted >= 2
    assert result.failed == 0


# In models


def test_an_initializer_is_saved_with_the_model(tmp_path: Path) -> None:
    starts = [
        initializers.Constant(0.5),
        initializers.TruncatedNormal(0.1, 0.2),
        VarianceScaling(2.0, "fan_avg", "uniform"),
        initializers.HeNormal(),
        "orthogonal",
    ]
    layers = [fastnn.Dense(3, kernel_initializer=s, bias_initializer="ones") for s in starts]
    model = fastnn.Sequential(layers, (3,), seed=1)
    model.save(tmp_path / "model")
    loaded = fastnn.load(tmp_path / "model")
    assert [layer.kernel_initializer for layer in loaded.layers] == starts
    again = fastnn.Sequential(
        [fastnn.Dense(**layer.get_config()) for layer in loaded.layers], (3,), seed=1
    )
    assert again.parameters.tobytes() == model.parameters.tobytes()


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "Constant": (lambda: initializers.Constant(np.nan), "Constant: value must be a number"),
    "mean": (lambda: initializers.RandomNormal("0"), "RandomNormal: mean must be a number"),
    "stddev": (lambda: initializers.RandomNormal(0, -1), r"stddev must be a number in \[0, inf\)"),
    "cut off": (lambda: initializers.TruncatedNormal(stddev=-1), "TruncatedNormal: stddev must"),
    "ends": (
        lambda: initializers.RandomUniform(1, 0),
        "maxval must be at least minval, 1.0, got 0",
    ),
    "scale": (lambda: VarianceScaling(0), r"scale must be a number in \(0, inf\), got 0"),
    "mode": (lambda: VarianceScaling(1, "fan"), "one of fan_in, fan_out, fan_avg, got 'fan'"),
    "distribution": (
        lambda: VarianceScaling(distribution="normal"),
        "distribution must be one of truncated_normal, untruncated_normal, uniform, got 'normal'",
    ),
    "gain": (lambda: initializers.Orthogonal(None), "Orthogonal: gain must be a number"),
    "of a vector": (
        lambda: fastnn.Dense(3, bias_initializer="orthogonal").forward(np.ones((1, 2))),
        r"Orthogonal: shape must have two dimensions or more, got \(3,\)",
    ),
    "identity": (
        lambda: drawn("identity", (2, 2, 2)),
        r"Identity: shape must have two dimensions, got \(2, 2, 2\)",
    ),
    "too large for float32": (
        lambda: fastnn.Dense(3, kernel_initializer=initializers.Constant(1e39)).prepare((2,)),
        "an initializer's numbers must be finite in float32, got 1e\\+39",
    ),
    "a class": (
        lambda: fastnn.Dense(3, kernel_initializer=initializers.HeNormal),
        "kernel_initializer must be a name, an initializer or a function, got <class",
    ),
    "rows": (lambda: initializers.gain("softmax"), "gain: activation must be elementwise"),
    "r": (lambda: initializers.gain("eru", r=0), "gain: r must be a number"),
    "no such activation": (lambda: initializers.gain("erru"), "gain: activation must be one of"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case: str) -> None:
    bad, words = BAD[case]
    with pytest.raises((ValueError, TypeError), match=words):
        bad()


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


@pytest.mark.parametrize("start", ["zeros", "ones", initializers.Constant(-0.3)])
def test_a_symmetric_start_stays_symmetric(start: Any) -> None:
    """Units that begin alike are told the same and stay alike, to the last bit: so a constant
    start is no start for hidden layers, and no unit's arithmetic depends on its place."""
    model = fastnn.Sequential(
        [fastnn.Dense(37, "tanh", kernel_initializer=start), fastnn.Dense(3, "softmax")],
        input_shape=(10,),
        seed=1,
    )
    model.layers[1].kernel = np.tile([0.1, -0.2, 0.3], (37, 1))
    model.compile("adam", "categorical_crossentropy")
    before = model.layers[0].kernel.copy()
    x = np.random.default_rng(1).normal(size=(50, 10)) / 4
    model.fit(x, np.arange(50) % 3, batch_size=16, epochs=3, verbose=0)
    kernel, _, second, _ = model.get_weights()
    assert (kernel == kernel[:, :1]).all()
    assert (second == second[:1]).all()
    assert (kernel != before).all()


def test_initializers_of_the_user() -> None:
    def halves(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        assert isinstance(generator, np.random.Generator)
        return np.full(shape, 0.5)

    layer = fastnn.Dense(3, kernel_initializer=halves)
    layer.prepare((4,))
    assert (layer.kernel == 0.5).all()
    with pytest.raises(ValueError, match=r"shape \(2,\) where \(4, 3\) is needed"):
        fastnn.Dense(3, kernel_initializer=lambda s, g: np.ones(2)).prepare((4,))
