"""What makes a plain Python function a formula: compiled code may call it; no more changes.

A formula takes and gives scalars of one type, float32 or float64, and runs as Python as it stands.
No file of formulas imports Numba: what they are can be read, and they can be called, without it.
`compiled` tells Numba of them when there is something to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

Bodies = tuple[Callable[..., Any], ...]
"""The formula itself, or the one of float32 and the one of float64."""

_known: list[tuple[Callable[..., Any], Bodies]] = []
_listeners: list[Callable[[Callable[..., Any], Bodies], None]] = []


def _tell(name: Callable[..., Any], *bodies: Callable[..., Any]) -> None:
    _known.append((name, bodies))
    for listener in _listeners:
        listener(name, bodies)


def for_each(listener: Callable[[Callable[..., Any], Bodies], None]) -> None:
    """Call ``listener(function, bodies)`` for every formula, and for those still to come."""
    _listeners.append(listener)
    for name, bodies in _known:
        listener(name, bodies)


def formula(function: Function) -> Function:
    """Let compiled code call `function`."""
    _tell(function, function)
    return function


rounded_formulas: set[Callable[..., Any]] = set()
"""Formulas in which every product is rounded, see `rounded`."""


def rounded(function: Function) -> Function:
    """Let compiled code call `function`, with every product rounded before it is added to.

    Of a sum of two products the compiler may fuse either. In formulas of fastnn's own it is seen to
    that there is none; in others a result would depend on the element's place in the array.
    """
    rounded_formulas.add(function)
    return formula(function)


class OwnFunction:
    """What stands for a plain function of the user's, its `function`, where formulas call it."""

    function: Any


def by_type(name: str, function32: Function, function64: Function) -> Function:
    """One name for two formulas, chosen by the first argument's type as the caller is compiled."""

    def dispatch(x: Any, *others: Any) -> Any:
        if isinstance(x, np.float32):
            return function32(x, *others)
        if isinstance(x, float):  # np.float64 is one
            return function64(np.float64(x), *others)
        raise TypeError(f"{name}: x must be a float32 or a float64, got {type(x).__name__}")

    dispatch.__name__ = dispatch.__qualname__ = name
    dispatch.__doc__ = (function32.__doc__ or "").replace("a float32", "a float32 or a float64")
    _tell(dispatch, function32, function64)
    return dispatch  # type: ignore[return-value]


def like(x: Any, value: Any) -> Any:
    """`value` in the type of `x`: a bare ``2`` would widen a float32 formula to float64."""
    return type(x)(value)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once: with −(a·b) for c, what rounding lost of that product."""
    if isinstance(a, np.float32):
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    plain = a * b + c
    if not np.isfinite([a, b, c]).all():
        return plain
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return np.float64(float(exact)) if exact else plain  # which has the sign of a zero


def smallest_normal(x: Any) -> Any:
    """The smallest positive number of the type of `x` that has all its digits."""
    return type(x)(2.0**-126 if isinstance(x, np.float32) else 2.0**-1022)
