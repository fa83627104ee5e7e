"""The rectifier with a learned slope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks, constraints, initializers, regularizers
from fastnn.engine.tape import Tape
from fastnn.layers.arrays import Array
from fastnn.layers.base import Layer, Options, Shape
from fastnn.layers.weights import held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack


class PReLU(Layer):
    """``x`` where it is positive, else ``alpha·x``, with an alpha that is learned.

    He et al. 2015 (arXiv 1502.01852). There, and in PyTorch, alpha begins with 0.25, in Keras and
    here with 0: ``alpha_initializer=fastnn.initializers.Constant(0.25)``.

    Parameters
    ----------
    alpha_initializer : str or callable
        A name out of ``fastnn.initializers.INITIALIZERS``, or an initializer.
    alpha_regularizer : str or L1L2, optional
        What the loss grows by for the size of alpha; He et al. have none.
    alpha_constraint : str or Constraint, optional
        What alpha is brought back to after every update.
    shared_axes : int or list of int, optional
        Axes of the input, 1 the first of a row, along which alpha is one: ``[1, 2]`` for an alpha
        for each channel of images (N, H, W, C). None shares nothing.
    **options
        Those of `Layer`.

    Attributes
    ----------
    alpha : ndarray
        A live view, of the shape of a row, but of length 1 along shared axes.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> layer = fastnn.PReLU(fastnn.initializers.Constant(0.25))
    >>> layer.forward(np.array([[-4.0, 4.0]])).tolist()
    [[-1.0, 4.0]]
    """

    def __init__(
        self,
        alpha_initializer: str | initializers.Initializer = "zeros",
        alpha_regularizer: str | regularizers.L1L2 | None = None,
        alpha_constraint: str | constraints.Constraint | None = None,
        shared_axes: int | Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        self.alpha_initializer, self.alpha_regularizer, self.alpha_constraint = held(
            "PReLU", "alpha", alpha_initializer, alpha_regularizer, alpha_constraint
        )
        self.shared_axes: list[int] | None = None
        if shared_axes is not None:
            axes = shared_axes if isinstance(shared_axes, (list, tuple)) else [shared_axes]
            self.shared_axes = [checks.integer("PReLU", "shared_axes", axis, 1) for axis in axes]

    @property
    def alpha(self) -> Array:
        """The slopes, a live view; assigning writes into it."""
        if "alpha" not in self.params:
            raise AttributeError(f"{self.label} is not built yet: its input is unknown")
        return self.params["alpha"]

    @alpha.setter
    def alpha(self, value: Any) -> None:
        _ = self.alpha  # there must be one
        self.params["alpha"] = value

    def build(self, input_shape: Shape) -> None:
        """Make alpha, and the tables of whose it is."""
        shared = self.shared_axes or []
        if shared and max(shared) > len(input_shape):
            raise ValueError(
                f"{self.label}: shared_axes must be axes of rows of shape {input_shape}, "
                f"from 1 to {len(input_shape)}, got {shared}"
            )
        shape = tuple(1 if axis in shared else n for axis, n in enumerate(input_shape, 1))
        alpha = self.add_weight(
            "alpha",
            shape,
            self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        self._place: Array | None = None
        self._members: Array | None = None
        if shape != input_shape:
            whose = np.arange(alpha.size).reshape(shape)
            self._place = np.broadcast_to(whose, input_shape).reshape(-1).astype(np.int64)
            order = np.argsort(self._place, kind="stable")
            self._members = order.reshape(alpha.size, -1).astype(np.int64)
        self._sums = np.empty(int(np.prod(input_shape)))

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """``y = x`` or ``alpha·x``."""
        y = tape.new(tuple(x.shape[1:]))
        tape.op("prelu_forward", y=y, x=x, alpha=self.alpha.reshape(-1), place=self._place)
        tape.save(self, x)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """``dalpha = Σ dy·x`` where x is not positive, and ``dx = dy`` or ``alpha·dy``."""
        (x,) = tape.saved(self)
        if self.trainable:
            tape.op("prelu_sums", sums=self._sums, dy=dy, x=x)
            total = self.grads["alpha"].reshape(-1)
            tape.op("sum_members", total=total, sums=self._sums, members=self._members)
        if not wants_dx:
            return None
        dx = tape.new(tuple(x.shape[1:]))
        alpha = self.alpha.reshape(-1)
        tape.op("prelu_backward", dx=dx, dy=dy, x=x, alpha=alpha, place=self._place)
        return dx

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {
            "alpha_initializer": self.alpha_initializer,
            "alpha_regularizer": self.alpha_regularizer,
            "alpha_constraint": self.alpha_constraint,
            "shared_axes": self.shared_axes,
            **super().get_config(),
        }
