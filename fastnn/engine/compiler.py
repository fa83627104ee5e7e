"""The table of compiled ops: a name and element types to an address, compiled when first asked for.

The order is: this process's table, the package's own object code for this CPU (`packs`), the cache
on disk, Numba. Only the last imports Numba, and where several ops are missing on several cores, not
into this process.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Generator, Iterable, Sequence

from fastnn.engine import cache, packs
from fastnn.engine.threads import cores

Key = tuple[str, ...]
"""An op's name and its element types: ``("dense_forward", "float32")``."""

Compiled = tuple[bytes, str]
"""An object file, and the symbol to look up in it."""

Report = Callable[[Sequence[str], int, int], None]
"""``report(running, done, of)``: the ops that are being compiled, and how many are."""

CUDA = "cuda"
"""First in the key of a kernel for a GPU: then come what it is compiled for, name and types."""

_addresses: dict[Key, int] = {}
_lock = threading.RLock()


def address(key: Key) -> int:
    """The address of a compiled op, compiling it if need be."""
    known = _addresses.get(key)
    if known is not None:
        return known
    with _lock:
        if key not in _addresses:
            _load(key, _kept(key) or _keep(key, _compile(key)))
        return _addresses[key]


def prepare(keys: Iterable[Key], report: Report | None = None) -> None:
    """Have all of `keys` ready, saying to `report` what is compiled."""
    missing = [key for key in dict.fromkeys(keys) if key not in _addresses]
    if not missing:
        return
    with _lock:
        uncompiled = []
        for key in missing:
            if key in _addresses:
                continue  # another thread was faster
            kept = _kept(key)
            if kept is None:
                uncompiled.append(key)
            else:
                _load(key, kept)
        with contextlib.closing(compile_all(uncompiled, report)) as done:
            for key, compiled in done:
                _load(key, _keep(key, compiled))


def compiled(keys: Iterable[Key], report: Report | None = None) -> dict[Key, Compiled]:
    """The object files of `keys`, compiled where none is kept, without loading any."""
    found = {key: _kept(key) for key in dict.fromkeys(keys)}
    known = {key: kept for key, kept in found.items() if kept is not None}
    missing = [key for key in found if key not in known]
    with contextlib.closing(compile_all(missing, report)) as done:
        return known | {key: _keep(key, compiled) for key, compiled in done}


def fill_cache(keys: Iterable[Key], report: Report | None = None) -> int:
    """Compile those of `keys` that are kept nowhere, without loading any; how many.

    Raises
    ------
    OSError
        If the disk does not take them.
    """
    missing = [key for key in dict.fromkeys(keys) if _kept(key) is None]
    with contextlib.closing(compile_all(missing, report)) as done:
        for key, compiled in done:
            _keep(key, compiled)
            if _kept(key) is None:
                raise OSError(f"{'.'.join(key)} cannot be kept in {cache.folder()}")
    return len(missing)


def compile_all(
    keys: Sequence[Key], report: Report | None
) -> Generator[tuple[Key, Compiled], None, None]:
    """Compile `keys`, those first that take longest; yield each as it is done."""
    if not keys:
        return
    report = report or _no_report
    lines = _lines()
    waiting = dict.fromkeys(sorted(keys, key=lambda key: -lines.get(key[0], 0)))
    running: dict[Key, None] = {}

    def say() -> None:
        report([_op_of(key) for key in running], len(keys) - len(waiting), len(keys))

    say()
    count = min(cores(), len(keys))
    if count > 1:
        from fastnn.engine import processes

        with contextlib.closing(processes.compile_in_processes(list(waiting), count)) as events:
            for event in events:
                if isinstance(event, processes.Begun):
                    running[event.key] = None
                else:
                    del running[event.key], waiting[event.key]
                    yield event.key, (event.object_file, event.symbol)
                say()
    running.clear()  # what a process that failed had begun
    for key in list(waiting):
        running[key] = None
        say()
        compiled = _compile(key)
        del running[key], waiting[key]
        yield key, compiled
        say()


def _op_of(key: Key) -> str:
    return key[2] if key[0] == CUDA else key[0]


def _no_report(running: Sequence[str], done: int, of: int) -> None:
    pass


def _compile(key: Key) -> Compiled:
    from fastnn.engine.worker import compile_key

    return compile_key(key)


def _name(key: Key) -> str:
    """What a key is kept under."""
    name = ".".join(key)
    return f"{name}.{cache.cuda_fingerprint()[:16]}" if key[0] == CUDA else name


def _kept(key: Key) -> Compiled | None:
    name = _name(key)
    return packs.read(name) or cache.read(name)


def _keep(key: Key, compiled: Compiled) -> Compiled:
    cache.write(_name(key), *compiled)
    return compiled


def _load(key: Key, compiled: Compiled) -> None:
    from fastnn.engine import native

    _addresses[key] = native.load(*compiled)


def _lines() -> dict[str, int]:
    """Lines of each function at the top of a kernels' file: the longer, the longer to compile."""
    lines: dict[str, int] = {}
    for path in cache.kernel_sources():
        name = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line[:1].strip():
                begins = re.match(r"def (\w+)", line)
                name = begins.group(1) if begins else ""
            lines[name] = lines.get(name, 0) + 1
    return lines
