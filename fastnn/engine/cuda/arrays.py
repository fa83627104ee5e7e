"""Arrays in a GPU's memory: those of other libraries, taken as they lie, and our own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine.cuda import dlpack
from fastnn.engine.cuda.dlpack import Borrowed

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.engine.cuda.device import Device

_DEFAULT_STREAM = 1
"""The driver's name for the stream in which arrays without a stream of their own are written."""


class DeviceArray:
    """A C-contiguous array in a GPU's memory, which it keeps alive.

    PyTorch, CuPy, JAX and Numba take it without a copy: ``torch.from_dlpack(a)``,
    ``cupy.asarray(a)``. `copy_to_host`, and ``numpy.asarray(a)``, copy it. Nothing that writes it
    is under way.

    Parameters
    ----------
    device : Device
    address : int
    shape : tuple of int
    dtype : dtype_like
    owner : object
        What the memory belongs to.
    """

    def __init__(
        self, device: Device, address: int, shape: tuple[int, ...], dtype: Any, owner: Any
    ) -> None:
        self.device, self.address, self._owner = device, address, owner
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype = np.dtype(dtype)

    @classmethod
    def empty(cls, device: Device, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """A new one, with whatever there is in its memory.

        Raises
        ------
        MemoryError
            If there is not enough.
        """
        memory = device.allocate(max(1, math.prod(shape) * np.dtype(dtype).itemsize))
        return cls(device, memory.address, shape, dtype, memory)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(math.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * int(self.dtype.itemsize)

    def __len__(self) -> int:
        """Number of rows."""
        if not self.shape:
            raise TypeError("a DeviceArray of no dimensions has no length")
        return self.shape[0]

    def __getitem__(self, rows: slice) -> DeviceArray:
        """Neighbouring rows, as they lie."""
        begin, end, step = rows.indices(len(self))
        if step != 1:
            raise IndexError(f"a DeviceArray gives neighbouring rows alone, got {rows}")
        shape = max(0, end - begin), *self.shape[1:]
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        address = self.address + begin * row_bytes
        return DeviceArray(self.device, address, shape, self.dtype, self._owner)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self.device.name!r})"

    def copy_to_host(self) -> npt.NDArray[Any]:
        """A NumPy array with the same elements."""
        array = np.empty(self.shape, self.dtype)
        self.device.read(self.address, array)
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The elements on the host, as NumPy asks for them."""
        if copy is False:
            raise ValueError("a DeviceArray can only be copied to the host")
        return self.copy_to_host().astype(dtype or self.dtype, copy=False)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array as Numba's CUDA Array Interface, version 3, describes it."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """Kind and number of the device."""
        return self.device.dlpack_device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """The array as a capsule of DLPack's, in any `stream`: nothing has to be waited for.

        Raises
        ------
        BufferError
            If a copy is wanted, or the array on another device.
        """
        own = self.__dlpack_device__()
        if copy or dl_device not in (None, own):
            raise BufferError("a DeviceArray is handed over as it lies, without a copy")
        return dlpack.lend(self.address, self.shape, self.dtype, own, self)


def is_on_gpu(value: object) -> bool:
    """Whether an array says of itself that it lies in a GPU's memory."""
    where = getattr(value, "__dlpack_device__", None)
    if where is not None and where()[0] in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        return True
    return hasattr(value, "__cuda_array_interface__")


def taken(value: Any, argument: str, device: Device) -> DeviceArray:
    """An array in a GPU's memory as it lies there; what is under way on it is waited for.

    Raises
    ------
    ValueError
        If it lies on another GPU, or is not C-contiguous.
    TypeError
        If NumPy does not have its element type.
    """
    if isinstance(value, DeviceArray) and value.device is device:
        return value
    # DLPack first: PyTorch's interface does not say which stream an array is written in.
    by = _by_dlpack if hasattr(value, "__dlpack__") else _by_interface
    array = by(value, device)
    if math.prod(array.shape) and not device.holds(array.address):
        raise ValueError(f"{argument} lies on another GPU than {device.name}")
    if not _is_contiguous(array):
        raise ValueError(
            f"{argument} must be C-contiguous where it lies on a GPU, got shape {array.shape} with "
            f"strides of {array.strides} bytes"
        )
    return DeviceArray(device, array.address, array.shape, array.dtype, array.owner)


def _by_dlpack(value: Any, device: Device) -> Borrowed:
    number = device.stream_number
    return dlpack.borrow(value.__dlpack__() if number is None else value.__dlpack__(stream=number))


def _by_interface(value: Any, device: Device) -> Borrowed:
    interface = value.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise TypeError("arrays with masks are not taken")
    # Before version 3 an array did not say which stream it is written in.
    stream = interface.get("stream") if interface["version"] >= 3 else _DEFAULT_STREAM
    if stream is not None:
        device.wait_for(stream)
    return Borrowed(
        interface["data"][0],
        tuple(interface["shape"]),
        interface.get("strides"),
        np.dtype(interface["typestr"]),
        value,
    )


def _is_contiguous(array: Borrowed) -> bool:
    if array.strides is None or math.prod(array.shape) == 0:
        return True
    step = array.dtype.itemsize
    for length, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True
