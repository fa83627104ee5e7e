"""Lines of memory that are asked for ahead of their use, spread over a product's own work.

A core can wait for some sixteen cache lines at a time. Asked for at once, a thousand would hold it
up for as long as they take; so they are put on a list first, and the tiles of a product ask for
them one by one while they multiply (see ``microkernel.tile``). The list's first word is its length.
"""

from __future__ import annotations

from fastnn.kernels.cpu.memory import LINE, view
from fastnn.kernels.cpu.microkernel import RATE_BITS, UNROLLED
from fastnn.kernels.cpu.settings import inlined

CAPACITY = 2048
"""Lines that a list takes; what is too much is not asked for."""

MOST_TILES = 264
"""Tiles that share a list, at most: 1024 columns of two vectors of two elements, and a few more.
Rounding up what falls to each may take one place more than a list has for each of them."""

LIST_BYTES = 8 * (8 + CAPACITY + 2 * MOST_TILES)

_integers = view("int64", 1)


@inlined
def clear(asked):
    """Begin the list at address `asked` anew."""
    _integers(asked, (1,))[0] = 0


@inlined
def add(asked, at, lines, step):
    """Put `lines` lines on the list: that at address `at`, and others `step` bytes apart."""
    length = _integers(asked, (1,))[0]
    lines = min(lines, CAPACITY - length)
    places = _integers(asked + 8 * (1 + length), (lines,))
    for i in range(places.size):
        places[i] = at + i * step
    _integers(asked, (1,))[0] = length + lines


@inlined
def add_run(asked, at, size):
    """Put the lines of `size` bytes from address `at` on onto the list."""
    begin = at & -LINE
    add(asked, begin, (at + size - begin + LINE - 1) // LINE, LINE)


@inlined
def add_rows(asked, at, rows, size, step):
    """The same of `rows` runs, `step` bytes apart."""
    for r in range(rows):
        add_run(asked, at + r * step, size)


@inlined
def spread(asked, tiles, own):
    """Lines of the list for each of `tiles` tiles, an even number; what each may read is valid.

    `own` is an address that costs nothing to ask for.
    """
    length = _integers(asked, (1,))[0]
    each = (length + 2 * tiles - 1) // (2 * tiles) * 2
    padding = _integers(asked + 8 * (1 + length), (each * tiles - length + 1,))
    for i in range(padding.size):
        padding[i] = own
    return each


@inlined
def pace_of(each, depth):
    """How a tile of `depth` steps asks for `each` lines, two in a turn: see ``microkernel.tile``.

    So many bytes further than a line stands the one that is asked for with it; and so many places
    further, as a fixed-point number, the one of the next turn.
    """
    turns = depth // UNROLLED
    if each == 0 or turns == 0:
        return 0, 0
    return 4 * each, (each << (RATE_BITS - 1)) // turns
