"""asv: training on a GPU; skipped where there is none."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.grid import GRID, make_data


class TrainEpochOnGpu:
    """One epoch of `fit` on the data of a row, its copy to the GPU among it."""

    version = "1"
    params: ClassVar[list[str]] = list(GRID)
    param_names: ClassVar[list[str]] = ["row"]
    timeout = 300.0

    def setup(self, row: str) -> None:
        try:
            from benchmarks.peers.on_gpu import FastNNOnGpu
            from fastnn.engine.cuda import device

            there = not device.simulated() and FastNNOnGpu.installed()
        except ImportError as error:  # an older commit
            raise NotImplementedError(str(error)) from error
        if not there:
            raise NotImplementedError("there is no GPU")
        self.peer = FastNNOnGpu()
        self.peer.prepare(*make_data(GRID[row]), GRID[row], 1)
        self.peer.restart()
        self.peer.run(GRID[row].steps)
        self.peer.restart()

    def time_train_epoch(self, row: str) -> None:
        self.peer.run(GRID[row].steps)
