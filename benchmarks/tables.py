"""Figures as text: columns for a terminal, quantities with their units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def columns(head: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are set to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        set_out = (
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(set_out).rstrip()

    return "\n".join([line(head), *map(line, lines)])


def duration(microseconds: float) -> str:
    """Such as 1.28 µs, 33.3 ms, 2.70 s: three digits."""
    unit, size = unit_of(microseconds)
    return f"{three_digits(microseconds / size)} {unit}"


def durations(triple: Sequence[float]) -> str:
    """A median with its quartiles in brackets, microseconds: 33.3 [32.9 33.6] ms."""
    unit, size = unit_of(triple[1])
    low, middle, high = (three_digits(value / size) for value in triple)
    return f"{middle} [{low} {high}] {unit}"


def unit_of(microseconds: float) -> tuple[str, float]:
    """The unit in which a duration has its three digits, and its microseconds."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= 0.9995 * size:
            return unit, size
    return "µs", 1.0


def three_digits(value: float) -> str:
    """`value` with three significant digits, without an exponent."""
    for limit, digits in ((9.995, 2), (99.95, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def times(ratio: float) -> str:
    """A ratio such as 0.97x, 1.4x, 23x."""
    return (
        f"{ratio:.2f}x" if ratio < 0.995 else f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:.0f}x"
    )


def spread(triple: Sequence[float], digits: int = 2) -> str:
    """A median with its quartiles in brackets."""
    low, middle, high = triple
    return f"{middle:.{digits}f} [{low:.{digits}f} {high:.{digits}f}]"


def compared(cases: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """A table of contestants: a line each, with time, ratio to the first and turns."""
    lines = []
    for label, contestants in cases:
        for name, figures in contestants.items():
            low, middle, high = figures["microseconds"]
            lines.append(
                (
                    label,
                    name,
                    duration(middle),
                    f"[{three_digits(low)} {three_digits(high)}]",
                    spread(figures["ratio"]),
                    str(figures["turns"]),
                )
            )
            label = ""
    return columns(("", "", "median", "quartiles, µs", "ratio", "turns"), lines, left=2)
