"""Dense layer: y = x·w + b and its three gradients, each one matrix product.

`multiply` is the address of the compiled ``gemm.product`` of the same element type, `finish` the
chain of functions that it hands its rows to, or 0, `supply` the function that makes the rows of x,
or 0. `pack` says whether it packs its second factor.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels.cpu.gemm import call_product, places_of
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.settings import kernel
from fastnn.kernels.signatures import ITEM_BYTES


def dense_forward(type_name: str) -> Any:
    """``y = x·w + b``, overwriting y (N, O); x (N, I), w (I, O), b (O,) or left out.

    Where `relu` is 1, ``y = max(x·w + b, 0)``.
    """
    size = ITEM_BYTES[type_name]

    @kernel
    def dense_forward(
        y, x, w, b, multiply, supply, finish, relu, pack, workspace, state, rank, team
    ):
        rows, columns = y.shape
        depth = x.shape[1]
        call_product(multiply, rows, columns, depth, address(x), depth * size, size,
                     address(w), columns * size, size, address(b), 0,
                     address(y), columns * size, relu, 0, 0, pack, supply, finish, workspace,
                     address(state), rank, team)  # fmt: skip

    return dense_forward


def dense_backward_input(type_name: str) -> Any:
    """``dx = dy·wᵀ``, overwriting dx (N, I); dy (N, O), w (I, O).

    With `gate` (N, I), which may be left out, dx is multiplied by 0 where gate is 0 or less: by
    the derivative of the ReLU whose output it is.
    """
    size = ITEM_BYTES[type_name]

    @kernel
    def dense_backward_input(dx, dy, w, gate, multiply, finish, workspace, state, rank, team):
        rows, columns = dx.shape
        depth = dy.shape[1]
        call_product(multiply, rows, columns, depth, address(dy), depth * size, size,
                     address(w), size, depth * size, 0, 0,
                     address(dx), columns * size, 0, address(gate), 0, 1, 0, finish, workspace,
                     address(state), rank, team)  # fmt: skip

    return dense_backward_input


NARROW, LEAST_ROWS, MOST_ROWS = 12, 32, 4096
"""Columns of a dw, at most, that is computed as its transpose, and rows, from and to: its own
rows fill no vector (one core of Sapphire Rapids: (64, 2) of 32 rows in 0.22 µs instead of 0.47,
(128, 10) of 128 in 2.2 instead of 3.1; (16, 1) of 16 rows in 0.10 instead of 0.08)."""


def dense_backward_kernel(type_name: str) -> Any:
    """``dw = xᵀ·dy`` and ``db = Σ_n dy[n]``, overwriting dw (I, O) and db (O,) or left out.

    Where `discard` is 1, dw is only given to `finish`, and its memory left in no known state.
    """
    size, matrix = ITEM_BYTES[type_name], view(type_name, 2)
    at_transpose = places_of(type_name).packed

    @kernel
    def dense_backward_kernel(
        dw, db, x, dy, multiply, finish, discard, pack, workspace, state, rank, team
    ):
        rows, columns = dw.shape
        depth = dy.shape[0]
        a, b, c, sums = address(x), address(dy), address(dw), address(db)
        high, wide = rows, columns
        narrow = columns <= NARROW and LEAST_ROWS <= rows <= MOST_ROWS and finish == 0 and team == 1
        if narrow:
            a, b, c, sums = b, a, workspace + at_transpose, 0
            high, wide, pack = columns, rows, 0
        call_product(multiply, high, wide, depth, a, size, high * size, b, wide * size, size, 0,
                     sums, c, wide * size, 0, 0, discard, pack, 0, finish, workspace,
                     address(state), rank, team)  # fmt: skip
        if narrow:
            transpose = matrix(c, (columns, rows))
            for i in range(rows):
                for j in range(columns):
                    dw[i, j] = transpose[j, i]
            if address(db) != 0:  # the 1 that a product leaves in its workspace, times each of dy
                call_product(multiply, 1, columns, depth, workspace, 0, 0, address(dy),
                             columns * size, size, 0, 0, address(db), 0, 0, 0, 0, 0, 0, 0,
                             workspace, address(state), 0, 1)  # fmt: skip

    return dense_backward_kernel
