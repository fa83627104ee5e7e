"""T6 on all cores while another process keeps one of them busy, against the same undisturbed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks import tables
from benchmarks.grid import GRID, make_data
from benchmarks.machine import available_cores
from benchmarks.peers import PEERS
from benchmarks.rounds import alternate, figures

if TYPE_CHECKING:
    from benchmarks.parts import Settings
    from benchmarks.peers import Peer

ROW = "T6"
PEER_NAMES = ("fastnn", "torch", "jax")
BUSY = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [int(sys.argv[1])])
print("busy", flush=True)
while True:
    pass
"""


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """A process of the same priority that does nothing but keep the last core busy."""
    core = str(available_cores()[-1])
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, core], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


def measure(settings: Settings) -> dict[str, Any]:
    """Each peer's microseconds a step, undisturbed and disturbed in alternation."""
    row = GRID[ROW]
    x, y = make_data(row)
    found = {}
    for name in PEER_NAMES:
        if name not in settings.peers:
            continue
        print(f"  {name}", file=sys.stderr, flush=True)
        peer = PEERS[name]()
        peer.prepare(x, y, row, settings.threads)
        peer.warm_up()
        turns = {
            "undisturbed": _turn(peer, row.epochs),
            "disturbed": _disturbed(peer, row.epochs),
        }
        found[name] = figures(alternate(turns, settings.pace))
    return {"row": ROW, "threads": settings.threads, "cores": os.cpu_count(), "peers": found}


def _turn(peer: Peer, epochs: int) -> Any:
    return lambda: peer.turn(epochs)


def _disturbed(peer: Peer, epochs: int) -> Any:
    def turn() -> float:
        with busy_neighbour():
            return peer.turn(epochs)

    return turn


def show(data: dict[str, Any]) -> None:
    """Print both times of each peer; a ratio is disturbed to undisturbed."""
    print(tables.compared(list(data["peers"].items())))
