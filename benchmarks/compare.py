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
import importlib
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
    for name in options.peers:
        importlib.import_module(PEERS[name].module)
    packages = [package for name in options.peers for package in PEERS[name].packages]
    given = sys.argv[1:] if arguments is None else arguments
    report: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.compare", *given]),
        "date": datetime.date.today().isoformat(),
        "cpu": machine.cpu_name(),
        "cores": cores,
        "threads": options.threads,
        "dtype": options.dtype,
        "versions": machine.versions("numpy", *packages),
        "rows": [],
    }
    print_head(report)
    flops_rates = [machine.gemm_peak(options.dtype)]
    for name in options.rows:
        result = compare_row(GRID[name], options)
        report["rows"].append(result)
        print_row(result)
        flops_rates.append(machine.gemm_peak(options.dtype))
    # A ceiling is the best of the whole run, since other work on the machine only lowers it.
    add_floors(report, max(flops_rates))
    print_floors(report)
    path = RESULTS / f"{file_stem(report, options)}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to benchmarks/results/{path.name}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; names of rows and peers are checked here."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description="fastnn beside its peers on the grid."
    )
    parser.add_argument("--rows", type=_names(GRID), default=list(GRID), help="such as T2,T3")
    parser.add_argument(
        "--peers",
        type=_names(PEERS),
        default=installed_peers(),
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


def installed_peers() -> list[str]:
    """Names of the peers that this machine has, fastnn first."""
    return [name for name, peer in PEERS.items() if peer.installed()]


def _names(known: Collection[str]) -> Any:
    """A type for argparse: names from `known`, separated by commas."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return names


def compare_row(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Train every peer on `row` in alternation; the row's figures, in microseconds a step."""
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

    first = times[options.peers[0]]
    figures = {}
    for name, peer in peers.items():
        ratios = [own / other for own, other in zip(times[name], first, strict=True)]
        figures[name] = {
            "microseconds": quartiles(times[name]),
            "ratio": quartiles(ratios),
            "loss": peer.loss(),
        }
    itemsize = x.dtype.itemsize
    return {
        "row": row.name,
        "layers": row.layers,
        "batch": row.batch,
        "loss": row.loss,
        "steps": row.steps * EPOCHS,
        "rounds": len(first),
        "flops": row.flops,
        "optimizer_bytes": row.optimizer_bytes(itemsize),
        "copy_gbytes": machine.copy_bandwidth(4 * itemsize * row.parameters) / 1e9,
        "peers": figures,
    }


def add_floors(report: dict[str, Any], flops_rate: float) -> None:
    """Add the ceiling of the matrix products, each row's floor, and each peer's share of it."""
    report["gemm_gflops"] = flops_rate / 1e9
    for result in report["rows"]:
        copying = result["optimizer_bytes"] / (result["copy_gbytes"] * 1e9)
        floor = (result["flops"] / flops_rate + copying) * 1e6
        result["floor_microseconds"] = floor
        for figures in result["peers"].values():
            figures["of_floor"] = floor / figures["microseconds"][1]


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
        f"{'row':4}{'layers':20}{'batch':>6}  {'peer':8}{'us a step':>10}{'':22}{'ratio':>8}{'':17}"
        f"{'loss':>7}"
    )


def print_row(result: dict[str, Any]) -> None:
    """Print one row of the grid, a line for each peer."""
    head = f"{result['row']:4}{result['layers']:20}{result['batch']:>6}"
    for name, figures in result["peers"].items():
        low, middle, high = figures["microseconds"]
        spread = f"[{low:.5g} {high:.5g}]"
        ratio_low, ratio, ratio_high = figures["ratio"]
        ratio_spread = f"[{ratio_low:.2f} {ratio_high:.2f}]"
        print(
            f"{head:30}  {name:8}{middle:>10.5g} {spread:21}{ratio:>8.2f} {ratio_spread:16}"
            f"{figures['loss']:>7.3f}",
            flush=True,
        )
        head = ""


def print_floors(report: dict[str, Any]) -> None:
    """Print each row's floor, and its share of each peer's time."""
    print(f"\nmatrix products at {report['gemm_gflops']:.1f} GFLOP/s, the optimizer as a copy:")
    names = list(report["rows"][0]["peers"])
    print(f"{'row':4}{'floor us':>10}" + "".join(f"{name:>9}" for name in names))
    for result in report["rows"]:
        shares = (figures["of_floor"] for figures in result["peers"].values())
        line = "".join(f"{share:>9.0%}" for share in shares)
        print(f"{result['row']:4}{result['floor_microseconds']:>10.5g}{line}")


def file_stem(report: dict[str, Any], options: argparse.Namespace) -> str:
    """Name of the results file: the date, then whatever was not the default."""
    parts = ["cpu", report["date"]]
    if options.rows != list(GRID):
        parts += options.rows
    if options.peers != installed_peers():
        parts += options.peers
    if options.threads != 1:
        parts.append(f"{options.threads}threads")
    if options.dtype != "float32":
        parts.append(options.dtype)
    return "-".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
