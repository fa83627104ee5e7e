"""How near to the rate of a copy normalisation comes: one core, in turns with the copy.

    python -m benchmarks.normalization

Bytes are those that must move where no cache holds them. In training, the forward pass of
BatchNormalization reads x for its statistics and again to normalise it, and writes y: three arrays.
Backward it reads x and dy for the sums over the batch, both again, and writes dx: five. When
predicting it is two, x and y. LayerNormalization reads a row once, for a row stays in the cache:
two forward, three backward. Weights and what is kept of a row are not counted. The copy moves an
array of the same size: two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import machine, rounds, tables

SHAPES = ((128, 512), (1024, 64), (256, 512), (40_000, 512), (300_000, 64))
"""Rows and columns, float32: within the L2 cache, and far beyond it."""

TURN_SECONDS = 0.003
"""Of a turn: on a machine with other work, most of them then are not interrupted."""

LOOP_ELEMENTS = 1 << 20
"""Elements that one call goes over, again and again, so that the call itself does not count."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.normalization", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each pass, per size")
    seconds = parser.parse_args(arguments).seconds
    machine.pin(1)
    lines = []
    for shape in SHAPES:
        times = rounds.alternate(contestants(*shape), rounds.Pace(seconds, most=100))
        for name, figures in rounds.figures(times).items():
            moved = ARRAYS[name]
            low, middle, high = (moved / 2 / ratio for ratio in reversed(figures["ratio"]))
            share = tables.spread((low, middle, high))
            time = tables.duration(figures["microseconds"][1] / repeats_of(*shape))
            lines.append((f"{shape[0]} x {shape[1]}", name, str(moved), time, share))
    head = ("float32", "", "arrays", "median", "of the copy's rate [quartiles]")
    print(f"{machine.cpu_name()}, one core\n\n{tables.columns(head, lines, left=2)}")
    return 0


ARRAYS = {
    "copy": 2,
    "BatchNormalization, training": 3,
    "BatchNormalization, backward": 5,
    "BatchNormalization, predicting": 2,
    "LayerNormalization": 2,
    "LayerNormalization, backward": 3,
}
"""The passes, the copy first, and how many arrays of the rows' size each moves."""


def repeats_of(rows: int, columns: int) -> int:
    """How often a call goes over the arrays."""
    return max(1, LOOP_ELEMENTS // (rows * columns))


def contestants(rows: int, columns: int) -> dict[str, rounds.Turn]:
    """The copy and each pass, on arrays of their own size."""
    import numpy as np

    rng = np.random.default_rng(0)
    x, y, dy = (on_a_line(rng.standard_normal((rows, columns), np.float32)) for _ in range(3))
    repeats = repeats_of(rows, columns)

    def copies() -> None:
        for _ in range(repeats):
            np.copyto(y, x)

    actions: dict[str, Callable[[], object]] = {"copy": copies}
    for layer in ("BatchNormalization", "LayerNormalization"):
        actions |= passes(layer, x, y, dy, repeats)
    return {name: rounds.repeated(actions[name], TURN_SECONDS) for name in ARRAYS}


class Steps:
    """A program over arrays, run `repeats` times in a call; all that it reads lives with it."""

    def __init__(self, program: Any, arrays: dict[str, Any], repeats: int) -> None:
        from fastnn.engine import arena, compiler, cpu

        compiler.prepare([*program.needs, ("run_steps",)], None)
        self._program, self._arrays, self._repeats = program, arrays, repeats
        self._memory = arena.allocate(program.arena_bytes)
        self._run = cpu.Run(program.link(self._memory, arrays), cpu.new_state())

    def __call__(self) -> None:
        rows = self._program.rows
        self._run.epoch(rows * self._repeats, rows)


def on_a_line(array: Any) -> Any:
    """The array where a model's own would be: from the begin of a cache line on."""
    from fastnn.engine import arena

    copy = arena.allocate(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def passes(name: str, x: Any, y: Any, dy: Any, repeats: int) -> dict[str, Callable[[], object]]:
    """The passes of the layer called `name`, each repeated inside one call."""
    import fastnn
    from fastnn.engine.program import Program

    rows, columns = x.shape
    layer = getattr(fastnn, name)()
    layer.prepare((columns,))

    def forward(training: bool) -> Program:
        program = Program(rows, "float32", training)
        bound = program.external("x", (None, columns), "float32")
        layer.forward_ops(program, bound)
        program.update()
        return program

    def backward() -> Program:
        program = forward(True)
        begin = len(program.calls)
        layer.backward_ops(program, program.external("dy", (None, columns), "float32"), True)
        del program.calls[:begin]
        return program

    def action(program: Program) -> Callable[[], object]:
        return Steps(program, {"x": x, "dy": dy}, repeats)

    made = {f"{name}, backward": action(backward())}
    if name == "LayerNormalization":
        return made | {name: action(forward(True))}
    return made | {
        f"{name}, training": action(forward(True)),
        f"{name}, predicting": action(forward(False)),
    }


if __name__ == "__main__":
    raise SystemExit(main())
