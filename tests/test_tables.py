"""Tables: files read, rows split, columns encoded; held against pandas and NumPy."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import table_cases
from fastnn import tables
from fastnn.tables import Numbers, Recipe, Table, TableError, Texts, delimited, targets
from fastnn.tables.split import split
from fastnn.tables.table import as_days
from helpers import assert_close

NONE: frozenset[str] = frozenset()


def read(path: Path, *texts: str) -> Table:
    return tables.opened([path]).read(frozenset(texts))


def texts_of(column: Any) -> list[str]:
    assert isinstance(column, Texts)
    return [column.texts[code] for code in column.codes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


# Reading.


@pytest.mark.parametrize("rows_at_once", [1, 7, 1 << 13])
@pytest.mark.parametrize(("end", "bom"), [("\r\n", True), ("\n", False), ("\r", False)])
def test_a_mixed_table_is_read_as_pandas_reads_it(
    path: Path, end: str, bom: bool, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.setattr(delimited, "ROWS_AT_ONCE", rows_at_once)
    table_cases.write(path, table_cases.mixed(), end, bom)
    frame, table = pandas.read_csv(path), read(path)
    assert list(table.columns) == list(frame.columns)
    for name, column in table.columns.items():
        if isinstance(column, Numbers):
            np.testing.assert_array_equal(column.values, frame[name].to_numpy(np.float64))
        else:
            assert texts_of(column) == frame[name].fillna("").tolist()
    kinds = {name for name, column in table.columns.items() if isinstance(column, Texts)}
    assert kinds == {"colour", "day", "name", "kind"}


def test_a_column_that_turns_out_to_be_text_keeps_all_its_texts(path: Path) -> None:
    cells = [f"{row:05}" for row in range(delimited.ROWS_AT_ONCE)]
    table_cases.write(path, {"code": [*cells, "x1"], "size": ["1"] * (len(cells) + 1)})
    table = read(path)
    assert texts_of(table.columns["code"]) == [*cells, "x1"]
    assert isinstance(table.columns["size"], Numbers)


def test_numbers_with_underscores_are_names(path: Path) -> None:
    path.write_text("a,b\n1_0,1\n2_0,2\n")
    assert texts_of(read(path).columns["a"]) == ["1_0", "2_0"]


@pytest.mark.parametrize("delimiter", delimited.DELIMITERS)
def test_the_header_tells_the_delimiter(path: Path, delimiter: str) -> None:
    path.write_text("a,b\n\n1, two \n3,?\n".replace(",", delimiter))
    table = read(path)
    assert_close(table.columns["a"][0], [1.0, 3.0], "float64")
    assert texts_of(table.columns["b"]) == ["two", ""]
    path.write_text(f'"a, b; c | d\t"{delimiter}e\n1{delimiter}2\n')
    assert list(read(path).columns) == ["a, b; c | d", "e"]


BROKEN = {
    "empty": (b"", "is empty, expected a header"),
    "header alone": (b"a,b\n", "has a header and no rows"),
    "ragged": (b'a,b\n1,2\n"3\n",4\n5\n', "line 5: expected 2 cells, got 1"),
    "twice": (b"a,b,a\n1,2,3\n", "two columns are called 'a'"),
    "no UTF-8": (b"a,b\n1,2\n3,caf\xe9\n", "line 3: the byte 0xe9 is no UTF-8"),
    "infinite": (
        b"a,b\n1,2\n\n3,-inf\n",
        "line 4, column 'b': expected a finite number, got '-inf",
    ),
    "too large": (b"a,b\n1,1e999\n", "line 2, column 'b': expected a finite number, got '1e999'"),
    "open quote": (b'a,b\n1,"2\n', "line 2: is no row of a table"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_with_their_place(path: Path, case: str) -> None:
    content, message = BROKEN[case]
    path.write_bytes(content)
    with pytest.raises(TableError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_parts_are_the_whole_in_order(path: Path) -> None:
    table_cases.write(path, table_cases.mixed())
    kinds = {"colour": True, "weight": False}
    parts = list(tables.opened([path]).parts(kinds, 64))
    assert [len(part) for part in parts] == [64] * 6 + [16]
    whole = read(path)
    joined = np.concatenate([part.columns["weight"][0] for part in parts])
    np.testing.assert_array_equal(joined, whole.columns["weight"][0])
    texts = [text for part in parts for text in texts_of(part.columns["colour"])]
    assert texts == texts_of(whole.columns["colour"])


def test_what_is_no_finite_number_is_refused_in_parts(path: Path) -> None:
    path.write_text("a,b\n1,2\n3,4\n5,six\n")
    parts = tables.opened([path]).parts({"b": False}, 2)
    next(parts)
    with pytest.raises(TableError, match="line 4, column 'b': expected a number, got 'six'"):
        next(parts)
    path.write_text("a,b\n1,2\n3,4\n\n5,inf\n")
    parts = tables.opened([path]).parts({"b": False}, 2)
    next(parts)
    with pytest.raises(TableError, match="line 5, column 'b': expected a finite number, got 'inf'"):
        next(parts)


def test_missing_columns_name_their_neighbours() -> None:
    with pytest.raises(TableError, match="no column 'Prise'; did you mean price"):
        tables.require("t.csv", "Prise", ["cost", "price"])
    with pytest.raises(TableError, match="no column 'z'; it has alpha, beta"):
        tables.require("t.csv", "z", ["alpha", "beta"])


# Arrays and Parquet.


def idx(array: Any) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def files_of(form: str, folder: Path, x: Any, y: Any) -> list[Path]:
    if form == "npz":
        np.savez(folder / "a.npz", x=x, y=y)
        return [folder / "a.npz"]
    names = ("x.npy", "y.npy") if form == "npy" else ("x-ubyte.gz", "y-ubyte")
    paths = [folder / name for name in names]
    for path, array in zip(paths, (x, y), strict=True):
        if form == "npy":
            np.save(path, array)
        else:
            path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))
    return paths


@pytest.mark.parametrize("form", ["npz", "npy", "idx"])
def test_files_of_arrays_are_tables(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (9, 2, 3), np.uint8), rng.integers(0, 3, 9, np.uint8)
    source = tables.opened(files_of(form, tmp_path, x, y))
    table = source.read(frozenset(["y"]))
    assert source.names == ["x0", "x1", "x2", "x3", "x4", "x5", "y"]
    for column in range(6):
        np.testing.assert_array_equal(table.columns[f"x{column}"][0], x.reshape(9, 6)[:, column])
    assert texts_of(table.columns["y"]) == [str(label) for label in y]
    parts = [part.columns["x4"][0] for part in source.parts({"x4": False}, 4)]
    np.testing.assert_array_equal(np.concatenate(parts), x.reshape(9, 6)[:, 4])


WRONG_ARRAYS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "infinite": (lambda p: np.save(p, np.array([[1.0], [np.inf]])), "row 1, column 'x0'"),
    "one number a row": (lambda p: np.save(p, np.ones(3)), r"expected rows, \(N, ...\)"),
    "objects": (lambda p: np.save(p, np.array([[None]]), allow_pickle=True), "cannot be read"),
    "no array": (lambda p: p.write_bytes(b"text"), "cannot be read"),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_arrays_that_are_no_tables_are_refused(case: str, tmp_path: Path) -> None:
    make, message = WRONG_ARRAYS[case]
    make(tmp_path / "x.npy")
    with pytest.raises(TableError, match=message):
        read(tmp_path / "x.npy")


def test_parquet_is_read_as_the_same_table_in_csv(path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table_cases.write(path, table_cases.mixed())
    frame = pandas.read_csv(path)
    frame["day"] = pandas.to_datetime(frame["day"])
    frame["kind"] = frame["kind"].astype("category")
    other = path.with_suffix(".parquet")
    frame.to_parquet(other)
    rows = np.arange(0, table_cases.ROWS, 2)
    (of_csv, x), (of_parquet, x_parquet) = (
        (recipe := Recipe.fit(table, "kind", "classification", rows), recipe.encode(table))
        for table in (read(path, "kind"), read(other, "kind"))
    )
    assert of_csv.get_config() == of_parquet.get_config()
    np.testing.assert_array_equal(x, x_parquet)
    parts = [of_csv.encode(part) for part in tables.opened([other]).parts(of_csv.kinds, 150)]
    np.testing.assert_array_equal(np.concatenate(parts), x)


# Splitting.


def test_every_group_is_split_in_proportion() -> None:
    groups = np.random.default_rng(0).choice(4, 5000, p=[0.6, 0.3, 0.09, 0.01])
    parts = split(groups, 0.15, 0.2, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(5000))
    for group in range(4):
        count = (groups == group).sum()
        shares = [(groups[part] == group).sum() for part in parts]
        np.testing.assert_allclose(shares, np.array([0.65, 0.15, 0.2]) * count, atol=2)
    again, other = split(groups, 0.15, 0.2, seed=0), split(groups, 0.15, 0.2, seed=1)
    np.testing.assert_array_equal(parts.test, again.test)
    assert not np.array_equal(parts.test, other.test)


def test_a_group_of_one_row_is_for_training() -> None:
    groups = np.arange(100)
    assert len(split(groups, 0.15, 0.15, seed=0).training) == 100


# Columns as numbers.


def test_encoding_is_what_pandas_makes_of_the_training_rows(path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table_cases.write(path, table_cases.mixed())
    frame, table = pandas.read_csv(path), read(path, "kind")
    rows = split(np.zeros(table_cases.ROWS, int), 0.15, 0.15, seed=0).training
    recipe = Recipe.fit(table, "kind", "classification", rows)
    recipe = Recipe.from_config(recipe.get_config())
    frame["day"] = (pandas.to_datetime(frame["day"]) - pandas.Timestamp(0)).dt.days
    names = ["size", "weight", "day", "number"]
    expected = table_cases.encoded(frame, frame.iloc[rows], names, ["colour"])
    x = recipe.encode(table)
    ours = [x[:, :1], x[:, 1:3], x[:, 7:8], x[:, 8:], x[:, 3:7]]  # day comes after colour
    assert_close(np.concatenate(ours, axis=1), expected)


def test_what_tells_nothing_is_left_out(path: Path) -> None:
    cells = table_cases.mixed()
    cells["nothing"] = [""] * table_cases.ROWS
    table_cases.write(path, cells)
    recipe = Recipe.fit(read(path, "kind"), "kind", "classification", np.arange(table_cases.ROWS))
    assert recipe.left_out == {
        "always": "it is constant",
        "name": "nearly every row has another text (dates are read as 2024-05-17)",
        "nothing": "it is empty",
    }


def table_of(**columns: Any) -> Table:
    made = {}
    for name, values in columns.items():
        different, codes = np.unique(values, return_inverse=True)
        texts = isinstance(values[0], str)
        made[name] = Texts(codes, different.tolist()) if texts else Numbers(np.array(values))
    return Table("t", made)


def test_numbers_that_are_far_out_stay_near_and_missing_ones_are_told() -> None:
    table = table_of(a=[0.0, 1.0, 2.0, 3.0, 4.0], b=[5.0, 5.0, np.nan, 5.0, 5.0], y=list("aabba"))
    recipe = Recipe.fit(table, "y", "classification", np.arange(5))
    new = table_of(a=[1e308, -1e308, np.nan, 2.5, 2.0], b=[5.0, np.nan, 5.0, 5.0, 5.0])
    expected = [[3, 0, 0], [-3, 0, 1], [0, 0, 0], [0.25 / np.hypot(1, 0.25 / 3), 0, 0], [0, 0, 0]]
    assert_close(recipe.encode(new), expected)


def test_texts_beyond_the_most_frequent_have_no_column_of_their_own() -> None:
    often = [f"t{at:03}" for at in range(70) for _ in range(3 if at % 10 else 2)]
    table = table_of(a=often, y=["p", "q"] * (len(often) // 2) + ["p"] * (len(often) % 2))
    recipe = Recipe.fit(table, "y", "classification", np.arange(len(often)))
    (feature,) = recipe.features
    assert len(feature.values) == 64
    assert sorted({f"t{at:03}" for at in range(70)} - set(feature.values)) == [
        "t010",
        "t020",
        "t030",
        "t040",
        "t050",
        "t060",
    ]
    x = recipe.encode(table)
    rare = np.array([text in ("t010", "t060") for text in often])
    assert not x[rare].any()
    assert x.sum() == sum(text in feature.values for text in often)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"a": ["x", "y"], "b": ["u", "v"]}, "column 'a': expected numbers, .* got 'x'"),
        ({"a": [1.0, 2.0], "b": ["1", "2.5"]}, "column 'b': expected texts such as 'u', .* '1'"),
    ],
)
def test_a_column_of_another_kind_is_refused(new: dict[str, Any], message: str) -> None:
    table = table_of(a=[1.0, 2.0, 3.0, 4.0], b=["u", "v", "u", "v"], y=list("ppqq"))
    recipe = Recipe.fit(table, "y", "classification", np.arange(4))
    with pytest.raises(TableError, match=message):
        recipe.encode(table_of(**new))


# Targets.


@pytest.mark.parametrize(
    ("texts", "task"),
    [
        (["yes", "no"] * 3, "classification"),
        (["0", "1"] * 3, "classification"),
        (["0.5", "1"] * 3, "regression"),
        ([str(n) for n in range(20)] * 10, "classification"),
        ([str(n) for n in range(20)] * 9, "regression"),
        ([str(n) for n in range(21)] * 20, "regression"),
    ],
)
def test_the_task_is_what_the_target_looks_like(texts: list[str], task: str) -> None:
    column = table_of(y=texts).columns["y"]
    assert isinstance(column, Texts)
    assert targets.infer(column) == task


def test_classes_are_numbers_where_their_names_are() -> None:
    column = table_of(y=["10", "9", "9.0", "09", "9"]).columns["y"]
    assert isinstance(column, Texts)
    target = targets.fit("t", "y", "classification", column)
    assert isinstance(target, targets.Classes)
    assert target.names == ["9", "10"]
    np.testing.assert_array_equal(target.labels(column), [1, 0, 0, 0, 0])
    other = table_of(y=["9", "x", "10.0"]).columns["y"]
    assert isinstance(other, Texts)
    np.testing.assert_array_equal(target.labels(other), [0, -1, 1])


def test_quantities_come_back_in_their_units() -> None:
    values = np.random.default_rng(0).normal(1e6, 10, 50)
    target = targets.Quantity("y", float(values.mean()), float(values.std()))
    encoded = target.encode(values)
    assert_close(encoded.mean(), 0.0, "float32")
    # float32 of numbers near 1, times the spread of 10.
    np.testing.assert_allclose(target.decode(encoded[:, None]), values, atol=1e-5)


@pytest.mark.parametrize(
    ("task", "texts", "message"),
    [
        ("regression", ["1", "two"], "column 'y': expected finite numbers .* got 'two'"),
        ("regression", ["1", "inf"], "expected finite numbers .* got 'inf'"),
        ("classification", ["a", "a"], "has one value alone, 'a': nothing to predict"),
        ("regression", ["3", "3.0"], "has one value alone, '3"),
    ],
)
def test_targets_that_cannot_be_learnt_are_refused(
    task: str, texts: list[str], message: str
) -> None:
    column = table_of(y=texts).columns["y"]
    assert isinstance(column, Texts)
    with pytest.raises(TableError, match=message):
        targets.fit("t", "y", task, column)


def test_dates_are_days_and_numbers_are_no_dates() -> None:
    days = as_days(["1970-01-02", "1970-01-01 12:00", "1969-12-31T18:00:00", ""])
    assert_close(days, [1.0, 0.5, -0.25, np.nan], "float64")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for other in ("2024", "20240517", "soon", "2024-13-45", "2024-05-17T12:00+02:00"):
            assert as_days(["2024-05-17", other]) is None
