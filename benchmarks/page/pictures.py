"""Charts as PNG files, drawn with matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.page.charts import LEGEND, MISS, OWN, PEER, Chart, Group, Scale

COLOURS = {OWN: "#1f6feb", PEER: "#9aa4af", MISS: "#d4570f"}
MARK, INK, LINE = "#6e40c9", "#1b1f24", "#d8dee4"

FULL = 0.6
"""The part of an axis that bars may fill; the rest is for their figures."""

COLUMNS = {True: 4, False: 2}
"""Most groups in a row, where all have the same bars, which then are named once, and otherwise."""

FONT = 8.0  # points


def figure_class() -> Any:
    """Matplotlib's class of figures.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "fastnn[plot]"') from error
    return Figure


def draw(chart: Chart, source: str, path: Path) -> None:
    """Write `chart` to a PNG file, which says and carries `source`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    groups = chart.groups
    alike = len({tuple(bar.name for bar in group.bars) for group in groups}) == 1
    columns = min(len(groups), COLUMNS[alike])
    rows = math.ceil(len(groups) / columns)
    most = max(len(group.bars) for group in groups)
    # A figure of its own: pyplot's belong to the process, and ask for a window system.
    figure = figure_class()(
        figsize=(2.7 * COLUMNS[True] if columns > 1 else 7.0, rows * (0.55 + 0.17 * most) + 0.8),
        dpi=100,
        layout="constrained",
    )
    figure.suptitle(chart.title, fontsize=1.4 * FONT, fontweight="bold", color=INK)
    legend(figure, chart, source)
    axes = figure.subplots(rows, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index >= len(groups):
            axis.set_axis_off()
            continue
        panel(axis, chart, groups[index], chart.scales()[index])
        if alike and index % columns:
            axis.set_yticklabels([])
    figure.savefig(path, metadata={"Title": chart.title, "Source": source})


def legend(figure: Any, chart: Chart, source: str) -> None:
    """What the colours and lines of this chart are, and where the figures come from."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    bars = [bar for group in chart.groups for bar in group.bars]
    kinds = {bar.kind for bar in bars}
    handles: list[Any] = [
        Patch(color=COLOURS[kind], label=text) for kind, text in LEGEND.items() if kind in kinds
    ]
    if any(bar.values[0] < bar.values[2] for bar in bars):
        handles.append(Line2D([], [], color=INK, linewidth=1, label="between the quartiles"))
    for mark in dict.fromkeys(name for group in chart.groups for name in group.marks):
        handles.append(Line2D([], [], color=MARK, linewidth=1, linestyle="--", label=mark))
    figure.legend(
        handles=handles,
        title=source,
        title_fontsize=0.85 * FONT,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=0.85 * FONT,
        frameon=False,
    )


def panel(axis: Any, chart: Chart, group: Group, scale: Scale) -> None:
    """One group: bars from top to bottom, whiskers between their quartiles, and the figures."""
    for at, bar in enumerate(group.bars):
        low, middle, high = (FULL * scale.place(value) for value in bar.values)
        axis.barh(at, middle, height=0.7, color=COLOURS[bar.kind])
        axis.plot([low, high], [at, at], color=INK, linewidth=1)
        weight = "bold" if bar.kind == OWN else "normal"
        axis.text(
            max(middle, high) + 0.015,
            at,
            bar.short,
            va="center",
            fontsize=FONT,
            fontweight=weight,
            color=COLOURS[MISS] if bar.kind == MISS else INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    for mark in group.marks.values():
        axis.axvline(FULL * scale.place(mark), color=MARK, linewidth=1, linestyle="--")
    axis.set_title(group.label, fontsize=1.05 * FONT, loc="left", color=INK)
    axis.set_xlim(0, 1)
    axis.set_ylim(len(group.bars) - 0.4, -0.6)
    axis.set_yticks(range(len(group.bars)), [bar.name for bar in group.bars], fontsize=FONT)
    ticks = scale.ticks()
    axis.set_xticks(
        [FULL * scale.place(tick) for tick in ticks],
        [chart.tick(tick) for tick in ticks],
        fontsize=0.85 * FONT,
        color=INK,
    )
    axis.tick_params(length=0)
    axis.grid(axis="x", color=LINE)
    axis.set_axisbelow(True)
    axis.spines[:].set_visible(False)
