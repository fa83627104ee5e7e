"""The door: every argument is checked here once, before anything runs or changes.

Each function returns its argument in the one form that all code behind the door relies on, or
raises a ValueError or TypeError that names the argument, what came and what was expected.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from fastnn.engine.cuda.arrays import DeviceArray

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

Kind = TypeVar("Kind")

ROWS_AT_ONCE = 1 << 16
"""Elements that a check looks at in one go, so that no copy of the data is made."""

SOURCE_TYPES = frozenset(map(np.dtype, ("uint8", "float32", "float64")))
"""Element types that a minibatch is gathered from as they are."""


def integer(owner: str, argument: str, value: object, low: int) -> int:
    """`value` as an integer of at least `low`."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{owner}: {argument} must be an integer, got {value!r}")
    if number < low:
        raise ValueError(f"{owner}: {argument} must be at least {low}, got {number}")
    return number


def seed(owner: str, value: object) -> int:
    """`value` as a seed: an integer of 64 bits."""
    number = integer(owner, "seed", value, 0)
    if number >= 1 << 64:
        raise ValueError(f"{owner}: seed must be below 2**64, got {number}")
    return number


def verbose(owner: str, value: object) -> int:
    """`value` as 0, 1 or 2; "auto" is 1."""
    if not isinstance(value, (int, str)) or value not in (0, 1, 2, "auto"):
        raise ValueError(f"{owner}: verbose must be 0, 1 or 2, got {value!r}")
    return 1 if value == "auto" else int(value)


def number(owner: str, argument: str, value: object, interval: str) -> float:
    """`value` as a float in `interval`, written like ``"[0, 1)"`` or ``"(0, inf)"``."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    is_number = isinstance(value, (int, float, np.floating, np.integer))
    if is_number and not isinstance(value, bool):
        given = float(value)  # type: ignore[arg-type]
        above = given > low or (given == low and interval[0] == "[")
        below = given < high or (given == high and interval[-1] == "]")
        if math.isfinite(given) and above and below:
            return given
    raise ValueError(f"{owner}: {argument} must be a number in {interval}, got {value!r}")


def named(value: object, table: Mapping[str, type[Kind]], kind: type[Kind], label: str) -> Kind:
    """`value` as a `kind`: as it is, or made of its class or of its name out of `table`."""
    if isinstance(value, kind):
        return value
    if isinstance(value, type) and issubclass(value, kind):
        return value()
    if isinstance(value, str):
        if value.lower() not in table:
            raise ValueError(f"{label} must be one of {', '.join(table)}, got {value!r}")
        return table[value.lower()]()
    raise TypeError(f"{label} must be a name or a {kind.__name__}, got {value!r}")


def shape(value: object, owner: str) -> tuple[int, ...]:
    """`value` as a tuple of positive integers; one integer is a vector's length."""
    lengths = value if isinstance(value, (tuple, list)) else (value,)
    try:
        checked = tuple(integer(owner, "shape", length, 1) for length in lengths)
    except (TypeError, ValueError):
        checked = ()
    if not checked:
        raise ValueError(f"{owner} must be a tuple of positive integers, got {value!r}")
    return checked


def array(value: object, argument: str, any_shape: bool = False) -> Array:
    """`value` as a NumPy array of real numbers, with rows and not empty unless of `any_shape`."""
    try:
        result = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{argument} must be an array of numbers: {error}") from None
    if result.dtype.kind not in "buif":
        hint = "; are its rows of different lengths?" if result.dtype.kind == "O" else ""
        raise TypeError(f"{argument} must be an array of numbers, got dtype {result.dtype}{hint}")
    if any_shape:
        return result
    if result.ndim == 0:
        raise ValueError(f"{argument} must be an array with one row a sample, got a scalar")
    if result.size == 0:
        raise ValueError(f"{argument} is empty: it has shape {result.shape}")
    return result


@cache
def _limit(given: np.dtype[Any], dtype: str) -> float | None:
    """The largest number of `dtype`, if numbers of the type `given` can be larger."""
    wanted = np.dtype(dtype)
    return float(np.finfo(wanted).max) if given.itemsize > wanted.itemsize else None


def finite(values: Array, argument: str, dtype: str) -> None:
    """Refuse NaN, infinity, and what would be infinite in `dtype`; makes no copy of `values`."""
    if values.dtype.kind != "f" or values.size == 0:
        return
    limit, rows = _limit(values.dtype, dtype), len(values)
    if values.size > ROWS_AT_ONCE:
        rows = max(1, ROWS_AT_ONCE // values[0].size)
    for begin in range(0, len(values), rows):
        part = values[begin : begin + rows]
        if limit is None:
            good = np.isfinite(part)
        else:
            with np.errstate(invalid="ignore"):
                good = np.abs(part) <= limit
        # For a single row in a third of the time of `good.all()`.
        if np.count_nonzero(good) < good.size:
            row = begin + int(np.argwhere(~good)[0][0])
            bad = values[row][~good[row - begin]].flat[0] if values.ndim > 1 else values[row]
            raise ValueError(f"{argument} must be finite in {dtype}, got {bad} in row {row}")


def like(value: object, argument: str, array_: Array) -> Array:
    """`value` as finite numbers of the shape of `array_`, of which they can take the place."""
    values = array(value, argument, any_shape=True)
    if values.shape != array_.shape:
        raise ValueError(f"{argument} must have shape {array_.shape}, got {values.shape}")
    finite(values.reshape(-1), argument, array_.dtype.name)
    return values


def features(x: object, argument: str, input_shape: tuple[int, ...] | None, dtype: str) -> Any:
    """Rows for a network: C-contiguous, of one of `SOURCE_TYPES`; a copy only where it must be.

    Those on a GPU stay there, and whether their values are finite is not looked at.
    """
    rows: Any = _on_gpu(x, argument) if isinstance(x, DeviceArray) else array(x, argument)
    if rows.ndim < 2:
        raise ValueError(
            f"{argument} must be (N, ...), one row a sample, got shape {rows.shape}; "
            f"a single sample is {argument}.reshape(1, -1)"
        )
    if input_shape is not None and rows.shape[1:] != input_shape:
        raise ValueError(f"{argument} must have rows of shape {input_shape}, got {rows.shape[1:]}")
    if isinstance(rows, DeviceArray):
        return rows
    finite(rows, argument, dtype)
    # float64 rows of a float32 network are narrowed batch by batch, not copied.
    kept = rows.dtype in SOURCE_TYPES
    if kept and rows.flags.c_contiguous:
        return rows
    return np.ascontiguousarray(rows, rows.dtype if kept else dtype)


def _on_gpu(x: DeviceArray, argument: str) -> DeviceArray:
    """Rows on a GPU, which can be gathered from as they are."""
    if x.dtype not in SOURCE_TYPES:
        names = ", ".join(sorted(map(str, SOURCE_TYPES)))
        raise TypeError(f"{argument} must be one of {names} where it lies on a GPU, got {x.dtype}")
    if x.size == 0:
        raise ValueError(f"{argument} is empty: it has shape {x.shape}")
    return x


class Targets(NamedTuple):
    """Checked targets: int32 labels (N,), or numbers (N, C) of the network's type."""

    array: Any


def targets(
    y: object, argument: str, rows: int, output_shape: tuple[int, ...], kind: str, dtype: str
) -> Targets:
    """Targets for `rows` rows of a network's output, as a loss of the given `kind` takes them.

    On a GPU stay plain numbers of the network's type, which are not looked at. All others are
    copied to the host: labels serve as indices, so that each must be known to be one.
    """
    if isinstance(y, DeviceArray) and kind == "values" and y.dtype == dtype:
        if y.shape == (rows, *output_shape):
            return Targets(y)
    values = array(y, argument)
    if len(values) != rows:
        raise ValueError(f"{argument} must have {rows} rows like x, got {len(values)}")
    if len(output_shape) != 1:
        raise ValueError(f"the network's output rows must be vectors, got shape {output_shape}")
    columns = output_shape[0]
    finite(values, argument, dtype)
    if kind == "classes":
        return _classes(values, argument, columns, dtype)
    if values.ndim == 1 and columns == 1:
        values = values[:, None]
    if values.shape != (rows, columns):
        raise ValueError(f"{argument} must have shape ({rows}, {columns}), got {values.shape}")
    if kind == "probabilities" and (values.min() < 0 or values.max() > 1):
        raise ValueError(
            f"{argument} must lie in [0, 1] for binary_crossentropy, "
            f"got values from {values.min()} to {values.max()}"
        )
    if kind == "counts" and values.min() < 0:
        raise ValueError(f"{argument} must not be negative for poisson, got {values.min()}")
    if kind == "signs":
        values = _signs(values, argument)
    return Targets(np.ascontiguousarray(values, dtype))


def _signs(values: Array, argument: str) -> Array:
    """Targets that are −1 or 1, of such or of zeros and ones."""
    signed = bool((values < 0).any())
    good = np.isin(values, (-1, 1) if signed else (0, 1))
    if not good.all():
        raise ValueError(
            f"{argument} must hold -1 and 1, or 0 and 1, for a hinge loss, got {values[~good][0]}"
        )
    return values if signed else np.where(values > 0, 1, -1)


def _classes(values: Array, argument: str, columns: int, dtype: str) -> Targets:
    if columns < 2:
        raise ValueError(
            f"targets that are classes need at least 2 outputs, the network has {columns}; "
            "for two classes with one output use binary_crossentropy"
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 1:
        if values.dtype.kind == "f" and not np.array_equal(values, np.floor(values)):
            bad = values[values != np.floor(values)][0]
            raise ValueError(f"{argument} must hold integer labels, got {bad}")
        if values.min() < 0 or values.max() >= columns:
            bad = values.min() if values.min() < 0 else values.max()
            raise ValueError(f"{argument} must hold labels from 0 to {columns - 1}, got {int(bad)}")
        # A copy in any case: labels serve as indices, and the caller's may change meanwhile.
        return Targets(np.array(values, np.int32))
    if values.ndim != 2 or values.shape[1] != columns:
        raise ValueError(
            f"{argument} must be labels (N,) or rows (N, {columns}), got shape {values.shape}"
        )
    if values.min() < 0 or np.abs(values.sum(axis=1, dtype=np.float64) - 1).max() > 1e-3:
        raise ValueError(f"{argument} must have rows of probabilities that sum to 1")
    labels = values.argmax(axis=1)
    if (np.take_along_axis(values, labels[:, None], 1) == 1).all() and (
        np.count_nonzero(values) == len(values)
    ):
        return Targets(labels.astype(np.int32))
    return Targets(np.ascontiguousarray(values, dtype))


def weights(
    sample_weight: object,
    class_weight: object,
    y: Targets,
    columns: int,
    dtype: str,
    prefix: str = "",
) -> Array | None:
    """One weight for each row of `y`, out of the rows' own and of their classes'; None: all 1."""
    argument = f"{prefix}sample_weight"
    rows = len(y.array)
    own: Array | None = None
    if sample_weight is not None:
        own = array(sample_weight, argument)
        if own.shape != (rows,):
            raise ValueError(f"{argument} must have shape ({rows},), got {own.shape}")
        finite(own, argument, dtype)
        if own.min() < 0:
            raise ValueError(f"{argument} must not be negative, got {own.min()}")
    if class_weight is not None:
        of_class = _class_weights(class_weight, y, columns, dtype)
        own = of_class if own is None else own.astype(np.float64) * of_class
        finite(own, "sample_weight times class_weight", dtype)
    return None if own is None else np.ascontiguousarray(own, dtype)


def _class_weights(class_weight: object, y: Targets, classes: int, dtype: str) -> Array:
    """The weight of each row's class, float64; a class that is not named weighs 1."""
    if not isinstance(class_weight, dict):
        raise TypeError(f"class_weight must be a dict of class to weight, got {class_weight!r}")
    targets: Array = np.asarray(y.array)
    if targets.ndim == 1:
        labels = targets
    elif targets.shape[1] == 1 and any(np.isin(targets, two).all() for two in ((0, 1), (-1, 1))):
        labels, classes = (targets[:, 0] > 0).astype(np.int32), 2
    else:
        raise ValueError("class_weight needs targets that are classes, not soft or several")
    table = np.ones(classes)
    for label, weight in class_weight.items():
        if isinstance(label, bool) or not hasattr(label, "__index__") or not 0 <= label < classes:
            raise ValueError(
                f"class_weight must name classes from 0 to {classes - 1}, got {label!r}"
            )
        table[label] = number("class_weight", f"the weight of class {label}", weight, "[0, inf)")
    finite(table, "class_weight", dtype)
    return table[labels]
