"""Charts of a report of ``benchmarks.gpu``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.summary import found_in, outcomes
from benchmarks.page.charts import Chart, Group, contestants, of_number, share_bar
from benchmarks.reports import Report


def paragraphs(report: Report) -> Sequence[str]:
    """What of the kernels was run, and was right."""
    right, wrong, unrun = outcomes(report)
    said = (
        f"Kernels against the NumPy oracle: {right} right, {len(wrong)} wrong, {unrun} not yet run."
    )
    return [said, *(f"Wrong: {name}." for name in wrong)]


def charts(report: Report) -> list[Chart]:
    """Training steps beside the peers', and ops as a share of the rate of a copy."""
    groups = []
    for row, peers in found_in(report, "grid").get("rows", {}).items():
        taken: dict[str, Any] = {n: f for n, f in peers.items() if "microseconds" in f}
        if taken:
            groups.append(Group(row, contestants(taken)))
    copy = found_in(report, "rates").get("copy_bytes_per_second")
    shares = [
        share_bar(name, [figure["bytes_per_second"] / copy] * 3, f"{figure['microseconds']:.1f} µs")
        for name, figure in found_in(report, "ops").get("ops", {}).items()
        if copy and "bytes_per_second" in figure
    ]
    found = []
    if groups:
        text = "A step: gather, forward, loss, backward, Adam; float32 products of full precision."
        found.append(Chart("grid", "Training steps", text, groups))
    if shares:
        text = "The rate at which an op moves what it must, of the rate of a copy within the card."
        group = Group("over operands that no cache holds", shares, {"copy": 1.0})
        found.append(
            Chart("ops", "Ops as a share of a copy", text, [group], of_number, logarithmic=False)
        )
    return found
