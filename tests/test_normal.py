"""Normal numbers out of words: their formula against exact arithmetic, they against N(0, 1)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from fastnn.engine import cpu
from fastnn.engine.tape import Eager
from fastnn.kernels import normal
from fastnn.kernels.cpu.settings import VECTOR_BYTES, kernel
from helpers import from_python

Array = NDArray[Any]

# In units of √(−2 log u), as the module's docstring says.
LARGEST_ERROR = {"float32": 2.2e-7, "float64": 4e-16}
PAIRS = {"float32": normal.normal_pair32, "float64": normal.normal_pair64}

of_both_types = pytest.mark.parametrize("dtype", LARGEST_ERROR)


@pytest.fixture(scope="module")
def words() -> Array:
    """Pairs of words (n, 2), those at which a formula changes among them."""
    rng = np.random.default_rng(20)
    eighths = np.arange(0, 2**32 + 1, 2**29)
    root = int(2.0**31.5)  # u = √½, where the logarithm's reduction changes
    near = np.concatenate([edge + np.arange(-2, 3) for edge in (*eighths, root)])
    edges = np.clip(near, 0, 2**32 - 1)
    ends = np.concatenate(
        [2.0 ** rng.uniform(0, 32, 20_000), 2.0**32 - 2.0 ** rng.uniform(0, 32, 20_000)]
    )
    drawn = rng.integers(0, 2**32, (2, 40_000))
    radius = np.concatenate([np.repeat(edges, len(edges)), ends.astype(np.int64), drawn[0]])
    angle = np.concatenate([np.tile(edges, len(edges)), *drawn])
    return np.stack([np.minimum(radius, 2**32 - 1), angle[: len(radius)]], axis=1).astype(np.uint32)


def compiled(dtype: str) -> Any:
    pair = PAIRS[dtype]

    @kernel
    def loop(out, words):
        for i in range(words.shape[1]):
            out[0, i], out[1, i] = pair(words[0, i], words[1, i])

    return loop


def exact(words: Array) -> tuple[Array, Array]:
    """√(−2 log u), and the two numbers in units of it; the angle reduced by hand."""
    radius, angle = words.astype(np.int64).T
    wide = np.longdouble
    u, rest = (radius + wide(0.5)) / 2**32, (2**32 - 1 - radius + wide(0.5)) / 2**32
    distance = np.sqrt(-2 * np.where(u > 0.5, np.log1p(-rest), np.log(u)))
    quarter = (angle + 2**29) >> 30
    part = (angle - (quarter << 30)) * (8 * np.arctan(wide(1)) / 2**32)
    cosine, sine = np.cos(part), np.sin(part)
    x = np.choose(quarter % 4, [cosine, -sine, -cosine, sine])
    return distance, np.stack([x, np.choose(quarter % 4, [sine, cosine, -sine, -cosine])])


@of_both_types
def test_error_is_within_its_bound(dtype: str, words: Array) -> None:
    if dtype == "float64" and np.finfo(np.longdouble).nmant < 60:
        pytest.skip("long double has no more digits than float64 on this machine")
    out = np.empty((2, len(words)), dtype)
    loop = compiled(dtype)
    from_python(loop)(out, np.ascontiguousarray(words.T).view(np.int32))
    distance, expected = exact(words)
    errors = abs(out / distance - expected)
    assert errors.max() <= LARGEST_ERROR[dtype]
    assert errors.max() > np.finfo(dtype).eps / 4  # exact everywhere would be a broken measure
    if VECTOR_BYTES > 16:  # without AVX2, LLVM may find that scalars take no longer
        signature = loop.signatures[0]
        assert re.search(r"@llvm\.sqrt\.v\d+f", loop.inspect_llvm(signature))


@of_both_types
def test_plain_python_has_the_same_bound(dtype: str, words: Array) -> None:
    some = np.concatenate([words[:2500:5], words[-200:]])
    with np.errstate(over="ignore"):  # integers wrap
        pairs = [PAIRS[dtype](*pair) for pair in some.view(np.int32)]
    assert {type(number) for pair in pairs for number in pair} == {np.dtype(dtype).type}
    distance, expected = exact(some)
    assert abs(np.array(pairs).T / distance - expected).max() <= LARGEST_ERROR[dtype]


@of_both_types
def test_numbers_are_normal_and_independent(dtype: str) -> None:
    z = np.zeros((20, 64, 320), dtype)
    for seed, part in enumerate(z):
        tape = Eager(len(part), dtype, cpu.new_state(seed))
        tape.op("gaussian_noise", y=part, x=part.copy(), stddev=1.0)
    n, flat = z.size, z.ravel().astype(np.float64)
    # Of normal numbers, Kolmogorov and Smirnov's test finds each level as often as any other.
    levels = [scipy.stats.kstest(part.ravel(), "norm").pvalue for part in z]
    assert scipy.stats.kstest(levels, "uniform").pvalue > 0.01
    # Mean, variance, skewness and kurtosis of a sample, in their standard errors.
    moments = flat.mean(), flat.var() - 1, scipy.stats.skew(flat), scipy.stats.kurtosis(flat)
    assert (abs(np.array(moments)) < 4 * np.sqrt(np.array([1, 2, 6, 24]) / n)).all()
    for limit in (3.0, 4.0):
        expected = 2 * n * scipy.stats.norm.sf(limit)
        assert abs((abs(flat) > limit).sum() - expected) < 4 * np.sqrt(expected)
    # The two of a pair of words, of a counter's two pairs, of neighbours, of rows.
    blocks = z.reshape(20 * 64, 5, 4, 16).astype(np.float64)
    others = [
        (blocks[:, :, ::2], blocks[:, :, 1::2]),
        (blocks[:, :, :2], blocks[:, :, 2:]),
        (blocks[..., 1:], blocks[..., :-1]),
        (blocks[1:], blocks[:-1]),
    ]
    for one, other in others:
        for power in (1, 2):
            correlation = np.corrcoef(one.ravel() ** power, other.ravel() ** power)[0, 1]
            assert abs(correlation) < 4 / np.sqrt(one.size)
