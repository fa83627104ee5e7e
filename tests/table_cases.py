"""Tables that tests of the command line share, and what becomes of their columns, by pandas."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 400

Cells = dict[str, list[str]]


def mixed(rows: int = ROWS, seed: int = 0) -> Cells:
    """A table with all that a table has: the target "kind" depends on "size", "colour", "day"."""
    rng = np.random.default_rng(seed)
    size, weight = rng.normal(10, 3, rows), rng.standard_cauchy(rows)
    colour = rng.choice(["red", "green, dark", 'the "blue"', ""], rows)
    day = np.datetime64("2024-01-01") + rng.integers(0, 366, rows)
    late = day > np.datetime64("2024-06-30")
    kind = np.where(size > 10, "big", "small").astype(object)
    kind[(colour == "red") & late] = "red, late"
    cells: Cells = {
        "size": [f"{value:.3f}" for value in size],
        "weight": [f"{value:.6g}" for value in weight],
        "colour": colour.tolist(),
        "day": day.astype(str).tolist(),
        "number": [str(index) for index in range(rows)],
        "always": ["7"] * rows,
        "name": [f"row {index}" for index in range(rows)],
        "kind": kind.tolist(),
    }
    for row in rng.choice(rows, rows // 10, replace=False):
        cells["weight"][row] = "NA"
    return cells


def write(path: Path, cells: Cells, end: str = "\r\n", bom: bool = True) -> Path:
    """As spreadsheets write it: a byte order mark, CRLF, quotes where they are needed."""
    with open(path, "w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))
    return path


def encoded(frame: Any, training: Any, numbers: list[str], texts: list[str]) -> NDArray[Any]:
    """What rows of a pandas frame become, by the rows of `training`, column by column in float64.

    Numbers, then texts: another order than a table's serves where the tests take it into account.
    """
    columns = []
    for name in numbers:
        known = training[name].dropna()
        low, high = known.quantile(0.25), known.quantile(0.75)
        scale = high - low if high > low else (known.max() - known.min()) / 2
        z = ((frame[name] - known.median()) / scale).fillna(0.0)
        columns.append(z / (1 + (z / 3) ** 2) ** 0.5)
        if training[name].isna().any():
            columns.append(frame[name].isna().astype(float))
    for name in texts:
        for value in sorted(training[name].fillna("").unique()):
            columns.append((frame[name].fillna("") == value).astype(float))
    return np.column_stack(columns)
