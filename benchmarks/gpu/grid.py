"""Training steps beside PyTorch, eager and compiled with CUDA graphs, and JAX's scanned epochs."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any
from unittest import mock

from benchmarks.gpu.stage import Findings
from benchmarks.grid import GRID, make_data
from benchmarks.peers import Peer
from benchmarks.peers.on_gpu import ON_GPU
from benchmarks.rounds import Pace, alternate, figures
from fastnn.engine.cuda import executor

ORDER = ("T4", "T2", "T6", "T7", "T8", "T3", "T5", "T1")
"""Rows by what they tell, should time run out."""

PACE = Pace(seconds=0.5, least=3, slow=2, most=7)


def host_seconds(peer: Peer) -> float:
    """What a step takes of the host's time: to begin it, without waiting for its end."""
    launched: list[tuple[float, int]] = []
    run = executor.Linked.run

    def timed(linked: executor.Linked, steps: int) -> None:
        begin = time.perf_counter()
        run(linked, steps)
        launched.append((time.perf_counter() - begin, steps))

    with mock.patch.object(executor.Linked, "run", timed):
        peer.turn(1)
    seconds, steps = map(sum, zip(*launched, strict=True))
    return seconds / steps


def measure(found: Findings, simulated: bool) -> None:
    """Every peer that is installed on every row, by turns."""
    kinds = {name: kind for name, kind in ON_GPU.items() if kind.installed()}
    found["missing"] = sorted(set(ON_GPU) - set(kinds))
    rows: dict[str, Any] = {}
    found["rows"] = rows
    failed: list[str] = []
    found.keep()
    for name in ORDER:
        row = GRID[name]
        if simulated:
            row = dataclasses.replace(
                row, sizes=(3, 4, row.sizes[-1] % 7 + 1), batch=4, steps=2, epochs=1
            )
        x, y = make_data(row)
        turns, peers = {}, {}
        for label, kind in kinds.items():
            print(f"  {name}: {label} gets ready", file=sys.stderr, flush=True)
            peer = kind()
            try:
                peer.prepare(x, y, row, 1)
                peer.warm_up()
            except Exception as error:  # a failure is a figure of its own
                rows.setdefault(name, {})[label] = {"failed": repr(error)[:300]}
                continue
            peers[label], turns[label] = peer, lambda peer=peer: peer.turn(1)
        if "fastnn" not in peers:
            failed.append(name)
            found.keep()
            continue
        host = host_seconds(peers["fastnn"])
        taken = figures(alternate(turns, PACE))
        taken["fastnn"]["host_microseconds"] = 1e6 * host
        for label, peer in peers.items():
            taken[label]["loss"] = peer.loss()
        rows[name] = rows.get(name, {}) | taken
        found.keep()
        if simulated:
            break
    if failed:
        raise SystemExit(f"fastnn failed on {', '.join(failed)}")
