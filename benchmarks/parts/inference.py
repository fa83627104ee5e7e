"""Inference: the probabilities of a batch, or of one row with the least overhead."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks import tables
from benchmarks.grid import GRID, make_weights
from benchmarks.rounds import alternate, figures, repeated
from benchmarks.servers import SERVERS, Serve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row
    from benchmarks.parts import Settings

CASES = (("T3", 1), *((row, batch) for row in ("T2", "T4", "T6") for batch in (1, 32, 1024)))
QUICK_CASES = CASES[:2]
ATOL = 1e-5
"""How far from the float64 result every server's float32 probabilities may be."""


def measure(settings: Settings) -> dict[str, Any]:
    """Microseconds a call of every server in every case."""
    missing = [name for name, server in SERVERS.items() if not server.installed()]
    cases = []
    for name, batch in QUICK_CASES if settings.quick else CASES:
        print(f"  {name}, {batch} rows", file=sys.stderr, flush=True)
        cases.append(compare_case(GRID[name], batch, settings))
    return {"missing": missing, "cases": cases}


def compare_case(row: Row, batch: int, settings: Settings) -> dict[str, Any]:
    """All servers on one batch in alternation, each checked before against the oracle."""
    import numpy as np

    x = np.random.default_rng(1).standard_normal((batch, row.sizes[0]), dtype=np.float32)
    expected = probabilities(row, x)
    turns = {}
    for name, server in SERVERS.items():
        serve = server.make(row, x) if server.installed() else None
        if serve is None:
            continue
        found = np.asarray(serve(1))
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=ATOL):
            raise AssertionError(f"{name}: wrong probabilities for {row.name}, {batch} rows")
        turns[name] = _turn(serve)
    return {
        "row": row.name,
        "layers": row.layers,
        "batch": batch,
        "servers": figures(alternate(turns, settings.pace)),
    }


def _turn(serve: Serve) -> Any:
    """A turn of about 20 ms: calls in a row, none of the loop's Python counted twice."""
    probe = repeated(lambda: serve(1), 0.005)
    times = max(1, round(0.02 / probe()))
    call = repeated(lambda: serve(times), 0.0)
    return lambda: call() / times


def probabilities(row: Row, x: NDArray[Any]) -> NDArray[Any]:
    """The network's result in float64."""
    import numpy as np

    weights = make_weights(row, "float64")
    hidden = x.astype(np.float64)
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        hidden = np.maximum(hidden @ kernel + bias, 0)
    z = hidden @ weights[-2] + weights[-1]
    powers: NDArray[Any] = np.exp(z - z.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def show(data: dict[str, Any]) -> None:
    """Print every case."""
    if data["missing"]:
        print(f"not installed: {', '.join(data['missing'])}")
    cases = [
        (f"{case['row']} {case['layers']} x {case['batch']}", case["servers"])
        for case in data["cases"]
    ]
    print(tables.compared(cases))
