"""What tests share: one table of tolerances by dtype, gradients by central differences, ulps."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


class Tolerance(NamedTuple):
    rtol: float
    atol: float


# For a few rounded operations on numbers near 1: some 80 units in the last place of float32, and
# more room in float64, where no wrong formula hides in it. Longer sums pass `scale`.
TOLERANCE = {
    "float32": Tolerance(rtol=1e-5, atol=1e-6),
    "float64": Tolerance(rtol=1e-12, atol=1e-13),
}

# A central difference of a function near 1 with epsilon 1e-6 is off by 1e-12 of truncation and
# 1e-10 of rounding.
CENTRAL_DIFFERENCE_TOLERANCE = Tolerance(rtol=1e-6, atol=1e-8)


def assert_close(
    actual: ArrayLike, reference: ArrayLike, dtype: DTypeLike | None = None, scale: float = 1.0
) -> None:
    """Assert |actual - reference| <= scale * (atol + rtol * |reference|) in every element.

    Shapes must be equal; NaN matches NaN, and an infinity only the same one.

    Parameters
    ----------
    dtype : the row of TOLERANCE; None is actual's own dtype.
    scale : factor on both tolerances, for sums of many terms. Say at the call why.
    """
    actual, reference = np.asarray(actual), np.asarray(reference)
    tolerance = TOLERANCE[np.dtype(actual.dtype if dtype is None else dtype).name]
    _assert_within(actual, reference, tolerance, scale)


def assert_is_gradient(
    gradient: NDArray[np.floating], function: Callable[[NDArray[np.float64]], float], x: ArrayLike
) -> None:
    """Assert that `gradient` is the gradient of `function` at x, by central differences."""
    _assert_within(gradient, central_difference(function, x), CENTRAL_DIFFERENCE_TOLERANCE, 1.0)


def central_difference(
    function: Callable[[NDArray[np.float64]], float], x: ArrayLike, epsilon: float = 1e-6
) -> NDArray[np.float64]:
    """Gradient of a scalar function of an array: (f(x + epsilon) - f(x - epsilon)) / (2 epsilon).

    One element moves at a time, so the error is of order epsilon^2 f''' + 1e-16 |f| / epsilon.
    """
    x = np.array(x, dtype=np.float64)
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        centre = x[index]
        x[index] = upper = centre + epsilon
        above = function(x.copy())
        x[index] = lower = centre - epsilon
        below = function(x.copy())
        x[index] = centre
        gradient[index] = (above - below) / (upper - lower)  # the step as rounded
    return gradient


def errors_in_ulp(
    result: NDArray[np.floating], reference: NDArray[np.floating], least: float = 0.0
) -> NDArray[np.floating]:
    """|result - reference| in units of the last place of the result's type at the reference.

    Where the reference is smaller than `least`, in units of that. Infinities and NaN must be where
    the reference, rounded to the type, has them.
    """
    info = np.finfo(result.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # invalid: a signalling NaN
        rounded = reference.astype(result.dtype)
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(result[special], rounded[special])
    assert np.isfinite(result[~special]).all()
    reference = reference[~special]
    _, exponent = np.frexp(np.maximum(np.abs(reference), least))
    place = np.maximum(exponent - 1, info.minexp) - info.nmant
    ulp = np.ldexp(np.ones((), reference.dtype), place)
    return np.asarray(np.abs(result[~special] - reference) / ulp)


def from_python(kernel: Any) -> Callable[..., None]:
    """`kernel`, which compiled code alone can call, as a function that Python can."""
    from numba import njit  # here: most tests, and processes that they start, do without

    compiled: Callable[..., None] = njit(lambda *arguments: kernel(*arguments))
    return compiled


def body_of(code: str, symbol: str, end: str) -> str:
    """What `code`, LLVM's or assembly, holds for the function `symbol`."""
    start = re.search(rf'^(define [^\n]*@)?"?{re.escape(symbol)}"?[(:]', code, re.MULTILINE)
    assert start is not None
    return code[start.end() : code.index(end, start.end())]


def _assert_within(
    actual: NDArray[np.generic], reference: NDArray[np.generic], tolerance: Tolerance, scale: float
) -> None:
    assert actual.shape == reference.shape, f"shape {actual.shape}, expected {reference.shape}"
    # In float64, so that a float32 result is not compared in its own rounding.
    np.testing.assert_allclose(
        actual.astype(np.float64),
        reference.astype(np.float64),
        rtol=scale * tolerance.rtol,
        atol=scale * tolerance.atol,
    )
