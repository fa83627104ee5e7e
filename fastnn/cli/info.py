"""``fastnn info``: what there is on this machine."""

from __future__ import annotations

import argparse
import json
import platform
import re
from importlib import metadata
from typing import Any

import fastnn
from fastnn.cli import arguments

FEATURES = ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "neon", "sve")
"""Of a CPU, those that kernels are written for."""

FOR_DEVELOPERS = {"test", "oracles", "bench", "docs", "dev"}
"""Extras that no command needs."""


def add(commands: Any) -> None:
    """The command and its arguments."""
    parser = arguments.parser(
        commands,
        "info",
        run,
        "versions, the CPU, the cache of kernels, what is missing and how to get it",
        "Print what a bug report needs: versions, the CPU and what it can do, threads, where "
        "compiled\nkernels are, whether there is a GPU, which optional packages are missing.",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    found = gather()
    if options.json:
        print(json.dumps(found))
        return 0
    cpu, cache, cuda = found["cpu"], found["cache"], found["cuda"]
    lines = [
        *found["versions"].items(),
        ("system", found["system"]),
        ("cpu", f"{cpu['name']} ({', '.join(cpu['features']) or 'none of the features used'})"),
        ("threads", str(found["threads"])),
        ("pack", found["pack"] or "none"),
        ("cache", f"{cache['place']} ({cache['kernels']} kernels, {cache['bytes'] / 1e6:.1f} MB)"),
        ("cuda", cuda["device"] or cuda["problem"]),
    ]
    lines += [("missing", f"{name}: {how}") for name, how in found["missing"].items()]
    print("\n".join(f"{name:<12} {value}" for name, value in lines))
    return 0


def gather() -> dict[str, Any]:
    """All that is told."""
    import llvmlite.binding as llvm

    from fastnn.engine import cache, packs

    pack, ops = packs.chosen(), cache.folder()
    files = [path.stat().st_size for path in ops.glob("*.bin")] if ops.is_dir() else []
    features = llvm.get_host_cpu_features()
    packages = ("numpy", "numba", "llvmlite", "tqdm", "safetensors")
    return {
        "versions": {
            "fastnn": fastnn.__version__,
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in packages},
        },
        "system": platform.platform(),
        "cpu": {
            "name": llvm.get_host_cpu_name(),
            "features": [name for name in FEATURES if features.get(name)],
        },
        "threads": fastnn.get_num_threads(),
        "pack": pack and f"{packs.path_of(pack.level)} ({len(pack.ops)} kernels)",
        "cache": {"place": str(ops), "kernels": len(files), "bytes": sum(files)},
        "cuda": _cuda(),
        "missing": _missing(),
    }


def _cuda() -> dict[str, Any]:
    """The GPU, or what keeps fastnn from computing on one."""
    from fastnn.engine.cuda import opening

    problem = opening.problem()
    if problem is not None:
        return {"device": None, "problem": problem}
    return {"device": opening.open_device().name, "problem": None}


def _missing() -> dict[str, str]:
    """The optional packages that are not installed, by name, with the line that installs each."""
    try:
        requirements = metadata.requires("fastnn") or []
    except metadata.PackageNotFoundError:  # run out of a checkout
        return {}
    missing = {}
    for requirement in requirements:
        found = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", requirement)
        if found is None or found[2] in FOR_DEVELOPERS:
            continue
        package, extra = found.groups()
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            missing[package] = f'pip install "fastnn[{extra}]"'
    return missing
