"""Who has what of a row: the plan by which threads share rows of so many columns.

A row is taken by 1 to 32 lanes of a warp, one of more columns than these can keep by a block, and
one that is too wide for a block's registers, too, is read again each time it is gone through. Which
columns a thread has, and so the order of every sum, follows from the number of columns alone.

Threads have runs of neighbouring columns, as many as a wide load brings, where a row is a whole
number of such runs. Short rows of other lengths, such as the ten columns of a classifier, are a
thread's each, and pass through shared memory.
"""

from __future__ import annotations

from typing import NamedTuple

from fastnn.kernels.cuda.groups import WARP
from fastnn.kernels.cuda.launch import power_of_two
from fastnn.kernels.cuda.memory import lanes_of
from fastnn.kernels.signatures import ITEM_BYTES

MOST_KEPT = 128
"""Bytes of registers for what a thread keeps of a row: two such rows, and room to compute."""

BLOCK = 256
"""Threads of a block that takes one row."""

COALESCED = 8
"""Threads that read neighbouring runs: 32 or 128 bytes, a sector or a line of the cache."""

SHARE = 16
"""Columns to a thread, rather than more threads: fewer steps across these."""


class Plan(NamedTuple):
    """Who has what of a row.

    Parameters
    ----------
    threads : int
        Threads to a row: a power of 2 up to 32, or a block's.
    each : int
        Columns that each of them keeps in registers; 0 if none are kept.
    run : int
        Neighbouring columns that belong to one thread: the elements of a wide load, or 1.
    full : bool
        Whether a row fills what its threads keep.
    wide : bool
        Whether arrays begin on multiples of 16 bytes.
    """

    threads: int
    each: int
    run: int
    full: bool
    wide: bool

    @property
    def shared(self) -> bool:
        """Whether rows pass through shared memory."""
        return self.threads == self.run == 1 and self.each > 1

    @property
    def span(self) -> int:
        """Columns from a thread's run to its next."""
        return self.threads * self.run


def plan_for(type_name: str, columns: int, aligned: bool, keeps: bool = True) -> Plan:
    """The plan for rows of so many columns of arrays that begin on multiples of 16 bytes or not.

    `keeps`: whether a row is gone through more than once, and so is kept where it can be.
    """
    most = MOST_KEPT // ITEM_BYTES[type_name]
    run = lanes_of(type_name) if columns % lanes_of(type_name) == 0 else 1
    runs = max(1, columns // run)
    if run == 1 and columns <= SHARE:
        threads = 1
    elif columns > WARP * most:
        threads = BLOCK
    else:
        threads = power_of_two(max(-(-columns // SHARE), min(runs, COALESCED)), 1, WARP)
    each = -(-runs // threads) * run
    if each > most or not (keeps or threads == run == 1):
        each = 0
    return Plan(threads, each, run, columns == threads * each, aligned)
