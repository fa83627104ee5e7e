"""Matrix products of any shape, from tiles: C = initial + A·B, and what is done to C on the way.

B is cut into blocks that fit into the L2 cache. Where there are enough rows of A to repay it, or
where B is a transposed matrix, a block is first copied ("packed") into panels as wide as a tile,
each contiguous. Then all rows of A go past the block, as many at a time as a tile is high: these
few stay in the L1 cache while the block's panels pass by (Goto & van de Geijn 2008). Of a
transposed A, in which their neighbours in k lie rows apart, they are packed as well.

What the next tiles will need, and the core has not got, is asked for meanwhile (``ahead``).

The row of tiles that is done so is still in a cache, and what comes next for its elements is done
there: a chain of functions (``finish``), such as an activation or an optimizer's update, each an
op's kernel that is given these rows instead of whole arrays.

No element's value depends on how the result was cut: each is one chain of FMAs in the order of k.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastnn.kernels import state as s
from fastnn.kernels.cpu.ahead import LIST_BYTES, add, add_rows, clear, pace_of, spread
from fastnn.kernels.cpu.memory import LINE, load_int64, native_call, view
from fastnn.kernels.cpu.microkernel import (
    LAST_VECTORS,
    LONG_VECTORS,
    SLIM_ROWS,
    TILE_ROWS,
    TILE_VECTORS,
    copy_row,
    lanes,
    tile,
    transpose_block,
)
from fastnn.kernels.cpu.settings import DOUBLE_PUMPED, inlined, kernel
from fastnn.kernels.signatures import ITEM_BYTES

MAX_DEPTH = 512
"""Steps of k that one block of B takes at most."""

BLOCK_COLUMNS = 1024
"""Columns of a block at most: a row of tiles that is not kept has to fit into the workspace."""

PACK_A = 1 << 15
"""A transposed A is packed for a block of B of so many elements or more.

Measured on Sapphire Rapids: the gradients of 784-512-512-10's kernels take 10 % less time with it
at 128 rows, 20 % at 1024; that of 64-100-10's at 200 rows 7 % more.
"""

COLUMN_GRAIN = 64
"""C is cut between columns at multiples of this: the groups of dropout, see ``philox``."""


@intrinsic
def call_product(
    typing_context, function, rows, columns, depth, a, a_row, a_k, b, b_k, b_column, bias, sums,
    c, c_row, relu, gate, discard, pack, supply, finish, workspace, state, rank, team,
):  # fmt: skip
    """Call a compiled `product` through its address; the status of Numba's convention."""

    def codegen(context, builder, signature, arguments):
        return native_call(builder, arguments[0], arguments[1:])

    return types.int64(*[types.intp] * 24), codegen


@intrinsic
def call_finish(
    typing_context, function, operands, state, result, result_row, start, length, rows, width
):
    """Call a compiled finishing function; see ``adapter.finish_source_of``."""

    def codegen(context, builder, signature, arguments):
        return native_call(builder, arguments[0], arguments[1:])

    return types.int64(*[types.intp] * 9), codegen


@intrinsic
def call_supply(typing_context, function, operands, state, asked, start, rows):
    """Call a compiled supplying function; see ``adapter.supply_source_of``."""

    def codegen(context, builder, signature, arguments):
        return native_call(builder, arguments[0], arguments[1:])

    return types.int64(*[types.intp] * 6), codegen


@inlined
def supply_rows(supply, state, asked, start, rows):
    """Make some rows of the first factor, or with a list `asked` put on it what that will read."""
    call_supply(load_int64(supply + 8 * s.CODE_ADDRESS), supply + 8 * s.CODE_OPERANDS, state, asked,
                start, rows)  # fmt: skip


@inlined
def finish_rows(finish, state, result, result_row, start, length, rows, width):
    """Do to a row of tiles all that the chain of rows beginning at `finish` says."""
    while finish != 0:
        call_finish(load_int64(finish + 8 * s.CODE_ADDRESS), finish + 8 * s.CODE_OPERANDS, state,
                    result, result_row, start, length, rows, width)  # fmt: skip
        finish = load_int64(finish + 8 * s.CODE_NEXT)


A_LANES = 1 << (TILE_ROWS[0] - 1).bit_length()
"""Numbers in a row of a packed A, of which a tile takes as many as it is high."""


class Places(NamedTuple):
    """Where things stand in a thread's workspace, in bytes after its start, where a 1 stands."""

    asked: int
    scratch: int
    packed_a: int
    packed: int


def panels_at_once(type_name: str) -> int:
    """Panels that a transposed A is packed into together: a cache line has numbers for as many."""
    return max(1, LINE // (A_LANES * ITEM_BYTES[type_name]))


def places_of(type_name: str) -> Places:
    """The places of a product of one element type. The last one is free where it packs no B."""
    size = ITEM_BYTES[type_name]
    asked = LINE
    scratch = asked + LIST_BYTES
    packed_a = scratch + TILE_ROWS[0] * BLOCK_COLUMNS * size
    packed = packed_a + MAX_DEPTH * A_LANES * size * panels_at_once(type_name)
    return Places(asked, scratch, packed_a, packed)


def product(type_name: str) -> Any:
    """The function ``C = bias + A·B`` for one element type; see `multiply` inside."""
    size, one_vector = ITEM_BYTES[type_name], lanes(type_name)
    width = TILE_VECTORS * one_vector
    grain = max(width, COLUMN_GRAIN)
    tall_rows, half_rows, two_rows, _ = TILE_ROWS
    a_width, a_rows = A_LANES * size, panels_at_once(type_name) * tall_rows
    at_list, at_scratch, at_packed_a, at_packed = places_of(type_name)
    scalars, integers = view(type_name, 1), view("int64", 1)
    real = getattr(np, type_name)
    copy_panel_row, copy_a_row = copy_row(type_name, TILE_VECTORS), copy_row(type_name, 1, A_LANES)
    transpose = transpose_block(type_name)

    @inlined
    def asking_tiles(columns):
        """How many of a row of tiles ask for lines: those that are whole, or else the only one."""
        return max(1, columns // width)

    def row_of_tiles(height: int, form: str = "any") -> Any:
        """Tiles of one height side by side: full ones, then what is left, masked."""

        def of(vectors: int, masked: bool, vector_lanes: int = one_vector) -> Any:
            return tile(type_name, height, vectors, vector_lanes, masked, form)

        full, narrow = of(TILE_VECTORS, False), of(1, True)
        # What one height alone has takes the place of another tile at the others, never called.
        long_width = LONG_VECTORS * one_vector if height == 1 else 0
        long = of(LONG_VECTORS, True) if height == 1 else full
        last_width = LAST_VECTORS * one_vector if height == tall_rows else 0
        last = of(LAST_VECTORS, True) if last_width else full
        pair = of(TILE_VECTORS, True) if height == tall_rows else full
        pair_width = one_vector if height == tall_rows else width
        half_width = one_vector // 2 if DOUBLE_PUMPED and height == tall_rows else 0
        half = of(1, True, half_width) if half_width else narrow

        @kernel
        def multiply_rows(
            columns, depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
            relu, gate, asked, each,
        ):  # fmt: skip
            apart, rate = pace_of(each, depth)
            asking = asking_tiles(columns)
            while columns > 0:
                if long_width > 0 and columns > 2 * width:
                    done, panels = min(long_width, columns), LONG_VECTORS // TILE_VECTORS
                    long(depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
                         done, relu, gate, asked, apart, rate)  # fmt: skip
                elif width < columns <= last_width and columns > width + half_width:
                    done, panels = columns, 1
                    last(depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
                         done, relu, gate, asked, apart, rate)  # fmt: skip
                elif columns >= width:
                    done, panels = width, 1
                    full(depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
                         done, relu, gate, asked, apart, rate)  # fmt: skip
                elif columns > pair_width + half_width:
                    done, panels = columns, 1
                    pair(depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
                         done, relu, gate, asked, apart, rate)  # fmt: skip
                elif columns > half_width:
                    done, panels = min(one_vector, columns), 0
                    narrow(depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
                           done, relu, gate, asked, apart, rate)  # fmt: skip
                    b += one_vector * size
                else:
                    done, panels = columns, 0
                    half(depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
                         done, relu, gate, asked, apart, rate)  # fmt: skip
                b += panels * b_panel
                c += done * size
                if initial != 0:
                    initial += done * size
                asked += 8 * each
                asking -= 1
                if asking == 0:
                    each, apart, rate = 0, 0, 0
                columns -= done

        return multiply_rows

    def slim_tile(form: str) -> Any:
        """The same of a C that is no wider than a vector."""
        narrow = tile(type_name, SLIM_ROWS, 1, one_vector, True, form)

        @kernel
        def multiply_rows(
            columns, depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
            relu, gate, asked, each,
        ):  # fmt: skip
            apart, rate = pace_of(each, depth)
            narrow(depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row, columns,
                   relu, gate, asked, apart, rate)  # fmt: skip

        return multiply_rows

    def either(by_rows: Any, by_columns: Any) -> Any:
        """One of two, for an A whose rows' numbers are neighbours, or its columns'."""

        @kernel
        def multiply_rows(
            columns, depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row, c, c_row,
            relu, gate, asked, each,
        ):  # fmt: skip
            if a_row == size:
                by_columns(columns, depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row,
                           c, c_row, relu, gate, asked, each)  # fmt: skip
            else:
                by_rows(columns, depth, a, a_row, a_k, b, b_k, b_panel, initial, initial_row,
                        c, c_row, relu, gate, asked, each)  # fmt: skip

        return multiply_rows

    slim = either(slim_tile("any"), slim_tile("columns"))
    tall = either(row_of_tiles(tall_rows, "rows"), row_of_tiles(tall_rows, "columns"))
    half, two, one = (row_of_tiles(height) for height in TILE_ROWS[1:])

    @kernel
    def copy_panel(target, depth, columns, b, b_k):
        """A panel of B, `columns` wide: its rows, one after the other, `width` apart."""
        for k in range(depth):
            copy_panel_row(target + k * width * size, b + k * b_k, columns)

    @kernel
    def copy_a_panels(target, depth, rows, a, a_k):
        """Up to `a_rows` rows of an A stored by columns: for each tile, its columns in turn."""
        for r in range(0, rows, tall_rows):
            for k in range(depth):
                copy_a_row(target + k * a_width, a + r * size + k * a_k, min(tall_rows, rows - r))
            target += depth * a_width

    @kernel
    def transpose_panel(target, depth, columns, b, b_column):
        """A panel of a B stored by columns, `b_column` bytes apart.

        Square blocks reach beyond `depth` and `columns`: less than a vector of rows after the
        packed panel is written to, and never read.
        """
        for j in range(0, columns, one_vector):
            for k in range(0, depth, one_vector):
                at = target + (k * width + j) * size
                transpose(at, width * size, b + j * b_column + k * size, b_column,
                          columns - j - 1, depth - k)  # fmt: skip

    @kernel
    def add_block(asked, b, depth, columns, b_k, b_column, done, rows, of):
        """Put on the list the share of a block of B that falls to `rows` out of `of` rows of A."""
        if b_column == size:
            lines, stride, length = depth, b_k, columns * size
        else:
            lines, stride, length = columns, b_column, depth * size
        first, last = lines * done // of, lines * min(done + rows, of) // of
        add_rows(asked, b + first * stride, last - first, length, stride)

    @kernel
    def multiply(
        rows, columns, depth, a, a_row, a_k, b, b_k, b_column, bias, sums, c, c_row, relu, gate,
        discard, pack, supply, finish, workspace, state, rank, team,
    ):  # fmt: skip
        """C = bias + A·B for C of (rows, columns), summed over `depth`: part `rank` of `team`.

        Addresses, and strides in bytes. B is stored by rows (`b_column` the size of an element)
        or by columns (`b_k` the size of an element); where `pack` is not 0, and always in the
        second case, its blocks are copied into panels first. `bias` is a row of C's width, or 0.
        `sums`, if not 0, is where the sums of B's columns go, of a B stored by rows. Where `relu`
        is not 0, C is max(C, 0); where `gate`, the address of a matrix like C, is not 0, C is 0
        where its element is 0 or less. Where `discard` is not 0, C serves for partial sums alone,
        and its rows are given to `finish` without being kept. Where `supply` is not 0, it makes the
        rows of A, a few before they are needed for the first time.
        """
        row, column = 0, 0
        if gate != 0:
            gate -= c  # so far apart are an element of C and its own
        transposed_a = a_row == size and a_k != size
        if team > 1:  # of columns, if there are enough of them, else of rows
            panels = (columns + grain - 1) // grain
            # A transposed A is packed by every thread that has rows of it (least times of two
            # threads on 784-512-512-10 with 128 and 1024 rows, cut so: 15 and 5 to 11 % less).
            by_rows = transposed_a and rows >= max(columns, grain * team)
            if (panels >= 2 * team and not by_rows) or panels >= rows:
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
        step = depth
        if depth > MAX_DEPTH:
            passes = (depth + MAX_DEPTH - 1) // MAX_DEPTH
            step = (depth + passes - 1) // passes
        block_columns = BLOCK_COLUMNS
        block_bytes = integers(state, (s.SLOTS,))[s.BLOCK_BYTES]
        if step * BLOCK_COLUMNS * size > block_bytes:
            block_columns = max(1, block_bytes // (step * grain * size)) * grain
        asked, c_width = workspace + at_list, c_row // size
        scratch, packed_a, packed = (
            workspace + at_scratch, workspace + at_packed_a, workspace + at_packed
        )  # fmt: skip
        scalars(workspace, (1,))[0] = real(1)
        for first in range(0, columns, block_columns):
            wide = min(block_columns, columns - first)
            for k in range(0, depth, step):
                deep = min(step, depth - k)
                plain = b + k * b_k + first * b_column
                block, block_k, block_panel = plain, b_k, width * size
                if pack != 0:
                    for j in range(0, wide, width):
                        panel = packed + j * step * size
                        if b_column != size:
                            transpose_panel(panel, deep, min(width, wide - j),
                                            plain + j * b_column, b_column)  # fmt: skip
                        else:
                            copy_panel(panel, deep, min(width, wide - j), plain + j * size, b_k)
                    block, block_k, block_panel = packed, width * size, step * width * size
                pack_a = transposed_a and wide > one_vector and deep * wide >= PACK_A
                last = k + deep == depth
                discards = last and discard != 0
                next_k, next_first = k + step, first
                if last:
                    next_k, next_first = 0, first + block_columns
                next_block = b + next_k * b_k + next_first * b_column
                next_deep = min(step, depth - next_k)
                next_wide = min(block_columns, columns - next_first)
                tiles = asking_tiles(wide)
                supplies = supply != 0 and first == 0 and k == 0
                asks = next_wide > 0 or pack_a or discards or supplies
                clear(asked)
                each = spread(asked, tiles, plain)
                i = 0
                while i < rows:
                    left = rows - i
                    high = (
                        SLIM_ROWS if left >= SLIM_ROWS and wide <= one_vector
                        else tall_rows if left >= tall_rows
                        else half_rows if left >= half_rows
                        else two_rows if left >= two_rows
                        else 1
                    )  # fmt: skip
                    if supplies:
                        supply_rows(supply, state, 0, row + i, high)
                    at_a = a + k * a_k + i * a_row
                    from_a, from_row, from_k, slot = at_a, a_row, a_k, 0
                    if pack_a:
                        slot = i % a_rows
                        if slot == 0:
                            copy_a_panels(packed_a, deep, min(a_rows, left), at_a, a_k)
                        panel_of_a = packed_a + slot // tall_rows * deep * a_width
                        from_a, from_row = panel_of_a + slot % tall_rows * size, size
                        from_k = a_width
                    at_c, at_c_row = c + i * c_row + first * size, c_row
                    initial, initial_row = 0, 0
                    if k > 0:
                        initial, initial_row = at_c, c_row
                    elif bias != 0:
                        initial = bias + first * size
                    if discards:
                        at_c, at_c_row = scratch, wide * size
                    start = (row + i) * c_width + column + first
                    if asks:
                        clear(asked)
                        if discards and left > high:
                            ahead = start + high * c_width
                            if wide == c_width:  # the same elements, as one run of them
                                finish_rows(finish, state, 0, asked, ahead, wide * high, 1,
                                            c_width)  # fmt: skip
                            else:
                                finish_rows(finish, state, 0, asked, ahead, wide, high, c_width)
                        if supplies and left > high:
                            following = row + i + high
                            supply_rows(supply, state, asked, following, min(high, left - high))
                        if pack_a and slot + high == a_rows and left > high:
                            add(asked, at_a + high * a_row, deep, a_k)
                        if next_wide > 0:
                            add_block(asked, next_block, next_deep, next_wide, b_k, b_column, i,
                                      high, rows)  # fmt: skip
                        each = spread(asked, tiles, at_a)
                    to_relu, to_gate = (relu, gate) if last else (0, 0)
                    if high == SLIM_ROWS:
                        slim(wide, deep, from_a, from_row, from_k, block, block_k, block_panel,
                             initial, initial_row, at_c, at_c_row, to_relu, to_gate, asked + 8,
                             each)  # fmt: skip
                    elif high == tall_rows:
                        tall(wide, deep, from_a, from_row, from_k, block, block_k, block_panel,
                             initial, initial_row, at_c, at_c_row, to_relu, to_gate, asked + 8,
                             each)  # fmt: skip
                    elif high == half_rows:
                        half(wide, deep, from_a, from_row, from_k, block, block_k, block_panel,
                             initial, initial_row, at_c, at_c_row, to_relu, to_gate, asked + 8,
                             each)  # fmt: skip
                    elif high == two_rows:
                        two(wide, deep, from_a, from_row, from_k, block, block_k, block_panel,
                            initial, initial_row, at_c, at_c_row, to_relu, to_gate, asked + 8,
                            each)  # fmt: skip
                    else:
                        one(wide, deep, from_a, from_row, from_k, block, block_k, block_panel,
                            initial, initial_row, at_c, at_c_row, to_relu, to_gate, asked + 8,
                            each)  # fmt: skip
                    if last and finish != 0:
                        finish_rows(finish, state, at_c, at_c_row, start, wide, high, c_width)
                    i += high
                if sums != 0:
                    at_sums = sums + first * size
                    one(wide, deep, workspace, 0, 0, plain, b_k, width * size,
                        at_sums if k > 0 else 0, 0, at_sums, 0, 0, 0, asked + 8, 0)  # fmt: skip

    return multiply
