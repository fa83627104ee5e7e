"""The machine under the benchmarks: pinning, name, versions, and the two measured ceilings.

Nothing is imported at the top that would start threads: `pin` must come before NumPy.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
import threading
import time
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

# What each library reads when it is first imported, its thread pool's size among it.
_THREAD_VARIABLES = (
    "FASTNN_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# Whoever imported one of these has started its threads already.
_THREADED = ("numpy", "torch", "jax", "sklearn", "fastnn")


def available_cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def pin(threads: int) -> tuple[int, ...]:
    """Pin this process to `threads` cores of those it may use, and every library's pool to as many.

    Where the system pins no processes, the pools alone are set.

    Returns
    -------
    cores : tuple of int
        The cores' numbers.

    Raises
    ------
    ValueError
        If the process may not use that many cores.
    RuntimeError
        If a library with threads is imported already.
    """
    started = [name for name in _THREADED if name in sys.modules]
    if started:
        raise RuntimeError(f"pin: must be called before the import of {', '.join(started)}")
    allowed = available_cores()
    if not 1 <= threads <= len(allowed):
        raise ValueError(f"pin: threads must be from 1 to {len(allowed)} here, got {threads}")
    cores = allowed[:threads]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    return cores


def cpu_name() -> str:
    """The processor's model name as the operating system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of those `packages` that are imported or installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        if version := getattr(sys.modules.get(package), "__version__", None):
            found[package] = version
            continue
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def gemm_peak(dtype: str = "float32", seconds: float = 0.5) -> float:
    """FLOP/s of the best of many large matrix products by NumPy's BLAS.

    Of two sizes: the larger has the higher rate on a quiet machine; the smaller is done within a
    slice of the scheduler on a busy one.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    best = 0.0
    for n in (1536, 512):
        a = rng.standard_normal((n, n)).astype(dtype)
        b = rng.standard_normal((n, n)).astype(dtype)
        out = np.empty_like(a)
        product = functools.partial(np.matmul, a, b, out=out)
        best = max(best, 2.0 * n**3 / _fastest(product, seconds / 2))
    return best


def copy_bandwidth(footprint: int, threads: int = 1, seconds: float = 0.1) -> float:
    """Bytes a second, read and written, of a copy whose buffers take `footprint` bytes in all.

    At an optimizer's own footprint, because small states stay in a cache that is several times
    faster than memory; at 64 KiB a thread or more, so that the call itself does not count. Each
    thread copies a part of its own.
    """
    import numpy as np

    half = max(footprint // threads, 1 << 16) // 2
    pairs = [(np.zeros(half, np.uint8), np.ones(half, np.uint8)) for _ in range(threads)]
    # Threads are started for enough work that their start does not count.
    repeats = max(1, (1 << (22 if threads == 1 else 25)) // half)

    def copy(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
        for _ in range(repeats):
            np.copyto(*pair)

    def copies() -> None:
        others = [threading.Thread(target=copy, args=(pair,)) for pair in pairs[1:]]
        for thread in others:
            thread.start()
        copy(pairs[0])
        for thread in others:
            thread.join()

    return 2.0 * half * repeats * threads / _fastest(copies, seconds)


def free_memory() -> int:
    """Bytes that may be had without swapping; where the system does not say, 4 GiB."""
    try:
        with open("/proc/meminfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("MemAvailable"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass  # not Linux
    return 4 << 30


def peak_memory() -> int:
    """The most bytes that this process has had resident so far."""
    try:
        with open("/proc/self/status", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("VmHWM"):  # unlike getrusage's, nothing of the parent's
                    return int(line.split()[1]) << 10
    except OSError:
        pass  # not Linux
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _fastest(action: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of the calls that fit into `seconds`, three at least."""
    best, calls, end = float("inf"), 0, time.perf_counter() + seconds
    while calls < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best
