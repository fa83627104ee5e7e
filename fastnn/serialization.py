"""Files of arrays with a description: safetensors, with JSON in the metadata.

Nothing in them is code, and nothing is unpickled. A file is written whole or not at all. The
description has a checksum of itself and one of every array: what a file gives is what was written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn import __version__
from fastnn.activations import Custom

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Shape = tuple[int, ...]

FORMAT = 2
"""Version of what `write` writes."""

PART_BYTES = 1 << 22
"""Bytes of an array that are read at once."""

_KEY = "fastnn"
"""Name of the description in a file's metadata."""

_DTYPES = {
    "BOOL": "bool",
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
"""Element types of arrays, by their names in a file."""


class Content(NamedTuple):
    """What a file holds: a description, of values as JSON takes them, and arrays by name."""

    description: dict[str, Any]
    arrays: dict[str, Array]


# Layers, losses, metrics, optimizers.


def describe(thing: Any) -> dict[str, Any]:
    """The class and the arguments of a layer, loss, metric or optimizer, as JSON takes them.

    A class that is not fastnn's is marked as custom. An argument that is such a thing itself, a
    schedule, is described likewise, and an activation of the user's by its name. An initializer
    that is a function is left out: a file has the weights themselves.
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
    described = {"class": type(thing).__name__, "config": config}
    custom = type(thing).__module__.partition(".")[0] != "fastnn"
    return {**described, "custom": True} if custom else described


def make(described: Mapping[str, Any], known: Mapping[str, Any], custom: Mapping[str, Any]) -> Any:
    """The thing that `describe` described: of a class of `custom` if it is so marked, or `known`.

    So a class of the user's never takes the place of one of fastnn's of the same name, nor this one
    the place of the user's. What fastnn has in a room that `known` does not list, `custom` may.
    """

    def called(kind: str, name: str, table: Mapping[str, Any]) -> Any:
        if name not in table:
            pair = f"{{{name!r}: {name}}}"
            raise ValueError(f"{kind} {name} is not known; pass custom_objects={pair}")
        return table[name]

    def argument(value: Any) -> Any:
        if isinstance(value, list):
            return [argument(each) for each in value]
        if isinstance(value, dict) and set(value) - {"custom"} == {"class", "config"}:
            return make(value, known, custom)
        if isinstance(value, dict) and set(value) == {"function", "op"}:
            function = called("function", value["function"], custom)
            if getattr(function, "op", None) != value["op"]:
                raise ValueError(
                    f"function {value['function']} of custom_objects is not the one that was "
                    "saved: its formula is another"
                )
            return function
        return value

    config = {name: argument(value) for name, value in described["config"].items()}
    table = custom if described.get("custom") else {**custom, **known}
    return called("class", described["class"], table)(**config)


# Values with arrays in them.

_ARRAY = "fastnn.array"
"""What stands for an array that was taken out: under this key alone, its name."""


def separated(value: Any, place: str) -> tuple[Any, dict[str, Array]]:
    """`value`, dicts and lists of anything, with its arrays taken out, and these by their names.

    A name is made of `place` and of where the array stood.
    """
    arrays: dict[str, Array] = {}

    def without(value: Any, place: str) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            arrays[place] = np.asarray(value, order="C")  # safetensors writes memory as it lies
            return {_ARRAY: place}
        if isinstance(value, dict):
            return {key: without(each, f"{place}.{key}") for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [without(each, f"{place}.{index}") for index, each in enumerate(value)]
        return value

    return without(value, place), arrays


def joined(value: Any, arrays: Mapping[str, Array]) -> Any:
    """The value that `separated` took apart."""
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: joined(each, arrays) for key, each in value.items()}
    return [joined(each, arrays) for each in value] if isinstance(value, list) else value


# Checksums: SHA-256, of which CPUs do 1 to 2 GB a second that have instructions for it.


def _checksum_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _begun_checksum(shape: Shape, dtype: str) -> hashlib._Hash:
    """The checksum of an array of which no element was taken in yet."""
    return hashlib.sha256(f"{dtype} {shape}".encode())


def _checksum(array: Array) -> str:
    checksum = _begun_checksum(array.shape, array.dtype.name)
    checksum.update(array.reshape(-1).data)
    return checksum.hexdigest()


# Files.


def write(
    path: str | os.PathLike[str], description: dict[str, Any], arrays: dict[str, Array]
) -> None:
    """Write `path`, by way of a temporary file beside it: a crash leaves the old file or the new.

    When this returns the new one is on the disk, not only on its way there. It takes over the
    permissions of the old one; a link stays one, what it points to is replaced.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    checksums = {name: _checksum(array) for name, array in arrays.items()}
    whole = {"format": FORMAT, "fastnn": __version__, **description, "arrays": checksums}
    whole["checksum"] = _checksum_of_text(json.dumps(whole))
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        mode = (target if target.exists() else temporary).stat().st_mode
        save_file(arrays, temporary, metadata={_KEY: json.dumps(whole)})
        os.chmod(temporary, stat.S_IMODE(mode))  # safetensors puts a private file in its place
        _sync(temporary, os.O_RDWR)
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, SafetensorError):  # what it makes of the system's errors
            raise OSError(f"{target} cannot be written: {error}") from error
        raise
    if hasattr(os, "O_DIRECTORY"):
        _sync(target.parent, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    """Have a file, or a change of names in a folder, on the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that know no such thing
            raise
    finally:
        os.close(descriptor)


class File:
    """A file of `write`'s, open. Its arrays are read when asked for, through a memory map.

    Attributes
    ----------
    description : dict
        As it was written, with the version of fastnn that did.
    names : frozenset of str
        Of its arrays.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.names = frozenset(file.keys())
        metadata = file.metadata() or {}
        if _KEY not in metadata:
            raise ValueError("it holds no model of fastnn's")
        self.description: dict[str, Any] = json.loads(metadata[_KEY])
        if not isinstance(self.description, dict):
            raise ValueError("its description is no table")
        found = self.description.get("format")
        if found != FORMAT:
            by = self.description.get("fastnn", "another version")
            raise ValueError(
                f"its format is {found}, this version reads {FORMAT}; fastnn {by} wrote it"
            )
        checksum = self.description.pop("checksum", None)
        if checksum != _checksum_of_text(json.dumps(self.description)):
            raise ValueError("its description is damaged: the checksum is another")
        self._checksums = self.description.pop("arrays")
        if set(self._checksums) != self.names:
            raise ValueError("its arrays are not those that it was written with")

    def _kind(self, name: str) -> tuple[Shape, str]:
        if name not in self.names:
            raise ValueError(f"{name} is not among its arrays, {', '.join(sorted(self.names))}")
        view = self._file.get_slice(name)
        dtype = view.get_dtype()
        return tuple(view.get_shape()), _DTYPES.get(dtype, dtype)

    def require(self, name: str, shape: Shape, dtype: str) -> None:
        """Refuse a file without an array called `name` of this shape and element type."""
        found = self._kind(name)
        if found[1] != dtype:
            raise ValueError(f"{name} must be {dtype}, got {found[1]}")
        if found[0] != shape:
            raise ValueError(f"{name} must have shape {shape}, got {found[0]}")

    def read(self, name: str, out: Array) -> None:
        """Fill `out` with the array called `name`, which must be like it, part by part."""
        self.require(name, out.shape, out.dtype.name)
        checksum = _begun_checksum(out.shape, out.dtype.name)
        view = self._file.get_slice(name)
        if out.ndim == 0:
            out[...] = self._file.get_tensor(name)
            checksum.update(out.reshape(-1).data)
        elif out.size:
            rows = max(1, PART_BYTES // out[0].nbytes)
            for begin in range(0, len(out), rows):
                part = view[begin : min(begin + rows, len(out))]
                checksum.update(part.reshape(-1).data)
                out[begin : begin + rows] = part
        if checksum.hexdigest() != self._checksums.get(name):
            raise ValueError(f"{name} is damaged: its checksum is another")

    def array(self, name: str) -> Array:
        """A copy of the array called `name`."""
        shape, dtype = self._kind(name)
        if dtype not in _DTYPES.values():
            raise ValueError(f"{name} is of an unknown type, {dtype}")
        out = np.empty(shape, dtype)
        self.read(name, out)
        return out

    def content(self) -> Content:
        """The description, and copies of all arrays."""
        return Content(self.description, {name: self.array(name) for name in sorted(self.names)})


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[File]:
    """A file that `write` wrote; whatever the block finds wrong with it is a ValueError.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or of another origin or format.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"load: no such file: {os.fspath(path)}")
    wrong = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
    too_much = (RecursionError, MemoryError)
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            yield File(file)
    except (SafetensorError, *wrong, *too_much) as error:
        raise ValueError(f"load: {os.fspath(path)} cannot be loaded: {error}") from error


def read(path: str | os.PathLike[str]) -> Content:
    """What `write` wrote, all of it in memory; see `opened` for what is raised."""
    with opened(path) as file:
        return file.content()
