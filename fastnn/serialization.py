"""Models on disk: safetensors files with the architecture in their metadata.

Nothing in them is code, and nothing is unpickled. A file is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn import layers as layers_module
from fastnn import losses, metrics, optimizers
from fastnn.kernels import state as s
from fastnn.layers.base import Layer

if TYPE_CHECKING:
    from fastnn.model import Sequential

FORMAT = 1
"""Version of the metadata."""


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without functions: weights are in the file, so no initializer is needed."""
    return {k: "zeros" if callable(v) else v for k, v in config.items()}


def _described(thing: Any) -> dict[str, Any]:
    return {"class": type(thing).__name__, "config": _plain(thing.get_config())}


def describe(model: Sequential) -> dict[str, Any]:
    """All of a model but its arrays, as JSON takes it."""
    compiled = None
    if model.loss is not None:
        compiled = {
            "optimizer": _described(model.optimizer),
            "loss": _described(model.loss),
            "metrics": [_described(metric) for metric in model.metrics],
        }
    return {
        "format": FORMAT,
        "name": model.name,
        "dtype": model.dtype,
        "seed": model.seed,
        "input_shape": list(model.input_shape or ()),
        "layers": [_described(layer) for layer in model.layers],
        "compiled": compiled,
        "step": int(model.state[s.STEP]),
        "epochs_done": model.epochs_done,
    }


def save(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, by way of a temporary file beside it."""
    from safetensors.numpy import save as to_bytes

    model._require_built("save")
    tensors = {
        f"layers.{index}.{name}": array
        for index, layer in enumerate(model.layers)
        for name, array in layer.params.items()
    }
    if model.loss is not None:
        tensors |= {f"optimizer.{name}": vector for name, vector in model.flat().slots.items()}
    content = to_bytes(tensors, metadata={"fastnn": json.dumps(describe(model))})
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's own mode shuts everybody else out
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def load(
    path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None
) -> Sequential:
    """A model out of a file that `Sequential.save` wrote.

    Parameters
    ----------
    path : path
    custom_objects : dict, optional
        Classes of your own by name, for layers, losses, metrics and optimizers.

    Returns
    -------
    Sequential
        Compiled if it was when saved; `fit` goes on where it stopped.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, no model of fastnn's, or names a class that is not known.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"load: no such file: {os.fspath(path)}")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = (file.metadata() or {}).get("fastnn")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata is None:
            raise ValueError("it holds no model of fastnn's")
        return _restore(json.loads(metadata), tensors, dict(custom_objects or {}))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"load: {os.fspath(path)} cannot be loaded: {error}") from error


def _restore(
    described: dict[str, Any], tensors: dict[str, Any], custom: dict[str, Any]
) -> Sequential:
    from fastnn.model import Sequential

    if described["format"] != FORMAT:
        raise ValueError(f"its format is {described['format']}, this version reads {FORMAT}")

    def make(entry: dict[str, Any], known: Mapping[str, Any]) -> Any:
        name = entry["class"]
        if name not in custom and name not in known:
            raise ValueError(f"class {name} is not known; pass custom_objects={{{name!r}: {name}}}")
        return (custom.get(name) or known[name])(**entry["config"])

    known_layers = {
        name: value
        for name, value in vars(layers_module).items()
        if isinstance(value, type) and issubclass(value, Layer)
    }
    model = Sequential(
        [make(entry, known_layers) for entry in described["layers"]],
        input_shape=tuple(described["input_shape"]),
        dtype=described["dtype"],
        seed=described["seed"],
        name=described["name"],
    )
    compiled = described["compiled"]
    if compiled is not None:
        model.compile(
            optimizer=make(compiled["optimizer"], _classes(optimizers.OPTIMIZERS)),
            loss=make(compiled["loss"], _classes(losses.LOSSES)),
            metrics=[make(m, _classes(metrics.METRICS)) for m in compiled["metrics"]],
        )
    model.set_weights(
        [
            tensors[f"layers.{index}.{name}"]
            for index, layer in enumerate(model.layers)
            for name in layer.params
        ]
    )
    if compiled is not None:
        for name, vector in model.flat().slots.items():
            vector[...] = tensors[f"optimizer.{name}"]
    model.state[s.STEP], model.epochs_done = described["step"], described["epochs_done"]
    return model


def _classes(table: Mapping[str, type]) -> dict[str, type]:
    return {kind.__name__: kind for kind in table.values()}
