"""Tables out of Parquet files, which pyarrow reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.tables.arrays import as_texts
from fastnn.tables.table import MISSING, Column, Numbers, Table, TableError, Texts

INSTALL = 'pip install "fastnn[parquet]"'
"""What brings pyarrow."""


class Parquet:
    """A Parquet file of columns of numbers, truth values, texts, dates or times.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    names : list of str
        Of the columns.

    Raises
    ------
    ImportError
        Without pyarrow.
    """

    target: str | None = None

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError(f"{path}: Parquet files need pyarrow: {INSTALL}") from error
        self.path = path
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except pyarrow.ArrowInvalid as error:
            raise TableError(f"{path}: cannot be read: {error}") from None
        self.names: list[str] = self._file.schema_arrow.names

    def read(self, texts: frozenset[str]) -> Table:
        """The whole table; the columns of `texts` as texts."""
        if self._file.metadata.num_rows == 0:
            raise TableError(f"{self.path}: has no rows")
        columns = {}
        for name in self.names:
            chunked = self._file.read(columns=[name]).column(0)
            columns[name] = self._column(name, chunked.combine_chunks(), name in texts)
        return Table(str(self.path), columns)

    def parts(self, kinds: Mapping[str, bool], rows: int) -> Iterator[Table]:
        """The columns in `kinds`, which tells whether they are texts, so many rows at a time."""
        for batch in self._file.iter_batches(rows, columns=list(kinds)):
            columns = {name: self._column(name, batch[name], kinds[name]) for name in kinds}
            yield Table(str(self.path), columns)

    def _column(self, name: str, array: Any, texts: bool) -> Column:
        from pyarrow import types

        kind, place = array.type, f"{self.path}: column {name!r}"
        if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            values = array.cast("float64", safe=False).to_numpy(zero_copy_only=False)
            if np.isinf(values).any():
                row = int(np.flatnonzero(np.isinf(values))[0])
                raise TableError(f"{place}, row {row}: expected a finite number, got {values[row]}")
            whole = types.is_integer(kind) and not np.isnan(values).any()
            return (
                as_texts(values.astype(np.int64) if whole else values) if texts else Numbers(values)
            )
        if not (
            types.is_string(kind)
            or types.is_large_string(kind)
            or types.is_boolean(kind)
            or types.is_temporal(kind)
            or types.is_dictionary(kind)
        ):
            raise TableError(f"{place}: expected numbers, texts or dates, got {kind}")
        encoded = array.cast("string").fill_null("").dictionary_encode()
        different = [text.strip() for text in encoded.dictionary.to_pylist()]
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        return Texts(codes, ["" if text in MISSING else text for text in different])
