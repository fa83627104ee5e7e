"""Layers one after the other, their parameters in one vector: a network and what it predicts."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastnn import checks
from fastnn.engine import arena, cpu, devices
from fastnn.engine.cuda.arrays import DeviceArray
from fastnn.layers.arrays import Arrays
from fastnn.layers.base import (
    DTYPES,
    Layer,
    leaves,
    new_seed,
    prepare_in_order,
    snake_case,
    with_all_inside,
)
from fastnn.layers.shape import Input
from fastnn.training import inference, planner
from fastnn.training.loop import CompiledPass, CompiledStep, EagerPass, Pass, Step
from fastnn.training.progress import compiling

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self

    from fastnn.engine.cuda.mirror import Mirror
    from fastnn.training.on_cuda import CudaStep

    Array = npt.NDArray[Any]
    Shape = tuple[int, ...]

DEFAULT_ROWS = 1024
"""Rows that `predict` and `evaluate` take at once, unless told otherwise."""

KEPT_PROGRAMS = 16
"""Programs that a model keeps: one for each batch size and kind of data that it has met."""


Made = TypeVar("Made", "CompiledStep", "CudaStep")


class Network:
    """What `Sequential` is without training: layers, shapes, parameters, predictions."""

    def __init__(
        self,
        layers: Iterable[Layer],
        input_shape: Shape | int | None,
        dtype: str,
        seed: int | None,
        device: str,
        name: str | None,
        precision: str,
    ) -> None:
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ValueError(f"Sequential: dtype must be one of {DTYPES}, got {dtype!r}")
        self.precision = devices.checked_precision(precision, dtype)
        if self.precision != "fp32" and device == "cpu":
            raise ValueError(
                f"Sequential: precision={precision!r} is for device='cuda', got device='cpu'"
            )
        self.dtype, self.name = dtype, name or "sequential"
        self.seed = new_seed() if seed is None else checks.seed("Sequential", seed)
        self.state = cpu.new_state(self.seed)
        self.layers: list[Layer] = []
        self._parameters: Array | None = None
        self._gradients: Array | None = None
        self._buffers: Array | None = None
        self._built_layers: list[Layer] = []
        self._programs: dict[tuple[Any, ...], CompiledStep | CudaStep] = {}
        self._forwards: dict[int, inference.Forward | None] = {}
        self._lock = threading.Lock()
        self._mirror: Mirror | None = None
        self.to(device)
        self._told = False
        if isinstance(layers, Layer) or not hasattr(layers, "__iter__"):
            raise TypeError(f"Sequential: layers must be a list of layers, got {layers!r}")
        for layer in layers:
            self.add(layer)
        if input_shape is not None:
            self.build(checks.shape(input_shape, "Sequential: input_shape"))
        elif self.layers and isinstance(self.layers[0], Input):
            self.build(self.layers[0].shape)

    def to(self, device: str) -> Self:
        """Compute on another device from now on; weights and the optimizer's state go along.

        What is kept of the model, and what is written to files, is the host's on every device: the
        arrays that layers name are those of NumPy, and current wherever no `fit` is under way. On
        the CPU a model computes in fp32, whatever its precision on a GPU.

        Parameters
        ----------
        device : {"cpu", "cuda", "auto"}
            "auto" takes a GPU if there is one.

        Returns
        -------
        Sequential
            The model itself.

        Raises
        ------
        ValueError
            If it is none of these.
        ImportError, RuntimeError
            If it is "cuda", and packages, driver or GPU are missing: which, and the cure.
        """
        chosen = devices.chosen(device)
        with self._lock:
            self._programs.clear()
            self._mirror = devices.new_mirror() if chosen == "cuda" else None
            self.device = chosen
        return self

    def add(self, layer: Layer) -> None:
        """Append a layer to a model that is not built yet."""
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential: layers must be layers, got {layer!r}")
        if self.built:
            raise RuntimeError("Sequential: layers cannot be added once the model is built")
        if layer.taken or layer in self.layers:
            raise ValueError(f"Sequential: {layer!r} already belongs to a model")
        self.layers.append(layer)

    @property
    def built(self) -> bool:
        """Whether the shape of the input is known and parameters exist."""
        return self._parameters is not None

    @property
    def input_shape(self) -> Shape | None:
        """The shape of a row that goes in, None if not yet known."""
        return self.layers[0].input_shape if self.built else None

    @property
    def output_shape(self) -> Shape:
        """The shape of a row that comes out."""
        self._require_built("output_shape")
        shape = self.layers[-1].output_shape
        assert shape is not None
        return shape

    def build(self, input_shape: Shape | int) -> None:
        """Make all parameters, for rows of `input_shape`, in one flat vector."""
        shape = checks.shape(input_shape, "Sequential: input_shape")
        if self.built:
            if shape != self.input_shape:
                raise ValueError(f"Sequential: built for rows of {self.input_shape}, got {shape}")
            return
        if not self.layers:
            raise ValueError("Sequential: the model has no layers")
        with self.undone_on_error():
            self._prepare_layers(shape)

    @contextlib.contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Undo a `build` in the block if the block ends in an error."""
        if self.built:
            yield
            return
        stages = [stage for layer in self.layers for stage in layer.stages()]
        every = (self, *with_all_inside(self.layers), *stages)
        parts = list({id(part): part for part in every}.values())
        before = [dict(vars(part)) for part in parts]
        # Arrays by name are changed in place: of them, what they were is kept, too.
        named = [v for own in before for v in own.values() if isinstance(v, Arrays)]
        arrays = [dict(each) for each in named]
        try:
            yield
        except BaseException:
            for part, attributes in zip(parts, before, strict=True):
                vars(part).clear()
                vars(part).update(attributes)
            for each, kept in zip(named, arrays, strict=True):
                each.restore(kept)
            raise

    def _prepare_layers(self, shape: Shape) -> None:
        for index, layer in enumerate(self.layers):
            if layer.taken:
                raise ValueError(f"Sequential: {layer!r} already belongs to a model")
            _name(layer, str(index))
        own = leaves(self.layers)
        for stream, layer in enumerate(own):
            layer._stream = stream
        prepare_in_order(self.layers, shape, self.dtype, self.seed)
        for layer in own:
            if layer.dtype != self.dtype:
                raise ValueError(f"{layer.label} is {layer.dtype}, the model {self.dtype}")
        for layer in with_all_inside(self.layers):
            layer._owner, layer._state, layer._seed = self, self.state, self.seed
        self._parameters = self._in_one_vector([(layer, layer.params) for layer in own])
        self._buffers = self._in_one_vector([(layer, layer.buffers) for layer in own])
        self._gradients = self._vector(self._parameters.size)
        begin = 0
        for layer in own:
            for name, value in layer.params.items():
                end = begin + value.size
                layer.grads.move(name, self._gradients[begin:end].reshape(value.shape))
                begin = end
        self._built_layers = list(self.layers)

    def _in_one_vector(self, named: list[tuple[Layer, Arrays]]) -> Array:
        """A new vector of all arrays, layer by layer, of which they are views from now on."""
        vector = self._vector(sum(a.size for _, arrays in named for a in arrays.values()))
        begin = 0
        for layer, arrays in named:
            for name, value in list(arrays.items()):
                end = begin + value.size
                view = vector[begin:end].reshape(value.shape)
                view[...] = value
                # A layer may keep what `add_weight` gave it, under a name of its own.
                for attribute, kept in list(vars(layer).items()):
                    if kept is value:
                        setattr(layer, attribute, view)
                arrays.move(name, view)
                begin = end
        return vector

    def _vector(self, count: int) -> Array:
        itemsize = np.dtype(self.dtype).itemsize
        return arena.allocate(count * itemsize).view(self.dtype)

    def _require_built(self, what: str) -> None:
        if not self.built and self.layers and isinstance(self.layers[0], Input):
            self.build(self.layers[0].shape)
        if not self.built:
            raise RuntimeError(
                f"{what}: the model is not built yet; give input_shape, or fit it first"
            )
        if self.layers != self._built_layers:
            # Shapes and programs were made for those.
            raise RuntimeError(f"{what}: layers were changed after the model was built")

    def at_hand(self, value: Any, argument: str) -> Any:
        """`value`; an array on the model's GPU as what steps take there, and no other GPU's."""
        return devices.taken(value, argument, self._mirror)

    def predict(self, x: Any, batch_size: int = DEFAULT_ROWS, verbose: int | str = 0) -> Any:
        """The network's output for every row of x.

        A row's result does not depend on the rows beside it, or on `batch_size`; but for its last
        digits where NVIDIA's library multiplies wide layers on a GPU.

        Parameters
        ----------
        x : array_like, (N, ...)
            Arrays of PyTorch, CuPy and others on the model's GPU are used where they lie; whether
            their values are finite is not looked at.
        batch_size : int
            Rows taken at once.

        Returns
        -------
        ndarray, (N, ...)
            For rows on a GPU a `DeviceArray`, which other libraries take without a copy.

        Raises
        ------
        ValueError, TypeError
            If x is not such rows, or lies on a GPU that is not the model's.
        """
        self._require_built("predict")
        most = checks.integer("predict", "batch_size", batch_size, 1)
        shown = checks.verbose("predict", verbose)
        x = self.at_hand(x, "x")
        rows = checks.features(x, "x", self.input_shape, self.dtype)
        return self.predict_checked(planner.Sources(rows), most, shown)

    def predict_checked(
        self, sources: planner.Sources, most: int = DEFAULT_ROWS, verbose: int = 0
    ) -> Any:
        """The output for rows that have passed the door, of which `most` are taken at once."""
        total = sources.rows
        if self._mirror is None and total <= most and sources.starts is None:
            capacity = room(total)
            if capacity not in self._forwards:
                self._forwards[capacity] = self._forward(capacity, verbose)
            forward = self._forwards[capacity]
            if forward is not None and forward.short:
                return forward(sources.x)
        shape = (total, *self.output_shape)
        out: Any = np.empty(shape, self.dtype)
        if isinstance(sources.x, DeviceArray):
            out = DeviceArray.empty(sources.x.device, shape, self.dtype)
        batch, state = min(total, most), cpu.new_state()
        sources, step = sources._replace(out=out), self._prediction_step
        with self._pass(step, sources, room(batch), state, verbose) as one:
            one.epoch(total, batch)
        return out

    def compiled_predict(self, rows: int = 1) -> inference.CompiledFunction:
        """A function for the output of `rows` rows, with the least overhead that can be had.

        ``f(x, out=None)`` takes a NumPy array of shape (rows, ...) and real numbers, and returns a
        new array, or `out`, which must have the output's shape and the model's dtype. The result
        is that of `predict`, to the bit. Weights are read at each call, so training goes on
        meanwhile if it likes. Any number of threads may call it at once; compiled code runs
        on the calling thread, in one call that holds no lock of Python's and that Ctrl-C does not
        interrupt.

        It looks at shape and element type alone: where `predict` refuses a row with NaN, infinity
        or a number that the model's dtype cannot hold, here such a row's output has no meaning;
        that of the others is right.

        Parameters
        ----------
        rows : int
            Rows in each call.

        Returns
        -------
        callable

        Raises
        ------
        RuntimeError
            If the model is not built, or has a layer that exists only in Python.

        Examples
        --------
        >>> import fastnn, numpy as np
        >>> model = fastnn.Sequential([fastnn.Dense(3, activation="tanh")], input_shape=(4,))
        >>> policy = model.compiled_predict()
        >>> observation, action = np.ones((1, 4), np.float32), np.empty((1, 3), np.float32)
        >>> policy(observation, out=action) is action
        True
        >>> bool((action == model.predict(observation)).all())
        True
        """
        self._require_built("compiled_predict")
        forward = self._forward(checks.integer("compiled_predict", "rows", rows, 1), 0)
        if forward is None:
            names = ", ".join(layer.label for layer in self.layers if layer.in_python)
            raise RuntimeError(f"compiled_predict: {names}: only in Python, cannot be compiled")
        return inference.function(forward)

    def _prediction_step(self, tape: Any, sources: planner.Sources) -> None:
        planner.prediction_step(tape, self.layers, sources, self.dtype)

    def _forward(self, rows: int, verbose: int) -> inference.Forward | None:
        """Predictions of up to `rows` rows in one call; None if some layer is only in Python."""
        if any(layer.in_python for layer in self.layers):
            return None
        shapes = self.layers[0].input_shape or (), self.output_shape
        x, out = (np.empty((0, *shape), self.dtype) for shape in shapes)
        sources = planner.Sources(x=x, out=out)
        step = self._compiled(self._prediction_step, sources, rows, verbose, at_once=True)
        return inference.Forward(step, *shapes)

    def _pass(
        self,
        step: Step,
        sources: planner.Sources,
        rows: int,
        state: npt.NDArray[np.int64],
        verbose: int = 0,
        hyperparameters: Hashable = None,
        training: bool = False,
    ) -> Pass:
        """`step` made ready; `hyperparameters` is all that it was made with and that may change."""
        in_python = [layer.label for layer in self.layers if layer.in_python]
        if in_python:
            if verbose and not self._told:
                names = ", ".join(in_python)
                print(
                    f"fastnn: {names}: only in Python, so steps are not compiled", file=sys.stderr
                )
                self._told = True
            if any(isinstance(source, DeviceArray) for source in sources):
                raise TypeError(
                    f"{', '.join(in_python)}: only in Python, takes no arrays that lie on a GPU"
                )
            return EagerPass(step, sources, state, self.dtype, training)
        if self._mirror is not None:
            return self._cuda_pass(step, sources, rows, state, verbose, hyperparameters, training)
        compiled = self._compiled(step, sources, rows, verbose, hyperparameters, training)
        return CompiledPass(compiled, sources, state)

    def _compiled(
        self,
        step: Step,
        sources: planner.Sources,
        rows: int,
        verbose: int,
        hyperparameters: Hashable = None,
        training: bool = False,
        at_once: bool = False,
    ) -> CompiledStep:
        """The step's program, from the store or new, with all its ops compiled."""
        compiled = self._kept(
            ("cpu", training, at_once, rows, hyperparameters, *_kinds(sources)),
            lambda: CompiledStep(step, sources, rows, self.dtype, training, at_once),
        )
        compiled.prepare(compiling(verbose))
        return compiled

    def _cuda_pass(
        self,
        step: Step,
        sources: planner.Sources,
        rows: int,
        state: npt.NDArray[np.int64],
        verbose: int,
        hyperparameters: Hashable,
        training: bool,
    ) -> Pass:
        from fastnn.training.on_cuda import CudaPass, CudaStep

        mirror = self._mirror
        assert mirror is not None
        made = self._kept(
            ("cuda", self.precision, training, rows, hyperparameters, *_kinds(sources)),
            lambda: CudaStep(step, sources, rows, self.dtype, training, mirror, self.precision),
        )
        return CudaPass(made, sources, state, compiling(verbose, f"{mirror.device.name}, once"))

    def _kept(self, key: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        """A program from the store, or a new one, in the oldest one's place."""
        # A program holds hyperparameters: where one was changed, another program is made.
        with self._lock:
            kept: Any = self._programs.get(key)
            if kept is None:
                kept = make()
                while len(self._programs) >= KEPT_PROGRAMS:
                    del self._programs[next(iter(self._programs))]
                self._programs[key] = kept
        made: Made = kept
        return made

    def __call__(self, x: Any, training: bool = False) -> Array:
        """The output of each layer in turn, for loops written by hand."""
        rows = checks.features(x, "x", self.input_shape, self.dtype)
        self.build(rows.shape[1:])
        x = np.ascontiguousarray(rows, self.dtype)
        for layer in self.layers:
            x = layer.forward(x, training=training)
        result: Array = x
        return result

    @property
    def parameters(self) -> Array:
        """All parameters as one vector (P,), layer by layer: a live view."""
        self._require_built("parameters")
        assert self._parameters is not None
        return self._parameters

    def count_params(self) -> int:
        """Number of all weights, those that are not trained among them."""
        self._require_built("count_params")
        return sum(w.size for layer in leaves(self.layers) for w in layer.weights.values())

    def get_weights(self) -> list[Array]:
        """Copies of all weights, layer by layer: kernel, bias, kernel, ...

        A layer's parameters come first, then what it keeps beside them, as moving means.
        """
        self._require_built("get_weights")
        return [w.copy() for layer in leaves(self.layers) for w in layer.weights.values()]

    def set_weights(self, weights: list[Any]) -> None:
        """Set all weights, in the order of `get_weights`.

        Raises
        ------
        ValueError
            If number or shapes differ or a value is not finite: before anything is set.
        """
        self._require_built("set_weights")
        own = [(la, name, w) for la in leaves(self.layers) for name, w in la.weights.items()]
        if not isinstance(weights, (list, tuple)):
            raise TypeError(f"set_weights: weights must be a list of arrays, got {weights!r}")
        given = list(weights)
        if len(given) != len(own):
            raise ValueError(f"set_weights: weights must be {len(own)} arrays, got {len(given)}")
        arrays = []
        for (layer, name, w), value in zip(own, given, strict=True):
            arrays.append(checks.like(value, f"set_weights: {layer.label}.{name}", w))
        for (_, _, w), array in zip(own, arrays, strict=True):
            w[...] = array

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print each layer's output shape, its number of weights, and their bytes."""
        self._require_built("summary")
        itemsize = np.dtype(self.dtype).itemsize
        lines = [("layer", "output shape", "parameters", "bytes")]
        for layer in self.layers:
            count = sum(w.size for leaf in layer.leaves() for w in leaf.weights.values())
            row = ", ".join(["N", *map(str, layer.output_shape or ())])
            kind = f"{layer.name} ({type(layer).__name__})"
            lines.append((kind, f"({row})", f"{count:,}", f"{count * itemsize:,}"))
        total = self.count_params()
        trained = [layer for layer in leaves(self.layers) if layer.trained]
        changing = sum(w.size for layer in trained for w in layer.params.values())
        lines.append(("total", "", f"{total:,}", f"{total * itemsize:,}"))
        if changing != total:
            lines.append(("of it trained", "", f"{changing:,}", f"{changing * itemsize:,}"))
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        for index, line in enumerate(lines):
            if index in (1, len(self.layers) + 1):
                print_fn("-" * (sum(widths) + 6))
            texts = [text.ljust(width) for text, width in zip(line[:2], widths[:2], strict=True)]
            figures = [text.rjust(width) for text, width in zip(line[2:], widths[2:], strict=True)]
            print_fn("  ".join([*texts, *figures]))


def _kinds(sources: planner.Sources) -> list[Any]:
    """What a program depends on of the arrays that it will be run over."""
    return [None if a is None else (a.dtype, a.ndim) for a in sources]


def _name(layer: Layer, place: str) -> None:
    """Name a layer, and those inside it, by class and place unless they have a name."""
    layer.name = layer.name or f"{snake_case(type(layer).__name__)}_{place}"
    for index, inner in enumerate(layer.inside()):
        _name(inner, f"{place}_{index}")


def room(rows: int) -> int:
    """The next power of two: data sets of many sizes then share a few programs."""
    return 1 << (rows - 1).bit_length()
