"""Columns as the numbers that a network takes, by what their training rows hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fastnn.tables.table import Column, Numbers, Table, TableError, Texts, as_days, as_numbers

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

MOST_CATEGORIES = 64
"""Texts of a column that get an output of their own, the most frequent ones."""

_FAR = 1e9
"""Scaled numbers beyond are taken for it, so that no square is infinite."""


@dataclass(frozen=True)
class Number:
    """A column of numbers or of dates: ``z/√(1 + (z/3)²)`` of ``z = (value − median)·factor``.

    The robust scaling with a smooth clip of Holzmüller, Grinsztajn & Steinwart 2024, "Better by
    default: strong pre-tuned MLPs and boosted trees on tabular data": values far out neither
    squeeze the others together nor go beyond 3. One that is missing becomes the median's 0; where
    training rows lack some, a second number says whether it is.

    Parameters
    ----------
    name : str
    median, factor : float
        Of the training rows; the factor is the reciprocal of the distance between the quartiles, or
        of half the range where these are equal.
    missing : bool
        Whether a second number tells of missing values.
    kind : {"number", "date"}
        Dates are read from texts and counted in days.
    """

    name: str
    median: float
    factor: float
    missing: bool
    kind: Literal["number", "date"] = "number"

    @property
    def width(self) -> int:
        """How many numbers a value becomes."""
        return 1 + self.missing

    def encode(self, table: Table, rows: Any, out: Array) -> None:
        """Write some rows of the column to `out` (N, width)."""
        values = _values(table, self.name, self.kind)[rows].astype(np.float64)
        absent = np.isnan(values)
        with np.errstate(over="ignore"):
            z = np.clip((values - self.median) * self.factor, -_FAR, _FAR)
        out[:, 0] = np.where(absent, 0.0, z / np.sqrt(1.0 + (z / 3.0) ** 2))
        if self.missing:
            out[:, 1] = absent

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it again."""
        return asdict(self)


@dataclass(frozen=True)
class Category:
    """A column of texts: one-hot, all 0 for a text that is none of `values`.

    That nothing is there ("") is a text, too, if it is so in training rows.
    """

    name: str
    values: list[str]
    kind: ClassVar[str] = "category"

    @property
    def width(self) -> int:
        """How many numbers a value becomes."""
        return len(self.values)

    def encode(self, table: Table, rows: Any, out: Array) -> None:
        """Write some rows of the column to `out` (N, width)."""
        column = table.column(self.name)
        assert isinstance(column, Texts)
        self._refuse_numbers(table.source, column)
        place_of = {text: place for place, text in enumerate(self.values)}
        places = np.array([place_of.get(text, -1) for text in column.texts], np.int64)
        place = places[column.codes[rows]]
        out[...] = 0.0
        known = np.flatnonzero(place >= 0)
        out[known, place[known]] = 1.0

    def _refuse_numbers(self, source: str, column: Texts) -> None:
        """Refuse a column of numbers in the place of one of names, rather than know none of it."""
        given = [text for text in column.texts if text]
        own = [text for text in self.values if text]
        if given and not set(given) & set(own) and as_numbers(given) is not None:
            if all(as_numbers([text]) is None for text in own):
                raise TableError(
                    f"{source}: column {self.name!r}: expected texts such as {own[0]!r}, "
                    f"got numbers, {given[0]!r} among them"
                )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it again."""
        return {**asdict(self), "kind": self.kind}


Feature = Number | Category


def fit(table: Table, name: str, rows: Array) -> Feature | str:
    """What the column called `name` becomes, by its training rows; or why it is of no use."""
    column = table.column(name)
    if isinstance(column, Numbers):
        return _number(name, column.values[rows], "number")
    if as_days(column.texts) is not None and any(column.texts):
        return _number(name, _values(table, name, "date")[rows], "date")
    return _category(name, column.rows(rows))


def make(config: dict[str, Any]) -> Feature:
    """The feature whose `get_config` gave `config`."""
    if config["kind"] == Category.kind:
        return Category(config["name"], config["values"])
    return Number(**config)


def _number(name: str, values: Array, kind: Literal["number", "date"]) -> Number | str:
    values = values.astype(np.float64)
    known = values[~np.isnan(values)]
    if not known.size:
        return "it is empty"
    low, first, median, third, high = np.percentile(known, (0, 25, 50, 75, 100)).tolist()
    distance = third - first or (high - low) / 2
    missing = known.size < values.size
    if not distance or not np.isfinite(1 / distance):
        if not missing:
            return "it is constant"
        distance = np.inf  # only whether a value is there tells anything
    return Number(name, median, 1 / distance, missing, kind)


def _category(name: str, column: Texts) -> Category | str:
    codes, counts = np.unique(column.codes, return_counts=True)
    count_of: dict[str, int] = {}
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        text = column.texts[code]
        count_of[text] = count_of.get(text, 0) + count
    if len(count_of) == 1:
        return "it is constant" if any(count_of) else "it is empty"
    if len(count_of) > len(column.codes) / 2:
        return "nearly every row has another text (dates are read as 2024-05-17)"
    often = sorted(count_of, key=lambda text: (-count_of[text], text))
    return Category(name, sorted(often[:MOST_CATEGORIES]))


def _values(table: Table, name: str, kind: str) -> Array:
    """The column's numbers, or its dates as days."""
    column = table.column(name)
    if isinstance(column, Numbers) and kind == "number":
        return column.values
    of_texts = as_days(column.texts) if kind == "date" and isinstance(column, Texts) else None
    if of_texts is None:
        expected = "dates such as 2024-05-17" if kind == "date" else "numbers"
        raise TableError(
            f"{table.source}: column {name!r}: expected {expected}, as in the training data, "
            f"got {_stranger(column)}"
        )
    assert isinstance(column, Texts)
    return of_texts[column.codes]


def _stranger(column: Column) -> str:
    """A value of a column that is of the wrong kind."""
    if isinstance(column, Numbers):
        return "numbers"
    wrong = (text for text in column.texts if as_days([text]) is None)
    return repr(next(wrong, column.texts[0]))
