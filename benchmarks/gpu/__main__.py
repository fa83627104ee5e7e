"""Everything that only a GPU can tell, most valuable first, inside ten minutes.

    python -m benchmarks.gpu                  # on a machine with an NVIDIA GPU
    python -m benchmarks.gpu --simulate       # the same path without one, in Numba's simulator

Each stage is a process with a time of its own: what fails or hangs costs no other stage. After
each, all that is known is written to ``benchmarks/results/gpu-<card>-<date>.json``; every kernel
stands there as right, with its error, or as not yet run. The table comes last. The simulator's
figures are none of speed: they are marked, and kept only where `--output` says.

Stages: `machine` (versions, the card, driver), `kernels` (every op against the NumPy oracle,
outputs poisoned, inputs fresh), `training` (the CPU's trajectory and accuracy, same seed same bits,
masks), `rates` (copies, products), `ops` (an op's time by graph replays over operands that no cache
holds, as a share of the copy rate), `ways` (a step by each way that its size allows), `narrow` (a
narrow network's steps on tensor cores), `grid` (training steps beside PyTorch and JAX),
`sanitizer`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.gpu import stage as stages
from benchmarks.gpu import summary

STAGES = {
    "machine": 20,
    "kernels": 200,
    "training": 60,
    "rates": 20,
    "ops": 80,
    "ways": 30,
    "narrow": 40,
    "grid": 120,
    "sanitizer": 30,
}
"""Each stage's seconds: ten minutes in all."""

SIMULATOR = "NUMBA_ENABLE_CUDASIM"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages; 2 if there is no GPU, 1 if a stage failed or a kernel is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--stages", type=lambda text: text.split(","), default=list(STAGES), help="some of them"
    )
    parser.add_argument("--simulate", action="store_true", help="in Numba's simulator, tiny sizes")
    parser.add_argument("--output", type=Path, help="the file, if not one among the results")
    options = parser.parse_args(arguments)
    unknown = [stage for stage in options.stages if stage not in STAGES]
    if unknown:
        parser.error(f"--stages: there are {', '.join(STAGES)}, not {', '.join(unknown)}")
    problem = None if options.simulate else missing()
    if problem:
        print(f"benchmarks.gpu: {problem}", file=sys.stderr)
        return 2
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "simulated": options.simulate,
        "stages": {},
    }
    for stage in options.stages:
        report["stages"][stage] = outcome = run(stage, STAGES[stage], options.simulate)
        if stage == "machine":  # as all reports name them
            versions = outcome["found"].get("versions", {})
            report["cpu"] = outcome["found"].get("card", "unknown card")
            report["versions"] = {name: v for name, v in versions.items() if v is not None}
        path = options.output or (None if options.simulate else place(report))
        if path is not None:
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(summary.text(report))
    return 0 if summary.all_well(report) else 1


def missing() -> str | None:
    """Why there is no GPU to measure."""
    from fastnn.engine.cuda import opening

    return opening.problem() or opening.missing_compiler()


def place(report: dict[str, Any]) -> Path:
    """The report's file among the results, named by card and date."""
    card = report["stages"].get("machine", {}).get("found", {}).get("card", "unknown")
    name = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    return RESULTS / f"gpu-{name}-{report['date']}.json"


def run(stage: str, seconds: float, simulate: bool) -> dict[str, Any]:
    """A stage's outcome: what it found, also where it came to no end."""
    environment = {name: value for name, value in os.environ.items() if name != SIMULATOR}
    environment |= {SIMULATOR: "1"} if simulate else {}
    print(f"{stage} (up to {seconds:.0f} s)", file=sys.stderr, flush=True)
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        (Path(folder) / "said").open("w+", encoding="utf-8", errors="replace") as said,
    ):
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.gpu.stage", stage, str(path)]
        status = stages.LOST
        while status == stages.LOST:  # the GPU's context: another process goes on from there
            child = subprocess.Popen(command, env=environment, stderr=said, start_new_session=True)
            try:
                status = child.wait(max(0.0, begin + seconds - time.monotonic()))
                ended = f"status {status}"
            except subprocess.TimeoutExpired:
                ended, status = f"not done after {seconds:.0f} s", -1
            finally:
                # With all that it has started: compilers, programs it looks at.
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        said.seek(0)
        lines = said.read().splitlines()[-20:]
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    well = ended == "status 0"
    outcome = {"ended": "well" if well else ended, "seconds": time.monotonic() - begin}
    return outcome | {"found": found} | ({} if well else {"said": lines})


if __name__ == "__main__":
    raise SystemExit(main())
