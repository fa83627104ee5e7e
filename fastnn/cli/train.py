"""``fastnn train``: a network for a table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import optimizers, tables
from fastnn.cli import arguments, report
from fastnn.cli.learning import Data, Fit, Network, learn
from fastnn.optional import needed
from fastnn.tables import split, targets
from fastnn.tables.table import Table, TableError, Texts

TEXT = """
Train a network that predicts one column of a table from the others, and save it.

Columns of numbers are scaled, texts become one column for each of their values (64 at most),
dates are counted in days; missing values are allowed anywhere. Whether the target is a class
or a quantity is found out, and said. One part of the rows is for training alone, and all that
is learnt comes from there; a second one decides when to stop; a third one, for the test,
decides nothing. All that 'fastnn predict' needs is saved with the network, which fastnn.load()
reads, too.

examples:
  fastnn train diamonds.csv --target price
  fastnn train letters.csv --target letter --hidden 512,256 --out letters.safetensors
  fastnn train wine.parquet --target quality --task regression --plot curves.png
  fastnn train x.npy y.npy
  fastnn train train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz
  fastnn train data.csv --target price --json > report.json
"""


def add(commands: Any) -> None:
    """The command and its arguments."""
    summary = "train a network on a table: CSV, Parquet, npy, npz, idx"
    parser = arguments.parser(commands, "train", run, summary, TEXT)
    _add_data(parser)
    _add_network(parser.add_argument_group("network and training"))
    parser.add_argument(
        "--seed",
        type=arguments.integer(0),
        default=0,
        help="of the split, weights, order and dropout (default: %(default)s)",
    )
    parser.add_argument(
        "--plot",
        type=arguments.new_file(".png"),
        metavar="PNG",
        help="draw the curves of the training",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the report as one JSON object on stdout"
    )


def _add_data(parser: Any) -> None:
    """The arguments that say what is read, and written."""
    parser.add_argument(
        "data",
        nargs="+",
        type=Path,
        help="a table with a header (.csv and the like, .parquet), an .npz file with x and y, "
        "or two .npy or idx files",
    )
    parser.add_argument("--target", metavar="COLUMN", help="the column to be predicted")
    parser.add_argument(
        "--out",
        type=arguments.new_file(),
        default=Path("model.safetensors"),
        help="file to save the network in (default: %(default)s)",
    )
    parser.add_argument(
        "--task", choices=targets.TASKS, help="in place of what the target looks like"
    )
    for part in ("validation", "test"):
        parser.add_argument(
            f"--{part}",
            type=arguments.number("(0, 0.5)"),
            default=0.15,
            help="share of the rows (default: %(default)s)",
        )


def _add_network(network: Any) -> None:
    """The arguments that say what is trained, and how."""
    network.add_argument(
        "--hidden",
        type=_units,
        default=(256, 128),
        metavar="UNITS",
        help="units of the hidden layers (default: 256,128)",
    )
    network.add_argument(
        "--dropout",
        type=arguments.number("[0, 1)"),
        default=0.1,
        help="after each hidden layer (default: %(default)s)",
    )
    network.add_argument(
        "--optimizer",
        choices=[name for name in optimizers.OPTIMIZERS if name != "lbfgs"],
        default="adamw",
        help="(default: %(default)s)",
    )
    network.add_argument(
        "--learning-rate",
        type=arguments.number("(0, inf)"),
        default=1e-3,
        help="at the beginning; it falls to 0 along a half cosine (default: %(default)s)",
    )
    positive = arguments.auto(arguments.integer(1))
    network.add_argument(
        "--batch-size", type=positive, metavar="ROWS", help="rows in a step (default: auto)"
    )
    network.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help="passes over the training rows at most; training ends before when the validation "
        "rows' loss no longer falls (default: auto)",
    )


def _units(text: str) -> tuple[int, ...]:
    """The type of --hidden: 256,128; nothing for a linear model."""
    positive = arguments.integer(1)
    return tuple(positive(units) for units in text.split(",") if text.strip())


def run(options: argparse.Namespace) -> int:
    """Read, split, train, test, save, report."""
    if options.plot:
        needed("matplotlib", "--plot")  # before there is anything to draw
    begin = time.perf_counter()
    table, target = _read(options)
    data = _prepared(table, target, options)
    del table  # its numbers are in `data`
    shown = sys.stderr if options.json else sys.stdout
    print(report.of_data(data, time.perf_counter() - begin), file=shown, flush=True)
    network = Network(*(getattr(options, name) for name in Network._fields))
    fit = learn(data, network, options.seed)
    if fit.interrupted and not fit.model.epochs_done:
        raise KeyboardInterrupt
    fit.model.save(options.out)
    if fit.interrupted:
        print(
            f"fastnn train: interrupted; the best of {fit.model.epochs_done} epochs is in "
            f"{options.out}",
            file=sys.stderr,
        )
        return arguments.INTERRUPTED
    _tell(options, data, fit)
    return 0


def _tell(options: argparse.Namespace, data: Data, fit: Fit) -> None:
    """The report, and the picture."""
    if options.plot:
        report.plot(options.plot, fit)
    if options.json:
        print(json.dumps({**report.as_json(data, fit), "model": str(options.out)}))
        return
    print(report.of_fit(data, fit))
    print(f"saved to {options.out}; fastnn predict {options.out} <rows like these>")


def _read(options: argparse.Namespace) -> tuple[Table, str]:
    """The rows whose target is known, and what the target is called."""
    source = tables.opened(options.data)
    target = options.target or source.target
    if target is None:
        names = ", ".join(source.names[:20])
        raise TableError(f"{options.data[0]}: --target: which column? It has {names}")
    tables.require(str(options.data[0]), target, source.names)
    table = source.read(frozenset([target]))
    column = table.column(target)
    assert isinstance(column, Texts)
    known = np.array([text != "" for text in column.texts])[column.codes]
    if not known.all():
        table = table.rows(np.flatnonzero(known))
    return table, target


def _prepared(table: Table, target: str, options: argparse.Namespace) -> Data:
    """The table split, and as numbers by what the training rows hold."""
    column = table.column(target)
    assert isinstance(column, Texts)
    task = options.task or targets.infer(column)
    groups = column.codes if task == "classification" else np.zeros(len(table), np.int32)
    rows = split.split(groups, options.validation, options.test, options.seed)
    if min(map(len, rows)) == 0:
        raise TableError(
            f"{table.source}: {len(table)} rows with a target are too few for training, "
            f"validation and test: {len(rows.training)}, {len(rows.validation)}, {len(rows.test)}"
        )
    recipe = tables.Recipe.fit(table, target, task, rows.training)
    aim = recipe.target
    if isinstance(aim, targets.Classes):
        y = aim.labels(column)
    else:
        y = targets.quantities(table.source, target, column)
    x = [recipe.encode(table, part) for part in rows]
    return Data(recipe, split.Split(*x), split.Split(*(y[part] for part in rows)))
