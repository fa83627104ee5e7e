"""Bit casts: the same bits read as another type, as plain Python and compiled for any target."""

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

# Nothing is converted and no instruction is spent. Python runs the body, compiled code LLVM's
# `bitcast`; other types are refused.

_SAME_SIZE = {
    types.float32: types.int32,
    types.int32: types.float32,
    types.float64: types.int64,
    types.int64: types.float64,
}


@intrinsic
def _bitcast(typingctx, value):
    result = _SAME_SIZE[value]

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return result(value), codegen


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


def _compile_as_bitcast(function, argument_type):
    @overload(function, jit_options={"forceinline": True})
    def implementation(value):
        return (lambda value: _bitcast(value)) if value == argument_type else None


_compile_as_bitcast(float32_from_bits, types.int32)
_compile_as_bitcast(bits_from_float32, types.float32)
_compile_as_bitcast(float64_from_bits, types.int64)
_compile_as_bitcast(bits_from_float64, types.float64)


def bits_of(value):
    """The IEEE 754 bits of a float32 or a float64, as an integer of its size."""
    return value.view(np.int32 if value.dtype == np.float32 else np.int64)


def from_bits(bits):
    """The float32 of an int32's bits, the float64 of an int64's."""
    return bits.view(np.float32 if bits.dtype == np.int32 else np.float64)


_compile_as_bitcast(bits_of, types.float32)
_compile_as_bitcast(bits_of, types.float64)
_compile_as_bitcast(from_bits, types.int32)
_compile_as_bitcast(from_bits, types.int64)
