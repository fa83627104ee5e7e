"""How kernels are compiled: one set of flags, and the target's vector width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite.binding import get_host_cpu_name
from numba import njit
from numba.core import config
from numba.core.codegen import get_host_cpu_features

from fastnn.kernels import compiled as compiled  # kernels call formulas
from fastnn.kernels.cpu.lowering import compiler_of

FASTMATH = {"contract"}
"""A product and a sum may become one FMA; nothing else may change.

No ``nnan`` and no ``ninf``: NaN and infinity stay visible. No ``reassoc``: an element's value may
not depend on whether it fell into a loop's vector body or its tail, for on that stands the promise
that results are the same bits for any number of threads.
"""

REDUCTION_FASTMATH = FASTMATH | {"reassoc", "nsz"}
"""For a sum over one row, which one thread computes whole: the order may be the vector's."""


def _vector_bytes() -> int:
    # What Numba compiles for: the host, unless its settings name another CPU.
    chosen = config.CPU_FEATURES
    features = (get_host_cpu_features() if chosen is None else chosen).split(",")
    if "+avx512f" in features:
        return 64
    return 32 if "+avx2" in features and "+fma" in features else 16


VECTOR_BYTES = _vector_bytes()
"""Width of the target's widest vector registers: 64 with AVX-512, 32 with AVX2, else 16."""

# ``error_model="numpy"``: Python's checks of every division would stop vectorisation (Adam: six
# times slower). ``_nrt=False``: kernels own no memory, so nothing is reference-counted.
# Python calls no kernel: the wrappers with which it could would take an eighth of the time.
_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": compiler_of(VECTOR_BYTES),
}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` as a kernel."""
    return njit(fastmath=FASTMATH, **_OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile `function` as a part of the kernels that call it, under their flags.

    Numba puts its body into theirs before LLVM sees either. That matters where a loop is given one
    array as both output and input: compiled on its own, it would be vectorised behind a test of
    whether the two overlap, which that call then always fails (measured: six times slower).
    """
    return njit(inline="always", **_OPTIONS)(function)


def reduction(function: Callable[..., Any]) -> Any:
    """Compile `function` as a reduction over one row, summed in the order of vectors."""
    return njit(fastmath=REDUCTION_FASTMATH, forceinline=True, **_OPTIONS)(function)


def exact(function: Callable[..., Any]) -> Any:
    """Compile `function` as a part of loops in which every product is rounded.

    In a sum of two products either may become the FMA's, and LLVM takes one in a loop's vector
    body and the other in its tail: a mean ρv + (1−ρ)g² came out in other bits there. Without a
    word on `fastmath` Numba would take the caller's.
    """
    return njit(forceinline=True, fastmath=False, **_OPTIONS)(function)


def native(arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function of a known signature: for an object file."""
    return njit(arguments, fastmath=FASTMATH, **_OPTIONS)


DOUBLE_PUMPED = VECTOR_BYTES == 64 and (config.CPU_NAME or get_host_cpu_name()) == "znver4"
"""Whether the target does a whole vector in two halves, so that half a vector is half the work."""
