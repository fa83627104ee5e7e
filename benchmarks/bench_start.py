"""asv: what a process pays before its first step: the import, and a first fit cold and warm."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

# A small network on data that costs nothing to make.
FIRST_FIT = """
import numpy as np, fastnn
model = fastnn.Sequential(
    [fastnn.Dense(16, activation="relu"), fastnn.Dense(3, activation="softmax")],
    input_shape=(8,), seed=0)
model.compile(optimizer=fastnn.Adam(1e-3), loss="categorical_crossentropy")
model.fit(np.ones((64, 8), np.float32), np.arange(64) % 3, batch_size=16, epochs=1, verbose=0)
"""


def first_fit_seconds(cache: str) -> float:
    """Wall time of a whole process that fits a small network with `cache` as its only cache."""
    environment = os.environ | {"FASTNN_CACHE_DIR": cache, "NUMBA_CACHE_DIR": cache}
    start = time.perf_counter()
    # stderr is kept: with it, asv reports why a first fit failed.
    subprocess.run(
        [sys.executable, "-c", FIRST_FIT], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


class Start:
    """Whole processes, from the interpreter's start to its end."""

    version = "1"
    timeout = 300.0
    unit = "seconds"

    def setup(self) -> None:
        try:
            import fastnn
        except ImportError as error:
            raise NotImplementedError(str(error)) from error
        if not hasattr(fastnn, "Sequential"):
            raise NotImplementedError("this fastnn has no Sequential yet")

    def timeraw_import(self) -> str:
        return "import fastnn"

    def track_first_compile_seconds(self) -> float:
        with tempfile.TemporaryDirectory() as cache:
            return first_fit_seconds(cache)

    def track_warm_fit_seconds(self) -> float:
        with tempfile.TemporaryDirectory() as cache:
            first_fit_seconds(cache)
            return min(first_fit_seconds(cache) for _ in range(5))
