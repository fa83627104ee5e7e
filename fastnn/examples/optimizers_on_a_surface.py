"""Optimizers on one surface: momentum runs down a valley, scaled steps forget how steep it is.

The surface is Rosenbrock's valley (1960), (1 − x)² + 10 (y − x²)², whose floor is curved and almost
flat; the minimum is at (1, 1). A momentum of 0.9 makes steps of one direction up to ten times as
long (Polyak 1964). Adagrad, RMSprop and Adam divide each step by the size of the gradients so far:
on a surface a hundred times as steep they take the same way, where plain descent flies off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

START = (-1.5, 1.8)
STEPS = 500
REACHED = 0.01
"""Height at which the valley's end counts as reached."""

SHARED_RATE = 0.01
"""Learning rate of the three that are to be compared with each other."""

OPTIMIZERS: dict[str, Callable[[], fastnn.Optimizer]] = {
    "SGD": lambda: fastnn.SGD(SHARED_RATE),
    "SGD, momentum": lambda: fastnn.SGD(SHARED_RATE, momentum=0.9),
    "SGD, Nesterov": lambda: fastnn.SGD(SHARED_RATE, momentum=0.9, nesterov=True),
    "Adagrad": lambda: fastnn.Adagrad(1.0),
    "RMSprop": lambda: fastnn.RMSprop(0.01),
    "Adam": lambda: fastnn.Adam(0.1),
}
SCALED = ("Adagrad", "RMSprop", "Adam")
"""Those that divide by the size of the gradients."""


class Findings(NamedTuple):
    """The path of each optimizer, and of the scaled ones on the steeper surface."""

    paths: dict[str, Array]  # (STEPS + 1, 2)
    steeper: dict[str, Array]
    plain_diverges: bool


def height(x: Array, y: Array) -> Array:
    """The surface."""
    z: Array = (1 - x) ** 2 + 10 * (y - x * x) ** 2
    return z


def slope(x: float, y: float) -> tuple[float, float]:
    """Its gradient."""
    return -2 * (1 - x) - 40 * x * (y - x * x), 20 * (y - x * x)


def walk(optimizer: fastnn.Optimizer, steepness: float = 1.0) -> Array:
    """The path (STEPS + 1, 2) from START: of a layer whose two weights are the point."""
    point = fastnn.Dense(1, use_bias=False)
    point.prepare((2,))
    point.kernel = np.reshape(START, (2, 1))
    path = [START]
    for _ in range(STEPS):
        point.grads["kernel"] = steepness * np.reshape(slope(*path[-1]), (2, 1))
        optimizer.update(point)
        x, y = point.kernel[:, 0].tolist()
        path.append((x, y))
    return np.array(path)


def measure(options: _page.Options) -> Findings:
    """Let every optimizer walk; nothing here is random, or long."""
    diverges = False
    try:
        walk(OPTIMIZERS["SGD"](), 100)
    except fastnn.DivergenceError:
        diverges = True
    return Findings(
        {name: walk(make()) for name, make in OPTIMIZERS.items()},
        {name: walk(OPTIMIZERS[name](), 100) for name in SCALED},
        diverges,
    )


def arrivals(found: Findings) -> dict[str, int | None]:
    """The first step of each that is below REACHED."""
    below = {name: height(*path.T) < REACHED for name, path in found.paths.items()}
    return {name: int(np.argmax(at)) if at.any() else None for name, at in below.items()}


def report(found: Findings) -> _page.Report:
    """Steps to the valley's end."""
    steps = arrivals(found)
    plain = steps["SGD"] or 0
    apart = {
        name: float(np.abs(path - found.paths[name]).max()) for name, path in found.steeper.items()
    }
    return _page.Report(
        claims=[
            (
                f"At the same rate, {SHARED_RATE}, momentum needs less than a fifth of SGD's steps",
                all(0 < (steps[name] or plain) < plain / 5 for name in steps if ", " in name),
            ),
            (
                "A hundred times as steep, the scaled ones keep their paths, to 0.05, "
                "and SGD diverges",
                max(apart.values()) < 0.05 and found.plain_diverges,
            ),
        ],
        header=(
            "optimizer",
            "rate",
            f"steps to {REACHED}",
            f"height after {STEPS}",
            "steeper: apart by",
        ),
        rows=[
            (
                name,
                OPTIMIZERS[name]().get_config()["learning_rate"],
                steps[name],
                float(height(*path[-1])),
                apart.get(name, "-"),
            )
            for name, path in found.paths.items()
        ],
    )


def draw(figure: Any, found: Findings) -> None:
    """The paths over the surface's contours, and the heights on the way."""
    surface, heights = figure.subplots(1, 2)
    x, y = np.meshgrid(np.linspace(-1.8, 1.5, 200), np.linspace(-0.5, 3, 200))
    surface.contour(x, y, np.log10(height(x, y)), levels=18, cmap="Greys", alpha=0.6)
    for name, path in found.paths.items():
        surface.plot(*path.T, ".-", markersize=3, linewidth=1, label=name)
        heights.semilogy(np.maximum(height(*path.T), 1e-8), linewidth=1.3, label=name)
    surface.plot(*START, "ko")
    surface.plot(1, 1, "k*", markersize=12)
    surface.set_title("Paths from ● to the minimum ★")
    surface.set_xlabel("x")
    surface.set_ylabel("y")
    heights.axhline(REACHED, color="k", linewidth=1, linestyle=":")
    heights.set_title("Height on the way (dotted: reached)")
    heights.set_xlabel("step")
    heights.set_ylabel("height above the minimum")
    heights.legend(fontsize="small")
    heights.grid(alpha=0.3)
    figure.suptitle("In a curved valley momentum arrives long before plain descent")


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
