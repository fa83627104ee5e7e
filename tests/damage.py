"""Files cut off at every place, and with one byte changed: ``python tests/damage.py 10000``.

Whatever is loaded must be the very model that was saved; all else is a ValueError.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import serialization
from fastnn.callbacks import Checkpoint


def checkpoint(path: Path) -> bytes:
    """A file with something of everything: layers in layers, statistics, a fit half-way."""
    x = np.random.default_rng(1).random((20, 5))
    scaled = fastnn.Normalization()
    scaled.adapt(x)
    inner = [fastnn.Dense(4, "relu"), fastnn.Dense(5)]
    layers = [scaled, fastnn.Residual(inner), fastnn.BatchNormalization(), fastnn.Dense(2)]
    model = fastnn.Sequential(layers, seed=3)
    model.compile(fastnn.Adam(fastnn.schedules.CosineDecay(0.1, 50)), "mse", ["r2_score"])
    halfway = Checkpoint(path, every_steps=5)
    model.fit(x, x[:, :2], batch_size=5, epochs=2, verbose=0, callbacks=[halfway])
    return path.read_bytes()


def contents(path: Path) -> tuple[Any, ...]:
    """All that `load` gives, and all that `resume_from` reads, in a form that can be compared."""
    model = fastnn.load(path)
    loaded = model.get_config(), [array.tobytes() for array in model._arrays().values()]
    description, arrays = serialization.read(path)
    return *loaded, description, {name: array.tobytes() for name, array in arrays.items()}


def flips(content: bytes, count: int, end: int, seed: int = 0) -> Iterator[bytes]:
    """`content` with one byte among the first `end` changed, `count` times, at random."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        damaged = bytearray(content)
        damaged[rng.integers(end)] ^= rng.integers(1, 256)
        yield bytes(damaged)


def survivors(path: Path, damaged: Iterable[bytes]) -> int:
    """How many files load, and then as the whole one does; the others are refused."""
    expected = contents(path)
    loaded = 0
    for content in damaged:
        path.unlink()  # a file that is written over in place is flushed at once, and slow
        path.write_bytes(content)
        try:
            found = contents(path)
        except ValueError:
            continue
        assert found == expected, "a damaged file was believed"
        loaded += 1
    return loaded


def main(count: int) -> None:
    """Every place to cut at, so many bytes anywhere and as many in the description."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        content = checkpoint(path)
        header = 8 + int.from_bytes(content[:8], "little")
        kinds = {
            "cut off": (len(content), (content[:length] for length in range(len(content)))),
            "a byte changed": (count, flips(content, count, len(content))),
            "a byte of the header changed": (count, flips(content, count, header)),
        }
        print(f"{len(content)} bytes, {header} of them header")
        for kind, (files, damaged) in kinds.items():
            path.write_bytes(content)
            begin = time.perf_counter()
            loaded = survivors(path, damaged)
            seconds = time.perf_counter() - begin
            print(f"{kind}: {files} files, {loaded} loaded unchanged, {seconds:.1f} s")
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")


if __name__ == "__main__":
    main(int(sys.argv[1]))
