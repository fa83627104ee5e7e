"""Benchmarks: fastnn beside its peers (``compare``) and beside its own past (``bench_*``, for asv).

``page`` and ``dashboard`` show what was kept of them.

Importing any module here imports no framework, because asv imports them all.
"""

from pathlib import Path

RESULTS = Path(__file__).parent / "results"
"""Where figures are kept."""
