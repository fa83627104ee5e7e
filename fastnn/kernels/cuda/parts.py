"""Ops as parts of one kernel that does whole steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastnn.kernels.pointwise import PAIRS
from fastnn.kernels.signatures import signature
from fastnn.kernels.updates import RATES

STEPS = 64
"""Steps of a launch, at most: an epoch's end ends it, and so does a flag."""

MOST_WORDS = 500
"""Integers that a launch takes: 4 KB of parameters."""

LOSSES = ("softmax_crossentropy", "softmax_crossentropy_soft", *PAIRS)
ACCURACIES = ("categorical_accuracy", "categorical_accuracy_soft", "binary_accuracy")

ROWWISE = (*LOSSES, *ACCURACIES)
"""Ops that give some threads of a warp to each row."""

ONE_THREAD = (*RATES, "number_of_step")
"""Ops of a few scalars."""

PRODUCTS = {
    "dense_forward": "NOI",
    "dense_backward_input": "NIO",
    "dense_backward_kernel": "ION",
}
"""Products, and which lengths are their rows, columns and depth."""


class Part(NamedTuple):
    """An op of a step: its name, element types, and what its kernel is compiled for."""

    name: str
    element_types: tuple[str, ...]
    constants: tuple[int, ...] = ()

    def __str__(self) -> str:
        return "+".join(
            [self.name, ",".join(self.element_types), ",".join(map(str, self.constants))]
        )

    @classmethod
    def read(cls, text: str) -> Part:
        """The part that is written so."""
        name, element_types, constants = text.split("+")
        numbers = tuple(int(number) for number in constants.split(",") if number)
        return cls(name, tuple(element_types.split(",")), numbers)


class PartCall(NamedTuple):
    """A part's text in a kernel: the integers it takes, what its body asks for, and its call."""

    part: Part
    words: list[str]
    wanted: list[str]
    text: str


def calls_of(
    parts: Sequence[Part],
    bodies: Sequence[Any],
    words: Callable[[Any], list[str]],
    arguments: Callable[[Any, Any, tuple[str, ...]], dict[str, str]],
) -> list[PartCall]:
    """The calls of ``body_0``, ``body_1``, …, the device functions `bodies`.

    `words` names what an op takes, `arguments` the expressions that its body is given; see
    `adapter`.
    """
    calls = []
    for number, (part, body) in enumerate(zip(parts, bodies, strict=True)):
        op = signature(part.name)
        own = {word: f"{word}_{number}" for word in words(op)}
        wanted = list(inspect.signature(body.py_func).parameters)
        known = arguments(op, own, part.element_types) | {"staged": "staged"}
        text = f"body_{number}({', '.join(known[name] for name in wanted)})"
        calls.append(PartCall(part, list(own.values()), wanted, text))
    return calls
