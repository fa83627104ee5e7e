"""Peak resident memory of whole processes that read the data of T6 and fit them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine, tables
from benchmarks.grid import GRID, make_data
from benchmarks.peers import PEERS

if TYPE_CHECKING:
    from benchmarks.parts import Settings

ROW = "T6"
PEER_NAMES = ("fastnn", "torch", "jax", "sklearn")
NOTHING = "numpy and the data"
EPOCHS = 2


def measure(settings: Settings) -> dict[str, Any]:
    """Megabytes of each, compiled before where something is kept compiled."""
    import numpy as np

    row = GRID[ROW]
    names = [name for name in PEER_NAMES if name in settings.peers]
    megabytes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, array in zip("xy", make_data(row), strict=True):
            np.save(Path(folder) / f"{name}.npy", array)
        if "fastnn" in names:
            peak_of("fastnn", folder)  # fills its cache of compiled kernels
        for name in (NOTHING, *names):
            megabytes[name] = peak_of(name, folder) / 1e6
    return {"row": ROW, "epochs": EPOCHS, "megabytes": megabytes}


def peak_of(name: str, folder: str) -> int:
    """Bytes at the peak of a process that fits with the peer called `name`."""
    command = [sys.executable, "-m", __name__, name, folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(json.loads(done.stdout))


def fit(name: str, folder: str) -> None:
    """Fit in this process, and print its peak."""
    import numpy as np

    x, y = (np.load(Path(folder) / f"{each}.npy") for each in "xy")
    if name != NOTHING:
        row = GRID[ROW]
        peer = PEERS[name]()
        peer.prepare(x, y, row, 1)
        peer.run(row.steps * EPOCHS)
    print(json.dumps(machine.peak_memory()))


def show(data: dict[str, Any]) -> None:
    """Print each process's peak and its ratio to fastnn's."""
    own = data["megabytes"].get("fastnn", float("nan"))
    lines = [
        (name, f"{megabytes:.0f} MB", f"{megabytes / own:.2f}")
        for name, megabytes in data["megabytes"].items()
    ]
    print(tables.columns(("", "peak", "ratio"), lines))


if __name__ == "__main__":
    fit(*sys.argv[1:])
