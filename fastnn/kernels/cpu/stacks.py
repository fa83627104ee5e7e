"""Loops over stacks: vectors one after the other, each a column of as many rows as it has lanes.

In a block of rows that has been transposed so (see ``softmax``), what belongs to a row stands in
one lane of every vector, and nothing is ever done across lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu.memory import INT32, INT64, POINTER
from fastnn.kernels.cpu.microkernel import Vectors
from fastnn.kernels.cpu.rows import Combine, larger, total_of


@contextmanager
def _each(vector: Vectors, stack: Any, count: Any, first: int = 0) -> Iterator[tuple[Any, Any]]:
    """A loop over the vectors of a stack from number `first` on: the number, and the address."""
    builder = vector.builder
    begin, one = ir.Constant(INT64, first), ir.Constant(INT64, 1)
    with cgutils.for_range_slice(builder, begin, count, one) as (j, _):
        offset = builder.mul(j, ir.Constant(INT64, vector.lanes * vector.size))
        yield j, builder.add(stack, offset)


def _reduction(combine: Combine) -> Callable[[str], Any]:
    @cache
    def reduction(type_name: str) -> Any:
        @intrinsic
        def reduce(typing_context, target, stack, count):
            def codegen(context, builder, signature, arguments):
                target, stack, count = arguments
                vector = Vectors(builder, type_name, 1)
                total = cgutils.alloca_once_value(builder, vector.load_row(stack)[0])
                with _each(vector, stack, count, first=1) as (_, at):
                    value = vector.load_row(at)[0]
                    builder.store(combine(builder, builder.load(total), value), total)
                vector.store_row([builder.load(total)], target)
                return context.get_dummy_value()

            return types.void(*[types.intp] * 3), codegen

        return reduce

    return reduction


stack_max = _reduction(larger)
"""``stack_max(type_name)(target, stack, count)``: lane by lane the largest of `count` vectors."""

stack_sum = _reduction(total_of)
"""``stack_sum(type_name)(target, stack, count)``: their sum, from the first on."""


def _map(operation: str) -> Callable[[str], Any]:
    @cache
    def mapping(type_name: str) -> Any:
        @intrinsic
        def apply(typing_context, stack, count, operand):
            def codegen(context, builder, signature, arguments):
                stack, count, operand = arguments
                vector = Vectors(builder, type_name, 1)
                operand = vector.load_row(operand)[0]
                with _each(vector, stack, count) as (_, at):
                    value = getattr(builder, operation)(vector.load_row(at)[0], operand)
                    vector.store_row([value], at)
                return context.get_dummy_value()

            return types.void(*[types.intp] * 3), codegen

        return apply

    return mapping


stack_minus = _map("fsub")
"""``stack_minus(type_name)(stack, count, vector)``: each vector of the stack minus this one."""

stack_times = _map("fmul")
"""``stack_times(type_name)(stack, count, vector)``: each vector of the stack times this one."""


class _Labels:
    """A vector's worth of int32 labels at an address."""

    def __init__(self, vector: Vectors, labels: Any) -> None:
        self._vector = vector
        self._type = ir.VectorType(INT32, vector.lanes)
        self._labels = vector.builder.load(vector.pointer(labels), typ=self._type, align=4)

    def are(self, j: Any) -> Any:
        """In which lanes the label is j."""
        builder = self._vector.builder
        number = self._vector.broadcast(builder.trunc(j, INT32), self._type)
        return builder.icmp_signed("==", self._labels, number)


@cache
def stack_pick(type_name: str) -> Any:
    """``pick(target, stack, count, labels)``: in each lane, of the vector that the label names."""

    @intrinsic
    def pick(typing_context, target, stack, count, labels):
        def codegen(context, builder, signature, arguments):
            target, stack, count, labels = arguments
            vector = Vectors(builder, type_name, 1)
            labels = _Labels(vector, labels)
            picked = cgutils.alloca_once_value(builder, vector.zero)
            with _each(vector, stack, count) as (j, at):
                value = vector.load_row(at)[0]
                builder.store(builder.select(labels.are(j), value, builder.load(picked)), picked)
            vector.store_row([builder.load(picked)], target)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), codegen

    return pick


@cache
def stack_scale(type_name: str) -> Any:
    """``scale(stack, count, factor, labels, amount)``: times `factor`, less `amount` at the label.

    `factor` and `amount` are the addresses of vectors.
    """

    @intrinsic
    def scale(typing_context, stack, count, factor, labels, amount):
        def codegen(context, builder, signature, arguments):
            stack, count, factor, labels, amount = arguments
            vector = Vectors(builder, type_name, 1)
            labels = _Labels(vector, labels)
            factor, amount = (vector.load_row(address)[0] for address in (factor, amount))
            with _each(vector, stack, count) as (j, at):
                value = builder.fmul(vector.load_row(at)[0], factor)
                less = builder.fsub(value, amount)
                vector.store_row([builder.select(labels.are(j), less, value)], at)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), codegen

    return scale


@cache
def copy_labels(type_name: str) -> Any:
    """``copy(target, source, count)``: `count` int32 labels as a vector's worth, the others 0."""

    @intrinsic
    def copy(typing_context, target, source, count):
        def codegen(context, builder, signature, arguments):
            target, source, count = arguments
            vector = Vectors(builder, type_name, 1, count)
            kind = ir.VectorType(INT32, vector.lanes)
            mask = ir.VectorType(ir.IntType(1), vector.lanes)
            load = vector.intrinsic(
                f"llvm.masked.load.v{vector.lanes}i32.p0", kind, [POINTER, INT32, mask, kind]
            )
            zero = ir.Constant(kind, [0] * vector.lanes)
            operands = [vector.pointer(source), ir.Constant(INT32, 4), vector.masks[0], zero]
            builder.store(builder.call(load, operands), vector.pointer(target), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 3), codegen

    return copy
