"""Rows gathered and converted: any number of them, of any width, in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastnn.engine import cpu
from fastnn.engine.tape import Eager
from fastnn.kernels import state as s
from fastnn.kernels.cpu.data import AHEAD_BYTES
from fastnn.kernels.signatures import ITEM_BYTES
from kernel_cases import DTYPES, Watched

Array = NDArray[Any]

SOURCES = ("uint8", "int32", "float32", "float64")


def gathered(source: Array, order: Array | None, first: int, rows: int, dtype: str) -> Array:
    """What the op writes, with NaN around its operands and its output."""
    out = Watched(np.full((rows, source.shape[1]), np.nan, dtype), 3)
    inputs = {"source": Watched(source, 1)}
    if order is not None:
        inputs["order"] = Watched(order, 0)
    state = cpu.new_state()
    state[s.FIRST] = first
    operands = {name: watched.array for name, watched in inputs.items()}
    Eager(rows, dtype, state).op("gather", out=out.array, **operands)
    out.assert_margins_kept()
    for watched in inputs.values():
        watched.assert_kept()
    return out.array


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source_type", SOURCES)
def test_any_rows_in_any_order(source_type: str, dtype: str) -> None:
    item, rng = ITEM_BYTES[source_type], np.random.default_rng(0)
    # One and few columns, rows around all that is asked for ahead, and more than it.
    wide = AHEAD_BYTES // item
    for columns in (1, 2, 7, 64, wide // 3, wide - 1, wide, wide + 1, 2 * wide + 5):
        source = rng.integers(0, 200, (9, columns)).astype(source_type)
        for rows in (0, 1, 2, 3, 4, 9):
            for order in (None, rng.integers(0, 9, 9), np.zeros(9, np.int64), np.full(9, 8)):
                for first in (0, 9 - rows):
                    taken = np.arange(9) if order is None else order
                    expected = source[taken[first : first + rows]].astype(dtype)
                    result = gathered(source, order, first, rows, dtype)
                    assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_many_short_rows(columns: int, dtype: str) -> None:
    # More rows than are asked for ahead: the last of them have none to come.
    rng = np.random.default_rng(columns)
    source, order = rng.random((5000, columns)), rng.permutation(5000)
    result = gathered(source, order, 7, 4993, dtype)
    np.testing.assert_array_equal(result, source[order[7:]].astype(dtype))
