"""Layers that bring a model's input to a scale, by numbers that no training changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.engine.tape import Tape
from fastnn.layers.arrays import Array
from fastnn.layers.base import Layer, Options, Shape
from fastnn.layers.normalization import last_axis

if TYPE_CHECKING:
    from typing_extensions import Unpack

LEAST_VARIANCE = 1e-14
"""Keras's 1e-7, squared: no standard deviation is taken for less, so that none is 0."""


class Rescaling(Layer):
    """``scale·x + offset``: ``Rescaling(1 / 255)`` brings bytes to [0, 1].

    Parameters
    ----------
    scale, offset : float
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> layer = fastnn.Rescaling(1 / 64, offset=-1)
    >>> layer.forward(np.array([[0, 128]], np.uint8)).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(self, scale: float, offset: float = 0.0, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.scale = checks.number("Rescaling", "scale", scale, "(-inf, inf)")
        self.offset = checks.number("Rescaling", "offset", offset, "(-inf, inf)")

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """``y = scale·x + offset``."""
        y = tape.new(tuple(x.shape[1:]))
        tape.op("affine", y=y, x=x, scale=self.scale, shift=self.offset)
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """``dx = scale·dy``."""
        if not wants_dx:
            return None
        dx = tape.new(tuple(dy.shape[1:]))
        tape.op("affine", y=dx, x=dy, scale=self.scale)
        return dx

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"scale": self.scale, "offset": self.offset, **super().get_config()}


class Normalization(Layer):
    """``(x − mean)/√variance``, column by column, of the training data's mean and variance.

    Both come from `adapt`, or are given. They are saved with the model, and no training changes
    them. Keras's conventions: columns lie along the last axis, and a standard deviation below 1e-7
    is taken for that.

    Parameters
    ----------
    axis : -1
        The axis of the columns: the last one, and no other.
    mean, variance : float or array_like (C,), optional
        Both, where they are known; else `adapt` finds them.
    **options
        Those of `Layer`.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> layer = fastnn.Normalization()
    >>> layer.adapt(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> layer.forward(np.array([[2.0, 40.0]])).tolist()
    [[0.0, 2.0]]
    """

    def __init__(
        self, axis: int = -1, mean: Any = None, variance: Any = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(**options)
        self.axis = last_axis("Normalization", axis)
        if (mean is None) != (variance is None):
            raise ValueError(
                f"Normalization: mean and variance must be given both or neither, "
                f"got {mean!r} and {variance!r}"
            )
        self._given = {
            name: _statistic(value, name)
            for name, value in (("mean", mean), ("variance", variance))
            if value is not None
        }
        self._adapted: dict[str, Array] = {}  # until it is built
        self._fixed: dict[str, Array] = {}

    def adapt(self, data: Any) -> None:
        """Take mean and variance from `data`: the training data, and nothing else.

        What was found before is forgotten. Sums are taken in float64, block by block.

        Parameters
        ----------
        data : array_like, (N, ..., C)
            Rows as the layer will get them, of any real numbers.

        Raises
        ------
        ValueError
            If mean and variance were given, or data is empty, not finite or of other columns.
        """
        if self._given:
            raise ValueError(f"{self.label}: adapt: mean and variance were given already")
        rows = checks.array(data, "data")
        if rows.ndim < 2:
            raise ValueError(f"data must be (N, ...), one row a sample, got shape {rows.shape}")
        if self.built and rows.shape[1:] != self.input_shape:
            raise ValueError(f"data must have rows of {self.input_shape}, got {rows.shape[1:]}")
        dtype = self.dtype if self.built else "float64"
        checks.finite(rows, "data", dtype)
        found = _moments(rows)
        checks.finite(found["variance"], "data's variance", dtype)
        for name, buffer in self.buffers.items():
            buffer[...] = found[name]
        self._adapted = found

    def take_over(self, other: Layer) -> None:
        """What `adapt` found."""
        assert isinstance(other, Normalization)
        self._adapted = other._adapted

    def build(self, input_shape: Shape) -> None:
        """Make room for mean and variance, and for the number of rows that they come from."""
        columns = input_shape[-1:]
        known = self._given or self._adapted
        for name, value in known.items():
            if value.ndim and value.shape != columns:
                raise ValueError(
                    f"{self.label}: {name} is of {value.size} columns, rows have {columns[0]}"
                )
            checks.finite(value.reshape(-1), f"{self.label}: {name}", self.dtype)
        if self._given:
            self._fixed = {
                name: np.full(columns, value, self.dtype) for name, value in known.items()
            }
            return
        for name, shape in (("mean", columns), ("variance", columns), ("count", ())):
            buffer = self.add_weight(name, shape, "zeros", trainable=False)
            buffer[...] = known.get(name, 0.0)

    def check_complete(self) -> None:
        """Refuse to be used before `adapt`."""
        if not self._given and not self.buffers["count"]:
            raise RuntimeError(
                f"{self.label}: mean and variance are not known: call adapt(training data) first"
            )

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """Take off the mean, and divide by the standard deviation."""
        self.check_complete()
        return self._scaled(tape, x, self._statistic("mean"))

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """Divide by the standard deviation."""
        return self._scaled(tape, dy, None) if wants_dx else None

    def _statistic(self, name: str) -> Array:
        return self._fixed[name] if self._given else self.buffers[name]

    def _scaled(self, tape: Tape, x: Any, mean: Array | None) -> Any:
        y = tape.new(tuple(x.shape[1:]))
        variance = self._statistic("variance")
        tape.op("normalize_columns", y=y, x=x, mean=mean, variance=variance, least=LEAST_VARIANCE)
        return y

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again; what `adapt` found is among the weights."""
        given = {name: value.tolist() for name, value in self._given.items()}
        return {"axis": self.axis, **given, **super().get_config()}


def _statistic(value: object, name: str) -> Array:
    """A given mean or variance: one number, or one for each column."""
    label = f"Normalization: {name}"
    statistic = checks.array(value, label, any_shape=True).astype(np.float64)
    if statistic.ndim > 1 or statistic.size == 0:
        raise ValueError(f"{label} must be a number or (C,), got shape {statistic.shape}")
    checks.finite(statistic.reshape(-1), label, "float64")
    if name == "variance" and statistic.min() < 0:
        raise ValueError(f"{label} must not be negative, got {statistic.min()}")
    return statistic


def _moments(rows: Array) -> dict[str, Array]:
    """Mean, variance and number of rows of each column, in float64.

    Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance": each block's own
    are put together with those of all before it.
    """
    columns = rows.shape[-1]
    near = rows[0].reshape(-1, columns)[0].astype(np.float64)  # of a constant column, exactly it
    count, mean, squares = 0, np.zeros(columns), np.zeros(columns)
    step = max(1, checks.ROWS_AT_ONCE // rows[0].size)
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step].astype(np.float64).reshape(-1, columns) - near
        own = part.mean(axis=0)
        distance, share = own - mean, len(part) / (count + len(part))
        squares += ((part - own) ** 2).sum(axis=0) + distance**2 * count * share
        mean += distance * share
        count += len(part)
    return {"mean": near + mean, "variance": squares / count, "count": np.array(float(count))}
