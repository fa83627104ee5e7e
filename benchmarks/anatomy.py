"""Where a training step's time goes: ``python -m benchmarks.anatomy T3``.

Each op of a row's program is run alone, many times in one call, on the memory that it has in the
step; beside a matrix product stands its rate. Then the whole step runs over the row's data. What
lies between the ops' sum and the step is what they cost each other, and what rows cost that come
from far away.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks import machine, tables
from benchmarks.grid import GRID, make_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

TURN = 0.02
"""Seconds that a turn takes, about."""

MOST_COPIES = 2000
"""An op stands at most so many times in the code that is run to time it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ops of each row that is named."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.anatomy", description="Where a training step's time goes."
    )
    parser.add_argument("rows", nargs="+", choices=list(GRID), metavar="ROW", help="of the grid")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--turns", type=int, default=15, help="of which the median is taken")
    options = parser.parse_args(arguments)
    machine.pin(1)
    for name in options.rows:
        step = Step(name, options.dtype)
        print(f"\n{name} {step.row.layers} x {step.row.batch} {options.dtype}")
        print(tables.columns(("op", "does as well", "µs", "GFLOP/s"), step.lines(options.turns)))
    return 0


class Step:
    """A row's training step, linked to data of its own."""

    def __init__(self, name: str, dtype: str) -> None:
        import numpy as np

        import fastnn
        from benchmarks.peers.own import make_model
        from fastnn.engine import cpu
        from fastnn.kernels import state as s

        fastnn.set_num_threads(1)
        self.row = GRID[name]
        model = make_model(self.row, dtype)
        sources = model._check_data(*make_data(self.row, dtype), None, None)
        order = np.random.default_rng(0).permutation(len(sources.x))
        self._pass: Any = model.training_pass(sources._replace(order=order), self.row.batch, 0)
        self._pass.__enter__()
        run = self._pass._run
        self.calls, self.code, self.state = self._pass._step.program.calls, run.code, run.state
        run._scratch.lend(self.state)
        # Weights stay what they are: trained on one batch alone, they would leave no gradients.
        cpu.floats(self.state)[s.LEARNING_RATE] = 0.0

    def lines(self, turns: int) -> list[tuple[str, ...]]:
        """A line of the table for each op, their sum and the step."""
        timers = [self.timer(self.code[i : i + 1]) for i in range(len(self.code))]
        times: list[list[float]] = [[] for _ in timers]
        steps = []
        for _ in range(turns):
            for own, timer in zip(times, timers, strict=True):
                own.append(timer())
            steps.append(self.whole())
        medians = [statistics.median(own) for own in times]
        lines = [self._line(*pair) for pair in zip(self.calls, medians, strict=True)]
        step = statistics.median(steps)
        rate = f"{self.row.flops / step / 1e9:.0f}"
        return [
            *lines,
            ("sum", "", f"{sum(medians) * 1e6:.2f}", ""),
            ("step", "", f"{step * 1e6:.2f}", rate),
        ]

    def _line(self, call: Any, seconds: float) -> tuple[str, ...]:
        parts = [] if call.supply is None else [call.supply.signature.name]
        parts += [finish.signature.name for finish in call.finish]
        parts += ["relu"] if call.scalars.get("relu") else []
        parts += ["relu's derivative"] if call.arrays.get("gate") is not None else []
        rate = ""
        if call.takes_finish:
            lengths = [call.lengths[letter] or self.row.batch for letter in "NIO"]
            rate = f"{2 * lengths[0] * lengths[1] * lengths[2] / seconds / 1e9:.0f}"
        return call.signature.name, ", ".join(parts), f"{seconds * 1e6:.2f}", rate

    def timer(self, code: NDArray[np.int64]) -> Any:
        """A function that runs an op many times; the seconds that once took."""
        import numpy as np

        once = self._runner(code)
        once(self.row.batch)
        copies = max(1, min(MOST_COPIES, int(TURN / max(once(self.row.batch), 1e-8))))
        many = self._runner(np.ascontiguousarray(np.tile(code, (copies, 1))))
        many(self.row.batch)
        return lambda: many(self.row.batch) / copies

    def whole(self) -> float:
        """Run the step over all data; the seconds that one took."""
        seconds: float = self._runner(self.code)(self.row.samples)
        return seconds / self.row.steps

    def _runner(self, code: NDArray[np.int64]) -> Any:
        from fastnn.engine import cpu
        from fastnn.kernels import state as s

        call, state = cpu.prepared(code, self.state), self.state

        def run(total: int) -> float:
            state[s.FIRST] = state[s.POSITION] = state[s.PIECE] = 0
            state[s.TOTAL], state[s.BATCH], state[s.BUDGET] = total, self.row.batch, 1 << 62
            begin = time.perf_counter()
            cpu.check_status(call())
            seconds = time.perf_counter() - begin
            assert len(code)  # it lives as long as what points to it
            return seconds

        return run


if __name__ == "__main__":
    raise SystemExit(main())
