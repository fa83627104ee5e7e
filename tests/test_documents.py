"""README, CONTRIBUTING and docs: every block of code runs, every link leads somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
import table_cases
from fastnn import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDED = {
    "README.md": ["sklearn"],
    "estimators.md": ["sklearn"],
    "other-tools.md": ["torch", "onnx", "sklearn", "h5py", "keras"],
    "pictures.md": ["matplotlib", "tensorboardX"],
    "tables.md": ["matplotlib"],
}
"""What a page's code imports besides fastnn."""


def blocks(page: Path, language: str) -> str:
    """All blocks of a language as one text, each line where it stands in the page."""
    lines, inside = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = line.startswith("```")
        inside = ("" if inside else line[3:].strip()) if fence else inside
        lines.append(line if inside == language and not fence else "")
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[Path, str]]:
    """Every command of every block of shell, with its page."""
    for page in PAGES:
        for line in blocks(page, "sh").splitlines():
            for command in line.partition("  #")[0].split("&&"):
                if command.strip() and not command.startswith("#"):
                    yield page, command.strip()


@pytest.fixture
def quiet_plots() -> None:
    """Matplotlib without a window system; first imported here, where what it imports may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if importlib.util.find_spec("matplotlib"):
            importlib.import_module("matplotlib").use("agg")
            importlib.import_module("matplotlib.pyplot")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with no data or cache of the user's in reach."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python").strip()],
                         ids=lambda page: page.name)  # fmt: skip
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: Path, elsewhere: Path, quiet_plots: None, request: pytest.FixtureRequest
) -> None:
    for package in NEEDED.get(page.name, []):
        if package == "keras":
            request.getfixturevalue("keras")
        else:
            pytest.importorskip(package, reason=f"{package} is not installed")
    path = elsewhere / f"{page.stem}.py"  # a file, as decorated functions must have
    path.write_text(blocks(page, "python"))
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(path.read_text(), path, "exec"), names)
    for drawn in elsewhere.glob("*.png"):
        assert_alike(drawn, page.with_name(drawn.name))


def assert_alike(drawn: Path, kept: Path) -> None:
    """Assert that a picture beside a page is what its code draws.

    Not to the pixel: fonts are matplotlib's of the day, and trainings differ by the CPU's last bit.
    """
    from matplotlib.image import imread

    assert kept.is_file(), f"{kept.name} is not beside its page"
    images = [imread(path)[..., :3] for path in (drawn, kept)]
    assert images[0].shape == images[1].shape
    assert abs(images[0] - images[1]).mean() < 0.1


def diamonds(rows: int) -> dict[str, list[str]]:
    """A table with the columns that the pages speak of."""
    rng = np.random.default_rng(5)
    carat = rng.uniform(0.2, 2.5, rows).round(2)
    cut = rng.integers(0, 3, rows)
    price = (4000 * carat * (1 + 0.2 * cut)).round().astype(int)
    names = np.array(["Fair", "Good", "Ideal"])[cut]
    return {"carat": [*map(str, carat)], "cut": [*names], "price": [*map(str, price)]}


OWN = sorted({(page.name, command) for page, command in commands() if "fastnn " in command})


@pytest.mark.parametrize("name", sorted({name for name, _ in OWN}))
def test_the_commands_of_a_page_work_one_after_the_other(
    name: str, elsewhere: Path, quiet_plots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in NEEDED.get(name, []):
        pytest.importorskip(package, reason=f"{package} is not installed")
    table_cases.write(elsewhere / "diamonds.csv", diamonds(300))
    table_cases.write(elsewhere / "new.csv", diamonds(10))
    for page, command in commands():
        program, *arguments = shlex.split(command)
        if page.name == name and program == "fastnn":
            short = ["--epochs", "2"] if arguments[0] in ("train", "demo") else []
            assert cli.main([*arguments, *short]) == 0, command


def test_all_other_commands_exist() -> None:
    extras = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for page, command in commands():
        program, *arguments = shlex.split(command)
        if program == "pip":
            assert arguments[0] == "install", command
            asked = re.findall(r"\[([\w,-]+)\]", command)
            assert set(",".join(asked).split(",")) - {""} <= set(extras), f"{page.name}: {command}"
        elif program == "python":
            file = arguments[0] if arguments[0] != "-m" else f"{arguments[1].replace('.', '/')}"
            assert any((ROOT / f"{file}{end}").is_file() for end in ("", ".py", "/__main__.py")), (
                f"{page.name}: {command}"
            )
        else:
            known = {"fastnn", "pytest", "asv", "mkdocs", "ruff", "mypy", "lint-imports", ".ci/run"}
            assert program in known, f"{page.name}: {command}"


def test_extras_that_are_spoken_of_exist() -> None:
    extras = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    texts = [*PAGES, *(ROOT / "fastnn").rglob("*.py")]
    spoken = {
        extra
        for path in texts
        for asked in re.findall(r'pip install "(?:fastnn|\.)\[([\w,]+)\]"', path.read_text())
        for extra in asked.split(",")
    }
    assert {"plot", "sklearn", "test"} <= spoken <= set(extras)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert not target.startswith("http"), f"{page.name}: {target}"
        assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as mkdocs builds them, in which any warning is an error."""
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason='not installed: pip install ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_public_name_has_its_place_in_the_api(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes()
    text = zlib.decompress(inventory.split(b"\n", 4)[4]).decode()
    documented = {line.split()[0].rpartition(".")[2] for line in text.splitlines()}
    public = {
        name
        for door in (fastnn, fastnn.io, fastnn.plot)
        for name in door.__all__
        if callable(getattr(door, name))
    }
    classes = {
        name
        for room in (fastnn.initializers, fastnn.losses, fastnn.metrics, fastnn.schedules)
        for name, thing in vars(room).items()
        if inspect.isclass(thing) and thing.__module__.startswith(room.__name__)
        if not name.startswith("_")
    } - {"Tally"}  # what training adds figures up in
    assert len(public) > 60
    assert len(classes) > 40
    assert sorted((public | classes) - documented) == []


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', page.read_text())
        assert loaded
        assert not [address for address in loaded if address.startswith(("http", "//"))], page
