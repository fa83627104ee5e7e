"""benchmarks.continuous: which commit is compared with, and what an exit code means."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from processes import git

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: `fastnn` stays the one that is under test

from benchmarks import bench_train, continuous  # noqa: E402


@pytest.fixture
def project(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    return tmp_path


def test_the_last_release_before_head_is_the_base(project: Path) -> None:
    assert continuous.last_release(project) is None
    git(project, "tag", "v1")
    assert continuous.last_release(project) is None  # nothing to compare it with
    for number in (2, 3):
        git(project, "commit", "-q", "--allow-empty", "-m", f"commit {number}")
        assert continuous.last_release(project) == "v1"
    git(project, "tag", "v2")
    assert continuous.last_release(project) == "v1"


def test_without_a_release_it_is_the_commit_before(project: Path) -> None:
    assert continuous.commit(project, "HEAD^") is None
    first = git(project, "rev-parse", "HEAD")
    git(project, "commit", "-q", "--allow-empty", "-m", "second")
    assert continuous.commit(project, "HEAD^") == first


def test_a_clone_without_a_past_is_said_to_have_none(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("asv")
    shallow = project / "shallow"
    git(project, "commit", "-q", "--allow-empty", "-m", "second")
    git(project, "clone", "-q", "--depth", "1", project.as_uri(), str(shallow))
    monkeypatch.setattr(continuous, "ROOT", shallow)
    assert continuous.main([]) == 0
    assert "nothing to compare with" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 0), (2, 2)])
def test_a_slower_commit_is_no_failure(
    code: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("asv")
    ran: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        ran.append(command)
        assert options["env"]["HOME"] == str(tmp_path)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(continuous.subprocess, "run", run)
    assert continuous.compare(tmp_path, "v1", quick=True) == expected
    _, command = ran
    assert command[command.index("v1") :][:3] == ["v1", "HEAD", "--bench"]
    config = json.loads((tmp_path / "asv.conf.json").read_text())
    assert Path(config["repo"], "asv.conf.json").is_file()
    assert Path(config["benchmark_dir"], "bench_train.py").is_file()
    for name in ("env_dir", "results_dir", "html_dir"):
        assert Path(config[name]).parent == tmp_path


def test_an_unknown_base_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("asv")
    with pytest.raises(SystemExit, match="2"):
        continuous.main(["no-such-commit"])
    assert "must be a commit of this clone, got no-such-commit" in capsys.readouterr().err


def test_the_few_benchmarks_exist() -> None:
    names = [
        f"bench_train.TrainEpoch.time_train_epoch({row!r})" for row in bench_train.TrainEpoch.params
    ]
    rows, counts = bench_train.Predict.params
    names += [
        f"bench_train.Predict.time_predict({row!r}, {count})" for row in rows for count in counts
    ]
    assert [name for name in names if re.search(continuous.FEW, name)] == [
        "bench_train.TrainEpoch.time_train_epoch('T2')",
        "bench_train.TrainEpoch.time_train_epoch('T4')",
        "bench_train.Predict.time_predict('T2', 1)",
    ]
