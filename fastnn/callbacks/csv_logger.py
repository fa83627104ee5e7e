"""A callback that writes a history to a file, epoch by epoch."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.callbacks.base import Callback, Logs


class CSVLogger(Callback):
    """Write each epoch's figures to a CSV file, as a row below a header, at the epoch's end.

    The first column is the epoch, from 0, the others are the figures that are numbers, by their
    names. A fit that goes on from a checkpoint goes on with the file: rows of epochs that it does
    again are replaced.

    Parameters
    ----------
    filename : path
        The file, in a folder that exists.
    separator : str
        Between cells, one character.
    append : bool
        Whether rows are added to a file that is there. By default a fit begins it anew.

    Raises
    ------
    FileNotFoundError
        In `fit`, before the first epoch, if the folder does not exist.
    ValueError
        After the first epoch, if rows are to be added to a file with other columns.

    Examples
    --------
    >>> import fastnn
    >>> log = fastnn.callbacks.CSVLogger("history.csv")
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        if not isinstance(filename, (str, os.PathLike)):
            raise TypeError(f"CSVLogger: filename must be a path, got {filename!r}")
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ValueError(f"CSVLogger: separator must be one character, got {separator!r}")
        self.path, self.separator, self.append = Path(filename), separator, bool(append)
        self._rows = 0
        self._begun = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Find out what is to be kept."""
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"CSVLogger: no such folder: {self.path.parent}")
        self._rows = len(self._lines()[1:]) if self.append else 0
        self._begun = False

    def state(self) -> dict[str, Any]:
        """How many rows the file has."""
        return {"rows": self._rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on after as many."""
        self._rows = checks.integer("CSVLogger", "rows", state["rows"], 0)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the epoch's row."""
        numbers = {name: value for name, value in (logs or {}).items() if np.ndim(value) == 0}
        if not self._begun:
            self._begin(["epoch", *numbers])
        self._write("a", [[epoch, *numbers.values()]])
        self._rows += 1

    def _begin(self, header: list[str]) -> None:
        """Leave in the file what is to be kept."""
        kept = self._lines()[: 1 + self._rows] if self._rows else [header]
        if kept[:1] != [header]:
            raise ValueError(
                f"CSVLogger: {self.path} must have the columns {header}, got {kept[:1]}"
            )
        self._write("w", kept)
        self._begun = True

    def _lines(self) -> list[list[str]]:
        """What is in the file, header and rows; nothing if there is none."""
        if not self.path.is_file():
            return []
        with open(self.path, encoding="utf-8", newline="") as file:
            return list(csv.reader(file, delimiter=self.separator))

    def _write(self, mode: str, lines: list[list[Any]]) -> None:
        with open(self.path, mode, encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=self.separator, lineterminator="\n").writerows(lines)
