"""What the examples share: arguments, claims beside their figures, a table, a picture."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy.typing as npt

from fastnn import checks
from fastnn.optional import INSTALL

Array = npt.NDArray[Any]

WIDTH = 100
"""Columns of text."""

HOLDS, FAILS = "[holds]", "[fails]"
"""Whether the figures of a run bear out a claim."""

Findings = TypeVar("Findings")


class Options(NamedTuple):
    """What every example is called with."""

    seed: int = 0
    quick: bool = False
    out: Path = Path("example.png")


class Report(NamedTuple):
    """What an example says of its findings.

    Attributes
    ----------
    claims : list of (str, bool)
        What the example shows, and whether the figures of this run bear it out.
    header : sequence of str
        What the columns are.
    rows : list of sequences
        Texts and numbers, one of each for a column.
    """

    claims: list[tuple[str, bool]]
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


def show(
    file: str,
    text: str,
    arguments: Sequence[str] | None,
    measure: Callable[[Options], Findings],
    report: Callable[[Findings], Report],
    draw: Callable[[Any, Findings], None],
) -> Findings:
    """Run an example from its arguments to its picture.

    Parameters
    ----------
    file, text : str
        The example's ``__file__`` and ``__doc__``.
    arguments : sequence of str, optional
        None takes those of the command line.
    measure, report, draw : callable
        Does the experiment; says what it shows; draws that into a matplotlib figure.

    Returns
    -------
    Findings
        What `measure` found.
    """
    name = Path(file).stem
    options = parse(name, text, arguments)
    print(text, flush=True)  # to be read while the experiment runs
    findings = measure(options)
    said = report(findings)
    for claim, holds in said.claims:
        line = f"{HOLDS if holds else FAILS} {claim}."
        print(textwrap.fill(line, WIDTH, subsequent_indent=" " * (len(HOLDS) + 1)))
    print()
    print("\n".join(table(said.header, said.rows)))
    print()
    print(picture(options.out, draw, findings))
    return findings


def parse(name: str, text: str, arguments: Sequence[str] | None) -> Options:
    """The options that an example is called with; wrong ones end the program with a message."""
    parser = argparse.ArgumentParser(
        prog=f"python -m fastnn.examples.{name}",
        description=text.partition("\n")[0],
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    parser.add_argument("--quick", action="store_true", help="a small run, of a second or two")
    parser.add_argument(
        "--out", type=Path, default=Path(f"{name}.png"), help="the picture (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    try:
        seed = checks.seed(name, given.seed)
    except ValueError as error:
        parser.error(str(error))
    if given.out.suffix != ".png":
        parser.error(f"--out must be the name of a .png file, got {given.out}")
    if not given.out.parent.is_dir():
        parser.error(f"--out must be in a folder that exists, got {given.out}")
    return Options(seed, given.quick, given.out)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table: its first column to the left, the others to the right."""
    lines = [list(header), *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return [
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def picture(out: Path, draw: Callable[[Any, Findings], None], findings: Findings) -> str:
    """Write the picture, if matplotlib is installed; a line that says where it is, or why not."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return f"no picture: matplotlib is not installed; install it with: {INSTALL['matplotlib']}"
    # A figure of its own: pyplot's belong to the process, and ask for a window system.
    figure = Figure(figsize=(9, 4.8), dpi=120, layout="constrained")
    draw(figure, findings)
    figure.savefig(out)
    return f"picture: {out}"
