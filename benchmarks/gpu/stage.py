"""One stage in this process: ``python -m benchmarks.gpu.stage NAME FILE``.

What is found goes to FILE again and again, so that a stage that is ended half-way leaves the rest.
A process that finds the file goes on from it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

LOST = 3
"""Status of a process that has lost the GPU: what is left of the stage is another's."""


class Findings(dict[str, Any]):
    """What a stage has found so far, kept in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})
        self._path = path

    def keep(self) -> None:
        """Write all of it."""
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(self), encoding="utf-8")
        os.replace(beside, self._path)


def main(name: str, path: str) -> int:
    """Run the stage called `name`."""
    from fastnn.engine.cuda import device

    found = Findings(Path(path))
    importlib.import_module(f"benchmarks.gpu.{name}").measure(found, device.simulated())
    found.keep()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
