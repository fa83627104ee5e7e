"""Constants of formulas, for modules that do not import Numba; ``scalar.py`` compiles them."""

from __future__ import annotations


def like(x, value):
    """`value` in the type of `x`."""
    return type(x)(value)
