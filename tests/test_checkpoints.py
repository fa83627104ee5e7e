"""The callback Checkpoint: which files it writes and when, which it keeps, what it refuses."""

import doctest
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import serialization
from fastnn.callbacks import Checkpoint
from fastnn.engine import cpu

ROWS, BATCH, EPOCHS = 23, 5, 4  # five steps an epoch, the last of three rows

X = np.random.default_rng(1).normal(size=(ROWS, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32)


def trained(
    *callbacks: Checkpoint, optimizer: Any = "adam", layers: Any = (), **arguments: Any
) -> fastnn.Sequential:
    """A model that was fitted with these callbacks."""
    every = [fastnn.Dense(4, "tanh"), *layers, fastnn.Dropout(0.1), fastnn.Dense(1)]
    model = fastnn.Sequential(every, input_shape=3, seed=1)
    model.compile(optimizer, "mse")
    given = {"batch_size": BATCH, "epochs": EPOCHS, "verbose": 0, **arguments}
    model.fit(X, Y, callbacks=list(callbacks), **given)
    return model


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


WHEN: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "each epoch": ("{epoch}", {}, {"1", "2", "3", "4"}),
    "every third epoch": ("{epoch}", {"every_epochs": 3}, {"3"}),
    "steps across epochs": ("{step}", {"every_steps": 3}, {"3", "6", "9", "12", "15", "18"}),
    "steps that end epochs": ("{step}-{epoch}", {"every_steps": 10}, {"10-2", "20-4"}),
    "the epoch under way": ("{epoch:02d}_{step:03d}", {"every_steps": 7}, {"02_007", "03_014"}),
    "both": (
        "{step}",
        {"every_steps": 8, "every_epochs": 2},
        {"8", "10", "16", "20"},
    ),
    "one file": ("latest", {"every_steps": 1}, {"latest"}),
    "braces": ("{{{epoch}}}", {"every_epochs": 4}, {"{4}"}),
    "the last two": ("{step}", {"every_steps": 3, "keep_last": 2}, {"15", "18"}),
    "the last of each epoch": ("{epoch}", {"every_steps": 2, "keep_last": 3}, {"2", "3", "4"}),
    "more than there are": ("{step}", {"every_steps": 9, "keep_last": 5}, {"9", "18"}),
    "never": ("{step}", {"every_steps": 100}, set()),
    "not yet": ("{step}", {"every_minutes": 60}, set()),
}


@pytest.mark.parametrize("case", WHEN)
def test_files_are_written_when_they_are_due(case: str, tmp_path: Path) -> None:
    name, arguments, expected = WHEN[case]
    model = trained(Checkpoint(tmp_path / name, **arguments))
    assert names(tmp_path) == expected
    # What is written on the way changes nothing.
    assert model.parameters.tobytes() == trained().parameters.tobytes()
    for file in tmp_path.iterdir():
        fastnn.load(file)


def test_a_file_is_of_its_step(tmp_path: Path) -> None:
    trained(Checkpoint(tmp_path / "{step}", every_steps=1))
    for step in range(1, 1 + EPOCHS * 5):
        loaded = fastnn.load(tmp_path / str(step))
        assert loaded.state[0] == step
        assert loaded.epochs_done == step // 5
    assert loaded.parameters.tobytes() == trained().parameters.tobytes()
    assert fastnn.load(tmp_path / "10").parameters.tobytes() == (
        trained(epochs=2).parameters.tobytes()
    )


class Python(fastnn.Layer):
    """A layer that exists only there."""

    def forward(self, x: Any, training: bool = False) -> Any:
        return x

    def backward(self, dy: Any) -> Any:
        return dy


@pytest.mark.parametrize("layers", [[], [Python]], ids=["compiled", "in Python"])
def test_time_passes_within_an_epoch(
    layers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled code is left after every op, and the file is of the end of the step."""
    monkeypatch.setattr(cpu, "_FIRST_BUDGET", 1)
    monkeypatch.setattr(cpu, "SLICE_SECONDS", 1e-9)
    trained(Checkpoint(tmp_path / "{step}", every_minutes=1e-9), layers=[each() for each in layers])
    assert names(tmp_path) == {str(step) for step in range(1, 1 + EPOCHS * 5)}


def test_minutes_count_from_the_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    often = Checkpoint(tmp_path / "a", every_minutes=1)
    often.on_train_begin()
    due = []
    for clock.now in (59.0, 61.0, 120.0, 121.0):
        due.append(often.is_due(1))
        if due[-1]:
            often.save(lambda: ({}, {}), 1, 1)
    assert due == [False, True, False, True]


def test_the_best_epochs_are_those_of_keras(keras: Any, tmp_path: Path) -> None:
    class Saved:
        """Stands in for a model: notes what it is told to save."""

        def __init__(self) -> None:
            self.paths: list[str] = []
            self.metrics: list[Any] = []

        def save(self, path: str, overwrite: bool) -> None:
            self.paths.append(path)

    rng = np.random.default_rng(2)
    for mode in ("min", "max") * 50:
        figures = (rng.integers(0, 9, 9) / 8).tolist()
        threshold = float(rng.integers(0, 9) / 8) if rng.integers(2) else None
        arguments = {"mode": mode, "save_best_only": True, "initial_value_threshold": threshold}
        theirs = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"), **arguments)
        model = Saved()
        theirs.set_model(model)
        own = Checkpoint(tmp_path / "{epoch}.keras", **arguments)
        own.model = model
        own.on_train_begin()
        written = []
        for epoch, figure in enumerate(figures):
            own.on_epoch_end(epoch, {"val_loss": figure})
            theirs.on_epoch_end(epoch, {"val_loss": figure})
            if own.is_due(epoch):
                own.save(lambda: ({}, {}), epoch + 1, epoch)
                written.append(str(tmp_path / f"{epoch + 1}.keras"))
        assert written == model.paths, (arguments, figures)
        assert len(model.paths) < len(figures)


def test_the_best_file_has_the_best_weights(tmp_path: Path) -> None:
    best = Checkpoint(tmp_path / "best", save_best_only=True)
    held = X, Y / 2  # the way to Y leads past it
    model = trained(best, epochs=60, optimizer=fastnn.SGD(0.05), validation_data=held)
    loaded = fastnn.load(tmp_path / "best")
    assert 0 < loaded.epochs_done < 60
    assert loaded.evaluate(*held)["loss"] == best.best < model.evaluate(*held)["loss"]


def test_the_best_epoch_is_written_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on from the other file has the best one already."""
    written: list[str] = []
    monkeypatch.setattr(serialization, "write", lambda path, *_: written.append(path.name))
    best = Checkpoint(tmp_path / "best", save_best_only=True)
    trained(Checkpoint(tmp_path / "latest"), best, epochs=1, validation_split=0.2)
    assert written == ["best", "latest"]


def test_another_fit_begins_anew(tmp_path: Path) -> None:
    again = Checkpoint(tmp_path / "{step}", every_steps=10, keep_last=1)
    trained(again)
    assert names(tmp_path) == {"20"}
    trained(again, epochs=2)
    assert names(tmp_path) == {"10", "20"}  # what another training wrote is left alone


def test_a_fit_by_lbfgs_writes_its_iterations(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="SciPy, by which LBFGS minimises, is not installed")
    trained(Checkpoint(tmp_path / "{epoch}"), optimizer=fastnn.LBFGS(), epochs=3)
    assert names(tmp_path) == {"1", "2", "3"}
    with pytest.raises(ValueError, match="Checkpoint: LBFGS has no steps within an epoch"):
        trained(Checkpoint(tmp_path / "a", every_steps=3), optimizer=fastnn.LBFGS())


def test_a_file_that_cannot_be_written_ends_the_fit(tmp_path: Path) -> None:
    (tmp_path / "10").mkdir()  # where a file should be
    with pytest.raises(OSError, match="directory"):
        trained(Checkpoint(tmp_path / "{step}", every_steps=5))
    assert names(tmp_path) == {"5", "10"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "steps": ({"every_steps": 0}, "every_steps must be at least 1, got 0"),
    "epochs": ({"every_epochs": 1.5}, "every_epochs must be an integer, got 1.5"),
    "minutes": ({"every_minutes": 0}, r"every_minutes must be a number in \(0, inf\), got 0"),
    "kept": ({"keep_last": -1, "path": "{step}"}, "keep_last must be at least 1, got -1"),
    "kept of one": ({"keep_last": 2}, "keep_last needs {epoch} or {step} in path, got 'a'"),
    "mode": ({"mode": "more"}, "mode must be 'auto', 'min' or 'max', got 'more'"),
    "threshold": ({"initial_value_threshold": "low"}, "initial_value_threshold must be a number"),
    "a figure": ({"path": "{val_loss}"}, "path may have {epoch} and {step}, nothing else"),
    "an attribute": ({"path": "{step.real}"}, "path may have {epoch} and {step}, nothing else"),
    "no path": ({"path": 5}, "path must be a path, got 5"),
    "a brace": ({"path": "{step"}, "path may have {epoch} and {step}, got '{step'"),
    "a format": ({"path": "{step:x y}"}, "path may have {epoch} and {step}, got '{step:x y}'"),
    "best steps": (
        {"save_best_only": True, "every_steps": 5},
        "save_best_only compares epochs, it does not go with every_steps or every_minutes, got 5",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_refused(case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises((ValueError, TypeError), match=f"^Checkpoint: {message}"):
        Checkpoint(**{"path": "a", **arguments})


def test_what_cannot_be_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Checkpoint: no such folder: .*nowhere"):
        trained(Checkpoint(tmp_path / "nowhere" / "a"))
    with pytest.raises(ValueError, match="Checkpoint: monitor 'val_loss' is not among loss"):
        trained(Checkpoint(tmp_path / "a", save_best_only=True))
    assert names(tmp_path) == set()


def test_a_model_that_no_file_can_hold_is_fitted_without_files(tmp_path: Path) -> None:
    class Halving(fastnn.schedules.Schedule):
        def __init__(self, first: float) -> None:
            self._first = first  # under another name, and without `get_config`

        def rates(self, steps: Any) -> Any:
            return self._first * 0.5**steps

    optimizer = fastnn.SGD(Halving(0.1))
    trained(optimizer=optimizer)
    with pytest.raises(TypeError, match="Halving: has no attribute 'first'"):
        trained(Checkpoint(tmp_path / "a"), optimizer=optimizer)


def test_examples() -> None:
    result = doctest.testmod(importlib.import_module("fastnn.callbacks.checkpoint"))
    assert result.attempted > 0
    assert result.failed == 0
