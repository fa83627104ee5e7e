"""A GPU as the executor sees it: memory, copies, launches, graphs; real or simulated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Union

from fastnn.engine.compiler import Report
from fastnn.kernels.signatures import NAMES, signature

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fastnn.engine.cuda.blas import BlasCall, Library
    from fastnn.kernels.cuda.launch import Launch

Key = tuple[str, ...]
"""An op's name and its element types."""


class Launched(NamedTuple):
    """One launch of an op's entry.

    Parameters
    ----------
    key : tuple of str
        The op's name and its element types.
    launch : Launch
        Blocks, threads, and what the kernel is compiled for.
    words : list of int
        What the entry takes: lengths, addresses, scalars, phase, position, the state's address.
    """

    key: Key
    launch: Launch
    words: list[int]


Work = Union[Launched, "BlasCall"]
"""What a graph consists of."""


class Memory(Protocol):
    """A block of device memory; it goes when nothing holds it any more."""

    address: int
    size: int


class Graph(Protocol):
    """Launches that are done one after the other, at the cost of one for the host."""

    def run(self, times: int = 1) -> None:
        """Begin to do them all, `times` times."""


class Device(Protocol):
    """A GPU, or what stands for one. All it does is done in one order, that of the calls.

    Once it is `lost`, all it is asked for raises `CudaError`. DLPack knows it as `dlpack_device`,
    and the driver the order of its calls as the stream `stream_number`, if it has streams. Of grids
    whose blocks all run at once, `grid` is the most blocks, and the threads of each. A block may
    have `most_shared` bytes of shared memory.
    """

    name: str
    lost: bool
    dlpack_device: tuple[int, int]
    stream_number: int | None
    grid: tuple[int, int]
    most_shared: int

    def allocate(self, size: int) -> Memory:
        """A block of `size` bytes that begins on a multiple of 256.

        Raises
        ------
        MemoryError
            If there is not so much.
        """

    def write(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy a C-contiguous array into device memory; then it may be changed."""

    def read(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy device memory into a C-contiguous array, once all that was begun is done."""

    def memory(self) -> tuple[int, int]:
        """Bytes of device memory that are free, and in all."""

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        """Memory of the host, `size` bytes, that the GPU can copy from by itself."""

    def write_beside(self, address: int, array: npt.NDArray[Any]) -> None:
        """Copy an array into device memory beside what is done in order, and wait for it.

        Any thread may call it.
        """

    def prepare(self, launches: Sequence[Work], report: Report | None = None) -> Graph:
        """Compile what these need, saying so to `report`, and make them one graph."""

    @property
    def library(self) -> Library | None:
        """cuBLASLt, if it is installed."""

    def context(self) -> AbstractContextManager[None]:
        """What calls of the library are made in."""

    def wait(self) -> None:
        """Wait until all that was begun is done."""

    def wait_for(self, stream: int) -> None:
        """Wait until all that anybody has begun in a stream, by its number, is done."""

    def holds(self, address: int) -> bool:
        """Whether an address is one of this device's memory."""


class CudaError(RuntimeError):
    """A GPU's driver has refused something."""


def lost(name: str) -> str:
    """What there is to say once an error has ended a GPU's context."""
    return (
        f"{name} is lost to this process: a model goes on by to('cpu') from what was last copied "
        "to the host"
    )


def not_enough(name: str, size: int, free: int, total: int) -> str:
    """What there is to say where device memory does not suffice."""
    return f"{name}: {size:,} bytes of device memory are needed, {free:,} of {total:,} are free"


def kernel_of(key: Key) -> Any:
    """The kernel of an op for its element types: a `launch.Kernel`."""
    from fastnn.kernels.cuda.adapter import factory

    return factory(key[0])(*key[1:])


def at_most(key: Key, launch: Launch, blocks: int, threads: int) -> Launch:
    """The same launch in fewer blocks along x and fewer threads, as far as the op takes any."""
    if key[0] not in NAMES:
        return launch
    kernel = kernel_of(key)
    x, y = launch.blocks
    if kernel.any_grid or kernel.any_blocks:
        launch = launch._replace(blocks=(min(x, blocks), y))
    if kernel.any_grid:
        launch = launch._replace(threads=min(launch.threads, threads))
    return launch


def launch_of(key: Key, lengths: dict[str, int], aligned: bool, precision: str = "fp32") -> Launch:
    """How an op is launched on arrays of given lengths, which begin on multiples of 16 or not.

    `precision`: what the factors of products may be rounded to, see `launch.PRECISIONS`.
    """
    complete = dict.fromkeys(signature(key[0]).dimensions, 0) | lengths
    kernel = kernel_of(key)
    if precision != "fp32" and kernel.rounded is not None:
        rounded: Launch = kernel.rounded(complete, aligned, precision)
        return rounded
    launch: Launch = kernel.launch(complete, aligned)
    return launch


def precisions_of(name: str, type_name: str) -> tuple[str, ...]:
    """What factors may be rounded to in an op on arrays of that type."""
    from fastnn.kernels.cuda.launch import PRECISIONS

    is_of_one_type = all(operand.type != "S" for operand in signature(name).arrays)
    if type_name == "float32" and is_of_one_type and kernel_of((name, type_name)).rounded:
        return PRECISIONS
    return PRECISIONS[:1]


def simulated() -> bool:
    """Whether Numba's simulator stands for the GPU."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
