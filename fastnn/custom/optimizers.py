"""Optimizers of your own."""

from __future__ import annotations

import inspect
import types
from typing import Any, ClassVar

from fastnn import checks
from fastnn.custom.functions import ANY, Plain, bound, class_of, named, numbers_of, signature_of
from fastnn.kernels.expressions import NUMBER
from fastnn.kernels.own import Own, text_of
from fastnn.optimizers import Optimizer

KEPT = ("w", "g", "learning_rate", "step")
"""Arguments of an update that have a meaning."""


class OwnOptimizer(Optimizer):
    """What optimizers of your own have in common."""

    own: ClassVar[Own]
    function: ClassVar[types.FunctionType]
    parameters: ClassVar[dict[str, float]]

    def __init__(self, *values: Any, **named: Any) -> None:
        given = bound(self, values, named)
        super().__init__(given.pop("learning_rate"), **given.pop("options"))
        vars(self).update(numbers_of(self, given))

    def scalars(self) -> dict[str, float]:
        """The numbers that the op takes."""
        return {_operand(name): getattr(self, name) for name in self.parameters}

    def __repr__(self) -> str:
        return f"<{self.op} {self.get_config()}>"


def optimizer(function: Plain) -> type[OwnOptimizer]:
    """Make an optimizer out of the update of one weight.

    Parameters
    ----------
    function : function
        ``f(w, g, *means, learning_rate=..., *numbers)``, which returns the new w, and after it the
        new means. w is a weight and g its gradient; means, arguments without a default, are what
        is kept of each weight, 0 at first; numbers, with defaults, are the optimizer's arguments.
        An argument called ``step`` is the step's number, from 1.

    Returns
    -------
    type
        An `Optimizer` with all of its options.

    Raises
    ------
    ValueError, TypeError
        If it cannot be compiled: the message has the function, the line and the reason.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> @fastnn.optimizer
    ... def Signum(w, g, m, learning_rate=0.001, beta=0.9):
    ...     m = beta * m + (1 - beta) * g
    ...     return w - learning_rate * np.sign(m), m
    >>> Signum(1e-4, beta=0.95, weight_decay=0.01).beta
    0.95
    """
    given = named(function, "optimizer")
    owner = f"optimizer {given.__name__}"
    means, numbers = _arguments(given, owner)
    named_as = dict(zip(KEPT, KEPT, strict=True))
    named_as |= {mean: f"mean_{mean}" for mean in means}
    named_as |= {name: _operand(name) for name in numbers if name != "learning_rate"}
    text = text_of(given, owner, 1 + len(means) if means else NUMBER, named_as)
    slots = [named_as[mean] for mean in means]
    own = Own("optimizer", given.__name__, text, None, {"means": slots})
    options = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)
    members: dict[str, Any] = {"name": own.name, "slots": tuple(slots), "parameters": numbers}
    members["__signature__"] = signature_of(numbers, options)
    return class_of(OwnOptimizer, given, own, members)


def _arguments(function: types.FunctionType, owner: str) -> tuple[list[str], dict[str, float]]:
    """The means of an update, and its numbers with their defaults, the learning rate first."""
    arguments = inspect.signature(function).parameters
    without = [name for name, a in arguments.items() if a.default is a.empty]
    means = [name for name in without if name not in KEPT]
    if list(arguments)[: 2 + len(means)] != ["w", "g", *means] or "learning_rate" not in arguments:
        raise ValueError(
            f"{owner}: arguments must be w, g, means without defaults, then learning_rate and "
            f"numbers with defaults, got {', '.join(arguments)}"
        )
    defaults = {n: a.default for n, a in arguments.items() if n not in without and n != "step"}
    defaults = {"learning_rate": 0.01} | defaults
    taken = {*inspect.signature(Optimizer).parameters, *dir(OwnOptimizer), "options"}
    for name in defaults:
        if name != "learning_rate" and (name in taken or name.startswith("_")):
            raise ValueError(f"{owner}: every optimizer has a {name} of its own")
    return means, {n: checks.number(owner, n, value, ANY) for n, value in defaults.items()}


def _operand(number: str) -> str:
    """What one of the user's numbers is called in the formula, where it meets other names."""
    return f"number_{number}"
