"""A report as a short table."""

from __future__ import annotations

from typing import Any

from benchmarks import tables
from benchmarks.gpu.kernels import NOT_YET_RUN, RIGHT


def all_well(report: dict[str, Any]) -> bool:
    """Whether every stage came to its end, and every kernel was right."""
    stages = report["stages"].values()
    failed = any("failed" in figure for figure in found_in(report, "ops").get("ops", {}).values())
    return all(stage["ended"] == "well" for stage in stages) and not failed and not wrong(report)


def wrong(report: dict[str, Any]) -> list[str]:
    """Kernels that were run and are wrong."""
    return outcomes(report)[1]


def outcomes(report: dict[str, Any]) -> tuple[int, list[str], int]:
    """How many kernels are right, which are wrong, how many were not yet run."""
    ops = found_in(report, "kernels").get("ops", {})
    wrong = [name for name, outcome in ops.items() if outcome not in (RIGHT, NOT_YET_RUN)]
    values = list(ops.values())
    return values.count(RIGHT), wrong, values.count(NOT_YET_RUN)


def found_in(report: dict[str, Any], stage: str) -> dict[str, Any]:
    """What a stage has found."""
    found: dict[str, Any] = report["stages"].get(stage, {}).get("found", {})
    return found


def text(report: dict[str, Any]) -> str:
    """What a reader wants to know first."""
    machine = found_in(report, "machine")
    lines = [f"{machine.get('card', 'unknown card')}, {report['date']}"]
    if report["simulated"]:
        lines.append("simulated: no figure of speed")
    right, ill, unrun = outcomes(report)
    lines += [f"kernels: {right} right, {len(ill)} wrong, {unrun} not yet run"]
    lines += [f"  wrong: {name}" for name in ill]
    lines += [
        f"{name}: {stage['ended']}"
        for name, stage in report["stages"].items()
        if stage["ended"] != "well"
    ]
    copy = found_in(report, "rates").get("copy_bytes_per_second")
    if copy:
        lines += [f"copies at {copy / 1e12:.2f} TB/s", "", _ops(found_in(report, "ops"), copy)]
        lines += ["", _ways(found_in(report, "ways"))]
        lines += [""] + [
            f"narrow network, {precision}: {1e3 * figures['epoch_seconds']:.1f} ms an epoch of a "
            f"million rows, gradients within {figures['gradient_error']:.1e}"
            for precision, figures in found_in(report, "narrow").items()
            if "epoch_seconds" in figures
        ]
        lines += ["", _grid(found_in(report, "grid"))]
    return "\n".join(lines)


def _ops(found: dict[str, Any], copy: float) -> str:
    failed = {name: f["failed"] for name, f in found.get("ops", {}).items() if "failed" in f}
    rows = [
        (
            name,
            f"{figure['microseconds']:.1f}",
            f"{figure['bytes_per_second'] / copy:.0%}",
            f"{figure['flops'] / 1e12:.1f}" if "flops" in figure else "",
        )
        for name, figure in found.get("ops", {}).items()
        if name not in failed
    ]
    rows += [(name, "failed", why[:60], "") for name, why in failed.items()]
    return tables.columns(("op", "µs", "of the copy rate", "TFLOP/s"), rows)


def _ways(found: dict[str, Any]) -> str:
    rows = [
        (network, way, f"{middle:.1f}")
        for network, ways in found.get("microseconds", {}).items()
        for way, (_, middle, _) in ways.items()
    ]
    return tables.columns(("steps of", "by", "µs a step"), rows, left=2)


def _grid(found: dict[str, Any]) -> str:
    rows = []
    for row, peers in found.get("rows", {}).items():
        own = peers.get("fastnn", {}).get("microseconds")
        for name, figure in peers.items():
            if own and "microseconds" in figure:
                middle = figure["microseconds"][1]
                rows.append((row, name, f"{middle:.1f}", f"{middle / own[1]:.2f}"))
    return tables.columns(("row", "", "µs a step", "of fastnn's"), rows, left=2)
