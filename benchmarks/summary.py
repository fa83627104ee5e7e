"""The comparison in a few figures, each beside what the project aims at on this kind of machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import tables
from benchmarks.parts.start import FRESH
from benchmarks.parts.training import best_peer
from benchmarks.peers import ONE_THREAD
from benchmarks.rounds import geometric_mean

Figure = dict[str, Any]
Parts = dict[str, dict[str, Any]]


def summarise(parts: Parts) -> list[Figure]:
    """The figures that the measured parts allow for."""
    found: list[Figure] = []
    for name, figures in _FIGURES.items():
        if name in parts:
            found += figures(parts[name])
    return found


def _figure(what: str, value: float | None, goal: float, at_least: bool = True) -> list[Figure]:
    """One figure with its goal; none where there is nothing to compare with."""
    if value is None:
        return []
    reached = value >= goal if at_least else value <= goal
    sign = "≥" if at_least else "≤"
    return [{"what": what, "value": value, "goal": f"{sign} {goal:g}", "reached": reached}]


def share_of_goal(figure: Figure) -> float:
    """How much of its goal a figure is: 1 where it is just reached, more where it is passed."""
    sign, goal = figure["goal"].split()
    share: float = figure["value"] / float(goal)
    return share if sign == "≥" else 1 / share


def best_ratios(grid: dict[str, Any]) -> dict[str, float]:
    """How many times longer the best peer of each row takes than fastnn."""
    best = {row["row"]: (row, best_peer(row)) for row in grid["rows"]}
    return {name: row["peers"][peer]["ratio"][1] for name, (row, peer) in best.items() if peer}


def bounds(grid: dict[str, Any]) -> dict[str, float]:
    """What `best_ratios` would be, were all steps that products fill at the roofline.

    No more can be had against the same peers on the same machine. T1 is no such step: its products
    take a tenth of it, and its ratio is what it is.
    """
    found = best_ratios(grid)
    for row in grid["rows"]:
        peer = best_peer(row)
        if peer is not None and row["row"] != "T1":
            found[row["row"]] = 1.0 / row["peers"][peer]["of_floor"]
    return found


def ratios_to(grid: dict[str, Any], peer: str) -> list[float]:
    """How many times longer `peer` takes than fastnn, row by row."""
    return [row["peers"][peer]["ratio"][1] for row in grid["rows"] if peer in row["peers"]]


def _mean(values: Sequence[float]) -> float | None:
    return geometric_mean(values) if values else None


def _grid(grid: dict[str, Any]) -> list[Figure]:
    best = best_ratios(grid)
    found = _figure("best peer, geometric mean over the rows", _mean([*best.values()]), 2.0)
    bound = _mean([*bounds(grid).values()])
    found += _figure("the same, were all rows but T1 at the roofline", bound, 2.0)
    for names, goal in (("T1 T2 T3", 2.5), ("T4 T5 T6", 1.2), ("T7 T8", 1.0)):
        worst = min((best[name] for name in names.split() if name in best), default=None)
        found += _figure(f"best peer, least of {names}", worst, goal)
    eager = _mean(ratios_to(grid, "torch"))
    found += _figure("PyTorch eager, geometric mean over the rows", eager, 5.0)
    shares = {row["row"]: row["peers"]["fastnn"]["of_floor"] for row in grid["rows"]}
    for names, goal in (("T2 T3", 0.6), ("T4 T5 T6 T7 T8", 0.85)):
        worst = min((shares[name] for name in names.split() if name in shares), default=None)
        found += _figure(f"share of the roofline, least of {names}", worst, goal)
    return found


def _all_cores(grid: dict[str, Any]) -> list[Figure]:
    best = best_ratios(grid)
    found = _figure("all cores: best peer, geometric mean", _mean([*best.values()]), 1.8)
    found += _figure("all cores: best peer, least row", min(best.values(), default=None), 1.0)
    for row in grid["rows"]:
        if row["row"] in ("T6", "T7", "T8") and ONE_THREAD in row["peers"]:
            gain = row["peers"][ONE_THREAD]["ratio"][1]
            found += _figure(f"{grid['threads']} threads against one, {row['row']}", gain, 1.75)
    return found


def _variants(data: dict[str, Any]) -> list[Figure]:
    from benchmarks.parts.variants import rates

    return [
        figure
        for (row, variant), rate in rates(data).items()
        if variant == "float64"
        for figure in _figure(f"float64's rate as a share of float32's, {row}", rate, 0.45)
    ]


def _inference(data: dict[str, Any]) -> list[Figure]:
    found = []
    for case in data["cases"]:
        if (case["row"], case["batch"]) == ("T3", 1):
            for name, goal in (("fastnn", 8.0), ("fastnn compiled", 3.0)):
                if name in case["servers"]:
                    value = case["servers"][name]["microseconds"][1]
                    found += _figure(f"one row through T3, {name}, µs", value, goal, False)
    return found


def _kernels(data: dict[str, Any]) -> list[Figure]:
    found = []
    for case in data["losses"]:
        if tuple(case["shape"]) == (128, 10):
            for name, goal in (("numpy Jacobian", 6.0), ("numpy separate", 2.0)):
                value = case["contestants"][name]["ratio"][1]
                found += _figure(f"softmax-CE gradient (128, 10), {name}", value, goal)
    for case in data["adam"]:
        if case["parameters"] == 10**7 and not case["left_out"]:
            value = case["of_copy"][1]
            found += _figure("Adam at 1e7 parameters, share of copying", value, 0.85)
    return found


def _memory(data: dict[str, Any]) -> list[Figure]:
    peaks = data["megabytes"]
    if not {"fastnn", "torch"} <= set(peaks):
        return []
    share = peaks["fastnn"] / peaks["torch"]
    return _figure("peak memory of a T6 fit, share of PyTorch's", share, 1.0, False)


def _start(data: dict[str, Any]) -> Iterator[Figure]:
    for name, goal in (
        (FRESH, 8.0),
        ("fastnn, first fit of a second process", 0.4),
    ):
        yield from _figure(f"{name}, s", data["processes"][name]["seconds"][1], goal, False)


def _neighbour(data: dict[str, Any]) -> Iterator[Figure]:
    value = data["peers"]["fastnn"]["disturbed"]["ratio"][1]
    yield from _figure("T6 beside a busy neighbour, times longer", value, 2.2, False)


_FIGURES = {
    "grid": _grid,
    "grid-all-cores": _all_cores,
    "variants": _variants,
    "inference": _inference,
    "kernels": _kernels,
    "memory": _memory,
    "start": _start,
    "neighbour": _neighbour,
}


def show(found: Sequence[Figure]) -> None:
    """Print each figure with its goal."""
    lines = [
        (
            figure["what"],
            tables.three_digits(figure["value"]),
            figure["goal"],
            "reached" if figure["reached"] else "MISSED",
        )
        for figure in found
    ]
    print(tables.columns(("", "", "goal", ""), lines))
