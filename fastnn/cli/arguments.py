"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastnn import checks

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes beside 0; the last as shells have it for Ctrl-C."""


def parser(commands: Any, name: str, run: Callable[..., int], help: str, text: str) -> Any:
    """A command's parser. `text` describes it; what is indented there is shown as it stands."""
    made = commands.add_parser(
        name,
        help=help,
        description=inspect.cleandoc(text),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    return made


def integer(low: int) -> Callable[[str], int]:
    """The type of an argument that is an integer of at least `low`."""

    def parse(text: str) -> int:
        try:
            return checks.integer("it", "value", int(text), low)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"expected an integer of at least {low}, got {text!r}"
            ) from None

    return parse


def number(interval: str) -> Callable[[str], float]:
    """The type of an argument that is a number in `interval`, written like ``"[0, 1)"``."""

    def parse(text: str) -> float:
        try:
            return checks.number("it", "value", float(text), interval)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"expected a number in {interval}, got {text!r}"
            ) from None

    return parse


def auto(parse: Callable[[str], int]) -> Callable[[str], int | None]:
    """The type of an argument that may be "auto", for None."""
    return lambda text: None if text == "auto" else parse(text)


def new_file(suffix: str = "") -> Callable[[str], Path]:
    """The type of an argument that is a file to write, in a folder that exists."""

    def parse(text: str) -> Path:
        path = Path(text)
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"no such folder: {path.parent}")
        if not path.name.endswith(suffix) or path.is_dir():
            raise argparse.ArgumentTypeError(
                f"expected a file's name{suffix and f' in {suffix}'}, got {text!r}"
            )
        return path

    return parse


def table(rows: list[list[str]]) -> str:
    """Texts in columns, the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
