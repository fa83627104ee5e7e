"""Charts as data: groups of bars and the scales they stand on, whoever draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks import tables
from benchmarks.reports import NAMES

Triple = tuple[float, float, float]

OWN, PEER, MISS = "own", "peer", "miss"
"""Kinds of bars."""

MICROSECONDS = {"microseconds": 1.0, "seconds": 1e6}
"""Units of times in reports."""

LEGEND = {
    OWN: "fastnn",
    PEER: "a peer",
    MISS: "a peer ahead of fastnn, or a goal missed",
}
"""What they are."""


def of_duration(microseconds: float) -> str:
    """A tick such as 0.1 µs, 10 ms."""
    unit, size = tables.unit_of(microseconds)
    return f"{microseconds / size:.3g} {unit}"


def of_nanoseconds(value: float) -> str:
    """A tick of them."""
    return f"{value:g} ns"


def of_number(value: float) -> str:
    """A tick without a unit."""
    return f"{value:.3g}"


class Bar(NamedTuple):
    """One figure.

    Attributes
    ----------
    name : str
        Who, or what.
    values : (float, float, float)
        Lower quartile, median, upper quartile; thrice the same where it was measured once.
    text, note : str
        The figure with its spread; what else is known.
    short : str
        The figure alone, for pictures.
    kind : {"own", "peer", "miss"}
    """

    name: str
    values: Triple
    text: str
    note: str = ""
    short: str = ""
    kind: str = OWN


class Group(NamedTuple):
    """Bars to be compared with each other, and values to be marked beside them."""

    label: str
    bars: Sequence[Bar]
    marks: Mapping[str, float] = {}


class Chart(NamedTuple):
    """Groups of one subject.

    Attributes
    ----------
    name : str
        Of its place on the page and of its picture.
    title, text : str
        What it is; how it is to be read.
    tick : callable
        A value on the axis as text.
    logarithmic : bool
        Otherwise the scale begins at 0.
    common : bool
        One scale for all groups.
    folded : bool
        Groups are closed on the page until they are asked for.
    """

    name: str
    title: str
    text: str
    groups: Sequence[Group]
    tick: Callable[[float], str] = of_duration
    logarithmic: bool = True
    common: bool = False
    folded: bool = False

    def scales(self) -> list[Scale]:
        """The scale of each group."""
        if self.common:
            return [scale_of(self.groups, self.logarithmic)] * len(self.groups)
        return [scale_of([group], self.logarithmic) for group in self.groups]


class Section(NamedTuple):
    """What the page says of one report: `origin` is a line on where it comes from."""

    kind: str
    title: str
    origin: str
    paragraphs: Sequence[str]
    charts: Sequence[Chart]


class Scale(NamedTuple):
    """From where to where a bar reaches."""

    low: float
    high: float
    logarithmic: bool

    def place(self, value: float) -> float:
        """Where `value` is, from 0 to 1."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Powers of ten, or up to six round numbers."""
        if self.logarithmic:
            begin, end = math.log10(self.low), math.log10(self.high)
            return [10.0**n for n in range(round(begin), math.floor(end) + 1)]
        step = 10.0 ** math.floor(math.log10(self.high))
        step *= next(part for part in (0.2, 0.5, 1, 2) if self.high <= 5 * part * step)
        return [n * step for n in range(math.floor(self.high / step) + 1)]


def scale_of(groups: Sequence[Group], logarithmic: bool) -> Scale:
    """A scale with room for all bars and marks; a logarithmic one begins at a power of ten.

    There the least bar is as long as a factor of two at least, to be seen.
    """
    bars = [bar.values for group in groups for bar in group.bars]
    marks = [mark for group in groups for mark in group.marks.values()]
    high = 1.05 * max([*marks, *(values[2] for values in bars)])
    if not logarithmic:
        return Scale(0.0, high, False)
    low = min([*marks, *(values[0] / 2 for values in bars)])
    return Scale(10.0 ** math.floor(math.log10(low)), high, True)


def display(name: str) -> str:
    """A contestant by the name that people call it."""
    first, comma, rest = name.partition(",")
    return f"{NAMES.get(first, first)}{comma}{rest}"


def is_own(name: str) -> bool:
    """Whether a contestant is fastnn, in whatever manner."""
    return name.startswith(("fastnn", "import fastnn", "Model.train", "by hand"))


def unit_of(figures: Mapping[str, Any]) -> str:
    """In what `rounds.figures` was told to count."""
    return next(unit for unit in MICROSECONDS if unit in figures)


def is_ahead(figures: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
    """Whether a peer is faster than the first, by its ratio within rounds or by its median."""
    unit = unit_of(first)
    faster: bool = figures["ratio"][1] < 1 or figures[unit][1] < first[unit][1]
    return faster


def contestants(
    found: Mapping[str, Mapping[str, Any]], more: Mapping[str, str] = MappingProxyType({})
) -> list[Bar]:
    """A bar for each of `rounds.figures`; `more` adds to their notes."""
    first = next(iter(found.values()))
    bars: list[Bar] = []
    for name, figures in found.items():
        unit = unit_of(figures)
        ratio = figures["ratio"]
        notes = [f"{figures['turns']} turns"]
        if bars:
            low, middle, high = map(tables.three_digits, ratio)
            notes.insert(0, f"{middle}x [{low} {high}]")
        bars.append(
            duration_bar(
                display(name),
                [MICROSECONDS[unit] * value for value in figures[unit]],
                "; ".join(filter(None, [*notes, more.get(name)])),
                OWN if is_own(name) else MISS if is_ahead(figures, first) else PEER,
                f" ({tables.times(ratio[1])})" if bars else "",
            )
        )
    return bars


def duration_bar(
    name: str, microseconds: Sequence[float], note: str, kind: str, after: str = ""
) -> Bar:
    """A duration; `after` is what a picture says after it."""
    low, middle, high = microseconds
    short = tables.duration(middle) + after
    return Bar(name, (low, middle, high), tables.durations(microseconds), note, short, kind)


def share_bar(name: str, shares: Sequence[float], note: str, kind: str = OWN) -> Bar:
    """A share, of which 1 is the whole."""
    low, middle, high = shares
    return Bar(name, (low, middle, high), tables.spread(shares), note, f"{middle:.2f}", kind)


def nanoseconds(name: str, values: Sequence[float], note: str = "", kind: str = OWN) -> Bar:
    """A time of an element."""
    low, middle, high = values
    text = tables.spread(values, 3) if low < high else f"{middle:.3f}"
    return Bar(name, (low, middle, high), f"{text} ns", note, f"{middle:.3f} ns", kind)


def once(value: float) -> Triple:
    """What was measured once, as a bar's values."""
    return value, value, value
