"""Activation functions: their names, the ops that they become, and each as a function of arrays.

``fastnn.activations.gelu(x)``, and so on for every name, is the activation of each element of an
array, for ``softmax``, ``log_softmax`` and ``sparsemax`` of each row (the last axis). Elementwise
ones come out of the table in ``fastnn/kernels/activations.py``, which says how to add one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.engine import cpu
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels.activations import ALIASES, WITH_OWN, Elementwise
from fastnn.kernels.formula import OwnFunction
from fastnn.kernels.signatures import ACTIVATIONS, ROWWISE

Array = npt.NDArray[Any]

NAMES = ("linear", *ACTIVATIONS, *ROWWISE)
"""Every activation, as named in ``Dense(activation=...)`` and ``Activation(...)``."""


class Custom(OwnFunction):
    """An activation of the user's own, as `fastnn.activation` makes it."""

    op: str


Name = str | Custom
"""What stands for an activation: one of `NAMES`, or the user's own."""


def check(name: object, owner: str) -> Name:
    """`name` as one of `NAMES`, or an activation of the user's; None stands for ``"linear"``.

    Raises
    ------
    ValueError
        If there is no such activation.
    """
    if name is None:
        return "linear"
    if isinstance(name, Custom):
        return name
    if not isinstance(name, str) or name not in (*NAMES, *ALIASES):
        known = ", ".join((*NAMES, *ALIASES))
        hint = "; put @fastnn.activation before it" if callable(name) else ""
        raise ValueError(f"{owner}: activation must be one of {known}, got {name!r}{hint}")
    return ALIASES.get(name, name)


def line_of(name: Name) -> Elementwise | None:
    """The line of an elementwise activation; None for linear and those of rows."""
    return WITH_OWN.get(name.op if isinstance(name, Custom) else name)


def check_parameters(name: Name, given: dict[str, Any], owner: str) -> dict[str, Any]:
    """All parameters of the activation called `name`, out of those that are `given`.

    Raises
    ------
    TypeError, ValueError
        If it has no such parameter, or not of such a value.
    """
    line = line_of(name)
    checked: dict[str, Any] = {}
    if line is not None and line.parameter is not None:
        own, default, interval = line.parameter
        checked[own] = checks.number(owner, own, given.get(own, default), interval)
    if line is not None and line.approximate is not None:
        checked["approximate"] = bool(given.get("approximate", False))
    unknown = sorted(set(given) - set(checked))
    if unknown:
        expected = ", ".join(checked) or "none"
        raise TypeError(f"{owner}: {name} has no parameter {unknown[0]!r}, expected {expected}")
    return checked


def is_elementwise(name: Name) -> bool:
    """Whether it is applied to each element by itself."""
    return name not in ROWWISE


def has_derivative(name: Name) -> bool:
    """Whether a network can be trained through it."""
    line = line_of(name)
    return line is None or line.derivative is not None


def _op(name: Name, parameters: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """The ops' name without ``_forward`` and ``_backward``, and their scalars."""
    line = line_of(name)
    if isinstance(name, Custom):
        name = name.op
    if line is None:
        return name, {}
    if line.approximate is not None and parameters.get("approximate"):
        return line.approximate, {}
    if line.parameter is None:
        return name, {}
    return name, {"parameter": parameters.get(line.parameter.name, line.parameter.default)}


def forward(tape: Tape, name: Name, x: Any, **parameters: Any) -> tuple[Any, Any]:
    """The activation of `x` (N, ...), and what `backward` needs: x or that same output."""
    if name == "linear":
        return x, None
    y = tape.new(tuple(x.shape[1:]))
    op, scalars = _op(name, parameters)
    tape.op(f"{op}_forward", y=y, x=x, **scalars)
    line = line_of(name)
    return y, x if line is not None and line.of == "x" else y


def backward(tape: Tape, name: Name, dy: Any, kept: Any, **parameters: Any) -> Any:
    """The gradient of the activation's input, from that of its output and what `forward` kept."""
    if name == "linear":
        return dy
    dx = tape.new(tuple(dy.shape[1:]))
    op, scalars = _op(name, parameters)
    line = line_of(name)
    of = "y" if line is None else line.of
    tape.op(f"{op}_backward", dx=dx, dy=dy, **{of: kept}, **scalars)
    return dx


def of_array(name: Name, x: Any, parameters: dict[str, Any]) -> Array:
    """The activation of an array, as a new array."""
    own = check_parameters(name, parameters, str(name))
    array = checks.array(x, f"{name}: x", any_shape=True)
    rows = np.ascontiguousarray(array, "float64" if array.dtype == np.float64 else "float32")
    if not is_elementwise(name) and array.ndim == 0:
        raise ValueError(f"{name}: x must have rows, got a scalar")
    if rows.size == 0:
        return rows.reshape(array.shape)
    rows = rows.reshape(1, -1) if is_elementwise(name) else rows.reshape(-1, array.shape[-1])
    tape = Eager(len(rows), str(rows.dtype), cpu.new_state())
    y: Array = forward(tape, name, rows, **own)[0]
    return (y.copy() if y is rows else y).reshape(array.shape)


def _function(name: str) -> Callable[..., Array]:
    """The activation as a function of arrays."""

    def activation(x: Any, **parameters: Any) -> Array:
        return of_array(name, x, parameters)

    activation.__name__ = activation.__qualname__ = name
    line = line_of(name)
    activation.__doc__ = (line.formula.__doc__ if line else None) or f"{name} of an array."
    return activation


def __getattr__(name: str) -> Callable[..., Array]:
    """The activation called `name` as a function of arrays.

    ``name(x, **parameters)``: x is an array_like of any shape (rows along the last axis for
    softmax and its kin), parameters are those of ``fastnn.Activation(name)``. Returned is a new
    array of the shape of x, of float64 where x is, else of float32.
    """
    if name not in (*NAMES, *ALIASES):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = _function(ALIASES.get(name, name))
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES, *ALIASES])
