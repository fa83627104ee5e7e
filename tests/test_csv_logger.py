"""The callback CSVLogger: its file is the history, whatever became of the training before."""

from __future__ import annotations

import csv
import doctest
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn

X = np.random.default_rng(3).normal(size=(48, 5))
Y = np.arange(48) % 3


def fit(*callbacks: fastnn.Callback, epochs: int, **options: Any) -> dict[str, list[Any]]:
    model = fastnn.Sequential([fastnn.Dense(4, "relu"), fastnn.Dense(3, "softmax")], seed=0)
    metrics = ["accuracy", "confusion_matrix"]
    model.compile("adam", "categorical_crossentropy", metrics=metrics)
    options = {"validation_split": 0.25, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options).history


def read(path: Path, separator: str = ",") -> dict[str, list[float]]:
    with open(path, newline="") as file:
        header, *rows = csv.reader(file, delimiter=separator)
    return {name: [float(row[at]) for row in rows] for at, name in enumerate(header)}


def numbers(history: dict[str, list[Any]]) -> dict[str, list[float]]:
    """The history as its file has it, to the bit."""
    kept = {name: values for name, values in history.items() if np.ndim(values[0]) == 0}
    return {"epoch": list(range(len(history["loss"]))), **kept}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_file_is_the_history(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    for _ in range(2):  # the second begins the file anew
        history = fit(fastnn.callbacks.CSVLogger(path, separator), epochs=3)
    assert read(path, separator) == numbers(history)
    assert "val_accuracy" in history


def test_rows_are_on_the_disk_after_their_epoch(tmp_path: Path) -> None:
    path, seen = tmp_path / "history.csv", []
    watch = fastnn.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(read(path)["epoch"])
    )
    fit(fastnn.callbacks.CSVLogger(path), watch, epochs=3)
    assert seen == [[0], [0, 1], [0, 1, 2]]


def test_rows_are_added_to_a_file_if_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    for _ in range(2):
        history = fit(fastnn.callbacks.CSVLogger(path, append=True), epochs=2)
    assert read(path) == {name: 2 * values for name, values in numbers(history).items()}
    with pytest.raises(ValueError, match="must have the columns"):
        fit(fastnn.callbacks.CSVLogger(path, append=True), epochs=1, validation_split=0.0)
    assert len(read(path)["loss"]) == 4


@pytest.mark.parametrize("append", [False, True])
def test_a_fit_that_goes_on_goes_on_with_its_file(append: bool, tmp_path: Path) -> None:
    path, net = tmp_path / "history.csv", tmp_path / "net.safetensors"
    before = 2 if append else 0
    if append:
        fit(fastnn.callbacks.CSVLogger(path), epochs=before)

    def interrupt(epoch: int, logs: Any) -> None:
        if epoch == 3:  # its row is written, the checkpoint after it not
            raise KeyboardInterrupt

    for stop in (interrupt, lambda epoch, logs: None):
        log = fastnn.callbacks.CSVLogger(path, append=append)
        callbacks = (
            log,
            fastnn.callbacks.Checkpoint(net),
            fastnn.callbacks.LambdaCallback(on_epoch_end=stop),
        )
        try:
            history = fit(*callbacks, epochs=5, resume_from=net if net.exists() else None)
        except KeyboardInterrupt:
            assert len(read(path)["loss"]) == before + 4
    found = {name: values[before:] for name, values in read(path).items()}
    assert found == numbers(history)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="CSVLogger: filename must be a path, got 3"):
        fastnn.callbacks.CSVLogger(3)  # type: ignore[arg-type]
    for separator in ("", ";;", '"', "\n"):
        with pytest.raises(ValueError, match="separator must be one character, got"):
            fastnn.callbacks.CSVLogger("a.csv", separator)
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*none"):
        fit(fastnn.callbacks.CSVLogger(tmp_path / "none" / "a.csv"), epochs=1)


def test_docstring_examples() -> None:
    result = doctest.testmod(importlib.import_module("fastnn.callbacks.csv_logger"))
    assert result.attempted >= 2
    assert result.failed == 0
