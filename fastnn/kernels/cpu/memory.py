"""Addresses and arrays: kernels see arrays, programs hold addresses; here one becomes the other."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

LINE = 64
"""Bytes of a cache line."""

POINTER = ir.PointerType()
INT32, INT64 = ir.IntType(32), ir.IntType(64)


@cache
def view(type_name: str, dimensions: int) -> Any:
    """The function that makes a C-contiguous array of an address and a shape.

    The array has no owner, so passing it on counts no references.
    """
    item = getattr(types, type_name)
    array_type = types.Array(item, dimensions, "C")

    @intrinsic
    def make(typing_context, address, shape):
        signature = array_type(types.intp, types.UniTuple(types.intp, dimensions))

        def codegen(context, builder, signature, arguments):
            array = context.make_array(array_type)(context, builder)
            size = ir.Constant(INT64, item.bitwidth // 8)
            shape = cgutils.unpack_tuple(builder, arguments[1], dimensions)
            strides, step = [], size
            for length in reversed(shape):
                strides.insert(0, step)
                step = builder.mul(step, length)
            data = builder.inttoptr(arguments[0], context.get_data_type(item).as_pointer())
            populate_array(
                array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None
            )
            return array._getvalue()

        return signature, codegen

    return make


@intrinsic
def address(typing_context, array):
    """The address of an array's first element, as an integer; 0 for an operand left out."""

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, INT64)

    return types.intp(array), codegen


@intrinsic
def load_int64(typing_context, address):
    """The 64-bit integer at an address."""

    def codegen(context, builder, signature, arguments):
        return builder.load(builder.inttoptr(arguments[0], POINTER), typ=INT64)

    return types.int64(types.intp), codegen


def ask_for(builder: Any, address: Any, to_write: bool = False) -> None:
    """Ask for the cache line at an address, soon to be needed, into the L2 cache.

    One that is to be written becomes this core's own.
    """
    function_type = ir.FunctionType(ir.VoidType(), [POINTER] + [INT32] * 3)
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    # For reading or writing; 2 of 3 in nearness; data.
    hints = [ir.Constant(INT32, hint) for hint in (int(to_write), 2, 1)]
    builder.call(function, [builder.inttoptr(address, POINTER), *hints])


@intrinsic
def prefetch(typing_context, address):
    """Ask for the cache line at an address."""

    def codegen(context, builder, signature, arguments):
        ask_for(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def prefetch_to_write(typing_context, address):
    """Ask for the cache line at an address, which will be written."""

    def codegen(context, builder, signature, arguments):
        ask_for(builder, arguments[0], to_write=True)
        return context.get_dummy_value()

    return types.void(types.intp), codegen


def native_call(builder: Any, function: Any, arguments: Any) -> Any:
    """Call a function compiled without wrappers, ``status = f(result*, exception**, ...)``."""
    function_type = ir.FunctionType(INT32, [POINTER, POINTER] + [INT64] * len(arguments))
    callee = builder.inttoptr(function, function_type.as_pointer())
    result, exception = (
        builder.bitcast(cgutils.alloca_once(builder, INT64), POINTER) for _ in range(2)
    )
    return builder.sext(builder.call(callee, [result, exception, *arguments]), INT64)


@intrinsic
def call_op(typing_context, function, operands, state, rank, team):
    """Call a compiled op through its address; the status of Numba's convention."""

    def codegen(context, builder, signature, arguments):
        return native_call(builder, arguments[0], arguments[1:])

    return types.int64(*[types.intp] * 5), codegen
