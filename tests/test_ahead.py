"""Lists of lines to be asked for: every line once, none outside, none beyond the list's end."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.engine import arena, cpu
from fastnn.kernels import state as s
from fastnn.kernels.cpu import ahead, gemm
from fastnn.kernels.cpu.memory import LINE
from fastnn.kernels.cpu.microkernel import RATE_BITS, TILE_VECTORS, UNROLLED
from fastnn.kernels.cpu.settings import kernel
from helpers import from_python

clear, add_rows, spread, pace_of = ahead.clear, ahead.add_rows, ahead.spread, ahead.pace_of


@from_python
@kernel
def list_rows(asked, at, rows, size, step):
    clear(asked)
    add_rows(asked, at, rows, size, step)


@from_python
@kernel
def spread_over(asked, tiles, own):
    return spread(asked, tiles, own)


@from_python
@kernel
def apart(each, depth):
    return pace_of(each, depth)[0]


@from_python
@kernel
def rate(each, depth):
    return pace_of(each, depth)[1]


def new_list() -> np.ndarray:
    """A list with a guard behind it."""
    return np.full(ahead.LIST_BYTES // 8 + 8, -1)


@pytest.mark.parametrize(("rows", "size", "step"), [(1, 1, 0), (3, 64, 512), (8, 400, 1024)])
def test_a_list_holds_every_line_of_its_rows(rows: int, size: int, step: int) -> None:
    for begin in (1 << 20, (1 << 20) + 4, (1 << 20) + 60):
        asked = new_list()
        list_rows(asked.ctypes.data, begin, rows, size, step)
        lines = asked[1 : 1 + asked[0]]
        assert not (lines % LINE).any()
        touched = {(begin + r * step + b) // LINE for r in range(rows) for b in range(size)}
        assert sorted(lines // LINE) == sorted(touched)


def test_a_full_list_takes_no_more() -> None:
    asked = new_list()
    list_rows(asked.ctypes.data, 0, 100, 100 * LINE, 1 << 20)
    assert asked[0] == ahead.CAPACITY
    assert (asked[ahead.LIST_BYTES // 8 :] == -1).all()
    # As many as a product has, where a vector is two numbers, as where it is sixteen.
    for vector in (2, 4, 8, 16):
        most = gemm.BLOCK_COLUMNS // (TILE_VECTORS * vector) + 1
        assert most <= ahead.MOST_TILES
        each = spread_over(asked.ctypes.data, most, 4096)
        assert each * most >= ahead.CAPACITY
        assert (asked[ahead.LIST_BYTES // 8 :] == -1).all()


@pytest.mark.parametrize("lines", [0, 1, 7, 33, 500])
@pytest.mark.parametrize("tiles", [1, 2, 5, 33])
def test_tiles_read_the_whole_list_and_nothing_that_is_not_on_it(lines: int, tiles: int) -> None:
    asked, own = new_list(), 12345
    list_rows(asked.ctypes.data, 1 << 20, lines, LINE, LINE)
    each = spread_over(asked.ctypes.data, tiles, own)
    for depth in (1, 20, 512):
        turns = depth // UNROLLED
        places = np.arange(turns) * rate(each, depth) >> RATE_BITS
        places = np.concatenate([places, places + apart(each, depth) // 8])
        read = {int(asked[1 + tile * each + place]) for tile in range(tiles) for place in places}
        assert -1 not in read
        expected = {(1 << 20) + LINE * line for line in range(lines)}
        assert read <= expected | {own}
        if each <= 2 * turns:
            # A rate rounded down may leave out the last line of each half of a tile's.
            assert len(expected - read) <= 2 * tiles


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_blocks_of_memory_begin_at_different_places_of_a_page(size: int) -> None:
    blocks, others = [], []
    for other in range(4):
        blocks.append(arena.allocate(size))
        others.append(np.zeros(1000 + 4 * other * size))  # memory that begins anywhere
    places = [block.ctypes.data % 4096 for block in blocks]
    assert all(place % arena.ALIGNMENT == 0 for place in places)
    gaps = [min((a - b) % 4096, (b - a) % 4096) for a in places for b in places if a is not b]
    assert len(set(places)) == 4
    assert min(gaps) >= 512


def test_a_products_blocks_fit_into_the_workspace() -> None:
    size = cpu.block_bytes()
    assert size & (size - 1) == 0
    assert cpu.LEAST_BLOCK_BYTES <= size <= s.MOST_BLOCK_BYTES
