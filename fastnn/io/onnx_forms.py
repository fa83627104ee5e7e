"""Activations and layer normalisation, written in simpler operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastnn.io.chains import SOFTPLUS_THRESHOLD, Chain
from fastnn.io.expressions import Formula, X, matched, power, product, quotient, total
from fastnn.io.graphs import Step
from fastnn.io.onnx_graph import Node
from fastnn.kernels.activations import GELU_CUBIC, SELU_ALPHA, SELU_SCALE
from fastnn.layers import Activation, LayerNormalization

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


MOST_STEPS = 12
"""Nodes that are looked at as one formula, which may grow threefold with each."""


def add_form(
    steps: Sequence[Step], start: str, constants: Mapping[str, Array], chain: Chain
) -> bool:
    """Append what `steps` compute from `start`, if it is one of `FORMS`."""
    known: dict[str, Formula] = {start: X}

    def formula(name: str) -> Formula:
        if name in known:
            return known[name]
        constant = constants[name]  # those by column are no part of a formula
        if constant.size != 1:
            raise KeyError(name)
        return float(constant.item())

    if len(steps) > MOST_STEPS:
        return False
    for step in steps:
        node: Node = step.node
        if node.op in REDUCTIONS and not _is_of_columns(node, len(chain.shape)):
            return False
        try:
            if node.op in REDUCTIONS:
                known[step.output] = node.op, formula(node.inputs[0])
            else:
                known[step.output] = _FUNCTIONS[node.op](*map(formula, node.inputs))
        except (KeyError, TypeError):  # an operator, a constant, or a number of inputs
            return False
    for pattern, append in FORMS if len(chain.shape) > 1 else [*FORMS, *FORMS_OF_VECTORS]:
        numbers = matched(pattern, known[steps[-1].output])
        if numbers is not None:
            append(chain, *numbers)
            return True
    return False


def _is_of_columns(node: Node, rank: int) -> bool:
    """Whether it goes along the last dimension, which stays, as one of length 1."""
    axes = node.constant(1)
    given = node.attribute("axes") if axes is None else axes.ravel().tolist()
    return given in ([-1], [rank]) and bool(node.attribute("keepdims", 1))


def _function(name: str) -> Callable[[Formula], Formula]:
    return lambda x: (name, x)


def _number_last(name: str) -> Callable[[Formula, Formula], Formula]:
    return lambda a, b: (name, b, a) if isinstance(a, float) else (name, a, b)


def _where(condition: Formula, a: Formula, b: Formula) -> Formula:
    """``a`` or ``b``; b where it is PyTorch's softplus, which is x itself beyond a threshold."""
    beyond = matched(("less", None, _scaled(X)), condition)
    if beyond and beyond[0] >= SOFTPLUS_THRESHOLD and a == X and matched(_scaled(_SOFTPLUS), b):
        return b
    return "where", condition, a, b


REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceSum")
"""Operators that are functions of a row."""

_FUNCTIONS: dict[str, Callable[..., Formula]] = {
    "Add": total,
    "Sum": total,
    "Sub": lambda a, b: total(a, product(-1.0, b)),
    "Mul": product,
    "Div": quotient,
    "Pow": power,
    "Neg": lambda x: product(-1.0, x),
    "Reciprocal": lambda x: quotient(1.0, x),
    "Where": _where,
    "Less": lambda a, b: ("less", a, b),
    "Greater": lambda a, b: ("less", b, a),
    "Max": _number_last("max"),
    "Min": _number_last("min"),
    **{
        op: _function(op.lower())
        for op in ("Abs", "Erf", "Exp", "Log", "Sigmoid", "Softplus", "Sqrt", "Tanh")
    },
}
"""What each operator is in a formula."""


def _scaled(formula: Formula) -> Formula:
    """The formula times any number."""
    return "product", None, product(2.0, formula)[2]


def _activation(name: str, *parameters: str, **settings: Any) -> Callable[..., None]:
    """Appends an activation whose parameters are the numbers found."""

    def append(chain: Chain, *numbers: float) -> None:
        given: dict[str, Any] = dict(zip(parameters, numbers, strict=True))
        chain.add(Activation(name, **given, **settings))

    return append


def _layer_normalization(chain: Chain, epsilon: float) -> None:
    chain.add(LayerNormalization(epsilon=epsilon, center=False, scale=False))


_CUBE = product(float(GELU_CUBIC[0]), X, X, X)
_GELU_TANH = ("tanh", product(math.sqrt(2 / math.pi), total(X, _CUBE)))
_AWAY = total(X, product(-1.0, ("ReduceMean", X)))
_DEVIATION = ("sqrt", ("sum", None, (("ReduceMean", product(_AWAY, _AWAY)),)))
_NEGATIVE = ("less", X, 0.0)
_EXP_MINUS_1 = total(-1.0, ("exp", X))
_SOFTPLUS = ("softplus", _scaled(X))
_BELOW_MAX = total(X, product(-1.0, ("ReduceMax", X)))
_SUM_EXP = ("ReduceSum", ("exp", _BELOW_MAX))

FORMS: list[tuple[Formula, Callable[..., None]]] = [
    (product(X, ("sigmoid", X)), _activation("silu")),
    (product(X, ("tanh", ("softplus", X))), _activation("mish")),
    (product(0.5, X, total(1.0, ("erf", product(math.sqrt(0.5), X)))), _activation("gelu")),
    (product(0.5, X, total(1.0, _GELU_TANH)), _activation("gelu", approximate=True)),
    (("max", X, 0.0), _activation("relu")),
    (("where", _NEGATIVE, _scaled(X), X), _activation("leaky_relu", "negative_slope")),
    (("where", _NEGATIVE, _scaled(_EXP_MINUS_1), X), _activation("elu", "alpha")),
    (
        (
            "where",
            _NEGATIVE,
            product(SELU_SCALE, total(-SELU_ALPHA, product(SELU_ALPHA, ("exp", X)))),
            product(SELU_SCALE, X),
        ),
        _activation("selu"),
    ),
    (("log", total(1.0, ("exp", X))), _activation("softplus")),
    (
        _scaled(_SOFTPLUS),
        lambda chain, after, before: chain.add_scaled("softplus", before, after),
    ),
    (quotient(X, total(1.0, ("abs", X))), _activation("softsign")),
    (
        ("max", ("min", ("sum", None, (_scaled(X),)), 1.0), 0.0),
        lambda chain, shift, scale: chain.add_hard_sigmoid(scale, shift),
    ),
    (product(_AWAY, ("reciprocal", _DEVIATION)), _layer_normalization),
]
"""Formulas, in which None is any number, and what appends the layers that they are.

It is given the numbers in the order in which they stand.
"""

FORMS_OF_VECTORS: list[tuple[Formula, Callable[..., None]]] = [
    (product(("exp", _BELOW_MAX), ("reciprocal", _SUM_EXP)), _activation("softmax")),
    (total(_BELOW_MAX, product(-1.0, ("log", _SUM_EXP))), _activation("log_softmax")),
]
"""The same, of rows that are vectors."""
