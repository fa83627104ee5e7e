"""Formulas of the user's own: taken into the tables of formulas, under names that say all.

An op's name ends in a hash of its formulas' text and of all else that it is made with. So what is
kept on disk under it is what it says, whoever edits what: an edited formula is another op. The text
goes to processes that compile along with the op's name.
"""

from __future__ import annotations

import hashlib
import json
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels import activations, pointwise, updates
from fastnn.kernels.activations import Elementwise, Parameter
from fastnn.kernels.columns import COLUMNS, Columns
from fastnn.kernels.expressions import NUMBER, Kind, a_kind
from fastnn.kernels.formula import rounded
from fastnn.kernels.pointwise import Pair
from fastnn.kernels.translation import Translation
from fastnn.kernels.updates import Update
from fastnn.kernels.vocabulary import NAMESPACE

_OP = re.compile(r"\w+?_[0-9a-f]{32}")

TRIALS = (0.25, 1.5, -0.75, 3.0, -2.0)
"""Numbers that a formula is tried on."""


class Own(NamedTuple):
    """All that ops of the user's own are made of, as JSON takes it.

    `formula` and `derivative` are texts, of which the last function counts. `settings` are an
    activation's ``of`` and ``parameter``, a loss's ``mean``, an optimizer's ``means``, a layer's
    number of ``parameters``.
    """

    kind: str
    name: str
    formula: str
    derivative: str | None
    settings: dict[str, Any]

    @property
    def op(self) -> str:
        """The name of its ops, or what they begin with."""
        digest = hashlib.sha256(json.dumps(self, sort_keys=True).encode()).hexdigest()[:32]
        return f"{re.sub('[^0-9A-Za-z]', '_', self.name)[:40]}_{digest}"


_taken: dict[str, Own] = {}


def take_in(own: Own) -> str:
    """Have the ops of `own` in the tables; their name."""
    op = own.op
    if op in _taken:
        return op
    formula = _function(own.formula, rounded)
    derivative = None if own.derivative is None else _function(own.derivative, rounded)
    settings = own.settings
    if own.kind == "activation":
        parameter = settings["parameter"] and Parameter(*settings["parameter"])
        activations.WITH_OWN[op] = Elementwise(formula, derivative, settings["of"], parameter)
    elif own.kind == "loss":
        pointwise.WITH_OWN[op] = Pair(formula, derivative, settings["mean"])
    elif own.kind == "optimizer":
        updates.WITH_OWN[op] = Update(formula, tuple(settings["means"]))
    else:
        COLUMNS[op] = Columns(formula, derivative, settings["parameters"])
    _taken[op] = own
    return op


def behind(op: str) -> Own | None:
    """What the op called `op` is made of, if it is the user's own."""
    found = _OP.match(op)
    return _taken.get(found.group()) if found else None


def text_of(
    function: types.FunctionType,
    owner: str,
    returns: Kind = NUMBER,
    names: Mapping[str, str] | None = None,
) -> str:
    """The text of a function, which returns what it should, and was tried.

    Raises
    ------
    ValueError
        If it is no formula: the message begins with `owner` and has the line. If it returns
        something else, or no finite number for any of those it was tried on.
    """
    translation = Translation(owner)
    what = f"{owner}: {function.__name__}"
    kind = translation.add("formula", function, names)
    if kind != returns:
        raise ValueError(f"{what} must return {a_kind(returns)}, returns {a_kind(kind)}")
    formula = _function(translation.text, lambda function: function)
    count = function.__code__.co_argcount
    trials = [[TRIALS[(i + k) % len(TRIALS)] for k in range(count)] for i in range(len(TRIALS))]
    with np.errstate(all="ignore"):
        results = [np.array(formula(*map(np.float64, trial))) for trial in trials]
        if not any(np.isfinite(result).all() for result in results):
            raise ValueError(f"{what} gives no finite number for any of {TRIALS}")
        if translation.runs_as_python:
            _compare(what, function, trials, results)
    return translation.text


def _function(text: str, rounded: Callable[..., Any]) -> Callable[..., Any]:
    """The last function of a text."""
    namespace = {**NAMESPACE, "rounded": rounded}
    exec(text, namespace)
    formula: Callable[..., Any] = namespace["formula"]
    return formula


def _compare(what: str, function: Any, trials: list[list[float]], results: list[Any]) -> None:
    """Refuse a function that, run as Python, is not what was made of it."""
    for trial, result in zip(trials, results, strict=True):
        try:
            expected = np.array(function(*map(np.float64, trial)), np.float64)
        except (ArithmeticError, ValueError, TypeError):
            continue  # Python's logarithm of −1 is an error, a formula's NaN
        differ = ~np.isclose(result, expected, rtol=1e-6, atol=1e-9, equal_nan=True)
        if np.isfinite(expected).all() and differ.any():
            raise ValueError(
                f"{what} of {trial} is {expected}, its formula {result}; does it depend on "
                "something that changes?"
            )
