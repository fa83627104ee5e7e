"""Elementwise formulas in one form, however they were written, so that they can be recognised.

Exporters write one function in many ways: ``0.5·x·(1 + erf(x/√2))``, ``x·(erf(0.7071·x) + 1)/2``.
Here a formula of x is a number, `X`, or a tuple that begins with a name:

- ``("product", c, factors)``, c a number and no factor a number or a product,
- ``("sum", c, terms)``, likewise,
- ``(name, *arguments)``, any other function.

Factors and terms stand in one order; a quotient is a product with ``("reciprocal", b)``, a whole
power one with the same factor again and again.
"""

from __future__ import annotations

import math
from typing import Any

X = ("x",)
"""What the formula is a function of."""

CLOSE = 1e-5
"""Relative difference up to which two numbers are the same: constants are written in float32."""

MOST_PARTS = 8
"""Factors of a product, or terms of a sum."""

Formula = Any


def product(*factors: Formula) -> Formula:
    """The product of some formulas."""
    number, others = 1.0, []
    for factor in factors:
        if isinstance(factor, float):
            number *= factor
        elif factor[0] == "product":
            number *= factor[1]
            others += factor[2]
        else:
            others.append(factor)
    return _gathered("product", number, 1.0, others)


def total(*terms: Formula) -> Formula:
    """The sum of some formulas."""
    number, others = 0.0, []
    for term in terms:
        if isinstance(term, float):
            number += term
        elif term[0] == "sum":
            number += term[1]
            others += term[2]
        else:
            others.append(term)
    return _gathered("sum", number, 0.0, others)


def _gathered(kind: str, number: float, neutral: float, others: list[Formula]) -> Formula:
    if len(others) > MOST_PARTS:
        raise TypeError(f"a {kind} of more than {MOST_PARTS} parts is none of those looked for")
    if not others:
        return number
    if number == neutral and len(others) == 1:
        return others[0]
    return kind, number, tuple(sorted(others, key=lambda other: repr(_without_numbers(other))))


def _without_numbers(formula: Formula) -> Formula:
    """The formula's structure, by which it has its place in an order."""
    if isinstance(formula, tuple):
        return tuple(_without_numbers(part) for part in formula)
    return formula if isinstance(formula, str) else "#"


def quotient(a: Formula, b: Formula) -> Formula:
    """``a/b``."""
    return product(a, 1.0 / b if isinstance(b, float) and b else ("reciprocal", b))


def power(a: Formula, exponent: Formula) -> Formula:
    """``a^exponent``, of 2, 3 and plus or minus one half; of no other a formula that is known."""
    match exponent:
        case 2.0 | 3.0:
            return product(*[a] * int(exponent))
        case 0.5:
            return "sqrt", a
        case -0.5:
            return "reciprocal", ("sqrt", a)
    return "power", a, exponent


def matched(pattern: Formula, formula: Formula) -> list[float] | None:
    """The numbers that `formula` has where `pattern` has None; None if it is another formula."""
    if pattern is None or isinstance(pattern, float):
        if not isinstance(formula, float):
            return None
        if pattern is None:
            return [formula]
        return [] if math.isclose(pattern, formula, rel_tol=CLOSE, abs_tol=1e-12) else None
    if not isinstance(formula, tuple):
        return [] if pattern == formula else None
    if pattern[:2] == ("product", None) and formula[0] != "product":
        formula = "product", 1.0, (formula,)
    if not isinstance(pattern, tuple) or len(pattern) != len(formula):
        return None
    numbers: list[float] = []
    for own, other in zip(pattern, formula, strict=True):
        found = matched(own, other)
        if found is None:
            return None
        numbers += found
    return numbers
