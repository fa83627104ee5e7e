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


UNROLLED = 4
"""Steps of k that a tile of a known form does in one turn of its loop: what counts and branches
takes places of the multiply-adds (measured on Sapphire Rapids, 8x32 float32 with operands in the
caches: 0.88 of the peak with one step, 0.93 with four where A is read by rows, 0.99 by columns)."""

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

    def after(self, pointer: Any, offset: Any) -> Any:
        """The pointer to so many bytes after another."""
        return self.builder.gep(pointer, [offset], source_etype=ir.IntType(8))

    def unrelated(self, address: Any) -> Any:
        """The pointer to an address of which LLVM does not know how it came about."""
        function = self.intrinsic("llvm.launder.invariant.group.p0", POINTER, [POINTER])
        return self.builder.call(function, [self.pointer(address)])

    def load_scalar(self, pointer: Any) -> Any:
        """The number at a pointer, in all lanes."""
        return self.broadcast(self.builder.load(pointer, typ=self.element), self.type)

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
def tile(
    type_name: str, rows: int, vectors: int, vector_lanes: int, masked: bool, form: str = "any"
) -> Any:
    """The microkernel for one shape of tile; where `masked`, only `columns` of it are touched.

    The arguments of what it returns are addresses, and strides in bytes: ``depth, a, a_row, a_k,
    b, b_k, b_panel, initial, initial_row, c, c_row, columns, relu, gate, asked, apart, rate``.
    Every `TILE_VECTORS` vectors of B are a panel. `initial` 0 stands for zeros. Where `relu` is not
    0, C is max(C, 0); where `gate` is not 0, C is multiplied by 0 where the element `gate` bytes
    after its own is 0 or less.

    In the `form` "rows" the numbers of a row of A are neighbours, in "columns" those of a column:
    then `a_k`, or `a_row`, is not looked at, and `UNROLLED` steps of k are one turn of the loop. In
    each turn two lines are asked for: those of the list of addresses `asked` in the place that is
    reached at the fixed-point `rate` of places a turn, and `apart` bytes further, see ``ahead``.
    """

    @intrinsic
    def microkernel(
        typing_context, depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
        columns, relu, gate, asked, apart, rate,
    ):  # fmt: skip
        def codegen(context, builder, signature, arguments):
            (depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row, columns,
             relu, gate, asked, apart, rate) = arguments  # fmt: skip
            vector = Vectors(builder, type_name, vectors, columns if masked else None, vector_lanes)
            zero, one, item = (ir.Constant(INT64, n) for n in (0, 1, vector.size))
            step_row = item if form == "columns" else a_row
            step_k = item if form == "rows" else a_k

            def moved(address, stride, count):
                return builder.add(address, builder.mul(stride, ir.Constant(INT64, count)))

            start, rows_of_a = a, []
            if form == "rows":
                # Where LLVM knows that rows are equally far apart, it makes each one's address of
                # the one before, and loads four steps' numbers before it multiplies, into memory.
                rows_of_a = [vector.unrelated(moved(a, a_row, r)) for r in range(rows)]
                start = zero

            def number_of_a(at, r):
                if form == "rows":
                    return vector.load_scalar(vector.after(rows_of_a[r], at))
                return vector.load_scalar(vector.pointer(moved(at, step_row, r)))

            def add_step(a_at, b_at, total):
                """`total` and one step of k: a row of B, times a number of each row of A."""
                b_row = []
                for first in range(0, vectors, TILE_VECTORS):
                    last = min(first + TILE_VECTORS, vectors)
                    b_row += vector.load_row(b_at, first=first, last=last)
                    b_at = builder.add(b_at, b_panel)
                summed = []
                for r in range(rows):
                    factor = number_of_a(a_at, r)
                    for v in range(vectors):
                        before = total[r * vectors + v]
                        summed.append(builder.call(vector.fma, [factor, b_row[v], before]))
                return summed

            def ask(point):
                """Ask for the lines whose turn it is; the same ones again until the next are."""
                place = builder.lshr(point, ir.Constant(INT64, RATE_BITS))
                place = builder.add(asked, builder.shl(place, ir.Constant(INT64, 3)))
                for at in (place, builder.add(place, apart)):
                    ask_for(builder, builder.load(vector.pointer(at), typ=INT64))

            def repeat(values, steps, asks):
                """Do `steps` steps at a time as long as there are so many left."""

                def enough(k):
                    return builder.icmp_signed("<=", moved(k, one, steps), depth)

                before = builder.block
                loop, done = (builder.append_basic_block(name) for name in ("k", "done"))
                builder.cbranch(enough(values[0]), loop, done)
                builder.position_at_end(loop)
                current = [builder.phi(value.type) for value in values]
                k, point, a_at, b_at, *total = current
                if asks:
                    ask(point)
                for step in range(steps):
                    total = add_step(moved(a_at, step_k, step), moved(b_at, b_k, step), total)
                strides = (k, one), (a_at, step_k), (b_at, b_k)
                k, a_at, b_at = (moved(*stride, steps) for stride in strides)
                following = [k, builder.add(point, rate), a_at, b_at, *total]
                builder.cbranch(enough(k), loop, done)
                builder.position_at_end(done)
                after = [builder.phi(value.type) for value in values]
                for phi, result, old, new in zip(current, after, values, following, strict=True):
                    for where in (phi, result):
                        where.add_incoming(old, before)
                        where.add_incoming(new, loop)
                return after

            entry = builder.block
            load_initial, begin = (
                builder.append_basic_block(name) for name in ("initial", "begin")
            )
            builder.cbranch(builder.icmp_signed("==", initial, zero), begin, load_initial)
            builder.position_at_end(load_initial)
            loaded = [vector.load_row(moved(initial, initial_row, r)) for r in range(rows)]
            builder.branch(begin)
            builder.position_at_end(begin)
            total = []
            for value in (value for row in loaded for value in row):
                total.append(builder.phi(vector.type))
                total[-1].add_incoming(vector.zero, entry)
                total[-1].add_incoming(value, load_initial)
            values = [zero, zero, start, b, *total]
            if form != "any":
                values = repeat(values, UNROLLED, asks=True)
            _, _, _, _, *total = repeat(values, 1, asks=False)
            summed = [total[r * vectors : (r + 1) * vectors] for r in range(rows)]

            def rectified(r):
                return [vector.at_least_zero(value) for value in summed[r]]

            def gated(r):
                outputs = vector.load_row(builder.add(moved(c, c_row, r), gate))
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
                vector.store_row(summed[r], moved(c, c_row, r))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 17), codegen

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
