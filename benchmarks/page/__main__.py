"""Kept figures as a page and pictures: ``python -m benchmarks.page``.

Takes the newest report of each kind from ``benchmarks/results``, and writes there ``page.html``,
which needs nothing beside it, and pictures of the charts that README shows or links.
"""

from __future__ import annotations

import argparse
from collections.abc import Container, Sequence
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.page import markup, pictures, sections
from benchmarks.page.charts import Section

PAGE = "page.html"
KEPT_PICTURES = ("cpu-grid", "cpu-grid-all-cores", "cpu-roofline", "cpu-start", "cpu-memory")
"""Of the charts that README shows, the first, or links."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where reports are, and the page goes"
    )
    parser.add_argument("--pictures", type=Path, help="a folder for a picture of every chart")
    options = parser.parse_args(arguments)
    try:
        found = sections.sections(options.results)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    pictures.figure_class()  # before anything is written
    path = options.results / PAGE
    path.write_text(markup.page(found), encoding="utf-8")
    print(f"written: {path}")
    draw(found, options.results, KEPT_PICTURES)
    if options.pictures:
        options.pictures.mkdir(exist_ok=True)
        draw(found, options.pictures)
    return 0


def draw(found: Sequence[Section], folder: Path, names: Container[str] | None = None) -> None:
    """Write a picture of each chart, or only of those of these names."""
    for section in found:
        for chart in section.charts:
            name = markup.place(section, chart)
            if names is None or name in names:
                path = folder / f"{name}.png"
                pictures.draw(chart, section.origin, path)
                print(f"written: {path}")


if __name__ == "__main__":
    raise SystemExit(main())
