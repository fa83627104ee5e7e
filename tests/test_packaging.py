"""What the project promises of its packages: few dependencies, typed, nothing astray."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import metadata, resources
from pathlib import Path
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


def test_top_level_holds_nothing_else() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    top = {name.partition("/")[0] for name in listing.stdout.split("\0") if name}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL
