"""Losses out of the pairs of scalar formulas in `kernels/pointwise.py`: one kernel for all of them.

As in `losses.py`, each overwrites `loss` (n,) and `dz` (n, C) for the n rows at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.cpu.in_place import in_place_or_apart
from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.settings import inlined, reduction
from fastnn.kernels.pointwise import WITH_OWN, Pair, with_parameter


def pointwise_loss(pair: Pair) -> Callable[[str], Any]:
    """loss = w · mean over C of value(z, y), dz = w · slope(z, y) / (N C); a sum has no C in it."""
    value, slope, mean = with_parameter(pair.value), with_parameter(pair.slope), pair.mean

    def factory(type_name: str) -> Any:
        real = getattr(np, type_name)

        @reduction
        def row_loss(z, targets, i, parameter):
            total, j = real(0), 0
            while True:  # a row has a column: for none, LLVM would call the C library's memset
                total += value(z[i, j], targets[i, j], parameter)
                j += 1
                if j >= z.shape[1]:
                    break
            return total

        @inlined
        def rows(loss, dz, z, targets, weights, parameter, N):
            terms, given = real(z.shape[1]) if mean else real(1), real(parameter)
            for i in range(loss.size):
                weight = weights[i] if address(weights) != 0 else real(1)
                loss[i] = weight * row_loss(z, targets, i, given) / terms
                factor = weight / (real(N) * terms)
                for j in range(dz.shape[1]):
                    dz[i, j] = factor * slope(z[i, j], targets[i, j], given)

        return in_place_or_apart(rows, "dz z")

    return factory


def __getattr__(name: str) -> Callable[[str], Any]:
    if name not in WITH_OWN:
        raise AttributeError(f"no loss is called {name!r}")
    return pointwise_loss(WITH_OWN[name])
