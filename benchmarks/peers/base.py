"""What every peer in training can do, and the settings that all share."""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row

LEARNING_RATES = {"adam": 1e-3, "sgd": 1e-2}
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7

SMALL_STEP = 200_000_000
"""Below so many floating-point operations a step, one thread may be faster than all cores."""


class Peer(ABC):
    """A network in training. `prepare` comes first and is not timed; `run` is."""

    name: ClassVar[str]  # in tables
    module: ClassVar[str]  # what must be importable
    packages: ClassVar[tuple[str, ...]]  # whose versions are reported

    row: Row
    threads: int = 1

    @classmethod
    def installed(cls) -> bool:
        """Whether the peer's framework can be imported (it is not imported to find out)."""
        return importlib.util.find_spec(cls.module) is not None

    @abstractmethod
    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        """Build the row's network for `threads` threads, and take the data."""

    @abstractmethod
    def set_threads(self) -> None:
        """Let the framework use ``self.threads`` threads from now on."""

    @abstractmethod
    def restart(self) -> None:
        """Go back to the weights of `make_weights`, and to an optimizer that has seen nothing.

        Every timing starts there: a network that has learnt its data by heart would go on with
        vanishing gradients, and its Adam with denormal numbers.
        """

    @abstractmethod
    def run(self, steps: int) -> None:
        """Train for `steps` steps, whole epochs of ``row.steps``, to the very end of the work."""

    @abstractmethod
    def loss(self) -> float:
        """Mean loss over the training data as the network now stands."""

    def turn(self, epochs: int) -> float:
        """Train anew for `epochs` epochs; the seconds that a step took."""
        steps = self.row.steps * epochs
        self.set_threads()
        self.restart()
        start = time.perf_counter()
        self.run(steps)
        return (time.perf_counter() - start) / steps

    def warm_up(self) -> None:
        """Compile what is to be compiled and warm caches; of one thread and all, keep the faster.

        A framework that knows no better would split small steps among threads, to its harm: its
        best setting is what counts.
        """
        choices = {self.threads}
        if self.row.flops < SMALL_STEP:
            choices.add(1)
        seconds = {}
        for choice in sorted(choices):
            self.threads = choice
            self.turn(1)
            seconds[choice] = self.turn(1) if len(choices) > 1 else 0.0
        best = min(seconds, key=seconds.__getitem__)
        if best != self.threads:
            self.threads = best
            self.turn(1)  # some compile for a number of threads


def limit_blas(threads: int) -> None:
    """Let NumPy's BLAS use `threads` threads, where that can be set."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return  # it stays as `machine.pin` set it before NumPy's import
    threadpool_limits(threads, user_api="blas")
