"""Tables out of files of arrays: npy, npz, idx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import datasets
from fastnn.tables.table import MISSING, Column, Numbers, Table, TableError, Texts

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

TARGET = "y"
"""The column of the second file, or of the npz file's other array."""


class Arrays:
    """Rows in one file, and what is to be predicted of them in another, or both in an npz file.

    Rows of any shape are flattened; their columns are x0, x1, ... An npz file calls its arrays x
    and y.

    Parameters
    ----------
    paths : one or two paths

    Attributes
    ----------
    names : list of str
        Of the columns, with the target's last where there is one.
    target : str or None
        "y", if there is one.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.path = paths[0]
        x, y = _npz(paths[0]) if paths[0].suffix == ".npz" else (_load(paths[0]), None)
        if len(paths) == 2:
            y = _load(paths[1])
        if x.ndim < 2 or x.size == 0:
            raise TableError(f"{self.path}: expected rows, (N, ...), got shape {x.shape}")
        if y is not None and y.shape not in ((len(x),), (len(x), 1)):
            raise TableError(
                f"{paths[-1]}: expected a target for each of {len(x)} rows, got shape {y.shape}"
            )
        self._x = x.reshape(len(x), -1)
        self._y = None if y is None else y.reshape(-1)
        self.names = [f"x{column}" for column in range(self._x.shape[1])]
        self.target = None if y is None else TARGET
        if y is not None:
            self.names.append(TARGET)

    def read(self, texts: frozenset[str]) -> Table:
        """The whole table; the columns of `texts` as texts."""
        every = slice(0, len(self._x))
        columns = {name: self._column(name, every, name in texts) for name in self.names}
        return Table(str(self.path), columns)

    def parts(self, kinds: Mapping[str, bool], rows: int) -> Iterator[Table]:
        """The columns in `kinds`, which tells whether they are texts, so many rows at a time."""
        for begin in range(0, len(self._x), rows):
            part = slice(begin, begin + rows)
            yield Table(
                str(self.path), {name: self._column(name, part, kinds[name]) for name in kinds}
            )

    def _column(self, name: str, rows: slice, texts: bool) -> Column:
        own = self._y is not None and name == TARGET
        values = self._y[rows] if own else self._x[rows, int(name[1:])]  # type: ignore[index]
        if values.dtype.kind not in "buifU":
            raise TableError(
                f"{self.path}: column {name!r}: expected numbers or texts, got {values.dtype}"
            )
        if values.dtype.kind == "f" and np.isinf(values).any():
            row = int(np.flatnonzero(np.isinf(values))[0])
            raise TableError(
                f"{self.path}: row {rows.start + row}, column {name!r}: expected a finite number, "
                f"got {values[row]}"
            )
        return as_texts(values) if texts or values.dtype.kind == "U" else Numbers(values)


def as_texts(values: Array) -> Texts:
    """A column of texts or numbers as one of texts."""
    different, codes = np.unique(values, return_inverse=True)
    texts = [str(value).strip() for value in different.tolist()]
    return Texts(codes.astype(np.int32), ["" if text in MISSING else text for text in texts])


def _npz(path: Path) -> tuple[Array, Array | None]:
    with _load(path) as file:
        if "x" not in file:
            found = ", ".join(file) or "nothing"
            raise TableError(f"{path}: expected arrays called x and y, got {found}")
        return file["x"], file["y"] if "y" in file else None


def _load(path: Path) -> Any:
    if path.suffix not in (".npy", ".npz"):
        try:
            return datasets.read_idx(path)
        except ValueError as error:
            raise TableError(str(error)) from None
    try:
        return np.load(path, mmap_mode="r" if path.suffix == ".npy" else None)
    except (ValueError, EOFError) as error:
        raise TableError(f"{path}: cannot be read: {error}") from None
