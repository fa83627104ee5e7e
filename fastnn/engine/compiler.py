"""The table of compiled ops: a name and element types to an address, compiled when first asked for.

The order is: this process's table, the cache on disk, Numba. Only the last imports Numba.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from fastnn.engine import cache

Key = tuple[str, ...]
"""An op's name and its element types: ``("dense_forward", "float32")``."""

Report = Callable[[str, int, int], None]
"""Told ``(name, done, of)`` before each compilation, and once with no name when all are done."""

_addresses: dict[Key, int] = {}
_lock = threading.RLock()


def address(key: Key) -> int:
    """The address of a compiled op, compiling it if need be."""
    known = _addresses.get(key)
    if known is not None:
        return known
    with _lock:
        if key not in _addresses:
            _load(key, cache.read(".".join(key)) or _compile(key))
        return _addresses[key]


def prepare(keys: Iterable[Key], report: Report | None = None) -> None:
    """Have all of `keys` ready; `report` is told what is compiled."""
    missing = [key for key in dict.fromkeys(keys) if key not in _addresses]
    if not missing:
        return
    with _lock:
        uncompiled = []
        for key in missing:
            if key in _addresses:
                continue  # another thread was faster
            kept = cache.read(".".join(key))
            if kept is None:
                uncompiled.append(key)
            else:
                _load(key, kept)
        for done, key in enumerate(uncompiled):
            if report is not None:
                report(key[0], done, len(uncompiled))
            address(key)
        if uncompiled and report is not None:
            report("", len(uncompiled), len(uncompiled))


def _load(key: Key, compiled: tuple[bytes, str]) -> None:
    from fastnn.engine import native

    _addresses[key] = native.load(*compiled)


def _compile(key: Key) -> tuple[bytes, str]:
    from fastnn.kernels.cpu.adapter import compile_op

    object_file, symbol = compile_op(key[0], key[1:])
    cache.write(".".join(key), object_file, symbol)
    return object_file, symbol
