"""Files of Keras 3: weights (.weights.h5), and models with their architecture (.keras)."""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks, constraints, layers, regularizers
from fastnn.io.chains import LARGEST_ROW
from fastnn.layers.base import Layer, Shape, leaves
from fastnn.model import Sequential
from fastnn.optional import needed

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LARGEST_CONFIG = 1 << 24
"""Bytes of JSON that are read."""

SAME = {
    *("Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax"),
    *("Dropout", "AlphaDropout", "SpatialDropout1D", "SpatialDropout2D"),
    *("GaussianDropout", "GaussianNoise", "ActivityRegularization", "Flatten", "Reshape"),
    *("BatchNormalization", "LayerNormalization", "Normalization", "Rescaling"),
}
"""Classes of layers that are called the same here, and have arguments of the same names."""

WITHOUT_MEANING = ("batch_shape", "dtype", "renorm_momentum")
"""Arguments that say nothing of what a layer computes, at least not by themselves."""

EXPECTED = {"axis": (-1, [-1]), "data_format": ("channels_last",)}
"""Arguments that here can have no other value."""

CONSTRAINTS_AND_REGULARIZERS = {
    kind.__name__: kind
    for table in (constraints.CONSTRAINTS, regularizers.REGULARIZERS)
    for kind in table.values()
}


def from_keras_weights(
    path: str | os.PathLike[str], model: Sequential | None = None, seed: int | None = None
) -> Sequential:
    """`model` with the weights that a file of Keras 3 holds, or the model of a .keras file.

    Parameters
    ----------
    path : path
        Ending in ``.weights.h5`` (`keras.Model.save_weights`) or ``.keras`` (`keras.Model.save`).
    model : Sequential, optional
        Built, with layers of the same classes in the same order; all of its weights are set, or
        none. Without it, a .keras file of a `keras.Sequential` is built with its own layers.
    seed : int, optional
        Of a model that is built: of shuffling and dropout.

    Returns
    -------
    Sequential
        `model`, or one that is not compiled.

    Raises
    ------
    ImportError
        If there is no h5py.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, if layers or shapes do not fit, or if a layer of the file, by its name,
        or an argument of it has no counterpart.

    Examples
    --------
    >>> model = fastnn.io.from_keras_weights("model.keras")  # doctest: +SKIP
    """
    h5py = needed("h5py", "from_keras_weights")
    name = os.fspath(path)
    if model is not None and not isinstance(model, Sequential):
        raise TypeError(f"from_keras_weights: model must be a Sequential, got {model!r}")
    if not name.endswith((".keras", ".weights.h5")):
        raise ValueError(
            f"from_keras_weights: path must end in .keras or .weights.h5, got {name!r}"
        )
    if not os.path.isfile(name):
        raise FileNotFoundError(f"from_keras_weights: no such file: {name}")
    if model is None and not name.endswith(".keras"):
        raise ValueError(f"from_keras_weights: {name} holds weights alone: give the model")
    if model is not None:
        model._require_built("from_keras_weights")
    try:
        source: Any = name
        if name.endswith(".keras"):
            config, source = _unpacked(name)
            if model is None:
                model = _built(config, len(source.getbuffer()), seed)
        assert model is not None
        with h5py.File(source, "r") as file:
            weights = list(_weights(h5py, file, model))
    except Exception as error:  # of all kinds, where the file is damaged
        raise ValueError(f"from_keras_weights: {name}: {error}") from error
    model.set_weights(weights)
    return model


def _unpacked(name: str) -> tuple[dict[str, Any], io.BytesIO]:
    """The architecture and the weights in a .keras file, whose members lie in it as they are."""
    with zipfile.ZipFile(name) as archive:
        contents = []
        for member, limit in (("config.json", LARGEST_CONFIG), ("model.weights.h5", None)):
            size = archive.getinfo(member).file_size
            if size > (limit or os.path.getsize(name)):
                raise ValueError(f"{member} would be {size} bytes long")
            contents.append(archive.read(member))
    config = json.loads(contents[0])
    return config, io.BytesIO(contents[1])


# Weights


def _weights(h5py: Any, file: Any, model: Sequential) -> Iterator[Array]:
    """The file's weights, in the order of the model's.

    A layer's have its class's name with the number of layers of the class before it.
    """
    if "layer_names" in file.attrs:
        raise ValueError("it is of Keras 2: save the weights with Keras 3")
    groups = _child(h5py, file, "layers")
    found = {name: _variables(h5py, groups, name) for name in groups}
    expected: Counter[str] = Counter()
    for layer in leaves(model.layers):
        kind = _snake_case(type(layer).__name__)
        name = f"{kind}_{expected[kind]}" if expected[kind] else kind
        expected[kind] += 1
        variables = found.pop(name, {})
        if len(variables) != len(layer.weights):
            raise ValueError(
                f"{layer.label} has {len(layer.weights)} arrays, the file {len(variables)} "
                f"of layers/{name}"
            )
        for index, (own, array) in enumerate(layer.weights.items()):
            variable = variables[str(index)]
            if variable.shape != array.shape:
                raise ValueError(
                    f"{layer.label}.{own} must have shape {array.shape}, got {variable.shape}"
                )
            value = np.asarray(variable)
            if isinstance(layer, layers.Normalization) and own == "count":
                value = np.maximum(value, 1)  # 0 would say that nothing was adapted to
            yield checks.like(value, f"{layer.label}.{own}", array)
    left = [name for name, variables in found.items() if variables]
    if left:
        raise ValueError(f"the model has no layer for layers/{left[0]}")


def _variables(h5py: Any, groups: Any, name: str) -> dict[str, Any]:
    """A layer's arrays by their numbers."""
    group = _child(h5py, groups, name)
    if "layers" in group:
        raise ValueError(f"layers/{name} is a model inside the model, which is not read")
    if "vars" not in group:
        return {}
    variables = _child(h5py, group, "vars")
    return {number: _child(h5py, variables, number) for number in variables}


def _child(h5py: Any, group: Any, name: str) -> Any:
    """What a group holds, in this very file: links into others are not followed."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"it has no {group.name.strip('/')}/{name} of its own")
    child = group[name]
    if isinstance(child, h5py.Dataset) and (child.external or child.is_virtual):
        raise ValueError(f"{child.name} lies in another file")
    return child


def _snake_case(name: str) -> str:
    """A class's name as Keras has it in files: ``PReLU`` is ``p_re_lu``."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


# Architecture


def _built(config: Mapping[str, Any], size: int, seed: int | None) -> Sequential:
    """The model that a config describes, whose weights are in a file of `size` bytes."""
    if config["class_name"] != "Sequential":
        raise ValueError(f"it is no Sequential but a {config['class_name']}: give the model")
    shape: Shape | None = None
    own: list[Layer] = []
    dtypes = set()
    for entry in config["config"]["layers"]:
        given = entry["config"]
        if entry["class_name"] == "InputLayer":
            shape = tuple(given["batch_shape"][1:])
            continue
        dtypes.add(_dtype(given.get("dtype", "float32")))
        try:
            own.append(_layer(entry["class_name"], given))
        except (TypeError, ValueError) as error:
            name = given.get("name")
            raise ValueError(f"layer {name!r} ({entry['class_name']}): {error}") from error
    if shape is None or len(dtypes) != 1:
        raise ValueError(
            f"it must have the input's shape and one dtype, got {shape} and {sorted(dtypes)}"
        )
    _check_size(own, checks.shape(shape, "the input's shape"), size)
    return Sequential(own, shape, dtypes.pop(), seed, name=config["config"].get("name"))


def _check_size(own: list[Layer], shape: Shape, size: int) -> None:
    """Refuse layers that would need more weights than there are bytes, before they are made."""
    for layer in own:
        count = math.prod(shape)
        shape = layer.compute_output_shape(shape)
        if count > LARGEST_ROW or (isinstance(layer, layers.Dense) and count * layer.units > size):
            raise ValueError(f"{layer.label} would be larger than the file")


def _layer(kind: str, given: Mapping[str, Any]) -> Layer:
    """The layer of a class and its arguments, all of which must have a counterpart."""
    if kind not in SAME:
        raise ValueError("there is no such layer")
    made: type[Layer] = getattr(layers, kind)
    known = {*inspect.signature(made).parameters, "name", "trainable"}
    arguments: dict[str, Any] = {}
    for name, value in given.items():
        if name in WITHOUT_MEANING or name.endswith("_initializer"):
            continue
        if name in EXPECTED:
            if value not in EXPECTED[name]:
                raise ValueError(f"{name} must be {EXPECTED[name][0]!r}, got {value!r}")
        elif name in known:
            arguments[name] = _made(value)
        elif value:  # None, False and 0 leave out what is not here
            raise ValueError(f"{name}={value!r} is not known here")
    return made(**arguments)


def _made(value: Any) -> Any:
    """An argument: a regularizer or a constraint is made of its class's name and arguments."""
    if not isinstance(value, dict):
        return value
    kind = CONSTRAINTS_AND_REGULARIZERS.get(value["class_name"])
    if kind is None:
        raise ValueError(f"{value['class_name']} is not known here")
    return kind(**value["config"])


def _dtype(policy: Any) -> str:
    """The name of a dtype policy."""
    return str(policy["config"]["name"] if isinstance(policy, dict) else policy)
