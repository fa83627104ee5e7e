"""Layers that normalise what the layer before puts out: by its batch, or row by row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks, constraints, initializers, regularizers
from fastnn.engine.tape import Tape
from fastnn.kernels.normalization import KEPT, SLICES
from fastnn.layers.base import Layer, Options, Shape
from fastnn.layers.weights import Held, held

if TYPE_CHECKING:
    from typing_extensions import Unpack


def last_axis(owner: str, axis: object) -> int:
    """`axis` if it is the last one, which alone is normalised along."""
    if isinstance(axis, (bool, float)) or axis != -1:
        raise ValueError(f"{owner}: axis must be -1, the last one, got {axis!r}")
    return -1


class _Scaled(Layer):
    """``γ·x̂ + β``, γ and β a number each for every column, along the last axis."""

    def __init__(
        self,
        axis: int,
        epsilon: float,
        center: bool,
        scale: bool,
        beta: tuple[object, object, object],
        gamma: tuple[object, object, object],
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        owner = type(self).__name__
        self.axis = last_axis(owner, axis)
        self.epsilon = checks.number(owner, "epsilon", epsilon, "(0, inf)")
        self.center, self.scale = bool(center), bool(scale)
        self._held = {"beta": held(owner, "beta", *beta), "gamma": held(owner, "gamma", *gamma)}

    def build(self, input_shape: Shape) -> None:
        """Make γ and β, those that are wanted."""
        for name, wanted in (("gamma", self.scale), ("beta", self.center)):
            if wanted:
                self.add_weight(name, input_shape[-1:], **self._held[name]._asdict())

    @property
    def _scalings(self) -> dict[str, Any]:
        """γ and β as operands."""
        return {name: self.params.get(name) for name in ("gamma", "beta")}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **{
                f"{of}_{kind}": getattr(given, kind)
                for kind in Held._fields
                for of, given in self._held.items()
            },
            **super().get_config(),
        }


class BatchNormalization(_Scaled):
    """``γ·(x − mean)/√(variance + ε) + β``, column by column.

    In training, mean and variance are the batch's, over its rows and, where rows have more than
    one dimension, all but the last; moving averages of them, a share of 1 − momentum new in every
    step, take their place when predicting. The variance is the biased one, Σ (x − mean)²/M, in
    both. A layer that is not `trainable` normalises by the moving averages in training, too, and
    leaves them as they are. Ioffe & Szegedy 2015 (arXiv 1502.03167); Keras's conventions.

    The statistics are summed up in float64, of what lies beside a mean: columns that are far from
    0 keep their variance.

    Parameters
    ----------
    axis : -1
        The axis of the columns: the last one, and no other.
    momentum : float in [0, 1]
        What is kept of a moving average in a step.
    epsilon : float, greater than 0
    center, scale : bool
        Whether there is a β and a γ.
    beta_initializer, gamma_initializer : str or callable
    moving_mean_initializer, moving_variance_initializer : str or callable
    beta_regularizer, gamma_regularizer : str or L1L2, optional
    beta_constraint, gamma_constraint : str or Constraint, optional
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> layer = fastnn.BatchNormalization(epsilon=1e-12)
    >>> layer.forward(np.array([[1.0, 5.0], [3.0, 9.0]]), training=True).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> layer.buffers["moving_mean"].tolist() == [np.float32(0.02), np.float32(0.07)]
    True
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | initializers.Initializer = "zeros",
        gamma_initializer: str | initializers.Initializer = "ones",
        moving_mean_initializer: str | initializers.Initializer = "zeros",
        moving_variance_initializer: str | initializers.Initializer = "ones",
        beta_regularizer: str | regularizers.L1L2 | None = None,
        gamma_regularizer: str | regularizers.L1L2 | None = None,
        beta_constraint: str | constraints.Constraint | None = None,
        gamma_constraint: str | constraints.Constraint | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            axis,
            epsilon,
            center,
            scale,
            (beta_initializer, beta_regularizer, beta_constraint),
            (gamma_initializer, gamma_regularizer, gamma_constraint),
            **options,
        )
        self._moving_initializers = {
            of: initializers.check(given, "BatchNormalization", f"{of}_initializer")
            for of, given in (
                ("moving_mean", moving_mean_initializer),
                ("moving_variance", moving_variance_initializer),
            )
        }
        self.momentum = checks.number("BatchNormalization", "momentum", momentum, "[0, 1]")

    def build(self, input_shape: Shape) -> None:
        """Make γ and β, the moving averages, and room for a batch's statistics and gradients."""
        super().build(input_shape)
        columns = input_shape[-1:]
        for name, initializer in self._moving_initializers.items():
            self.add_weight(name, columns, initializer, trainable=False)
        of_batch = ("mean", "low", "variance")
        self._statistics = {name: np.zeros(columns, self.dtype) for name in of_batch}
        self._sums = {name: np.zeros(columns, self.dtype) for name in ("dgamma", "dbeta")}

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """Normalise by the batch's statistics, which move the averages, or by those."""
        y = tape.new(tuple(x.shape[1:]))
        learns = tape.training and self.trainable and x.shape[0] != 0
        moving = {name: self.buffers[f"moving_{name}"] for name in ("mean", "variance")}
        if learns:
            tape.op("batch_statistics", x=x, **self._statistics)
            for name, average in moving.items():
                tape.commit(
                    "moving_average",
                    average=average,
                    value=self._statistics[name],
                    momentum=self.momentum,
                )
        statistics = self._statistics if learns else moving
        tape.op("normalize_columns", y=y, x=x, epsilon=self.epsilon, **statistics, **self._scalings)
        tape.save(self, x, learns)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """``dγ = Σ dy·x̂``, ``dβ = Σ dy``, and dx, which goes through mean and variance, too."""
        x, learns = tape.saved(self)
        dx = tape.new(tuple(dy.shape[1:])) if wants_dx else None
        gamma = self.params.get("gamma")
        if not learns:
            if wants_dx:
                variance = self.buffers["moving_variance"]
                tape.op(
                    "normalize_columns",
                    y=dx,
                    x=dy,
                    variance=variance,
                    gamma=gamma,
                    epsilon=self.epsilon,
                )
            return dx
        # What there is no parameter for is needed all the same, for dx.
        sums = {name: self.grads.get(name[1:], own) for name, own in self._sums.items()}
        operands = {"dy": dy, "x": x, "epsilon": self.epsilon, **self._statistics, **sums}
        tape.op("batch_normalization_parameters", **operands)
        if wants_dx:
            tape.op("batch_normalization_backward", dx=dx, gamma=gamma, **operands)
        return dx

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        moving = {f"{of}_initializer": each for of, each in self._moving_initializers.items()}
        return {"momentum": self.momentum, **moving, **super().get_config()}


class LayerNormalization(_Scaled):
    """``γ·(x − mean)/√(variance + ε) + β``, with each row's own mean and variance.

    They are those of the last axis, in training and when predicting alike. Ba, Kiros & Hinton 2016
    (arXiv 1607.06450); Keras's conventions.

    Parameters
    ----------
    axis : -1
        The axis that is normalised along: the last one, and no other.
    epsilon : float, greater than 0
    center, scale : bool
        Whether there is a β and a γ.
    beta_initializer, gamma_initializer : str or callable
    beta_regularizer, gamma_regularizer : str or L1L2, optional
    beta_constraint, gamma_constraint : str or Constraint, optional
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> layer = fastnn.LayerNormalization(epsilon=1e-12)
    >>> layer.forward(np.array([[1.0, 3.0], [9.0, 5.0]])).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | initializers.Initializer = "zeros",
        gamma_initializer: str | initializers.Initializer = "ones",
        beta_regularizer: str | regularizers.L1L2 | None = None,
        gamma_regularizer: str | regularizers.L1L2 | None = None,
        beta_constraint: str | constraints.Constraint | None = None,
        gamma_constraint: str | constraints.Constraint | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            axis,
            epsilon,
            center,
            scale,
            (beta_initializer, beta_regularizer, beta_constraint),
            (gamma_initializer, gamma_regularizer, gamma_constraint),
            **options,
        )

    def build(self, input_shape: Shape) -> None:
        """Make γ and β, and room for the sums of their gradients."""
        super().build(input_shape)
        self._columns = input_shape[-1]
        self._parts = math.prod(input_shape[:-1])
        self._sums = np.zeros((2 * SLICES, self._columns))

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """Normalise, and in training keep what that took."""
        y = tape.new(tuple(x.shape[1:]))
        kept = tape.new((KEPT * self._parts,)) if tape.training else None
        tape.op(
            "layer_normalization_forward",
            y=y,
            kept=kept,
            x=x,
            epsilon=self.epsilon,
            columns=self._columns,
            **self._scalings,
        )
        tape.save(self, x, kept)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """``dγ = Σ dy·x̂``, ``dβ = Σ dy``, and dx, in one pass."""
        x, kept = tape.saved(self)
        if not (wants_dx or self.trained):
            return None
        dx, sums = tape.new(tuple(dy.shape[1:])), self._sums if self.trained else None
        tape.op(
            "layer_normalization_backward",
            sums=sums,
            dx=dx,
            dy=dy,
            x=x,
            kept=kept,
            gamma=self.params.get("gamma"),
            columns=self._columns,
        )
        if self.trained:
            gradients = {f"d{name}": self.grads.get(name) for name in ("gamma", "beta")}
            tape.op("layer_normalization_parameters", sums=sums, parts=self._parts, **gradients)
        return dx
