"""Several missing ops are compiled in processes of their own: anywhere a user may work, with what
was compiled kept, nothing of him run twice, and no process left behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastnn.engine import cache, compiler, processes
from fastnn.engine.compiler import Key
from fastnn.training.progress import compiling
from processes import PLACE

KEYS: list[Key] = [("relu_forward", "float32"), ("relu_backward", "float32")]

# Two cores, on any machine. Arguments: what else is needed.
PREPARE = f"""
import sys
print("main")
from fastnn.engine import compiler
compiler.cores = lambda: 2
reports = []
compiler.prepare({KEYS}, lambda *report: reports.append(report))
assert len(compiler._addresses) == 2
counts = [done for _, done, _ in reports]
assert counts == sorted(counts)
print("numba" in sys.modules, *reports[:1], *reports[-1:])
import numpy as np, fastnn
print(fastnn.Activation("relu").forward(np.array([[-2.0, 3.0]], np.float32)).tolist())
"""
IN_PROCESSES = "main\nFalse ([], 0, 2) ([], 2, 2)\n[[0.0, 3.0]]\n"
IN_ONE = IN_PROCESSES.replace("False", "True")


def run(
    command: list[str], folder: Path, cwd: Path = PLACE, **changes: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "FASTNN_CACHE_DIR": str(folder), **changes},
        capture_output=True,
        text=True,
        timeout=300,
    )


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


KEPT = {"relu_forward.float32.bin", "relu_backward.float32.bin"}


def test_a_command_line_compiles_in_processes(tmp_path: Path) -> None:
    done = run([sys.executable, "-W", "error", "-c", PREPARE], tmp_path)
    assert (done.stdout, done.stderr) == (IN_PROCESSES, "")
    assert files_in(tmp_path) == KEPT
    again = run([sys.executable, "-W", "error", "-c", PREPARE], tmp_path)
    assert again.stdout == "main\nFalse\n[[0.0, 3.0]]\n"


def test_a_script_without_a_guard_runs_once_and_no_disk_is_needed(tmp_path: Path) -> None:
    # Modules beside the script that have names of the standard library's or of ours are the
    # script's own, and what an interpreter prints when it starts is none of our answers.
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.path.insert(1, {str(PLACE)!r})\n" + PREPARE)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('hello')")
    (tmp_path / "file").write_text("")
    done = run(
        [sys.executable, "-W", "error", str(script)],
        tmp_path / "file" / "no folder",
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path / "site"),
    )
    assert (done.stdout, done.stderr) == ("hello\n" + IN_PROCESSES, "")


def test_one_core_compiles_in_this_process(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", PREPARE.replace("lambda: 2", "lambda: 1")], tmp_path)
    assert (done.stdout, done.stderr) == (IN_ONE, "")
    assert files_in(tmp_path) == KEPT


NOT_STARTED = {
    "no thread": "def no_thread(self): raise RuntimeError\nthreading.Thread.start = no_thread",
    "missing": "sys.executable = '/no/such/python'",
    "none": "sys.executable = ''",
    "an embedding program": "sys.executable = '/bin/false'",
    "frozen": "sys.frozen = True",
}
"""What is odd about the process, so that it can start no other."""

IN_THIS_ONE = f"""
import os, sys, threading
from fastnn.engine import compiler
from fastnn.kernels.cpu import adapter
compiler.cores = lambda: 2
compile_op, compiled = adapter.compile_op, []
def noting(name, types):
    compiled.append((name, *types))
    return compile_op(name, types)
adapter.compile_op = noting
folder = os.environ["FASTNN_CACHE_DIR"]
for what, change in {NOT_STARTED}.items():
    before = sys.executable, threading.Thread.start
    exec(change)
    os.environ["FASTNN_CACHE_DIR"] = os.path.join(folder, what)
    compiler._addresses.clear()
    compiled.clear()
    compiler.prepare({KEYS})
    sys.executable, threading.Thread.start = before
    assert sorted(compiled) == {sorted(KEYS)}, (what, compiled)
    assert len(compiler._addresses) == 2
"""


def test_a_process_that_can_start_no_other_compiles_itself(tmp_path: Path) -> None:
    done = run([sys.executable, "-W", "error", "-c", IN_THIS_ONE], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} == set(NOT_STARTED)
    assert files_in(tmp_path) == KEPT


STARTED_IN_VAIN = {
    "ends at once": "open('python', 'w').write('#!/bin/sh\\necho no licence >&2\\nexit 3')",
    "says nothing": "open('python', 'w').write('#!/bin/sh\\nsleep 100\\n')\n"
                    "from fastnn.engine import processes; processes.PATIENCE = 0.0",
}  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="scripts for /bin/sh")
@pytest.mark.parametrize("what", STARTED_IN_VAIN)
def test_an_interpreter_that_is_of_no_use_is_survived(what: str, tmp_path: Path) -> None:
    change = f"import os\n{STARTED_IN_VAIN[what]}\nos.chmod('python', 0o755)\n"
    code = PREPARE.replace("import sys\n", f"import sys\n{change}sys.executable = './python'\n", 1)
    environment = {"PYTHONPATH": str(PLACE)}
    done = run([sys.executable, "-c", code], tmp_path / "cache", cwd=tmp_path, **environment)
    assert done.stdout == IN_ONE, done.stderr
    assert "RuntimeWarning: fastnn: a process that compiles" in done.stderr
    assert ("status 3 before it began\nno licence" in done.stderr) == (what == "ends at once")


# Processes that fail.


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, an empty table of ops, and two cores."""
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiler, "_addresses", {})
    monkeypatch.setattr(compiler, "cores", lambda: 2)
    return tmp_path


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are started from here on."""
    started: list[subprocess.Popen[bytes]] = []

    def popen(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(*arguments, **named))
        return started[-1]

    fake = SimpleNamespace(**{**vars(subprocess), "Popen": popen})
    monkeypatch.setattr(processes, "subprocess", fake)
    return started


def test_a_kernel_that_does_not_compile_is_an_error_with_its_reason(
    empty: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    keys = [("no_such_op", "float32"), ("nor_this", "float32"), KEYS[0]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(LookupError, match="no"):
            compiler.prepare(keys)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    for key in keys[:2]:
        (one,) = (text for text in said if f"it failed at {'.'.join(key)}\nTraceback" in text)
        assert key[0] in one.splitlines()[-1]
    assert len(children) == 2
    assert all(child.returncode is not None for child in children)


def test_a_process_that_is_killed_is_made_up_for(
    empty: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    killed: list[int] = []

    def report(running: Any, done: int, of: int) -> None:
        if running and not killed:
            children[0].kill()
            children[1].kill()
            killed.extend(child.pid for child in children)

    with pytest.warns(RuntimeWarning, match=f"it ended with status {-signal.SIGKILL}"):
        compiler.prepare(KEYS, report)
    assert killed
    assert set(compiler._addresses) == set(KEYS)
    assert files_in(empty) == KEPT


def test_one_process_compiles_both_forms_of_an_op() -> None:
    relu, adam = ("relu_forward", "float32"), ("adam", "float64")
    forms = [("relu_forward_finish", "float64"), ("relu_forward_finish", "float32")]
    groups = processes._by_kernel([relu, adam, *forms])
    assert groups == [[relu, forms[1]], [adam], [forms[0]]]


def test_processes_that_see_other_kernels_are_not_believed(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "fingerprint", lambda: "another")
    with pytest.warns(RuntimeWarning, match="it sees other kernels"):
        assert list(processes.compile_in_processes(KEYS, 1)) == []


def test_an_exception_in_a_report_ends_the_processes(
    empty: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    def report(running: Any, done: int, of: int) -> None:
        if running:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        compiler.prepare(KEYS, report)
    # While the traceback is still there.
    assert caught.tb is not None
    assert [child.returncode for child in children] == [-signal.SIGKILL] * 2


# Ends.

MANY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastnn.engine import compiler, processes
from fastnn.kernels.signatures import NAMES
compiler.cores = lambda: 2
popen, pids = processes.subprocess.Popen, []
def started(*arguments, **named):
    child = popen(*arguments, **named)
    pids.append(child.pid)
    return child
processes.subprocess.Popen = started
def report(running, done, of):
    if len(running) == 2 and pids:
        print(*pids, flush=True)
        pids.clear()
try:
    compiler.prepare([(name, "float64") for name in NAMES if "forward" in name], report)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    import threading
    assert threading.active_count() == 1
    sys.exit(130)
"""


def gone(pid: int) -> bool:
    """Whether there is no such process, or it is a zombie that init has yet to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGKILL"])
def test_no_process_is_left_behind(how: str, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", MANY],
        cwd=PLACE,
        env={**os.environ, "FASTNN_CACHE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        pids = [int(word) for word in child.stdout.readline().split()]
        assert len(pids) == 2
        if how == "Ctrl-C":
            os.killpg(child.pid, signal.SIGINT)  # as a terminal does
            assert child.stdout.readline() == "interrupted\n"
            assert child.wait(timeout=10) == 130
            assert all(gone(pid) for pid in pids)
        else:
            child.kill()
            child.wait()
            limit = time.monotonic() + 60  # each finishes its op, and finds nobody to tell
            while not all(gone(pid) for pid in pids):
                assert time.monotonic() < limit
                time.sleep(0.05)
    finally:
        child.kill()
        child.communicate()
    assert all(name.endswith(".bin") for name in files_in(tmp_path))


# What is shown.


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_says_what_is_compiled(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    report = compiling(1)
    assert report is not None
    steps: list[tuple[list[str], int]] = [
        ([], 0), (["adam"], 0), (["adam", "guard"], 0), (["guard"], 1), ([], 2)
    ]  # fmt: skip
    for running, done in steps:
        report(running, done, 2)
    shown = capsys.readouterr().err
    if not terminal:
        assert shown == "fastnn: compiling 2 kernels for this CPU, once\n"
        return
    lines = shown.split("\r")[1:]
    assert [line.rstrip() for line in lines] == [
        "fastnn: compiled 0 of 2 kernels for this CPU, once",
        "fastnn: compiled 0 of 2 kernels for this CPU, once; now adam",
        "fastnn: compiled 0 of 2 kernels for this CPU, once; now adam, guard",
        "fastnn: compiled 1 of 2 kernels for this CPU, once; now guard",
        "fastnn: compiled 2 of 2 kernels for this CPU, once",
    ]
    assert {len(line.rstrip("\n")) for line in lines} == {79}
    assert compiling(0) is None
