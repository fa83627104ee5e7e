"""Files of arrays with a description: safetensors, with JSON in the metadata.

Nothing in them is code, and nothing is unpickled. A file is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.activations import Custom

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_KEY = "fastnn"
"""Name of the description in a file's metadata."""


def describe(thing: Any) -> dict[str, Any]:
    """The class and the arguments of a layer, loss, metric or optimizer, as JSON takes them.

    An argument that is such a thing itself, a schedule, is described likewise, and an activation of
    the user's by its name. An initializer that is a function is left out: a file has the weights
    themselves.
    """

    def argument(value: Any) -> Any:
        if isinstance(value, Custom):
            return {"function": value.function.__name__, "op": value.op}
        if hasattr(value, "get_config"):
            return describe(value)
        if isinstance(value, list):
            return [argument(each) for each in value]
        return "zeros" if callable(value) else value

    config = {name: argument(value) for name, value in thing.get_config().items()}
    return {"class": type(thing).__name__, "config": config}


def make(described: Mapping[str, Any], known: Mapping[str, Any], custom: Mapping[str, Any]) -> Any:
    """The thing that `describe` described, of a class of the user's or one of `known`."""

    def called(kind: str, name: str) -> Any:
        if name not in custom and name not in known:
            pair = f"{{{name!r}: {name}}}"
            raise ValueError(f"{kind} {name} is not known; pass custom_objects={pair}")
        return custom.get(name) or known[name]

    def argument(value: Any) -> Any:
        if isinstance(value, list):
            return [argument(each) for each in value]
        if isinstance(value, dict) and set(value) == {"class", "config"}:
            return make(value, known, custom)
        if isinstance(value, dict) and set(value) == {"function", "op"}:
            function = called("function", value["function"])
            if getattr(function, "op", None) != value["op"]:
                raise ValueError(
                    f"function {value['function']} of custom_objects is not the one that was "
                    "saved: its formula is another"
                )
            return function
        return value

    config = {name: argument(value) for name, value in described["config"].items()}
    return called("class", described["class"])(**config)


def write(
    path: str | os.PathLike[str], description: dict[str, Any], arrays: dict[str, Array]
) -> None:
    """Write `path`, by way of a temporary file beside it."""
    from safetensors.numpy import save

    content = save(arrays, metadata={_KEY: json.dumps(description)})
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
    )
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """The description and the arrays that `write` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or of another origin.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"load: no such file: {os.fspath(path)}")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError("it holds no model of fastnn's")
            arrays = {name: file.get_tensor(name) for name in list(file.keys())}
        description: dict[str, Any] = json.loads(metadata[_KEY])
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"load: {os.fspath(path)} cannot be loaded: {error}") from error
    return description, arrays
