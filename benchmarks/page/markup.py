"""Sections as one HTML page that needs nothing beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.page.charts import LEGEND, Bar, Chart, Group, Scale, Section

TITLE = "fastnn: how fast"

INTRODUCTION = (
    "What was measured last and kept, misses among it. Each section names its machine, day, file "
    "and versions, and the command that makes its figures again; their definitions stand in the "
    "modules under `benchmarks/`. Behind a median, its quartiles stand in brackets; 2.1x has taken "
    "2.1 times as long as the first bar of its group, as a median over rounds in which all had "
    "their turns."
)


def page(sections: Sequence[Section]) -> str:
    """The whole page."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    body = [line for each in sections for line in section(each)]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{TITLE}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            f"<h1>{TITLE}</h1>",
            f"<p>{inline(INTRODUCTION)}</p>",
            *legend(),
            *contents(sections),
            *body,
            f"<footer>{inline('Made by `python -m benchmarks.page`.')}</footer>",
            "</body>",
            "</html>",
            "",
        ]
    )


def legend() -> Iterator[str]:
    """What the colours and the lines are."""
    yield '<ul class="legend">'
    for kind, text in LEGEND.items():
        yield f'<li class="{kind}"><span class="swatch"></span>{inline(text)}</li>'
    yield '<li><span class="swatch spread"></span>between the quartiles</li>'
    yield '<li><span class="swatch mark"></span>what is named beside the group</li>'
    yield "</ul>"


def contents(sections: Sequence[Section]) -> Iterator[str]:
    """Links to every chart."""
    yield "<nav>"
    for each in sections:
        links = (
            f'<a href="#{place(each, chart)}">{inline(chart.title)}</a>' for chart in each.charts
        )
        yield f"<p><b>{inline(each.title)}</b> {' · '.join(links)}</p>"
    yield "</nav>"


def place(section: Section, chart: Chart) -> str:
    """A chart's name on the page, and that of its picture."""
    return f"{section.kind}-{chart.name}"


def section(found: Section) -> Iterator[str]:
    """A report's paragraphs and charts."""
    yield f'<section id="{found.kind}">'
    yield f"<h2>{inline(found.title)}</h2>"
    for paragraph in found.paragraphs:
        yield f"<p>{inline(paragraph)}</p>"
    for chart in found.charts:
        yield f'<h3 id="{place(found, chart)}">{inline(chart.title)}</h3>'
        yield f"<p>{inline(chart.text)}</p>"
        yield '<div class="groups">'
        for group, scale in zip(chart.groups, chart.scales(), strict=True):
            if chart.folded:
                yield "<details>"
            tag = "summary" if chart.folded else "h4"
            yield f"<{tag}>{inline(heading(chart, group))}</{tag}>"
            yield from table(chart, group, scale)
            if chart.folded:
                yield "</details>"
        yield "</div>"
    yield "</section>"


def table(chart: Chart, group: Group, scale: Scale) -> Iterator[str]:
    """A group: a line for each bar, with its figures, and the axis below."""
    ticks = [scale.place(tick) for tick in scale.ticks()]
    marks = [scale.place(mark) for mark in group.marks.values()]
    lines = [line("--mark", 2, at) for at in marks] + [line("--line", 1, at) for at in ticks]
    yield f'<table style="--lines:{",".join(lines)}">'
    for bar in group.bars:
        yield row(bar, scale)
    yield '<tr class="axis"><th></th><td class="track">'
    for tick, at in zip(scale.ticks(), ticks, strict=True):
        yield f'<span style="left:{at:.2%}">{html.escape(chart.tick(tick))}</span>'
    yield "</td></tr></table>"


def heading(chart: Chart, group: Group) -> str:
    """A group's label, and what its marks are."""
    marks = [f"{name} {chart.tick(mark)}" for name, mark in group.marks.items()]
    return " · ".join([group.label, *marks])


def line(colour: str, width: int, at: float) -> str:
    """A line across all bars, as a background."""
    return f"linear-gradient(var({colour}),var({colour})) {at:.2%} 0/{width}px 100% no-repeat"


def row(bar: Bar, scale: Scale) -> str:
    """A bar with its name, its figure and its note."""
    low, middle, high = (scale.place(value) for value in bar.values)
    spread = (
        f'<span class="spread" style="left:{low:.2%};width:{high - low:.2%}"></span>'
        if low < high
        else ""
    )
    return (
        f'<tr class="{bar.kind}"><th scope="row">{inline(bar.name)}</th>'
        f'<td class="track"><span class="bar" style="width:{middle:.2%}"></span>{spread}</td>'
        f'<td class="figure">{inline(bar.text)}</td><td class="note">{inline(bar.note)}</td></tr>'
    )


def inline(text: str) -> str:
    """Text for HTML; code stands between backticks."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text))
