"""Models for ONNX."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.io.chains import is_own
from fastnn.kernels.activations import GELU_CUBIC
from fastnn.layers import (
    Activation,
    ActivityRegularization,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Input,
    LayerNormalization,
    Normalization,
    PReLU,
    Rescaling,
    Reshape,
    Residual,
)
from fastnn.layers.base import Layer
from fastnn.layers.dropout import Drawing
from fastnn.layers.scaling import LEAST_VARIANCE
from fastnn.model import Sequential
from fastnn.optional import needed

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

OLDEST_OPSET = 13
"""The first in which softmax is along one axis, as it is here."""

DEFAULT_OPSET = 20
"""The first with an operator for every activation and normalisation but silu, and read by every
ONNX Runtime since 1.17."""

LARGEST = 1 << 31
"""Bytes that a protobuf may have."""


def to_onnx(
    model: Sequential, path: str | os.PathLike[str] | None = None, opset: int = DEFAULT_OPSET
) -> Any:
    """The ONNX model that predicts what `model` does.

    Its batch has any number of rows. What an opset has no operator for is written in others: gelu
    below 20, mish below 18, layer normalisation below 17. Dropout is kept, as a node that does
    nothing in inference; other noise is left out. Attributes are float32 in ONNX, those of a
    float64 model as well: slopes, alphas and epsilons are rounded to that. ONNX Runtime
    computes many activations in float32 only.

    Parameters
    ----------
    model : Sequential
        Built.
    path : path, optional
        Where to write it, too.
    opset : int
        Version of ONNX's operators, from 13 to the newest that the package onnx has.

    Returns
    -------
    onnx.ModelProto
        Checked by ``onnx.checker``.

    Raises
    ------
    ImportError
        If there is no onnx.
    ValueError
        If a layer has no operators, as those of the user's own, or the model is of 2 GB.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.Sequential([fastnn.Dense(3, "softmax")], input_shape=(4,))
    >>> [node.op_type for node in fastnn.io.to_onnx(model).graph.node]
    ['Gemm', 'Softmax']
    """
    onnx = needed("onnx", "to_onnx")
    if not isinstance(model, Sequential):
        raise TypeError(f"to_onnx: model must be a Sequential, got {model!r}")
    newest = onnx.defs.onnx_opset_version()
    if checks.integer("to_onnx", "opset", opset, OLDEST_OPSET) > newest:
        raise ValueError(f"to_onnx: opset must be at most {newest}, got {opset}")
    model._require_built("to_onnx")
    if sum(w.nbytes for w in model.get_weights()) >= LARGEST:
        raise ValueError("to_onnx: an ONNX model must be smaller than 2 GB")
    writer = _Writer(onnx, model.dtype, opset)
    proto = writer.model(model, writer.layers(model.layers, "x"))
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        onnx.save_model(proto, os.fspath(path))
    return proto


class _Writer:
    """Writes layers down as nodes; arrays go by name."""

    def __init__(self, onnx: Any, dtype: str, opset: int) -> None:
        self.onnx, self.dtype, self.opset = onnx, dtype, opset
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.label = ""

    def node(self, op: str, *inputs: str | float, **attributes: Any) -> str:
        """Append a node; numbers among its inputs become constants. The name of its output."""
        names = [self.constant(each) if isinstance(each, float) else each for each in inputs]
        name = f"{self.label}.{op}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, names, [name], name, **attributes))
        return name

    def constant(self, value: Any, name: str | None = None) -> str:
        """The name of a constant."""
        whole = np.asarray(value).dtype.kind == "i"
        array = np.array(value, "int64" if whole else self.dtype, order="C")
        label = f"{self.label}.{name or 'constant'}"
        if label in self.constants or name is None:
            label = f"{label}_{len(self.constants)}"
        self.constants[label] = self.onnx.numpy_helper.from_array(array, label)
        return label

    def weight(self, layer: Layer, name: str, default: float) -> str:
        """The name of a layer's weight by column, `default` everywhere if it has none."""
        columns = (layer.input_shape or ())[-1:]
        return self.constant(layer.weights.get(name, np.full(columns, default)), name)

    def layers(self, layers: Sequence[Layer], x: str) -> str:
        """Write layers one after the other."""
        for layer in layers:
            self.label = layer.label
            if isinstance(layer, Residual):
                inner = self.layers(layer.layers, x)
                self.label = layer.label
                x = self.node("Add", inner, x)
                continue
            for stage in layer.stages():
                x = self.stage(stage, layer, x)
        return x

    def stage(self, stage: Layer, layer: Layer, x: str) -> str:
        """Write one of the stages of `layer`."""
        stage.check_complete()
        if is_own(stage) and isinstance(stage, Activation):
            if stage.activation in _ACTIVATIONS:
                return _ACTIVATIONS[stage.activation](self, x, stage.arguments)
        elif is_own(stage):
            write = next((_LAYERS[kind] for kind in type(stage).__mro__ if kind in _LAYERS), None)
            if write is not None:
                return write(self, stage, x)
        what = stage.activation if isinstance(stage, Activation) else type(stage).__name__
        raise ValueError(f"to_onnx: {layer.label}: {what} has no operators in ONNX")

    def model(self, model: Sequential, end: str) -> Any:
        """The model of all nodes, the last of which gives `end`."""
        helper = self.onnx.helper
        if not self.nodes:
            self.label = "model"
            end = self.node("Identity", end)
        self.nodes[[node.output[0] for node in self.nodes].index(end)].output[0] = "y"
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        ends = [
            helper.make_tensor_value_info(name, kind, ["N", *(shape or ())])
            for name, shape in (("x", model.input_shape), ("y", model.output_shape))
        ]
        graph = helper.make_graph(
            self.nodes, model.name, ends[:1], ends[1:], list(self.constants.values())
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="fastnn",
        )


def _dense(to: _Writer, layer: Dense, x: str) -> str:
    weights = [to.constant(array, name) for name, array in layer.weights.items()]
    return to.node("Gemm", x, *weights)


def _batch_normalization(to: _Writer, layer: BatchNormalization, x: str) -> str:
    """As its operator where columns stand second, else as three operations by column."""
    if len(layer.input_shape or ()) == 1:
        names = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
        weights = [to.weight(layer, name, default) for name, default in names.items()]
        settings = {"epsilon": layer.epsilon, "momentum": layer.momentum}
        return to.node("BatchNormalization", x, *weights, **settings)
    mean, variance = (layer.buffers[f"moving_{name}"] for name in ("mean", "variance"))
    scale = layer.params.get("gamma", 1.0) / np.sqrt(variance.astype(float) + layer.epsilon)
    x = to.node("Mul", to.node("Sub", x, to.constant(mean, "mean")), to.constant(scale, "scale"))
    return to.node("Add", x, to.weight(layer, "beta", 0.0))


def _layer_normalization(to: _Writer, layer: LayerNormalization, x: str) -> str:
    gamma, beta = to.weight(layer, "gamma", 1.0), to.weight(layer, "beta", 0.0)
    if to.opset >= 17:
        return to.node("LayerNormalization", x, gamma, beta, axis=-1, epsilon=layer.epsilon)

    def mean(of: str) -> str:
        if to.opset < 18:
            return to.node("ReduceMean", of, axes=[-1])
        return to.node("ReduceMean", of, to.constant([-1], "axes"))

    away = to.node("Sub", x, mean(x))
    variance = to.node("Add", mean(to.node("Mul", away, away)), layer.epsilon)
    normal = to.node("Div", away, to.node("Sqrt", variance))
    return to.node("Add", to.node("Mul", normal, gamma), beta)


def _normalization(to: _Writer, layer: Normalization, x: str) -> str:
    mean, variance = (layer._statistic(name) for name in ("mean", "variance"))
    deviation = np.sqrt(np.maximum(variance.astype(float), LEAST_VARIANCE))
    away = to.node("Sub", x, to.constant(mean, "mean"))
    return to.node("Div", away, to.constant(deviation, "deviation"))


def _reshape(to: _Writer, layer: Reshape, x: str) -> str:
    return to.node("Reshape", x, to.constant([0, *(layer.output_shape or ())], "shape"))


_LAYERS: dict[type[Layer], Callable[[_Writer, Any, str], str]] = {
    Dense: _dense,
    BatchNormalization: _batch_normalization,
    LayerNormalization: _layer_normalization,
    Normalization: _normalization,
    PReLU: lambda to, layer, x: to.node("PRelu", x, to.constant(layer.alpha, "alpha")),
    Rescaling: lambda to, layer, x: to.node("Add", to.node("Mul", x, layer.scale), layer.offset),
    Flatten: lambda to, layer, x: to.node("Flatten", x),
    Reshape: _reshape,
    Dropout: lambda to, layer, x: to.node("Dropout", x, layer.rate),
    Drawing: lambda to, layer, x: x,
    Input: lambda to, layer, x: x,
    ActivityRegularization: lambda to, layer, x: x,
}
"""What writes each layer, or the nearest of the classes that it is made from."""


def _silu(to: _Writer, x: str, given: dict[str, Any]) -> str:
    return to.node("Mul", x, to.node("Sigmoid", x))


def _mish(to: _Writer, x: str, given: dict[str, Any]) -> str:
    if to.opset >= 18:
        return to.node("Mish", x)
    return to.node("Mul", x, to.node("Tanh", to.node("Softplus", x)))


def _celu(to: _Writer, x: str, given: dict[str, Any]) -> str:
    """As its operator, which is of float32 alone, or as α·elu(x/α)."""
    alpha = given["alpha"]
    if to.dtype == "float32":
        return to.node("Celu", x, alpha=alpha)
    return to.node("Mul", to.node("Elu", to.node("Div", x, alpha)), alpha)


def _gelu(to: _Writer, x: str, given: dict[str, Any]) -> str:
    if given["approximate"]:
        return _gelu_tanh(to, x, given)
    if to.opset >= 20:
        return to.node("Gelu", x)
    erf = to.node("Erf", to.node("Div", x, math.sqrt(2)))
    return to.node("Mul", to.node("Mul", x, 0.5), to.node("Add", erf, 1.0))


def _gelu_tanh(to: _Writer, x: str, given: dict[str, Any]) -> str:
    if to.opset >= 20:
        return to.node("Gelu", x, approximate="tanh")
    cube = to.node("Mul", to.node("Mul", x, x), x)
    inner = to.node("Add", x, to.node("Mul", cube, float(GELU_CUBIC[0])))
    tanh = to.node("Tanh", to.node("Mul", inner, math.sqrt(2 / math.pi)))
    return to.node("Mul", to.node("Mul", x, 0.5), to.node("Add", tanh, 1.0))


def _operator(op: str, parameter: str | None = None, **settings: Any) -> Any:
    """Writes an activation as one operator; its parameter is called alpha there."""

    def write(to: _Writer, x: str, given: dict[str, Any]) -> str:
        alpha = {"alpha": given[parameter]} if parameter else {}
        return to.node(op, x, **alpha, **settings)

    return write


_ACTIVATIONS: dict[Any, Callable[[_Writer, str, dict[str, Any]], str]] = {
    "linear": lambda to, x, given: x,
    "relu": _operator("Relu"),
    "leaky_relu": _operator("LeakyRelu", "negative_slope"),
    "elu": _operator("Elu", "alpha"),
    "selu": _operator("Selu"),
    "celu": _celu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "mish": _mish,
    "sigmoid": _operator("Sigmoid"),
    "hard_sigmoid": _operator("HardSigmoid", alpha=1 / 6, beta=0.5),
    "tanh": _operator("Tanh"),
    "hard_tanh": lambda to, x, given: to.node("Clip", x, -1.0, 1.0),
    "softplus": _operator("Softplus"),
    "softsign": _operator("Softsign"),
    "exponential": _operator("Exp"),
    "softmax": _operator("Softmax", axis=-1),
    "log_softmax": _operator("LogSoftmax", axis=-1),
}
"""What writes each activation."""
