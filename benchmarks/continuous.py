"""The suite on two commits, side by side: ``python -m benchmarks.continuous [BASE]``.

``asv continuous`` of the last release (without one, the commit before) and HEAD, in environments
and with results of their own, apart from fastnn's kept past. It prints what became faster or
slower by more than `FACTOR`; it does not fail for that, for a busy machine does the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

FACTOR = 1.1
"""Changes of less are not told."""

FEW = r"TrainEpoch\.time_train_epoch\('T[24]'\)|Predict\.time_predict\('T2', 1\)"
"""Benchmarks of a quick run: an epoch of a small network, of a middling one, a row's answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; the exit code is asv's own where the suite did not run, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.continuous", description=__doc__)
    parser.add_argument("base", nargs="?", help="a commit (default: the last tag, or HEAD^)")
    parser.add_argument("--quick", action="store_true", help="a few benchmarks, half a minute")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("asv") is None:
        raise ImportError('continuous: needs asv: pip install "fastnn[bench]"')
    if options.base is not None and commit(ROOT, options.base) is None:
        parser.error(f"base must be a commit of this clone, got {options.base}")
    base = options.base or last_release(ROOT) or commit(ROOT, "HEAD^")
    if base is None:
        print("continuous: no release and no earlier commit in this clone: nothing to compare with")
        return 0
    print(f"continuous: {base} beside HEAD", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        return compare(Path(folder), base, options.quick)


def compare(folder: Path, base: str, quick: bool) -> int:
    """Run ``asv continuous`` with all that it writes in `folder`."""
    from asv.util import load_json

    config = load_json(str(ROOT / "asv.conf.json"), js_comments=True)
    own = {
        "repo": str(ROOT),
        "benchmark_dir": str(ROOT / config["benchmark_dir"]),
        **{name: str(folder / name) for name in ("env_dir", "results_dir", "html_dir")},
    }
    path = folder / "asv.conf.json"
    path.write_text(json.dumps({**config, **own}))
    asv = [sys.executable, "-m", "asv", "--config", str(path)]
    environment = os.environ | {"HOME": str(folder)}  # asv keeps there what it knows of machines
    subprocess.run([*asv, "machine", "--yes"], env=environment, check=True, capture_output=True)
    command = [*asv, "continuous", "--factor", str(FACTOR), "--show-stderr", base, "HEAD"]
    if quick:
        command += ["--bench", FEW, "--attribute", "rounds=1", "--attribute", "warmup_time=0.1"]
    done = subprocess.run(command, env=environment, cwd=ROOT)
    # 1 is what asv says of a slower commit.
    return 0 if done.returncode == 1 else done.returncode


def last_release(project: Path) -> str | None:
    """The newest tag in the past of HEAD, its own not counted; None if there is none."""
    return _git(project, "describe", "--tags", "--abbrev=0", "HEAD^")


def commit(project: Path, name: str) -> str | None:
    """The commit that is called `name`, None if this clone does not have it."""
    return _git(project, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")


def _git(project: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(project), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    raise SystemExit(main())
