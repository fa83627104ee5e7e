"""Packs: all ops compiled ahead for a level of CPUs, carried by a wheel or put into a container.

A pack is one file, checked as a whole: either all of its ops are used or none. It is used where
it was compiled from the very kernels that are installed, and its level is the highest whose
features this CPU all has: a lower level's code would be slower than what Numba makes here. Then it
comes before the cache: what a process computes is a function of the package and the machine, never
of what has been compiled before.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastnn.engine import cache

if TYPE_CHECKING:
    from fastnn.engine.compiler import Compiled, Key

FOLDER = Path(__file__).resolve().parent.parent / "objects"
"""Where packs are looked for: in the installed package."""

_V3 = """cmov cx8 fxsr mmx sse sse2 cx16 popcnt sahf sse3 sse4.1 sse4.2 ssse3
    avx avx2 bmi bmi2 f16c fma lzcnt movbe xsave""".split()


class Level(NamedTuple):
    """A level of CPUs: its machine, the features that all its CPUs have, and how code is tuned."""

    machine: str
    features: list[str]
    tuning: tuple[str, ...] = ()


# The x86-64 psABI's levels, under LLVM's names, highest first. LLVM would keep to vectors of 32
# bytes where no CPU is named; on Zen 4 that makes the transcendentals a third slower.
LEVELS = {
    "x86-64-v4": Level(
        "x86_64",
        [*_V3, *"avx512f avx512bw avx512cd avx512dq avx512vl".split()],
        ("-prefer-256-bit",),
    ),
    "x86-64-v3": Level("x86_64", _V3),
}

_MAGIC = b"fastnn pack 1\n"


class Pack(NamedTuple):
    """A pack in use: its level, and each op's object file and symbol."""

    level: str
    ops: Mapping[str, Compiled]


def path_of(level: str, folder: Path | None = None) -> Path:
    """The file of a level's pack."""
    return (folder or FOLDER) / f"{level}.pack"


def origin(level: str) -> dict[str, str]:
    """What must be the same where a pack is made and where it is used."""
    return {
        "level": level,
        "machine": platform.machine(),
        "system": sys.platform,
        "sources": cache.hash_of_sources().hex(),
    }


def write(path: Path, origin: Mapping[str, str], ops: Mapping[Key, Compiled]) -> None:
    """Make a pack of compiled ops."""
    index: dict[str, tuple[str, int, int]] = {}
    content = b""
    for key, (object_file, symbol) in sorted(ops.items()):
        index[".".join(key)] = (symbol, len(content), len(object_file))
        content += object_file
    manifest = json.dumps({"origin": origin, "ops": index}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    cache.replace(path, cache.seal(_MAGIC, cache.join(manifest, content)))


def _read(level: str) -> Pack | None:
    """The pack of a level, if it is there, whole, and made from the installed kernels."""
    try:
        body = cache.unseal(_MAGIC, path_of(level).read_bytes())
    except OSError:
        return None
    if body is None:
        return None
    head, content = cache.split(body)
    manifest = json.loads(head)
    if manifest["origin"] != origin(level):
        return None
    return Pack(
        level,
        {
            key: (content[offset : offset + size], symbol)
            for key, (symbol, offset, size) in manifest["ops"].items()
        },
    )


@once
def chosen() -> Pack | None:
    """The pack that this process uses, if any.

    None where the environment sets how Numba compiles: then ops are compiled that way.
    """
    if not FOLDER.is_dir() or any(name in os.environ for name in cache.NUMBA_SETTINGS):
        return None
    import llvmlite.binding as llvm

    host = llvm.get_host_cpu_features()
    for name, level in LEVELS.items():
        if platform.machine() == level.machine and all(host.get(f) for f in level.features):
            return _read(name)
    return None


def read(key: str) -> Compiled | None:
    """The object file and symbol of an op in the pack that this process uses."""
    pack = chosen()
    return None if pack is None else pack.ops.get(key)
