"""Products with what rounding lost of them: exact, as plain Python and compiled."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from fastnn.kernels import compiled as compiled_formulas  # noqa: F401  compiled code calls them
from fastnn.kernels.extended import product
from fastnn.kernels.formula import fma


@njit(fastmath={"contract"})
def compiled(
    a: NDArray[Any], b: NDArray[Any], out: NDArray[Any], lost: NDArray[Any], sums: NDArray[Any]
) -> None:
    for i in range(a.size):
        out[i], lost[i] = product(a[i], b[i])
        sums[i] = out[i] + lost[i] * a.dtype.type(0.5)  # into which no part of a·b may be fused


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product_and_its_rest_are_exact(dtype: str) -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.normal(size=500) * 2.0 ** rng.integers(-30, 30, 500) for _ in range(2))
    a, b = a.astype(dtype), b.astype(dtype)
    out, lost, sums = (np.empty_like(a) for _ in range(3))
    compiled(a, b, out, lost, sums)
    np.testing.assert_array_equal(out, a * b)
    np.testing.assert_array_equal(sums, out + lost * a.dtype.type(0.5))
    assert np.count_nonzero(lost) > 400
    for x, y, high, low in zip(a, b, out, lost, strict=True):
        assert Fraction(float(high)) + Fraction(float(low)) == Fraction(float(x)) * Fraction(
            float(y)
        )
        assert product(x, y) == (high, low)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_fma_of_special_values(kind: Any) -> None:
    one, infinity, nan = kind(1), kind(np.inf), kind(np.nan)
    assert fma(infinity, one, one) == infinity
    assert np.isnan(fma(nan, one, one))
    assert np.signbit(fma(-one, kind(0), kind(-0.0)))
    assert type(fma(one, one, one)) is kind
