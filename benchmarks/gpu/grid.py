"""Training steps beside PyTorch, eager and compiled with CUDA graphs, and JAX's scanned epochs."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any
from unittest import mock

from benchmarks.gpu.stage import Findings
from benchmarks.grid import GRID, Row, make_data
from benchmarks.peers import Peer
from benchmarks.peers.on_gpu import ON_GPU
from benchmarks.rounds import Pace, alternate, figures

ROWS = GRID | {
    row.name: row
    for row in (
        Row("narrow", (64, 64, 64, 10), 16384, "categorical_crossentropy", 20, 2),
        Row("wide", (1024, 4096, 4096, 1000), 1024, "categorical_crossentropy", 10, 1),
    )
}
"""The grid, a narrow network in large batches, and one whose products are nearly all its work."""

ORDER = ("T4", "T2", "T6", "T8", "wide", "narrow", "T7", "T3", "T5", "T1")
"""Rows by what they tell, should time run out."""

SLOW = ("torch.compile, autotuned",)
"""Peers that try out kernels for a minute a row: they come after all rows of the others."""

PACE = Pace(seconds=0.5, least=3, slow=2, most=7)


def host_seconds(peer: Peer) -> float:
    """What a step takes of the host's time: to begin it, without waiting for its end."""
    from fastnn.engine.cuda import executor

    launched: list[tuple[float, int]] = []
    run = executor.Linked.run

    def timed(linked: executor.Linked, steps: int, whole: int) -> None:
        begin = time.perf_counter()
        run(linked, steps, whole)
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
    quick = {name: kind for name, kind in kinds.items() if name not in SLOW}
    slow = {name: kind for name, kind in kinds.items() if name == "fastnn" or name in SLOW}
    for contestants in (quick, slow) if len(slow) > 1 else (quick,):
        for name in ORDER[:1] if simulated else ORDER:
            row = ROWS[name]
            if simulated:
                row = dataclasses.replace(row, sizes=(3, 4, 4), batch=4, steps=2, epochs=1)
            # What the first pass said of fastnn stays.
            rows[name] = compare(row, contestants) | rows.get(name, {})
            if "failed" in rows[name].get("fastnn", {}):
                failed.append(name)
            found.keep()
    if failed:
        raise SystemExit(f"fastnn failed on {', '.join(failed)}")


def compare(row: Row, kinds: dict[str, type[Peer]]) -> dict[str, Any]:
    """Each peer's figures on a row, or how it failed."""
    x, y = make_data(row)
    turns, peers, failed = {}, {}, {}
    for label, kind in kinds.items():
        print(f"  {row.name}: {label} gets ready", file=sys.stderr, flush=True)
        peer = kind()
        try:
            peer.prepare(x, y, row, 1)
            peer.warm_up()
        except Exception as error:  # a failure is a figure of its own
            failed[label] = {"failed": repr(error)[:300]}
            continue
        # Of as many epochs as the CPU's: a fit begins with a copy of all rows to the GPU.
        peers[label], turns[label] = peer, lambda peer=peer: peer.turn(row.epochs)
    if "fastnn" not in peers:
        return failed
    host = host_seconds(peers["fastnn"])
    taken: dict[str, Any] = figures(alternate(turns, PACE))
    taken["fastnn"]["host_microseconds"] = 1e6 * host
    for label, peer in peers.items():
        taken[label]["loss"] = peer.loss()
    return taken | failed
