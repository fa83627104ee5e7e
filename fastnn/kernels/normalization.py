"""What kernels and layers agree on where a batch's rows are normalised."""

import numpy as np

from fastnn.kernels.formula import formula

KEPT = 3
"""Numbers that are kept of a row: `mean`, `factor` and `sum` of ``x̂ = factor·(x − mean) + sum``."""

SLICES = 16
"""Most parts of a batch whose sums are taken apart, by whichever thread, and then added up."""

SLICE = 64
"""Fewest rows of one of them, where a batch is cut."""


@formula
def slices_of(rows):
    """Into how many parts of how many rows a batch is cut."""
    return min(SLICES, (rows + SLICE - 1) // SLICE)


@formula
def moved(average, value, momentum):
    """``momentum·average + (1 − momentum)·value``, in float64."""
    old = np.float64(average)
    return old + (1.0 - momentum) * (np.float64(value) - old)
