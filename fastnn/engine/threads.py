"""How many threads a program may use."""

from __future__ import annotations

import os

_chosen: int | None = None


def set_num_threads(threads: int | None) -> None:
    """Use at most `threads` threads from now on; None: as many as there are cores.

    Results are the same bits for any number.

    Raises
    ------
    ValueError
        If `threads` is less than 1.
    TypeError
        If `threads` is not an integer.
    """
    global _chosen
    if threads is None:
        _chosen = None
        return
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"set_num_threads: threads must be an integer or None, got {threads!r}")
    if threads < 1:
        raise ValueError(f"set_num_threads: threads must be at least 1, got {threads}")
    _chosen = int(threads)


def get_num_threads() -> int:
    """The number of threads that a large program uses.

    What `set_num_threads` chose, else the environment's ``FASTNN_NUM_THREADS``, else the number of
    cores that this process may run on.
    """
    if _chosen is not None:
        return _chosen
    wanted = os.environ.get("FASTNN_NUM_THREADS")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"FASTNN_NUM_THREADS must be a positive integer, got {wanted!r}")
        return int(wanted)
    return cores()


def cores() -> int:
    """The number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
