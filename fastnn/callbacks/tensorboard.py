"""A callback that writes what TensorBoard shows."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.callbacks.base import Callback, Logs
from fastnn.layers.base import leaves
from fastnn.optional import needed

VALIDATION = "val_"
"""What the names of validation's figures begin with."""

FLUSH_SECONDS = 1
"""How far what TensorBoard shows may be behind: a thread writes it to the disk so often."""

FILES = itertools.count()
"""Tells files apart that a process writes."""


class TensorBoard(Callback):
    """Write the figures of each epoch, and histograms of weights, for TensorBoard.

    Needs tensorboardX: ``pip install "fastnn[tensorboard]"``; ``tensorboard --logdir logs`` shows
    what it wrote. Names are Keras's: ``epoch_loss`` and so on, by epoch from 0, of training in the
    folder ``train`` and of validation in ``validation``, which TensorBoard draws into one chart.
    A fit that goes on from a checkpoint goes on with its curves, too.

    Parameters
    ----------
    log_dir : path
        The folder, made if need be. What is there is kept: give each training its own.
    histogram_freq : int, at least 0
        Histograms of all weights are written every so many epochs; 0 is never. Their names are
        made of layer and weight, as ``dense_0/kernel/histogram``.

    Raises
    ------
    ImportError
        If tensorboardX is not installed.

    Examples
    --------
    >>> import fastnn
    >>> board = fastnn.callbacks.TensorBoard("logs/first", histogram_freq=5)
    """

    def __init__(self, log_dir: str | os.PathLike[str] = "logs", histogram_freq: int = 0) -> None:
        if not isinstance(log_dir, (str, os.PathLike)):
            raise TypeError(f"TensorBoard: log_dir must be a path, got {log_dir!r}")
        self.log_dir = Path(log_dir)
        self.histogram_freq = checks.integer("TensorBoard", "histogram_freq", histogram_freq, 0)
        self._new_writer = needed("tensorboardX", "TensorBoard").SummaryWriter
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin new files."""
        self._writers = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the epoch's numbers, and histograms if it is their turn."""
        for name, value in (logs or {}).items():
            if np.ndim(value) > 0:
                continue
            part = "validation" if name.startswith(VALIDATION) else "train"
            tag = f"epoch_{name.removeprefix(VALIDATION)}"
            self._writer(part).add_scalar(tag, float(value), epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for layer in leaves(self.model.layers):
                for name, weight in layer.weights.items():
                    tag = f"{layer.name}/{name}/histogram"
                    self._writer("train").add_histogram(tag, weight, epoch)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            # By itself it names files by the second, and writes over one of the same.
            suffix = f".{os.getpid()}.{next(FILES)}"
            self._writers[part] = self._new_writer(
                str(self.log_dir / part), flush_secs=FLUSH_SECONDS, filename_suffix=suffix
            )
        return self._writers[part]
