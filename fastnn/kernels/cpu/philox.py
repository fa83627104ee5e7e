"""Counter-based random words as vectors: Philox 4x32-10, and rows multiplied by masks of them.

What a counter's words are, and whose, is told in ``counters``; no state is kept, so a mask is the
same however the work was cut.

A word stands in the low half of a 64-bit lane, where the widening product wants it; what is in the
high half means nothing until a word is used. A round then is two products, two shifts and two xors
of three: with AVX-512, where two such operations begin in a cycle, 30 cycles for the 32 words of
eight counters. Left to LLVM the loop was of half as wide vectors, and scalar at a row's end.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.counters import BLOCK, GROUP, LOW, MULTIPLIERS, ROUNDS, WEYL
from fastnn.kernels.cpu.memory import INT32, INT64, LINE, POINTER
from fastnn.kernels.cpu.microkernel import Vectors
from fastnn.kernels.cpu.settings import VECTOR_BYTES

COUNTERS = VECTOR_BYTES // 4
"""Counters worked on at a time, in two vectors: as many as words fill one."""


class _Lanes:
    """Arithmetic on vectors of 64-bit integers."""

    def __init__(self, builder: Any) -> None:
        self.builder, self.count = builder, COUNTERS // 2
        self.type = ir.VectorType(INT64, self.count)
        self.low, self.half = self.constant(LOW), self.constant(32)
        self.broadcast_to = Vectors(builder, "float32", 1).broadcast

    def constant(self, value: int) -> Any:
        """A vector of `value` in all lanes."""
        return ir.Constant(self.type, [value] * self.count)

    def broadcast(self, scalar: Any) -> Any:
        """A vector of a scalar in all lanes."""
        return self.broadcast_to(scalar, self.type)

    def high(self, vector: Any) -> Any:
        """The high halves."""
        return self.builder.lshr(vector, self.half)

    def product(self, words: Any, multiplier: int) -> Any:
        """The low halves times a number below 2³², in full."""
        return self.builder.mul(self.builder.and_(words, self.low), self.constant(multiplier))

    def philox(self, counter: list[Any], key: list[Any]) -> list[Any]:
        """The four words of counters (c0, c1, c2, c3) under keys (k0, k1), in the low halves."""
        xor = self.builder.xor
        c0, c1, c2, c3 = counter
        for number in range(ROUNDS):
            k0, k1 = (
                self.builder.add(k, self.constant(number * w))
                for k, w in zip(key, WEYL, strict=True)
            )
            of_0, of_2 = self.product(c0, MULTIPLIERS[0]), self.product(c2, MULTIPLIERS[1])
            c0, c1 = xor(xor(self.high(of_2), c1), k0), of_2
            c2, c3 = xor(xor(self.high(of_0), c3), k1), of_0
        return [c0, c1, c2, c3]

    def words(self, block: Any, step: Any, stream: Any, seed: Any) -> list[tuple[Any, Any]]:
        """Each of the four words of counters (block + i, step, stream), i below `COUNTERS`."""
        step, stream, seed = (self.broadcast(scalar) for scalar in (step, stream, seed))
        key = [seed, self.high(seed)]
        pair = []
        for first in (0, self.count):
            places = ir.Constant(self.type, list(range(first, first + self.count)))
            blocks = self.builder.add(self.broadcast(block), places)
            pair.append(self.philox([blocks, step, self.high(step), stream], key))
        return list(zip(*pair, strict=True))

    def narrow(self, pair: tuple[Any, Any]) -> Any:
        """The low halves of two vectors as one of 32-bit integers."""
        narrow = ir.VectorType(INT32, 2 * self.count)
        even = ir.Constant(ir.VectorType(INT32, COUNTERS), list(range(0, 2 * COUNTERS, 2)))
        return self.builder.shuffle_vector(*(self.builder.bitcast(v, narrow) for v in pair), even)


@cache
def room(type_name: str, groups: int = 1) -> Any:
    """The function that gives the address of room on the stack, for `groups` groups' numbers."""
    size = groups * GROUP * getattr(types, type_name).bitwidth // 8

    @intrinsic
    def room_of_groups(typing_context):
        def codegen(context, builder, signature, arguments):
            with builder.goto_entry_block():  # Numba's own way would fill it with zeros
                numbers = builder.alloca(ir.ArrayType(ir.IntType(8), size))
            numbers.align = LINE
            return builder.ptrtoint(numbers, INT64)

        return types.intp(), codegen

    return room_of_groups


@intrinsic
def draw(typing_context, words, block, step, stream, seed):
    """Write the words of a group's counters, (block + i, step, stream), in the columns' order."""

    def codegen(context, builder, signature, arguments):
        target, block, step, stream, seed = arguments
        lanes = _Lanes(builder)
        for first in range(0, BLOCK, COUNTERS):
            begin = builder.add(block, ir.Constant(INT64, first))
            for number, pair in enumerate(lanes.words(begin, step, stream, seed)):
                at = builder.add(target, ir.Constant(INT64, 4 * (number * BLOCK + first)))
                builder.store(lanes.narrow(pair), builder.inttoptr(at, POINTER), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen


def _kept(
    lanes: _Lanes, type_name: str, block: Any, place: list[Any], limit: Any
) -> Iterator[tuple[int, Any]]:
    """For each vector of a group: its first column, and which of its elements are kept."""
    builder = lanes.builder
    for first in range(0, BLOCK, COUNTERS):
        begin = builder.add(block, ir.Constant(INT64, first))
        for number, pair in enumerate(lanes.words(begin, *place)):
            column = number * BLOCK + first
            if type_name == "float32":
                words = lanes.narrow(pair)
                least = lanes.broadcast_to(builder.trunc(limit, INT32), words.type)
                yield column, builder.icmp_unsigned(">=", words, least)
                continue
            for half, words in enumerate(pair):
                used = builder.and_(words, lanes.low)
                kept = builder.icmp_unsigned(">=", used, lanes.broadcast(limit))
                yield column + half * lanes.count, kept


@cache
def keep_row(type_name: str) -> Any:
    """The function that multiplies a row by a mask, and adds to it.

    ``keep(y, x, columns, block, step, stream, seed, limit, scale, shift, fill)``: addresses, the
    number of the first group's first counter, and scalars of the element type. An element whose
    word is at least `limit` becomes x · scale + shift, another one x · 0 + fill.
    """
    item = getattr(types, type_name)

    @intrinsic
    def keep(typing_context, y, x, columns, block, step, stream, seed, limit, scale, shift, fill):
        def codegen(context, builder, signature, arguments):
            y, x, columns, block, *place, limit, scale, shift, fill = arguments
            lanes, whole = _Lanes(builder), Vectors(builder, type_name, 1)
            scale, shift, fill = (whole.broadcast(s, whole.type) for s in (scale, shift, fill))

            def apply(vector, column, kept):
                offset = builder.mul(column, ir.Constant(INT64, whole.size))
                (value,) = vector.load_row(builder.add(x, offset))
                factor = builder.select(kept, scale, vector.zero)
                added = builder.select(kept, shift, fill)
                value = builder.call(vector.fma, [value, factor, added])
                vector.store_row([value], builder.add(y, offset))

            zero, group = (ir.Constant(INT64, value) for value in (0, GROUP))
            with cgutils.for_range_slice(builder, zero, columns, group) as (first, _):
                number = builder.add(block, builder.lshr(first, ir.Constant(INT64, 2)))
                masks = [
                    (builder.add(first, ir.Constant(INT64, column)), kept)
                    for column, kept in _kept(lanes, type_name, number, place, limit)
                ]
                left = builder.sub(columns, first)
                with builder.if_else(builder.icmp_signed(">=", left, group)) as (full, part):
                    with full:
                        for column, kept in masks:
                            apply(whole, column, kept)
                    with part:
                        for column, kept in masks:
                            end = builder.sub(columns, column)
                            apply(Vectors(builder, type_name, 1, end), column, kept)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8, *[item] * 3), codegen

    return keep
