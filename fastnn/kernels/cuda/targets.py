"""Targets in the form that a loss or a metric takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.launch import Kernel, by_element
from fastnn.kernels.cuda.maps import loop_over
from fastnn.kernels.cuda.memory import address, lanes_of, view
from fastnn.kernels.cuda.rows import Rows, over_rows
from fastnn.kernels.cuda.target import cuda, device


def affine(type_name: str) -> Kernel:
    """``y = scale · x + shift``, overwriting y (N, F)."""
    real, flat = getattr(np, type_name), view(type_name, 1)

    @device
    def moved(x, numbers):
        return (numbers[0] * x + numbers[1],)

    move = loop_over(type_name, ["y"], ["x"], moved)

    @device
    def affine(y, x, scale, shift):
        shape = (x.size,)
        move(flat(address(y), shape), flat(address(x), shape), (real(scale), real(shift)))

    return by_element(affine, each=lanes_of(type_name))


def one_hot(type_name: str) -> Kernel:
    """``out`` = `on` at a row's label and `off` elsewhere, overwriting out (N, C)."""

    def make(rows: Rows) -> Any:
        place_of, blank, slots, item = rows.place, rows.blank, rows.slots, rows.item
        real = rows.real

        @device
        def value(_, other, offset, numbers):
            return numbers[0] if offset == numbers[1] else numbers[2]

        write = rows.write(value)

        @device
        def one_hot(out, labels, on, off):
            place = place_of(out)
            label = labels[place[0]] if place[2] > 0 else place[3]
            share = blank(cuda.local.array(slots, item, alignment=16), out)
            numbers = real(on), np.int32(label - place[3]), real(off)
            write(out, place, share, share, numbers)

        return one_hot

    return over_rows(type_name, make)
