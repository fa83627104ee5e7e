"""`load`: a model out of a file."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

from fastnn import (
    checks,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
    serialization,
)
from fastnn.engine import devices
from fastnn.layers.base import Layer, places
from fastnn.model import Sequential
from fastnn.training.resuming import PREFIX


def load(path: str | os.PathLike[str], custom_objects: dict[str, Any] | None = None) -> Sequential:
    """A model out of a file that `Sequential.save` or the callback `Checkpoint` wrote.

    Parameters
    ----------
    path : path
    custom_objects : dict, optional
        Classes of your own by name, for layers, losses, metrics, optimizers and schedules. None of
        them takes the place of a class of fastnn's with the same name.

    Returns
    -------
    Sequential
        Compiled if it was when saved; `fit` goes on where it stopped.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, no model of fastnn's, of another format, or names a class that is not
        known.
    """
    with serialization.opened(path) as file:
        return _model(file, dict(custom_objects or {}))


def _model(file: serialization.File, custom: dict[str, Any]) -> Sequential:
    described = file.description
    known = _of_layers()
    own_layers = [serialization.make(entry, known, custom) for entry in described["layers"]]
    with _awaiting(own_layers, file):
        model = Sequential(
            own_layers,
            input_shape=tuple(described["input_shape"]),
            dtype=described["dtype"],
            seed=described["seed"],
            name=described["name"],
        )
    if described["compiled"] is not None:
        model.compile(**_compiled(described["compiled"], custom))
    arrays = model._arrays()
    names = {name for name in file.names if not name.startswith(PREFIX)}
    if set(arrays) != names:
        raise ValueError(f"its arrays are {sorted(names)}, not {sorted(arrays)}")
    for name, array in arrays.items():
        file.read(name, array)
        if not name.startswith("optimizer."):  # there a square may have overflowed
            checks.finite(array.reshape(-1), name, array.dtype.name)
    model._take_counts(described)
    model.preprocessing = described.get("preprocessing")
    model.precision = devices.checked_precision(described.get("precision", "fp32"), model.dtype)
    return model


@contextlib.contextmanager
def _awaiting(own_layers: list[Layer], file: serialization.File) -> Iterator[None]:
    """Have layers that are built in the block draw no weights, and make none that `file` lacks."""
    placed = list(places(own_layers))
    try:
        for place, layer in placed:
            layer._awaits = functools.partial(_require, file, place)
        yield
    finally:
        for _, layer in placed:
            layer._awaits = None


def _require(
    file: serialization.File, place: str, name: str, shape: tuple[int, ...], dtype: str
) -> None:
    file.require(f"{place}.{name}", shape, dtype)


def _of_layers() -> dict[str, type]:
    """Layers, and what their arguments may be, by the names of their classes."""
    known = {name: getattr(layers, name) for name in set(layers.__all__) - {"Layer"}}
    known |= {type(start).__name__: type(start) for start in initializers.INITIALIZERS.values()}
    for table in (regularizers.REGULARIZERS, constraints.CONSTRAINTS):
        known |= {kind.__name__: kind for kind in table.values()}
    return known


def _compiled(described: dict[str, Any], custom: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `compile`."""
    tables = (optimizers.OPTIMIZERS, losses.LOSSES, metrics.METRICS)
    of_optimizers, of_losses, of_metrics = (
        {kind.__name__: kind for kind in table.values()} for table in tables
    )
    of_optimizers |= {name: getattr(schedules, name) for name in schedules.__all__}
    return {
        "optimizer": serialization.make(described["optimizer"], of_optimizers, custom),
        "loss": serialization.make(described["loss"], of_losses, custom),
        "metrics": [
            serialization.make(entry, of_metrics, custom) for entry in described["metrics"]
        ],
    }
