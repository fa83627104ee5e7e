"""How near to the rate of a copy layers without products come: one core, in turns with the copy.

    python -m benchmarks.passes --write
    python -m benchmarks.passes --layers gelu,BatchNormalization

Bytes are those that must move where no cache holds them. Forward that is x and y; backward dy, what
the derivative is a function of, and dx. BatchNormalization in training reads x for its statistics
and again to normalise it, and backward x and dy for the sums over the batch and both again:
three and five arrays. LayerNormalization reads a row once, for a row stays in the cache. Weights
and what is kept of a row are not counted. The copy moves an array of the same size: two.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import RESULTS, machine, rounds, tables

SHAPES = ((128, 512), (1024, 64), (256, 512), (40_000, 512))
"""Rows and columns, float32: within the L2 cache, and far beyond it."""

TURN_SECONDS = 0.003
"""Of a turn: on a machine with other work, most of them then are not interrupted."""

LOOP_ELEMENTS = 1 << 20
"""Elements that one call goes over, again and again, so that the call itself does not count."""

ARRAYS = {"forward": 2, "backward": 3}
"""How many arrays of the rows' size a pass moves."""

OTHERS = {
    "BatchNormalization": {"training": 3, "backward": 5, "predicting": 2},
    "LayerNormalization": {"training": 2, "backward": 3},
    **{f"{name}(0.2)": {"training": 2} for name in ("Dropout", "AlphaDropout", "GaussianDropout")},
    "PReLU": {"training": 2, "backward": 3},
}
"""The same of layers whose passes differ from those of an activation."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.passes", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each pass, per size")
    parser.add_argument("--layers", type=lambda text: text.split(","), help="by default all")
    parser.add_argument("--write", action="store_true", help="keep the figures in a file")
    options = parser.parse_args(arguments)
    machine.pin(1)
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "cpu": machine.cpu_name(),
        "versions": machine.versions("numpy", "numba"),
        "sizes": {},
    }
    lines = []
    for rows, columns in SHAPES:
        found = measure(rows, columns, options.layers or [*activations(), *OTHERS], options.seconds)
        report["sizes"][f"{rows} x {columns}"] = found
        lines += [
            (f"{rows} x {columns}", name, f"{figure['ns']:.2f}", tables.spread(figure["share"]))
            for name, figure in found.items()
        ]
    head = ("float32", "", "ns an element", "of the copy's rate [quartiles]")
    print(f"{report['cpu']}, one core\n\n{tables.columns(head, lines, left=2)}")
    if options.write:
        path = RESULTS / f"passes-{report['date']}.json"
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def activations() -> list[str]:
    """Every activation that can be trained through."""
    from fastnn.activations import NAMES, has_derivative

    return [name for name in NAMES if name != "linear" and has_derivative(name)]


def measure(rows: int, columns: int, names: Sequence[str], seconds: float) -> dict[str, Any]:
    """Of each pass, the median time of an element, and quartiles of its share of a copy's rate."""
    import numpy as np

    rng = np.random.default_rng(0)
    x, y, dy = (on_a_line(rng.standard_normal((rows, columns), np.float32)) for _ in range(3))
    repeats = max(1, LOOP_ELEMENTS // (rows * columns))

    def copies() -> None:
        for _ in range(repeats):
            np.copyto(y, x)

    found: dict[str, Any] = {}
    for name in names:
        moved = OTHERS.get(name, ARRAYS)
        turns = {"copy": copies, **passes(name, moved, x, dy, repeats)}
        times = rounds.alternate(
            {pass_: rounds.repeated(turn, TURN_SECONDS) for pass_, turn in turns.items()},
            rounds.Pace(seconds, most=100),
        )
        for pass_, figures in rounds.figures(times).items():
            if pass_ != "copy":
                low, middle, high = reversed(figures["ratio"])
                found[f"{name}, {pass_}"] = {
                    "ns": 1e3 * figures["microseconds"][1] / repeats / (rows * columns),
                    "share": [moved[pass_] / 2 / ratio for ratio in (low, middle, high)],
                }
    return found


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


def passes(
    name: str, wanted: Sequence[str] | dict[str, int], x: Any, dy: Any, repeats: int
) -> dict[str, Callable[[], object]]:
    """Those passes of a layer that are `wanted`, each repeated inside one call."""
    import fastnn
    from fastnn.engine.program import Program

    rows, columns = x.shape
    kind, _, rate = name.partition("(")
    if name in OTHERS:
        layer = getattr(fastnn, kind)(*([float(rate.rstrip(")"))] if rate else []))
    else:
        layer = fastnn.Activation(name)
    layer.prepare((columns,))

    def forward(training: bool) -> Program:
        program = Program(rows, "float32", training)
        layer.forward_ops(program, program.external("x", (None, columns), "float32"))
        program.update()
        return program

    def backward() -> Program:
        program = forward(True)
        begin = len(program.calls)
        layer.backward_ops(program, program.external("dy", (None, columns), "float32"), True)
        del program.calls[:begin]
        return program

    made = {
        "forward": lambda: forward(True),
        "training": lambda: forward(True),
        "predicting": lambda: forward(False),
        "backward": backward,
    }
    return {pass_: Steps(made[pass_](), {"x": x, "dy": dy}, repeats) for pass_ in wanted}


if __name__ == "__main__":
    raise SystemExit(main())
