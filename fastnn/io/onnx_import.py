"""Models of ONNX's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fastnn.io import onnx_graph
from fastnn.io.chains import Chain
from fastnn.io.graphs import Piece, Reader, Step
from fastnn.io.onnx_forms import add_form
from fastnn.io.onnx_graph import ERRORS, Graph, Node, Refused
from fastnn.io.onnx_operators import EITHER_WAY, OPERATORS
from fastnn.model import Sequential

MOST_PIECES = 4
"""Pieces of a graph that are tried together as one formula."""


def from_onnx(source: str | os.PathLike[str] | Any, seed: int | None = None) -> Sequential:
    """The model that an ONNX model is.

    Its nodes must be a chain, with skip connections ``x + f(x)``; the first dimension is the batch.
    Activations and layer normalisation are recognised however exporters write them in simpler
    operators. Numbers that are added or multiplied by column become a `BatchNormalization` that
    is not `trainable`, one number for all a `Rescaling`. Attributes are float32 in ONNX: they are
    taken for the shortest decimal numbers that round to them, 0.1 for 0.100000001.

    Parameters
    ----------
    source : path or onnx.ModelProto
        Of opset 13 or newer; older ones are converted by the package onnx first. Weights in other
        files are read from the model's own folder only.
    seed : int, optional
        Of the model: of shuffling and dropout.

    Returns
    -------
    Sequential
        Not compiled; float64 if the model's input is DOUBLE.

    Raises
    ------
    ImportError
        If there is no onnx.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or an operator or attribute has no counterpart: the message has the
        node's name and place.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.Sequential([fastnn.Dense(3, "softmax")], input_shape=(4,))
    >>> fastnn.io.from_onnx(fastnn.io.to_onnx(model)).output_shape
    (3,)
    """
    graph = onnx_graph.read(source)
    chain = Chain(graph.shape, graph.dtype)
    _OnnxReader(graph).read(graph.steps, graph.start, graph.end, chain)
    return chain.model("from_onnx", seed)


class _OnnxReader(Reader):
    """Reads a graph."""

    owner = "from_onnx"

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def one(self, step: Step, chain: Chain) -> None:
        """Append what the node's operator is."""
        node: Node = step.node
        if node.op not in OPERATORS:
            raise node.refused("there is no such layer")
        if node.op not in EITHER_WAY and node.inputs[0] != step.inputs[0]:
            raise node.refused(f"its input {step.inputs[0]!r} must be a constant")
        try:
            OPERATORS[node.op](node, chain)
            node.refuse_unknown()
        except Refused:
            raise
        except ERRORS as error:
            raise node.refused(str(error)) from error

    def several(self, pieces: Sequence[Piece], chain: Chain) -> int:
        """An activation or a normalisation that is written in simpler operators."""
        for count in range(min(MOST_PIECES, len(pieces)), 0, -1):
            steps = [step for piece in pieces[:count] for step in piece.steps]
            if len(steps) == 1 and steps[0].node.op in OPERATORS:
                break
            if add_form(steps, pieces[0].start, self.graph.constants, chain):
                return count
        return 0

    def is_sum(self, step: Step) -> bool:
        """Whether it is an Add."""
        return bool(step.node.op == "Add")

    def error(self, step: Step, why: str) -> ValueError:
        """Names the node."""
        refused: Refused = step.node.refused(why)
        return refused
