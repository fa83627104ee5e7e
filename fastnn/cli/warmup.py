"""``fastnn warmup``: all kernels compiled ahead of their first use."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from fastnn.cli import arguments


def add(commands: Any) -> None:
    """The command and its arguments."""
    parser = arguments.parser(
        commands,
        "warmup",
        run,
        "compile all kernels now, so that no process has to when it first needs them",
        """
        Compile all kernels now: into the cache of this user and this CPU (FASTNN_CACHE_DIR says
        where), or with --target for every CPU of a level and all users of the installed package,
        as for a container's image that runs on other machines than the one it is made on.
        """,
    )
    parser.add_argument(
        "--dtype",
        action="append",
        choices=("float32", "float64"),
        help="only those for models of this element type",
    )
    parser.add_argument(
        "--target",
        metavar="LEVEL",
        help="for all CPUs of a level, x86-64-v3 or x86-64-v4, as one file in the package",
    )
    parser.add_argument(
        "--out", type=Path, help="with --target: a folder for the file, in place of the package"
    )


def run(options: argparse.Namespace) -> int:
    """Compile all kernels, into the cache or for a level of CPUs; say where they are."""
    from fastnn.engine import ahead, cache, catalogue, compiler, packs
    from fastnn.training.progress import compiling

    keys = catalogue.every_key(options.dtype or catalogue.REALS)
    begin = time.perf_counter()
    if options.target is not None:
        folder = options.out or packs.FOLDER
        place = ahead.make_pack(options.target, folder, keys, compiling(1, options.target))
        compiled = len(keys)
    elif options.out is not None:
        raise ValueError("--out: only with --target")
    else:
        compiled = compiler.fill_cache(keys, compiling(1))
        pack = packs.chosen()
        place = cache.folder() if pack is None else packs.path_of(pack.level)
    seconds = time.perf_counter() - begin
    print(f"{len(keys)} kernels are in {place}; {compiled} were compiled now, in {seconds:.1f} s")
    return 0
