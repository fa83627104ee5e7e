"""A file's name tells what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fastnn.tables.arrays import Arrays
from fastnn.tables.delimited import Delimited
from fastnn.tables.parquet import Parquet
from fastnn.tables.table import Table, TableError

OF_ARRAYS = (".npy", ".npz", "-ubyte", "-ubyte.gz", ".idx", ".idx.gz")
"""How the names of files of arrays end, those of idx files among them."""


class Source(Protocol):
    """A table on disk.

    Attributes
    ----------
    names : list of str
        Of its columns.
    target : str or None
        The column to be predicted, where the file itself says which that is.
    """

    names: list[str]
    target: str | None

    def read(self, texts: frozenset[str]) -> Table:
        """The whole table; the columns of `texts` as texts, others as what they are."""

    def parts(self, kinds: Mapping[str, bool], rows: int) -> Iterator[Table]:
        """The columns in `kinds`, which tells whether they are texts, so many rows at a time."""


def opened(paths: Sequence[Path]) -> Source:
    """The table in a file, or in two: of rows, and of what is to be predicted of them.

    Raises
    ------
    TableError
        If a file is not there or cannot be what its name says.
    ImportError
        If it is a Parquet file and there is no pyarrow.
    """
    for path in paths:
        if not path.is_file():
            raise TableError(f"{path}: no such file")
    of_arrays = paths[0].name.endswith(OF_ARRAYS)
    if len(paths) > (2 if of_arrays and paths[0].suffix != ".npz" else 1):
        raise TableError(f"{paths[-1]}: one file too many: only .npy and idx files come in pairs")
    if of_arrays:
        return Arrays(paths)
    return Parquet(paths[0]) if paths[0].suffix == ".parquet" else Delimited(paths[0])
