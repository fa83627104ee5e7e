"""Sums over a group of neighbouring threads, in an order that its size alone decides."""

from __future__ import annotations

from typing import Any

from numba import types

from fastnn.kernels.cuda.target import cuda, device

WARP, ALL = 32, 0xFFFFFFFF
"""Threads of a warp, and the mask that names them all."""


def sum_over(type_name: str, size: int) -> Any:
    """The function that gives each thread of a group of `size`, a power of two, the group's sum.

    A group of more than a warp is the whole block. Every thread of the block must call it.
    """
    item, within, warps = getattr(types, type_name), min(size, WARP), max(1, size // WARP)

    @device
    def sum_over(value):
        distance = within // 2
        while distance > 0:
            value += cuda.shfl_xor_sync(ALL, value, distance)
            distance //= 2
        if warps > 1:
            shared = cuda.shared.array(warps, item, alignment=16)
            cuda.syncthreads()
            if cuda.threadIdx.x % WARP == 0:
                shared[cuda.threadIdx.x // WARP] = value
            cuda.syncthreads()
            value = shared[0]
            for warp in range(1, warps):
                value += shared[warp]
        return value

    return sum_over
