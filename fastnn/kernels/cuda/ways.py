"""Which steps of training many are done of in one launch, or one in two: the table of thresholds.

Nothing of it is measured yet. It rests on these predictions for an H200 at 1.8 GHz, with which a
measurement is to be compared:

- one block multiplies and adds 60 pairs a cycle, as many as its warps load, 108 a nanosecond, and
  meets 30 times at barriers for some 5 µs a step;
- blocks on all 132 processors do 64 each a cycle, 15,000 a nanosecond, and meet 8 to 10 times a
  step for 1.3 µs each: two round trips to the L2, and a queue of 132 at one word;
- a graph takes some 2.5 µs for each of 15 or more kernels, which wait for each other;
- two kernels on tensor cores take 8 µs for 16,384 rows of 64, 64, 64 and 10 units, see `narrow`,
  beside those of the optimizer.

One block then takes less time than a grid up to 1,000,000 multiply-adds, and a grid less than a
graph wherever its parameters and activations fit in the L2, as those of up to 256 units and 1,024
rows do. Two kernels take less than a graph where every other processor has a tile of 64 rows at
least, and weights and a tile fit in shared memory. Products that are cuBLASLt's, see
`blas.LEAST_LENGTH`, are so before all others: it multiplies faster than tiles of any kernel here,
by what a graph takes longer.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Limits(NamedTuple):
    """The largest steps that are done so.

    Parameters
    ----------
    rows : int
        Of a batch.
    inputs : int
        Of the first dense layer.
    width : int
        Inputs of the others, and outputs of all.
    multiply_adds : float
        Of all products of a step.
    """

    rows: int
    inputs: int
    width: int
    multiply_adds: float = math.inf


ONE_BLOCK = Limits(rows=128, inputs=784, width=64, multiply_adds=1 << 20)
"""Of one block: its rows have a thread each, its matrices fit in shared memory."""

GRID = Limits(rows=1024, inputs=1024, width=256)
"""Of a grid whose blocks run at once."""


class Narrow(NamedTuple):
    """Steps that two kernels do.

    Parameters
    ----------
    least_rows : int
        Of a batch.
    width : int
        Inputs and outputs of all dense layers, at most.
    """

    least_rows: int
    width: int


NARROW = Narrow(least_rows=4096, width=128)
"""Of two kernels on tensor cores, rounded for them."""
