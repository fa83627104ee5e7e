"""What a formula of the user's own may call: Python's functions, and what stands for them.

``math.exp`` and ``np.exp`` in a formula are the `exp` of `transcendental`, which LLVM vectorises,
and so are the five others that are there. Square root, magnitude, sign, limits and choices are
instructions. All others are the C library's, called for each element: right, and slower.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels import transcendental
from fastnn.kernels.formula import formula, like


@formula
def maximum(a, b):
    """The larger one; NaN where either is."""
    larger = b if b > a else a
    return b if b != b else larger


@formula
def minimum(a, b):
    """The smaller one; NaN where either is."""
    smaller = b if b < a else a
    return b if b != b else smaller


@formula
def sign(x):
    """−1, 0 or 1; of a zero, and of NaN, itself."""
    zero, one = like(x, 0), like(x, 1)
    return one if x > zero else (-one if x < zero else x)


class Word(NamedTuple):
    """A function as formulas name it, and the number of its arguments.

    `of_c` says that it is the C library's, whose result, run as Python, may be of another type.
    """

    name: str
    function: Callable[..., Any]
    arguments: int = 1
    of_c: bool = False


_OWN = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid")

_INSTRUCTIONS = (
    Word("sqrt", np.sqrt),
    Word("abs", builtins.abs),
    Word("sign", sign),
    Word("maximum", maximum, 2),
    Word("minimum", minimum, 2),
    Word("clamp", transcendental.clamp, 3),
)

# By NumPy's names; where Python's `math` has another one, beside it.
_OF_C = {
    "sin": "", "cos": "", "tan": "", "sinh": "", "cosh": "", "arcsin": "asin", "arccos": "acos",
    "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "log2": "",
    "log10": "", "floor": "", "ceil": "",
}  # fmt: skip
_OF_C_AND_TWO = {"arctan2": "atan2", "hypot": "", "copysign": ""}

POWER = Word("power", np.power, 2, of_c=True)
"""``a ** b`` where b is no small whole number."""

_C_WORDS = (
    *(Word(name, getattr(np, name), 1, True) for name in _OF_C),
    *(Word(name, getattr(np, name), 2, True) for name in _OF_C_AND_TWO),
    Word("erf", math.erf, 1, True),
    Word("erfc", math.erfc, 1, True),
    POWER,
)

OF_C = frozenset(word.name for word in _C_WORDS)
"""Words that are functions of the C library."""

_WORDS = {
    word.name: word
    for word in (
        *(Word(name, getattr(transcendental, name)) for name in _OWN),
        *_INSTRUCTIONS,
        *_C_WORDS,
    )
}

NAMESPACE: dict[str, Any] = {
    "like": like,
    "inf": math.inf,
    "nan": math.nan,
    **{name: word.function for name, word in _WORDS.items()},
}
"""What the text of a formula sees."""


def _meanings() -> dict[Any, Word]:
    meanings = {word.function: word for word in _WORDS.values()}
    for name in _OWN[:-1]:
        meanings[getattr(math, name)] = meanings[getattr(np, name)] = _WORDS[name]
    for name, other in (_OF_C | _OF_C_AND_TWO).items():
        meanings[getattr(math, other or name)] = _WORDS[name]
    more = {
        math.sqrt: "sqrt", math.fabs: "abs", np.fabs: "abs", np.absolute: "abs", np.sign: "sign",
        builtins.max: "maximum", np.maximum: "maximum", builtins.min: "minimum",
        np.minimum: "minimum", np.clip: "clamp", math.pow: "power",
    }  # fmt: skip
    return meanings | {function: _WORDS[name] for function, name in more.items()}


MEANINGS = _meanings()
"""Every function that a formula may call, and the word that stands for it."""
