"""Matrix products of any shape, from tiles: C = initial + A·B, and the three of a dense layer.

The result is cut into panels, as wide as a tile, and a panel into tiles from the top. All of a
panel's tiles read the same columns of B: where there are enough of them to repay it, or where B
is a transposed matrix, these columns are first copied ("packed") into one contiguous block.

No element's value depends on how the result was cut: each is one chain of FMAs in the order of k.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.kernels.cpu.memory import native_call, view
from fastnn.kernels.cpu.microkernel import (
    TILE_ROWS,
    TILE_VECTORS,
    copy_row,
    lanes,
    tile,
    transpose_block,
)
from fastnn.kernels.cpu.settings import inlined, kernel
from fastnn.kernels.signatures import ITEM_BYTES

PACK_ROWS = 192
"""Rows of the result from which packing B repays its cost.

Measured on Zen 4 (AVX-512), unpacked against packed: (32,784)·(784,128) 114 against 98 GFLOP/s,
(128,512)·(512,512) 113 against 108; (1024,784)·(784,512) 104 against 105, and from 512 rows of
depth 1024 on 97 against 108.
"""

MAX_DEPTH = 512
"""Steps of k that one pass over a panel takes at most: a packed block stays in the L2 cache."""


@intrinsic
def call_product(
    typing_context, function, rows, columns, depth, a, a_row, a_k, b, b_k, b_column, bias,
    c, c_row, workspace, rank, team,
):  # fmt: skip
    """Call a compiled `product` through its address; the status of Numba's convention."""

    def codegen(context, builder, signature, arguments):
        return native_call(builder, arguments[0], arguments[1:])

    return types.int64(*[types.intp] * 16), codegen


def product(type_name: str) -> Any:
    """The function ``C = bias + A·B`` for one element type; see `multiply` inside."""
    size, width = ITEM_BYTES[type_name], TILE_VECTORS * lanes(type_name)
    one_vector = lanes(type_name)
    scalars = view(type_name, 1)
    copy_panel_row = copy_row(type_name, TILE_VECTORS)
    transpose = transpose_block(type_name)

    @inlined
    def copy_scalar(target, source):
        scalars(target, (1,))[0] = scalars(source, (1,))[0]

    def column_of_tiles(vectors: int, masked: bool) -> Any:
        """One panel from top to bottom, in the tallest tiles that fit."""
        tall, half, two, one = (tile(type_name, rows, vectors, masked) for rows in TILE_ROWS)
        tall_rows, half_rows, two_rows, _ = TILE_ROWS

        @kernel
        def multiply_panel(
            rows, columns, depth, a, a_row, a_k, b, b_k, initial, initial_row, c, c_row
        ):
            i = 0
            while i < rows:
                left = rows - i
                at_a, at_c = a + i * a_row, c + i * c_row
                at_initial = initial + i * initial_row
                if left >= tall_rows:
                    tall(depth, at_a, a_row, a_k, b, b_k, at_initial, initial_row, at_c, c_row,
                         columns)  # fmt: skip
                    i += tall_rows
                elif left >= half_rows:
                    half(depth, at_a, a_row, a_k, b, b_k, at_initial, initial_row, at_c, c_row,
                         columns)  # fmt: skip
                    i += half_rows
                elif left >= two_rows:
                    two(depth, at_a, a_row, a_k, b, b_k, at_initial, initial_row, at_c, c_row,
                        columns)  # fmt: skip
                    i += two_rows
                else:
                    one(depth, at_a, a_row, a_k, b, b_k, at_initial, initial_row, at_c, c_row,
                        columns)  # fmt: skip
                    i += 1

        return multiply_panel

    full = column_of_tiles(TILE_VECTORS, False)
    wide_rest = column_of_tiles(TILE_VECTORS, True)
    narrow_rest = column_of_tiles(1, True)

    @kernel
    def pack(target, depth, columns, b, b_k):
        """Rows of B, `columns` of each, one after the other, `width` apart."""
        for k in range(depth):
            if columns == width:
                copy_panel_row(target + k * width * size, b + k * b_k)
            else:
                for j in range(columns):
                    copy_scalar(target + (k * width + j) * size, b + k * b_k + j * size)

    @kernel
    def pack_transposed(target, depth, columns, b, b_column):
        """The same where B is stored by columns, `b_column` bytes apart."""
        j = 0
        while j < columns:
            k = 0
            if columns - j >= one_vector:
                while k + one_vector <= depth:
                    at = target + (k * width + j) * size
                    transpose(at, width * size, b + j * b_column + k * size, b_column)
                    k += one_vector
            last = min(j + one_vector, columns)
            while k < depth:
                for i in range(j, last):
                    copy_scalar(target + (k * width + i) * size, b + i * b_column + k * size)
                k += 1
            j = last

    @kernel
    def multiply(rows, columns, depth, a, a_row, a_k, b, b_k, b_column, bias, c, c_row, workspace):
        """C = bias + A·B for C of (rows, columns), summed over `depth`.

        Addresses, and strides in bytes. B is stored by rows (`b_column` the size of an element)
        or by columns (`b_k` the size of an element). `bias` is a row of C's width, or 0.
        """
        transposed = b_column != size
        passes = (depth + MAX_DEPTH - 1) // MAX_DEPTH
        step = (depth + passes - 1) // passes
        for j in range(0, columns, width):
            wide = min(width, columns - j)
            for k in range(0, depth, step):
                deep = min(step, depth - k)
                block, block_k = b + k * b_k + j * b_column, b_k
                if transposed:
                    pack_transposed(workspace, deep, wide, block, b_column)
                    block, block_k = workspace, width * size
                elif rows >= PACK_ROWS:
                    pack(workspace, deep, wide, block, b_k)
                    block, block_k = workspace, width * size
                at_c = c + j * size
                if k > 0:
                    initial, initial_row = at_c, c_row
                elif bias != 0:
                    initial, initial_row = bias + j * size, 0
                else:
                    initial, initial_row = 0, 0
                at_a = a + k * a_k
                if wide == width:
                    full(rows, wide, deep, at_a, a_row, a_k, block, block_k,
                         initial, initial_row, at_c, c_row)  # fmt: skip
                elif wide > one_vector:
                    wide_rest(rows, wide, deep, at_a, a_row, a_k, block, block_k,
                              initial, initial_row, at_c, c_row)  # fmt: skip
                else:
                    narrow_rest(rows, wide, deep, at_a, a_row, a_k, block, block_k,
                                initial, initial_row, at_c, c_row)  # fmt: skip

    @kernel
    def multiply_part(
        rows, columns, depth, a, a_row, a_k, b, b_k, b_column, bias, c, c_row, workspace,
        rank, team,
    ):  # fmt: skip
        """The part of the product that thread `rank` of `team` computes: columns, else rows."""
        panels = (columns + width - 1) // width
        if panels >= 2 * team or panels >= rows:
            first = panels * rank // team * width
            last = min(panels * (rank + 1) // team * width, columns)
            if first < last:
                at_bias = bias + first * size if bias != 0 else 0
                multiply(rows, last - first, depth, a, a_row, a_k, b + first * b_column, b_k,
                         b_column, at_bias, c + first * size, c_row, workspace)  # fmt: skip
        else:
            first, last = rows * rank // team, rows * (rank + 1) // team
            if first < last:
                multiply(last - first, columns, depth, a + first * a_row, a_row, a_k, b, b_k,
                         b_column, bias, c + first * c_row, c_row, workspace)  # fmt: skip

    return multiply_part
