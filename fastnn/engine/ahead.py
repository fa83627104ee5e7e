"""Compilation ahead of time, for a level of CPUs in place of this one."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from fastnn.engine import cache, compiler, packs
from fastnn.engine.compiler import Key, Report


def make_pack(level: str, folder: Path, keys: Sequence[Key], report: Report | None = None) -> Path:
    """Compile `keys` for a level of CPUs into a pack in `folder`; its file.

    Sets this process's environment for good, and so must come before Numba is imported.

    Raises
    ------
    ValueError
        If there is no such level, it is another machine's, or the environment sets how Numba
        compiles.
    RuntimeError
        If Numba is imported already, or the kernels' sources change meanwhile.
    """
    if level not in packs.LEVELS:
        known = ", ".join(packs.LEVELS)
        raise ValueError(f"target: {level!r} is no level of CPUs, expected one of {known}")
    machine, features, tuning = packs.LEVELS[level]
    if platform.machine() != machine:
        raise ValueError(f"target: {level} is compiled on {machine}, not {platform.machine()}")
    for name in cache.NUMBA_SETTINGS:
        if name in os.environ:
            raise ValueError(f"target: a pack has Numba's own settings; unset {name}")
    if "numba" in sys.modules:
        raise RuntimeError("target: Numba is imported already, set to compile for this CPU")
    os.environ["NUMBA_CPU_NAME"] = level
    os.environ["NUMBA_CPU_FEATURES"] = ",".join([*(f"+{name}" for name in features), *tuning])
    origin = packs.origin(level)
    with contextlib.closing(compiler.compile_all(keys, report)) as done:
        ops = dict(done)
    if packs.origin(level) != origin:
        raise RuntimeError("target: the kernels' sources changed while they were compiled")
    path = packs.path_of(level, folder)
    packs.write(path, origin, ops)
    return path
