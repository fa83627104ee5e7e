"""The callback TensorBoard: its files, as TensorBoard's own reader has them."""

from __future__ import annotations

import doctest
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from helpers import assert_close

ROOM = "fastnn.callbacks.tensorboard"
X = np.random.default_rng(3).normal(size=(48, 5))
Y = np.arange(48) % 3


@pytest.fixture(scope="module")
def reader() -> Any:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    package = "tensorboard.backend.event_processing.event_accumulator"
    return pytest.importorskip(package, reason="TensorBoard is not installed")


def network() -> fastnn.Sequential:
    model = fastnn.Sequential([fastnn.Dense(4, "relu"), fastnn.Dense(3, "softmax")], seed=0)
    metrics = ["accuracy", "confusion_matrix"]
    model.compile("adam", "categorical_crossentropy", metrics=metrics)
    return model


def read(reader: Any, folder: Path) -> Any:
    everything = {"scalars": 0, "histograms": 0}  # by default a sample
    events = reader.EventAccumulator(str(folder), everything)
    events.Reload()
    return events


def curve(events: Any, tag: str) -> tuple[list[int], list[float]]:
    found = events.Scalars(tag)
    return [event.step for event in found], [event.value for event in found]


def test_tensorboard_reads_the_history(reader: Any, tmp_path: Path) -> None:
    model, board = network(), fastnn.callbacks.TensorBoard(tmp_path)
    history = model.fit(X, Y, epochs=3, validation_split=0.25, callbacks=[board], verbose=0).history
    names = {"train": ["loss", "accuracy", "learning_rate"], "validation": ["loss", "accuracy"]}
    for part, quantities in names.items():
        events = read(reader, tmp_path / part)
        assert sorted(events.Tags()["scalars"]) == sorted(f"epoch_{name}" for name in quantities)
        assert events.Tags()["histograms"] == []
        for name in quantities:
            steps, values = curve(events, f"epoch_{name}")
            assert steps == [0, 1, 2]
            key = name if part == "train" else f"val_{name}"
            # A file has float32.
            assert_close(values, history[key], "float32")


def test_histograms_are_of_the_weights_after_their_epoch(reader: Any, tmp_path: Path) -> None:
    kept: dict[int, list[np.ndarray[Any, Any]]] = {}
    notes = fastnn.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.update({epoch: model.get_weights()})
    )
    model, board = network(), fastnn.callbacks.TensorBoard(tmp_path, histogram_freq=2)
    model.fit(X, Y, epochs=4, callbacks=[board, notes], verbose=0)
    events = read(reader, tmp_path / "train")
    tags = [f"dense_{layer}/{name}/histogram" for layer in (0, 1) for name in ("kernel", "bias")]
    assert sorted(events.Tags()["histograms"]) == sorted(tags)
    for index, tag in enumerate(tags):
        found = events.Histograms(tag)
        assert [event.step for event in found] == [0, 2]
        for event in found:
            weights = kept[event.step][index]
            told = event.histogram_value
            assert told.num == weights.size
            assert (told.min, told.max) == (weights.min(), weights.max())
            assert_close(told.sum, weights.sum(dtype=np.float64), "float32")


def test_a_fit_that_goes_on_goes_on_with_its_curves(reader: Any, tmp_path: Path) -> None:
    path, logs = tmp_path / "net.safetensors", tmp_path / "logs"
    for epochs in (2, 4):
        callbacks = [fastnn.callbacks.TensorBoard(logs), fastnn.callbacks.Checkpoint(path)]
        history = network().fit(
            X, Y, epochs=epochs, callbacks=callbacks, verbose=0,
            resume_from=path if path.exists() else None,
        ).history  # fmt: skip
    steps, values = curve(read(reader, logs / "train"), "epoch_loss")
    assert steps == [0, 1, 2, 3]
    assert_close(values, history["loss"], "float32")


def test_figures_of_an_interrupted_fit_are_on_the_disk(reader: Any, tmp_path: Path) -> None:
    def interrupt(epoch: int, logs: Any) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    board = fastnn.callbacks.TensorBoard(tmp_path)
    callbacks = [board, fastnn.callbacks.LambdaCallback(on_epoch_end=interrupt)]
    with pytest.raises(KeyboardInterrupt):
        network().fit(X, Y, epochs=5, callbacks=callbacks, verbose=0)
    assert curve(read(reader, tmp_path / "train"), "epoch_loss")[0] == [0, 1]


def test_without_tensorboardx_the_line_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError) as raised:
        fastnn.callbacks.TensorBoard()
    line = 'TensorBoard needs tensorboardX: pip install "fastnn[tensorboard]"'
    assert str(raised.value) == line


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="TensorBoard: log_dir must be a path, got 3"):
        fastnn.callbacks.TensorBoard(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="TensorBoard: histogram_freq must be at least 0, got -1"):
        fastnn.callbacks.TensorBoard(histogram_freq=-1)


def test_docstring_examples(reader: Any) -> None:
    result = doctest.testmod(importlib.import_module(ROOM))
    assert result.attempted >= 2
    assert result.failed == 0
