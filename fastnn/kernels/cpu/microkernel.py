"""The innermost loop of every matrix product: one tile of the result, held in vector registers.

    C[r, :] = initial[r, :] + sum over k of A[r, k] * B[k, :]

A tile is a few rows high and one to three vectors wide, or of one row and eight. Each step of k
loads one row of B, and for each row of A one number, broadcast to a vector: every number loaded
serves many fused multiply-adds. Element (r, c) is one chain of FMAs over k, whatever the tile's
shape, so cutting a matrix into other tiles changes no bit of the result.

Written as LLVM vector instructions, since Numba's arrays know no registers. Strides are in bytes,
for A may be a transposed matrix.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu.memory import INT32, INT64, POINTER, ask_for
from fastnn.kernels.cpu.settings import VECTOR_BYTES

_ELEMENT = {"float32": (ir.FloatType(), 4, "f32"), "float64": (ir.DoubleType(), 8, "f64")}

TILE_ROWS = {64: (8, 4, 2, 1), 32: (6, 4, 2, 1), 16: (6, 4, 2, 1)}[VECTOR_BYTES]
"""Heights of tiles, tallest first: 16 accumulators of AVX-512's 32 registers, 12 of AVX2's 16.

Measured on Zen 4 (AVX-512): 8x32 float32 reaches 114 GFLOP/s of about 117, 12x32 and 14x32 no
more, 8x48 loses up to a third on widths of 64 and 100.
"""

TILE_VECTORS = 2
"""Width of a tile in vectors; one where what is left of a row fits into one."""


RATE_BITS = 16
"""A tile's rate of lines asked for is a fixed-point number with so many bits after the point."""


LONG_VECTORS = 8
"""Width of a tile of one row, in vectors: as many sums as cover the time that an FMA takes."""

SLIM_ROWS = 2 * TILE_ROWS[0]
"""Height of a tile of one vector, where C is no wider: of half as many, the loads take longer."""

LAST_VECTORS = 3 if VECTOR_BYTES == 64 else 0
"""Width of a row's last tile where what is left fits into one vector more, or 0: AVX2's registers
do not hold as much."""


def lanes(type_name: str) -> int:
    """Elements in one vector register."""
    return VECTOR_BYTES // _ELEMENT[type_name][1]


class Vectors:
    """Loads, stores and arithmetic on rows of `vectors` registers, masked to `columns`."""

    def __init__(
        self,
        builder: Any,
        type_name: str,
        vectors: int,
        columns: Any | None = None,
        vector_lanes: int = 0,
    ) -> None:
        self.builder, self.vectors = builder, vectors
        self.element, self.size, suffix = _ELEMENT[type_name]
        self.lanes = vector_lanes or lanes(type_name)
        self.type = ir.VectorType(self.element, self.lanes)
        self.zero = ir.Constant(self.type, [0.0] * self.lanes)
        self.name = name = f"v{self.lanes}{suffix}"
        self.fma = self.intrinsic_of_type("llvm.fma", 3)
        self.masks = None
        if columns is not None:
            bits = ir.VectorType(ir.IntType(1), self.lanes)
            self.masks = self._masks(columns)
            self.masked_load = self.intrinsic(
                f"llvm.masked.load.{name}.p0", self.type, [POINTER, INT32, bits, self.type]
            )
            self.masked_store = self.intrinsic(
                f"llvm.masked.store.{name}.p0",
                ir.VoidType(),
                [self.type, POINTER, INT32, bits],
            )

    def intrinsic_of_type(self, name: str, operands: int) -> Any:
        """LLVM's function `name` of so many of these vectors."""
        return self.intrinsic(f"{name}.{self.name}", self.type, [self.type] * operands)

    def intrinsic(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """A function of LLVM's own, declared in the module."""
        return cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(result, arguments), name
        )

    def _masks(self, columns: Any) -> list[Any]:
        """For each vector, which of its lanes lie left of `columns`."""
        columns = self.builder.trunc(columns, INT32)
        limit = self.broadcast(columns, ir.VectorType(INT32, self.lanes))
        return [
            self.builder.icmp_signed(
                "<",
                ir.Constant(limit.type, [v * self.lanes + i for i in range(self.lanes)]),
                limit,
            )
            for v in range(self.vectors)
        ]

    def constant(self, value: float) -> Any:
        """A vector of `value` in all lanes."""
        return ir.Constant(self.type, [value] * self.lanes)

    def at_least_zero(self, value: Any) -> Any:
        """ReLU, as the activation of that name."""
        negative = self.builder.fcmp_ordered("<", value, self.zero)
        return self.builder.select(negative, self.zero, value)

    def nothing_where_off(self, value: Any, output: Any) -> Any:
        """`value` times ReLU's derivative, of its output."""
        off = self.builder.fcmp_ordered("<=", output, self.zero)
        slope = self.builder.select(off, self.zero, self.constant(1.0))
        return self.builder.fmul(value, slope)

    def pointer(self, address: Any, offset: int = 0) -> Any:
        if offset:
            address = self.builder.add(address, ir.Constant(INT64, offset))
        return self.builder.inttoptr(address, POINTER)

    def broadcast(self, scalar: Any, vector_type: Any) -> Any:
        undefined = ir.Constant(vector_type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, vector_type.count), [0] * vector_type.count)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def load_scalar(self, address: Any) -> Any:
        value = self.builder.load(self.pointer(address), typ=self.element)
        return self.broadcast(value, self.type)

    def load_row(
        self, address: Any, outside: float = 0.0, first: int = 0, last: int | None = None
    ) -> list[Any]:
        """The vectors at an address, those from `first` to `last`; masked lanes hold `outside`."""
        row = []
        for v in range(first, self.vectors if last is None else last):
            source = self.pointer(address, (v - first) * self.lanes * self.size)
            if self.masks is not None:
                alignment = ir.Constant(INT32, self.size)
                arguments = [source, alignment, self.masks[v], self.constant(outside)]
                row.append(self.builder.call(self.masked_load, arguments))
            else:
                row.append(self.builder.load(source, typ=self.type, align=self.size))
        return row

    def store_row(self, row: list[Any], address: Any) -> None:
        for v, value in enumerate(row):
            target = self.pointer(address, v * self.lanes * self.size)
            if self.masks is not None:
                alignment = ir.Constant(INT32, self.size)
                self.builder.call(self.masked_store, [value, target, alignment, self.masks[v]])
            else:
                self.builder.store(value, target, align=self.size)


@cache
def tile(type_name: str, rows: int, vectors: int, vector_lanes: int, masked: bool) -> Any:
    """The microkernel for one shape of tile; where `masked`, only `columns` of it are touched.

    The arguments of what it returns are addresses, and strides in bytes: ``depth, a, a_row, a_k,
    b, b_k, b_panel, initial, initial_row, c, c_row, columns, relu, gate, asked, rate``. Every
    `TILE_VECTORS` vectors of B are a panel. `initial` 0 stands for zeros. Where `relu` is not 0, C
    is max(C, 0); where `gate` is not 0, C is multiplied by 0 where the element `gate` bytes after
    its own is 0 or less. Meanwhile lines of the list of addresses `asked` are asked for at the
    fixed-point rate `rate`, see ``ahead``.
    """

    @intrinsic
    def microkernel(
        typing_context, depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
        columns, relu, gate, asked, rate,
    ):  # fmt: skip
        def codegen(context, builder, signature, arguments):
            (depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row, columns,
             relu, gate, asked, rate) = arguments  # fmt: skip
            vector = Vectors(builder, type_name, vectors, columns if masked else None, vector_lanes)

            def row_of(address, stride, r):
                return builder.add(address, builder.mul(stride, ir.Constant(INT64, r)))

            entry = builder.block
            load_initial, loop, done = (
                builder.append_basic_block(name) for name in ("initial", "k", "done")
            )
            zero = ir.Constant(INT64, 0)
            builder.cbranch(builder.icmp_signed("==", initial, zero), loop, load_initial)

            builder.position_at_end(load_initial)
            begun = [vector.load_row(row_of(initial, initial_row, r)) for r in range(rows)]
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(INT64)
            total = [[builder.phi(vector.type) for _ in range(vectors)] for _ in range(rows)]
            b_at, b_row = builder.add(b, builder.mul(k, b_k)), []
            for first in range(0, vectors, TILE_VECTORS):
                last = min(first + TILE_VECTORS, vectors)
                b_row += vector.load_row(b_at, first=first, last=last)
                b_at = builder.add(b_at, b_panel)
            a_column = builder.add(a, builder.mul(k, a_k))
            summed = []
            for r in range(rows):
                factor = vector.load_scalar(row_of(a_column, a_row, r))
                summed.append(
                    [
                        builder.call(vector.fma, [factor, b_row[v], total[r][v]])
                        for v in range(vectors)
                    ]
                )
            # Between two lines of the list, one that is in the L1 cache is asked for.
            point = builder.mul(k, rate)
            place = builder.lshr(point, ir.Constant(INT64, RATE_BITS))
            place = builder.add(asked, builder.shl(place, ir.Constant(INT64, 3)))
            fraction = builder.and_(point, ir.Constant(INT64, (1 << RATE_BITS) - 1))
            line = builder.select(
                builder.icmp_unsigned("<", fraction, rate),
                builder.load(vector.pointer(place), typ=INT64),
                a_column,
            )
            ask_for(builder, line)
            following = builder.add(k, ir.Constant(INT64, 1))
            for block, value in ((entry, zero), (load_initial, zero), (loop, following)):
                k.add_incoming(value, block)
            for r in range(rows):
                for v in range(vectors):
                    total[r][v].add_incoming(vector.zero, entry)
                    total[r][v].add_incoming(begun[r][v], load_initial)
                    total[r][v].add_incoming(summed[r][v], loop)
            builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)

            builder.position_at_end(done)

            def rectified(r):
                return [vector.at_least_zero(value) for value in summed[r]]

            def gated(r):
                outputs = vector.load_row(builder.add(row_of(c, c_row, r), gate))
                return [
                    vector.nothing_where_off(value, output)
                    for value, output in zip(summed[r], outputs, strict=True)
                ]

            for condition, change in ((relu, rectified), (gate, gated)):
                before = builder.block
                with builder.if_then(builder.icmp_signed("!=", condition, zero)):
                    changed = [change(r) for r in range(rows)]
                    inside = builder.block
                for r in range(rows):
                    for v in range(vectors):
                        either = builder.phi(vector.type)
                        either.add_incoming(summed[r][v], before)
                        either.add_incoming(changed[r][v], inside)
                        changed[r][v] = either
                summed = changed
            for r in range(rows):
                vector.store_row(summed[r], row_of(c, c_row, r))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 16), codegen

    return microkernel


@cache
def copy_row(
    type_name: str, vectors: int, vector_lanes: int = 0, masked_store: bool = False
) -> Any:
    """The function that copies the first `columns` elements of `vectors` registers' worth.

    ``copy(target, source, columns)``: what is left of the target's registers becomes 0, or with
    `masked_store` stays what it was.
    """

    @intrinsic
    def copy(typing_context, target, source, columns):
        def codegen(context, builder, signature, arguments):
            target, source, columns = arguments
            whole = Vectors(builder, type_name, vectors, vector_lanes=vector_lanes)
            full = ir.Constant(INT64, vectors * whole.lanes)
            with builder.if_else(builder.icmp_signed("==", columns, full)) as (then, otherwise):
                with then:
                    whole.store_row(whole.load_row(source), target)
                with otherwise:
                    masked = Vectors(builder, type_name, vectors, columns, vector_lanes)
                    store = masked if masked_store else whole
                    store.store_row(masked.load_row(source), target)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 3), codegen

    return copy


@cache
def transpose_block(type_name: str) -> Any:
    """The function that transposes a square block, as many rows as a vector has lanes.

    ``transpose(target, target_row, source, source_row, last, columns)``: addresses, and strides
    in bytes. Of the source, rows after number `last` and columns from `columns` on are not
    touched; what stands in the target for them means nothing. Each of log2(lanes) rounds exchanges
    the off-diagonal halves of ever larger squares.
    """
    n = lanes(type_name)

    @intrinsic
    def transpose(typing_context, target, target_row, source, source_row, last, columns):
        def codegen(context, builder, signature, arguments):
            target, target_row, source, source_row, last, columns = arguments
            masked = Vectors(builder, type_name, 1, columns)
            vector = Vectors(builder, type_name, 1)

            rows = []
            for r in range(n):
                number = ir.Constant(INT64, r)
                outside = builder.icmp_signed(">", number, last)
                number = builder.select(outside, last, number)
                at = builder.add(source, builder.mul(source_row, number))
                rows.append(masked.load_row(at)[0])
            half = 1
            while half < n:
                exchanged = list(rows)
                for r in range(n):
                    if r & half:
                        continue
                    low, high = rows[r], rows[r | half]
                    # Lane i of the upper row: its own where i lacks the bit, else the lower
                    # row's lane i − half; of the lower row the other way round.
                    upper = [(n + i - half) if i & half else i for i in range(n)]
                    lower = [(n + i) if i & half else i + half for i in range(n)]
                    for row, lane in ((r, upper), (r | half, lower)):
                        exchanged[row] = builder.shuffle_vector(
                            low, high, ir.Constant(ir.VectorType(INT32, n), lane)
                        )
                rows = exchanged
                half *= 2
            for r in range(n):
                at = builder.add(target, builder.mul(target_row, ir.Constant(INT64, r)))
                vector.store_row([rows[r]], at)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), codegen

    return transpose
