"""fastnn beside its peers on the grid, in one process: ``python -m benchmarks.compare``.

The process is pinned to as many cores as there are threads. In each round every peer in turn trains
for the same number of steps, so that a change in the machine's mood meets all of them; a ratio is
taken within a round. Printed are medians and, in brackets, quartiles. The floor is the least time
that a step could take: its matrix products at the rate of a large one, and the optimizer's bytes at
the rate of a copy of the same footprint, both measured in the same run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.grid import GRID, make_data
from benchmarks.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from benchmarks.grid import Row

RESULTS = Path(__file__).parent / "results"
EPOCHS = 5  # a timing is one fit of so many, so that what is done once a fit counts as for a user
ROUNDS = (5, 30)  # at least, so that quartiles mean something; at most


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, print its table, and write it to ``benchmarks/results``."""
    options = parse(arguments)
    try:
        cores = machine.pin(options.threads)
    except ValueError as error:
        raise SystemExit(f"compare: {error}") from None
    packages = [package for name in options.peers for package in PEERS[name].packages]
    report: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.compare", *(arguments or sys.argv[1:])]),
        "date": datetime.date.today().isoformat(),
        "cpu": machine.cpu_name(),
        "cores": cores,
        "threads": options.threads,
        "dtype": options.dtype,
        "versions": machine.versions("numpy", *packages),
        "rows": [],
    }
    print_head(report)
    flops_rate = 0.0
    for name in options.rows:
        # A ceiling: the best of the run so far, since other work on the machine only lowers it.
        flops_rate = max(flops_rate, machine.gemm_peak(options.dtype))
        result = compare_row(GRID[name], options, flops_rate)
        report["rows"].append(result)
        print_row(result)
    path = RESULTS / f"{file_stem(report, options)}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\nceiling of matrix products: {flops_rate / 1e9:.1f} GFLOP/s")
    print(f"written to benchmarks/results/{path.name}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; names of rows and peers are checked here."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description="fastnn beside its peers on the grid."
    )
    installed = [name for name, peer in PEERS.items() if peer.installed()]
    parser.add_argument("--rows", type=_names(GRID), default=list(GRID), help="such as T2,T3")
    parser.add_argument(
        "--peers",
        type=_names(PEERS),
        default=installed,
        help="such as fastnn,torch; ratios are to the first (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="cores and threads (default: 1)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help=f"time for a row and peer; {ROUNDS[0]} rounds at least (default: 2)",
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    return parser.parse_args(arguments)


def _names(known: Collection[str]) -> Any:
    """A type for argparse: names from `known`, separated by commas."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return names


def compare_row(row: Row, options: argparse.Namespace, flops_rate: float) -> dict[str, Any]:
    """Train every peer on `row` in alternation; the row's figures, in microseconds a step.

    `flops_rate` is the ceiling of the matrix products, FLOP/s.
    """
    x, y = make_data(row, options.dtype)
    peers = {name: PEERS[name]() for name in options.peers}
    for peer in peers.values():
        peer.prepare(x, y, row, options.threads)
        peer.run(row.steps)  # compiles what is to be compiled, warms caches
    times: dict[str, list[float]] = {name: [] for name in peers}
    begin = time.perf_counter()
    for done in range(ROUNDS[1]):
        if done >= ROUNDS[0] and time.perf_counter() - begin > options.seconds * len(peers):
            break
        for name, peer in peers.items():
            peer.restart()
            start = time.perf_counter()
            peer.run(row.steps * EPOCHS)
            times[name].append((time.perf_counter() - start) / (row.steps * EPOCHS) * 1e6)

    itemsize = x.dtype.itemsize
    byte_rate = machine.copy_bandwidth(4 * itemsize * row.parameters)
    floor = (row.flops / flops_rate + row.optimizer_bytes(itemsize) / byte_rate) * 1e6
    first = times[options.peers[0]]
    figures = {}
    for name, peer in peers.items():
        microseconds = quartiles(times[name])
        ratios = [own / other for own, other in zip(times[name], first, strict=True)]
        figures[name] = {
            "microseconds": microseconds,
            "ratio": quartiles(ratios),
            "roofline": floor / microseconds[1],
            "loss": peer.loss(),
        }
    return {
        "row": row.name,
        "layers": row.layers,
        "batch": row.batch,
        "loss": row.loss,
        "steps": row.steps * EPOCHS,
        "rounds": len(first),
        "ceiling_gflops": flops_rate / 1e9,
        "ceiling_gbytes": byte_rate / 1e9,
        "floor_microseconds": floor,
        "peers": figures,
    }


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    import numpy as np

    low, middle, high = np.percentile(values, (25, 50, 75))
    return float(low), float(middle), float(high)


def print_head(report: dict[str, Any]) -> None:
    """Print the machine, the versions and the table's head."""
    found = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    cores = ", ".join(map(str, report["cores"]))
    print(f"{report['cpu']}, core {cores}; threads: {report['threads']}; {report['dtype']}")
    print(f"{found}\n")
    print(
        f"{'row':4}{'layers':20}{'batch':>6}{'floor us':>10}  {'peer':8}{'us a step':>10}"
        f"{'':22}{'ratio':>7}{'':16}{'of roofline':>12}{'loss':>8}"
    )


def print_row(result: dict[str, Any]) -> None:
    """Print one row of the grid, a line for each peer."""
    head = f"{result['row']:4}{result['layers']:20}{result['batch']:>6}"
    head += f"{result['floor_microseconds']:>10.2f}"
    for name, figures in result["peers"].items():
        low, middle, high = figures["microseconds"]
        spread = f"[{low:.5g} {high:.5g}]"
        ratio_low, ratio, ratio_high = figures["ratio"]
        ratio_spread = f"[{ratio_low:.2f} {ratio_high:.2f}]"
        print(
            f"{head:40}  {name:8}{middle:>10.5g} {spread:21}{ratio:>7.2f} {ratio_spread:15}"
            f"{figures['roofline']:>12.1%}{figures['loss']:>8.3f}",
            flush=True,
        )
        head = ""


def file_stem(report: dict[str, Any], options: argparse.Namespace) -> str:
    """Name of the results file: the date, then whatever was not the default."""
    parts = ["cpu", report["date"]]
    if options.rows != list(GRID):
        parts += options.rows
    if options.threads != 1:
        parts.append(f"{options.threads}threads")
    if options.dtype != "float32":
        parts.append(options.dtype)
    return "-".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
