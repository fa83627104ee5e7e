"""What a decorated function must be like, and the classes that are made of it."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar

from fastnn import checks
from fastnn.kernels.expressions import NUMBER
from fastnn.kernels.own import Own, take_in, text_of

Made = TypeVar("Made")
Plain = Callable[..., Any]

ANY = "(-inf, inf)"
"""The interval of a number of the user's own."""


def plain(function: object, owner: str) -> types.FunctionType:
    """`function`, if it is a plain one."""
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"{owner} must be a function, got {function!r}")
    return function


def named(function: object, kind: str) -> types.FunctionType:
    """`function`, if it is a plain one with a name, by which a model with it can be loaded."""
    given = plain(function, kind)
    if given.__name__ == "<lambda>":
        raise ValueError(f"{kind}: a lambda has no name to be loaded by; define it by def")
    return given


def defaults_of(function: types.FunctionType, owner: str, first: int) -> dict[str, float]:
    """Arguments from `first` on, and their defaults, which must be numbers."""
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < first:
        raise ValueError(f"{owner} must take at least {first} arguments, got {len(parameters)}")
    for parameter in parameters[first:]:
        if parameter.default is parameter.empty:
            raise ValueError(f"{owner}: {parameter.name} needs a default, its usual value")
    return {p.name: checks.number(owner, p.name, p.default, ANY) for p in parameters[first:]}


def derivative_text(
    derivative: object, function: types.FunctionType, owner: str, returns: int | str = NUMBER
) -> str:
    """The text of a derivative, which takes the arguments that its function takes."""
    given = plain(derivative, f"{owner}: derivative")
    own, expected = (f.__code__.co_argcount for f in (given, function))
    if own != expected:
        raise ValueError(f"{owner}: the derivative must take {expected} arguments, takes {own}")
    return text_of(given, owner, returns)


def decorator(function: Plain | None, made: Callable[[Plain], Made]) -> Any:
    """What a decorator returns: used bare, what it made; with arguments, the decorator."""
    return made if function is None else made(function)


def class_of(
    base: type[Made], function: types.FunctionType, own: Own, members: dict[str, Any]
) -> type[Made]:
    """A class called as the function is, with its docstring and module."""
    about = {"__doc__": function.__doc__, "__module__": function.__module__}
    ops = {"own": own, "op": take_in(own), "function": function}
    made: type[Made] = type(own.name, (base,), {**about, **ops, **members})
    return made


def require_derivative(own: Own) -> None:
    """Refuse a function through which nothing can be trained."""
    if own.derivative is None:
        raise ValueError(
            f"the derivative of {own.name} is 0 everywhere; @{own.name}.derivative gives it another"
        )


def signature_of(numbers: dict[str, float], *more: inspect.Parameter) -> inspect.Signature:
    """Of the arguments of a class: numbers with their defaults, and `more`."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [inspect.Parameter(name, kind, default=value) for name, value in numbers.items()]
    return inspect.Signature([*own, *more])


def bound(thing: object, values: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """All arguments that a class's signature has, out of those that are given."""
    owner, signature = type(thing).__name__, inspect.signature(type(thing))
    try:
        given = signature.bind(*values, **named)
    except TypeError as error:
        raise TypeError(f"{owner}: {error}; its arguments are {signature}") from None
    given.apply_defaults()
    return given.arguments


def numbers_of(thing: object, given: dict[str, Any]) -> dict[str, float]:
    """Those that are given, if they are numbers."""
    owner = type(thing).__name__
    return {name: checks.number(owner, name, value, ANY) for name, value in given.items()}
