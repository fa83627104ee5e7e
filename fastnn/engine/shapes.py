"""Which way of doing a thing is the faster one, by shape: a table, measured.

``python -m benchmarks.shapes`` measures it anew, and with ``--write`` puts what it finds here. The
figures below lie between those of several runs on Zen 4 and on Sapphire Rapids (2 cores, AVX-512):
narrow factors take the same time packed or not from 192 rows to 724. The bits of a result depend on
none of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastnn.kernels import state as s

PACK_ROWS = {
    "dense_forward": 512,
    "dense_backward_kernel": 313,
    "dense_forward, wide": 55,
    "dense_backward_kernel, wide": 110,
}
"""Rows of the product from which its second factor is copied into panels first."""

WIDE_BYTES = 4096
"""A factor with rows of so many bytes is wide: its columns meet in few places of a cache."""

UPDATE_BYTES = 3_145_728
"""Bytes of a kernel, its gradient and its optimizer state from which the update is the gradient's
finish: then they come from beyond the L2 cache."""

TEAM_UPDATE_BYTES = 16_777_216
"""The same where a team of threads trains. Its updates beside each other are fast as long as a
cache holds them (784-512-512-10 with 128 rows: 2.31 ms apart, 2.70 with the products;
1024-2048-2048-1000 with 256: 65.6 and 54.9 ms; Sapphire Rapids, 2 cores)."""

UPDATE_ROWS = 512
"""Rows of a batch up to which it is: of more, a product's partial sums go through memory anyway
(measured on 784-512-512-10 with 1024 rows: 5 % longer with, 8 % shorter on 128 rows)."""

TEAM_COST = 300_000
"""A step estimated to take less than this, in nanoseconds of one core, runs on one thread."""


ROUNDED_PRODUCTS = 80_000
"""Products N·I·O of a dense layer up to which the ops called ``_rounded`` are faster than to copy
arrays into float64 and the results back (a layer by hand, forward and back, least of 41 times on
Sapphire Rapids: 300 rows through 2-64 in 44 µs with them, 74 without; through 64-3 in 49 and 76;
128 rows through 64-10 in 56 and 59; 100 rows through 32-32 in 69 and 51)."""


def rounds(rows: int, inputs: int, outputs: int) -> bool:
    """Whether a dense layer by hand takes these ops, whose tables fit into the workspace."""
    products, table_bytes = rows * inputs * outputs, 8 * inputs * outputs
    return products <= ROUNDED_PRODUCTS and 2 * table_bytes <= s.WORKSPACE_BYTES


def packs(op: str, lengths: Mapping[str, int | None], rows: int, item_bytes: int) -> bool:
    """Whether the product of a dense layer's `op`, for batches of `rows` rows, packs."""
    of_result = lengths["I"] if op == "dense_backward_kernel" else lengths["N"]
    wide = (lengths["O"] or 0) * item_bytes >= WIDE_BYTES
    return (rows if of_result is None else of_result) >= PACK_ROWS[f"{op}, wide" if wide else op]
