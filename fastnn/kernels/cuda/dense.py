"""Dense layer: y = x·w + b and its three gradients, each one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastnn.kernels.activations import ELEMENTWISE, Elementwise
from fastnn.kernels.bits import float64_from_bits
from fastnn.kernels.cuda import tensor
from fastnn.kernels.cuda.launch import FOLLOWING, PRECISIONS, Kernel, Launch, Lengths
from fastnn.kernels.cuda.memory import address, given, view
from fastnn.kernels.cuda.product import (
    Tile,
    blocks_of,
    is_wide,
    parts_of,
    product,
    tile_for,
    tiles_of,
)
from fastnn.kernels.cuda.target import device
from fastnn.kernels.signatures import ITEM_BYTES


def _kernel(
    type_name: str,
    make: Callable[..., Any],
    rows: str,
    columns: str,
    depth: str,
    in_parts: bool = False,
) -> Kernel:
    """A kernel that is one product of so many rows, columns and depth.

    ``make(product, activation)`` is its device function: all that `product` is still to be told is
    how the factors lie, and what follows, `activation` among it, if it is not None. `in_parts`:
    blocks may share the depth.
    """
    tiles = tiles_of(type_name)

    def launched(
        tiles: Sequence[Tile] | Sequence[tensor.Tile], lengths: Lengths, aligned: bool, *more: int
    ) -> Launch:
        of_c = lengths[rows], lengths[columns]
        place = tile_for(tiles, *of_c, lengths[depth], in_parts)
        tile, wide = tiles[place], is_wide(type_name, aligned, lengths["I"], lengths["O"])
        blocks = blocks_of(tile, *of_c)
        parts = parts_of(blocks, lengths[depth]) if in_parts else 1
        numbers = tile.rows * tile.columns + tile.group
        workspace = ITEM_BYTES[type_name] * numbers * blocks * parts if parts > 1 else 0
        return Launch((blocks * parts, 1), tile.threads, (place, int(wide), *more), workspace)

    def rounded(lengths: Lengths, aligned: bool, precision: str) -> Launch:
        own_tiles = tensor.ROUNDED[precision].tiles
        return launched(own_tiles, lengths, aligned, PRECISIONS.index(precision))

    def made(place: int, wide: int, precision: int = 0, following: int = 0) -> Any:
        activation = following_activation(following)
        if precision == 0:
            return make(partial(product, type_name, tiles[place], bool(wide)), activation)
        to = tensor.ROUNDED[PRECISIONS[precision]]
        return make(partial(tensor.product, to, to.tiles[place], bool(wide)), activation)

    def in_tiles(tile: Tile, wide: bool, following: int) -> Any:
        multiply = partial(product, type_name, tile, wide, any_blocks=True)
        return make(multiply, following_activation(following))

    return Kernel(made, partial(launched, tiles), rounded=rounded, in_tiles=in_tiles)


def following_activation(following: int) -> Elementwise | None:
    """What the last of a product's constants says that follows it: nothing if it is 0."""
    return ELEMENTWISE[FOLLOWING[following - 1]] if following else None


def of_two(which: str, activation: Elementwise | None) -> Any:
    """An activation's formula, of an element and of a parameter, which some ignore."""
    if activation is None:
        return device(lambda x, parameter: x)
    formula = getattr(activation, which)
    if activation.parameter is not None:
        return formula
    return device(lambda x, parameter: formula(x))


def dense_forward(type_name: str) -> Kernel:
    """``y = x·w + b``, overwriting y (N, O); x (N, I), w (I, O), b (O,) or left out.

    Where `relu` is 1, ``y = max(x·w + b, 0)``; or another activation follows, whose parameter's
    bits are `finish`.
    """
    real, flat = getattr(np, type_name), view(type_name, 1)
    zero = real(0)

    def make(product: Callable[..., Any], activation: Elementwise | None) -> Any:
        follows, follow = activation is not None, of_two("formula", activation)

        @device
        def finished(value, row, column, columns, b, _, numbers):
            if given(b):
                value += b[column]
            if follows:
                return follow(value, numbers[1])
            return max(value, zero) if numbers[0] and value == value else value

        multiply = product(True, False, finished)

        @device
        def dense_forward(y, x, w, b, relu, finish, staged):
            (N, columns), depth = y.shape, x.shape[1]
            multiply(flat(address(y), (N * columns,)), flat(address(x), (N * depth,)),
                     flat(address(w), (depth * columns,)), N, columns, depth, b, b, b,
                     (relu, real(float64_from_bits(finish))), staged, 0, 0)  # fmt: skip

        return dense_forward

    return _kernel(type_name, make, "N", "O", "I")


def dense_backward_input(type_name: str) -> Kernel:
    """``dx = dy·wᵀ``, overwriting dx (N, I); dy (N, O), w (I, O).

    With `gate` (N, I), which may be left out, dx is multiplied by 0 where gate is 0 or less: by
    the derivative of the ReLU whose output it is; or by that of another activation, of its output
    or its input as it is told of, whose parameter's bits are `finish`.
    """
    real, flat = getattr(np, type_name), view(type_name, 1)
    zero = real(0)

    def make(product: Callable[..., Any], activation: Elementwise | None) -> Any:
        follows, slope = activation is not None, of_two("derivative", activation)

        @device
        def finished(value, row, column, columns, gate, _, parameter):
            if follows:
                return value * slope(gate[row, column], parameter)
            if given(gate) and not gate[row, column] > zero:
                return value * zero
            return value

        multiply = product(True, True, finished)

        @device
        def dense_backward_input(dx, dy, w, gate, finish, staged):
            (N, columns), depth = dx.shape, dy.shape[1]
            multiply(flat(address(dx), (N * columns,)), flat(address(dy), (N * depth,)),
                     flat(address(w), (depth * columns,)), N, columns, depth, gate, gate, gate,
                     real(float64_from_bits(finish)), staged, 0, 0)  # fmt: skip

        return dense_backward_input

    return _kernel(type_name, make, "N", "I", "O")


def dense_backward_kernel(type_name: str) -> Kernel:
    """``dw = xᵀ·dy`` and ``db = Σ_n dy[n]``, overwriting dw (I, O) and db (O,) or left out."""
    flat = view(type_name, 1)

    @device
    def finish(value, row, column, columns, first, second, numbers):
        return value

    def make(product: Callable[..., Any], _: None) -> Any:
        multiply = product(False, False, finish, in_parts=True)

        @device
        def dense_backward_kernel(dw, db, x, dy, staged, state, workspace):
            (rows, columns), depth = dw.shape, dy.shape[0]
            multiply(flat(address(dw), (rows * columns,)), flat(address(x), (depth * rows,)),
                     flat(address(dy), (depth * columns,)), rows, columns, depth, db, db, db,
                     0, staged, state, workspace)  # fmt: skip

        return dense_backward_kernel

    return _kernel(type_name, make, "I", "O", "N", in_parts=True)
