"""Charts of the comparison with peers: reports of `benchmarks.compare`, whole or in part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import readme, tables
from benchmarks.page.charts import (
    MISS,
    OWN,
    PEER,
    Bar,
    Chart,
    Group,
    contestants,
    display,
    duration_bar,
    is_ahead,
    is_own,
    nanoseconds,
    of_nanoseconds,
    of_number,
    once,
    share_bar,
)
from benchmarks.parts import PARTS
from benchmarks.parts.training import best_peer, label
from benchmarks.reports import NAMES, Report
from benchmarks.summary import share_of_goal

Part = dict[str, Any]

STEP = (
    "One step gathers a batch by index and does forward, loss, backward and Adam; every contestant "
    "starts from the same weights. Medians with their quartiles, on a logarithmic scale; ratios "
    "are medians over rounds, in which all took turns, and need not be those of the medians. The "
    "roofline is the least time that the step could take: its matrix products at the rate of a "
    "large one, and the optimizer's bytes at the rate of a copy."
)


def charts(report: Report) -> list[Chart]:
    """What the parts that were measured can show."""
    parts = report["parts"]
    grids = grids_of(parts)
    found = [goals(report["summary"])] if report["summary"] else []
    found += [training(name, grid) for name, grid in grids.items()]
    if grids:
        found.append(roofline([*grids.values()]))
    for name, makers in _CHARTS.items():
        if name in parts:
            found += [make(parts[name]) for make in makers]
    return found


def paragraphs(report: Report) -> list[str]:
    """The whole in a few sentences, the rows that are lost among them."""
    parts = report["parts"]
    found = []
    if "grid" in parts:
        found.append(" ".join([readme.means(report), *readme.more(report)]))
    behind = [
        f"{display(peer)} in {label(row)} on {cores(grid)} "
        f"({tables.times(row['peers'][peer]['ratio'][1])})"
        for grid in grids_of(parts).values()
        for row in grid["rows"]
        if (peer := best_peer(row)) and is_ahead(row["peers"][peer], row["peers"]["fastnn"])
    ]
    if behind:
        found.append(
            f"By its median or its ratio, the best peer is faster than fastnn: {', '.join(behind)}."
        )
    return found


def grids_of(parts: dict[str, Part]) -> dict[str, Part]:
    """The grids that were measured."""
    return {name: parts[name] for name in ("grid", "grid-all-cores") if name in parts}


def cores(grid: Part) -> str:
    """On how much of the machine a grid was measured."""
    return "one core" if grid["threads"] == 1 else f"{grid['threads']} cores"


def goals(summary: Sequence[dict[str, Any]]) -> Chart:
    """What the project aims at, and how much of it there is."""
    reached = sum(figure["reached"] for figure in summary)
    bars = []
    for figure in summary:
        value, share = tables.three_digits(figure["value"]), share_of_goal(figure)
        bars.append(
            Bar(
                figure["what"],
                once(share),
                f"{value}, goal {figure['goal']}",
                "reached" if figure["reached"] else "MISSED",
                f"{value} ({figure['goal']})",
                OWN if figure["reached"] else MISS,
            )
        )
    text = (
        f"{reached} of {len(summary)} goals are reached. A bar is the share of its goal, on a "
        "logarithmic scale: the figure divided by a goal that is to be reached (≥), a limit "
        "(≤) divided by the figure."
    )
    group = Group("Share of the goal", bars, {"goal": 1.0})
    return Chart("goals", "Goals", text, [group], of_number)


def training(name: str, grid: Part) -> Chart:
    """A group for each row of a grid."""
    groups = []
    for row in grid["rows"]:
        peers = row["peers"]
        notes = {
            peer: f"{percent(found['of_floor'])} of the roofline" for peer, found in peers.items()
        }
        marks = {"roofline": row["floor_microseconds"]}
        groups.append(Group(label(row), contestants(peers, notes), marks))
    return Chart(name, PARTS[name].title, STEP, groups)


def percent(share: float) -> str:
    """Such as 56%, 3.2%, 0.1%."""
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"


def roofline(grids: Sequence[Part]) -> Chart:
    """fastnn's share of the roofline in each row."""
    groups = []
    for grid in grids:
        bars = []
        for row in grid["rows"]:
            floor, peer = row["floor_microseconds"], best_peer(row)
            shares = [floor / time for time in reversed(row["peers"]["fastnn"]["microseconds"])]
            note = f"the roofline is {tables.duration(floor)}"
            if peer:
                note += f"; {display(peer)} {row['peers'][peer]['of_floor']:.2f}"
            bars.append(share_bar(label(row), shares, note))
        what = f"{cores(grid)}, large products at {grid['gemm_gflops']:.0f} GFLOP/s"
        groups.append(Group(what, bars, {"roofline": 1.0}))
    text = "fastnn's share, and beside it that of the best peer."
    return Chart("roofline", "Share of the roofline", text, groups, of_number, False, True)


def variants(part: Part) -> Chart:
    """Two rows of the grid otherwise."""
    groups = [
        Group(f"{label(row)}, {row['variant']}", contestants(row["peers"])) for row in part["rows"]
    ]
    text = "Two rows of the grid in float64, with dropout, with plain SGD, and as they are."
    return Chart("variants", PARTS["variants"].title, text, groups, folded=True)


def inference(part: Part) -> Chart:
    """A group for each network and batch."""
    groups = [
        Group(f"{case['row']} {case['layers']}, {case['batch']} rows", contestants(case["servers"]))
        for case in part["cases"]
    ]
    text = (
        "One call. `fastnn` is `predict`, with all its checks; `fastnn compiled` is "
        "`compiled_predict`. ONNX Runtime, bound, has its arrays bound before."
    )
    return Chart("inference", PARTS["inference"].title, text, groups, folded=True)


def losses(part: Part) -> Chart:
    """Ways to the gradient of softmax and cross-entropy."""
    groups, left_out = [], []
    for case in part["losses"]:
        rows, classes = case["shape"]
        groups.append(Group(f"{rows} rows, {classes} classes", contestants(case["contestants"])))
        left_out += [
            f"{name} at {rows} x {classes} {why}" for name, why in case["left_out"].items()
        ]
    text = "The gradient by one kernel, by several, and by NumPy in the manners of textbooks."
    if left_out:
        text += f" Left out: {'; '.join(left_out)}."
    return Chart("losses", "Softmax with cross-entropy", text, groups, folded=True)


def adam(part: Part) -> Chart:
    """The update as a share of a copy."""
    bars = [
        share_bar(
            f"{case['parameters']:,} parameters",
            case["of_copy"],
            f"{tables.durations(case['microseconds'])}; {case['gbytes']:.1f} GB/s, "
            f"the copy {case['copy_gbytes']:.1f} GB/s",
        )
        for case in part["adam"]
        if not case["left_out"]
    ]
    text = (
        "The rate at which an update moves its bytes, as a share of that of a copy of the same "
        "footprint; each call has the "
        f"{tables.durations(part['call_microseconds'])} of a call from Python in it."
    )
    group = Group("Share of a copy's rate", bars, {"copy": 1.0})
    return Chart("adam", "Adam", text, [group], of_number, False)


def elementwise(part: Part) -> Chart:
    """Nanoseconds an element."""
    groups: dict[str, list[Bar]] = {}
    for case in part["elementwise"]:
        for direction in ("forward", "backward"):
            if direction in case:
                name = f"{case['name']}, {direction}"
                groups.setdefault(case["dtype"], []).append(nanoseconds(name, case[direction]))
    text = "Time of an element, in arrays that stay in the cache."
    found = [Group(dtype, bars) for dtype, bars in groups.items()]
    return Chart(
        "elementwise", "Activations and dropout", text, found, of_nanoseconds, False, folded=True
    )


def start(part: Part) -> Chart:
    """Whole processes by the wall."""
    bars = [
        duration_bar(
            name,
            [1e6 * seconds for seconds in found["seconds"]],
            f"{found['turns']} turns",
            OWN if is_own(name) else PEER,
        )
        for name, found in part["processes"].items()
    ]
    text = "From the start of a process to its end: imports, and first fits of a small network."
    return Chart("start", "Cold start", text, [Group("Wall time", bars)])


def memory(part: Part) -> Chart:
    """Peaks of processes."""
    peaks = part["megabytes"]
    bars = [
        Bar(
            display(name),
            once(megabytes),
            megabytes_text(megabytes),
            tables.times(megabytes / peaks["fastnn"]),
            megabytes_text(megabytes),
            OWN
            if is_own(name)
            else MISS
            if name in NAMES and megabytes < peaks["fastnn"]
            else PEER,
        )
        for name, megabytes in peaks.items()
    ]
    text = "The most memory that a process has had, which fits 784-512-512-10 for two epochs."
    return Chart("memory", "Memory", text, [Group("Peak", bars)], megabytes_text, False)


def megabytes_text(value: float) -> str:
    """Such as 143 MB."""
    return f"{value:.0f} MB"


def neighbour(part: Part) -> Chart:
    """Each peer alone and beside a busy process."""
    bars = [
        duration_bar(
            f"{display(peer)}, {state}",
            figures["microseconds"],
            f"{tables.spread(figures['ratio'])} times as long" if state == "disturbed" else "",
            OWN if is_own(peer) else PEER,
            f" ({tables.times(figures['ratio'][1])})" if state == "disturbed" else "",
        )
        for peer, states in part["peers"].items()
        for state, figures in states.items()
    ]
    text = "T6 on all cores, undisturbed, and while another process keeps one of them busy."
    return Chart(
        "neighbour", "A busy neighbour", text, [Group("One step", bars)], logarithmic=False
    )


_CHARTS: dict[str, Sequence[Callable[[Part], Chart]]] = {
    "start": [start],
    "memory": [memory],
    "inference": [inference],
    "variants": [variants],
    "kernels": [losses, adam, elementwise],
    "neighbour": [neighbour],
}
"""Parts but for the grids, in the order of the page."""
