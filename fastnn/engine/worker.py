"""A process that compiles for another: keys come in on stdin, object files go out on stdout.

Both are lines of JSON. With a key of the user's own comes what it is made of. The first line out
says under which fingerprint this process compiles.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import signal
import sys
import traceback
from typing import Any

from fastnn.engine import cache, compiler
from fastnn.kernels import own


def compile_key(key: tuple[str, ...]) -> tuple[bytes, str]:
    """The object file of a compiled function, and the symbol to look up in it."""
    name, *rest = key
    if name == compiler.CUDA:
        from fastnn.engine.cuda.cubin import compile_for

        return compile_for(*rest)
    from fastnn.kernels.cpu.adapter import compile_op

    return compile_op(name, tuple(rest))


def main() -> None:
    """Answer keys until stdin ends, as it does, too, when the process that asks is no more."""
    # Ctrl-C in a terminal is sent to all its processes: the one that asks decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever is printed while compiling goes to stderr, not between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    answer(fingerprint=cache.fingerprint())
    import numba as numba

    # Numba's modules are a large heap that lives on: looked through for garbage over and over, it
    # costs a sixth of the time.
    gc.freeze()
    for line in sys.stdin:
        key, behind = json.loads(line)
        try:
            if behind is not None:
                own.take_in(own.Own(*behind))
            object_file, symbol = compile_key(tuple(key))
        except Exception:
            answer(error=traceback.format_exc())
        else:
            answer(object_file=base64.b64encode(object_file).decode(), symbol=symbol)
