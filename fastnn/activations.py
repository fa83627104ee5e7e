"""Activation functions: their names, and the ops that they become."""

from __future__ import annotations

from typing import Any

from fastnn.engine.tape import Tape
from fastnn.kernels.signatures import ACTIVATIONS

NAMES = ("linear", *ACTIVATIONS, "softmax")
"""Every activation, as named in ``Dense(activation=...)`` and ``Activation(...)``."""


def check(name: object, owner: str) -> str:
    """`name` as one of `NAMES`; None stands for ``"linear"``.

    Raises
    ------
    ValueError
        If there is no such activation.
    """
    if name is None:
        return "linear"
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"{owner}: activation must be one of {', '.join(NAMES)}, got {name!r}")
    return name


def forward(tape: Tape, name: str, x: Any) -> Any:
    """The activation of `x` (N, ...), row by row for softmax."""
    if name == "linear":
        return x
    y = tape.new(tuple(x.shape[1:]))
    tape.op(f"{name}_forward", y=y, x=x)
    return y


def backward(tape: Tape, name: str, dy: Any, y: Any) -> Any:
    """The gradient of the activation's input, from that of its output and the output itself."""
    if name == "linear":
        return dy
    dx = tape.new(tuple(dy.shape[1:]))
    tape.op(f"{name}_backward", dx=dx, dy=dy, y=y)
    return dx
