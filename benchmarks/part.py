"""One part of the comparison in this process: ``python -m benchmarks.part NAME FILE SETTINGS``.

`benchmarks.compare` starts it so: a process is pinned, and libraries size their pools of threads,
once. What is found goes to FILE, as JSON; stderr says how far it is.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.parts import PARTS, Settings


def main(name: str, path: str, text: str) -> int:
    """Measure the part called `name`."""
    settings = Settings(**json.loads(text))
    begin = time.perf_counter()
    cores = machine.pin(settings.threads)
    data = PARTS[name].load().measure(settings)
    data |= {"pinned_to": cores, "wall_seconds": time.perf_counter() - begin}
    Path(path).write_text(json.dumps(data), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
