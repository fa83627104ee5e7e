"""The training grid: every peer on every row, beside the least time that a step could take.

That floor comes of two measurements of the same run: the matrix products at the rate of a
large one, and the optimizer's bytes at the rate of a copy of the same footprint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks import machine, tables
from benchmarks.grid import GRID, make_data
from benchmarks.peers import ONE_THREAD, PEERS, FastNNOneThread, Peer
from benchmarks.rounds import alternate, figures

if TYPE_CHECKING:
    from benchmarks.grid import Row
    from benchmarks.parts import Settings


def measure(settings: Settings) -> dict[str, Any]:
    """Every row's figures, in microseconds a step."""
    peers: list[type[Peer]] = [PEERS[name] for name in settings.peers]
    if settings.threads > 1:
        peers.insert(1, FastNNOneThread)
    # A ceiling is the best of the whole run, since other work on the machine only lowers it.
    rates, rows = [machine.gemm_peak()], []
    for name in settings.rows:
        rows.append(compare_row(GRID[name], "float32", peers, settings))
        rates.append(machine.gemm_peak())
    add_floors(rows, max(rates))
    return {"threads": settings.threads, "gemm_gflops": max(rates) / 1e9, "rows": rows}


def compare_row(
    row: Row, dtype: str, kinds: Sequence[type[Peer]], settings: Settings
) -> dict[str, Any]:
    """Train every peer on `row` in alternation."""
    x, y = make_data(row, dtype)
    peers = {kind.name: kind() for kind in kinds}
    for name, peer in peers.items():
        print(f"  {row.name} {dtype}: {name} gets ready", file=sys.stderr, flush=True)
        peer.prepare(x, y, row, settings.threads)
        peer.warm_up()
    epochs = 1 if settings.quick else row.epochs
    turns = {name: _turn(peer, epochs) for name, peer in peers.items()}
    found = figures(alternate(turns, settings.pace))
    for name, peer in peers.items():
        found[name]["loss"] = peer.loss()
        found[name]["threads"] = peer.threads
    itemsize = x.dtype.itemsize
    footprint = row.optimizer_footprint(itemsize)
    return {
        "row": row.name,
        "layers": row.layers,
        "batch": row.batch,
        "dtype": dtype,
        "optimizer": row.optimizer,
        "dropout": row.dropout,
        "steps": row.steps * epochs,
        "flops": row.flops,
        "optimizer_bytes": row.optimizer_bytes(itemsize),
        "copy_gbytes": machine.copy_bandwidth(footprint, settings.threads) / 1e9,
        "peers": found,
    }


def _turn(peer: Peer, epochs: int) -> Any:
    return lambda: peer.turn(epochs)


def add_floors(rows: Sequence[dict[str, Any]], flops_rate: float) -> None:
    """Add each row's floor, and its share of each peer's time."""
    for row in rows:
        copying = row["optimizer_bytes"] / (row["copy_gbytes"] * 1e9)
        floor = (row["flops"] / flops_rate + copying) * 1e6
        row["floor_microseconds"] = floor
        for found in row["peers"].values():
            found["of_floor"] = floor / found["microseconds"][1]


def best_peer(row: dict[str, Any]) -> str | None:
    """The fastest in a row that is not fastnn."""
    others = {
        name: found["microseconds"][1]
        for name, found in row["peers"].items()
        if name not in ("fastnn", ONE_THREAD)
    }
    return min(others, key=others.__getitem__) if others else None


def label(row: dict[str, Any]) -> str:
    """A row's name and network."""
    return f"{row['row']} {row['layers']} x {row['batch']}"


def show(data: dict[str, Any]) -> None:
    """Print the rows, each peer in a line, and the floors."""
    print(tables.compared([(label(row), row["peers"]) for row in data["rows"]]))
    print(
        f"\nshare of the roofline (matrix products at {data['gemm_gflops']:.1f} GFLOP/s, the "
        "optimizer as a copy), and final loss:"
    )
    lines = []
    for row in data["rows"]:
        for index, (name, found) in enumerate(row["peers"].items()):
            first = (
                (label(row), tables.duration(row["floor_microseconds"])) if not index else ("",) * 2
            )
            threads = str(found["threads"])
            lines.append(
                (*first, name, threads, f"{found['of_floor']:.0%}", f"{found['loss']:.4f}")
            )
    print(tables.columns(("", "floor", "", "threads", "share", "loss"), lines))
