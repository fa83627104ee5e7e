"""The comparison's parts: each measures something in a process of its own, and can show it.

A part is a module with ``measure(settings) -> dict``, plain data for the results file, and
``show(data)``, which prints its table.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from benchmarks.rounds import QUICK, Pace


@dataclass(frozen=True)
class Settings:
    """What a part is told.

    Parameters
    ----------
    threads : int
        Cores and threads.
    seconds : float
        A contestant's time in a case.
    quick : bool
        Whether to show only that everything works.
    rows : tuple of str
        Rows of the grid.
    peers : tuple of str
        Peers in training, fastnn first.
    """

    threads: int
    seconds: float
    quick: bool
    rows: tuple[str, ...]
    peers: tuple[str, ...]

    @property
    def pace(self) -> Pace:
        """How long contestants alternate."""
        return QUICK if self.quick else Pace(self.seconds)


@dataclass(frozen=True)
class Part:
    """Where a part's functions are, how many cores it is given, and whether one would do."""

    title: str
    module: str
    all_cores: bool
    needs_several: bool = False

    def load(self) -> Any:
        """The part's module."""
        return importlib.import_module(f"benchmarks.parts.{self.module}")


PARTS = {
    "grid": Part("Training, one core, float32", "training", all_cores=False),
    "grid-all-cores": Part(
        "Training, all cores, float32", "training", all_cores=True, needs_several=True
    ),
    "variants": Part("Training: float64, dropout 0.2, SGD", "variants", all_cores=False),
    "inference": Part("Inference, one core, float32", "inference", all_cores=False),
    "kernels": Part("Kernels alone, one core", "kernels", all_cores=False),
    "memory": Part("Peak memory of a process that fits T6", "memory", all_cores=False),
    "start": Part("Whole processes, from start to end", "start", all_cores=True),
    "neighbour": Part(
        "T6 on all cores, one of them kept busy", "neighbour", all_cores=True, needs_several=True
    ),
}
