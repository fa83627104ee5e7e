"""Matrix products of any shape, from tiles: C = initial + A·B, and what is done to C on the way.

B is cut into blocks that fit into the L2 cache. Where there are enough rows of A to repay it, or
where B is a transposed matrix, a block is first copied ("packed") into panels as wide as a tile,
each contiguous. Then all rows of A go past the block, as many at a time as a tile is high: these
few stay in the L1 cache while the block's panels pass by (Goto & van de Geijn 2008).

The row of tiles that is done so is still in a cache, and what comes next for its elements is done
there: a chain of functions (``finish``), such as an activation or an optimizer's update, each an
op's kernel that is given these rows instead of whole arrays.

No element's value depends on how the result was cut: each is one chain of FMAs in the order of k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastnn.kernels import state as s
from fastnn.kernels.cpu.memory import LINE, load_int64, native_call, prefetch, view
from fastnn.kernels.cpu.microkernel import (
    TILE_ROWS,
    TILE_VECTORS,
    copy_row,
    lanes,
    tile,
    transpose_block,
)
from fastnn.kernels.cpu.settings import VECTOR_BYTES, inlined, kernel
from fastnn.kernels.signatures import ITEM_BYTES

MAX_DEPTH = 512
"""Steps of k that one block of B takes at most."""

BLOCK_BYTES = 1 << 17
"""Bytes of a block of B: with what passes by, it stays in the L2 cache.

Measured on Zen 4 (1 MiB of L2): 784-512-512-10 with 1024 rows takes 2 % longer with twice as much,
64-100-10 with 200 rows 5 %.
"""

BLOCK_COLUMNS = 1024
"""Columns of a block at most: a row of tiles that is not kept has to fit into the workspace."""

COLUMN_GRAIN = 64
"""C is cut between columns at multiples of this: the groups of dropout, see ``random``."""


@intrinsic
def call_product(
    typing_context, function, rows, columns, depth, a, a_row, a_k, b, b_k, b_column, bias, sums,
    c, c_row, discard, pack, finish, workspace, state, rank, team,
):  # fmt: skip
    """Call a compiled `product` through its address; the status of Numba's convention."""

    def codegen(context, builder, signature, arguments):
        return native_call(builder, arguments[0], arguments[1:])

    return types.int64(*[types.intp] * 21), codegen


@intrinsic
def call_finish(
    typing_context, function, operands, state, result, result_row, start, length, rows, width
):
    """Call a compiled finishing function; see ``adapter.finish_source_of``."""

    def codegen(context, builder, signature, arguments):
        return native_call(builder, arguments[0], arguments[1:])

    return types.int64(*[types.intp] * 9), codegen


@inlined
def finish_rows(finish, state, result, result_row, start, length, rows, width):
    """Do to a row of tiles all that the chain of rows beginning at `finish` says."""
    while finish != 0:
        call_finish(load_int64(finish + 8 * s.CODE_ADDRESS), finish + 8 * s.CODE_OPERANDS, state,
                    result, result_row, start, length, rows, width)  # fmt: skip
        finish = load_int64(finish + 8 * s.CODE_NEXT)


def product(type_name: str) -> Any:
    """The function ``C = bias + A·B`` for one element type; see `multiply` inside."""
    size, one_vector = ITEM_BYTES[type_name], lanes(type_name)
    width = TILE_VECTORS * one_vector
    grain = max(width, COLUMN_GRAIN)
    # A register of half the width costs half the time only where a wide one is done in two halves.
    half_vector = one_vector // 2 if VECTOR_BYTES == 64 else 0
    ones_bytes = 64
    scratch_bytes = TILE_ROWS[0] * BLOCK_COLUMNS * size
    scalars = view(type_name, 1)
    real = getattr(np, type_name)
    copy_panel_row = copy_row(type_name, TILE_VECTORS)
    transpose = transpose_block(type_name)

    def row_of_tiles(height: int) -> Any:
        """Tiles of one height side by side: full ones, then vectors, the last of them masked."""
        full = tile(type_name, height, TILE_VECTORS, one_vector, False)
        narrow = tile(type_name, height, 1, one_vector, True)
        half = tile(type_name, height, 1, half_vector, True) if half_vector else narrow

        @kernel
        def multiply_rows(
            columns, depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
            ahead_of, state, start, c_width,
        ):  # fmt: skip
            j = 0
            while columns - j >= width:
                if ahead_of != 0:
                    if columns == c_width:  # the same elements, as one run of them
                        finish_rows(ahead_of, state, 0, 0, start + j * height, width * height, 1,
                                    c_width)  # fmt: skip
                    else:
                        finish_rows(ahead_of, state, 0, 0, start + j, width, height, c_width)
                full(depth, a, a_row, a_k, b, b_k, initial, initial_row, c, c_row, width)
                b += b_panel
                c += width * size
                if initial != 0:
                    initial += width * size
                j += width
            while j < columns:
                wide = min(one_vector, columns - j)
                if wide <= half_vector:
                    half(depth, a, a_row, a_k, b, b_k, initial, initial_row, c, c_row, wide)
                else:
                    narrow(depth, a, a_row, a_k, b, b_k, initial, initial_row, c, c_row, wide)
                b += one_vector * size
                c += one_vector * size
                if initial != 0:
                    initial += one_vector * size
                j += one_vector

        return multiply_rows

    tall_rows, half_rows, two_rows, _ = TILE_ROWS
    tall, half, two, one = (row_of_tiles(height) for height in TILE_ROWS)

    @kernel
    def copy_panel(target, depth, columns, b, b_k):
        """A panel of B, `columns` wide: its rows, one after the other, `width` apart."""
        for k in range(depth):
            copy_panel_row(target + k * width * size, b + k * b_k, columns)

    @kernel
    def transpose_panel(target, depth, columns, b, b_column):
        """The same of a B stored by columns, `b_column` bytes apart.

        Square blocks reach beyond `depth` and `columns`: less than a vector of rows after the
        packed panel is written to, and never read.
        """
        for j in range(0, columns, one_vector):
            for k in range(0, depth, one_vector):
                at = target + (k * width + j) * size
                transpose(at, width * size, b + j * b_column + k * size, b_column,
                          columns - j - 1, depth - k)  # fmt: skip

    @kernel
    def prefetch_block(b, depth, columns, b_k, b_column, done, rows, of):
        """Ask for the share of a block of B that falls to `rows` out of `of` rows of A."""
        if b_column == size:
            lines, stride, length = depth, b_k, columns * size
        else:
            lines, stride, length = columns, b_column, depth * size
        for line in range(lines * done // of, lines * min(done + rows, of) // of):
            at = b + line * stride
            for offset in range(0, length, LINE):
                prefetch(at + offset)

    @kernel
    def multiply(
        rows, columns, depth, a, a_row, a_k, b, b_k, b_column, bias, sums, c, c_row, discard,
        pack, finish, workspace, state, rank, team,
    ):  # fmt: skip
        """C = bias + A·B for C of (rows, columns), summed over `depth`: part `rank` of `team`.

        Addresses, and strides in bytes. B is stored by rows (`b_column` the size of an element)
        or by columns (`b_k` the size of an element); where `pack` is not 0, and always in the
        second case, its blocks are copied into panels first. `bias` is a row of C's width, or 0.
        `sums`, if not 0, is where the sums of B's columns go. Where `discard` is not 0, C serves
        for partial sums alone, and its rows are given to `finish` without being kept.
        """
        row, column = 0, 0
        if team > 1:  # of columns, if there are enough of them, else of rows
            panels = (columns + grain - 1) // grain
            if panels >= 2 * team or panels >= rows:
                column = panels * rank // team * grain
                columns = min(panels * (rank + 1) // team * grain, columns) - column
                b += column * b_column
                bias = bias + column * size if bias != 0 else 0
                sums = sums + column * size if sums != 0 else 0
            else:
                row = rows * rank // team
                rows = rows * (rank + 1) // team - row
                a += row * a_row
                sums = sums if row == 0 else 0
            c += row * c_row + column * size
            if rows <= 0 or columns <= 0:
                return
        transposed = b_column != size
        step = depth
        if depth > MAX_DEPTH:
            passes = (depth + MAX_DEPTH - 1) // MAX_DEPTH
            step = (depth + passes - 1) // passes
        block_columns = BLOCK_COLUMNS
        if step * BLOCK_COLUMNS * size > BLOCK_BYTES:
            block_columns = max(1, BLOCK_BYTES // (step * grain * size)) * grain
        scratch = workspace + ones_bytes
        packed, c_width = scratch + scratch_bytes, c_row // size
        scalars(workspace, (1,))[0] = real(1)
        for first in range(0, columns, block_columns):
            wide = min(block_columns, columns - first)
            for k in range(0, depth, step):
                deep = min(step, depth - k)
                block, block_k, block_panel = b + k * b_k + first * b_column, b_k, width * size
                if pack != 0:
                    for j in range(0, wide, width):
                        panel = packed + j * step * size
                        if transposed:
                            transpose_panel(panel, deep, min(width, wide - j),
                                            block + j * b_column, b_column)  # fmt: skip
                        else:
                            copy_panel(panel, deep, min(width, wide - j), block + j * size, b_k)
                    block, block_k, block_panel = packed, width * size, step * width * size
                last = k + deep == depth
                next_k, next_first = k + step, first
                if last:
                    next_k, next_first = 0, first + block_columns
                next_block = b + next_k * b_k + next_first * b_column
                next_deep = min(step, depth - next_k)
                next_wide = min(block_columns, columns - next_first)
                i = 0
                while i < rows:
                    left = rows - i
                    high = (
                        tall_rows if left >= tall_rows
                        else half_rows if left >= half_rows
                        else two_rows if left >= two_rows
                        else 1
                    )  # fmt: skip
                    at_a = a + k * a_k + i * a_row
                    at_c, at_c_row = c + i * c_row + first * size, c_row
                    initial, initial_row = 0, 0
                    if k > 0:
                        initial, initial_row = at_c, c_row
                    elif bias != 0:
                        initial = bias + first * size
                    if last and discard != 0:
                        at_c, at_c_row = scratch, wide * size
                    start = (row + i) * c_width + column + first
                    if next_wide > 0:
                        prefetch_block(next_block, next_deep, next_wide, b_k, b_column, i, high,
                                       rows)  # fmt: skip
                    # The optimizer's state is large, and far away: it is asked for a row of
                    # tiles ahead.
                    ahead_of = finish if last and discard != 0 and left > high else 0
                    ahead = start + high * c_width
                    if high == tall_rows:
                        tall(wide, deep, at_a, a_row, a_k, block, block_k, block_panel, initial,
                             initial_row, at_c, at_c_row, ahead_of, state, ahead,
                             c_width)  # fmt: skip
                    elif high == half_rows:
                        half(wide, deep, at_a, a_row, a_k, block, block_k, block_panel, initial,
                             initial_row, at_c, at_c_row, 0, state, ahead, c_width)  # fmt: skip
                    elif high == two_rows:
                        two(wide, deep, at_a, a_row, a_k, block, block_k, block_panel, initial,
                            initial_row, at_c, at_c_row, 0, state, ahead, c_width)  # fmt: skip
                    else:
                        one(wide, deep, at_a, a_row, a_k, block, block_k, block_panel, initial,
                            initial_row, at_c, at_c_row, 0, state, ahead, c_width)  # fmt: skip
                    if last and finish != 0:
                        finish_rows(finish, state, at_c, at_c_row, start, wide, high, c_width)
                    i += high
                if sums != 0:
                    at_sums = sums + first * size
                    one(wide, deep, workspace, 0, 0, block, block_k, block_panel,
                        at_sums if k > 0 else 0, 0, at_sums, 0, 0, state, 0, 0)  # fmt: skip

    return multiply
