"""T3 and T6 otherwise: in float64, with dropout, with plain SGD."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks import machine, tables
from benchmarks.grid import GRID
from benchmarks.parts.training import add_floors, compare_row
from benchmarks.peers import PEERS

if TYPE_CHECKING:
    from benchmarks.parts import Settings

ROWS = ("T3", "T6")
PEER_NAMES = ("fastnn", "torch", "jax")
"""Those in whose manner the variants are spelt out."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("float32", {}),
    "float64": ("float64", {}),
    "dropout 0.2": ("float32", {"dropout": 0.2}),
    "SGD": ("float32", {"optimizer": "sgd"}),
}


def measure(settings: Settings) -> dict[str, Any]:
    """Every variant's figures; the plain row is measured beside them, in the same process."""
    peers = [PEERS[name] for name in PEER_NAMES if name in settings.peers]
    found = []
    for name in ROWS[:1] if settings.quick else ROWS:
        for variant, (dtype, changes) in VARIANTS.items():
            row = compare_row(replace(GRID[name], **changes), dtype, peers, settings)
            found.append({"variant": variant, **row})
    for dtype in ("float32", "float64"):
        rows = [row for row in found if row["dtype"] == dtype]
        add_floors(rows, machine.gemm_peak(dtype))
    return {"rows": found}


def rates(data: dict[str, Any]) -> dict[tuple[str, str], float]:
    """fastnn's rate in a row and variant as a share of its rate in the plain row."""
    own = {
        (row["row"], row["variant"]): row["peers"]["fastnn"]["microseconds"][1]
        for row in data["rows"]
    }
    return {(row, variant): own[row, "float32"] / own[row, variant] for row, variant in own}


def show(data: dict[str, Any]) -> None:
    """Print the variants, and fastnn's rate in each as a share of the plain row's."""
    cases = [(f"{row['row']} {row['variant']}", row["peers"]) for row in data["rows"]]
    print(tables.compared(cases))
    print("\nfastnn's rate as a share of its rate in float32 with Adam and no dropout:")
    lines = [(row, variant, f"{rate:.2f}") for (row, variant), rate in rates(data).items()]
    print(tables.columns(("", "", "rate"), lines))
