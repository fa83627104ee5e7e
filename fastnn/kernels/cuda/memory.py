"""Addresses and arrays, and loads and stores of 16 bytes: what a GPU's memory is fastest in.

Everything here has two forms, one compiled and one that the simulator runs: there an address is
one of this process's own memory.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.target import SIMULATED
from fastnn.kernels.signatures import ITEM_BYTES

WIDE = 16
"""Bytes of the widest load and store."""

Shape = tuple[int, ...]


def lanes_of(type_name: str) -> int:
    """Elements of a wide load."""
    return WIDE // ITEM_BYTES[type_name]


def _simulated_view(type_name: str, dimensions: int) -> Any:
    item = np.dtype(type_name)

    def make(address: int, shape: Shape) -> Any:
        if address == 0:
            return None
        count = math.prod(int(length) for length in shape)
        if count == 0:
            return np.empty(shape, item)
        block = (ctypes.c_char * (count * item.itemsize)).from_address(int(address))
        return np.frombuffer(block, item).reshape(shape)

    return make


def _simulated_load(array: Any, index: int) -> tuple[Any, ...]:
    lanes = WIDE // array.itemsize
    part = array[index : index + lanes]
    assert part.size == lanes, "a wide load must lie within the array"
    assert part.ctypes.data % WIDE == 0, "a wide load must be aligned"
    return tuple(part)


def _simulated_store(array: Any, index: int, values: tuple[Any, ...]) -> None:
    place = array.ctypes.data + index * array.itemsize
    assert index + len(values) <= array.size, "a wide store must lie within the array"
    assert place % WIDE == 0, "a wide store must be aligned"
    array[index : index + len(values)] = values


def _simulated_copy(target: Any, to: int, source: Any, index: int) -> None:
    _simulated_store(target, to, _simulated_load(source, index))


def _simulated_given(array: Any) -> bool:
    return array is not None


def _simulated_address(array: Any) -> int:
    return 0 if array is None else int(array.ctypes.data)


def _simulated_untold(value: int) -> int:
    return value


if SIMULATED:
    view, load_wide, store_wide = _simulated_view, _simulated_load, _simulated_store
    copy_wide, given, address = _simulated_copy, _simulated_given, _simulated_address
    untold = anew = _simulated_untold
else:
    from llvmlite import ir
    from numba.cuda import cgutils
    from numba.cuda.extending import intrinsic
    from numba.cuda.np.arrayobj import populate_array

    INT64 = ir.IntType(64)

    @cache
    def view(type_name: str, dimensions: int) -> Any:
        """The function that makes a C-contiguous array of an address and a shape."""
        item = getattr(types, type_name)
        array_type = types.Array(item, dimensions, "C")

        @intrinsic
        def make(typing_context, address, shape):
            signature = array_type(types.int64, types.UniTuple(types.int64, dimensions))

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

        return types.int64(array), codegen

    @intrinsic
    def given(typing_context, array):
        """Whether an optional operand is there."""

        def codegen(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            return builder.icmp_unsigned("!=", builder.ptrtoint(data, INT64), INT64(0))

        return types.boolean(array), codegen

    def _pointer_to_lanes(context, builder, array_type, array, index):
        """A pointer to the 16 bytes of a flat array that begin with an element, and how many."""
        item = context.get_data_type(array_type.dtype)
        lanes = WIDE * 8 // array_type.dtype.bitwidth
        data = context.make_array(array_type)(context, builder, array).data
        pointer = builder.gep(data, [index])
        return builder.bitcast(pointer, ir.VectorType(item, lanes).as_pointer()), lanes

    @intrinsic
    def load_wide(typing_context, array, index):
        """The elements of the 16 bytes of a flat array that begin with one, as a tuple.

        Their address is a multiple of 16.
        """
        result = types.UniTuple(array.dtype, WIDE * 8 // array.dtype.bitwidth)

        def codegen(context, builder, signature, arguments):
            pointer, lanes = _pointer_to_lanes(context, builder, signature.args[0], *arguments)
            value = builder.load(pointer)
            value.align = WIDE
            parts = [
                builder.extract_element(value, ir.Constant(ir.IntType(32), lane))
                for lane in range(lanes)
            ]
            return context.make_tuple(builder, result, parts)

        return result(array, types.int64), codegen

    @intrinsic
    def store_wide(typing_context, array, index, values):
        """Write a tuple of elements to such a place."""

        def codegen(context, builder, signature, arguments):
            array, index, values = arguments
            pointer, lanes = _pointer_to_lanes(context, builder, signature.args[0], array, index)
            vector = pointer.type.pointee
            value = ir.Constant(vector, ir.Undefined)
            for lane, part in enumerate(cgutils.unpack_tuple(builder, values, lanes)):
                place = ir.Constant(ir.IntType(32), lane)
                value = builder.insert_element(value, part, place)
            builder.store(value, pointer).align = WIDE
            return context.get_dummy_value()

        return types.void(array, types.int64, values), codegen

    @intrinsic
    def copy_wide(typing_context, target, to, source, index):
        """Copy 16 bytes of a flat array, as one: global, shared or a thread's own."""

        def codegen(context, builder, signature, arguments):
            target, to, source, index = arguments
            into, _ = _pointer_to_lanes(context, builder, signature.args[0], target, to)
            pointer, _ = _pointer_to_lanes(context, builder, signature.args[2], source, index)
            value = builder.load(pointer)
            value.align = WIDE
            builder.store(value, into).align = WIDE
            return context.get_dummy_value()

        return types.void(target, types.int64, source, types.int64), codegen

    @intrinsic
    def untold(typing_context, value):
        """An integer as it is, of which the compiler is told nothing.

        Could it foresee the index of a loop in strides, it would unroll the loop, each load behind
        the store before, and count the strides beforehand by a 64-bit division, 100 instructions.
        """

        def codegen(context, builder, signature, arguments):
            move = ir.InlineAsm(ir.FunctionType(INT64, [INT64]), "mov.b64 $0, $1;", "=l,l")
            return builder.call(move, arguments)

        return types.int64(types.int64), codegen

    @intrinsic
    def anew(typing_context, value):
        """An integer as it is, that the compiler takes for another one each time.

        What it leads to is so computed where it is needed, not kept in registers from before a
        loop on.
        """

        def codegen(context, builder, signature, arguments):
            kind = ir.FunctionType(INT64, [INT64])
            move = ir.InlineAsm(kind, "mov.b64 $0, $1;", "=l,l", side_effect=True)
            return builder.call(move, arguments)

        return types.int64(types.int64), codegen
