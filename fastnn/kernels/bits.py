"""Bit casts: the same bits read as another type, as plain Python and compiled for any target."""

import numpy as np

# Python runs the bodies; of compiled code `compiled` makes LLVM's `bitcast`.


def float32_from_bits(bits):
    """The float32 whose IEEE 754 bits are those of the int32 `bits`."""
    return bits.view(np.float32)


def bits_from_float32(value):
    """The IEEE 754 bits of the float32 `value`, as int32."""
    return value.view(np.int32)


def float64_from_bits(bits):
    """The float64 whose IEEE 754 bits are those of the int64 `bits`."""
    return bits.view(np.float64)


def bits_from_float64(value):
    """The IEEE 754 bits of the float64 `value`, as int64."""
    return value.view(np.int64)


def bits_of(value):
    """The IEEE 754 bits of a float32 or a float64, as an integer of its size."""
    return value.view(np.int32 if value.dtype == np.float32 else np.int64)


def from_bits(bits):
    """The float32 of an int32's bits, the float64 of an int64's."""
    return bits.view(np.float32 if bits.dtype == np.int32 else np.float64)
