"""An NVIDIA GPU through its driver: memory, copies, compiled kernels, captured graphs.

Only what is done once uses Numba, and only where a kernel is in no cache: cubins are loaded by the
driver alone. A process has one context for each GPU, the driver's primary one, which PyTorch, CuPy
and Numba use as well, so that their arrays can be read here and ours there.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from cuda.bindings import driver

from fastnn.engine import compiler
from fastnn.engine.compiler import Report
from fastnn.engine.cuda import blas, dlpack
from fastnn.engine.cuda.blas import Library
from fastnn.engine.cuda.device import CudaError, Key, Launched, Work, lost, not_enough
from fastnn.kernels.cuda import cooperative
from fastnn.kernels.cuda.launch import Launch

if TYPE_CHECKING:
    import numpy.typing as npt

LEAST_CAPABILITY = (8, 0)
"""The compute capability that kernels' copies past the registers and tensor cores need."""

OLDEST_DRIVER = 13_000
"""The oldest version of CUDA whose drivers load what CUDA 13's linker makes."""


_FREE_SHARED = 48 << 10
"""Bytes of shared memory that a block may have without the function being told so."""

_ALIVE = (
    driver.CUresult.CUDA_SUCCESS,
    driver.CUresult.CUDA_ERROR_NOT_READY,
    driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
)
"""What a stream may say of itself in a context that lives; the last while another library captures
a graph in the driver's global mode."""


def ask(function: Any, *arguments: Any) -> Any:
    """Call a function of the driver; what it returns beside its status.

    Raises
    ------
    MemoryError
        If there is not enough device memory.
    CudaError
        If it fails in another way.
    """
    status, *values = function(*arguments)
    if status != driver.CUresult.CUDA_SUCCESS:
        if status == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError(f"{function.__name__}: not enough device memory")
        raise CudaError(f"{function.__name__}: {_explained(status)}")
    return values[0] if len(values) == 1 else tuple(values)


def _explained(status: Any) -> str:
    found, text = driver.cuGetErrorString(status)
    known = found == driver.CUresult.CUDA_SUCCESS and text is not None
    return f"{status.name} ({text.decode()})" if known else str(status)


class DriverMemory:
    """A block of device memory; see `Memory`."""

    def __init__(self, device: CudaDevice, size: int) -> None:
        self.size = size
        self.address = int(device.ask(driver.cuMemAlloc, size))
        _when_gone(self, device, driver.cuMemFree, self.address)


def _when_gone(holder: object, device: CudaDevice, function: Any, held: Any) -> None:
    """Give something back when its holder is gone; at its end a process's go by themselves."""
    weakref.finalize(holder, _give_back, device, function, held).atexit = False


def _give_back(device: CudaDevice, function: Any, held: Any) -> None:
    """Give something back; where that fails, the next call that somebody waits for says why."""
    with contextlib.suppress(CudaError):
        device.ask(function, held)


class CudaGraph:
    """A captured graph; see `Graph`."""

    def __init__(self, device: CudaDevice, launches: Sequence[Work], report: Report | None) -> None:
        self._device = device
        device.load(launches, report)
        with device.context():
            graph = device.captured(launches)
            try:
                self._executable = ask(driver.cuGraphInstantiate, graph, 0)
            finally:
                ask(driver.cuGraphDestroy, graph)
        _when_gone(self, device, driver.cuGraphExecDestroy, self._executable)

    def run(self, times: int = 1) -> None:
        """Begin to do all launches, `times` times."""
        launch, executable, stream = driver.cuGraphLaunch, self._executable, self._device.stream
        with self._device.context():
            for _ in range(times):
                ask(launch, executable, stream)


def capability_of(handle: Any) -> tuple[int, ...]:
    """The compute capability of one of the driver's devices."""
    attribute = driver.CUdevice_attribute
    return tuple(
        int(ask(driver.cuDeviceGetAttribute, each, handle))
        for each in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )


class CudaDevice:
    """A GPU; see `Device`.

    Parameters
    ----------
    number : int
        Of the GPU, as the driver counts them.

    Attributes
    ----------
    name : str
    capability : (int, int)
        Its compute capability.
    lost : bool
        Whether an error has ended its context: then nothing can be done with it any more.
    """

    def __init__(self, number: int = 0) -> None:
        self.lost = False
        ask(driver.cuInit, 0)
        handle = ask(driver.cuDeviceGet, number)
        self.dlpack_device = dlpack.CUDA, number
        self.name = ask(driver.cuDeviceGetName, 128, handle).split(b"\0")[0].decode()
        attribute = driver.CUdevice_attribute
        processors, runs_at_once, self.most_shared = (
            int(ask(driver.cuDeviceGetAttribute, each, handle))
            for each in (
                attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                attribute.CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH,
                attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )
        )
        self.capability, self._processors = capability_of(handle), processors
        self.grid = processors * runs_at_once, cooperative.TILES[0].threads
        self._primary = ask(driver.cuDevicePrimaryCtxRetain, handle)
        flag = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        with self._current():
            self.stream, self._beside, self._capturing = (
                ask(driver.cuStreamCreate, flag) for _ in range(3)
            )
        self.stream_number: int | None = int(self.stream)
        self._capture_lock = threading.Lock()
        self._functions: dict[tuple[str, ...], Any] = {}

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """Have the context current in the calling thread, and then the one that was before.

        PyTorch's and CuPy's current GPU is the one of the current context.
        """
        ask(driver.cuCtxPushCurrent, self._primary)
        try:
            yield
        finally:
            driver.cuCtxPopCurrent()

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """Let the calling thread use the driver, in this device's context.

        Raises
        ------
        CudaError
            If something in the block fails: it says so if that has ended the context.
        """
        try:
            with self._current():
                try:
                    yield
                except CudaError:
                    self.lost = self._has_ended()
                    raise
        except CudaError as error:
            if self.lost:
                raise CudaError(f"{error}; {lost(self.name)}") from None
            raise

    def _has_ended(self) -> bool:
        (status,) = driver.cuStreamQuery(self.stream)
        return status not in _ALIVE

    def ask(self, function: Any, *arguments: Any) -> Any:
        """Call a function of the driver in the context."""
        with self.context():
            return ask(function, *arguments)

    def allocate(self, size: int) -> DriverMemory:
        """A block of `size` bytes."""
        try:
            return DriverMemory(self, size)
        except MemoryError:
            free, total = self.memory()
            raise MemoryError(not_enough(self.name, size, free, total)) from None

    def memory(self) -> tuple[int, int]:
        """Bytes of device memory that are free, and in all."""
        free, total = self.ask(driver.cuMemGetInfo)
        return int(free), int(total)

    def write(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy an array to an address, and wait for it.

        The driver does not promise that such a copy has read its source by the time it returns: of
        pinned memory, and of any where the GPU uses the host's page tables, it has not.
        """
        if array.nbytes:
            self.ask(
                driver.cuMemcpyHtoDAsync, address, array.ctypes.data, array.nbytes, self.stream
            )
            self.wait()

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        """Memory of the host that the GPU can copy from by itself."""
        address = int(self.ask(driver.cuMemHostAlloc, max(size, 1), 0))
        block = (ctypes.c_uint8 * size).from_address(address)
        _when_gone(block, self, driver.cuMemFreeHost, address)
        return np.ctypeslib.as_array(block)

    def write_beside(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy an array to an address in a stream of its own, and wait for it."""
        if array.nbytes:
            self.ask(
                driver.cuMemcpyHtoDAsync, address, array.ctypes.data, array.nbytes, self._beside
            )
            self.ask(driver.cuStreamSynchronize, self._beside)

    def read(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy from an address into an array, and wait until it is there."""
        if array.nbytes:
            self.ask(
                driver.cuMemcpyDtoHAsync, array.ctypes.data, address, array.nbytes, self.stream
            )
        self.wait()

    def wait(self) -> None:
        """Wait until all that was begun is done; the interpreter goes on meanwhile."""
        self.ask(driver.cuStreamSynchronize, self.stream)

    def wait_for(self, stream: int) -> None:
        """Wait until all that anybody has begun in a stream is done."""
        self.ask(driver.cuStreamSynchronize, stream)

    def holds(self, address: int) -> bool:
        """Whether an address is one of this GPU's memory."""
        number = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        with self.context():
            status, found = driver.cuPointerGetAttribute(number, address)
        known = status == driver.CUresult.CUDA_SUCCESS
        return bool(known and int(found) == self.dlpack_device[1])

    def prepare(self, launches: Sequence[Work], report: Report | None = None) -> CudaGraph:
        """Compile and load what these need, and capture them."""
        return CudaGraph(self, launches, report)

    @cached_property
    def library(self) -> Library | None:
        """cuBLASLt, looked for when it is first asked for: its binding takes seconds to import."""
        return blas.opened(self)

    def load(self, launches: Sequence[Work], report: Report | None) -> None:
        """Load the kernels of some launches, compiled where none is kept."""
        keys = [self.key(one.key, one.launch) for one in launches if isinstance(one, Launched)]
        missing = [key for key in dict.fromkeys(keys) if key not in self._functions]
        for key, (code, symbol) in compiler.compiled(missing, report).items():
            module = self.ask(driver.cuModuleLoadData, code)
            self._functions[key] = self.ask(driver.cuModuleGetFunction, module, symbol.encode())
        for one in launches:
            if isinstance(one, Launched) and one.launch.shared > _FREE_SHARED:
                self._allow_shared(self._functions[self.key(one.key, one.launch)], one.launch)

    def _allow_shared(self, function: Any, launch: Launch) -> None:
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self.ask(driver.cuFuncSetAttribute, function, attribute, launch.shared)

    def key(self, op: Key, launch: Launch) -> tuple[str, ...]:
        """What a kernel is kept under: op, types, and all that it is compiled for."""
        major, minor = self.capability
        numbers = (major, minor, launch.threads, *launch.constants)
        return (compiler.CUDA, "-".join(map(str, numbers)), *op)

    def captured(self, launches: Sequence[Work]) -> Any:
        """A graph of loaded kernels and of products, one after the other.

        They are captured in a stream that nothing else uses: what other threads begin meanwhile is
        no part of the graph.
        """
        relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        with self._capture_lock:
            try:
                ask(driver.cuStreamBeginCapture, self._capturing, relaxed)
                for one in launches:
                    self._begin(one)
            except BaseException:
                driver.cuStreamEndCapture(self._capturing)
                raise
            return ask(driver.cuStreamEndCapture, self._capturing)

    def _begin(self, one: Work) -> None:
        """Put a kernel or a product into the graph that is being captured."""
        if not isinstance(one, Launched):
            assert self.library is not None
            self.library.begin(one, int(self._capturing))
            return
        x, y = one.launch.blocks
        words = tuple(one.words), (ctypes.c_int64,) * len(one.words)
        if one.launch.at_once:
            self._begin_at_once(one, words)
            return
        ask(
            driver.cuLaunchKernel,
            self._functions[self.key(one.key, one.launch)],
            *(x, y, 1),
            *(one.launch.threads, 1, 1),
            one.launch.shared,
            self._capturing,
            words,
            0,
        )

    def _begin_at_once(self, one: Launched, words: Any) -> None:
        """The same for a kernel whose blocks all run at once: else they would wait for ever."""
        function = self._functions[self.key(one.key, one.launch)]
        blocks, threads = one.launch.blocks[0], one.launch.threads
        most = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor
        room = self._processors * int(ask(most, function, threads, 0))
        if blocks > room:
            raise CudaError(f"{self.name}: {blocks} blocks are to run at once, {room} can")
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
        attribute.value.cooperative = 1
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = blocks, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.hStream, config.attrs, config.numAttrs = self._capturing, [attribute], 1
        ask(driver.cuLaunchKernelEx, config, function, words, 0)
