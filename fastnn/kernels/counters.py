"""Where random words stand: Philox's constants, and which counter and word an element takes.

Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox 4x32-10 is
a bijection of a 128-bit counter under a 64-bit key, four 32-bit words of each counter.
"""

import numpy as np

from fastnn.kernels.formula import formula

MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
ROUNDS, LOW = 10, 0xFFFFFFFF

BLOCK = 16
"""Neighbouring columns that take the same word of neighbouring counters."""
GROUP = 4 * BLOCK
"""Columns that one run of `BLOCK` counters serves."""


@formula
def first_block(row, column, width):
    """The number of the first counter of a row of `width` columns from `column` on."""
    return (row * ((width + GROUP - 1) // GROUP) + column // GROUP) * BLOCK


@formula
def limit_of(rate):
    """The least word for which an element is kept."""
    return np.int64(rate * 4294967296.0)
