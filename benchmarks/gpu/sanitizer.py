"""A small training under NVIDIA's compute-sanitizer, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys

from benchmarks.gpu.stage import Findings

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")

SMALL = """
import numpy as np, fastnn
x = np.random.default_rng(0).standard_normal((70, 13), dtype=np.float32)
model = fastnn.Sequential([fastnn.Dense(17, activation="relu"), fastnn.Dropout(0.2),
                           fastnn.Dense(3, activation="softmax")], input_shape=(13,), device="cuda")
model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
model.fit(x, np.arange(70) % 3, batch_size=32, epochs=1, verbose=0)
model.predict(x)
"""


def measure(found: Findings, simulated: bool) -> None:
    """Each tool's word."""
    program = shutil.which("compute-sanitizer")
    if program is None or simulated:
        found["missing"] = "compute-sanitizer"
        return
    for tool in TOOLS:
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SMALL]
        done = subprocess.run(command, capture_output=True, text=True)
        found[tool] = "clean" if done.returncode == 0 else done.stdout.splitlines()[-20:]
        found.keep()
