"""What kernels and layers agree on where a batch's rows are normalised."""

from __future__ import annotations

KEPT = 3
"""Numbers that are kept of a row: `mean`, `factor` and `sum` of ``x̂ = factor·(x − mean) + sum``."""

SLICES = 16
"""Most parts of a batch whose sums are taken apart, by whichever thread, and then added up."""
