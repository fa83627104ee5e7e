"""Derive the coefficients of fastnn/kernels/transcendental.py.

``python -m benchmarks.derive_polynomials`` prints every table as it stands there, and
``--check`` compares with the tables that the module holds.

Each function is written as an exact leading part plus a small correction, and only the
correction is approximated: by the minimax polynomial (Remez's exchange, in 50 digits) that
makes the largest error *relative to the whole function* least. A coefficient must then be
rounded to float32 or float64. Rounding all at once would spoil the optimum, so they are
rounded one at a time, lowest power first, and the remaining ones are fitted again to make
up for it.
"""

import bisect
import sys
from collections.abc import Callable

import numpy as np
from mpmath import mp, mpf

mp.dps = 50

Function = Callable[[mpf], mpf]
GRID = 500  # points of the exchange; the optimum is flat, more change nothing


def chebyshev_grid(low: mpf, high: mpf) -> list[mpf]:
    """Points of [low, high], denser at both ends, where minimax errors oscillate fastest."""
    middle, half = (high + low) / 2, (high - low) / 2
    return [middle - half * mp.cos(mp.pi * (i + mpf(1) / 2) / GRID) for i in range(GRID)]


def minimax(basis: list[list[mpf]], target: list[mpf], weight: list[mpf]) -> list[mpf]:
    """Coefficients c that make max |weight (target - sum c_j basis_j)| least (Remez).

    `basis`, `target` and `weight` hold values on the same grid. A reference of K + 1 grid
    points is solved for an error that alternates there with one size; then the worst point
    of the whole grid enters the reference, until it is no worse. One point at a time is slow
    but certain: the size grows at every exchange.
    """
    size, points = len(basis), len(target)
    reference = [i * (points - 1) // (size + 1) + points // (2 * size + 2) for i in range(size + 1)]
    while True:
        system = mp.matrix(size + 1, size + 1)
        for row, i in enumerate(reference):
            for column in range(size):
                system[row, column] = basis[column][i]
            system[row, size] = (-1) ** row / weight[i]
        *coefficients, level = mp.lu_solve(system, mp.matrix([target[i] for i in reference]))
        error = [
            w * (t - mp.fdot(coefficients, values))
            for w, t, *values in zip(weight, target, *basis, strict=True)
        ]
        worst = max(range(points), key=lambda i: abs(error[i]))
        if abs(error[worst]) <= abs(level) * (1 + mpf(10) ** -6):
            return coefficients
        reference = exchange(reference, worst, error)


def exchange(reference: list[int], worst: int, error: list[mpf]) -> list[int]:
    """`reference` with `worst` in place of the neighbour whose error has the same sign."""
    place = bisect.bisect(reference, worst)
    same = [(error[worst] > 0) == (error[i] > 0) for i in reference]
    if place > 0 and same[place - 1]:
        return [*reference[: place - 1], worst, *reference[place:]]
    if place < len(reference) and same[place]:
        return [*reference[:place], worst, *reference[place + 1 :]]
    return [worst, *reference[:-1]] if place == 0 else [*reference[1:], worst]


def rounded_polynomial(
    correction: Function,
    weight: Function,
    low: mpf,
    high: mpf,
    degree: int,
    dtype: type[np.floating],
    first: tuple[float, ...] = (),
) -> tuple[list[np.floating], mpf]:
    """Coefficients of `dtype`, lowest power first, and the largest weighted error.

    `first` fixes the lowest coefficients beforehand.
    """
    grid = chebyshev_grid(low, high)
    size = [abs(weight(v)) for v in grid]
    rest = [correction(v) for v in grid]
    powers = [[v**j for v in grid] for j in range(degree + 1)]
    chosen: list[np.floating] = []
    for j in range(degree + 1):
        if j < len(first):
            chosen.append(dtype(first[j]))
        else:
            chosen.append(round_to(minimax(powers[: degree + 1 - j], rest, size)[0], dtype))
        # What is left divided by v, so that the next coefficient is again the constant one.
        rest = [(r - mpf(float(chosen[j]))) / v for r, v in zip(rest, grid, strict=True)]
        size = [w * abs(v) for w, v in zip(size, grid, strict=True)]
    return chosen, max(w * abs(r) for w, r in zip(size, rest, strict=True))


def round_to(value: mpf, dtype: type[np.floating]) -> np.floating:
    """`value` correctly rounded to `dtype` (never through a wider format twice)."""
    if dtype is np.float64:
        return np.float64(float(value))
    mantissa, exponent = mp.frexp(value)
    return np.float32(float(mp.ldexp(mp.nint(mp.ldexp(mantissa, 24)), exponent - 24)))
