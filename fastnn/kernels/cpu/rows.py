"""Loops over one row written as vectors, the last of them masked.

LLVM vectorises a loop in whole vectors and leaves the rest to scalar code, which for the ten
columns of a classifier is all of it. Here the rest is one more vector. Sums are in an order that
follows from the row's length alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu.memory import INT32, INT64
from fastnn.kernels.cpu.microkernel import Vectors

Combine = Callable[[Any, Any, Any], Any]
"""Of a builder and two vectors, one."""


def larger(builder: Any, a: Any, b: Any) -> Any:
    """The larger one, lane by lane; a NaN in b is passed over."""
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def total_of(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def across_each(builder: Any, vectors: list[Any], combine: Combine) -> Any:
    """All lanes of each vector combined: a vector of as many lanes as there are vectors, 2ⁿ.

    Halves are combined with each other, until one lane is left. Those of two vectors are put into
    one, which changes no bit: all together take little longer than one alone.
    """

    def pick(one: Any, other: Any, lanes: list[int]) -> Any:
        numbers = ir.Constant(ir.VectorType(INT32, len(lanes)), lanes)
        return builder.shuffle_vector(one, other, numbers)

    length = vectors[0].type.count  # of what is left of each vector
    while length > 1:
        width, half = vectors[0].type.count, length // 2
        lower = [first + i for first in range(0, width, length) for i in range(half)]
        if len(vectors) == 1:
            pairs = [(vectors[0], ir.Constant(vectors[0].type, ir.Undefined))]
        else:
            pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
            lower += [width + i for i in lower]
        upper = [i + half for i in lower]
        vectors = [combine(builder, pick(*both, lower), pick(*both, upper)) for both in pairs]
        length = half
    while len(vectors) > 1:
        both = list(range(2 * vectors[0].type.count))
        vectors = [pick(a, b, both) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def each_vector(builder: Any, columns: Any, lanes: int, body: Any) -> None:
    """``body(first, left)`` for each vector of a row: its first column, and how many it has.

    `left` is None where it is full.
    """
    step = ir.Constant(INT64, lanes)
    left = builder.urem(columns, step)
    full = builder.sub(columns, left)
    with cgutils.for_range_slice(builder, ir.Constant(INT64, 0), full, step) as (first, _):
        body(first, None)
    with builder.if_then(builder.icmp_signed("!=", left, ir.Constant(INT64, 0))):
        body(full, left)


def _each_vector(builder: Any, type_name: str, columns: Any, body: Any) -> None:
    """``body(vectors, offset)`` for each vector of a row, the last one masked if need be."""
    plain = Vectors(builder, type_name, 1)

    def at(first: Any, left: Any) -> None:
        vectors = plain if left is None else Vectors(builder, type_name, 1, left)
        body(vectors, builder.mul(first, ir.Constant(INT64, plain.size)))

    each_vector(builder, columns, plain.lanes, at)


def _reduction(combine: Combine, start: float) -> Callable[[str, int], Any]:
    @cache
    def reduction(type_name: str, factors: int = 1) -> Any:
        item = getattr(types, type_name)

        def codegen(context, builder, signature, arguments):
            *rows, columns = arguments
            plain = Vectors(builder, type_name, 1)
            total = cgutils.alloca_once_value(builder, plain.constant(start))

            def body(vector, offset):
                value = vector.load_row(builder.add(rows[0], offset), start)[0]
                if len(rows) == 1:
                    value = combine(builder, builder.load(total), value)
                else:  # a sum of products
                    other = vector.load_row(builder.add(rows[1], offset))[0]
                    value = builder.call(vector.fma, [value, other, builder.load(total)])
                builder.store(value, total)

            _each_vector(builder, type_name, columns, body)
            combined = across_each(builder, [builder.load(total)], combine)
            return builder.extract_element(combined, ir.Constant(INT32, 0))

        if factors == 1:

            @intrinsic
            def reduce_one(typing_context, row, columns):
                return item(types.intp, types.intp), codegen

            return reduce_one

        @intrinsic
        def reduce_two(typing_context, row, other, columns):
            return item(types.intp, types.intp, types.intp), codegen

        return reduce_two

    return reduction


row_max = _reduction(larger, float("-inf"))
"""``row_max(type_name)(row, columns)``: the largest element; a NaN is passed over."""

row_sum = _reduction(total_of, 0.0)
"""``row_sum(type_name)(row, columns)``; with 2 factors ``(row, other, columns)``, of products."""


def _map(operation: str) -> Callable[[str], Any]:
    @cache
    def mapping(type_name: str) -> Any:
        @intrinsic
        def apply(typing_context, out, row, columns, scalar):
            def codegen(context, builder, signature, arguments):
                out, row, columns, scalar = arguments
                plain = Vectors(builder, type_name, 1)
                operand = plain.broadcast(scalar, plain.type)

                def body(vector, offset):
                    value = vector.load_row(builder.add(row, offset))[0]
                    value = getattr(builder, operation)(value, operand)
                    vector.store_row([value], builder.add(out, offset))

                _each_vector(builder, type_name, columns, body)
                return context.get_dummy_value()

            item = getattr(types, type_name)
            return types.void(types.intp, types.intp, types.intp, item), codegen

        return apply

    return mapping


row_minus = _map("fsub")
"""``row_minus(type_name)(out, row, columns, scalar)``: out = row − scalar."""

row_times = _map("fmul")
"""``row_times(type_name)(out, row, columns, scalar)``: out = row · scalar."""


def _map_rows(operation: str) -> Callable[[str], Any]:
    @cache
    def mapping(type_name: str) -> Any:
        @intrinsic
        def apply(typing_context, out, row, other, columns):
            def codegen(context, builder, signature, arguments):
                out, *rows, columns = arguments

                def body(vector, offset):
                    values = [vector.load_row(builder.add(row, offset))[0] for row in rows]
                    value = getattr(builder, operation)(*values)
                    vector.store_row([value], builder.add(out, offset))

                _each_vector(builder, type_name, columns, body)
                return context.get_dummy_value()

            return types.void(*[types.intp] * 4), codegen

        return apply

    return mapping


row_plus_row = _map_rows("fadd")
"""``row_plus_row(type_name)(out, row, other, columns)``: out = row + other; all may be one."""

row_times_row = _map_rows("fmul")
"""``row_times_row(type_name)(out, row, other, columns)``: out = row · other."""
