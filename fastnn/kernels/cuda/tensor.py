"""The matrix product of every dense op on tensor cores: operands rounded, sums in float32.

Operands and results are float32 in memory. On their way to the tensor cores the operands are
rounded to tf32 (11 bits of mantissa, the exponent of float32) or to bfloat16 (8 bits), so weights
need no second copy in another type. It has its price in traffic: a product reads 4 bytes of an
operand's element where a copy in bfloat16 would take 2. Layers whose time goes to activations and
to the optimizer, whose weights are float32 either way, lose little by it. A tile of 128 by 128 does
32 operations for each byte that comes from the L2 cache, where copies in bfloat16 would allow 64:
by calculation this cache and not the tensor cores sets the pace of large products.

A block computes a tile of C, each warp a part, in 16-by-8 blocks. Both factors come in slices along
the depth. For tf32 they are copied to shared memory as they are, past the registers and two slices
ahead, and rounded where a warp takes its fragments. For bfloat16 they pass through registers one
slice ahead, are rounded there once, and take half the room in shared memory. The depth is gone
through in order, or in parts by groups of warps, whose sums are added up in order: results are the
same bits for any grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastnn.kernels.bits import bits_from_float32, float32_from_bits
from fastnn.kernels.cuda.groups import ALL, WARP
from fastnn.kernels.cuda.memory import copy_wide, given, lanes_of, load_wide, untold
from fastnn.kernels.cuda.product import place_of_block, writer
from fastnn.kernels.cuda.ptx import (
    commit_copies,
    copy_async,
    load_matrices,
    load_transposed,
    multiply_bf16,
    multiply_tf32,
    pack_bf16,
    round_tf32,
    wait_for_copies,
)
from fastnn.kernels.cuda.shared_sums import gather_tile
from fastnn.kernels.cuda.target import cuda, device, unrolled

CHUNK = 4
"""Words of shared memory that are moved as one: 16 bytes."""

BANK_CHUNKS = 8
"""Chunks that shared memory gives at once, if they lie in different banks."""

RUN = lanes_of("float32")
"""Elements of a wide load."""


class Tile(NamedTuple):
    """A block's rows and columns of C, a slice's chunks along the depth, and the warps of a block.

    `down` times `across` warps share the tile; `groups` of so many take a part of the depth each.
    """

    rows: int
    columns: int
    chunks: int
    down: int
    across: int
    groups: int = 1

    @property
    def group(self) -> int:
        """Threads of a group."""
        return WARP * self.down * self.across

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.group * self.groups


class Precision(NamedTuple):
    """What operands are rounded to.

    Parameters
    ----------
    packed : int
        Elements of a word.
    multiply : device function
        The instruction that multiplies two fragments: two chunks deep.
    stages : int
        Slices that there is room for in shared memory.
    tiles : tuple of Tile
        From the fastest on large matrices to those with the most threads on small ones.
    """

    packed: int
    multiply: Any
    stages: int
    tiles: tuple[Tile, ...]

    @property
    def run(self) -> int:
        """Elements of a chunk."""
        return CHUNK * self.packed


_SMALL_TILES = (Tile(64, 64, 4, 2, 2), Tile(32, 32, 4, 1, 2), Tile(32, 32, 4, 1, 2, groups=4))

ROUNDED = {
    "tf32": Precision(1, multiply_tf32, 3, (Tile(128, 128, 4, 2, 4), *_SMALL_TILES)),
    "bf16": Precision(2, multiply_bf16, 2, (Tile(128, 128, 2, 2, 4), *_SMALL_TILES)),
}
"""Precisions by name."""


class Layout:
    """How a slice of a factor lies in shared memory: in lines, whose chunks are swapped about.

    Parameters
    ----------
    precision : Precision
    tile : Tile
    extent : int
        Rows or columns of the factor in the tile.
    depth_runs : bool
        Whether a line goes along the depth, else along the rows or columns: as in global memory.

    Attributes
    ----------
    run, chunks : int
        Elements of a chunk, and chunks of a line.
    words : int
        Of a slice.
    pieces : int
        Chunks that each thread brings, all from the same place in a line.
    lines_apart, words_apart : int
        From one of these to the next.
    index : device function
        ``index(line, chunk)``: the chunk's first word.
    place : device function
        ``place(thread)``: line and chunk of a thread's first piece.
    """

    def __init__(self, precision: Precision, tile: Tile, extent: int, depth_runs: bool) -> None:
        lines, chunks = extent, tile.chunks
        if not depth_runs:
            lines, chunks = tile.chunks * precision.run, extent // precision.run
        # Whichever eight chunks a warp reads at once, one of eight lines each or, word by word, two
        # of four, are to lie in different banks.
        one_by_one = not depth_runs and precision.packed == 1
        turn, swapped = 2 if one_by_one else 1, min(chunks, BANK_CHUNKS)
        lines_of_banks = BANK_CHUNKS // swapped

        @device
        def index(line, chunk):
            return (line * chunks + (chunk ^ turn * line // lines_of_banks % swapped)) * CHUNK

        @device
        def place(thread):
            return thread // chunks, thread % chunks

        self.run, self.chunks, self.index, self.place = precision.run, chunks, index, place
        self.words, self.pieces = lines * chunks * CHUNK, lines * chunks // tile.group
        self.lines_apart, self.words_apart = tile.group // chunks, tile.group * CHUNK


class Staging(NamedTuple):
    """How a slice of a factor comes into shared memory; all are device functions.

    Parameters
    ----------
    start : device function
        ``start(thread, held, shared, base, source, line, along, lines, length)`` begins to bring a
        thread's share of the slice at a line of the factor and a place along it. There are `lines`
        of this length in all; beyond the edges it brings zeros.
    land : device function
        ``land(thread, held, shared, base)``, once that has come: has it lie in shared memory.
    add : device function
        ``add(thread, held, shared, base, sums)`` adds its elements to those of their columns.
    held : int
        Elements that `start` keeps in registers until `land`.
    """

    start: Any
    land: Any
    add: Any
    held: int


def _copied(layout: Layout, wide: bool) -> Staging:
    """Past the registers, as it is."""
    index, place, pieces = layout.index, layout.place, layout.pieces
    lines_apart, words_apart = layout.lines_apart, layout.words_apart
    count = CHUNK if wide else 1
    copy = copy_async(count)

    @device
    def start(thread, held, shared, base, source, line, along, lines, length):
        own_line, own_chunk = place(thread)
        to = base + index(own_line, own_chunk)
        line, along = line + own_line, along + own_chunk * CHUNK
        first = line * length + along
        for piece in range(pieces):
            for offset in range(0, CHUNK, count):
                inside = line + piece * lines_apart < lines and along + offset < length
                at = first + piece * lines_apart * length + offset
                copy(shared, to + piece * words_apart + offset, source, at, inside)

    @device
    def land(thread, held, shared, base):
        pass

    @device
    def add(thread, held, shared, base, sums):
        own_line, own_chunk = place(thread)
        at = base + index(own_line, own_chunk)
        for piece in range(pieces):
            words = load_wide(shared, at + piece * words_apart)
            for lane in range(CHUNK):
                sums[lane] += float32_from_bits(words[lane])

    return Staging(start, land, add, 1)


def _packed(layout: Layout, wide: bool) -> Staging:
    """Through registers, where two elements become a word."""
    index, place, pieces, run = layout.index, layout.place, layout.pieces, layout.run
    lines_apart, words_apart = layout.lines_apart, layout.words_apart
    count, zero = RUN if wide else 1, np.float32(0)

    @device
    def start(thread, held, shared, base, source, line, along, lines, length):
        own_line, own_chunk = place(thread)
        line, along = line + own_line, along + own_chunk * run
        first = line * length + along
        for piece in range(pieces):
            for offset in range(0, run, count):
                at, to = first + piece * lines_apart * length + offset, piece * run + offset
                inside = line + piece * lines_apart < lines and along + offset < length
                if inside and wide:
                    copy_wide(held, to, source, at)
                else:
                    for lane in range(count):
                        held[to + lane] = source[at] if inside else zero

    @device
    def land(thread, held, shared, base):
        words = cuda.local.array(CHUNK, types.int32, alignment=16)
        own_line, own_chunk = place(thread)
        to = base + index(own_line, own_chunk)
        for piece in range(pieces):
            for word in range(CHUNK):
                first = piece * run + 2 * word
                words[word] = pack_bf16(held[first], held[first + 1])
            copy_wide(shared, to + piece * words_apart, words, 0)

    @device
    def add(thread, held, shared, base, sums):
        for piece in range(pieces):
            for lane in range(run):
                sums[lane] += held[piece * run + lane]

    return Staging(start, land, add, pieces * run)


class Fragments(NamedTuple):
    """How a warp takes its fragments of a factor, 16 rows or columns at a time; device functions.

    Parameters
    ----------
    first : device function
        ``first(lane, begin)``: where in a slice the words are that a lane reads of the rows or
        columns from `begin` on.
    load : device function
        ``load(shared, at, block, step)``: fragments of the block-th 16 of these, two chunks deep;
        `at`: what `first` gave, from the slice's beginning. Two words are of the first chunk, two
        of the second; the first of each two is of the first eight rows or columns.
    """

    first: Any
    load: Any


@device
def word(shared, index):
    """A word: of an unsigned index it is not asked whether it counts from the array's end."""
    return shared[np.uint64(index)]


# A lane's words of one block and step have their place from those of another by turning over bits
# and adding, both by constants: so each takes one instruction, and no register from slice to slice.


def fragments_of(layout: Layout, precision: Precision, depth_runs: bool) -> Fragments:
    """How a warp takes its fragments of a factor that lies so."""
    index, lines = layout.index, 2 * precision.run
    width = layout.chunks * CHUNK

    @device
    def first_along(lane, begin):
        return index(begin + lane % 16, lane // 16)

    @device
    def along_lines(shared, at, block, step):
        return load_matrices(shared, (at ^ 2 * step * CHUNK) + 16 * block * width)

    @device
    def first_across(lane, begin):
        return index(lane // 16 * 8 + lane % 8, begin // 8 + lane // 8 % 2)

    @device
    def across_lines(shared, at, block, step):
        return load_transposed(shared, (at ^ 2 * block * CHUNK) + step * lines * width)

    @device
    def first_word(lane, begin):
        return index(lane % 4, begin // 4 + lane // 16) + lane // 4 % 4

    @device
    def by_word(shared, at, block, step):
        upper, lower, deep = at ^ 16 * block, at ^ 16 * block + 8, step * lines * width
        return (
            word(shared, upper + deep),
            word(shared, lower + deep),
            word(shared, upper + deep + 4 * width),
            word(shared, lower + deep + 4 * width),
        )

    if precision.packed == 2:
        if depth_runs:
            return Fragments(first_along, along_lines)
        return Fragments(first_across, across_lines)
    first, of_words = (first_along, along_lines) if depth_runs else (first_word, by_word)

    @device
    def rounded(shared, at, block, step):
        p, q, r, s = of_words(shared, at, block, step)
        return round_tf32(p), round_tf32(q), round_tf32(r), round_tf32(s)

    return Fragments(first, rounded)


@device
def _nothing():
    pass


def product(
    precision: Precision,
    tile: Tile,
    wide: bool,
    depth_runs_in_a: bool,
    depth_runs_in_b: bool,
    finish: Any,
    in_parts: bool = False,
) -> Callable[..., Any]:
    """The function that `fastnn.kernels.cuda.product.product` describes, on tensor cores.

    The sums of B's columns, which may not lie transposed then, are of numbers not rounded.
    """
    real, zero = types.float32, np.float32(0)
    tile_rows, tile_columns, slice_chunks, down, across, groups = tile
    threads, stages = tile.group, precision.stages
    ahead, slice_depth = stages - 1, slice_chunks * precision.run
    layout_a = Layout(precision, tile, tile_rows, depth_runs_in_a)
    layout_b = Layout(precision, tile, tile_columns, depth_runs_in_b)
    is_copied = precision.packed == 1
    staging = _copied if is_copied else _packed
    bring_a, land_a, _, count_a = staging(layout_a, wide)
    bring_b, land_b, add_b, count_b = staging(layout_b, wide)
    commit = commit_copies if is_copied else _nothing
    arrive = wait_for_copies(ahead - 1) if is_copied else _nothing
    first_a, fragments_a = fragments_of(layout_a, precision, depth_runs_in_a)
    first_b, fragments_b = fragments_of(layout_b, precision, depth_runs_in_b)
    multiply_blocks = precision.multiply
    size_a, size_of_both = layout_a.words, layout_a.words + layout_b.words
    shared_size = stages * groups * size_of_both
    warp_rows, warp_columns = tile_rows // down, tile_columns // across
    down_blocks, across_pairs = warp_rows // 16, warp_columns // 16
    across_blocks, count = 2 * across_pairs, 8 * down_blocks * across_pairs
    count_of_a = 4 * down_blocks
    run, chunks = precision.run, layout_b.chunks
    lines_at_once = threads * groups // chunks
    write = writer("float32", wide, finish)
    place_of_tile, gather = place_of_block(tile, in_parts), gather_tile("float32", count, threads)

    @device
    def place_of(thread):
        """A thread's lane, and the first row and column in the tile of its warp."""
        warp = thread // WARP
        return thread % WARP, warp // across * warp_rows, warp % across * warp_columns

    @device
    def start(thread, held_a, held_b, shared, base, a, b, row, column, deep, rows, columns, depth):
        """Begin to bring a thread's share of a slice of both factors."""
        if depth_runs_in_a:
            bring_a(thread, held_a, shared, base, a, row, deep, rows, depth)
        else:
            bring_a(thread, held_a, shared, base, a, deep, row, depth, rows)
        if depth_runs_in_b:
            bring_b(thread, held_b, shared, base + size_a, b, column, deep, columns, depth)
        else:
            bring_b(thread, held_b, shared, base + size_a, b, deep, column, depth, columns)

    @device
    def multiply_step(step, shared, at_a, at_b, of_a, totals):
        """Add the product of what is two chunks deep of a slice."""
        for i in range(down_blocks):
            words = fragments_a(shared, at_a, i, step)
            for k in range(4):
                of_a[4 * i + k] = words[k]
        for pair in range(across_pairs):
            words = fragments_b(shared, at_b, pair, step)
            for side in range(2):
                for i in range(down_blocks):
                    a, c = 4 * i, 4 * (i * across_blocks + 2 * pair + side)
                    totals[c], totals[c + 1], totals[c + 2], totals[c + 3] = multiply_blocks(
                        of_a[a], of_a[a + 1], of_a[a + 2], of_a[a + 3],
                        words[side], words[side + 2],
                        totals[c], totals[c + 1], totals[c + 2], totals[c + 3],
                    )  # fmt: skip

    multiply_slice = unrolled(multiply_step, slice_chunks // 2)

    @device
    def write_block(i, lane, totals, c, rows, columns, row, column, first, second, numbers):
        """Write the warp's i-th blocks of C downwards, each thread four neighbours of a row.

        A thread has two neighbours of a row and two of the eighth below; pairs of threads swap.
        """
        values = cuda.local.array(RUN, real, alignment=16)
        is_odd = lane % 2 == 1
        row += 16 * i + lane // 4 + (8 if is_odd else 0)
        column += lane % 4 // 2 * RUN
        for j in range(across_blocks):
            t = 4 * (i * across_blocks + j)
            # Read before they are chosen from: an index that is chosen would be one to memory.
            u, v, w, x = totals[t], totals[t + 1], totals[t + 2], totals[t + 3]
            p = cuda.shfl_xor_sync(ALL, u if is_odd else w, 1)
            q = cuda.shfl_xor_sync(ALL, v if is_odd else x, 1)
            values[0], values[1] = (p, q) if is_odd else (u, v)
            values[2], values[3] = (w, x) if is_odd else (p, q)
            if row < rows:
                write(values, 0, c, row, column + 8 * j, columns, first, second, numbers)

    write_blocks = unrolled(write_block, down_blocks)

    @device
    def sum_of_column(sums_of_columns, shared):
        """The sum of the tile's column with the thread's number, where there is such a column.

        Each thread of the block has a part of some columns' sums.
        """
        thread = cuda.threadIdx.x
        for lane in range(run):
            at = thread // chunks * tile_columns + thread % chunks * run + lane
            shared[at] = bits_from_float32(sums_of_columns[lane])
        cuda.syncthreads()
        total = zero
        if thread < tile_columns:
            for line in range(lines_at_once):
                total += float32_from_bits(shared[line * tile_columns + thread])
        cuda.syncthreads()
        return total

    @device
    def add_up(group, thread, totals, shared):
        """Add what the groups have to what the first has, in their order."""
        if group > 0:
            for i in range(count):
                shared[((group - 1) * count + i) * threads + thread] = bits_from_float32(totals[i])
        cuda.syncthreads()
        if group == 0:
            for other in range(groups - 1):
                for i in range(count):
                    word = shared[(other * count + i) * threads + thread]
                    totals[i] += float32_from_bits(word)

    @device
    def multiply(c, a, b, rows, columns, depth, sums, first, second, numbers, staged, state,
                 workspace):  # fmt: skip
        number, row_begin, column_begin, part, parts = place_of_tile(rows, columns)
        if row_begin >= rows or column_begin >= columns:
            return
        shared = cuda.shared.array(shared_size, types.int32, alignment=16)
        held_a = cuda.local.array(count_a, real, alignment=16)
        held_b = cuda.local.array(count_b, real, alignment=16)
        of_a = cuda.local.array(count_of_a, types.int32)
        totals = cuda.local.array(count, real)
        sums_of_columns = cuda.local.array(run, real)
        for i in range(count):
            totals[i] = zero
        for lane in range(run):
            sums_of_columns[lane] = zero
        group, thread = cuda.threadIdx.x // threads, cuda.threadIdx.x % threads
        lane, warp_row, warp_column = place_of(thread)
        at_a, at_b = first_a(lane, warp_row), size_a + first_b(lane, warp_column)
        # Every group goes through as many slices, the last ones of which may lie beyond the depth.
        shares = parts * groups
        slices = ((depth + slice_depth - 1) // slice_depth + shares - 1) // shares
        first_depth = (part * groups + group) * slices * slice_depth
        summing = in_parts and given(sums) and row_begin == 0
        for i in range(ahead):
            if i < slices:
                base, deep = (i * groups + group) * size_of_both, first_depth + i * slice_depth
                start(thread, held_a, held_b, shared, base, a, b, row_begin, column_begin, deep,
                      rows, columns, depth)  # fmt: skip
            commit()
        stage, free_stage = 0, stages - 1
        for i in range(slices):
            base = (stage * groups + group) * size_of_both
            arrive()
            land_a(thread, held_a, shared, base)
            land_b(thread, held_b, shared, base + size_a)
            if summing:
                add_b(thread, held_b, shared, base + size_a, sums_of_columns)
            cuda.syncthreads()
            if i + ahead < slices:
                free = (free_stage * groups + group) * size_of_both
                deep = first_depth + (i + ahead) * slice_depth
                start(thread, held_a, held_b, shared, free, a, b, row_begin, column_begin, deep,
                      rows, columns, depth)  # fmt: skip
            commit()
            multiply_slice(shared, base + at_a, base + at_b, of_a, totals)
            free_stage = stage
            stage = stage + 1 if stage < stages - 1 else 0
        cuda.syncthreads()
        total = sum_of_column(sums_of_columns, shared) if summing else zero
        if groups > 1:
            add_up(group, thread, totals, shared)
        # Found anew, so that it takes no registers while the factors are gone through.
        if in_parts:
            number, _, _, part, parts = place_of_tile(untold(rows), columns)
        if in_parts and parts > 1:
            total, is_last = gather(totals, total, group == 0, thread, number, part, parts, state,
                                    workspace)  # fmt: skip
            if not is_last:
                return
        if group > 0:
            return
        if summing and thread < tile_columns and column_begin + thread < columns:
            sums[column_begin + thread] = total
        lane, warp_row, warp_column = place_of(untold(cuda.threadIdx.x) % threads)
        write_blocks(lane, totals, c, rows, columns, row_begin + warp_row,
                     column_begin + warp_column, first, second, numbers)  # fmt: skip

    return multiply
