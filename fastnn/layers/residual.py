"""Skip connections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastnn.engine.tape import Tape
from fastnn.layers.base import Layer, Options, Shape, prepare_in_order

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Residual(Layer):
    """``x + f(x)``, f being layers one after the other: He et al. 2016 (arXiv 1512.03385).

    Parameters
    ----------
    layers : iterable of Layer
        Their output has the input's shape.
    **options
        Those of `Layer`: a residual that is not `trainable` freezes all that is in it, and its
        multiplier multiplies theirs.

    Attributes
    ----------
    layers : tuple of Layer

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> block = fastnn.Residual([fastnn.Dense(4, "relu"), fastnn.Dense(2, use_bias=False)])
    >>> block.forward(np.ones((3, 2))).shape
    (3, 2)
    """

    def __init__(self, layers: Iterable[Layer], **options: Unpack[Options]) -> None:
        self.layers: tuple[Layer, ...] = ()
        super().__init__(**options)
        if isinstance(layers, Layer) or not hasattr(layers, "__iter__"):
            raise TypeError(f"Residual: layers must be a list of layers, got {layers!r}")
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError("Residual: layers must not be empty")
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"Residual: layers must be layers, got {layer!r}")
            if layer.taken or layer in self.layers[:index]:
                raise ValueError(f"Residual: {layer!r} already belongs to a model")
        for layer in self.layers:
            layer._parent = self
        for index, leaf in enumerate(self.leaves()):
            leaf._stream = index
        branch = _Branch()
        inner = tuple(stage for layer in self.layers for stage in layer.stages())
        self._stages = (branch, *inner, _Join(branch))

    def inside(self) -> tuple[Layer, ...]:
        """The layers that x goes through."""
        return self.layers

    def stages(self) -> tuple[Layer, ...]:
        """The branch, the layers inside, and where they meet x again."""
        return self._stages

    @property
    def in_python(self) -> bool:
        """Whether a layer inside exists only in Python."""
        return any(layer.in_python for layer in self.layers)

    def build(self, input_shape: Shape) -> None:
        """Build the layers inside."""
        shape = prepare_in_order(self.layers, input_shape, self.dtype, self._seed)
        if shape != input_shape:
            raise ValueError(
                f"{self.label}: the layers inside must give rows of the input's shape "
                f"{input_shape}, got {shape}"
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"layers": list(self.layers), **super().get_config()}


class _Branch(Layer):
    """Where x goes two ways."""

    join: _Join

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """x itself, kept for the other end."""
        tape.save(self, x)
        return x

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """The sum of what comes back both ways."""
        if not wants_dx:
            return None
        (dx_around,) = tape.saved(self.join)
        dx = tape.new(tuple(dy.shape[1:]))
        tape.op("add", y=dx, x=dy, other=dx_around)
        return dx


class _Join(Layer):
    """Where both ways meet again."""

    def __init__(self, branch: _Branch) -> None:
        super().__init__()
        self._branch, branch.join = branch, self

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """The sum of both."""
        (around,) = tape.saved(self._branch)
        y = tape.new(tuple(x.shape[1:]))
        tape.op("add", y=y, x=x, other=around)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """dy goes both ways."""
        tape.save(self, dy)
        return dy
