"""What the project promises of its packages: few dependencies, typed, nothing astray."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RUN_TIME = {"numpy", "numba", "tqdm", "safetensors"}
TOP_LEVEL = {
    "fastnn",
    "tests",
    "benchmarks",
    "docs",
    "asv.conf.json",
    "hatch_build.py",
    "mkdocs.yml",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib needs Python 3.11")
    with open(ROOT / "pyproject.toml", "rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
    return table


@pytest.fixture(scope="module")
def installed() -> metadata.Distribution:
    """fastnn as pip installed it."""
    try:
        return metadata.distribution("fastnn")
    except metadata.PackageNotFoundError:
        pytest.skip("fastnn is not installed: pip install .")


def names(requirements: list[str]) -> list[str]:
    """Names of packages, without extras, bounds and markers."""
    found = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return [match.group().lower() for match in found if match]


@pytest.mark.smoke
def test_runtime_dependencies_are_four(project: dict[str, Any]) -> None:
    assert sorted(names(project["dependencies"])) == sorted(RUN_TIME)


def test_installed_package_declares_the_same(installed: metadata.Distribution) -> None:
    declared = installed.requires or []
    assert sorted(names([r for r in declared if "extra ==" not in r])) == sorted(RUN_TIME)


def test_every_dependency_has_a_lower_bound(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"].values()
    for requirement in [*project["dependencies"], *(r for extra in extras for r in extra)]:
        assert re.search(r">=|==", requirement), requirement


def test_installed_version_is_that_of_the_project(
    installed: metadata.Distribution, project: dict[str, Any]
) -> None:
    assert installed.version == project["version"]


def test_asv_installs_the_runtime_dependencies() -> None:
    lines = (ROOT / "asv.conf.json").read_text(encoding="utf-8").splitlines()
    config = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    assert set(config["matrix"]["req"]) == RUN_TIME | {"pip+asv_runner"}


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["py.typed", "data/digits.npz"])
def test_package_ships(name: str) -> None:
    assert resources.files("fastnn").joinpath(name).is_file()


def test_command_is_installed(installed: metadata.Distribution) -> None:
    (command,) = installed.entry_points.select(group="console_scripts", name="fastnn")
    assert callable(command.load())


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The wheel's build hook out of hatch_build.py, which here needs no hatchling."""
    interface = SimpleNamespace(BuildHookInterface=list)  # a class with a type in brackets
    name = "hatchling.builders.hooks.plugin.interface"
    for end in range(1, name.count(".") + 1):
        monkeypatch.setitem(sys.modules, name.rsplit(".", end)[0], SimpleNamespace())
    monkeypatch.setitem(sys.modules, name, interface)
    made = runpy.run_path(str(ROOT / "hatch_build.py"))["Packs"]()
    made.target_name, made.root = "wheel", str(ROOT)
    made.metadata = SimpleNamespace(core=SimpleNamespace(dependencies=["numba"]))
    return made


def test_a_wheel_is_pure_unless_packs_are_asked_for(
    hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTNN_BUILD_PACKS", raising=False)
    build_data: dict[str, Any] = {"force_include": {}}
    hook.initialize("standard", build_data)
    hook.finalize("standard", build_data, "")
    assert build_data == {"force_include": {}}
    assert hook.dependencies() == []


@pytest.mark.parametrize(("target", "version"), [("wheel", "editable"), ("sdist", "standard")])
def test_only_wheels_carry_packs(
    target: str, version: str, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTNN_BUILD_PACKS", "x86-64-v3")
    hook.target_name = target
    build_data: dict[str, Any] = {"force_include": {}}
    hook.initialize(version, build_data)
    assert build_data == {"force_include": {}}


def test_a_wheel_with_packs_is_of_one_platform(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_BUILD_PACKS", "x86-64-v3,x86-64-v4")
    commands: list[list[str]] = []

    def run(command: list[str], check: bool, env: dict[str, str]) -> None:
        assert check
        assert env["PYTHONPATH"] == str(ROOT)
        Path(command[-1], f"{command[-3]}.pack").write_bytes(b"a pack")
        commands.append(command[1:5])

    monkeypatch.setattr(subprocess, "run", run)
    build_data: dict[str, Any] = {"force_include": {}}
    hook.initialize("standard", build_data)
    levels = ["x86-64-v3", "x86-64-v4"]
    assert commands == [["-m", "fastnn", "warmup", "--target"]] * 2
    included = build_data["force_include"]
    assert list(included.values()) == [f"fastnn/objects/{level}.pack" for level in levels]
    assert all(Path(path).is_file() for path in included)
    assert not build_data["pure_python"]
    assert re.fullmatch(r"py3-none-\w+", build_data["tag"])
    assert not build_data["tag"].endswith("any")
    assert hook.dependencies() == ["numba"]
    hook.finalize("standard", build_data, "")
    assert not any(Path(path).exists() for path in included)


def test_top_level_holds_nothing_else() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    top = {name.partition("/")[0] for name in listing.stdout.split("\0") if name}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL
