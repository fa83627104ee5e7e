"""Losses out of the pairs of scalar formulas in `kernels/pointwise.py`: one kernel for all of them.

As in `losses.py`, each overwrites `loss` (N,) and `dz` (N, C).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fastnn.kernels.cuda.launch import Kernel
from fastnn.kernels.cuda.losses import row_weight
from fastnn.kernels.cuda.rows import Rows, over_rows
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.pointwise import WITH_OWN, Pair, with_parameter


def pointwise_loss(pair: Pair) -> Callable[[str], Kernel]:
    """loss = w · mean over C of value(z, y), dz = w · slope(z, y) / (N C); a sum has no C in it."""
    value, slope, mean = with_parameter(pair.value), with_parameter(pair.slope), pair.mean

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, weight_of, real, zero = rows.leads, row_weight(rows), rows.real, rows.real(0)

        @device
        def step(so_far, z, y, offset, numbers):
            parameter, factor = numbers
            return (so_far[0] + value(z, y, parameter),), factor * slope(z, y, parameter)

        sweep = rows.fold_and_write(step, [rows.type_name])

        @device
        def pointwise_loss(loss, dz, z, targets, weights, parameter, N):
            place = place_of(z)
            weight = weight_of(weights, place)
            terms, of_pair = real(z.shape[1]) if mean else real(1), real(parameter)
            of_z = keep(cuda.local.array(slots, item, alignment=16), z, place)
            of_y = keep(cuda.local.array(slots, item, alignment=16), targets, place)
            numbers = of_pair, weight / (real(N) * terms)
            total = sweep(dz, place, of_z, of_y, (zero,), numbers)[0]
            if leads(place):
                loss[place[0]] = weight * total / terms

        return pointwise_loss

    return lambda type_name: over_rows(type_name, make, keeps=False)


@cache
def _factory(name: str) -> Callable[[str], Kernel]:
    return pointwise_loss(WITH_OWN[name])


def __getattr__(name: str) -> Callable[[str], Kernel]:
    """``huber`` and so on: what the table has a line for."""
    if name not in WITH_OWN:
        raise AttributeError(f"no loss is called {name!r}")
    return _factory(name)
