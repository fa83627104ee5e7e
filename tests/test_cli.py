"""The command line as a user meets it: what it writes, prints and returns."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
import table_cases
from fastnn import cli
from fastnn.cli import bench, info, learning
from fastnn.tables.split import split
from helpers import assert_close
from processes import PLACE

QUICK = ("--hidden", "16", "--epochs", "3")


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastnn", *map(str, arguments)],
        cwd=PLACE,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def cells_of(path: Path) -> tuple[list[str], list[list[str]]]:
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    x, y = np.rint(16 * np.concatenate([x, x_test])), np.concatenate([y, y_test])
    path = tmp_path / "digits.csv"
    header = ",".join(["digit", *(f"pixel{index}" for index in range(64))])
    np.savetxt(path, np.column_stack([y, x]), "%d", ",", header=header, comments="")
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return table_cases.write(tmp_path / "mixed.csv", table_cases.mixed())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


# Training.


def test_digits_are_learnt_and_told_on_stdout(digits: Path, model: Path) -> None:
    picture = model.with_suffix(".png")
    done = command("train", digits, "--target", "digit", "--out", model, "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert "digit: classification, 10 classes: 0, 1, 2, 3, 4, ..." in done.stdout
    assert "for training" in done.stdout
    assert "samples a second" in done.stdout
    (line,) = (line.split() for line in done.stdout.splitlines() if line.startswith("accuracy"))
    assert float(line[1]) > 0.95
    assert float(line[2]) < 0.2
    assert "epoch" in done.stderr
    assert "val_accuracy" in done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_is_one_object_on_stdout(mixed: Path, model: Path) -> None:
    done = command("train", mixed, "--target", "kind", "--json", "--out", model, "--seed", 5)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["task"] == "classification"
    assert sum(told["rows"].values()) == table_cases.ROWS
    assert told["columns"]["day"] == "date"
    assert set(told["left_out"]) == {"always", "name"}
    assert told["test"]["accuracy"] > told["baseline"]["accuracy"] + 0.1
    assert told["epochs"] * told["rows"]["training"] / told["seconds"] == pytest.approx(
        told["samples_per_second"]
    )
    assert told["model"] == str(model)
    loaded = fastnn.load(model)
    assert (loaded.seed, told["seed"]) == (5, 5)
    assert loaded.input_shape == (told["inputs"],)


def test_a_regression_is_scored_in_the_targets_units(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = 1000 + 50 * (x[:, 0] + np.sin(2 * x[:, 1]))
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    arguments = ("--json", "--out", model, "--dropout", 0, "--seed", 3)
    assert run("train", tmp_path / "x.npy", tmp_path / "y.npy", *arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["task"] == "regression"
    rows = split(np.zeros(500, int), 0.15, 0.15, 3)
    np.save(tmp_path / "new.npy", x[rows.test])
    out = tmp_path / "predictions.csv"
    assert run("predict", model, tmp_path / "new.npy", "--out", out) == 0
    header, cells = cells_of(out)
    assert header == ["y"]
    error = np.array(cells, np.float64)[:, 0] - y[rows.test]
    constant = y[rows.test] - y[rows.training].mean()
    assert_close(told["test"]["rmse"], np.sqrt((error**2).mean()), "float64")
    assert_close(told["test"]["mae"], np.abs(error).mean(), "float64")
    assert_close(told["test"]["r2"], 1 - (error**2).mean() / y[rows.test].var(), "float64")
    assert_close(told["baseline"]["rmse"], np.sqrt((constant**2).mean()), "float64")
    assert told["test"]["r2"] > 0.9 > told["baseline"]["r2"]


def test_nothing_of_validation_and_test_rows_gets_into_the_model(
    tmp_path: Path, model: Path
) -> None:
    cells = table_cases.mixed()
    _, codes = np.unique(cells["kind"], return_inverse=True)
    # The table's texts are counted in the order in which they come.
    first: dict[str, int] = {}
    groups = np.array([first.setdefault(kind, len(first)) for kind in cells["kind"]])
    assert len(np.unique(codes)) == len(first)
    rows = split(groups, 0.15, 0.15, seed=0)
    models = []
    for changed in (False, True):
        if changed:
            for row in (*rows.validation, *rows.test):
                cells["size"][row] = "1e6"
                cells["weight"][row] = ""
                cells["colour"][row] = "yellow"
                cells["day"][row] = "1999-01-01"
                cells["always"][row] = "8"
        path = table_cases.write(tmp_path / "table.csv", cells)
        assert run("train", path, "--target", "kind", "--out", model, *QUICK[:3], 1) == 0
        models.append(fastnn.load(model))
    before, after = models
    assert before.preprocessing == after.preprocessing
    for one, other in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_seed_gives_the_same_model(mixed: Path, tmp_path: Path) -> None:
    weights = []
    for seed in (1, 1, 2):
        out = tmp_path / "net.safetensors"
        assert run("train", mixed, "--target", "kind", "--seed", seed, "--out", out, *QUICK) == 0
        weights.append(fastnn.load(out).parameters.copy())
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_the_network_is_what_was_asked_for(
    mixed: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--optimizer", "sgd", "--learning-rate", 0.5, "--batch-size", 7, "--epochs", 2)
    for hidden, kinds in (("", ["Dense"]), ("9,4", ["Dense", "Dropout"] * 2 + ["Dense"])):
        network = ("--hidden", hidden, "--dropout", 0.3, "--json", "--out", model)
        assert run("train", mixed, "--target", "kind", *asked, *network) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]["training"]
        net = fastnn.load(model)
        assert [type(layer).__name__ for layer in net.layers] == kinds
        assert [layer.rate for layer in net.layers[1::2]] == [0.3] * (len(kinds) // 2)
        assert isinstance(net.optimizer, fastnn.SGD)
        assert net.get_config()["step"] == 2 * -(-rows // 7)
        assert net.optimizer.learning_rate(0) == 0.5


def test_rows_without_a_target_are_left_out(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = table_cases.mixed()
    cells["kind"][10:40] = ["", "NA", "?"] * 10
    path = table_cases.write(tmp_path / "table.csv", cells)
    assert run("train", path, "--target", "kind", "--json", "--out", model, *QUICK) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert sum(rows.values()) == table_cases.ROWS - 30


def test_an_interrupted_training_leaves_the_best_model_so_far(
    mixed: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[float, Any]] = []

    def on_epoch_end(self: Any, epoch: int, logs: Any = None) -> None:
        seen.append((logs["val_loss"], self.model.parameters.copy()))

    def on_epoch_begin(self: Any, epoch: int, logs: Any = None) -> None:
        losses = [loss for loss, _ in seen]
        if losses and losses[-1] > min(losses):
            raise KeyboardInterrupt

    monkeypatch.setattr(learning.Clock, "on_epoch_begin", on_epoch_begin)
    monkeypatch.setattr(learning.Clock, "on_epoch_end", on_epoch_end)
    arguments = ("--learning-rate", 0.3, "--epochs", 50, "--out", model)
    assert run("train", mixed, "--target", "kind", *arguments) == 130
    assert f"interrupted; the best of {len(seen)} epochs is in {model}" in capsys.readouterr().err
    best = min(seen, key=lambda each: each[0])[1]
    assert best is not seen[-1][1]
    np.testing.assert_array_equal(fastnn.load(model).parameters, best)


def test_nothing_is_saved_before_the_first_epoch_is_done(
    mixed: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_epoch_begin(self: Any, epoch: int, logs: Any = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(learning.Clock, "on_epoch_begin", on_epoch_begin)
    assert run("train", mixed, "--target", "kind", "--out", model) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert not model.exists()


def test_a_large_table_takes_little_more_memory_than_its_numbers(
    tmp_path: Path, model: Path
) -> None:
    columns = 50
    rng = np.random.default_rng(0)
    lines = [",".join(map(str, row)) for row in rng.normal(size=(1000, columns)).round(4)]
    header = ",".join(f"c{column}" for column in range(columns))
    peaks = []
    for rows in (10_000, 30_000):  # the first has what reading takes of any table
        path = tmp_path / f"{rows}.csv"
        body = "".join(f"{lines[row % 1000]},{'ab'[row % 7 % 2]}\n" for row in range(rows))
        path.write_text(f"{header},y\n{body}")
        del body
        tracemalloc.start()
        arguments = ("--epochs", 1, "--hidden", "", "--out", model)
        assert run("train", path, "--target", "y", *arguments) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1.5 * 8 * columns * 20_000


# Predicting.


@pytest.fixture
def trained(mixed: Path, model: Path) -> Path:
    assert run("train", mixed, "--target", "kind", "--out", model, *QUICK) == 0
    return model


def test_predictions_are_those_of_the_model_on_what_pandas_encodes(
    trained: Path, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.setattr(cli.predict, "ROWS", 100)
    cells = table_cases.mixed(250, seed=1)
    cells["colour"][7] = "never seen"
    del cells["kind"], cells["name"], cells["always"]
    new = table_cases.write(tmp_path / "new.csv", dict(reversed(cells.items())), "\n", False)
    out = tmp_path / "out.csv"
    assert run("predict", trained, new, "--probabilities", "--out", out) == 0

    header, rows = cells_of(out)
    names = ["big", "red, late", "small"]
    assert header == ["kind", *(f"P({name})" for name in names)]
    frames = [pandas.read_csv(path) for path in (mixed, new)]
    for frame in frames:
        frame["day"] = (pandas.to_datetime(frame["day"]) - pandas.Timestamp(0)).dt.days
    kinds = pandas.factorize(frames[0]["kind"])[0]
    training = frames[0].iloc[split(kinds, 0.15, 0.15, seed=0).training]
    x = table_cases.encoded(frames[1], training, ["size", "weight", "day", "number"], ["colour"])
    order = [0, 1, 2, 5, 6, 7, 8, 3, 4]  # in the table colour comes before day
    net = fastnn.load(trained)
    expected = net.predict(x[:, order])
    found = np.array([row[1:] for row in rows], np.float64)
    assert_close(found, expected, "float32")
    assert [row[0] for row in rows] == [names[label] for label in found.argmax(axis=1)]


def test_predictions_are_reported_as_json(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = table_cases.write(tmp_path / "new.csv", table_cases.mixed(40, seed=1))
    out = tmp_path / "out.csv"
    capsys.readouterr()
    assert run("predict", trained, new, "--probabilities", "--json", "--out", out) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told.pop("seconds") < 60
    header, rows = cells_of(out)
    assert told == {
        "task": "classification",
        "target": "kind",
        "rows": len(rows),
        "columns": header,
        "predictions": str(out),
    }


def test_no_row_gives_a_header_alone(trained: Path, tmp_path: Path) -> None:
    new = table_cases.write(tmp_path / "new.csv", {name: [] for name in table_cases.mixed(1)})
    assert run("predict", trained, new, "--out", tmp_path / "out.csv") == 0
    assert cells_of(tmp_path / "out.csv") == (["kind"], [])


def test_a_table_with_a_wrong_column_changes_no_file(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("what was there")
    good = table_cases.mixed(20, seed=1)
    wrong = {
        "missing": {name: cells for name, cells in good.items() if name != "weight"},
        "text": {**good, "size": [*good["size"][:-1], "large"]},
        "numbers": {**good, "colour": ["1"] * 20},
        "no dates": {**good, "day": ["2024-01-01", *["soon"] * 19]},
    }
    told = {}
    for name, cells in wrong.items():
        new = table_cases.write(tmp_path / "new.csv", cells)
        assert run("predict", trained, new, "--out", out) == 2
        told[name] = capsys.readouterr().err.strip().partition("new.csv: ")[2]
    assert told["missing"].startswith("no column 'weight'; it has size, colour")
    assert told["text"] == "line 21, column 'size': expected a number, got 'large'"
    assert told["numbers"].startswith("column 'colour': expected texts such as")
    assert told["no dates"].startswith("column 'day': expected dates such as 2024-05-17")
    assert out.read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mixed.csv",
        "model.safetensors",
        "new.csv",
        "out.csv",
    ]


def test_only_models_of_train_predict_from_tables(
    trained: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = fastnn.Sequential([fastnn.Dense(2)], input_shape=(3,))
    net.save(tmp_path / "plain.safetensors")
    assert run("predict", tmp_path / "plain.safetensors", mixed) == 2
    assert "was not saved by 'fastnn train'" in capsys.readouterr().err
    assert run("predict", tmp_path / "none.safetensors", mixed) == 1
    assert "no such file" in capsys.readouterr().err


# Wrong usage.

ERRORS = {
    "no such column": ("a,b,price\n1,2,3\n", ["--target", "prise"], "did you mean price"),
    "no target": ("a,b\n1,2\n", [], "--target: which column? It has a, b"),
    "one column": ("y\n" + "p\nq\n" * 9, ["--target", "y"], "no column beside 'y'"),
    "one class": ("a,y\n" + "1,p\n2,p\n" * 9, ["--target", "y"], "one value alone, 'p'"),
    "few rows": ("a,y\n1,p\n2,q\n", ["--target", "y"], "2 rows with a target are too few"),
    "no target known": ("a,y\n1,\n2,NA\n", ["--target", "y"], "0 rows with a target"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_usage_is_one_line_and_code_2(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, arguments, message = ERRORS[case]
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text(content)
    assert run("train", "data.csv", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastnn train: ")
    assert message in err
    assert err.count("\n") == 1
    assert os.listdir() == ["data.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "8,x"], "expected an integer of at least 1, got 'x'"),
        (["--epochs", "0"], "expected an integer of at least 1, got '0'"),
        (["--dropout", "1"], "expected a number in [0, 1), got '1'"),
        (["--test", "nan"], "expected a number in (0, 0.5), got 'nan'"),
        (["--out", "none/net"], "no such folder: none"),
        (["--plot", "curves.jpg"], "expected a file's name in .png, got 'curves.jpg'"),
        (["--optimizer", "adams"], "invalid choice: 'adams'"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run("train", "data.csv", "--target", "y", *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_errors_of_a_process_have_no_traceback(tmp_path: Path) -> None:
    done = command("train", tmp_path / "none.csv", "--target", "y")
    path = tmp_path / "none.csv"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"fastnn train: {path}: no such file\n"


@pytest.mark.parametrize(
    ("package", "arguments", "line"),
    [
        ("pyarrow", ["t.parquet", "--target", "y"], 'pip install "fastnn[parquet]"'),
        ("matplotlib", ["t.csv", "--target", "y", "--plot", "p.png"], 'pip install "fastnn[plot]"'),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    package: str,
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    Path(arguments[0]).write_text("a,y\n1,2\n")
    assert run("train", *arguments) == 1
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo", "train", "predict", "bench", "info", "warmup"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(name, "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: fastnn {name}" in text
    assert ("examples:" in text) == (name in ("train", "predict"))


# What there is, and how fast.


def test_info_tells_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastnn.engine import cache

    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    folder = cache.folder()
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(1500))
    monkeypatch.setattr(
        info.metadata,
        "requires",
        lambda name: ["numpy>=1", "none-such>=2; extra == 'plot'", "other; extra == 'dev'"],
    )
    assert run("info", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["versions"]["fastnn"] == fastnn.__version__
    assert told["versions"]["numpy"] == np.__version__
    assert told["cache"] == {"place": str(folder), "kernels": 1, "bytes": 1500}
    assert told["missing"] == {"none-such": 'pip install "fastnn[plot]"'}
    assert told["threads"] == fastnn.get_num_threads()
    assert run("info") == 0
    text = capsys.readouterr().out
    assert 'none-such: pip install "fastnn[plot]"' in text
    assert f"{folder} (1 kernels, 0.0 MB)" in text


def test_bench_measures_whoever_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    monkeypatch.setattr(bench, "CASES", bench.CASES[:1])
    absent = bench.LIBRARIES["PyTorch"]._replace(module="no_such_module")
    monkeypatch.setitem(bench.LIBRARIES, "PyTorch", absent)
    assert run("bench", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["missing"] == ["PyTorch"]
    (case,) = told["cases"]
    assert (case["layers"], case["batch"]) == ("20-64-64-2", 32)
    for what in ("train", "predict"):
        assert set(case[what]) == {"fastnn", "scikit-learn"}
        assert case[what]["fastnn"]["ratio"] == 1.0
        assert all(each["seconds"] > 0 for each in case[what].values())
    assert run("bench") == 0
    text = capsys.readouterr().out
    assert "a training step" in text
    assert "not installed: PyTorch" in text


def test_the_benchs_contestants_learn_and_answer() -> None:
    case = bench.CASES[1]
    y = np.arange(case.batch * bench.STEPS) % case.sizes[-1]
    x = 3 * np.eye(case.sizes[0], dtype=np.float32)[y]
    for library in bench.LIBRARIES.values():
        pytest.importorskip(library.module, reason=f"{library.module} is not installed")
        contestant = library.contestant(case, x, y)
        for _ in range(2):
            contestant.train()
        probabilities = np.asarray(contestant.predict())
        assert probabilities.shape == (1, case.sizes[-1])
        assert_close(probabilities.sum(), 1.0, "float32")
        assert probabilities[0, y[0]] > 0.5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless it is added to."""
    now = [0.0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])
    return now


def test_the_bench_tells_medians_and_ratios_of_turns(clock: list[float]) -> None:
    calls = {"quick": 0, "other": 0, "slow": 0}

    def taking(name: str, seconds: float) -> bench.Contestant:
        def call() -> None:
            calls[name] += 1
            clock[0] += seconds

        return bench.Contestant(call, call)

    seconds = {"quick": 0.25, "other": 0.75, "slow": 2.0}
    contestants = {name: taking(name, each) for name, each in seconds.items()}
    assert bench.compare(contestants, "train") == {
        name: {"seconds": each, "ratio": 4 * each} for name, each in seconds.items()
    }
    assert calls == {"quick": 7, "other": 7, "slow": 4}  # two of them before


def test_a_contestant_gets_the_threads_with_which_it_is_faster(clock: list[float]) -> None:
    used = [0]

    @contextlib.contextmanager
    def threads(count: int) -> Iterator[None]:
        used[0] = count
        yield
        used[0] = 0

    def train() -> None:
        clock[0] += used[0]

    def make(case: Any, x: Any, y: Any) -> bench.Contestant:
        return bench.Contestant(train, train)

    before = fastnn.get_num_threads()
    fastnn.set_num_threads(2)
    try:
        chosen = bench.Library("none", make, threads).contestant(bench.CASES[0], None, None)
    finally:
        fastnn.set_num_threads(before)
    with chosen.limited():
        assert used == [1]
