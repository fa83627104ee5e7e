"""What a process pays before its first step: whole processes, from start to end, by the wall."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks import tables
from benchmarks.bench_start import FIRST_FIT
from benchmarks.peers import PEERS
from benchmarks.rounds import Pace, alternate, figures

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.parts import Settings

TORCH_STEP = """
import torch
from torch import nn
x, y = torch.ones(64, 8), torch.arange(64) % 3
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
nn.functional.cross_entropy(net(x), y).backward()
optimizer.step()
"""

JAX_STEP = """
import jax, jax.numpy as jnp
x, y = jnp.ones((64, 8)), jnp.arange(64) % 3
def loss(w):
    z = jax.nn.relu(x @ w[0] + w[1]) @ w[2] + w[3]
    return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(64), y])
step = jax.jit(lambda w: [a - 1e-3 * g for a, g in zip(w, jax.grad(loss)(w))])
key = jax.random.key(0)
w = [jax.random.normal(key, (8, 16)), jnp.zeros(16), jax.random.normal(key, (16, 3)), jnp.zeros(3)]
jax.block_until_ready(step(w))
"""

SCRIPTS = {  # name: (the module without which it cannot run, the script)
    "python alone": (None, "pass"),
    "import numpy": ("numpy", "import numpy"),
    "import fastnn": ("fastnn", "import fastnn"),
    "fastnn, first fit of a second process": ("fastnn", FIRST_FIT),
    "import torch": ("torch", "import torch"),
    "torch, one step": ("torch", TORCH_STEP),
    "import jax": ("jax", "import jax"),
    "jax, one step": ("jax", JAX_STEP),
}
FRESH = "fastnn, first fit with an empty cache"
FEW = Pace(seconds=0, least=3)  # it takes many seconds, and varies little


def seconds_of(script: str, cache: str) -> float:
    """Wall time of a process that runs `script`, with `cache` for what fastnn compiles."""
    environment = os.environ | {"FASTNN_CACHE_DIR": cache, "NUMBA_CACHE_DIR": cache}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds of each process, in alternation; a first fit compiles anew every time."""
    absent = {name for name, peer in PEERS.items() if not peer.installed()}
    with tempfile.TemporaryDirectory() as cache:

        def turn(script: str) -> Callable[[], float]:
            return lambda: seconds_of(script, cache)

        turns = {
            name: turn(script) for name, (needs, script) in SCRIPTS.items() if needs not in absent
        }
        # One before, so that files lie in the system's cache and a second process has a first.
        for each in turns.values():
            each()
        found = figures(alternate(turns, settings.pace), scale=1.0, unit="seconds")

    def fresh() -> float:
        with tempfile.TemporaryDirectory() as empty:
            return seconds_of(FIRST_FIT, empty)

    pace = settings.pace if settings.quick else FEW
    found |= figures(alternate({FRESH: fresh}, pace), scale=1.0, unit="seconds")
    for each in found.values():
        del each["ratio"]
    return {"processes": found}


def show(data: dict[str, Any]) -> None:
    """Print each process's time."""
    lines = [
        (name, f"{tables.spread(found['seconds'], 3)} s", str(found["turns"]))
        for name, found in data["processes"].items()
    ]
    print(tables.columns(("", "wall time", "turns"), lines))
