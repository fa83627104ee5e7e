"""Loops over blocks of rows, a vector of columns at a time: what normalisation is made of.

Rows of a block are taken side by side, so that what belongs to a column is loaded once for all of
them, and sums down a column are added up in memory once for each block. Written as vectors, the
last of them masked, as in ``rows``. Nothing that is done for a column depends on which others are
done with it, nor what is done for a row on the other rows of its block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu.memory import INT32, INT64
from fastnn.kernels.cpu.microkernel import Vectors
from fastnn.kernels.cpu.rows import across_each, each_vector, total_of

Value = Any
"""A value of LLVM's."""

FIRST = 4
"""Columns whose mean stands in for a row's until that is known: of twice as many or more, all lanes
take their time to be added up."""


def integer(value: int) -> Value:
    """A constant of LLVM's."""
    return ir.Constant(INT64, value)


def in_all_lanes(vector: Vectors, number: Value) -> Value:
    """A vector of a number, float64 or of its own type."""
    if number.type != vector.element:
        number = vector.builder.fptrunc(number, vector.element)
    return vector.broadcast(number, vector.type)


def at_least(builder: Any, value: Value, least: Value) -> Value:
    """The larger one of two vectors, lane by lane; a NaN in the first stays."""
    return builder.select(builder.fcmp_ordered("<", value, least), least, value)


class Part:
    """One vector's worth of columns: loads, stores and arithmetic on them.

    Rows are addresses of their first columns. `left` is how many columns there are, None for a
    whole vector. A wide vector has the same columns in float64.
    """

    def __init__(self, builder: Any, type_name: str, first: Value, left: Value) -> None:
        self.builder, self._first = builder, first
        self.narrow = Vectors(builder, type_name, 1, left)
        self.wide = Vectors(builder, "float64", 1, left, self.narrow.lanes)

    def at(self, row: Value, vector: Vectors | None = None) -> Value:
        """The address of these columns in a row."""
        size = integer((vector or self.narrow).size)
        return self.builder.add(row, self.builder.mul(self._first, size))

    def load(self, row: Value) -> Value:
        return self.narrow.load_row(self.at(row))[0]

    def load_or(self, row: Value, default: float) -> Value:
        """What stands in a row; `default` if its address is 0."""
        vector, builder = self.narrow, self.builder
        bits = ir.VectorType(ir.IntType(1), vector.lanes)
        mask = vector.broadcast(builder.icmp_signed("!=", row, integer(0)), bits)
        if vector.masks is not None:
            mask = builder.and_(mask, vector.masks[0])
        place, alignment = vector.pointer(self.at(row)), ir.Constant(INT32, vector.size)
        load = vector.intrinsic(
            f"llvm.masked.load.{vector.name}.p0",
            vector.type,
            [place.type, alignment.type, bits, vector.type],
        )
        return builder.call(load, [place, alignment, mask, vector.constant(default)])

    def store(self, value: Value, row: Value) -> None:
        self.narrow.store_row([value], self.at(row))

    def load_wide(self, row: Value) -> Value:
        return self.wide.load_row(self.at(row, self.wide))[0]

    def add_wide(self, value: Value, row: Value, begun: Value) -> None:
        """Add a vector to a wide row, which before holds nothing of meaning unless `begun`."""
        builder, place = self.builder, self.at(row, self.wide)
        before = self.wide.load_row(place)[0]
        begins = builder.icmp_signed("==", begun, integer(0))
        before = builder.select(begins, self.wide.zero, before)
        self.wide.store_row([builder.fadd(before, self.widened(value))], place)

    def widened(self, value: Value) -> Value:
        return value if value.type == self.wide.type else self.builder.fpext(value, self.wide.type)

    def narrowed(self, value: Value) -> Value:
        if value.type == self.narrow.type:
            return value
        return self.builder.fptrunc(value, self.narrow.type)

    def inside(self, value: Value) -> Value:
        """The vector, with 0 for the columns that there are not."""
        if self.narrow.masks is None:
            return value
        return self.builder.select(self.narrow.masks[0], value, self.narrow.zero)

    def same(self, number: Value, vector: Vectors | None = None) -> Value:
        """A vector with a number, float64 or of the rows' type, in all lanes."""
        return in_all_lanes(vector or self.narrow, number)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        vector = self.narrow if a.type == self.narrow.type else self.wide
        return self.builder.call(vector.fma, [a, b, c])

    def root(self, value: Value) -> Value:
        vector = self.narrow if value.type == self.narrow.type else self.wide
        return self.builder.call(vector.intrinsic_of_type("llvm.sqrt", 1), [value])

    def total(self, values: list[Value]) -> Value:
        """Their sum, of the sums of neighbours."""
        while len(values) > 1:
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [self.builder.fadd(a, b) for a, b in pairs]
        return values[0]


class Block:
    """The rows that a loop goes over: `each` of their vectors, and a number for each row."""

    def __init__(self, builder: Any, type_name: str, columns: Value) -> None:
        self.builder, self._type_name, self.columns = builder, type_name, columns
        self.plain = Vectors(builder, type_name, 1)

    def each(self, body: Callable[[Part], None]) -> None:
        """Call ``body(part)`` to write the code for a vector, in a loop over all of them."""

        def at(first: Value, left: Value) -> None:
            body(Part(self.builder, self._type_name, first, left))

        each_vector(self.builder, self.columns, self.plain.lanes, at)

    def rows(self, first: Value, step: Value, count: int) -> list[Value]:
        """The addresses of `count` rows, `step` bytes apart."""
        return [self.builder.add(first, self.builder.mul(step, integer(r))) for r in range(count)]

    def apart(self, first: Value, step: int, index: int) -> Value:
        """The address of row number `index` of some that are `step` bytes apart."""
        return self.builder.add(first, integer(step * index))

    def sums(self, count: int) -> Sums:
        """So many sums of vectors, 0 so far."""
        return Sums(self, count)

    def vector(self, count: int) -> Vectors:
        """Vectors of `count` numbers of the rows' type."""
        return Vectors(self.builder, self._type_name, 1, vector_lanes=count)

    def load_each(self, first: Value, index: int, step: int, count: int) -> Value:
        """A vector of `count` numbers, from every step-th place from `index` on."""
        numbers = ir.Constant(self.vector(count).type, ir.Undefined)
        for r in range(count):
            place = self.plain.pointer(first, (index + r * step) * self.plain.size)
            number = self.builder.load(place, typ=self.plain.element)
            numbers = self.builder.insert_element(numbers, number, ir.Constant(INT32, r))
        return numbers

    def spread_each(self, numbers: Value) -> list[Value]:
        """For each lane of a vector, a whole vector with its number in all lanes."""
        return [
            self.plain.broadcast(
                self.builder.extract_element(numbers, ir.Constant(INT32, r)), self.plain.type
            )
            for r in range(numbers.type.count)
        ]

    def store_each(self, numbers: Value, first: Value, index: int, step: int) -> None:
        """Write a vector's lanes into every step-th place from `index` on."""
        for r in range(numbers.type.count):
            place = self.plain.pointer(first, (index + r * step) * self.plain.size)
            number = self.builder.extract_element(numbers, ir.Constant(INT32, r))
            self.builder.store(number, place)

    def over_deviation(self, variance: Value, epsilon: Value) -> Value:
        """1/√(variance + ε) of a vector's lanes, of what rounding has made negative as of 0."""
        vector = self.vector(variance.type.count)
        square = at_least(self.builder, variance, vector.zero)
        square = self.builder.fadd(square, in_all_lanes(vector, epsilon))
        root = self.builder.call(vector.intrinsic_of_type("llvm.sqrt", 1), [square])
        return self.builder.fdiv(vector.constant(1.0), root)

    def shares(self, sums: list[Value], columns: Value) -> Value:
        """The sum of each vector's lanes over a number of columns: a lane for each of them."""
        totals = across_each(self.builder, sums, total_of)
        share = self.builder.fdiv(
            ir.Constant(self.plain.element, 1.0), self.builder.sitofp(columns, self.plain.element)
        )
        return self.builder.fmul(totals, in_all_lanes(self.vector(len(sums)), share))

    def first_means(self, rows: list[Value]) -> Value:
        """The mean of each row's first columns, up to `FIRST` of them: a lane a row."""
        most = integer(FIRST)
        fewer = self.builder.icmp_signed("<", self.columns, most)
        columns = self.builder.select(fewer, self.columns, most)
        first = Vectors(self.builder, self._type_name, 1, columns, FIRST)
        return self.shares([first.load_row(row)[0] for row in rows], columns)


class Sums:
    """Sums over the columns, one for each of some rows."""

    def __init__(self, block: Block, count: int) -> None:
        self._block = block
        self._places = [
            cgutils.alloca_once_value(block.builder, block.plain.zero) for _ in range(count)
        ]

    def __getitem__(self, index: int) -> Value:
        """The vector of partial sums."""
        return self._block.builder.load(self._places[index])

    def __setitem__(self, index: int, value: Value) -> None:
        self._block.builder.store(value, self._places[index])

    def means(self) -> Value:
        """Each sum, added up over its lanes, over the number of columns: a lane a row."""
        sums = [self[r] for r in range(len(self._places))]
        return self._block.shares(sums, self._block.columns)


def loop(addresses: int, numbers: int = 0) -> Callable[[Callable[..., None]], Any]:
    """Make a function over addresses and numbers of one that writes its code.

    ``f(type_name, *options)`` then is a function of `addresses` integers, the number of columns and
    `numbers` float64 numbers. The decorated one is given a `Block`, the options and, but for the
    columns, its arguments.
    """

    def decorate(write: Callable[..., None]) -> Any:
        @cache
        def made(type_name: str, *options: int) -> Any:
            def run(typing_context, *arguments):
                signature = types.void(*[types.intp] * (addresses + 1), *[types.float64] * numbers)

                def codegen(context, builder, signature, arguments):
                    block = Block(builder, type_name, arguments[addresses])
                    others = (*arguments[:addresses], *arguments[addresses + 1 :])
                    write(block, *options, *others)
                    return context.get_dummy_value()

                return signature, codegen

            # Numba takes a star for a tuple.
            names = ["context", *(f"argument_{i}" for i in range(addresses + 1 + numbers))]
            run.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_ONLY) for n in names])
            return intrinsic(run)

        made.__name__, made.__doc__ = write.__name__, write.__doc__
        return made

    return decorate
