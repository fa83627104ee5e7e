"""Compilation in several processes at once: Numba holds the interpreter's lock while it compiles.

The processes are plain interpreters told on their command line what to import, so nothing of the
user's main module runs again: it works alike in a script, ``python -c``, a notebook and a test.
Where none can be started, or one fails, the op is left to the caller, who compiles it himself.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import IO, Any, NamedTuple

from fastnn.engine import cache
from fastnn.kernels import own
from fastnn.kernels.signatures import FINISH_SUFFIX, SUPPLY

MOST = 8
"""Processes at most: each takes 200 MB, and a second of its own before its first op."""

PATIENCE = 20.0
"""Seconds that a process has for its first word, which it says before it imports Numba."""

_CODE = "import sys; sys.path[:] = {path!r}; from fastnn.engine.worker import main; main()"


class Begun(NamedTuple):
    """An op's compilation has begun."""

    key: tuple[str, ...]


class Compiled(NamedTuple):
    """An op is compiled."""

    key: tuple[str, ...]
    object_file: bytes
    symbol: str


class _Ended(NamedTuple):
    """A process takes no more ops; `problem` says what went wrong, if anything did."""

    process: _Process
    problem: str


def _interpreter() -> str | None:
    """What to start, if this process is an interpreter that can be started again.

    In a frozen or an embedding program `sys.executable` is that program.
    """
    name = os.path.basename(sys.executable or "").lower()
    return sys.executable if name.startswith("python") and not hasattr(sys, "frozen") else None


class _Process:
    """One process, and the thread of this one that talks with it."""

    def __init__(
        self,
        command: list[str],
        keys: collections.deque[list[tuple[str, ...]]],
        events: queue.Queue[Any],
    ) -> None:
        self._keys, self._events = keys, events
        self._spoke = False
        self._errors = _errors_file()
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # A terminal's Ctrl-C and Ctrl-Z are for the process that asks.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError:
            if self._errors is not None:
                self._errors.close()
            raise
        self._thread = threading.Thread(target=self._talk, name="fastnn-compile", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads
            self.close()
            raise

    def _talk(self) -> None:
        try:
            problem = self._converse()
        except (OSError, ValueError, KeyError) as error:  # a broken pipe, a line that is no answer
            problem = repr(error)
        self._events.put(_Ended(self, problem))

    def _converse(self) -> str:
        """Hand out keys and take answers until none are left; what went wrong."""
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        # Before it, a user's own start-up file may have printed something.
        while not (line := stdout.readline()).startswith(b'{"fingerprint"'):
            if not line:
                return f"it ended with status {self._child.wait()} before it began"
        self._spoke = True
        if json.loads(line)["fingerprint"] != cache.fingerprint():
            return "it sees other kernels, or another compiler, than this process"
        for key in self._taken():
            self._events.put(Begun(key))
            stdin.write(json.dumps([key, own.behind(key[0])]).encode() + b"\n")
            stdin.flush()
            line = stdout.readline()
            if not line:
                return f"it ended with status {self._child.wait()} at {'.'.join(key)}"
            answer = json.loads(line)
            if "error" in answer:
                return f"it failed at {'.'.join(key)}\n{answer['error']}"
            object_file = base64.b64decode(answer["object_file"])
            self._events.put(Compiled(key, object_file, answer["symbol"]))
        return ""

    def _taken(self) -> Iterator[tuple[str, ...]]:
        """Keys one after the other, until all are taken, by this process or another."""
        with contextlib.suppress(IndexError):
            while True:
                yield from self._keys.popleft()

    def errors(self) -> str:
        """The end of what the process wrote to stderr."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read()[-4000:].decode(errors="replace").strip()

    def kill_if_silent(self) -> None:
        """End the process if it has not said its first word."""
        if not self._spoke:
            self._kill()

    def _kill(self) -> None:
        """End the process and its children: what is called python may be a script around it."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
        self._child.kill()

    def close(self) -> None:
        """End the process, at once, and give back all that belongs to it."""
        if self._child.poll() is None:
            self._kill()
        self._child.wait()
        if self._thread.is_alive():
            self._thread.join()
        for stream in (self._child.stdin, self._child.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):  # a key that could not be sent
                    stream.close()


def _errors_file() -> IO[bytes] | None:
    """A file for stderr; None where there is no place for one, and stderr is this process's own."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return None


def _by_kernel(keys: Sequence[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """`keys` in their order, but both forms of an op together: one process compiles its kernel."""
    kernels: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for name, *types in keys:
        kernel = ("gather" if name == SUPPLY else name.removesuffix(FINISH_SUFFIX), *types)
        kernels.setdefault(kernel, []).append((name, *types))
    return list(kernels.values())


def _start(
    keys: Sequence[tuple[str, ...]], count: int, events: queue.Queue[Any], started: list[_Process]
) -> None:
    """Start up to `count` processes that share `keys`."""
    interpreter = _interpreter()
    if interpreter is None:
        return
    path = [entry for entry in sys.path if isinstance(entry, str)]
    command = [interpreter, "-c", _CODE.format(path=path)]
    shared = collections.deque(_by_kernel(keys))
    for _ in range(min(count, MOST)):
        try:
            started.append(_Process(command, shared, events))
        except (OSError, RuntimeError):
            return  # not allowed, or no memory: those there are will do


def compile_in_processes(
    keys: Sequence[tuple[str, ...]], count: int
) -> Generator[Begun | Compiled, None, None]:
    """Compile `keys` in up to `count` processes, in this order; yield what happens as it does.

    Keys that no `Compiled` came for are left to the caller. Ends all processes when closed, or
    when Ctrl-C arrives.
    """
    events: queue.Queue[Any] = queue.Queue()
    processes: list[_Process] = []
    try:
        _start(keys, count, events, processes)
        began = time.monotonic()
        running = len(processes)
        while running:
            try:
                event = events.get(timeout=1.0)
            except queue.Empty:
                if time.monotonic() - began > PATIENCE:
                    for process in processes:
                        process.kill_if_silent()
                continue
            if not isinstance(event, _Ended):
                yield event
                continue
            running -= 1
            if event.problem:
                warnings.warn(
                    f"fastnn: a process that compiles kernels gave up: {event.problem}\n"
                    f"{event.process.errors()}".rstrip(),
                    RuntimeWarning,
                    stacklevel=2,
                )
    finally:
        for process in processes:
            process.close()
