"""The dense layer over sparse rows: y = x·w + b and its gradients, at the cost of what x holds.

Rows of x are in compressed form (CSR): row r holds ``values[k]`` in columns ``columns[k]`` for k
from ``starts[r]`` up to, not with, ``starts[r + 1]``; a column that comes twice counts twice. The
batch's rows are ``order[first + i]``, or without `order` ``first + i``.

`zero` is 0, said when the program is linked: a loop that stores a constant would become a call of
C's memset, which no object file may hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.settings import inlined, kernel


@inlined
def _row_of(order, place):
    """The row at a place in the epoch."""
    return order[place] if address(order) != 0 else place


def sparse_forward(type_name: str, source_type: str) -> Any:
    """``y = x·w + b``, overwriting y (N, O); w (I, O), b (O,) or left out."""
    real = getattr(np, type_name)

    @kernel
    def sparse_forward(y, values, columns, starts, order, w, b, zero, first):
        for i in range(y.shape[0]):
            row = _row_of(order, first + i)
            for j in range(y.shape[1]):
                y[i, j] = b[j] if address(b) != 0 else real(zero)
            for k in range(starts[row], starts[row + 1]):
                value, column = real(values[k]), columns[k]
                for j in range(y.shape[1]):
                    y[i, j] += value * w[column, j]

    return sparse_forward


def sparse_backward_kernel(type_name: str, source_type: str) -> Any:
    """``dw = xᵀ·dy`` and ``db = Σ_n dy[n]``, overwriting dw (I, O) and db (O,) or left out.

    Each thread looks through all of x for what belongs into its own rows of dw.
    """
    real = getattr(np, type_name)

    @kernel
    def sparse_backward_kernel(dw, db, values, columns, starts, order, dy, zero, first, rank, team):
        inputs, outputs = dw.shape
        begin, end = inputs * rank // team, inputs * (rank + 1) // team
        for i in range(begin, end):
            for j in range(outputs):
                dw[i, j] = real(zero)
        for i in range(dy.shape[0]):
            row = _row_of(order, first + i)
            for k in range(starts[row], starts[row + 1]):
                column = columns[k]
                if begin <= column < end:
                    value = real(values[k])
                    for j in range(outputs):
                        dw[column, j] += value * dy[i, j]
        if rank == 0 and address(db) != 0:
            for j in range(outputs):
                db[j] = real(zero)
            for i in range(dy.shape[0]):
                for j in range(outputs):
                    db[j] += dy[i, j]

    return sparse_backward_kernel
