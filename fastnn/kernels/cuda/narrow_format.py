"""How a narrow network's numbers lie in shared memory, for tensor cores to multiply."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.bits import bits_from_float32, float32_from_bits
from fastnn.kernels.cuda.ptx import (
    load_matrices,
    load_transposed,
    multiply_bf16,
    multiply_tf32,
    pack_bf16,
    round_tf32,
)
from fastnn.kernels.cuda.target import device
from fastnn.kernels.cuda.tensor import word

SIDE = 16
"""Rows of a warp; widths are rounded up to a multiple of it."""


def padded(width: int) -> int:
    """A width as it is in shared memory."""
    return -(-width // SIDE) * SIDE


class Layer(NamedTuple):
    """A dense layer: its lengths, and what follows it, see `dense.following_activation`."""

    inputs: int
    outputs: int
    following: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


class Format:
    """How numbers lie in shared memory, in rows of words, and how a warp takes its fragments.

    Parameters
    ----------
    precision : str
        ``"tf32"`` or ``"bf16"``.

    Attributes
    ----------
    depth : int
        Of the product that one instruction, `multiply`, adds.
    put, get : device function
        ``put(shared, at, column, v, w)`` and ``get(shared, at, column)``: two neighbours in the row
        that begins at a word.
    """

    def __init__(self, precision: str) -> None:
        self._packed = 2 if precision == "bf16" else 1
        self.depth = 8 * self._packed
        if precision == "bf16":
            self.multiply, self.put, self.get = multiply_bf16, _put_bf16, _get_bf16
        else:
            self.multiply, self.put, self.get = multiply_tf32, _put_tf32, _get_tf32

    def pitch(self, width: int) -> int:
        """Words from a row to the next.

        What a warp reads at once comes from different banks of shared memory: in bfloat16, chunks
        of eight rows; in tf32, eight neighbours in four rows, while two of the eight rows whose
        chunks are read along the depth meet.
        """
        return padded(width) // self._packed + (8 if self._packed == 1 else 4)

    def along(self, width: int) -> Any:
        """``along(shared, lane, base, row, step)``: fragments of 16 rows, along the depth.

        Two words are of the first half of the depth, two of the second; the first of each two is of
        the first eight rows.
        """
        pitch = self.pitch(width)

        @device
        def along(shared, lane, base, row, step):
            return load_matrices(
                shared, base + (row + lane % 16) * pitch + 8 * step + lane // 16 * 4
            )

        return along

    def across(self, width: int) -> Any:
        """``across(shared, lane, base, column, step)``: the same of 16 columns, down the rows."""
        pitch, depth = self.pitch(width), self.depth

        @device
        def halves_across(shared, lane, base, column, step):
            row = step * depth + lane // 16 * 8 + lane % 8
            return load_transposed(shared, base + row * pitch + column // 2 + lane // 8 % 2 * 4)

        @device
        def words_across(shared, lane, base, column, step):
            at = base + (step * depth + lane % 4) * pitch + column + lane // 4
            below = at + 4 * pitch
            return (
                word(shared, at),
                word(shared, at + 8),
                word(shared, below),
                word(shared, below + 8),
            )

        return halves_across if self._packed == 2 else words_across


@device
def _put_tf32(shared, at, column, v, w):
    shared[at + column] = round_tf32(bits_from_float32(v))
    shared[at + column + 1] = round_tf32(bits_from_float32(w))


@device
def _get_tf32(shared, at, column):
    return float32_from_bits(shared[at + column]), float32_from_bits(shared[at + column + 1])


@device
def _put_bf16(shared, at, column, v, w):
    shared[at + column // 2] = pack_bf16(v, w)


@device
def _get_bf16(shared, at, column):
    both = shared[at + column // 2]
    return float32_from_bits(np.int32(both << 16)), float32_from_bits(np.int32(both & -65536))
