"""DLPack: how libraries hand arrays to each other without a copy.

The structures are those of dmlc/dlpack's ``dlpack.h``, the rules those of the Python array API: a
capsule called "dltensor" owns what it points to until somebody takes it over, who renames it to
"used_dltensor" and from then on has to call the deleter.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from typing import Any, NamedTuple

import numpy as np

CPU, CUDA, CUDA_MANAGED = 1, 2, 13
"""Kinds of devices: the host, and memory that GPUs can use."""

_FRESH, _USED = b"dltensor", b"used_dltensor"
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_KINDS = {code: kind for kind, code in _CODES.items()}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dimensions", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (
    ("tensor", _Tensor),
    ("context", ctypes.c_void_p),
    ("deleter", _DELETER),
)

# A capsule is an address here: where one is being destroyed, it must not be counted once more.
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", ctypes.pythonapi)
)

_lent: dict[int, Any] = {}
"""What each capsule handed out points to, and keeps alive until its deleter is called."""

_tickets = itertools.count(1)


def _delete(managed: Any) -> None:
    _lent.pop(managed.contents.context, None)


def _destroy(capsule: int) -> None:
    if _is_valid(capsule, _FRESH):  # nobody has taken it over
        _delete(ctypes.cast(_pointer(capsule, _FRESH), ctypes.POINTER(_Managed)))


_deleter, _destructor = _DELETER(_delete), _DESTRUCTOR(_destroy)


def lend(
    address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int], owner: Any
) -> Any:
    """A capsule with a C-contiguous array, which keeps `owner` alive."""
    lengths = (ctypes.c_int64 * len(shape))(*shape)
    kind = _Type(_CODES[dtype.kind], 8 * dtype.itemsize, 1)
    tensor = _Tensor(address, _Device(*device), len(shape), kind, lengths, None, 0)
    ticket = next(_tickets)
    managed = _Managed(tensor, ticket, _deleter)
    _lent[ticket] = managed, lengths, owner
    return _new(ctypes.addressof(managed), _FRESH, _destructor)


class Borrowed(NamedTuple):
    """An array that another library has handed over.

    Attributes
    ----------
    address : int
    shape : tuple of int
    strides : tuple of int, or None
        In bytes; None: it is C-contiguous.
    dtype : numpy.dtype
    owner : object
        What keeps its memory alive.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: np.dtype[Any]
    owner: Any


class _Owner:
    """Calls a capsule's deleter when nothing holds it any more."""

    def __init__(self, managed: Any) -> None:
        deleter = managed.contents.deleter
        if deleter:
            weakref.finalize(self, deleter, managed)


def borrow(capsule: Any) -> Borrowed:
    """Take over what a capsule holds.

    Raises
    ------
    BufferError
        If it was taken over already.
    TypeError
        If NumPy does not have its element type.
    """
    if not _is_valid(id(capsule), _FRESH):
        raise BufferError("a DLPack capsule can be taken over once")
    managed = ctypes.cast(_pointer(id(capsule), _FRESH), ctypes.POINTER(_Managed))
    tensor = managed.contents.tensor
    kind = _KINDS.get(tensor.dtype.code)
    if kind is None or tensor.dtype.lanes != 1:
        raise TypeError(f"NumPy has no element type for DLPack's {tensor.dtype.code}")
    _rename(capsule, _USED)
    dtype = np.dtype(f"{kind}{tensor.dtype.bits // 8}")
    places = range(tensor.dimensions)
    strides = tuple(tensor.strides[i] * dtype.itemsize for i in places) if tensor.strides else None
    return Borrowed(
        (tensor.data or 0) + tensor.byte_offset,
        tuple(tensor.shape[i] for i in places),
        strides,
        dtype,
        _Owner(managed),
    )
