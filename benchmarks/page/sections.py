"""The page's sections: of each kind of report the newest, in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import reports
from benchmarks.page import compared, gpu, others
from benchmarks.page.charts import Chart, Section
from benchmarks.reports import Report


class Kind(NamedTuple):
    """A kind of report: its title, its charts, the command that makes it, what it says besides."""

    title: str
    charts: Callable[[Report], Sequence[Chart]]
    command: str
    paragraphs: Callable[[Report], Sequence[str]] = lambda report: []


KINDS = {
    "cpu": Kind(
        "fastnn beside its peers",
        compared.charts,
        "python -m benchmarks.compare",
        compared.paragraphs,
    ),
    "estimators": Kind(
        "Estimators beside scikit-learn's",
        others.estimators,
        "python -m benchmarks.estimators --write",
    ),
    "nnfs": Kind(
        "Networks of the book Neural Networks from Scratch",
        others.book,
        "python -m benchmarks.nnfs",
    ),
    "accuracy": Kind("Accuracy", others.accuracy, "python -m benchmarks.accuracy"),
    "passes": Kind("Passes over memory", others.passes, "python -m benchmarks.passes --write"),
    "transcendentals": Kind(
        "Transcendental functions",
        others.transcendentals,
        "python -m benchmarks.transcendentals --exhaustive",
    ),
    "gpu": Kind("On a GPU", gpu.charts, "python -m benchmarks.gpu", gpu.paragraphs),
    "threads": Kind(
        "All cores, measured apart",
        compared.charts,
        "python -m benchmarks.compare --parts grid-all-cores",
        compared.paragraphs,
    ),
}


def sections(folder: Path) -> list[Section]:
    """A section for each kind of which there is a report in `folder`.

    Raises
    ------
    FileNotFoundError
        If there is none of any kind.
    ValueError
        If a file holds no report.
    """
    found = []
    for kind, how in KINDS.items():
        try:
            path = reports.newest(kind, folder)
        except FileNotFoundError:
            continue
        found.append(section(kind, how, path))
    if not found:
        raise FileNotFoundError(f"page: no report of {', '.join(KINDS)} in {folder}")
    return found


def section(kind: str, how: Kind, path: Path) -> Section:
    """What there is to say of the report at `path`.

    Raises
    ------
    ValueError
        If the file holds no report of its kind.
    """
    report = reports.read(path)
    try:
        paragraphs = [*how.paragraphs(report), source(report, path, how.command)]
        return Section(kind, how.title, origin(report, path), paragraphs, how.charts(report))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: must be a report of {how.command}: {error!r}") from error


def origin(report: Report, path: Path) -> str:
    """Machine, day and file."""
    quick = ", a quick run" if report.get("quick") else ""
    return f"{report['cpu']}, {report['date']}{quick} ({path.name})"


def source(report: Report, path: Path, command: str) -> str:
    """Where figures come from, what they were measured with, and what makes them again."""
    return (
        f"{origin(report, path)}: {reports.versions(report)}. "
        f"Made by `{report.get('command', command)}`."
    )
