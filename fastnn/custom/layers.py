"""Elementwise layers of your own, with parameters by column."""

from __future__ import annotations

import inspect
import types
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn.custom.functions import (
    Plain,
    bound,
    class_of,
    decorator,
    defaults_of,
    derivative_text,
    named,
    numbers_of,
    require_derivative,
    signature_of,
)
from fastnn.engine.tape import Tape
from fastnn.kernels.columns import MOST_PARAMETERS
from fastnn.kernels.derivation import derive
from fastnn.kernels.own import Own, take_in, text_of
from fastnn.layers.base import Layer, Shape

Array = npt.NDArray[Any]

OPTIONS = {
    name: parameter
    for name, parameter in inspect.signature(Layer).parameters.items()
    if parameter.kind is not inspect.Parameter.VAR_KEYWORD
}
"""What every layer takes besides."""


class OwnLayer(Layer):
    """What layers of your own that are functions of numbers have in common."""

    own: ClassVar[Own]
    op: ClassVar[str]
    function: ClassVar[types.FunctionType]
    parameters: ClassVar[dict[str, float]]

    def __init__(self, *values: Any, **named: Any) -> None:
        require_derivative(self.own)
        given = bound(self, values, named)
        super().__init__(**{option: given.pop(option) for option in OPTIONS})
        self._values = numbers_of(self, given)

    @classmethod
    def derivative(cls, function: Plain) -> type[OwnLayer]:
        """Take `function` for the derivatives by x and each parameter, a tuple: a decorator."""
        owner = f"layer {cls.own.name}"
        text = derivative_text(function, cls.function, owner, 1 + len(cls.parameters))
        cls.own = cls.own._replace(derivative=text)
        cls.op = take_in(cls.own)
        return cls

    def build(self, input_shape: Shape) -> None:
        """Make the parameters, one of each for every column."""
        for name, value in self._values.items():
            self.add_weight(name, input_shape, lambda shape, _, value=value: np.full(shape, value))

    def _operands(self, prefix: str, arrays: Any) -> dict[str, Array]:
        return {f"{prefix}{index}": arrays[name] for index, name in enumerate(self.parameters)}

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """``y = f(x, a, b, ...)``."""
        y = tape.new(tuple(x.shape[1:]))
        tape.op(f"{self.op}_forward", y=y, x=x, **self._operands("w", self.params))
        tape.save(self, x)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """``dx = dy ⊙ ∂f/∂x``, and of each parameter ``Σ_n dy ⊙ ∂f/∂a``."""
        (x,) = tape.saved(self)
        dx = tape.new(tuple(x.shape[1:]))
        arrays = self._operands("w", self.params) | self._operands("dw", self.grads)
        tape.op(f"{self.op}_backward", dx=dx, dy=dy, x=x, **arrays)
        return dx if wants_dx else None

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {**self._values, **super().get_config()}

    def __repr__(self) -> str:
        return f"<{self.op} {self.get_config()}>"


def layer(function: Plain | None = None, *, derivative: Plain | None = None) -> Any:
    """Make an elementwise layer out of a function, ``f(x, a=..., b=...)``, with a and b trained.

    Each element of a row has parameters of its own, which begin with the function's defaults.

    Parameters
    ----------
    function : function
        Of a number and 1 to 6 parameters.
    derivative : function, optional
        With the same arguments: a tuple of the derivatives by x and by each parameter;
        ``@f.derivative`` gives it later. By default they are found by exact rules.

    Returns
    -------
    type
        A class of layers: ``f()``, ``f(a=..., name=...)``, with the options of `Layer`.

    Raises
    ------
    ValueError, TypeError
        If it cannot be compiled: the message has the function, the line and the reason.

    Examples
    --------
    >>> import fastnn, math, numpy as np
    >>> @fastnn.layer
    ... def Wave(x, a=1.0, b=0.5):
    ...     return a * x + b * math.sin(x)
    >>> Wave(a=2.0).forward(np.zeros((1, 3))).shape
    (1, 3)
    """

    def made(function: Plain) -> type[OwnLayer]:
        given = named(function, "layer")
        owner = f"layer {given.__name__}"
        parameters = defaults_of(given, owner, 1)
        if not 1 <= len(parameters) <= MOST_PARAMETERS or set(OPTIONS) & set(parameters):
            raise ValueError(
                f"{owner} must have 1 to {MOST_PARAMETERS} parameters besides x, none of them "
                f"called {', '.join(OPTIONS)}, got {', '.join(parameters) or 'none'}"
            )
        text, settings = text_of(given, owner), {"parameters": len(parameters)}
        slopes = derive(text, range(1 + len(parameters)))
        own = Own("layer", given.__name__, text, slopes, settings)
        options = [p.replace(kind=p.KEYWORD_ONLY) for p in OPTIONS.values()]
        members = {"parameters": parameters, "__signature__": signature_of(parameters, *options)}
        kind = class_of(OwnLayer, given, own, members)
        return kind if derivative is None else kind.derivative(derivative)

    return decorator(function, made)
