"""What tests of the door share: a small network, a picture of all that it holds, `refused`, and bad
data by name with words of the error that each must raise.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.callbacks import LambdaCallback

ROWS, COLUMNS, CLASSES = 12, 4, 3
X = np.random.default_rng(0).integers(0, 8, (ROWS, COLUMNS)).astype(np.float32)
Y = np.arange(ROWS) % CLASSES
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[Y]
HUGE = 1e300  # finite in float64, infinite in float32


def network(input_shape: Any = None, **options: Any) -> fastnn.Sequential:
    """A small classifier, compiled."""
    model = fastnn.Sequential(
        [fastnn.Dense(5, "relu"), fastnn.Dropout(0.2), fastnn.Dense(CLASSES, "softmax")],
        input_shape=input_shape,
        **{"seed": 3, **options},
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def trained_network() -> fastnn.Sequential:
    """The same, with an epoch behind it."""
    model = network(COLUMNS)
    model.fit(X, Y, batch_size=5, verbose=0)
    return model


def frozen(value: Any, inside: tuple[Any, ...] = ()) -> Any:
    """All that `value` holds, however deep, comparable by ``==``; arrays with their addresses.

    What equals its class's default is left out, and so are caches.
    """
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.ctypes.data, value.tobytes()
    if isinstance(value, dict):
        return {key: frozen(entry, inside) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [frozen(entry, inside) for entry in value]
    if not type(value).__module__.startswith("fastnn") or any(value is o for o in inside):
        return value
    held = {
        name: frozen(entry, (*inside, value))
        for name, entry in vars(value).items()
        if name not in ("_programs", "_forwards", "_lock")
        and not (isinstance(entry, dict) and not entry)
        and not (entry is getattr(type(value), name, None) or entry is None)
    }
    return id(value), held


@contextlib.contextmanager
def refused(model: fastnn.Sequential, words: str) -> Iterator[None]:
    """Expect an error with `words` in it, and not a bit of `model` changed."""
    before = frozen(model)
    with pytest.raises((ValueError, TypeError, RuntimeError), match=words):
        yield
    assert frozen(model) == before


def patched(array: Any, where: Any, value: Any, dtype: Any = None) -> Any:
    """A copy of `array` with one element changed."""
    copy = np.array(array, dtype or np.asarray(array).dtype)
    copy[where] = value
    return copy


def x_with(value: Any, dtype: Any = np.float32) -> Any:
    return patched(X, (-1, -1), value, dtype)


BAD_X: dict[str, tuple[Any, str]] = {
    "None": (None, r"x must be an array of numbers"),
    "scalar": (1.0, r"x must be .*one row a sample"),
    "vector": (X[0], r"x must be \(N, \.\.\.\).*got shape \(4,\)"),
    "no rows": (X[:0], r"x is empty"),
    "no columns": (X[:, :0], r"x is empty"),
    "empty list": ([], r"x is empty"),
    "ragged": ([[1.0, 2.0, 3.0, 4.0], [1.0]], r"x must be an array of numbers"),
    "strings": (X.astype(str), r"x must be an array of numbers, got dtype <U"),
    "bytes": (X.astype(bytes), r"x must be an array of numbers"),
    "objects": (X.astype(object), r"x must be an array of numbers, got dtype object"),
    "complex": (X.astype(complex), r"x must be an array of numbers, got dtype complex"),
    "dates": (np.zeros((ROWS, COLUMNS), "datetime64[s]"), r"x must be an array of numbers"),
    "records": (np.zeros(ROWS, "f4,f4"), r"x must be an array of numbers"),
    "dict": ({"x": X}, r"x must be an array of numbers"),
    "iterator": (iter(X), r"x must be an array of numbers"),
    "large integers": ([[2**70] * COLUMNS] * ROWS, r"x must be an array of numbers"),
    "NaN": (x_with(np.nan), r"x must be finite.*got nan in row 11"),
    "infinity": (x_with(np.inf), r"x must be finite.*got inf in row 11"),
    "minus infinity": (x_with(-np.inf), r"x must be finite.*got -inf in row 11"),
    "NaN, float64": (x_with(np.nan, np.float64), r"x must be finite"),
    "NaN, float16": (x_with(np.nan, np.float16), r"x must be finite"),
    "NaN, other bytes": (x_with(np.nan, ">f4"), r"x must be finite"),
    "beyond float32": (x_with(HUGE, np.float64), r"x must be finite in float32, got 1e\+300"),
    "minus that": (x_with(-HUGE, np.float64), r"x must be finite in float32, got -1e\+300"),
    "longdouble": (x_with(HUGE, np.longdouble), r"x must be finite in float32"),
    "images": (X.reshape(ROWS, 2, 2), r"rows.*\(4,\)|rows must be vectors.*Flatten"),
}
BAD_Y: dict[str, tuple[Any, str]] = {
    "None": (None, r"y must be an array of numbers"),
    "scalar": (1, r"y must be "),
    "too short": (Y[:-1], r"y must have 12 rows like x, got 11"),
    "too long": (np.zeros(ROWS + 1, int), r"y must have 12 rows like x, got 13"),
    "empty": (Y[:0], r"y is empty"),
    "ragged": ([[1, 0, 0]] * (ROWS - 1) + [[1]], r"y must be an array of numbers"),
    "strings": (Y.astype(str), r"y must be an array of numbers"),
    "objects": (Y.astype(object), r"y must be an array of numbers"),
    "complex": (Y.astype(complex), r"y must be an array of numbers"),
    "label too large": (patched(Y, -1, 3), r"y must hold labels from 0 to 2, got 3"),
    "negative label": (patched(Y, -1, -1), r"y must hold labels from 0 to 2, got -1"),
    "label beyond int64": (np.full(ROWS, 2**63, np.uint64), r"y must hold labels from 0 to 2"),
    "label beyond int32": (patched(Y, 0, 2**32), r"y must hold labels from 0 to 2"),
    "fraction": (patched(Y, -1, 0.5, float), r"y must hold integer labels, got 0.5"),
    "NaN": (patched(Y, -1, np.nan, float), r"y must be finite.*row 11"),
    "infinity": (patched(Y, -1, np.inf, float), r"y must be finite.*row 11"),
    "one-hot, too narrow": (ONE_HOT[:, :2], r"y must be labels \(N,\) or rows \(N, 3\)"),
    "one-hot, too wide": (np.eye(4)[Y], r"y must be labels \(N,\) or rows \(N, 3\)"),
    "one-hot, 3-D": (ONE_HOT[:, None], r"y must be labels \(N,\) or rows \(N, 3\)"),
    "one-hot, none hot": (patched(ONE_HOT, -1, 0), r"y must have rows of probabilities"),
    "one-hot, two hot": (patched(ONE_HOT, -1, 1), r"y must have rows of probabilities"),
    "one-hot, NaN": (patched(ONE_HOT, (-1, 0), np.nan), r"y must be finite"),
    "soft, negative": (patched(ONE_HOT, -1, (1.5, -0.5, 0)), r"y must have rows of prob"),
}
WEIGHTS = np.ones(ROWS)
BAD_WEIGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "length": ({"sample_weight": WEIGHTS[1:]}, r"sample_weight must have shape \(12,\)"),
    "2-D": ({"sample_weight": WEIGHTS[:, None]}, r"sample_weight must have shape \(12,\)"),
    "scalar": ({"sample_weight": 2.0}, r"sample_weight must be"),
    "negative": ({"sample_weight": -WEIGHTS}, r"sample_weight must not be negative"),
    "NaN": ({"sample_weight": patched(WEIGHTS, -1, np.nan)}, r"sample_weight must be finite"),
    "huge": ({"sample_weight": patched(WEIGHTS, -1, HUGE)}, r"sample_weight must be finite"),
    "strings": ({"sample_weight": WEIGHTS.astype(str)}, r"sample_weight must be an array"),
    "of classes, list": ({"class_weight": [1, 2, 3]}, r"class_weight must be a dict"),
    "of unknown class": ({"class_weight": {3: 1.0}}, r"class_weight .*0 to 2, got 3"),
    "of negative class": ({"class_weight": {-1: 1.0}}, r"class_weight .*0 to 2, got -1"),
    "of fraction": ({"class_weight": {1.5: 1.0}}, r"class_weight .*got 1.5"),
    "of name": ({"class_weight": {"cat": 1.0}}, r"class_weight .*got 'cat'"),
    "of classes, negative": ({"class_weight": {0: -1.0}}, r"class_weight.*of class 0 .*-1"),
    "of classes, NaN": ({"class_weight": {0: np.nan}}, r"class_weight.*of class 0 .*nan"),
    "of classes, None": ({"class_weight": {0: None}}, r"class_weight.*of class 0 .*None"),
    "of classes, huge": ({"class_weight": {0: HUGE}}, r"class_weight.*1e\+300"),
    "huge together": (
        {"class_weight": {0: 1e30}, "sample_weight": 1e30 * WEIGHTS},
        r"(class|sample)_weight",
    ),
}
BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"batch_size {value!r}": ({"batch_size": value}, rf"batch_size must be .*{value!r}")
        for value in (0, -1, 2.5, "32", True, None)
    },
    **{
        f"epochs {value!r}": ({"epochs": value}, rf"epochs must be .*{value!r}")
        for value in (-1, 1.5, "1", True, None)
    },
    **{
        f"verbose {value!r}": ({"verbose": value}, r"verbose must be 0, 1 or 2")
        for value in (3, -1, "quiet", None, [1, 2])
    },
    "verbose array": ({"verbose": np.array([1, 2])}, r"verbose must be 0, 1 or 2"),
    **{
        f"validation_split {value!r}": ({"validation_split": value}, r"validation_split.*\[0, 1\)")
        for value in (1.0, -0.1, np.nan, "half", None)
    },
    "validation_split of all": ({"validation_split": 0.99}, r"validation_split.*empty"),
    "callbacks, number": ({"callbacks": 5}, r"callbacks must be"),
    "callbacks, numbers": ({"callbacks": [5]}, r"callbacks must be"),
    "callbacks, class": ({"callbacks": [LambdaCallback]}, r"callbacks must be"),
    "validation, x only": ({"validation_data": X}, r"validation_data must be \(x, y\)"),
    "validation, one": ({"validation_data": (X,)}, r"validation_data must be \(x, y\)"),
    "validation, four": ({"validation_data": (X, Y, Y, Y)}, r"validation_data must be \(x, y\)"),
    "validation, width": ({"validation_data": (X[:, 1:], Y)}, r"validation_data: x .*\(4,\)"),
    "validation, rows": ({"validation_data": (X, Y[1:])}, r"validation_data: y must have 12"),
    "validation, label": ({"validation_data": (X, Y + 1)}, r"validation_data: y .*0 to 2"),
    "validation, NaN": ({"validation_data": (x_with(np.nan), Y)}, r"validation_data: x .*finite"),
    "validation, weights": ({"validation_data": (X, Y, -WEIGHTS)}, r"validation_data: sample_w"),
}


def cases(table: dict[str, tuple[Any, str]]) -> Any:
    return pytest.mark.parametrize(("bad", "words"), table.values(), ids=table)
