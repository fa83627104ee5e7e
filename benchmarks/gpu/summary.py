"""A report as a short table."""

from __future__ import annotations

from typing import Any

from benchmarks import tables
from benchmarks.gpu.kernels import NOT_YET_RUN, RIGHT


def all_well(report: dict[str, Any]) -> bool:
    """Whether every stage came to its end, and every kernel was right."""
    stages = report["stages"].values()
    failed = any("failed" in figure for figure in _found(report, "ops").get("ops", {}).values())
    return all(stage["ended"] == "well" for stage in stages) and not failed and not wrong(report)


def wrong(report: dict[str, Any]) -> list[str]:
    """Kernels that were run and are wrong."""
    ops = _found(report, "kernels").get("ops", {})
    return [name for name, outcome in ops.items() if outcome not in (RIGHT, NOT_YET_RUN)]


def _found(report: dict[str, Any], stage: str) -> dict[str, Any]:
    found: dict[str, Any] = report["stages"].get(stage, {}).get("found", {})
    return found


def text(report: dict[str, Any]) -> str:
    """What a reader wants to know first."""
    machine = _found(report, "machine")
    lines = [f"{machine.get('card', 'unknown card')}, {report['date']}"]
    if report["simulated"]:
        lines.append("simulated: no figure of speed")
    ops = _found(report, "kernels").get("ops", {})
    right = sum(outcome == RIGHT for outcome in ops.values())
    unrun = sum(outcome == NOT_YET_RUN for outcome in ops.values())
    lines += [f"kernels: {right} right, {len(wrong(report))} wrong, {unrun} not yet run"]
    lines += [f"  wrong: {name}" for name in wrong(report)]
    lines += [
        f"{name}: {stage['ended']}"
        for name, stage in report["stages"].items()
        if stage["ended"] != "well"
    ]
    copy = _found(report, "rates").get("copy_bytes_per_second")
    if copy:
        lines += [f"copies at {copy / 1e12:.2f} TB/s", "", _ops(_found(report, "ops"), copy)]
        lines += ["", _grid(_found(report, "grid"))]
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


def _grid(found: dict[str, Any]) -> str:
    rows = []
    for row, peers in found.get("rows", {}).items():
        own = peers.get("fastnn", {}).get("microseconds")
        for name, figure in peers.items():
            if own and "microseconds" in figure:
                middle = figure["microseconds"][1]
                rows.append((row, name, f"{middle:.1f}", f"{middle / own[1]:.2f}"))
    return tables.columns(("row", "", "µs a step", "of fastnn's"), rows, left=2)
