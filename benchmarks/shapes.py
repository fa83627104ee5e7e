"""Which way of doing a thing is the faster one, by shape: ``python -m benchmarks.shapes``.

Three thresholds of ``fastnn.engine.shapes`` are measured on this machine: from how many rows a
product packs its second factor, from how many bytes an optimizer's update becomes the gradient's
finish, and from how much work a step is given to a team of threads. Both ways are timed in turns,
and a threshold is where the sum of what is lost by taking the slower way is least. With ``--write``
the thresholds found replace those in the source.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import RESULTS, machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 15

PACK_ROWS = (32, 48, 64, 96, 128, 192, 256, 384, 512)
PACK_OTHERS = {  # columns and depth, of narrow factors and of wide ones
    "": ((64, 64), (128, 784), (512, 128), (512, 512)),
    ", wide": ((1024, 256), (2048, 128), (1500, 300)),
}
UPDATE_WIDTHS = (64, 128, 256, 384, 512, 768, 1024)
TEAM_WIDTHS = (64, 128, 192, 256, 384, 512, 768)
BATCH = 128

Timing = tuple[float, float]
"""What a thing's size is compared with, and the logarithm of second way's time over the first's."""


def alternate(first: Callable[[], object], second: Callable[[], object]) -> float:
    """The median, over rounds, of the second's time divided by the first's."""
    first(), second()
    ratios = []
    for _ in range(ROUNDS):
        times = []
        for action in (first, second):
            begin = time.perf_counter()
            action()
            times.append(time.perf_counter() - begin)
        ratios.append(times[1] / times[0])
    return statistics.median(ratios)


def product(op: str, rows: int, columns: int, depth: int, pack: bool) -> Callable[[], object]:
    """A dense layer's product whose result has `rows` rows, run for about a millisecond."""
    from fastnn.engine import arena, compiler, cpu
    from fastnn.engine.program import Program

    def array(*shape: int) -> NDArray[Any]:
        return arena.allocate(4 * math.prod(shape)).view("float32").reshape(shape)

    batch, inputs = (rows, depth) if op == "dense_forward" else (depth, rows)
    x, w, y = array(batch, inputs), array(inputs, columns), array(batch, columns)
    program = Program(batch, "float32")
    if op == "dense_forward":
        program.op(op, y=y, x=x, w=w, pack=pack)
    else:
        program.op(op, dw=w, x=x, dy=y, pack=pack)
    compiler.prepare([*program.needs, ("run_steps",)])
    code = program.link(arena.allocate(arena.ALIGNMENT), {})
    run = cpu.Run(code, cpu.new_state())
    repeats = max(1, int(1e8 / (2 * rows * columns * depth)))
    arrays = x, w, y  # held by the closure for as long as code points at them

    def go() -> object:
        run.epoch(repeats * batch, batch)
        return arrays

    return go


def training(width: int, steps: int) -> Callable[[], object]:
    """Some steps of a network with two hidden layers of `width`, set up under present settings."""
    import numpy as np

    import fastnn

    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH * steps, width), dtype=np.float32)
    y = rng.integers(0, 10, len(x))
    model = fastnn.Sequential(
        [fastnn.Dense(width, "relu"), fastnn.Dense(width, "relu"), fastnn.Dense(10, "softmax")],
        input_shape=(width,),
        seed=0,
    )
    model.compile("adam", "categorical_crossentropy")

    def go() -> object:
        return model.fit(x, y, batch_size=BATCH, verbose=0)

    return go


def cost_of(width: int) -> int:
    """What the planner estimates a step of that network to take, in nanoseconds."""
    return 3 * BATCH * (2 * width * width + 10 * width) // 40


def measure_packing(op: str, width: str) -> list[Timing]:
    """Packed against not, over rows."""
    return [
        (
            rows,
            math.log(
                alternate(
                    product(op, rows, columns, depth, False),
                    product(op, rows, columns, depth, True),
                )
            ),
        )
        for rows in PACK_ROWS
        for columns, depth in PACK_OTHERS[width]
    ]


def measure_update() -> list[Timing]:
    """The update as finish against the update apart, over a kernel's bytes."""
    from fastnn.engine import shapes

    timings = []
    for width in UPDATE_WIDTHS:
        ways = []
        for bytes_ in (1 << 60, 0):
            shapes.UPDATE_BYTES = bytes_
            # So many rows that they pass through the caches, as a user's do.
            way = training(width, max(40, (1 << 22) // (width * width)))
            way()  # makes the program, under this setting
            ways.append(way)
        timings.append((16.0 * width * width, math.log(alternate(*ways))))
    return timings


def measure_team(threads: int) -> list[Timing]:
    """All threads against one, over a step's estimated cost."""
    import fastnn
    from fastnn.engine import cpu

    cpu.TEAM_COST = 0
    timings = []
    for width in TEAM_WIDTHS:
        fit = training(width, max(2, (1 << 22) // (width * width)))

        def with_threads(count: int, fit: Callable[[], object] = fit) -> Callable[[], object]:
            def go() -> object:
                fastnn.set_num_threads(count)
                return fit()

            return go

        ratio = alternate(with_threads(1), with_threads(threads))
        timings.append((float(cost_of(width)), math.log(ratio)))
    return timings


def threshold(timings: Sequence[Timing]) -> int:
    """From what on the second way should be taken, so that least is lost in all."""
    sizes = sorted({size for size, _ in timings})

    def lost(begin: float) -> float:
        return sum(
            max(0.0, ratio) if size >= begin else max(0.0, -ratio) for size, ratio in timings
        )

    best = min([*sizes, 2 * sizes[-1]], key=lost)
    smaller = [size for size in sizes if size < best]
    # Between the last size where it does not pay and the first where it does.
    return int(math.sqrt(best * smaller[-1])) if smaller else int(best)


def rewrite(found: dict[str, int]) -> None:
    """Put the thresholds into the source of ``fastnn.engine.shapes``."""
    from fastnn.engine import shapes

    path = Path(str(shapes.__file__))
    text = path.read_text(encoding="utf-8")
    for name, value in found.items():
        pattern = rf'("{name}": )[\d_]+' if name.startswith("dense") else rf"({name} = )[\d_]+"
        text, count = re.subn(pattern, rf"\g<1>{value:_}", text)
        if count != 1:
            raise SystemExit(f"shapes: {name} stands {count} times in {path}")
    path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and keep what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the thresholds into the source")
    options = parser.parse_args(arguments)
    import fastnn

    threads = fastnn.get_num_threads()
    fastnn.set_num_threads(1)
    measured = {
        op + width: measure_packing(op, width)
        for op in ("dense_forward", "dense_backward_kernel")
        for width in PACK_OTHERS
    }
    measured["UPDATE_BYTES"] = measure_update()
    if threads > 1:
        measured["TEAM_COST"] = measure_team(threads)
    found = {name: threshold(timings) for name, timings in measured.items()}
    for name, timings in measured.items():
        print(f"{name}: from {found[name]:_}")
        for size in sorted({size for size, _ in timings}):
            ratios = [math.exp(ratio) for at, ratio in timings if at == size]
            print(f"  {size:>12_.0f}  " + " ".join(f"{ratio:.2f}" for ratio in ratios))
    date = datetime.date.today().isoformat()
    report = {
        "date": date,
        "cpu": machine.cpu_name(),
        "threads": threads,
        "found": found,
        "ratios": {
            name: [(size, math.exp(ratio)) for size, ratio in timings]
            for name, timings in measured.items()
        },
    }
    path = RESULTS / f"shapes-{date}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.write:
        rewrite(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
