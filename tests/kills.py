"""Fits that are killed with SIGKILL at random moments and resumed: ``python tests/kills.py 200``.

Each must end with the bits of the fit that was left in peace, and no kill may leave a file in the
folder that does not load. Needs `fork`.
"""

import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.callbacks import Checkpoint, EarlyStopping, ReduceLROnPlateau

CHECKPOINTS: dict[str, dict[str, dict[str, Any]]] = {
    "every few steps": {"{step}": {"every_steps": 7, "keep_last": 3}},
    "one file, every step": {"one": {"every_steps": 1}},
    "by time, and the best": {
        "best {epoch}": {"save_best_only": True, "keep_last": 1},
        "latest": {"every_minutes": 1e-4},
    },
}
"""Names of files, and the arguments of `Checkpoint` that go with each, of one fit."""


class Task(NamedTuple):
    """What is fitted: most of the time is for writing files in one, for computing in the other."""

    features: int
    units: int
    rows: int
    epochs: int


TASKS = {"small": Task(6, 16, 200, 5), "large": Task(512, 256, 200, 4)}


def fit(folder: Path, task: Task, checkpoints: dict[str, dict[str, Any]]) -> bytes:
    """The weights and the history of a fit that goes on from what there is in `folder`."""
    rng = np.random.default_rng(1)
    x = rng.random((task.rows, task.features), np.float32)
    y = (x.sum(axis=1) > task.features / 2).astype(int) + (x[:, 0] > 0.8)
    layers = [fastnn.Dense(task.units, "relu"), fastnn.BatchNormalization(), fastnn.Dropout(0.2)]
    model = fastnn.Sequential([*layers, fastnn.Dense(3, "softmax")], seed=2)
    metrics = ["accuracy", fastnn.ConfusionMatrix()]
    model.compile(fastnn.AdamW(0.003, use_ema=True), "categorical_crossentropy", metrics)
    callbacks = [Checkpoint(folder / name, **given) for name, given in checkpoints.items()]
    stopping = EarlyStopping(patience=9, restore_best_weights=True)
    history = model.fit(
        x,
        y,
        batch_size=8,
        epochs=task.epochs,
        verbose=0,
        callbacks=[*callbacks, stopping, ReduceLROnPlateau(factor=0.5, patience=1)],
        validation_split=0.1,
        resume_from=folder,
    )
    return b"".join(w.tobytes() for w in model.get_weights()) + repr(history.history).encode()


def killed(seconds: float, result: Path, *arguments: Any) -> bool:
    """Run `fit` in a child, which writes `result`; whether it had to be killed after `seconds`."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            result.write_bytes(fit(*arguments))
            status = 0
        finally:
            os._exit(status)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def chain(rng: np.random.Generator, most: int, *arguments: Any) -> int:
    """Kill a fit until it ends, or `most` times; how many kills that were."""
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as other:
        begin = time.perf_counter()
        expected = fit(Path(other), *arguments)
        whole = time.perf_counter() - begin
        folder, result = Path(place, "files"), Path(place, "result")
        folder.mkdir()
        kills = 0
        while kills < most and killed(rng.uniform(0, 0.4 * whole), result, folder, *arguments):
            kills += 1
            for file in folder.iterdir():
                if not file.name.startswith("."):  # what was being written when the kill came
                    fastnn.load(file)
        if kills == most:
            result.write_bytes(fit(folder, *arguments))
        assert result.read_bytes() == expected, f"after {kills} kills it ended otherwise"
        return kills


def main(kills: int, seed: int = 0) -> None:
    """So many kills, over all kinds of checkpoints."""
    # Of forking beside threads, which are NumPy's and have no work.
    warnings.simplefilter("ignore", DeprecationWarning)
    rng, done = np.random.default_rng(seed), 0
    kinds = [(t, c) for t in TASKS.values() for c in CHECKPOINTS.values()]
    while done < kills:
        for task, checkpoints in kinds:
            if done < kills:
                done += chain(rng, -(-kills // len(kinds)), task, checkpoints)
    print(f"{done} kills, each fit ended with the bits of the undisturbed one")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
