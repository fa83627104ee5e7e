"""Element types of weights and data, and arrays as kernels read them.

Layers compute in the element type of their weights, all else in that of its inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

REALS = (np.dtype(np.float32), np.dtype(np.float64))

_default: np.dtype[Any] | None = None


def init(default_dtype: str | None = "float32", random_seed: int | None = 0) -> None:
    """Seed NumPy's global generator, and set the element type of new weights and data sets.

    As the function of that name in the `nnfs` package, but NumPy itself is left as it is. Without
    it weights are of the type that ``numpy.random.randn`` draws, float64.

    Parameters
    ----------
    default_dtype : {"float32", "float64"} or None
        None: the type that NumPy has.
    random_seed : int or None
        None: the generator goes on as it is.

    Raises
    ------
    ValueError
        If `default_dtype` is another, or `random_seed` no seed of NumPy's.
    """
    global _default
    if default_dtype not in (None, "float32", "float64"):
        raise ValueError(
            f"init: default_dtype must be 'float32', 'float64' or None, got {default_dtype!r}"
        )
    if random_seed is not None:
        np.random.seed(random_seed)
    _default = None if default_dtype is None else np.dtype(default_dtype)


def new(array: Array) -> Array:
    """`array` in the default element type."""
    return array if _default is None else array.astype(_default)


def real(value: Any, argument: str, dtype: np.dtype[Any] | None = None) -> Array:
    """`value` as a kernel reads it: C-contiguous, aligned, float32 or float64, not empty.

    It is of `dtype`, or of its own type, or float64. A copy only where it must be.
    """
    if type(value) is np.ndarray and value.size:
        own, layout = value.dtype, value.flags
        if (own == dtype if dtype else own in REALS) and layout.c_contiguous and layout.aligned:
            return value
    array = checks.array(value, argument)
    if dtype is None:
        dtype = array.dtype if array.dtype in REALS else REALS[1]
    return np.require(array, dtype, ["C", "A"])


def rows(value: Any, argument: str, width: int, dtype: np.dtype[Any]) -> Array:
    """The same for rows of `width` numbers."""
    array = real(value, argument, dtype)
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{argument} must have shape (N, {width}), got {array.shape}")
    return array


def like(value: Any, argument: str, other: Array) -> Array:
    """The same in shape and type of another array."""
    array = real(value, argument, other.dtype)
    if array.shape != other.shape:
        raise ValueError(f"{argument} must have shape {other.shape}, got {array.shape}")
    return array


def targets(y_true: Any, predictions: Array) -> Array:
    """`y_true` in shape and type of the predictions; also a vector for those of one column."""
    y = real(y_true, "y_true", predictions.dtype)
    if y.size == predictions.size and 1 in (y.ndim, predictions.ndim):
        y = y.reshape(predictions.shape)
    return like(y, "y_true", predictions)
