"""The matrix product of every dense op: C = A·B in tiles, from shared memory into registers.

A block computes a tile of C, of which each thread keeps a smaller one in registers. Both factors
come in slices along the depth, laid out in shared memory depth first, so that a thread
reads what it needs of them 16 bytes at a time; while one slice is multiplied, the next is on its
way from global memory into registers. The depth is gone through in order by one thread for each
element of C, or in parts by some, or by some blocks, whose sums are added up in order: results'
bits follow from the shape alone.

Predicted, not measured, for float32 and the largest tile: a step along the depth is 64
multiply-adds among 77 instructions, of which 4 load 16 bytes each, and a slice of 8 steps takes 68
more: 75 % of what a processor can multiply, if others of its 16 warps go on where one waits.

Blocks share the depth where C has few tiles and the depth is a batch's rows. Predicted, not
measured, for the gradient of a kernel (64, 64) over 16,384 rows in float32: 128 blocks of 128 rows,
of each 524,288 multiply-adds at half of 128 a cycle, 8,200 cycles or 4.7 µs at 1.755 GHz; then 2 MB
of partial sums, of which a block reads 16 tiles of 16 KB, and one 8 more, at 100 GB/s in 4 µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numba import types

from fastnn.kernels.cuda.memory import anew, copy_wide, given, lanes_of, untold
from fastnn.kernels.cuda.shared_sums import gather_tile
from fastnn.kernels.cuda.target import cuda, device, unrolled
from fastnn.kernels.signatures import ITEM_BYTES


class Tile(NamedTuple):
    """A block's rows and columns of C, the depth of a slice, and a thread's rows and columns.

    `groups` of threads take a part of the depth each.
    """

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    groups: int = 1

    @property
    def group(self) -> int:
        """Threads of a group."""
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.group * self.groups


TILES = (
    Tile(128, 128, 8, 8, 8),
    Tile(64, 64, 16, 4, 4),
    Tile(32, 32, 8, 4, 4),
    Tile(32, 32, 8, 4, 4, groups=8),
)
"""From the fastest tile on large matrices to those with the most threads on small ones."""

DEEP = 128
"""From this depth on, products of few blocks are summed up by groups of threads."""

ENOUGH_BLOCKS = 132
"""A larger tile is taken only if it leaves every processor of an H200 a block."""

LEAST_DEPTH = 128
"""The depth of a block's part at least, where blocks share it."""


def is_wide(type_name: str, aligned: bool, *lengths: int) -> bool:
    """Whether rows of these lengths all begin on multiples of 16 bytes, where the arrays do."""
    return aligned and all(length % lanes_of(type_name) == 0 for length in lengths)


def tiles_of(type_name: str) -> tuple[Tile, ...]:
    """Those of `TILES` whose results a thread has registers for."""
    item = ITEM_BYTES[type_name]
    return tuple(t for t in TILES if item * t.thread_rows * t.thread_columns <= MOST_TOTALS)


MOST_TOTALS = 256
"""Bytes of registers for the elements of C that a thread computes."""


class Shape(Protocol):
    """What the choice of a tile depends on: a block's rows and columns of C."""

    @property
    def rows(self) -> int: ...

    @property
    def columns(self) -> int: ...


def tile_for(
    tiles: Sequence[Shape], rows: int, columns: int, depth: int, in_parts: bool = False
) -> int:
    """The place of the tile for a product of so many rows and columns.

    The last of `tiles` is for deep products of few blocks, the one before for the others. None is
    taken half of which would do. `in_parts`: blocks may share the depth.
    """
    last = len(tiles) - (1 if depth >= DEEP else 2)
    for place, tile in enumerate(tiles[:last]):
        is_full = tile.rows < 2 * rows and tile.columns < 2 * columns
        blocks = blocks_of(tile, rows, columns)
        if in_parts:
            blocks *= parts_of(blocks, depth)
        if is_full and blocks >= ENOUGH_BLOCKS:
            return place
    return last


def blocks_of(tile: Shape, rows: int, columns: int) -> int:
    """Tiles that C has."""
    return max(1, -(-rows // tile.rows)) * max(1, -(-columns // tile.columns))


def parts_of(blocks: int, depth: int) -> int:
    """Parts of the depth, by so many blocks each, that leave every processor some blocks."""
    return max(1, min(depth // LEAST_DEPTH, 2 * ENOUGH_BLOCKS // blocks))


def place_of_block(tile: Shape, in_parts: bool) -> Any:
    """The function ``place(rows, columns)``: what the calling block has of a product.

    It returns the tile's number and its first row and column, which may lie beyond the last, the
    block's part of the depth and into how many this is cut: one, unless `in_parts`. Tiles lie below
    each other first.
    """
    tile_rows, tile_columns = tile.rows, tile.columns

    @device
    def place(rows, columns):
        block, blocks = np.uint32(cuda.blockIdx.x), np.uint32(cuda.gridDim.x)
        down = np.uint32((rows + tile_rows - 1) // tile_rows)
        across = np.uint32((columns + tile_columns - 1) // tile_columns)
        # Every division is one of 32 bits without a sign: of others a GPU makes 100 instructions.
        below, beside = np.uint32(block % down), np.uint32(block // down)
        column, part = np.int64(beside), np.int64(0)
        parts = np.int64(1)
        if in_parts:
            column, part = np.int64(beside % across), np.int64(beside // across)
            parts = np.int64(np.uint32(blocks // down) // across)
        row = np.int64(below)
        return column * np.int64(down) + row, row * tile_rows, column * tile_columns, part, parts

    return place


def _staging(type_name: str, tile: Tile, wide: bool, extent: int, depth_runs: bool) -> Any:
    """How a slice of a factor comes into shared memory: the functions ``fetch`` and ``put``.

    The factor has `extent` rows or columns in a tile. `depth_runs`: neighbours in memory are
    neighbours along the depth, else along the rows or columns.
    """
    real, lanes = getattr(np, type_name), lanes_of(type_name)
    each, threads, slice_depth = share_of(tile, extent), tile.group, tile.depth
    zero = real(0)

    run = lanes if wide else 1

    @device
    def place(thread, piece):
        """Row or column, and depth, in the slice of a thread's `piece`-th run of neighbours."""
        first = (thread + piece * threads) * run
        if depth_runs:
            return first // slice_depth, first % slice_depth
        return first % extent, first // extent

    @device
    def fetch(thread, held, source, begin, begin_depth, length, depth):
        """Read a thread's share of the slice at `begin`, `begin_depth`; 0 beyond the edges."""
        for piece in range(each // run):
            along, deep = place(thread, piece)
            along, deep = begin + along, begin_depth + deep
            if along < length and deep < depth:
                at = along * depth + deep if depth_runs else deep * length + along
                if wide:
                    copy_wide(held, piece * lanes, source, at)
                else:
                    held[piece] = source[at]
            else:
                for lane in range(run):
                    held[piece * run + lane] = zero

    @device
    def put(thread, shared, base, held):
        """Write it to shared memory from element `base` on."""
        for piece in range(each // run):
            along, deep = place(thread, piece)
            if wide and not depth_runs:
                copy_wide(shared, base + deep * extent + along, held, piece * lanes)
            else:
                for lane in range(run):
                    shared[base + (deep + lane) * extent + along] = held[piece * run + lane]

    return fetch, put


def share_of(tile: Tile, extent: int) -> int:
    """Elements of a slice that each thread brings."""
    return extent * tile.depth // tile.group


def shared_size(tile: Tile) -> int:
    """Elements of shared memory for a slice of both factors, and for the sums of one group."""
    slices = tile.groups * (tile.rows + tile.columns) * tile.depth
    own = (tile.thread_rows * tile.thread_columns + 1) * tile.group
    return slices + (own if tile.groups > 1 else 0)


def writer(type_name: str, wide: bool, finish: Any) -> Any:
    """``write(totals, begin, c, row, column, columns, first, second, numbers)``.

    It writes what `finish` makes of neighbours in a row of C, as many as a wide load brings: of
    `totals`, a thread's own, from `begin` on. The parameters are those of `product`.
    """
    item, lanes = getattr(types, type_name), lanes_of(type_name)

    @device
    def write(totals, begin, c, row, column, columns, first, second, numbers):
        at = row * columns + column
        if wide:
            results = cuda.local.array(lanes, item, alignment=16)
            if column < columns:
                for j in range(lanes):
                    total = totals[begin + j]
                    results[j] = finish(total, row, column + j, columns, first, second, numbers)
                copy_wide(c, at, results, 0)
        else:
            for j in range(lanes):
                if column + j < columns:
                    total = totals[begin + j]
                    c[at + j] = finish(total, row, column + j, columns, first, second, numbers)

    return write


def product(
    type_name: str,
    tile: Tile,
    wide: bool,
    depth_runs_in_a: bool,
    depth_runs_in_b: bool,
    finish: Any,
    in_parts: bool = False,
    any_blocks: bool = False,
) -> Any:
    """The function ``multiply(c, a, b, rows, columns, depth, sums, first, second, numbers, ...)``.

    Its last parameters are ``staged``, ``state`` and ``workspace``, see below.

    That function overwrites `c`, (rows, columns) as a flat array, with ``finish(A·B)``; A is
    (rows, depth) and B (depth, columns), flat, and each may lie transposed.

    Parameters
    ----------
    wide : bool
        Whether A, B and C begin on multiples of 16 bytes, and so does each row of theirs.
    depth_runs_in_a, depth_runs_in_b : bool
        Whether neighbours in memory are neighbours along the depth: of A they are where it lies as
        it is, of B where it lies transposed.
    finish : device function
        ``finish(value, row, column, columns, first, second, numbers)``: what is written.
    in_parts : bool
        Whether blocks may share the depth, as many as there are tiles of C for each part of it;
        then `state` and `workspace` are what `shared_sums` asks for. And the sums of B's columns
        are written to `sums` (columns,), if that is given.
    any_blocks : bool
        Whether a grid of any number of blocks, along x, goes over the tiles, in the shared memory
        `staged`, at least `shared_size` long, and none shares the depth; else each tile and part
        has a block and memory of its own.
    """
    real, item, lanes = getattr(np, type_name), getattr(types, type_name), lanes_of(type_name)
    tile_rows, tile_columns, slice_depth, thread_rows, thread_columns, groups = tile
    threads = tile.group
    fetch_a, put_a = _staging(type_name, tile, wide, tile_rows, depth_runs_in_a)
    fetch_b, put_b = _staging(type_name, tile, wide, tile_columns, depth_runs_in_b)
    each_a, each_b = share_of(tile, tile_rows), share_of(tile, tile_columns)
    size_a, size_b = tile_rows * slice_depth, tile_columns * slice_depth
    begin_b, begin_others = groups * size_a, groups * (size_a + size_b)
    size = shared_size(tile)
    count, across = thread_rows * thread_columns, tile_columns // thread_columns
    # A thread's rows come in groups of neighbours, spread over the tile: so the threads of a warp
    # read neighbouring words of shared memory.
    row_groups, column_groups = thread_rows // lanes, thread_columns // lanes
    row_step, column_step = tile_rows // row_groups, tile_columns // column_groups
    zero, write = real(0), writer(type_name, wide, finish)
    place_of, gather = place_of_block(tile, in_parts), gather_tile(type_name, count, threads)
    is_shared = in_parts and not any_blocks

    @device
    def write_row(i, totals, c, rows, columns, row_begin, column_begin, first, second, numbers):
        """Write what the thread has of the i-th of its rows."""
        row = row_begin + i // lanes * row_step + i % lanes
        if row >= rows:
            return
        for g in range(column_groups):
            begin, column = i * thread_columns + g * lanes, column_begin + g * column_step
            write(totals, begin, c, row, column, columns, first, second, numbers)

    write_rows = unrolled(write_row, thread_rows)

    @device
    def add_up(group, thread, totals, sum_of_column, shared):
        """Add what the groups have to what the first has, in their order."""
        own = begin_others + thread
        for each in range(1, groups):
            cuda.syncthreads()
            if group == each:
                for i in range(count):
                    shared[own + i * threads] = totals[i]
                shared[own + count * threads] = sum_of_column
            cuda.syncthreads()
            if group == 0:
                for i in range(count):
                    totals[i] += shared[own + i * threads]
                sum_of_column += shared[own + count * threads]
        return sum_of_column

    @device
    def multiply_tile(row_begin, column_begin, part, parts, c, a, b, rows, columns, depth, sums,
                      first, second, numbers, shared, own, state, workspace):  # fmt: skip
        held_a = cuda.local.array(each_a, item, alignment=16)
        held_b = cuda.local.array(each_b, item, alignment=16)
        of_a = cuda.local.array(thread_rows, item, alignment=16)
        of_b = cuda.local.array(thread_columns, item, alignment=16)
        totals = cuda.local.array(count, item, alignment=16)
        for i in range(count):
            totals[i] = zero
        sum_of_column = zero
        group, thread = own // threads, own % threads
        base_a, base_b = group * size_a, begin_b + group * size_b
        # Every group goes through as many slices, the last ones of which may lie beyond the depth.
        slices, shares = (depth + slice_depth - 1) // slice_depth, parts * groups
        stretch = (slices + shares - 1) // shares * slice_depth
        first_depth = (part * groups + group) * stretch
        row_place, column_place = thread // across * lanes, thread % across * lanes
        summing = in_parts and given(sums) and row_begin == 0 and thread < tile_columns
        fetch_a(thread, held_a, a, row_begin, first_depth, rows, depth)
        fetch_b(thread, held_b, b, column_begin, first_depth, columns, depth)
        for begin in range(0, stretch, slice_depth):
            cuda.syncthreads()
            put_a(thread, shared, base_a, held_a)
            put_b(thread, shared, base_b, held_b)
            cuda.syncthreads()
            ahead = begin + slice_depth
            if ahead < stretch:
                fetch_a(thread, held_a, a, row_begin, first_depth + ahead, rows, depth)
                fetch_b(thread, held_b, b, column_begin, first_depth + ahead, columns, depth)
            if summing:
                for k in range(slice_depth):
                    sum_of_column += shared[base_b + k * tile_columns + thread]
            at_a, at_b = base_a + row_place, base_b + column_place
            for _ in range(slice_depth):
                for g in range(row_groups):
                    copy_wide(of_a, g * lanes, shared, at_a + g * row_step)
                for g in range(column_groups):
                    copy_wide(of_b, g * lanes, shared, at_b + g * column_step)
                for i in range(thread_rows):
                    for j in range(thread_columns):
                        totals[i * thread_columns + j] += of_a[i] * of_b[j]
                at_a, at_b = at_a + tile_rows, at_b + tile_columns
        if groups > 1:
            sum_of_column = add_up(group, thread, totals, sum_of_column, shared)
        if is_shared:
            # Found anew, so that it takes no registers while the factors are gone through.
            number, row_begin, column_begin, part, parts = place_of(untold(rows), columns)
            if parts > 1:
                sum_of_column, is_last = gather(totals, sum_of_column, group == 0, thread, number,
                                                part, parts, state, workspace)  # fmt: skip
                if not is_last:
                    return
        if group > 0:
            return
        if summing and column_begin + thread < columns:
            sums[column_begin + thread] = sum_of_column
        write_rows(totals, c, rows, columns, row_begin + row_place, column_begin + column_place,
                   first, second, numbers)  # fmt: skip

    @device
    def multiply_own(c, a, b, rows, columns, depth, sums, first, second, numbers, staged, state,
                     workspace):  # fmt: skip
        _, row_begin, column_begin, part, parts = place_of(rows, columns)
        if row_begin >= rows or column_begin >= columns:
            return
        shared = cuda.shared.array(size, item, alignment=16)
        multiply_tile(row_begin, column_begin, part, parts, c, a, b, rows, columns, depth, sums,
                      first, second, numbers, shared, cuda.threadIdx.x, state,
                      workspace)  # fmt: skip

    @device
    def multiply_all(c, a, b, rows, columns, depth, sums, first, second, numbers, staged, state,
                     workspace):  # fmt: skip
        across = (columns + tile_columns - 1) // tile_columns
        tiles = (rows + tile_rows - 1) // tile_rows * across
        for place in range(cuda.blockIdx.x, tiles, cuda.gridDim.x):
            row_begin, column_begin = place // across * tile_rows, place % across * tile_columns
            multiply_tile(row_begin, column_begin, 0, 1, c, a, b, rows, columns, depth, sums,
                          first, second, numbers, staged, anew(cuda.threadIdx.x), state,
                          workspace)  # fmt: skip

    return multiply_all if any_blocks else multiply_own
