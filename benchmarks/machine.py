"""The machine under the benchmarks: pinning, name, versions, and the two measured ceilings.

Nothing is imported at the top that would start threads: `pin` must come before NumPy.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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


def pin(threads: int) -> tuple[int, ...]:
    """Pin this process to `threads` cores of those it may use, and every library's pool to as many.

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
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(allowed):
        raise ValueError(f"pin: threads must be from 1 to {len(allowed)} here, got {threads}")
    cores = tuple(allowed[:threads])
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


def copy_bandwidth(footprint: int, seconds: float = 0.1) -> float:
    """Bytes a second, read and written, of a copy whose two buffers take `footprint` bytes.

    At an optimizer's own footprint, because small states stay in a cache that is several times
    faster than memory; at 64 KiB or more, so that the call itself does not count.
    """
    import numpy as np

    half = max(footprint, 1 << 16) // 2
    source = np.ones(half, np.uint8)
    target = np.zeros(half, np.uint8)
    repeats = max(1, (1 << 22) // half)

    def copy() -> None:
        for _ in range(repeats):
            np.copyto(target, source)

    return 2.0 * half * repeats / _fastest(copy, seconds)


def _fastest(action: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of the calls that fit into `seconds`, three at least."""
    best, calls, end = float("inf"), 0, time.perf_counter() + seconds
    while calls < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best
