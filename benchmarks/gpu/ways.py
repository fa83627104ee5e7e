"""A step of training by each way that its size allows: what the thresholds of `ways` rest on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from benchmarks.gpu.stage import Findings

NETWORKS = {
    "20-64-64-2 x 32": ((20, 64, 64, 2), 32),
    "20-64-64-2 x 128": ((20, 64, 64, 2), 128),
    "784-64-10 x 32": ((784, 64, 10), 32),
    "64-100-10 x 200": ((64, 100, 10), 200),
    "784-128-10 x 128": ((784, 128, 10), 128),
    "784-256-256-10 x 1024": ((784, 256, 256, 10), 1024),
}
"""Units of the layers, from the inputs on, and rows of a batch."""

SIMULATED = {"3-4-2 x 4": ((3, 4, 2), 4)}

WAYS = {"block": ("ONE_BLOCK",), "grid": ("GRID",), "graph": ()}
"""Ways, and the limits that are lifted to have a step go so; the others allow nothing."""

TURNS = 5


def limits_for(way: str) -> dict[str, Any]:
    """Limits under which steps go that way, if its kernel can do them at all."""
    from fastnn.kernels.cuda import ways

    allowed = {name: getattr(ways, name) for name in WAYS[way]}
    nothing = ways.Limits(0, 0, 0)
    lifted = {name: limits._replace(multiply_adds=float("inf")) for name, limits in allowed.items()}
    return dict.fromkeys(("ONE_BLOCK", "GRID"), nothing) | lifted


def measure(found: Findings, simulated: bool) -> None:
    """Microseconds of a step: the smallest, the median and the largest of some turns."""
    figures: dict[str, dict[str, list[float]]] = {}
    found["microseconds"] = figures
    for name, (sizes, batch) in (SIMULATED if simulated else NETWORKS).items():
        figures[name] = {}
        for way in WAYS:
            turn, taken = prepare(sizes, batch, way, 2 if simulated else 64)
            if taken == way:
                times = sorted(turn() for _ in range(1 if simulated else TURNS))
                figures[name][way] = [times[0], statistics.median(times), times[-1]]
            found.keep()


def prepare(
    sizes: tuple[int, ...], batch: int, way: str, steps: int
) -> tuple[Callable[[], float], str]:
    """A function that times a step, and the way that it goes."""
    import numpy as np

    import fastnn
    from fastnn.engine.cuda import many_steps

    layers = [fastnn.Dense(n, activation="relu") for n in sizes[1:-1]]
    layers.append(fastnn.Dense(sizes[-1], activation="softmax"))
    model = fastnn.Sequential(layers, input_shape=sizes[:1], seed=0, device="cuda")
    model.compile("adam", "categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch * steps, sizes[0]), dtype=np.float32)
    y = rng.integers(0, sizes[-1], len(x))
    ways: list[str] = []
    way_of = many_steps.way_of

    def noted(*arguments: Any) -> Any:
        chosen = way_of(*arguments)
        ways.append(chosen.name)
        return chosen

    def seconds(epochs: int) -> float:
        begin = time.perf_counter()
        model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0)
        return time.perf_counter() - begin

    with mock.patch.multiple(many_steps, way_of=noted, **limits_for(way)):
        seconds(1)  # the graph is then captured, and kept

    def turn() -> float:
        # What a fit takes beside its steps is the same for both, and goes.
        return 1e6 * (seconds(4) - seconds(1)) / (3 * steps)

    return turn, ways[-1]
