"""README's figures of speed from a results file: ``python -m benchmarks.readme [FILE]``.

Replaces what stands between ``<!-- speed -->`` and ``<!-- /speed -->``. Without FILE it takes the
newest ``benchmarks/results/cpu-<date>.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import reports, tables
from benchmarks.parts.start import FRESH
from benchmarks.parts.training import best_peer
from benchmarks.reports import NAMES, Report
from benchmarks.rounds import geometric_mean
from benchmarks.summary import best_ratios, ratios_to

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- speed -->", "<!-- /speed -->"


def block(path: Path) -> str:
    """What stands between the markers, made from the results file at `path`."""
    report = reports.read(path)
    grid, everywhere = report["parts"]["grid"], report["parts"].get("grid-all-cores")
    sentences = [means(report), *more(report)]
    return "\n\n".join(
        [
            wrapped(introduction(report)),
            rows(grid, everywhere),
            wrapped(" ".join(sentences)),
            wrapped(source(report, path)),
        ]
    )


def introduction(report: Report) -> str:
    """What was measured, on what."""
    quick = ", a quick run" if report["quick"] else ""
    return (
        "One training step (gather by index, forward, loss, backward, Adam) in float32: medians on "
        f"{report['cpu']}, {report['date']}{quick}; in brackets, how many times longer than "
        "fastnn's. Each row's best peer is the fastest of "
        f"{', '.join(NAMES[name] for name in peers_of(report))}. The roofline is the least time "
        "that the step could take: its matrix products at the rate of a large one, and the "
        "optimizer's bytes at the rate of a copy."
    )


def peers_of(report: Report) -> list[str]:
    """Peers that took part in the grid."""
    names: dict[str, None] = {}
    for row in report["parts"]["grid"]["rows"]:
        names |= dict.fromkeys(row["peers"])
    return [name for name in names if name in NAMES]


def rows(grid: Report, everywhere: Report | None) -> str:
    """The table: a line for each row of the grid."""
    head = ["layers", "batch", "fastnn", "best peer", "PyTorch eager", "of the roofline"]
    others: dict[str, Report] = {}
    if everywhere is not None:
        cores = everywhere["threads"]
        head += [f"fastnn, {cores} cores", f"best peer, {cores} cores"]
        others = {row["row"]: row for row in everywhere["rows"]}
    lines = [head, ["---"] * len(head)]
    for row in grid["rows"]:
        own = row["peers"]["fastnn"]
        kind = " (MSE)" if row["layers"].endswith("-1") else ""
        line = [
            f"{row['layers']}{kind}",
            str(row["batch"]),
            f"**{tables.duration(own['microseconds'][1])}**",
            peer_cell(row, best_peer(row)),
            peer_cell(row, "torch", named=False),
            f"{own['of_floor']:.0%}",
        ]
        if everywhere is not None:
            other = others[row["row"]]
            time = other["peers"]["fastnn"]["microseconds"][1]
            line += [f"**{tables.duration(time)}**", peer_cell(other, best_peer(other))]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def peer_cell(row: Report, peer: str | None, named: bool = True) -> str:
    """A peer's time, and its ratio to fastnn's."""
    if peer is None or peer not in row["peers"]:
        return "–"
    found = row["peers"][peer]
    name = f"{NAMES[peer]} " if named else ""
    time = tables.duration(found["microseconds"][1])
    return f"{name}{time} ({tables.times(found['ratio'][1])})"


def means(report: Report) -> str:
    """The geometric means over the rows."""
    grid, everywhere = report["parts"]["grid"], report["parts"].get("grid-all-cores")
    parts = []
    if best := [*best_ratios(grid).values()]:
        parts.append(
            f"the best peer of a row takes {tables.times(geometric_mean(best))} fastnn's time"
        )
    if eager := ratios_to(grid, "torch"):
        parts.append(f"eager PyTorch {tables.times(geometric_mean(eager))}")
    if everywhere is not None and (best := [*best_ratios(everywhere).values()]):
        mean = tables.times(geometric_mean(best))
        parts.append(f"on {everywhere['threads']} cores the best peer {mean}")
    return f"In the geometric mean over the rows, {', '.join(parts)}."


def more(report: Report) -> list[str]:
    """Sentences on inference, start and memory, where they were measured."""
    parts, found = report["parts"], []
    for case in parts.get("inference", {"cases": []})["cases"]:
        if (case["row"], case["batch"]) == ("T3", 1):
            times_taken = ", ".join(
                f"{tables.duration(case['servers'][key]['microseconds'][1])} {what}"
                for key, what in (
                    ("fastnn", "with `predict`"),
                    ("fastnn compiled", "with `compiled_predict`"),
                    ("onnxruntime", "with ONNX Runtime"),
                )
                if key in case["servers"]
            )
            found.append(f"One row through {case['layers']} takes {times_taken}.")
    if "start" in parts:
        seconds = {k: v["seconds"][1] for k, v in parts["start"]["processes"].items()}
        text = (
            "A process that fits a small network takes "
            f"{seconds['fastnn, first fit of a second process']:.2f} s from start to end, the very "
            f"first on a machine {seconds[FRESH]:.1f} s"
        )
        if "import torch" in seconds:
            text += f"; `import torch` alone takes {seconds['import torch']:.2f} s"
        found.append(f"{text}.")
    if "memory" in parts:
        peaks = parts["memory"]["megabytes"]
        others = ", ".join(
            f"{NAMES[name]} {megabytes:.0f} MB"
            for name, megabytes in peaks.items()
            if name in NAMES
        )
        text = f"Fitting 784-512-512-10, a process takes {peaks['fastnn']:.0f} MB of memory"
        found.append(f"{text} ({others}).")
    return found


def source(report: Report, path: Path) -> str:
    """Where the figures are, and how they are made again."""
    return (
        f"Every figure with its spread is in `benchmarks/results/{path.name}`, made by "
        f"`{report['command']}` ({reports.versions(report)}); this text and table by "
        "`python -m benchmarks.readme`."
    )


def wrapped(text: str) -> str:
    """Lines of at most 100 characters; words, and code between backticks, are kept whole."""
    import re
    import textwrap

    kept = re.sub("`[^`]*`", lambda code: code.group().replace(" ", "\0"), text)
    filled = textwrap.fill(kept, 100, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\0", " ")


def current(text: str) -> str:
    """What stands between the markers of `text`.

    Raises
    ------
    ValueError
        If the markers are not there.
    """
    _, begun, rest = text.partition(BEGIN)
    inside, ended, _ = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"README.md: {BEGIN} or {END} is missing")
    return inside.strip("\n")


def replaced(text: str, inside: str) -> str:
    """`text` with `inside` between its markers."""
    current(text)  # they are there
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{inside}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite README's figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a results file of benchmarks.compare")
    path = parser.parse_args(arguments).file or reports.newest("cpu")
    README.write_text(replaced(README.read_text(encoding="utf-8"), block(path)), encoding="utf-8")
    print(f"README.md: figures of {path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
