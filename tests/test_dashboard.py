"""benchmarks.dashboard: asv's page of kept results, with all that it loads beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from processes import git

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: `fastnn` stays the one that is under test

from benchmarks.dashboard import __main__ as dashboard  # noqa: E402

TIMES = [3e-3, 2e-3, 1e-3]


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of three commits, with a result of one benchmark for each."""
    folder = tmp_path_factory.mktemp("project")
    kept = folder / dashboard.KEPT
    git(folder, "init", "-q")
    write(folder / "asv.conf.json", {
        "version": 1, "project": "tiny", "repo": ".", "branches": ["HEAD"],
        "results_dir": dashboard.KEPT, "benchmark_dir": "benchmarks",
    })  # fmt: skip
    write(kept / "benchmarks.json", {
        "version": 2,
        "bench.time_it": {
            "name": "bench.time_it", "type": "time", "unit": "seconds", "version": "1",
            "code": "", "params": [], "param_names": [], "timeout": 60,
        },
    })  # fmt: skip
    write(kept / "here" / "machine.json", {"machine": "here", "cpu": "a CPU", "version": 1})
    for index, seconds in enumerate(TIMES):
        git(folder, "commit", "-q", "--allow-empty", "-m", f"commit {index}")
        commit = git(folder, "rev-parse", "HEAD")
        write(kept / "here" / f"{commit[:8]}-env.json", {
            "version": 2, "commit_hash": commit, "env_name": "env", "python": "3.11",
            "date": 1_700_000_000_000 + 86_400_000 * index, "requirements": {}, "env_vars": {},
            "params": {"machine": "here", "cpu": "a CPU", "python": "3.11"},
            "result_columns": ["result", "params"], "results": {"bench.time_it": [[seconds], []]},
            "durations": {},
        })  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in the places of the libraries."""
    folder = tmp_path_factory.mktemp("node_modules")
    for place in dashboard.LIBRARIES.values():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(f"/* {place} */")
    return folder


@pytest.fixture(scope="module")
def page(project: Path, modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of that project, published twice: over an older one, too."""
    pytest.importorskip("asv")
    folder = tmp_path_factory.mktemp("page") / "html"
    for _ in range(2):
        dashboard.publish(project, folder)
        dashboard.bring_home(folder, modules)
    return folder


def test_the_page_loads_only_what_lies_beside_it(page: Path) -> None:
    text = (page / "index.html").read_text(encoding="utf-8")
    tags = re.findall(r"<(?:script|link)\b[^>]*>", text)
    loaded = [url for tag in tags for url in re.findall(r'(?:src|href)="([^"]+)"', tag)]
    assert {url for url in loaded if url.startswith(dashboard.BESIDE)} == {
        f"{dashboard.BESIDE}/{name}" for name in dashboard.LIBRARIES
    }
    for url in loaded:
        assert (page / url).is_file(), url
    assert not re.search("integrity|crossorigin|referrerpolicy", "".join(tags))
    for name, place in dashboard.LIBRARIES.items():
        assert (page / dashboard.BESIDE / name).read_text() == f"/* {place} */"


def test_the_page_has_the_kept_results(page: Path) -> None:
    (curve,) = (page / "graphs").glob("**/machine-here/**/bench.time_it.json")
    points = json.loads(curve.read_text())
    assert [seconds for _, seconds in points] == TIMES


def test_it_is_served_to_this_machine_alone_until_interrupted(page: Path) -> None:
    code = f"""
from pathlib import Path
from benchmarks.dashboard.__main__ import serve
serve(Path({str(page)!r}))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(f"{address}index.json", timeout=30) as answer:
                assert "bench.time_it" in json.load(answer)["benchmarks"]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_what_is_no_page_is_not_deleted(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("asv")
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="--output must be a new folder or an older page, got"):
        dashboard.publish(project, tmp_path)
    with pytest.raises(FileNotFoundError, match="no results in benchmarks/results/asv"):
        dashboard.publish(tmp_path, tmp_path / "html")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_library_is_named(modules: Path, tmp_path: Path) -> None:
    text = '<script src="https://example.org/new.min.js" integrity="x"></script>'
    (tmp_path / "index.html").write_text(text)
    with pytest.raises(ValueError, match=r"not known: new\.min\.js"):
        dashboard.bring_home(tmp_path, modules)
    assert (tmp_path / "index.html").read_text() == text
    assert len(list(tmp_path.iterdir())) == 1


def test_libraries_are_fetched_once_and_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="apt-get install npm"):
        dashboard.fetched(tmp_path / "libraries")
    assert not list(tmp_path.iterdir())

    ran = []
    monkeypatch.setattr(dashboard.shutil, "which", lambda name: name)
    monkeypatch.setattr(
        dashboard.subprocess, "run", lambda command, cwd, check: ran.append((command[:2], cwd))
    )
    for _ in range(2):
        assert dashboard.fetched(tmp_path) == tmp_path / "node_modules"
    assert ran == [(["npm", "ci"], tmp_path)]
    (tmp_path / "fetched.json").write_text("of another version")
    dashboard.fetched(tmp_path)
    assert len(ran) == 2

    wanted = json.loads((tmp_path / "package.json").read_text())["dependencies"]
    locked = json.loads((tmp_path / "package-lock.json").read_text())["packages"]
    assert {place.split("/")[0] for place in dashboard.LIBRARIES.values()} == set(wanted)
    for name, version in wanted.items():
        entry = locked[f"node_modules/{name}"]
        assert entry["version"] == version
        assert entry["integrity"].startswith("sha512-")
