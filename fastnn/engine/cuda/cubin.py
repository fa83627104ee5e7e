"""Compiling a kernel to a cubin, without a GPU: Numba to LTO-IR, then the linker of the CUDA
toolkit, the same that the run time uses.
"""

from __future__ import annotations

import contextlib
import re
import types as python_types
from collections.abc import Iterator
from typing import Any, NamedTuple

from numba import cuda, types

from fastnn.kernels.cuda import cooperative
from fastnn.kernels.cuda.adapter import entry

RESIDENT_THREADS = 512
"""Threads that a processor must have registers for: 128 each, as it has 65,536. Of a grid whose
blocks run at once each has a processor of its own."""


class Cubin(NamedTuple):
    """A linked kernel, and what it takes of a processor.

    Attributes
    ----------
    code : bytes
        The cubin.
    symbol : str
        The kernel's name in it.
    registers : int
        Of a thread.
    stack, spilled : int
        Bytes of local memory of a thread, and those of them that registers are spilled to.
    shared : int
        Bytes of shared memory of a block.
    """

    code: bytes
    symbol: str
    registers: int
    stack: int
    spilled: int
    shared: int


@contextlib.contextmanager
def _device_functions_compile(capability: tuple[int, int]) -> Iterator[None]:
    """Numba asks the current device for its capability where it compiles a device function.

    Other kernels of this process need the true one, once ours are compiled.
    """
    from numba.cuda import dispatcher

    device = python_types.SimpleNamespace(compute_capability=capability)
    true = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: device
    try:
        yield
    finally:
        dispatcher.get_current_device = true


def compile_kernel(
    name: str,
    element_types: tuple[str, ...],
    constants: tuple[int, ...] = (),
    threads: int = 256,
    capability: tuple[int, int] = (9, 0),
) -> Cubin:
    """The cubin of an op's entry for devices of a compute capability."""
    function, words = entry(name, element_types, constants)
    signature = types.void(*[types.int64] * words)
    # From Hopper on, "a" admits what only this very architecture has: wgmma.
    suffix = "a" if capability >= (9, 0) else ""
    target: Any = (*capability, suffix) if suffix else capability
    blocks = 1 if name == cooperative.NAME else max(1, RESIDENT_THREADS // threads)
    with _device_functions_compile(capability):
        code, _ = cuda.compile(
            function,
            signature,
            cc=target,
            output="ltoir",
            device=False,
            abi="numba",
            launch_bounds=(threads, blocks),
        )
    return link(code, name, "sm_{}{}{}".format(*capability, suffix))


def compile_for(numbers: str, name: str, *element_types: str) -> tuple[bytes, str]:
    """A cubin and its symbol, for what a key of `CudaDevice.key` says."""
    major, minor, threads, *constants = map(int, numbers.split("-"))
    cubin = compile_kernel(name, element_types, tuple(constants), threads, (major, minor))
    return cubin.code, cubin.symbol


def link(code: bytes, name: str, architecture: str) -> Cubin:
    """The cubin of a kernel's LTO-IR."""
    from cuda.bindings import nvjitlink

    options = [f"-arch={architecture}", "-lto", "-O3", "-Xptxas=-v"]
    handle = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, code, len(code), name)
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
    finally:
        nvjitlink.destroy(handle)
    return Cubin(bytes(cubin), *_usage(log.decode()))


def _usage(log: str) -> tuple[str, int, int, int, int]:
    """Symbol, registers, stack, spilled and shared bytes out of what ptxas says."""

    def number(pattern: str) -> int:
        found = re.search(pattern, log)
        return int(found.group(1)) if found else 0

    symbol = re.search(r"Compiling entry function '([^']+)'", log)
    if symbol is None:
        raise SystemError(f"the linker names no kernel: {log}")
    return (
        symbol.group(1),
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes smem"),
    )
