"""A table in memory: columns by name, each of numbers or of texts."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

MISSING = frozenset(("", "?", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"))
"""Cells that say that there is no value. Among texts all of them are ""."""


class TableError(ValueError):
    """A table that cannot be read, or not be used as it was asked for."""


class Numbers(NamedTuple):
    """A column of numbers: (N,) of any real type, NaN where one is missing."""

    values: Array

    def rows(self, rows: Any) -> Numbers:
        """Those of some rows."""
        return Numbers(self.values[rows])


class Texts(NamedTuple):
    """A column of texts: for each of N rows, int32, which one of the different texts it is."""

    codes: Array
    texts: list[str]

    def rows(self, rows: Any) -> Texts:
        """Those of some rows."""
        return Texts(self.codes[rows], self.texts)


Column = Numbers | Texts


@dataclass(frozen=True)
class Table:
    """Columns of one length.

    Attributes
    ----------
    source : str
        The file, for messages.
    columns : dict of str to Column
    """

    source: str
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))[0])

    def rows(self, rows: Any) -> Table:
        """Those of some rows."""
        return Table(self.source, {name: each.rows(rows) for name, each in self.columns.items()})

    def column(self, name: str) -> Column:
        """The column called `name`."""
        require(self.source, name, self.columns)
        return self.columns[name]


def require(source: str, name: str, names: Iterable[str]) -> None:
    """Refuse a table without a column called `name`, and tell the names that are near."""
    names = list(names)
    if name in names:
        return
    lower = {each.lower(): each for each in names}
    near = [lower[each] for each in difflib.get_close_matches(name.lower(), lower)]
    shown = near or names
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(shown[:10])}{more}"
    raise TableError(f"{source}: no column {name!r}; {hint}")


def as_numbers(texts: Iterable[str]) -> Array | None:
    """Texts as float64, NaN for those that are missing; None if one is no number."""
    texts = list(texts)
    try:
        values = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        try:
            plain = ("nan" if text.strip() in MISSING else text for text in texts)
            values = np.fromiter(map(float, plain), np.float64, len(texts))
        except ValueError:
            return None
    # Python's float takes 12_34 for a number, a table means a name.
    return None if "_" in "".join(texts) else values


def as_days(texts: list[str]) -> Array | None:
    """Dates, with or without a time, as days since 1970 (float64); None if one is no date.

    ISO 8601 as NumPy reads it: 2024-05-17, 2024-05-17T12:30, 2024-05-17 12:30:15.5.
    """
    given = ["NaT" if text in MISSING else text for text in texts]
    if any(len(text) < len("2024-05-17") and text != "NaT" for text in given):
        return None  # NumPy would take a number for a year
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of time zones, which NumPy does not know
            moments = np.array(given, "datetime64[us]")
    except (ValueError, Warning):
        return None
    days = moments.astype(np.int64) / np.float64(86_400_000_000)
    return np.where(np.isnat(moments), np.nan, days)
