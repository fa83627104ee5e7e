"""fastnn beside its peers: ``python -m benchmarks.compare``.

Runs every part of the comparison (`benchmarks.parts`), each in a process of its own that is pinned
to one core or to all, one after the other; prints their tables and a summary, and writes
``benchmarks/results/cpu-<date>.json``. Figures are medians and, in brackets, quartiles; contestants
alternate, and a ratio is taken within a round. A part that fails ends the run.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import RESULTS, machine, summary
from benchmarks.grid import GRID
from benchmarks.parts import PARTS, Settings
from benchmarks.peers import PEERS
from benchmarks.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ROOT = Path(__file__).parents[1]
QUICK_ROWS = ("T2", "T6")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, print its tables, and write them to a file."""
    options = parse(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    begin = time.perf_counter()
    report = head(options, " ".join(["python -m benchmarks.compare", *given]))
    print_head(report)
    for name in options.parts:
        part = PARTS[name]
        print(f"\n== {part.title}", flush=True)
        settings = settings_of(name, options)
        if part.needs_several and settings.threads == 1:
            print("left out: this process may use one core only")
            continue
        report["parts"][name] = run_part(name, settings)
        part.load().show(report["parts"][name])
        sys.stdout.flush()
    report["summary"] = summary.summarise(report["parts"])
    print("\n== Summary")
    summary.show(report["summary"])
    report["wall_seconds"] = time.perf_counter() - begin
    path = options.output or RESULTS / f"{file_stem(report, options)}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path.name} after {report['wall_seconds'] / 60:.1f} minutes")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; names of parts, rows and peers are checked here."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description="fastnn beside its peers."
    )
    parser.add_argument(
        "--parts", type=_names(PARTS), default=list(PARTS), help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--rows", type=_names(GRID), default=None, help="of the grid: T2,T3")
    parser.add_argument(
        "--peers",
        type=_names(PEERS),
        default=[name for name, peer in PEERS.items() if peer.installed()],
        help="in training, such as fastnn,torch; ratios are to the first (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="a contestant's time in a case, once it has had its least turns (default: 2)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few turns on few rows: whether everything works"
    )
    parser.add_argument("--output", type=Path, help="the results file")
    options = parser.parse_args(arguments)
    if options.peers[0] != "fastnn":
        parser.error("--peers: the first must be fastnn")
    return options


def _names(known: Collection[str]) -> Any:
    """A type for argparse: names from `known`, separated by commas."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return names


def settings_of(name: str, options: argparse.Namespace) -> Settings:
    """What the part called `name` is told."""
    rows = options.rows or (QUICK_ROWS if options.quick else GRID)
    threads = len(machine.available_cores()) if PARTS[name].all_cores else 1
    return Settings(threads, options.seconds, options.quick, tuple(rows), tuple(options.peers))


def run_part(name: str, settings: Settings) -> dict[str, Any]:
    """What the part called `name` found, in a process of its own.

    Raises
    ------
    SystemExit
        If it failed; its traceback stands on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        text = json.dumps(dataclasses.asdict(settings))
        command = [sys.executable, "-m", "benchmarks.part", name, str(path), text]
        done = subprocess.run(command, cwd=ROOT)
        if done.returncode != 0:
            raise SystemExit(f"compare: the part {name} failed")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def head(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """The report's beginning: machine, versions, and which peers there are not."""
    packages = dict.fromkeys(p for name in options.peers for p in PEERS[name].packages)
    packages |= dict.fromkeys(p for server in SERVERS.values() for p in server.packages)
    known = PEERS | SERVERS
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "quick": options.quick,
        "cpu": machine.cpu_name(),
        "cores": len(machine.available_cores()),
        "versions": machine.versions("numpy", *packages),
        "missing": [name for name in known if not known[name].installed()],
        "parts": {},
    }


def print_head(report: dict[str, Any]) -> None:
    """Print the machine, the versions and who is missing."""
    print(f"{report['cpu']}, {report['cores']} cores")
    print(", ".join(f"{name} {version}" for name, version in report["versions"].items()))
    print(f"not installed: {', '.join(report['missing']) or 'none of the peers'}")


def file_stem(report: dict[str, Any], options: argparse.Namespace) -> str:
    """Name of the results file: the date, then whatever was left out."""
    parts = ["cpu", report["date"]]
    if options.quick:
        parts.append("quick")
    if options.parts != list(PARTS):
        parts += options.parts
    if options.rows:
        parts += options.rows
    if len(options.peers) < len(PEERS):
        parts += options.peers
    return "-".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
