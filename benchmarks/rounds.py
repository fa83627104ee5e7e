"""Contestants in alternating turns, and the figures out of them.

In each round every contestant has a turn, so that a change in the machine's mood meets all of
them; ratios are taken within a round. Slow ones sit rounds out, evenly, so that a comparison ends
in bounded time: how many turns each had stands in the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Turn = Callable[[], float]
"""Does a contestant's work once; the seconds that a unit of it took."""

Times = dict[str, list[float | None]]
"""A contestant's seconds in each round; None where it sat out."""


@dataclass(frozen=True)
class Pace:
    """How long to go on.

    Parameters
    ----------
    seconds : float
        A contestant's time in all.
    least : int
        Rounds at least, so that quartiles mean something.
    slow : int
        Turns at least of contestants that take more than twice the time of the fastest.
    most : int
        Rounds at most.
    """

    seconds: float
    least: int = 5
    slow: int = 3
    most: int = 15


QUICK = Pace(seconds=0.1, least=2, slow=1, most=3)
"""Enough to see that everything works."""


def alternate(turns: Mapping[str, Turn], pace: Pace) -> Times:
    """Seconds of each contestant, by rounds; the first of them is in every round."""
    times: Times = {name: [] for name in turns}
    durations = {}
    for name, turn in turns.items():
        start = time.perf_counter()
        times[name].append(turn())
        durations[name] = time.perf_counter() - start
    fastest = min(durations.values())
    wanted = {}
    for name, duration in durations.items():
        least = pace.least if duration <= 2 * fastest else pace.slow
        wanted[name] = min(max(int(pace.seconds / duration), least), pace.most)
    rounds = max(wanted.values())
    wanted[next(iter(turns))] = rounds
    for current in range(1, rounds):
        for name, turn in turns.items():
            # Evenly over the rounds: the count of turns so far follows a straight line.
            due = current * wanted[name] // rounds > (current - 1) * wanted[name] // rounds
            times[name].append(turn() if due else None)
    return times


def figures(times: Times, scale: float = 1e6, unit: str = "microseconds") -> dict[str, Any]:
    """Quartiles of each contestant's times and of its ratios to the first, and its turns."""
    first = next(iter(times.values()))
    found = {}
    for name, own in times.items():
        pairs = [(a, b) for a, b in zip(own, first, strict=True) if a is not None and b is not None]
        found[name] = {
            unit: quartiles([a * scale for a, _ in pairs]),
            "ratio": quartiles([a / b for a, b in pairs]),
            "turns": len(pairs),
        }
    return found


def repeated(action: Callable[[], object], seconds: float = 0.02) -> Turn:
    """A turn that repeats `action` for about so many seconds; the seconds that one took.

    `action` runs first, untimed, until it is warm.
    """
    action()
    start = time.perf_counter()
    action()
    once = time.perf_counter() - start
    if once < seconds / 10:  # a single call is too short to tell
        start = time.perf_counter()
        for _ in range(10):
            action()
        once = (time.perf_counter() - start) / 10
    repeats = max(1, round(seconds / once))

    def turn() -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            action()
        return (time.perf_counter() - start) / repeats

    return turn


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    import numpy as np

    low, middle, high = np.percentile(values, (25, 50, 75))
    return float(low), float(middle), float(high)


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios."""
    import math

    return math.exp(sum(map(math.log, values)) / len(values))
