"""What tests of whole processes share: how to start one, what it may begin with, what it says."""

import os
import subprocess
import sys
from pathlib import Path

import fastnn

# Where children run: there `python -c` finds this very fastnn before any other.
PLACE = Path(fastnn.__file__).parent.parent

SMALL = """
import fastnn, json, os, sys
import numpy as np

def network(*widths, **options):
    layers = [fastnn.Dense(width, "relu") for width in widths]
    layers += [fastnn.Dropout(0.1), fastnn.Dense(10, "softmax")]
    model = fastnn.Sequential(layers, seed=0, **options)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model

x = np.random.default_rng(0).random((512, 20), np.float32)
y = np.arange(512) % 10
"""


WARM = (
    SMALL
    + """
model = network(16)
model.fit(x, y, epochs=2, verbose=0)
model.predict(x)
model.evaluate(x, y)
found = [name for name in sys.argv[1:] if sys.modules.get(name)]
assert not found, found
"""
)


def command(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]


def python(code: str, *arguments: object, **changes: str) -> str:
    """What a fresh process prints; it must succeed, and write nothing to stderr."""
    done = subprocess.run(
        command(code, *arguments),
        env={**os.environ, **changes},
        cwd=PLACE,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def said(child: subprocess.Popen[str], word: str) -> str:
    assert child.stdout is not None
    line = child.stdout.readline().split()
    assert line[:1] == [word], line
    return line[-1]


def git(folder: Path, *arguments: str) -> str:
    """What a git command prints that is run in the repository `folder`, as its author."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
