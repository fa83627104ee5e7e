"""Dense layer: y = x·w + b and its three gradients, each one matrix product.

`multiply` is the address of the compiled ``gemm.product`` of the same element type.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu.gemm import call_product
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.settings import inlined, kernel
from fastnn.kernels.signatures import ITEM_BYTES


def dense_forward(type_name: str) -> Any:
    """``y = x·w + b``, overwriting y (N, O); x (N, I), w (I, O), b (O,) or left out."""
    size = ITEM_BYTES[type_name]

    @kernel
    def dense_forward(y, x, w, b, multiply, workspace, rank, team):
        rows, columns = y.shape
        depth = x.shape[1]
        call_product(multiply, rows, columns, depth, address(x), depth * size, size,
                 address(w), columns * size, size, address(b),
                 address(y), columns * size, workspace, rank, team)  # fmt: skip

    return dense_forward


def dense_backward_input(type_name: str) -> Any:
    """``dx = dy·wᵀ``, overwriting dx (N, I); dy (N, O), w (I, O)."""
    size = ITEM_BYTES[type_name]

    @kernel
    def dense_backward_input(dx, dy, w, multiply, workspace, rank, team):
        rows, columns = dx.shape
        depth = dy.shape[1]
        call_product(multiply, rows, columns, depth, address(dy), depth * size, size,
                 address(w), size, depth * size, 0,
                 address(dx), columns * size, workspace, rank, team)  # fmt: skip

    return dense_backward_input


def dense_backward_kernel(type_name: str) -> Any:
    """``dw = xᵀ·dy`` and ``db = Σ_n dy[n]``, overwriting dw (I, O) and db (O,) or left out."""
    size = ITEM_BYTES[type_name]
    vector, zero = view(type_name, 1), getattr(np, type_name)(0)

    @inlined
    def sum_rows(total, rows, count, stride):
        # Adding 0 keeps LLVM from making this loop a call of the C library's memcpy.
        row = vector(rows, (total.size,))
        for j in range(total.size):
            total[j] = row[j] + zero
        for n in range(1, count):
            row = vector(rows + n * stride, (total.size,))
            for j in range(total.size):
                total[j] += row[j]

    @kernel
    def dense_backward_kernel(dw, db, x, dy, multiply, workspace, rank, team):
        rows, columns = dw.shape
        depth = dy.shape[0]
        call_product(multiply, rows, columns, depth, address(x), size, rows * size,
                 address(dy), columns * size, size, 0,
                 address(dw), columns * size, workspace, rank, team)  # fmt: skip
        if address(db) != 0:
            first, last = columns * rank // team, columns * (rank + 1) // team
            sum_rows(vector(address(db) + first * size, (last - first,)),
                     address(dy) + first * size, depth, columns * size)  # fmt: skip

    return dense_backward_kernel
