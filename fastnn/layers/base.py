"""What every layer is: shapes, parameters, and a way forward and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks, initializers
from fastnn.engine import cpu
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels import state as s

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

DTYPES = ("float32", "float64")


class Arrays(MutableMapping[str, Array]):
    """Arrays by name whose memory is fixed: assigning to a name writes into its array."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self:
            self._arrays[name] = np.asarray(checks.array(value, name, any_shape=True), order="C")
            return
        if np.shape(value) != self[name].shape:
            raise ValueError(f"{name} has shape {self[name].shape}, got {np.shape(value)}")
        self[name][...] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} cannot be removed from its layer")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return repr(self._arrays)

    def move(self, name: str, array: Array) -> None:
        """Let `name` stand for other memory from now on."""
        self._arrays[name] = array

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Stand for `arrays` again, and no others."""
        self._arrays = dict(arrays)


class Parameters(Arrays):
    """The same for parameters: only finite numbers are let in."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, checks.like(value, name, self[name]) if name in self else value)


class Layer:
    """A step of a network: it knows its shapes, owns its parameters and their gradients.

    A layer of your own is a subclass with ``forward(x, training=False)`` and ``backward(dy)`` in
    NumPy, and ``build(input_shape)`` if it has weights, made there by `add_weight`. A model with
    such a layer runs in Python, batch by batch, with the results that compiled steps would give.

    fastnn's own layers say instead which ops they become (`forward_ops`, `backward_ops`).

    Parameters
    ----------
    name : str, optional
        By default made of the class's name and the place in the model.

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

    name: str | None = None
    untrainable: str | None = None  # why no gradient comes back through it
    dtype: str = "float32"
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    _params: Parameters | None = None
    _grads: Arrays | None = None
    _seed: int | None = None
    _stream: int = 0
    _state: npt.NDArray[np.int64] | None = None
    _forwards: int = 0
    _tape: Eager | None = None
    _owner: object = None

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

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}: name must be a string, got {name!r}")
        self.name = name

    @property
    def params(self) -> Parameters:
        """Parameters by name: live arrays."""
        if self._params is None:
            self._params = Parameters()
        return self._params

    @property
    def grads(self) -> Arrays:
        """Gradients of the parameters by name, from the last `backward`: live arrays.

        After ``model.fit`` they hold nothing of use: a large kernel's gradient is used up as it is
        computed, and never stands in memory as a whole.
        """
        if self._grads is None:
            self._grads = Arrays()
        return self._grads

    @property
    def in_python(self) -> bool:
        """Whether the layer exists only in Python, so that no program can hold it."""
        return type(self).forward_ops is Layer.forward_ops

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
            if not self.params:  # else it was built by hand
                self.build(shape)
            self.output_shape = tuple(self.compute_output_shape(shape))
        except BaseException:
            self._params = self._grads = None
            raise
        self.input_shape = shape

    @property
    def label(self) -> str:
        """What messages call the layer."""
        return self.name or type(self).__name__

    def add_weight(self, name: str, shape: Shape, initializer: Any = "glorot_uniform") -> Array:
        """A new parameter, and its gradient under the same name; called in `build`."""
        if self._seed is None:
            self._seed = new_seed()
        checked = initializers.check(initializer, self.label, f"{name}_initializer")
        stream = (self._stream << 16) + len(self.params)
        drawn = initializers.draw(checked, shape, initializers.generator(self._seed, stream))
        self.params[name] = drawn.astype(self.dtype)
        self.grads[name] = np.zeros(shape, self.dtype)
        return self.params[name]

    # What the planner asks of fastnn's own layers.

    def stages(self) -> tuple[Layer, ...]:
        """The layers that this one is made of, in order."""
        return (self,)

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
        return dx.copy() if np.may_share_memory(dx, gradient) else dx

    def _require(self, way: str) -> None:
        """Refuse a layer of the user's that has not defined `forward` or `backward`."""
        if self.in_python and getattr(type(self), way) is getattr(Layer, way):
            raise NotImplementedError(f"{type(self).__name__} does not define {way}")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again."""
        return {"name": self.name}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items() if v is not None)
        return f"{type(self).__name__}({arguments})"


def new_seed() -> int:
    """A fresh 63-bit seed from the system's entropy."""
    import secrets

    return secrets.randbits(63)


def snake_case(name: str) -> str:
    """``BatchNormalization`` as ``batch_normalization``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
