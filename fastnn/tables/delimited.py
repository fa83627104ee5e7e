"""Tables of delimited text: CSV, and its likes with semicolons, tabs or bars."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.tables.table import MISSING, Column, Numbers, Table, TableError, Texts, as_numbers

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

DELIMITERS = ",;\t|"
"""The one that is most often in the header is the table's."""

ROWS_AT_ONCE = 1 << 10
"""Rows whose cells are texts at the same time: of 50 columns, eight times as many no longer fit
into the caches, and take 1.6 times as long."""

Cells = Sequence[str]


class Delimited:
    """A file of delimited text with a header, in UTF-8 with or without a byte order mark.

    Cells may be quoted, rows end in any of the usual ways, and blank lines are no rows.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    names : list of str
        Of the columns.

    Raises
    ------
    TableError
        If the header is missing or names a column twice.
    """

    target: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as file:
            begin = file.read(1 << 16).lstrip()
        first = next(iter(begin.splitlines()), "")
        self._delimiter = max(DELIMITERS, key=re.sub('"[^"]*"', "", first).count)
        with self._rows() as rows:
            header: list[str] = next((row for row in rows if row), [])
        if not header:
            raise TableError(f"{path}: is empty, expected a header with the columns' names")
        self.names = [name.strip() or f"column {at}" for at, name in enumerate(header, start=1)]
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise TableError(f"{path}: two columns are called {min(twice)!r}")

    def read(self, texts: frozenset[str]) -> Table:
        """The whole table; columns in which a cell is no number, and those of `texts`, are texts.

        The first rows tell which are numbers. Where a later one does not bear that out, the file
        is read again.
        """
        kinds = dict.fromkeys(texts, True)
        while True:
            columns = {name: self._column(name, kinds.get(name, False), 0) for name in self.names}
            wrong = set[str]()
            for begin, block in self._blocks(ROWS_AT_ONCE):
                for name, cells in zip(self.names, block, strict=True):
                    if name in wrong or columns[name].add(cells):
                        continue
                    kinds[name] = True
                    if begin == 0:
                        columns[name] = _TextColumn()
                        columns[name].add(cells)
                    else:
                        wrong.add(name)
            if not wrong:
                break
        table = Table(str(self.path), {name: each.column() for name, each in columns.items()})
        if not len(table):
            raise TableError(f"{self.path}: has a header and no rows")
        return table

    def parts(self, kinds: Mapping[str, bool], rows: int) -> Iterator[Table]:
        """The columns in `kinds`, which tells whether they are texts, so many rows at a time."""
        places = {name: self.names.index(name) for name in kinds}
        for begin, block in self._blocks(rows):
            found: dict[str, Column] = {}
            for name, place in places.items():
                column = self._column(name, kinds[name], begin)
                if not column.add(block[place]):
                    self._refuse_text(name, block[place], begin)
                found[name] = column.column()
            yield Table(str(self.path), found)

    def _column(self, name: str, texts: bool, begin: int) -> _TextColumn | _NumberColumn:
        """Room for a column, from row number `begin` on."""
        if texts:
            return _TextColumn()
        return _NumberColumn(lambda row: self._where(begin + row, name))

    def _refuse_text(self, name: str, cells: Cells, begin: int) -> None:
        row = next(row for row, cell in enumerate(cells) if as_numbers([cell]) is None)
        place = self._where(begin + row, name)
        raise TableError(f"{place}: expected a number, got {cells[row]!r}")

    def _where(self, row: int, name: str) -> str:
        """The place of a cell, for a message."""
        return f"{self._line(row)}, column {name!r}"

    def _line(self, row: int) -> str:
        """The file, and the line in which a row ends."""
        with self._rows() as rows:
            next(itertools.islice((each for each in rows if each), row + 1, None))
            return f"{self.path}: line {rows.line_num}"

    def _blocks(self, rows: int) -> Iterator[tuple[int, list[Cells]]]:
        """The number of the first row, and the columns of so many rows."""
        width, begin = len(self.names), 0
        with self._rows() as reader:
            every = (row for row in reader if row)
            next(every)  # the header
            while block := list(itertools.islice(every, rows)):
                if set(map(len, block)) != {width}:
                    self._refuse_ragged(begin, block)
                yield begin, list(zip(*block, strict=True))
                begin += len(block)

    def _refuse_ragged(self, begin: int, block: list[list[str]]) -> None:
        row = next(row for row, cells in enumerate(block) if len(cells) != len(self.names))
        raise TableError(
            f"{self._line(begin + row)}: expected {len(self.names)} cells, got {len(block[row])}"
        )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                yield file
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise TableError(
                f"{self.path}: line {_undecodable_line(self.path)}: the byte 0x{byte:02x} is no "
                "UTF-8; save the file in that encoding"
            ) from None

    @contextlib.contextmanager
    def _rows(self) -> Iterator[Any]:
        """A reader from the header on; what it stumbles over is told with its line."""
        with self._opened() as file:
            reader = csv.reader(file, delimiter=self._delimiter, skipinitialspace=True, strict=True)
            try:
                yield reader
            except csv.Error as error:
                line = f"{self.path}: line {max(reader.line_num, 1)}"
                raise TableError(f"{line}: is no row of a table: {error}") from None


def _undecodable_line(path: Path) -> int:
    """The first line that is no UTF-8."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1  # the file was changed meanwhile


class _NumberColumn:
    """Numbers, as they come in: room is doubled, and what is not used takes no memory."""

    def __init__(self, where: Callable[[int], str]) -> None:
        self._where = where
        self._values = np.empty(ROWS_AT_ONCE)
        self._count = 0

    def add(self, cells: Cells) -> bool:
        """Take in cells, unless one is no number."""
        values = as_numbers(cells)
        if values is None:
            return False
        infinite = np.flatnonzero(np.isinf(values))
        if infinite.size:
            row = int(infinite[0])
            place = self._where(self._count + row)
            raise TableError(f"{place}: expected a finite number, got {cells[row]!r}")
        end = self._count + len(values)
        if end > len(self._values):
            grown = np.empty(max(2 * len(self._values), end))
            grown[: self._count] = self._values[: self._count]
            self._values = grown
        self._values[self._count : end] = values
        self._count = end
        return True

    def column(self) -> Column:
        """What was taken in."""
        return Numbers(self._values[: self._count])


class _TextColumn:
    """Texts, as they come in."""

    def __init__(self) -> None:
        self._codes: list[Array] = []
        self._code_of: defaultdict[str, int] = defaultdict()
        self._code_of.default_factory = self._code_of.__len__  # a new text gets the next code

    def add(self, cells: Cells) -> bool:
        """Take in cells, without the spaces around them."""
        stripped = map(str.strip, cells)
        known = ("" if cell in MISSING else cell for cell in stripped)
        codes = np.fromiter(map(self._code_of.__getitem__, known), np.int32, len(cells))
        self._codes.append(codes)
        return True

    def column(self) -> Column:
        """What was taken in."""
        none = np.empty(0, np.int32)
        return Texts(np.concatenate([none, *self._codes]), list(self._code_of))
