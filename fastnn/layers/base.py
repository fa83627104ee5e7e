"""What every layer is: shapes, parameters, and a way forward and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.engine import cpu
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels import state as s
from fastnn.layers.arrays import Array
from fastnn.layers.weights import Options as Options
from fastnn.layers.weights import Shape as Shape
from fastnn.layers.weights import Weighted
from fastnn.layers.weights import new_seed as new_seed

DTYPES = ("float32", "float64")


class Layer(Weighted):
    """A step of a network: it knows its shapes, owns its parameters and their gradients.

    A layer of your own is a subclass with ``forward(x, training=False)`` and ``backward(dy)`` in
    NumPy, and ``build(input_shape)`` if it has weights, made there by `add_weight`. A model with
    such a layer runs in Python, batch by batch, with the results that compiled steps would give.

    fastnn's own layers say instead which ops they become (`forward_ops`, `backward_ops`).

    Parameters
    ----------
    name : str, optional
        By default made of the class's name and the place in the model.
    trainable : bool
        Whether training changes its parameters. It may be set between two trainings. A layer that
        is not is frozen: its gradients are not looked at, and for the most part not computed.
    learning_rate_multiplier : float, at least 0
        By what the learning rate is multiplied for its parameters, decay included. It may be set
        between two trainings.

    Examples
    --------
    >>> import fastnn
    >>> class Square(fastnn.Layer):
    ...     def forward(self, x, training=False):
    ...         self.x = x
    ...         return x * x
    ...     def backward(self, dy):
    ...         return 2 * self.x * dy
    >>> Square().forward(np.array([[1.0, 3.0]])).tolist()
    [[1.0, 9.0]]
    """

    input_shape: Shape | None = None
    output_shape: Shape | None = None
    _state: npt.NDArray[np.int64] | None = None
    _forwards: int = 0
    _tape: Eager | None = None

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Refuse a class whose `forward` or `backward` its inherited ops would bypass."""
        super().__init_subclass__(**arguments)
        for way in ("forward", "backward"):
            ops = f"{way}_ops"
            overridden = way in vars(cls) and ops not in vars(cls)
            if overridden and getattr(cls, ops) is not getattr(Layer, ops):
                raise TypeError(
                    f"{cls.__name__}: {way} of one of fastnn's own layers cannot be overridden, "
                    f"for compiled steps use {ops}; subclass Layer"
                )

    @property
    def untrainable(self) -> str | None:
        """Why no gradient comes back through it, if none does."""
        return None

    @property
    def in_python(self) -> bool:
        """Whether the layer exists only in Python, so that no program can hold it."""
        return type(self).forward_ops is Layer.forward_ops

    @property
    def taken(self) -> bool:
        """Whether it belongs to a model, or to a layer around it."""
        return self._owner is not None or self._parent is not None

    @property
    def built(self) -> bool:
        """Whether shapes are known and parameters exist."""
        return self.output_shape is not None

    def build(self, input_shape: Shape) -> None:
        """Make the parameters for rows of `input_shape`; called once, by `prepare`."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of an output row; unless overridden, found by trying `forward` on zeros."""
        if not self.in_python:
            return input_shape
        tried = self.forward(np.zeros((1, *input_shape), self.dtype), training=False)
        return tuple(np.shape(tried)[1:])

    def prepare(self, input_shape: Shape, dtype: str = "float32", seed: int | None = None) -> None:
        """Build the layer for rows of `input_shape`, once.

        Parameters
        ----------
        input_shape : tuple of int
            The shape of one row, without the batch.
        dtype : {"float32", "float64"}
            Element type of parameters and results.
        seed : int, optional
            Of the random numbers; None draws one.

        Raises
        ------
        ValueError
            If the layer was built for another shape, or cannot take this one.
        """
        shape = checks.shape(tuple(input_shape), f"{self.label}: rows")
        if self.built:
            if shape != self.input_shape:
                raise ValueError(
                    f"{self.label}: built for rows of shape {self.input_shape}, got {shape}"
                )
            return
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ValueError(f"{self.label}: dtype must be one of {DTYPES}, got {dtype!r}")
        self.dtype = dtype
        if seed is not None or self._seed is None:
            self._seed = new_seed() if seed is None else seed
        try:
            if not self.weights:  # else it was built by hand
                self.build(shape)
            self.output_shape = tuple(self.compute_output_shape(shape))
        except BaseException:
            self._params = self._buffers = self._grads = None
            raise
        self.input_shape = shape

    # What the planner asks of fastnn's own layers.

    def inside(self) -> Sequence[Layer]:
        """The layers that this one holds."""
        return ()

    def leaves(self) -> list[Layer]:
        """Those that x goes through: all inside, itself if there is none inside."""
        return leaves(self.inside()) or [self]

    def stages(self) -> tuple[Layer, ...]:
        """The layers that this one is made of, in order."""
        return (self,)

    def check_complete(self) -> None:
        """Refuse to be used while something is not known that `build` cannot make."""

    def forward_ops(self, tape: Tape, x: Any) -> Any:
        """Put the ops of the forward pass on `tape`; the output's handle."""
        if not isinstance(tape, Eager):
            raise TypeError(f"{self.label} exists only in Python: no program can hold it")
        y = np.ascontiguousarray(self.forward(x, training=tape.training), self.dtype)
        expected = (len(x), *(self.output_shape or y.shape[1:]))
        if y.shape != expected:
            raise ValueError(f"{self.label}.forward returned shape {y.shape}, expected {expected}")
        return y

    def backward_ops(self, tape: Tape, dy: Any, wants_dx: bool) -> Any:
        """Put the ops of the backward pass on `tape`; the handle of dx, or None if not wanted."""
        dx = self.backward(dy)
        if not wants_dx:
            return None
        expected = (len(dy), *(self.input_shape or ()))
        if np.shape(dx) != expected:
            raise ValueError(
                f"{self.label}.backward returned shape {np.shape(dx)}, expected {expected}"
            )
        return np.ascontiguousarray(dx, self.dtype)

    def penalty_ops(self, tape: Tape) -> None:
        """Put on `tape` what adds the regularizers' penalties to the loss, after the forward ops.

        Those of a frozen layer's weights do not count, as in Keras.
        """
        for name, regularizer in self._regularizers.items() if self.trained else ():
            tape.op(
                "penalty",
                w=self.params[name].reshape(-1),
                guard=int(tape.training),
                **regularizer.scalars(),
            )

    def penalty_gradient_ops(self, tape: Tape) -> None:
        """Put on `tape` what adds the penalties' gradients to `grads`, after the backward ops."""
        for name, regularizer in self._regularizers.items() if self.trained else ():
            g, w = self.grads[name].reshape(-1), self.params[name].reshape(-1)
            tape.op("penalty_gradient", g=g, w=w, **regularizer.scalars())

    def constraint_ops(self, tape: Tape) -> None:
        """Put on `tape` what brings parameters back to their constraints, after the update."""
        for name, constraint in self._constraints.items():
            constraint.ops(tape, self.params[name])

    # Loops written by hand.

    def forward(self, x: Any, training: bool = False) -> Array:
        """The layer's output for rows `x` (N, ...).

        Parameters
        ----------
        x : array_like, (N, ...)
            Rows; a first call builds the layer for their shape.
        training : bool
            Whether to behave as in training (dropout drops) and keep what `backward` needs.

        Returns
        -------
        ndarray, (N, ...)
            A new array of the layer's dtype.
        """
        self._require("forward")
        rows = checks.array(x, f"{self.label}: x", any_shape=True)
        if rows.ndim < 2:
            raise ValueError(f"{self.label}: x must be (N, ...), got shape {rows.shape}")
        self.prepare(rows.shape[1:], seed=self._seed)
        rows = np.ascontiguousarray(rows, self.dtype)
        if self._state is None:
            self._state = cpu.new_state(self._seed or 0)
        state = self._state.copy()
        state[s.STEP] += self._forwards
        self._forwards += training
        tape = Eager(len(rows), self.dtype, state, training)
        y: Array = rows
        for stage in self.stages():
            y = stage.forward_ops(tape, y)
        tape.flush()
        if training:
            self._tape = tape
        return y.copy() if np.may_share_memory(y, rows) else y

    def backward(self, dy: Any) -> Array:
        """The gradient of the last training `forward`'s input; fills `grads`.

        Parameters
        ----------
        dy : array_like, (N, ...)
            The gradient of its output.

        Returns
        -------
        ndarray, (N, ...)

        Raises
        ------
        RuntimeError
            If there was no ``forward(x, training=True)``.
        """
        self._require("backward")
        if self._tape is None:
            raise RuntimeError(f"{self.label}: call forward(x, training=True) before backward")
        gradient = np.ascontiguousarray(
            checks.array(dy, f"{self.label}: dy", any_shape=True), self.dtype
        )
        expected = (self._tape.rows, *(self.output_shape or ()))
        if gradient.shape != expected:
            raise ValueError(f"{self.label}: dy must have shape {expected}, got {gradient.shape}")
        if self._tape.rows == 0:
            for name in self.grads:
                self.grads[name][...] = 0
            return np.empty((0, *(self.input_shape or ())), self.dtype)
        dx: Array = gradient
        for stage in reversed(self.stages()):
            dx = stage.backward_ops(self._tape, dx, True)
            stage.penalty_gradient_ops(self._tape)
        return dx.copy() if np.may_share_memory(dx, gradient) else dx

    def take_over(self, other: Layer) -> None:
        """Know what a layer of the same arguments was told besides, before it was built."""

    def penalty(self) -> float:
        """What regularizers add to the loss: of weights, and of the last training output."""
        ran = self._tape is not None and self._tape.rows > 0
        tape = self._tape if ran else Eager(1, self.dtype, cpu.new_state(), training=True)
        assert tape is not None
        sums = cpu.floats(tape.state)
        before = sums[s.PENALTY_SUM]
        for stage in self.stages():
            if ran:
                stage.penalty_ops(tape)
            else:
                Layer.penalty_ops(stage, tape)
        added = float(sums[s.PENALTY_SUM] - before) / tape.rows
        sums[s.PENALTY_SUM] = before
        return added

    def _require(self, way: str) -> None:
        """Refuse a layer of the user's that has not defined `forward` or `backward`."""
        bare = type(self).forward_ops is Layer.forward_ops
        if bare and not self.inside() and getattr(type(self), way) is getattr(Layer, way):
            raise NotImplementedError(f"{type(self).__name__} does not define {way}")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again; of the options, those that are given."""
        config: dict[str, Any] = {"name": self.name}
        if not self._trainable:
            config["trainable"] = False
        if self.learning_rate_multiplier != 1.0:
            config["learning_rate_multiplier"] = self.learning_rate_multiplier
        return config

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items() if v is not None)
        return f"{type(self).__name__}({arguments})"


def leaves(layers: Iterable[Layer]) -> list[Layer]:
    """All layers that hold no other, those inside others too: weights are theirs alone."""
    return [leaf for layer in layers for leaf in layer.leaves()]


def places(layers: Iterable[Layer], within: str = "layers") -> Iterator[tuple[str, Layer]]:
    """`layers` and all that are inside them, each after its place in a model's files."""
    for index, layer in enumerate(layers):
        yield (place := f"{within}.{index}"), layer
        yield from places(layer.inside(), f"{place}.layers")


def with_all_inside(layers: Iterable[Layer]) -> list[Layer]:
    """`layers`, each followed by all that are inside it."""
    return [each for layer in layers for each in (layer, *with_all_inside(layer.inside()))]


def prepare_in_order(layers: Iterable[Layer], shape: Shape, dtype: str, seed: int | None) -> Shape:
    """Build each of `layers` for the rows that the one before gives; the last one's output."""
    for layer in layers:
        layer.prepare(shape, dtype, seed)
        assert layer.output_shape is not None
        shape = layer.output_shape
        for stage in layer.stages():
            if not stage.built:
                stage.prepare(shape, dtype, seed)
    return shape


def snake_case(name: str) -> str:
    """``BatchNormalization`` as ``batch_normalization``, ``DropBlock2D`` as ``drop_block2d``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
