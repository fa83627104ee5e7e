"""A stand-in for `cuda.bindings.driver`: a GPU whose memory is this process's, and its errors.

It has the functions that fastnn calls, which take and return what NVIDIA's do, and breaks where a
wrong use of them would go unnoticed on a machine without a GPU:

- what is begun in a stream is done when somebody waits for it, and no sooner; but from ordinary
  memory of the host is copied at once, into the driver's own, and to it only then returned;
- a thread without a context, a handle or an address that is none, and work in a stream that is
  being captured, are errors;
- memory that was given back is overwritten;
- an error of a kernel ends the context: from then on every call returns it.

Kernels are run by Numba's simulator. `compiled` takes the compiler's place: it makes modules of
nothing but their names.
"""

from __future__ import annotations

import ast
import ctypes
import functools
import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from cuda.bindings import driver as nvidia

from fastnn.engine.cuda import simulated
from fastnn.engine.cuda.device import Launched
from fastnn.kernels.cuda.launch import Launch

Result = nvidia.CUresult
Work = Callable[[], None]

MOST_SHARED = 227 << 10
"""Bytes of shared memory that a block may have."""

NAME = "fake GPU"

PROCESSORS = 2


def compiled(keys: Iterable[tuple[str, ...]], report: Any = None) -> dict[tuple[str, ...], Any]:
    """What `compiler.compiled` returns: for each kernel its code, and its name there."""
    return {key: (repr(key).encode(), key[2]) for key in keys}


class Failure(Exception):
    """What a function returns in place of success."""

    def __init__(self, status: Result) -> None:
        super().__init__(status.name)
        self.status = status


def of_driver(function: Callable[..., Any]) -> Any:
    """Let a function return as the driver's do: its status, and then what it has to say."""
    silent = function.__annotations__["return"] == "None"

    @functools.wraps(function)
    def called(self: FakeDriver, *arguments: Any) -> tuple[Any, ...]:
        with self.lock:
            try:
                self.begin(function.__name__)
                value = function(self, *arguments)
            except Failure as failure:
                return (failure.status,) if silent else (failure.status, None)
        if silent:
            return (Result.CUDA_SUCCESS,)
        return (Result.CUDA_SUCCESS, *(value if isinstance(value, tuple) else (value,)))

    return called


class FakeDriver:
    """One GPU with so many bytes of memory, or none.

    Attributes
    ----------
    failing : dict of str to CUresult
        What the next call of a function returns.
    lost : CUresult or None
        The error that has ended the context.
    calls : list of str
        Functions that were called.
    """

    CUresult = Result
    CUdevice_attribute = nvidia.CUdevice_attribute
    CUfunction_attribute = nvidia.CUfunction_attribute
    CUpointer_attribute = nvidia.CUpointer_attribute
    CUstream_flags = nvidia.CUstream_flags
    CUstreamCaptureMode = nvidia.CUstreamCaptureMode
    CUlaunchAttribute = nvidia.CUlaunchAttribute
    CUlaunchAttributeID = nvidia.CUlaunchAttributeID
    CUlaunchConfig = nvidia.CUlaunchConfig

    def __init__(
        self,
        memory: int = 1 << 24,
        gpus: int = 1,
        version: int = 13_000,
        capability: tuple[int, int] = (9, 0),
    ) -> None:
        self.total, self.gpus, self.version, self.capability = memory, gpus, version, capability
        self.lock = threading.RLock()
        self.failing: dict[str, Result] = {}
        self.lost: Result | None = None
        self.calls: list[str] = []
        self.ready = False
        self.blocks: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.modules: dict[int, tuple[str, ...]] = {}
        self.most_shared: dict[int, int] = {}
        self.streams: dict[int, list[Work]] = {}
        self.capturing: dict[int, list[Work] | None] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self._context = threading.local()
        self._numbers = itertools.count(0x1000, 16)

    def begin(self, name: str) -> None:
        """Fail as a function does before it looks at its arguments."""
        self.calls.append(name)
        if name in self.failing:
            raise Failure(self.failing.pop(name))
        if name in ("cuGetErrorString", "cuDriverGetVersion", "cuInit"):
            return
        if not self.ready:
            raise Failure(Result.CUDA_ERROR_NOT_INITIALIZED)
        if self.lost is not None and not name.startswith("cuCtxP"):
            raise Failure(self.lost)
        if not name.startswith(("cuDevice", "cuCtx")) and not self.contexts:
            raise Failure(Result.CUDA_ERROR_INVALID_CONTEXT)

    # The device and its context.

    @of_driver
    def cuInit(self, flags: int) -> None:
        if self.gpus == 0:
            raise Failure(Result.CUDA_ERROR_NO_DEVICE)
        self.ready = True

    @of_driver
    def cuDriverGetVersion(self) -> int:
        return self.version

    @of_driver
    def cuGetErrorString(self, status: Result) -> bytes:
        return status.name.lower().encode()

    @of_driver
    def cuDeviceGet(self, number: int) -> Any:
        if number >= self.gpus:
            raise Failure(Result.CUDA_ERROR_INVALID_DEVICE)
        return nvidia.CUdevice(number)

    @of_driver
    def cuDeviceGetName(self, size: int, device: Any) -> bytes:
        return NAME.encode().ljust(size, b"\0")

    @of_driver
    def cuDeviceGetAttribute(self, attribute: Any, device: Any) -> int:
        name = attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_")
        major, minor = self.capability
        known = {
            "COMPUTE_CAPABILITY_MAJOR": major, "COMPUTE_CAPABILITY_MINOR": minor,
            "MULTIPROCESSOR_COUNT": PROCESSORS, "COOPERATIVE_LAUNCH": 1,
            "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": MOST_SHARED,
        }  # fmt: skip
        return known[name]

    @of_driver
    def cuDevicePrimaryCtxRetain(self, device: Any) -> Any:
        return nvidia.CUcontext(1)

    @property
    def contexts(self) -> list[int]:
        """The calling thread's stack of contexts."""
        stack: list[int] = self._context.__dict__.setdefault("stack", [])
        return stack

    @of_driver
    def cuCtxPushCurrent(self, context: Any) -> None:
        self.contexts.append(int(context))

    @of_driver
    def cuCtxPopCurrent(self) -> Any:
        if not self.contexts:
            raise Failure(Result.CUDA_ERROR_INVALID_CONTEXT)
        return nvidia.CUcontext(self.contexts.pop())

    # Memory.

    @of_driver
    def cuMemAlloc(self, size: int) -> Any:
        if size <= 0:
            raise Failure(Result.CUDA_ERROR_INVALID_VALUE)
        if size > self.free:
            raise Failure(Result.CUDA_ERROR_OUT_OF_MEMORY)
        address, self.blocks[address] = self._block(size)
        return nvidia.CUdeviceptr(address)

    def _block(self, size: int) -> tuple[int, Any]:
        whole = np.full(size + 256, 0xFF, np.uint8)
        begin = -whole.ctypes.data % 256
        block = whole[begin : begin + size]
        return block.ctypes.data, block

    @property
    def free(self) -> int:
        """Bytes that are free."""
        return self.total - sum(block.size for block in self.blocks.values())

    @of_driver
    def cuMemFree(self, address: Any) -> None:
        self._finish()
        self._take(self.blocks, address)[:] = 0xFF

    @of_driver
    def cuMemGetInfo(self) -> tuple[int, int]:
        return self.free, self.total

    @of_driver
    def cuPointerGetAttribute(self, attribute: Any, address: int) -> int:
        assert attribute == self.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        self._require(self.blocks, address, 1)
        return 0

    @of_driver
    def cuMemHostAlloc(self, size: int, flags: int) -> int:
        address, self.pinned[address] = self._block(size)
        return address

    @of_driver
    def cuMemFreeHost(self, address: int) -> None:
        self._finish()
        self._take(self.pinned, address)[:] = 0xFF

    @of_driver
    def cuMemcpyHtoDAsync(self, target: Any, source: int, size: int, stream: Any) -> None:
        self._require(self.blocks, int(target), size)
        if not self._inside(self.pinned, source, size):
            held = ctypes.string_at(source, size)
            self._enqueue(stream, lambda: ctypes.memmove(int(target), held, size))
        else:
            self._enqueue(stream, lambda: ctypes.memmove(int(target), source, size))

    @of_driver
    def cuMemcpyDtoHAsync(self, target: int, source: Any, size: int, stream: Any) -> None:
        self._require(self.blocks, int(source), size)
        self._enqueue(stream, lambda: ctypes.memmove(target, int(source), size))
        if not self._inside(self.pinned, target, size):
            self._done(self._stream(stream))

    def _inside(self, blocks: dict[int, Any], address: int, size: int) -> bool:
        return any(b <= address and address + size <= b + a.size for b, a in blocks.items())

    def _require(self, blocks: dict[int, Any], address: int, size: int) -> None:
        if size <= 0 or not self._inside(blocks, address, size):
            raise Failure(Result.CUDA_ERROR_INVALID_VALUE)

    def _take(self, held: dict[int, Any], handle: Any) -> Any:
        if int(handle) not in held:
            raise Failure(Result.CUDA_ERROR_INVALID_VALUE)
        return held.pop(int(handle))

    # Streams.

    @of_driver
    def cuStreamCreate(self, flags: int) -> Any:
        assert flags == int(self.CUstream_flags.CU_STREAM_NON_BLOCKING)
        return nvidia.CUstream(self._new(self.streams, []))

    def _new(self, table: dict[int, Any], value: Any) -> int:
        number = next(self._numbers)
        table[number] = value
        return number

    @of_driver
    def cuStreamQuery(self, stream: Any) -> None:
        if self._stream(stream):
            raise Failure(Result.CUDA_ERROR_NOT_READY)

    @of_driver
    def cuStreamSynchronize(self, stream: Any) -> None:
        self._done(self._stream(stream))

    def _stream(self, stream: Any) -> list[Work]:
        """What waits in a stream; one that is being captured can be asked for nothing else."""
        if int(stream) in self.capturing:
            self.capturing[int(stream)] = None
            raise Failure(Result.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        if int(stream) not in self.streams:
            raise Failure(Result.CUDA_ERROR_INVALID_HANDLE)
        return self.streams[int(stream)]

    def _enqueue(self, stream: Any, work: Work) -> None:
        self._stream(stream).append(work)

    def begin_in(self, stream: int, work: Work) -> None:
        """Begin what another library begins in a stream, or put it into what is being captured."""
        captured = self.capturing.get(stream)
        if captured is None:
            self._enqueue(stream, work)
        else:
            captured.append(work)

    def _finish(self) -> None:
        for waiting in self.streams.values():
            self._done(waiting)

    def _done(self, waiting: list[Work]) -> None:
        try:
            while waiting:
                waiting.pop(0)()
        except Failure as failure:
            self.lost = failure.status
            raise

    @of_driver
    def cuStreamBeginCapture(self, stream: Any, mode: Any) -> None:
        assert not self._stream(stream), "what is begun before is no part of a graph"
        self.capturing[int(stream)] = []

    @of_driver
    def cuStreamEndCapture(self, stream: Any) -> Any:
        captured = self._take(self.capturing, stream)
        if captured is None:
            raise Failure(Result.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
        return nvidia.CUgraph(self._new(self.graphs, captured))

    # Kernels and graphs.

    @of_driver
    def cuModuleLoadData(self, code: bytes) -> Any:
        return nvidia.CUmodule(self._new(self.modules, ast.literal_eval(code.decode())))

    @of_driver
    def cuModuleGetFunction(self, module: Any, name: bytes) -> Any:
        if self.modules[int(module)][2].encode() != name:
            raise Failure(Result.CUDA_ERROR_NOT_FOUND)
        return nvidia.CUfunction(int(module))

    @of_driver
    def cuFuncSetAttribute(self, function: Any, attribute: Any, value: int) -> None:
        names = self.CUfunction_attribute
        assert attribute == names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        if value > MOST_SHARED:
            raise Failure(Result.CUDA_ERROR_INVALID_VALUE)
        self.most_shared[int(function)] = value

    @of_driver
    def cuLaunchKernel(self, function: Any, *how: Any) -> None:
        x, y, z, threads, threads_y, threads_z, shared, stream, (words, types), extra = how
        assert (z, threads_y, threads_z, extra) == (1, 1, 1, 0)
        assert types == (ctypes.c_int64,) * len(words)
        self._launch(function, Launch((x, y), threads, shared=shared), list(words), stream)

    def _launch(self, function: Any, how: Launch, words: list[int], stream: Any) -> None:
        (x, y), threads = how.blocks, how.threads
        if not (0 < x < 1 << 31 and 0 < y < 1 << 16 and 0 < threads <= 1024):
            raise Failure(Result.CUDA_ERROR_INVALID_VALUE)
        _, numbers, *key = self.modules[int(function)]
        _, _, compiled_for, *constants = map(int, numbers.split("-"))
        if threads > compiled_for or how.shared > self.most_shared.get(int(function), 48 << 10):
            raise Failure(Result.CUDA_ERROR_INVALID_VALUE)
        one = Launched(tuple(key), how._replace(constants=tuple(constants)), words)
        self.begin_in(int(stream), lambda: self._run(one))

    @of_driver
    def cuOccupancyMaxActiveBlocksPerMultiprocessor(
        self, function: Any, threads: int, shared: int
    ) -> int:
        return 1

    @of_driver
    def cuLaunchKernelEx(self, config: Any, function: Any, parameters: Any, extra: int) -> None:
        words, types = parameters
        assert types == (ctypes.c_int64,) * len(words)
        others = config.gridDimZ, config.blockDimY, config.blockDimZ, config.sharedMemBytes, extra
        assert others == (1, 1, 1, 0, 0)
        (attribute,) = config.attrs
        assert attribute.id == self.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
        if config.gridDimX * config.gridDimY > PROCESSORS:
            raise Failure(Result.CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE)
        at_once = bool(attribute.value.cooperative)
        how = Launch((config.gridDimX, config.gridDimY), config.blockDimX, at_once=at_once)
        self._launch(function, how, list(words), config.hStream)

    def _run(self, one: Launched) -> None:
        if "kernel" in self.failing:
            raise Failure(self.failing.pop("kernel"))
        simulated.run_kernel(one)

    @of_driver
    def cuGraphInstantiate(self, graph: Any, flags: int) -> Any:
        return nvidia.CUgraphExec(self._new(self.executables, self.graphs[int(graph)]))

    @of_driver
    def cuGraphDestroy(self, graph: Any) -> None:
        self._take(self.graphs, graph)

    @of_driver
    def cuGraphExecDestroy(self, executable: Any) -> None:
        self._take(self.executables, executable)

    @of_driver
    def cuGraphLaunch(self, executable: Any, stream: Any) -> None:
        self._stream(stream).extend(self.executables[int(executable)])
