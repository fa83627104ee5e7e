"""Files of the book's models: safetensors, with all else as JSON in the metadata.

A file holds what a model's parts have as attributes: arrays, numbers, strings. Nothing in it is
code.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import serialization
from fastnn.nnfs import accuracies, activations, layers, losses, optimizers

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.nnfs.model import Model

    Array = npt.NDArray[Any]

LEFT_OUT = frozenset({
    "inputs", "output", "dinputs", "dweights", "dbiases", "binary_mask",
    "prev", "next", "trainable_layers", "accumulated_sum", "accumulated_count",
})  # fmt: skip
"""What a pass through the network, or `Model.finalize`, sets anew."""

ROOMS = (layers, activations, losses, accuracies, optimizers)

PARTS = ("loss", "optimizer", "accuracy")
"""A model's parts besides its layers."""


def write_parameters(path: str | os.PathLike[str], parameters: list[tuple[Array, Array]]) -> None:
    """Write weights and biases, layer by layer."""
    names = ("weights", "biases")
    arrays = {
        f"{index}.{name}": np.ascontiguousarray(array)
        for index, pair in enumerate(parameters)
        for name, array in zip(names, pair, strict=True)
    }
    serialization.write(path, {"nnfs": "parameters"}, arrays)


def read_parameters(path: str | os.PathLike[str]) -> list[tuple[Array, Array]]:
    """What `write_parameters` wrote."""
    _, arrays = _read(path, "parameters")
    count = len(arrays) // 2
    wanted = [(f"{index}.weights", f"{index}.biases") for index in range(count)]
    if set(arrays) != {name for pair in wanted for name in pair}:
        raise ValueError(f"load: {os.fspath(path)} holds other arrays: {sorted(arrays)}")
    return [(arrays[weights], arrays[biases]) for weights, biases in wanted]


def write_model(path: str | os.PathLike[str], model: Model) -> None:
    """Write all parts of a model."""
    arrays: dict[str, Array] = {}
    described: dict[str, Any] = {
        "nnfs": "model",
        "layers": [
            _describe(layer, f"layers.{index}", arrays) for index, layer in enumerate(model.layers)
        ],
    }
    for part in PARTS:
        if getattr(model, part) is not None:
            described[part] = _describe(getattr(model, part), part, arrays)
    serialization.write(path, described, arrays)


def read_model(path: str | os.PathLike[str], model: Model, custom: dict[str, Any]) -> None:
    """Give an empty `model` the parts that `write_model` wrote."""
    described, arrays = _read(path, "model")
    try:
        for index, layer in enumerate(described["layers"]):
            model.add(_make(layer, f"layers.{index}", arrays, custom))
        made = {
            part: _make(described[part], part, arrays, custom)
            for part in PARTS
            if part in described
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"load: {os.fspath(path)} cannot be loaded: {error!r}") from error
    model.set(**made)


def _describe(part: Any, place: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """A part's class and numbers; its arrays go into `arrays`."""
    values: dict[str, Any] = {}
    for name, value in vars(part).items():
        if name in LEFT_OUT:
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
            arrays[f"{place}.{name}"] = np.ascontiguousarray(value)
        elif isinstance(value, np.generic):
            values[name] = value.item()
        elif value is None or isinstance(value, (bool, int, float, str)):
            values[name] = value
        else:
            raise TypeError(
                f"save: {type(part).__name__}.{name} is {value!r}; only numbers, strings, None and "
                "arrays of numbers can be saved"
            )
    return {"class": type(part).__name__, "values": values}


def _make(
    described: dict[str, Any], place: str, arrays: dict[str, Array], custom: dict[str, Any]
) -> Any:
    """The part that `_describe` described: its attributes are set, no constructor is called."""
    name = described["class"]
    kind: Any = custom.get(name) or _known().get(name)
    if kind is None:
        raise ValueError(
            f"load: class {name} is not known; pass custom_objects={{{name!r}: {name}}}"
        )
    part = kind.__new__(kind)
    vars(part).update(described["values"])
    for key, array in arrays.items():
        owner, _, attribute = key.rpartition(".")
        if owner == place:
            setattr(part, attribute, array)
    return part


def _known() -> dict[str, type]:
    """The book's classes by name."""
    own = (vars(room) for room in ROOMS)
    return {
        name: kind
        for names in own
        for name, kind in names.items()
        if isinstance(kind, type) and kind.__module__.startswith("fastnn.nnfs.") and name[0] != "_"
    }


def _read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """The description and the arrays of a file of the given kind."""
    _refuse_pickle(path)
    described, arrays = serialization.read(path)
    if not isinstance(described, dict) or described.get("nnfs") != kind:
        raise ValueError(f"load: {os.fspath(path)} holds no {kind} of fastnn.nnfs")
    return described, arrays


def _refuse_pickle(path: str | os.PathLike[str]) -> None:
    """Refuse what the book's own `save` wrote: to read it could run any code."""
    if not Path(path).is_file():
        return
    with open(path, "rb") as file:
        begin = file.read(9)
    # A pickle says its protocol first; a safetensors file has its header after eight bytes.
    if begin[:1] == b"\x80" and begin[8:] != b"{":
        raise ValueError(
            f"load: {os.fspath(path)} is a pickle, and to read one can run any code. To convert "
            "it, in the script that wrote it: numpy.savez('parameters.npz', *[array for pair in "
            "model.get_parameters() for array in pair]). Then here: arrays = "
            "list(numpy.load('parameters.npz').values()); "
            "model.set_parameters(list(zip(arrays[::2], arrays[1::2])))"
        )
