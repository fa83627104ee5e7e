"""The benchmark of a GPU: how it takes what goes wrong."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: `fastnn` stays the one that is under test

from benchmarks.gpu import __main__ as command  # noqa: E402
from benchmarks.gpu import summary  # noqa: E402
from fastnn.engine.cuda import opening  # noqa: E402


def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opening, "problem", lambda: "there is none")
    assert command.main([]) == 2
    assert capsys.readouterr().err == "benchmarks.gpu: there is none\n"


def test_a_stage_out_of_time_is_ended_with_what_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = tmp_path / "benchmarks" / "gpu" / "stage.py"
    stage.parent.mkdir(parents=True)
    for folder in (stage.parent, stage.parent.parent):
        (folder / "__init__.py").touch()
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    stage.write_text(
        "import json, pathlib, subprocess, sys\n"
        "pathlib.Path(sys.argv[2]).write_text(json.dumps({'half': 1}))\n"
        "print('begun', file=sys.stderr, flush=True)\n"
        f"held = open({str(alive)!r}, 'w')\n"
        "print('x', end='', file=held, flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'], stdout=held)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = command.run("kernels", 5, simulate=True)
    assert outcome["ended"] == "not done after 5 s"
    assert outcome["found"] == {"half": 1}
    assert outcome["said"] == ["begun"]
    try:
        assert os.read(reader, 1) == b"x"
        # The pipe ends when the last process that holds it has.
        assert select.select([reader], [], [], 10)[0]
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("ended", "ops", "well"),
    [
        ("well", {"add float32": "right", "add float64": "not yet run"}, True),
        ("well", {"add float32": ["1 rows: AssertionError: no"]}, False),
        ("status 1", {"add float32": "right"}, False),
    ],
)
def test_all_is_well_only_where_all_was_right(ended: str, ops: dict[str, Any], well: bool) -> None:
    stages = {"kernels": {"ended": ended, "seconds": 1.0, "found": {"ops": ops}}}
    report = {"date": "2026-01-01", "simulated": False, "stages": stages}
    assert summary.all_well(report) is well
    text = summary.text(report)
    assert ("wrong: add float32" in text) is isinstance(ops["add float32"], list)
    assert (f"kernels: {ended}" in text) is (ended != "well")
