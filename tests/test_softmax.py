"""Softmax, alone and with its loss, where the way it is done changes: narrow, wide, few rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastnn.kernels.cpu.losses import LOGARITHMS
from fastnn.kernels.cpu.microkernel import lanes
from fastnn.kernels.cpu.softmax import BLOCK_ELEMENTS, NARROW
from kernel_cases import CASES, DTYPES, Draw, Example, assert_same_bits, check, run

Array = NDArray[Any]

OPS = ("softmax_forward", "softmax_backward", "softmax_crossentropy", "softmax_crossentropy_soft")
FROM_LOGITS = tuple(name for name in OPS if name != "softmax_backward")
LANES = sorted({lanes(dtype) for dtype in DTYPES})
COLUMNS = sorted(
    {1, 2, 3, 5, 10, *(n + d for n in (*LANES, NARROW, BLOCK_ELEMENTS) for d in (-1, 0, 1))}
)
ROWS = sorted({1, 2, *(n + d for n in LANES for d in (-1, 0, 1)), 2 * LANES[-1] + 3})

of_both_types = pytest.mark.parametrize("dtype", DTYPES)
of_every_op = pytest.mark.parametrize("name", OPS)
of_logits = pytest.mark.parametrize("name", FROM_LOGITS)


def case(name: str, dtype: str, rows: int, columns: int, without: str = "") -> Example:
    draw = Draw(name, dtype, rows + 100 * columns, {"N": rows, "C": columns}, without)
    return CASES[name](draw)


def logits_of(example: Example) -> str:
    """The operand that holds an op's logits."""
    return "x" if "x" in example.inputs else "z"


@of_both_types
@of_every_op
@pytest.mark.parametrize("columns", COLUMNS)
def test_edges(name: str, columns: int, dtype: str) -> None:
    for rows in ROWS:
        for without in ("", "weights") if "crossentropy" in name else ("",):
            example = case(name, dtype, rows, columns, without)
            if name == "softmax_backward" and columns > 200:
                # Such rows have a peak, and the mean's rounding counts in units of it.
                example.units = {"dx": float(example.inputs["y"].max())}
            check(example, shift=rows % 5)
            apart = run(example)
            assert_same_bits(run(example, in_place=True), apart)
            assert_same_bits(run(example, team=3), apart)


@of_both_types
@pytest.mark.parametrize("rows", [LOGARITHMS + d for d in (-1, 0, 1)] + [2 * LOGARITHMS + 20])
def test_logarithms_of_many_narrow_rows(rows: int, dtype: str) -> None:
    for without in ("", "weights"):
        example = case("softmax_crossentropy", dtype, rows, 10, without)
        check(example)
        assert_same_bits(run(example, team=2), run(example))


def row_of(example: Example, row: int) -> Example:
    """One row of an example, in a batch as large."""
    alone = example.replace(
        **{k: None if v is None else v[row : row + 1].copy() for k, v in example.inputs.items()}
    )
    alone.rows = 1
    return alone


@of_both_types
@of_every_op
@pytest.mark.parametrize("columns", [1, 3, 10, NARROW, NARROW + 1, 200])
def test_a_row_is_the_same_alone_and_anywhere(name: str, columns: int, dtype: str) -> None:
    rows = ROWS[-1]
    example = case(name, dtype, rows, columns)
    whole = run(example)
    order = np.random.default_rng(columns).permutation(rows)
    mixed = {k: None if v is None else v[order].copy() for k, v in example.inputs.items()}
    assert_same_bits(run(example.replace(**mixed)), {k: v[order] for k, v in whole.items()})
    for row in range(rows):
        alone = run(row_of(example, row))
        for output, value in alone.items():
            if output == "dz":  # divided by the rows of the batch
                np.testing.assert_allclose(value[0] / rows, whole[output][row], rtol=1e-5)
            else:
                assert value[0].tobytes() == whole[output][row].tobytes()


@of_both_types
@of_logits
@pytest.mark.parametrize("columns", [2, 10, NARROW, NARROW + 1, 130])
def test_extreme_logits(name: str, columns: int, dtype: str) -> None:
    rows = ROWS[-1]
    example = case(name, dtype, rows, columns)
    rng = np.random.default_rng(columns)
    z = rng.choice([1e4, -1e4, 0.0, 1.0, 700.0, -700.0], (rows, columns)).astype(dtype)
    z[0], z[1] = 1e4, -1e4
    check(example.replace(**{logits_of(example): z}))
    largest = np.finfo(dtype).max / 4
    huge = np.where(rng.random((rows, columns)) < 0.5, largest, -largest).astype(dtype)
    results = run(example.replace(**{logits_of(example): huge}))
    rest = [v for k, v in results.items() if k != "loss"]
    assert all(np.isfinite(value).all() for value in rest)


@of_both_types
@pytest.mark.parametrize("name", ["softmax_forward", "softmax_crossentropy"])
@pytest.mark.parametrize("columns", [2, 10, NARROW, NARROW + 1, 130])
def test_infinite_and_bad_logits_stay_in_their_rows(name: str, columns: int, dtype: str) -> None:
    rows = ROWS[-1]
    example = case(name, dtype, rows, columns)
    key, well = logits_of(example), run(example)
    rng = np.random.default_rng(columns)
    keep = example.inputs.get("labels", rng.integers(0, columns, rows))
    masked = rng.random((rows, columns)) < 0.6
    masked[np.arange(rows), keep] = False
    z = np.where(masked, -np.inf, example.inputs[key]).astype(dtype)
    check(example.replace(**{key: z}))
    assert (
        next(v for k, v in run(example.replace(**{key: z})).items() if k != "loss")[masked] == 0
    ).all()
    for bad, column in ((np.nan, 0), (np.nan, columns - 1), (np.inf, columns // 2)):
        for row in (0, LANES[0] - 1, LANES[0], rows - 1):
            ill = example.inputs[key].copy()
            ill[row, column] = bad
            others = np.arange(rows) != row
            for output, value in run(example.replace(**{key: ill})).items():
                assert value[others].tobytes() == well[output][others].tobytes(), (output, row)
                # A row without weight, too: NaN times 0 is NaN.
                assert np.isnan(value[row]).any(), (output, row)
    every = example.inputs[key].copy()
    every[1] = -np.inf
    with np.errstate(all="ignore"):
        assert np.isnan(
            next(v for k, v in run(example.replace(**{key: every})).items() if k != "loss")[1]
        ).all()
