"""All that can be compiled: every op, for every element type that a model may ask it for."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.engine.compiler import Key
from fastnn.kernels.signatures import FINISHES, FUNCTIONS, NAMES, SUPPLY, signature

REALS = ("float32", "float64")
"""Element types that models compute in."""

LABELS = "int32"
"""Element type of class labels, which are gathered as they are."""

SOURCES = ("uint8", *REALS)
"""Element types that rows of features are gathered from into a model's own."""


def every_key(reals: Sequence[str] = REALS) -> list[Key]:
    """The keys of everything that models of the element types `reals` may ask for."""
    keys: list[Key] = [("run_steps",)]
    keys += [(name, real) for name in (*FUNCTIONS, *FINISHES) for real in reals]
    for name in NAMES:
        types = {operand.type for operand in signature(name).arrays}
        if "S" in types:
            whole = name == "gather"
            sources = SOURCES if whole else REALS  # numbers of sparse rows are floats
            keys += [(name, real, source) for real in reals for source in sources]
            if whole:
                keys += [(SUPPLY, real, source) for real in reals for source in sources]
                keys += [(name, LABELS, LABELS)]
        else:
            keys += [(name, real) for real in (reals if "T" in types else ("float64",))]
    return keys
