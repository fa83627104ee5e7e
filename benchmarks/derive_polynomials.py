"""Derive the constants and coefficients of transcendental.py, extended.py and normal.py.

``python -m benchmarks.derive_polynomials`` prints them as they stand in fastnn/kernels/, with
the largest error of each polynomial; with ``--check`` it fails where a file holds anything else.
Needs mpmath, takes ten seconds.

Each function is written as an exact leading part plus a small correction, and only the
correction is approximated, by the polynomial that makes the largest error *relative to the
whole function* least (Remez's exchange, in 60 digits). A coefficient must then be rounded to
float32 or float64. Rounding all at once would spoil the optimum, so they are rounded one at a
time, lowest power first, and the remaining ones are fitted again to make up for it.
"""

from __future__ import annotations

import bisect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# asv imports this module where mpmath need not be installed: only running it needs it, see below.
if TYPE_CHECKING:
    from mpmath import mp, mpf

GRID = 500  # points of the exchange; the optimum is flat, more change nothing
KERNELS = Path(__file__).parents[1] / "fastnn" / "kernels"


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
        right = mp.matrix([target[i] for i in reference])
        coefficients: list[mpf] = list(mp.lu_solve(system, right))
        level = coefficients.pop()
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
    correction: Callable[[mpf], mpf],
    weight: Callable[[mpf], mpf],
    interval: tuple[mpf, mpf],
    degree: int,
    dtype: type[np.floating],
    constant: float | None = None,
) -> tuple[list[np.floating], mpf]:
    """Coefficients of `dtype`, lowest power first, and the largest |weight error|.

    `constant` gives the lowest coefficient beforehand; it is not among those returned.
    """
    grid = chebyshev_grid(*interval)
    size = [abs(weight(v)) for v in grid]
    rest = [correction(v) for v in grid]
    powers = [[v**j for v in grid] for j in range(degree + 1)]
    chosen: list[np.floating] = []
    for j in range(degree + 1):
        if j == 0 and constant is not None:
            chosen.append(dtype(constant))
        else:
            chosen.append(rounded(minimax(powers[: degree + 1 - j], rest, size)[0], dtype))
        # What is left divided by v, so that the next coefficient is again the constant one.
        rest = [(r - mpf(float(chosen[j]))) / v for r, v in zip(rest, grid, strict=True)]
        size = [w * abs(v) for w, v in zip(size, grid, strict=True)]
    error = max(w * abs(r) for w, r in zip(size, rest, strict=True))
    return chosen[constant is not None :], error


def rounded(value: mpf, dtype: type[np.floating], bits: int = 0) -> np.floating:
    """`value` rounded to nearest, to all bits of `dtype` or to fewer."""
    bits = bits or np.finfo(dtype).nmant + 1
    mantissa, exponent = mp.frexp(value)
    return dtype(float(mp.ldexp(mp.nint(mp.ldexp(mantissa, bits)), exponent - bits)))


def constants(dtype: type[np.floating], exponent_bits: int) -> dict[str, np.floating]:
    """What the reductions need; n, the power of two, has at most `exponent_bits` bits."""
    bits = np.finfo(dtype).nmant + 1
    ln2 = mp.log(2)
    high = rounded(ln2, dtype, bits - exponent_bits)
    return {
        "ROUND": dtype(1.5 * 2.0 ** (bits - 1) + 2 * (np.finfo(dtype).maxexp - 1)),
        "LOG2_E": rounded(1 / ln2, dtype),
        "LN2_HIGH": high,
        "LN2_LOW": rounded(ln2 - mpf(float(high)), dtype),
        "SQRT_HALF": rounded(mp.sqrt(mpf(1) / 2), dtype),
    }


# The reductions round, so that an argument can lie a little outside of the exact interval.
SLACK = 1 + 2**-10
TINY = 1e-12  # in place of 0, where the formulas for an interval [0, b] divide by it


def exp_tail(dtype: type[np.floating], degree: int) -> tuple[list[np.floating], mpf]:
    """(e^r - 1 - r)/r^2, relative to e^r - 1, so that expm1 can use it too."""
    half = mp.log(2) / 2 * SLACK
    return rounded_polynomial(
        lambda r: (mp.expm1(r) - r) / r**2,
        lambda r: r**2 / mp.expm1(r),
        (-half, half),
        degree,
        dtype,
        constant=0.5,
    )


def log_tail(dtype: type[np.floating], degree: int) -> tuple[list[np.floating], mpf]:
    """(log(1 + f) - f)/f^2, relative to log(1 + f)."""
    return rounded_polynomial(
        lambda f: (mp.log1p(f) - f) / f**2,
        lambda f: f**2 / mp.log1p(f),
        ((mp.sqrt(2) / 2 - 1) * SLACK, (mp.sqrt(2) - 1) * SLACK),
        degree,
        dtype,
        constant=-0.5,
    )


def artanh_tail(dtype: type[np.floating], degree: int) -> tuple[list[np.floating], mpf]:
    """(2 artanh(s) - 2s)/s^3 as a function of z = s^2, relative to 2 artanh(s) = log(1 + f)."""

    def correction(z: mpf) -> mpf:
        s = mp.sqrt(z)
        return (2 * mp.atanh(s) - 2 * s) / s**3

    def weight(z: mpf) -> mpf:
        s = mp.sqrt(z)
        return s**3 / (2 * mp.atanh(s))

    largest = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * SLACK
    return rounded_polynomial(correction, weight, (TINY, largest**2), degree, dtype)


def tanh_tail(dtype: type[np.floating], degree: int) -> tuple[list[np.floating], mpf]:
    """(tanh(x)/x - 1)/z as a function of z = x^2, relative to tanh(x)."""

    def correction(z: mpf) -> mpf:
        x = mp.sqrt(z)
        return (mp.tanh(x) / x - 1) / z

    def weight(z: mpf) -> mpf:
        x = mp.sqrt(z)
        return z * x / mp.tanh(x)

    return rounded_polynomial(correction, weight, (TINY, mp.atanh(0.5) ** 2 * SLACK), degree, dtype)


def normal_tail(dtype: type[np.floating], degree: int) -> tuple[list[np.floating], mpf]:
    """(a + 4) e^(a^2/2) Phi(-a) as a function of t = (a - 4)/(a + 4), relative to itself.

    Up to where a Phi(-a) is no number of the type any more.
    """
    largest = mpf("14.6") if dtype is np.float32 else mpf(39)

    def scaled_tail(t: mpf) -> mpf:
        a = 4 * (1 + t) / (1 - t)
        return (a + 4) * mp.exp(a**2 / 2) * mp.erfc(a / mp.sqrt(2)) / 2

    return rounded_polynomial(
        scaled_tail,
        lambda t: 1 / scaled_tail(t),
        (mpf(-1), (largest - 4) / (largest + 4)),
        degree,
        dtype,
    )


def normal_centre(dtype: type[np.floating], degree: int) -> tuple[list[np.floating], mpf]:
    """(Phi(x) - 1/2)/x as a function of z = x^2, for |x| <= 1, relative to Phi(x)."""
    return rounded_polynomial(
        lambda z: mp.erf(mp.sqrt(z / 2)) / (2 * mp.sqrt(z)),
        lambda z: mp.sqrt(z) / (mp.erfc(mp.sqrt(z / 2)) / 2),
        (TINY, mpf(1) * SLACK),
        degree,
        dtype,
    )


def sine(dtype: type[np.floating], degree: int) -> tuple[list[np.floating], mpf]:
    """sin(pi s/4)/s as a function of z = s^2, for |s| <= 1, relative to itself."""

    def scaled_sine(z: mpf) -> mpf:
        return mp.sin(mp.pi / 4 * mp.sqrt(z)) / mp.sqrt(z)

    interval = mpf(TINY), mpf(1)
    return rounded_polynomial(scaled_sine, lambda z: 1 / scaled_sine(z), interval, degree, dtype)


def cosine(dtype: type[np.floating], degree: int) -> tuple[list[np.floating], mpf]:
    """(cos(pi s/4) - 1)/z as a function of z = s^2, for |s| <= 1, relative to cos(pi s/4)."""
    return rounded_polynomial(
        lambda z: (mp.cos(mp.pi / 4 * mp.sqrt(z)) - 1) / z,
        lambda z: z / mp.cos(mp.pi / 4 * mp.sqrt(z)),
        (mpf(TINY), mpf(1)),
        degree,
        dtype,
    )


# Name, comment, and by type the fit and its degree. The degrees are the least whose error is
# lost in the rounding of the result: below 2^-27 in float32, 2^-58 in float64; the sine is off by
# what rounding takes from its first coefficient.
Table = tuple[str, str, dict[type[np.floating], tuple[Callable[..., Any], int]]]
TABLES: list[Table] = [
    (
        "EXP",
        "(e^r - 1 - r)/r^2 = 1/2 + r (c1 + r (c2 + ...)), |r| <= ln(2)/2",
        {np.float32: (exp_tail, 5), np.float64: (exp_tail, 10)},
    ),
    (
        "TANH",
        "(tanh(x)/x - 1)/z = c0 + z (c1 + z (c2 + ...)), z = x^2, tanh(x) <= 1/2",
        {np.float32: (tanh_tail, 4), np.float64: (tanh_tail, 10)},
    ),
    (
        "LOG",
        "(log(1 + f) - f)/f^2 = -1/2 + f (c1 + f (c2 + ...)), sqrt(1/2) <= 1 + f <= sqrt(2)",
        {np.float32: (log_tail, 8)},
    ),
    (
        "LOG",
        "(log(1 + f) - 2s)/s^3 = c0 + z (c1 + z (c2 + ...)), s = f/(2 + f), z = s^2, same f",
        {np.float64: (artanh_tail, 6)},
    ),
]
EXTENDED_TABLES: list[Table] = [
    (
        "NORMAL_TAIL",
        "(a + 4) e^(a^2/2) Phi(-a) = c0 + t (c1 + t (c2 + ...)), t = (a - 4)/(a + 4)",
        {np.float32: (normal_tail, 10), np.float64: (normal_tail, 23)},
    ),
    (
        "NORMAL_CENTRE",
        "(Phi(x) - 1/2)/x = c0 + z (c1 + z (c2 + ...)), z = x^2, |x| <= 1",
        {np.float32: (normal_centre, 5), np.float64: (normal_centre, 11)},
    ),
]

ANGLE_TABLES: list[Table] = [
    (
        "SINE",
        "sin(pi s/4)/s = c0 + z (c1 + z (c2 + ...)), z = s^2, |s| <= 1",
        {np.float32: (sine, 3), np.float64: (sine, 6)},
    ),
    (
        "COSINE",
        "(cos(pi s/4) - 1)/z = c0 + z (c1 + z (c2 + ...)), z = s^2, |s| <= 1",
        {np.float32: (cosine, 3), np.float64: (cosine, 6)},
    ),
]


def table(name: str, values: list[np.floating]) -> list[str]:
    """The lines of a tuple, at most 100 columns wide."""
    single = isinstance(values[0], np.float32)
    lines = [f"{name} = tuple(map(float32, (" if single else f"{name} = (", "   "]
    for value in values:
        # The shortest digits that give this float32 when Python reads them as a float64 first.
        if type(value)(float(str(value))) != value:
            raise ArithmeticError(f"{name}: {value!r} is not read back")
        if len(lines[-1]) + len(f" {value!s},") > 100:
            lines.append("   ")
        lines[-1] += f" {value!s},"
    return [*lines, ")))" if single else ")"]


def constant_lines() -> list[str]:
    """The lines of the reductions' constants."""
    lines = []
    by_type = {"32": constants(np.float32, 8), "64": constants(np.float64, 11)}
    for name in by_type["32"]:
        for width, values in by_type.items():
            lines.append(f"_{name}{width} = float{width}({values[name]!s})")
    return lines


def derived(tables: list[Table]) -> tuple[list[str], list[str]]:
    """The lines of `tables`, and for the reader the error of each polynomial."""
    lines, errors = [], []
    for name, comment, fits in tables:
        lines.append(f"# {comment}")
        for dtype, (fit, degree) in fits.items():
            values, error = fit(dtype, degree)
            lines += table(f"_{name}{np.finfo(dtype).bits}", values)
            errors.append(f"_{name}{np.finfo(dtype).bits}: 2^{float(mp.log(error, 2)):.1f}")
    return lines, errors


if __name__ == "__main__":
    from mpmath import mp, mpf

    mp.dps = 60
    for target, leading, tables in (
        ("transcendental.py", constant_lines(), TABLES),
        ("extended.py", [], EXTENDED_TABLES),
        ("normal.py", [], ANGLE_TABLES),
    ):
        source_lines, polynomial_errors = derived(tables)
        block = "\n".join([*leading, *source_lines])
        print(block)
        print("\nlargest relative errors:", ", ".join(polynomial_errors), end="\n\n")
        if "--check" in sys.argv[1:] and block not in (KERNELS / target).read_text("utf-8"):
            sys.exit(f"{target} holds other constants than these")
