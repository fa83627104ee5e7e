"""What each operator of ONNX becomes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.io.chains import Chain, Part
from fastnn.io.expressions import CLOSE
from fastnn.io.onnx_graph import BATCH, Node
from fastnn.kernels.activations import SELU_ALPHA, SELU_SCALE
from fastnn.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    LayerNormalization,
    PReLU,
    Rescaling,
    Reshape,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NO_EPSILON = 1e-30
"""Of a normalisation that only scales and shifts: 1 + ε is 1."""


# Matrix products


def _gemm(node: Node, chain: Chain) -> None:
    if node.attribute("transA", 0):
        raise node.refused("transA=1 mixes the rows")
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    kernel, bias = node.required(1), node.constant(2)
    _dense(node, chain, alpha * (kernel.T if node.attribute("transB", 0) else kernel))
    if bias is not None:
        columns = beta * _by_column(node, bias, chain.shape)
        _add_affine(chain, np.ones_like(columns), columns, one=False)


def _matmul(node: Node, chain: Chain) -> None:
    _dense(node, chain, node.required(1))


def _dense(node: Node, chain: Chain, kernel: Array) -> None:
    if kernel.ndim != 2 or chain.shape != kernel.shape[:1]:
        raise node.refused(
            f"a matrix of shape {kernel.shape} cannot take rows of shape {chain.shape}"
        )
    chain.add(Dense(kernel.shape[1], use_bias=False), kernel=kernel)


# Numbers that are added and multiplied


def _by_column(node: Node, value: Array, shape: tuple[int, ...]) -> Array:
    """A constant beside rows of `shape`, as one number for each column."""
    if value.size == 1 and value.ndim <= len(shape) + 1:
        return np.broadcast_to(value.reshape(()), shape[-1:])
    if value.ndim > len(shape) + 1 or value.size != value.shape[-1] or value.size != shape[-1]:
        raise node.refused(
            f"a constant of shape {value.shape} is not one number, or one a column, beside rows of "
            f"shape {shape}"
        )
    return value.reshape(-1)


def _affine(scale: Callable[[Array], Array], shift: Callable[[Array], Array]) -> Any:
    """Reads an operator between x and a constant, of which the two make a scale and a shift."""

    def read(node: Node, chain: Chain) -> None:
        first = 0 if node.has_constant(0) else 1
        value = node.required(first)
        if first == 0 and node.op == "Div":
            raise node.refused("a number divided by x has no layer")
        if node.op == "Div" and not value.all():
            raise node.refused("it divides by 0")
        columns = _by_column(node, value.astype(float), chain.shape)
        scales, shifts = scale(columns), shift(columns)
        if first == 0 and node.op == "Sub":
            scales, shifts = -scales, -shifts
        _add_affine(chain, scales, shifts, value.size == 1)

    return read


def _add_affine(chain: Chain, scale: Array, shift: Array, one: bool) -> None:
    """Append ``scale·x + shift``, as part of the last layer where it can be."""
    last = chain.parts[-1] if chain.parts else None
    only_shift, only_scale = bool((scale == 1).all()), bool((shift == 0).all())
    match last:
        case Part(layer=Dense() as dense) if only_shift and not dense.use_bias:
            chain.replace(Part(Dense(dense.units), {**last.weights, "bias": shift}))
        case Part(layer=LayerNormalization(center=False, scale=False) as norm) if only_scale:
            layer = LayerNormalization(epsilon=norm.epsilon, center=False)
            chain.replace(Part(layer, {"gamma": scale}))
        case Part(layer=LayerNormalization(center=False) as norm) if only_shift:
            layer = LayerNormalization(epsilon=norm.epsilon, scale=norm.scale)
            chain.replace(Part(layer, {**last.weights, "beta": shift}))
        case Part(layer=Rescaling(offset=0.0) as before) if only_shift and one:
            chain.replace(Part(Rescaling(before.scale, float(shift[0])), {}))
        case Part(layer=BatchNormalization(epsilon=epsilon)) if epsilon == NO_EPSILON:
            before_scale, before_shift = last.weights["gamma"], last.weights["beta"]
            chain.parts.pop()
            _add_columns(chain, before_scale * scale, before_shift * scale + shift)
        case _ if one:
            chain.add(Rescaling(float(scale[0]), float(shift[0])))
        case _:
            _add_columns(chain, scale, shift)


def _add_columns(chain: Chain, scale: Array, shift: Array) -> None:
    """Append ``scale·x + shift`` by column: as a normalisation with averages of 0 and 1."""
    chain.add(
        BatchNormalization(epsilon=NO_EPSILON, trainable=False),
        gamma=scale,
        beta=shift,
        moving_mean=np.zeros_like(scale),
        moving_variance=np.ones_like(scale),
    )


# Normalisation and noise


def _batch_normalization(node: Node, chain: Chain) -> None:
    if node.attribute("training_mode", 0):
        raise node.refused("it is in training mode: export the model for inference")
    if len(chain.shape) != 1:
        raise node.refused(
            f"channels come first in rows of shape {chain.shape}, here they come last"
        )
    layer = BatchNormalization(
        momentum=node.attribute("momentum", 0.9), epsilon=node.attribute("epsilon", 1e-5)
    )
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    chain.add(layer, **{name: node.required(at) for at, name in enumerate(names, 1)})


def _layer_normalization(node: Node, chain: Chain) -> None:
    node.attribute("stash_type")  # sums here are at least as wide
    axes = _axes(node, node.attribute("axis", -1), chain)
    given = [node.required(1), node.constant(2)]
    gamma, beta = (
        None if weight is None else np.broadcast_to(weight, chain.shape[-axes:]) for weight in given
    )
    chain.add_layer_normalization(axes, node.attribute("epsilon", 1e-5), gamma, beta)


def _axes(node: Node, axis: int, chain: Chain) -> int:
    """How many dimensions of a row there are from `axis` on."""
    rank = len(chain.shape) + 1
    if not 1 <= axis % rank or not -rank <= axis < rank:
        raise node.refused(f"axis={axis} goes along the batch")
    return rank - axis % rank


def _dropout(node: Node, chain: Chain) -> None:
    node.attribute("seed")
    ratio = node.only(1, 0.5)
    if node.only(2, False) and ratio != 0:
        raise node.refused("it is in training mode: export the model for inference")
    chain.add(Dropout(float(str(np.float32(ratio)))))


# Shapes


def _flatten(node: Node, chain: Chain) -> None:
    axis = node.attribute("axis", 1)
    if axis % (len(chain.shape) + 1) != 1:
        raise node.refused(f"axis={axis} does not keep the rows apart")
    chain.add(Flatten())


def _reshape(node: Node, chain: Chain) -> None:
    """Of rows: the first length keeps the batch, or is what the others leave of it."""
    first, *rest = node.required(1).ravel().tolist() or [1]
    copies = not node.attribute("allowzero", 0)
    target = [
        chain.shape[index] if length == 0 and copies and index < len(chain.shape) else length
        for index, length in enumerate(rest)
    ]
    kept = (first == 0 and copies) or first in (node.batch, BATCH)
    whole = first == -1 and math.prod(target) == math.prod(chain.shape)
    if not target or not (kept or whole):
        raise node.refused(f"the shape {[first, *rest]} does not keep the rows apart")
    layer = Reshape(target)
    rank = len(layer.compute_output_shape(chain.shape))
    chain.add(Flatten() if rank == 1 else layer)


# Activations


def _of_rows(name: str) -> Callable[[Node, Chain], None]:
    def read(node: Node, chain: Chain) -> None:
        axis = node.attribute("axis", -1)
        if len(chain.shape) != 1 or axis not in (-1, 1):
            raise node.refused(
                f"it must be along rows that are vectors, axis=-1, "
                f"got axis={axis} and rows of shape {chain.shape}"
            )
        chain.add(Activation(name))

    return read


def _gelu(node: Node, chain: Chain) -> None:
    approximate = node.attribute("approximate", "none")
    chain.add(Activation("gelu", approximate=approximate == "tanh"))


def _selu(node: Node, chain: Chain) -> None:
    """γ·elu(x), which is selu with the numbers that are selu's."""
    alpha, gamma = node.attribute("alpha", SELU_ALPHA), node.attribute("gamma", SELU_SCALE)
    pairs = ((alpha, SELU_ALPHA), (gamma, SELU_SCALE))
    if all(math.isclose(given, own, rel_tol=CLOSE) for given, own in pairs):
        chain.add(Activation("selu"))
    else:
        chain.add(Activation("elu", alpha=alpha))
        chain.add(Rescaling(gamma))


def _hard_sigmoid(node: Node, chain: Chain) -> None:
    chain.add_hard_sigmoid(node.attribute("alpha", 0.2), node.attribute("beta", 0.5))


def _swish(node: Node, chain: Chain) -> None:
    alpha = node.attribute("alpha", 1.0)
    chain.add_scaled("silu", alpha, 1 / alpha)


def _clip(node: Node, chain: Chain) -> None:
    ends = node.only(1, -math.inf), node.only(2, math.inf)
    limits: dict[tuple[float, float], str] = {(-1, 1): "hard_tanh", (0, math.inf): "relu"}
    if ends not in limits:
        raise node.refused(f"ends must be -1 and 1, or 0 and infinity, got {ends}")
    chain.add(Activation(limits[ends]))


def _prelu(node: Node, chain: Chain) -> None:
    slope, rank = node.required(1), len(chain.shape)
    if slope.ndim > rank and slope.shape[0] == 1:
        slope = slope[0]
    if slope.ndim > rank:
        raise node.refused(f"slopes of shape {slope.shape} are not the same for all rows")
    alpha = slope.reshape((1,) * (rank - slope.ndim) + slope.shape)
    lengths = list(zip(alpha.shape, chain.shape, strict=True))
    if any(own not in (1, length) for own, length in lengths):
        raise node.refused(f"slopes of shape {slope.shape} do not fit rows of {chain.shape}")
    shared = [at for at, (own, length) in enumerate(lengths, 1) if own == 1]
    chain.add(PReLU(shared_axes=shared or None), alpha=alpha)


def _activation(name: str, parameter: str = "", default: float = 0.0) -> Any:
    """Reads an activation, whose parameter is called alpha there."""

    def read(node: Node, chain: Chain) -> None:
        given = {parameter: node.attribute("alpha", default)} if parameter else {}
        chain.add(Activation(name, **given))

    return read


EITHER_WAY = ("Add", "Sub", "Mul", "Div")
"""Operators whose constant may stand first."""

OPERATORS: dict[str, Any] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _affine(np.ones_like, lambda c: c),
    "Sub": _affine(np.ones_like, lambda c: -c),
    "Mul": _affine(lambda c: c, np.zeros_like),
    "Div": _affine(lambda c: 1 / c, np.zeros_like),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Identity": lambda node, chain: None,
    "Softmax": _of_rows("softmax"),
    "LogSoftmax": _of_rows("log_softmax"),
    "Relu": _activation("relu"),
    "LeakyRelu": _activation("leaky_relu", "negative_slope", 0.01),
    "PRelu": _prelu,
    "Elu": _activation("elu", "alpha", 1.0),
    "Selu": _selu,
    "Celu": _activation("celu", "alpha", 1.0),
    "Gelu": _gelu,
    "Swish": _swish,
    "Mish": _activation("mish"),
    "Sigmoid": _activation("sigmoid"),
    "HardSigmoid": _hard_sigmoid,
    "Tanh": _activation("tanh"),
    "Clip": _clip,
    "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"),
    "Exp": _activation("exponential"),
}
"""What reads each operator."""
