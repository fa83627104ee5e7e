"""What every door builds: layers one after the other, and the weights that they shall have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn import checks, layers
from fastnn.layers import Activation, LayerNormalization, Rescaling, Reshape, Residual
from fastnn.layers.base import Layer, Shape
from fastnn.model import Sequential

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SOFTPLUS_THRESHOLD = 20
"""PyTorch's softplus is x itself beyond it, which is 2·10⁻⁹ off there: that is let pass."""

DEEPEST = 50
"""Skip connections that may lie in each other: less than what Python's stack has room for."""

LARGEST_ROW = 1 << 24
"""Numbers in a row of a model from a file: more would fill the memory, whoever wrote the file."""


def is_own(layer: Layer) -> bool:
    """Whether it is of one of fastnn's classes itself: one made from it may compute anything."""
    return getattr(layers, type(layer).__name__, None) is type(layer)


class Part(NamedTuple):
    """A layer that is not built yet, its weights by name, and what is inside it."""

    layer: Layer
    weights: Mapping[str, Array]
    inside: Iterable[Part] = ()


class Chain:
    """Layers one after the other, for rows of a known shape.

    Parameters
    ----------
    shape : tuple of int
        Of a row that goes in.
    dtype : {"float32", "float64"}
    depth : int
        How many skip connections it lies in.

    Attributes
    ----------
    shape : tuple of int
        Of a row that comes out of the last layer so far.
    """

    def __init__(self, shape: Shape, dtype: str, depth: int = 0) -> None:
        self.input_shape = self.shape = shape
        self.dtype, self.depth = dtype, depth
        self.parts: list[Part] = []

    def add(self, layer: Layer, **weights: Array) -> None:
        """Append a layer, with all of its weights."""
        self.parts.append(Part(layer, weights))
        self.shape = layer.compute_output_shape(self.shape)

    def replace(self, part: Part) -> None:
        """Let `part`, which gives rows of the same shape, take the last one's place."""
        self.parts[-1] = part

    def branch(self) -> Chain:
        """An empty chain for the same rows, to lie in a skip connection.

        Raises
        ------
        ValueError
            If it would be too deep inside others.
        """
        if self.depth == DEEPEST:
            raise ValueError(f"skip connections lie in each other, more than {DEEPEST} of them")
        return Chain(self.shape, self.dtype, self.depth + 1)

    def add_residual(self, inner: Chain) -> None:
        """Append a skip connection around the layers of `inner`.

        Raises
        ------
        ValueError
            If there is none, or they change the rows' shape.
        """
        if inner.shape != self.shape:
            raise ValueError(
                f"a sum of rows of shapes {self.shape} and {inner.shape} is no skip connection"
            )
        layer = Residual([part.layer for part in inner.parts])
        self.parts.append(Part(layer, {}, inner.parts))

    # What one of the other tools' layers is here in several.

    def add_scaled(self, name: str, scale_in: float, scale_out: float, shift_in: float = 0) -> None:
        """Append ``scale_out·f(scale_in·x + shift_in)``, f the activation called `name`."""
        if scale_in != 1 or shift_in != 0:
            self.add(Rescaling(scale_in, shift_in))
        self.add(Activation(name))
        if scale_out != 1:
            self.add(Rescaling(scale_out))

    def add_hard_sigmoid(self, scale: float, shift: float) -> None:
        """Append ``scale·x + shift`` cut off at 0 and 1, of which ours has 1/6 and 1/2."""
        own = math.isclose(scale, 1 / 6, rel_tol=1e-6)  # float32 has no 1/6
        self.add_scaled("hard_sigmoid", 1.0 if own else 6 * scale, 1.0, 6 * (shift - 0.5))

    def add_layer_normalization(
        self, axes: int, epsilon: float, gamma: Array | None, beta: Array | None
    ) -> None:
        """Append a normalisation of each row, or part of one, along its last `axes` dimensions.

        `gamma` and `beta` have the shape of these dimensions. Of more than one dimension, one is
        made.
        """
        shape = self.shape
        given = {"gamma": gamma, "beta": beta}
        weights = {name: value.reshape(-1) for name, value in given.items() if value is not None}
        if axes > 1:
            self.add(Reshape((*shape[:-axes], -1)))
        layer = LayerNormalization(
            epsilon=epsilon, center=beta is not None, scale=gamma is not None
        )
        self.add(layer, **weights)
        if axes > 1:
            self.add(Reshape(shape))

    def model(self, owner: str, seed: int | None = None) -> Sequential:
        """The model of all these layers, with their weights; of none, one that does nothing.

        Raises
        ------
        ValueError
            If weights have another shape or are not finite.
        """
        if not self.parts:
            self.add(Activation("linear"))
        model = Sequential([part.layer for part in self.parts], self.input_shape, self.dtype, seed)
        _set_weights(self.parts, owner)
        return model


def _set_weights(parts: Iterable[Part], owner: str) -> None:
    for part in parts:
        for name, array in part.layer.weights.items():
            value = part.weights[name]
            array[...] = checks.like(value, f"{owner}: {part.layer.label}.{name}", array)
        _set_weights(part.inside, owner)
