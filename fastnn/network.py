"""Layers one after the other with their parameters in one vector: a network, not yet trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.engine import arena, cpu
from fastnn.layers.base import DTYPES, Arrays, Layer, new_seed, snake_case
from fastnn.layers.shape import Input

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Shape = tuple[int, ...]


class Network:
    """What `Sequential` is before it is trained: layers, shapes, parameters."""

    def __init__(
        self,
        layers: Iterable[Layer],
        input_shape: Shape | int | None,
        dtype: str,
        seed: int | None,
        device: str,
        name: str | None,
    ) -> None:
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ValueError(f"Sequential: dtype must be one of {DTYPES}, got {dtype!r}")
        if device not in ("cpu", "auto"):
            raise ValueError(f"Sequential: device must be 'cpu' or 'auto', got {device!r}")
        self.dtype, self.device, self.name = dtype, "cpu", name or "sequential"
        self.seed = new_seed() if seed is None else checks.seed("Sequential", seed)
        self.state = cpu.new_state(self.seed)
        self.layers: list[Layer] = []
        self._parameters: Array | None = None
        self._gradients: Array | None = None
        self._built_layers: list[Layer] = []
        if isinstance(layers, Layer) or not hasattr(layers, "__iter__"):
            raise TypeError(f"Sequential: layers must be a list of layers, got {layers!r}")
        for layer in layers:
            self.add(layer)
        if input_shape is not None:
            self.build(checks.shape(input_shape, "Sequential: input_shape"))
        elif self.layers and isinstance(self.layers[0], Input):
            self.build(self.layers[0].shape)

    def add(self, layer: Layer) -> None:
        """Append a layer to a model that is not built yet."""
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential: layers must be layers, got {layer!r}")
        if self.built:
            raise RuntimeError("Sequential: layers cannot be added once the model is built")
        if layer._owner is not None or layer in self.layers:
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
        parts = [self, *self.layers, *(stage for layer in self.layers for stage in layer.stages())]
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
            if layer._owner is not None:
                raise ValueError(f"Sequential: {layer!r} already belongs to a model")
            layer.name = layer.name or f"{snake_case(type(layer).__name__)}_{index}"
            layer._stream = index
            layer.prepare(shape, self.dtype, self.seed)
            if layer.dtype != self.dtype:
                raise ValueError(f"{layer.label} is {layer.dtype}, the model {self.dtype}")
            assert layer.output_shape is not None
            shape = layer.output_shape
            for stage in layer.stages()[1:]:
                stage.prepare(shape, self.dtype, self.seed)
        count = sum(w.size for layer in self.layers for w in layer.params.values())
        parameters, gradients = self._vector(count), self._vector(count)
        begin = 0
        for layer in self.layers:
            layer._owner, layer._state, layer._seed = self, self.state, self.seed
            for name, value in list(layer.params.items()):
                end = begin + value.size
                view = parameters[begin:end].reshape(value.shape)
                view[...] = value
                # A layer may keep what `add_weight` gave it, under a name of its own.
                for attribute, kept in list(vars(layer).items()):
                    if kept is value:
                        setattr(layer, attribute, view)
                layer.params.move(name, view)
                layer.grads.move(name, gradients[begin:end].reshape(value.shape))
                begin = end
        self._parameters, self._gradients = parameters, gradients
        self._built_layers = list(self.layers)

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
        """Number of parameters."""
        return int(self.parameters.size)

    def get_weights(self) -> list[Array]:
        """Copies of all parameters, layer by layer: kernel, bias, kernel, ..."""
        self._require_built("get_weights")
        return [w.copy() for layer in self.layers for w in layer.params.values()]

    def set_weights(self, weights: list[Any]) -> None:
        """Set all parameters, in the order of `get_weights`.

        Raises
        ------
        ValueError
            If number or shapes differ or a value is not finite: before anything is set.
        """
        self._require_built("set_weights")
        own = [(layer, name) for layer in self.layers for name in layer.params]
        if not isinstance(weights, (list, tuple)):
            raise TypeError(f"set_weights: weights must be a list of arrays, got {weights!r}")
        given = list(weights)
        if len(given) != len(own):
            raise ValueError(f"set_weights: weights must be {len(own)} arrays, got {len(given)}")
        arrays = []
        for (layer, name), value in zip(own, given, strict=True):
            label = f"set_weights: {layer.label}.{name}"
            arrays.append(checks.like(value, label, layer.params[name]))
        for (layer, name), array in zip(own, arrays, strict=True):
            layer.params[name][...] = array

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print each layer's output shape, parameters and bytes."""
        self._require_built("summary")
        itemsize = np.dtype(self.dtype).itemsize
        lines = [("layer", "output shape", "parameters", "bytes")]
        for layer in self.layers:
            count = sum(w.size for w in layer.params.values())
            row = ", ".join(["N", *map(str, layer.output_shape or ())])
            kind = f"{layer.name} ({type(layer).__name__})"
            lines.append((kind, f"({row})", f"{count:,}", f"{count * itemsize:,}"))
        total = self.count_params()
        lines.append(("total", "", f"{total:,}", f"{total * itemsize:,}"))
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        for index, line in enumerate(lines):
            if index in (1, len(lines) - 1):
                print_fn("-" * (sum(widths) + 6))
            texts = [text.ljust(width) for text, width in zip(line[:2], widths[:2], strict=True)]
            figures = [text.rjust(width) for text, width in zip(line[2:], widths[2:], strict=True)]
            print_fn("  ".join([*texts, *figures]))
