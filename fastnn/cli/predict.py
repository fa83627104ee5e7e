"""``fastnn predict``: answers for the rows of a table."""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastnn
from fastnn import tables
from fastnn.cli import arguments
from fastnn.cli.learning import answers
from fastnn.tables import Recipe, TableError, recipe
from fastnn.tables.targets import Classes

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

ROWS = 1 << 10
"""Rows that are in memory at once, as few as reading is fastest with."""


def add(commands: Any) -> None:
    """The command and its arguments."""
    parser = arguments.parser(
        commands,
        "predict",
        run,
        "answer for the rows of a table with a network that 'fastnn train' saved",
        """
        Answer for each row of a table, in order, with a network that 'fastnn train' saved.

        The table needs the columns that the network was trained on, in any order; others, the
        target among them, are left alone. Texts that training did not see are allowed, missing
        values, too. Tables of any length are read in parts.

        examples:
          fastnn predict model.safetensors new.csv --out predictions.csv
          fastnn predict model.safetensors new.csv --probabilities --out predictions.csv
          fastnn predict model.safetensors new.csv --json > report.json
        """,
    )
    parser.add_argument("model", type=Path, help="what 'fastnn train' saved")
    parser.add_argument("data", type=Path, help="the table: CSV, .parquet, .npy, .npz, idx")
    parser.add_argument(
        "--out",
        type=arguments.new_file(),
        default=Path("predictions.csv"),
        help="CSV file with a row for each (default: %(default)s)",
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="of all classes, too, in columns that are called P(class)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a report as one JSON object on stdout"
    )


def run(options: argparse.Namespace) -> int:
    """Read part by part, predict, write."""
    begin = time.perf_counter()
    model = fastnn.load(options.model)
    config = model.preprocessing
    if not isinstance(config, dict) or config.get("kind") != recipe.KIND:
        raise TableError(f"{options.model}: was not saved by 'fastnn train'")
    own = Recipe.from_config(config)
    header = [own.target.name]
    if options.probabilities:
        if not isinstance(own.target, Classes):
            raise TableError(f"{options.model}: --probabilities: it predicts a quantity, no class")
        header += [f"P({name})" for name in own.target.names]
    source = tables.opened([options.data])
    own.require(str(options.data), source.names)
    rows = (
        row
        for part in source.parts(own.kinds, ROWS)
        for row in _answers(own, model.predict(own.encode(part)), options.probabilities)
    )
    count = _write(options.out, header, rows)
    if options.json:
        report = {
            "task": own.target.task,
            "target": own.target.name,
            "rows": count,
            "columns": header,
            "seconds": time.perf_counter() - begin,
            "predictions": str(options.out),
        }
        print(json.dumps(report))
    else:
        print(f"{count} rows answered in {options.out}")
    return 0


def _answers(own: Recipe, outputs: Array, probabilities: bool) -> Iterator[list[Any]]:
    """The cells of each row."""
    given = answers(own, outputs).tolist()
    if not isinstance(own.target, Classes):
        return ([value] for value in given)
    names = [own.target.names[label] for label in given]
    if not probabilities:
        return ([name] for name in names)
    return ([name, *row] for name, row in zip(names, outputs.tolist(), strict=True))


def _write(path: Path, header: list[str], rows: Iterator[list[Any]]) -> int:
    """Write a CSV file, whole or not at all; how many rows it has."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for row in rows:
                writer.writerow(row)
                count += 1
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return count
