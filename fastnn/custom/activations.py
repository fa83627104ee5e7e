"""Activations of your own."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastnn import activations
from fastnn.custom.functions import ANY, Plain, decorator, defaults_of, derivative_text, named
from fastnn.kernels.derivation import derive
from fastnn.kernels.own import Own, take_in, text_of

Array = npt.NDArray[Any]


class OwnActivation(activations.Custom):
    """An activation of your own: ``Dense(activation=f)``, ``Activation(f)``, or ``f(array)``."""

    def __init__(self, function: object) -> None:
        self.function = given = named(function, "activation")
        self._owner = f"activation {given.__name__}"
        defaults = defaults_of(given, self._owner, 1)
        if len(defaults) > 1:
            raise ValueError(
                f"{self._owner} may have one parameter besides x, got {', '.join(defaults)}"
            )
        parameter = next(([name, value, ANY] for name, value in defaults.items()), None)
        text = text_of(given, self._owner)
        settings = {"of": "x", "parameter": parameter}
        self._take(Own("activation", given.__name__, text, derive(text, [0]), settings))
        self.__name__, self.__doc__ = given.__name__, given.__doc__

    def _take(self, own: Own) -> None:
        self.own, self.op = own, take_in(own)

    def derivative(self, function: Plain | None = None, *, of: str = "x") -> Any:
        """Take `function` for the derivative, in place of the one found: a decorator.

        Parameters
        ----------
        function : function
            With the arguments of the activation.
        of : {"x", "y"}
            What its first argument is: the activation's input, or its output. Of the output, the
            input need not be kept in memory.

        Returns
        -------
        OwnActivation
            This one.
        """
        if of not in ("x", "y"):
            raise ValueError(f"{self._owner}: of must be 'x' or 'y', got {of!r}")

        def made(function: Plain) -> OwnActivation:
            text = derivative_text(function, self.function, self._owner)
            settings = {**self.own.settings, "of": of}
            self._take(self.own._replace(derivative=text, settings=settings))
            return self

        return decorator(function, made)

    def __call__(self, x: Any, **parameters: Any) -> Array:
        """The activation of each element of an array, as a new array."""
        return activations.of_array(self, x, parameters)

    def __str__(self) -> str:
        return self.own.name

    def __repr__(self) -> str:
        return f"<activation {self.op}>"


def activation(
    function: Plain | None = None, *, derivative: Plain | None = None, of: str = "x"
) -> Any:
    """Make an activation out of a function of one number, ``f(x)`` or ``f(x, parameter=...)``.

    Parameters
    ----------
    function : function
        It may have one parameter, with a default; ``Activation(f, parameter=...)`` gives others.
    derivative : function, optional
        With the same arguments; ``@f.derivative`` gives it later. By default it is found by exact
        rules, as a function of the input. One's own may be more accurate, or take the output, which
        saves memory; `fastnn.gradcheck` tells if it is wrong.
    of : {"x", "y"}
        What the derivative's first argument is: the activation's input, or its output.

    Returns
    -------
    OwnActivation

    Raises
    ------
    ValueError, TypeError
        If it cannot be compiled: the message has the function, the line and the reason.

    Examples
    --------
    >>> import fastnn, math
    >>> @fastnn.activation
    ... def gaussian(x, width=1.0):
    ...     return math.exp(-x * x / (2 * width**2))
    >>> layers = [fastnn.Dense(8, activation=gaussian), fastnn.Activation(gaussian, width=2.0)]
    >>> float(gaussian(0.0))
    1.0
    >>> @fastnn.activation
    ... def logistic(x):
    ...     return 1 / (1 + math.exp(-x))
    >>> @logistic.derivative(of="y")
    ... def logistic(y):
    ...     return y * (1 - y)
    """

    def made(function: Plain) -> OwnActivation:
        own = OwnActivation(function)
        return own if derivative is None else own.derivative(derivative, of=of)

    return decorator(function, made)
