"""ONNX models as they lie in files: checked, constants computed, and nodes that name themselves."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.io.chains import LARGEST_ROW
from fastnn.io.graphs import Step
from fastnn.layers.base import Shape
from fastnn.optional import needed

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

OLDEST_OPSET = 13
"""Models of older ones are brought to it by onnx's own converter."""

BATCH = -(1 << 62)
"""What stands in a shape for the number of rows, which is any."""

ERRORS = (ArithmeticError, LookupError, TypeError, ValueError)
"""What a node may end with whose inputs are not what ONNX says of them."""


class Refused(ValueError):
    """What says which node of a model cannot be read, and why."""


class Node:
    """A node: its operator, attributes and constants, and how messages call it.

    `batch` is the number of rows that the model names, None if it is any.
    """

    def __init__(
        self,
        onnx: Any,
        proto: Any,
        place: str,
        constants: Mapping[str, Array],
        batch: int | None,
    ) -> None:
        self.op: str = proto.op_type if proto.domain in ("", "ai.onnx") else _full_name(proto)
        self.inputs: list[str] = list(proto.input)
        self.outputs: list[str] = list(proto.output)
        self.batch = batch
        self.label = f"node {proto.name!r} ({self.op}, {place})"
        self._constants = constants
        self._attributes = {each.name: _attribute(onnx, each) for each in proto.attribute}
        self._known: set[str] = set()

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, which is known from now on."""
        self._known.add(name)
        return self._attributes.get(name, default)

    def refuse_unknown(self) -> None:
        """Refuse attributes that nobody asked for."""
        for name in sorted(set(self._attributes) - self._known):
            raise self.refused(f"the attribute {name} is not known here")

    def constant(self, index: int) -> Array | None:
        """The input with this number, if there is one.

        Raises
        ------
        Refused
            If it is no constant.
        """
        if index >= len(self.inputs) or not self.inputs[index]:
            return None
        if self.inputs[index] not in self._constants:
            raise self.refused(f"its input {self.inputs[index]!r} must be a constant")
        return self._constants[self.inputs[index]]

    def has_constant(self, index: int) -> bool:
        """Whether the input with this number is a constant."""
        return self.inputs[index] in self._constants

    def required(self, index: int) -> Array:
        """The input with this number, which must be a constant."""
        constant = self.constant(index)
        if constant is None:
            raise self.refused(f"it must have {index + 1} inputs")
        return constant

    def only(self, index: int, default: float) -> float:
        """An input that is a single number, `default` if there is none."""
        constant = self.constant(index)
        if constant is not None and constant.size != 1:
            raise self.refused(f"its input {self.inputs[index]!r} must be one number")
        return default if constant is None else constant.item()

    def refused(self, why: str) -> Refused:
        """The error that names the node."""
        return Refused(f"from_onnx: {self.label}: {why}")


class Graph(NamedTuple):
    """What a model computes: the steps from `start` to `end`, for rows of `shape`."""

    steps: list[Step]
    start: str
    end: str
    shape: Shape
    dtype: str
    constants: Mapping[str, Array]


def read(source: Any) -> Graph:
    """The graph of a model, or of a file.

    Raises
    ------
    ImportError
        If there is no onnx.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, breaks ONNX's rules, or has not one input and one output of floats.
    """
    onnx = needed("onnx", "from_onnx")
    proto = _checked(onnx, source)
    graph = proto.graph
    constants = {each.name: _array(onnx, each) for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        names = [", ".join(each.name for each in ends) for ends in (inputs, graph.output)]
        raise ValueError(
            "from_onnx: the model must have one input and one output, "
            f"got the inputs {names[0] or 'none'} and the outputs {names[1] or 'none'}"
        )
    shape, batch, dtype = _rows(onnx, inputs[0])
    start, end = inputs[0].name, graph.output[0].name
    same = {start: start}
    steps = list(_steps(onnx, graph, constants, batch, dtype, same))
    return Graph(steps, start, same.get(end, end), shape, dtype, constants)


def _checked(onnx: Any, source: Any) -> Any:
    """The model, by the rules of ONNX, with operators of at least `OLDEST_OPSET`."""
    if not isinstance(source, (str, os.PathLike, onnx.ModelProto)):
        raise TypeError(f"from_onnx: source must be a path or a ModelProto, got {source!r}")
    try:
        if isinstance(source, onnx.ModelProto):
            proto = source
            if any(
                onnx.external_data_helper.uses_external_data(w) for w in proto.graph.initializer
            ):
                raise ValueError("its weights are in another file: give the path of the model")
        else:
            if not os.path.isfile(source):
                raise FileNotFoundError(f"from_onnx: no such file: {os.fspath(source)}")
            # Follows data in other files only inside the model's folder, and checks their length.
            proto = onnx.load_model(os.fspath(source))
        onnx.checker.check_model(proto)
        opsets = {each.domain: each.version for each in proto.opset_import}
        if opsets.get("", OLDEST_OPSET) < OLDEST_OPSET:
            proto = onnx.version_converter.convert_version(proto, OLDEST_OPSET)
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf's, the checker's, the converter's own
        name = "the model" if isinstance(source, onnx.ModelProto) else os.fspath(source)
        raise ValueError(f"from_onnx: {name} cannot be read: {error}") from error
    return proto


def _rows(onnx: Any, value: Any) -> tuple[Shape, int | None, str]:
    """Shape and type of an input's rows, and their number if it is fixed."""
    kind = value.type.tensor_type
    dtype = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}.get(
        kind.elem_type
    )
    if dtype is None:
        name = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise ValueError(f"from_onnx: input {value.name!r} must be FLOAT or DOUBLE, got {name}")
    lengths = [d.dim_value for d in kind.shape.dim]  # 0 where it is not fixed
    shape = tuple(lengths[1:])
    if not shape or min(shape) < 1 or math.prod(shape) > LARGEST_ROW:
        text = ", ".join(str(d.dim_value or d.dim_param or "?") for d in kind.shape.dim)
        raise ValueError(
            f"from_onnx: input {value.name!r} must be (N, ...), rows of a known shape and "
            f"at most {LARGEST_ROW} numbers, got ({text})"
        )
    return shape, lengths[0] or None, dtype


def _steps(
    onnx: Any,
    graph: Any,
    constants: dict[str, Array],
    batch: int | None,
    dtype: str,
    same: dict[str, str],
) -> Iterator[Step]:
    """The nodes that depend on the input; what the others give is put among `constants`.

    A cast to the type that all has anyway is no step: `same` gets the other name of its input. (A
    condition that is cast is a number only where no known formula has one.)
    """
    shapes: set[str] = set()
    for index, proto in enumerate(graph.node, 1):
        node = Node(onnx, proto, f"number {index} of {len(graph.node)}", constants, batch)
        node.inputs = [same.get(name, name) for name in node.inputs]
        inputs = tuple(name for name in node.inputs if name and name not in constants)
        if node.op == "Shape" and inputs:
            shapes.add(node.outputs[0])
        elif node.op == "Gather" and node.inputs[0] in shapes and node.only(1, -1) == 0:
            constants[node.outputs[0]] = np.full(node.required(1).shape, BATCH)
        elif node.op == "Cast" and inputs and _TYPES.get(node.attribute("to")) == dtype:
            same[node.outputs[0]] = inputs[0]
        elif inputs and not (node.op == "CastLike" and node.inputs[0] in constants):
            yield Step(inputs, node.outputs[0], node)
        elif node.op in _FOLDED:
            constants[node.outputs[0]] = _folded(node)
        else:
            raise node.refused("it computes a constant, which is not done with this operator here")


def _folded(node: Node) -> Array:
    """What a node gives whose inputs are constants; numbers that are not finite stay."""
    try:
        with np.errstate(all="ignore"):
            return _FOLDED[node.op](node)
    except ERRORS as error:
        raise error if isinstance(error, Refused) else node.refused(str(error)) from error


def _full_name(proto: Any) -> str:
    return f"{proto.domain}.{proto.op_type}"


def _array(onnx: Any, tensor: Any) -> Array:
    """A tensor's values; its size is checked against the bytes that there are."""
    try:
        array: Array = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # ValueError, TypeError or the helper's own
        raise ValueError(f"from_onnx: the tensor {tensor.name!r} is damaged: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"from_onnx: the tensor {tensor.name!r} must be numbers, got {array.dtype}"
        )
    return array


def _attribute(onnx: Any, attribute: Any) -> Any:
    """Its value; a number of float32 as the decimal that it stands for."""
    if attribute.type == onnx.AttributeProto.TENSOR:
        return _array(onnx, attribute.t)
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _constant(node: Node) -> Array:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = node.attribute(name)
        if value is not None:
            kind = {"float": np.float32, "int": np.int64}.get(name[6:].rstrip("s"))
            return np.asarray(value, kind)
    raise node.refused("it must be numbers")


def _transposed(node: Node) -> Array:
    array = node.required(0)
    return array.transpose(node.attribute("perm"))


def _unsqueezed(node: Node) -> Array:
    return np.expand_dims(node.required(0), tuple(node.required(1).ravel().tolist()))


def _squeezed(node: Node) -> Array:
    axes = node.constant(1)
    return node.required(0).squeeze(None if axes is None else tuple(axes.ravel().tolist()))


_TYPES = {1: "float32", 6: "int32", 7: "int64", 11: "float64"}
"""ONNX's numbers of element types."""


def _cast(node: Node) -> Array:
    kind = _TYPES.get(node.attribute("to"))
    if kind is None:
        raise node.refused("it casts to a type that is not known here")
    return node.required(0).astype(kind)


def _joined(node: Node) -> Array:
    parts = [node.required(index) for index in range(len(node.inputs))]
    return np.concatenate(parts, node.attribute("axis"))


_FOLDED: dict[str, Callable[[Node], Array]] = {
    "Constant": _constant,
    "Identity": lambda node: node.required(0),
    "Cast": _cast,
    "Concat": _joined,
    "CastLike": lambda node: node.required(0),
    "Neg": lambda node: -node.required(0),
    "Sqrt": lambda node: np.sqrt(node.required(0)),
    "Reciprocal": lambda node: 1 / node.required(0),
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
    "Squeeze": _squeezed,
}
"""Operators that constants are computed with: none gives more elements than it takes."""
