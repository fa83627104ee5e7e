"""Losses of your own."""

from __future__ import annotations

import types
from typing import Any, ClassVar

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
from fastnn.kernels.derivation import derive
from fastnn.kernels.own import Own, take_in, text_of
from fastnn.losses import Loss

TARGETS = ("values", "probabilities", "classes", "signs", "counts")


class OwnLoss(Loss):
    """What losses of your own have in common."""

    own: ClassVar[Own]
    op: ClassVar[str]
    function: ClassVar[types.FunctionType]

    def __init__(self, *values: Any, **named: Any) -> None:
        require_derivative(self.own)
        self._values = numbers_of(self, bound(self, values, named))

    @classmethod
    def derivative(cls, function: Plain) -> type[OwnLoss]:
        """Take `function` for the derivative by z, in place of the one found: a decorator."""
        owner = f"loss {cls.own.name}"
        cls.own = cls.own._replace(derivative=derivative_text(function, cls.function, owner))
        cls.op = take_in(cls.own)
        return cls

    def op_name(self, labels: bool, logits: bool) -> str:
        """The op of this loss."""
        return self.op

    def scalars(self) -> dict[str, float]:
        """The parameter."""
        return dict(zip(["parameter"], self._values.values(), strict=False))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a loss again."""
        return dict(self._values)

    def __repr__(self) -> str:
        return f"<{self.op} {self._values}>"


def loss(
    function: Plain | None = None,
    *,
    derivative: Plain | None = None,
    mean: bool = True,
    targets: str = "values",
) -> Any:
    """Make a loss out of a function of a prediction and a target, ``f(z, y)``.

    A row's loss is the mean of f over the row's columns, or their sum.

    Parameters
    ----------
    function : function
        ``f(z, y)``, or ``f(z, y, parameter=...)``.
    derivative : function, optional
        Of f by z, with the same arguments; ``@f.derivative`` gives it later. By default it is
        found by exact rules.
    mean : bool
        Whether columns are averaged, or added up.
    targets : {"values", "probabilities", "classes", "signs", "counts"}
        What targets are checked for; labels of classes come as one-hot rows.

    Returns
    -------
    type
        A class of losses: ``compile(loss=f)``, or with another parameter ``f(parameter=...)``.

    Raises
    ------
    ValueError, TypeError
        If it cannot be compiled: the message has the function, the line and the reason.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> @fastnn.loss
    ... def quantile(z, y, q=0.5):
    ...     return max(q * (y - z), (q - 1) * (y - z))
    >>> quantile(q=0.75).forward(np.array([[0.0, 0.0]]), np.array([[4.0, -4.0]]))
    2.0
    """
    if targets not in TARGETS:
        raise ValueError(f"loss: targets must be one of {', '.join(TARGETS)}, got {targets!r}")

    def made(function: Plain) -> type[OwnLoss]:
        given = named(function, "loss")
        owner = f"loss {given.__name__}"
        parameters = defaults_of(given, owner, 2)
        if len(parameters) > 1:
            raise ValueError(f"{owner} may have one parameter besides z and y")
        text = text_of(given, owner)
        own = Own("loss", given.__name__, text, derive(text, [0]), {"mean": bool(mean)})
        members = {"name": own.name, "targets": targets, "__signature__": signature_of(parameters)}
        kind = class_of(OwnLoss, given, own, members)
        return kind if derivative is None else kind.derivative(derivative)

    return decorator(function, made)
