"""Formulas that carry a second number along: for what rounding lost of a product, a square, a log.

e^y has as many wrong units in the last place as y itself is off by, and y near 100 as one float32
is off by 64 of them. So an exponent that is not given, but computed, comes here as a sum y + low.
A result that may be too small for a normal number comes as a product of three, whose last two are
the halves of a power of two: then what it is multiplied by is rounded in, before digits are lost.
"""

from numpy import float32

from fastnn.kernels.formula import by_type, fma, formula, like
from fastnn.kernels.transcendental import (
    add,
    exp_tail32,
    exp_tail64,
    expm1_of_sum32,
    expm1_of_sum64,
    halves32,
    halves64,
    log_parts32,
    log_parts64,
    reduce32,
    reduce64,
    sigmoid_parts32,
    sigmoid_parts64,
    split_sum32,
    split_sum64,
)

# fmt: off
# (a + 4) e^(a^2/2) Phi(-a) = c0 + t (c1 + t (c2 + ...)), t = (a - 4)/(a + 4)
_NORMAL_TAIL32 = tuple(map(float32, (
    0.75528514, -0.6078966, 0.38713628, -0.18652225, 0.06041121, -0.007532838, -0.0035432894,
    0.0015811141, 0.00022709704, -0.00012744818, -1.4522479e-05,
)))
_NORMAL_TAIL64 = (
    0.7552851304157515, -0.6078966419718922, 0.38713740074220737, -0.1865218579596449,
    0.06039657489131881, -0.007540188967171532, -0.003479692375381122, 0.0016308184642170468,
    0.0001333443986945719, -0.0002310949845205716, -1.908807668115469e-06, 3.51448792493398e-05,
    7.188693800744419e-07, -5.92051906054687e-06, -6.354353409586845e-07, 1.021457111712453e-06,
    2.8151052443781193e-07, -1.5330226342565384e-07, -9.570241688561556e-08, 1.0118000612201741e-08,
    2.5843814985380023e-08, 4.5682645010110785e-09, -4.159753465486596e-09, -1.5911587581787941e-09,
)
# (Phi(x) - 1/2)/x = c0 + z (c1 + z (c2 + ...)), z = x^2, |x| <= 1
_NORMAL_CENTRE32 = tuple(map(float32, (
    0.3989423, -0.06649054, 0.009974163, -0.00118802, 0.00011501867, -8.16938e-06,
)))
_NORMAL_CENTRE64 = (
    0.3989422804014327, -0.0664903800669074, 0.00997355701008234, -0.0011873282160014275,
    0.00011543469089631922, -9.444668987023917e-06, 6.660012754564024e-07, -4.127942847541781e-08,
    2.3305914207268887e-09, -1.518771072127003e-10, 2.022141770976022e-11, -2.75527696427289e-12,
)
# fmt: on

INVERSE_ROOT_2_PI = 0.39894228040143267793994605993438


@formula
def _exp_parts32(x, low):
    """e^(x + low) of two float32 as (1 + m) half other_half; the same for all x below -150."""
    n, r, lost = reduce32(float32(-150.0) if x < float32(-150.0) else x)
    r = r + (lost + low)
    half, other_half = halves32(n)
    return r + exp_tail32(r), half, other_half


@formula
def _exp_parts64(x, low):
    """e^(x + low) of two float64 as (1 + m) half other_half; the same for all x below -800."""
    n, r, lost = reduce64(-800.0 if x < -800.0 else x)
    r = r + (lost + low)
    half, other_half = halves64(n)
    return r + exp_tail64(r), half, other_half


@formula
def _scaled_mills32(t):
    """(a + 4) e^(a^2/2) Phi(-a), a from 0 to 14.6, of t = (a - 4)/(a + 4): c0 and the rest."""
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 = _NORMAL_TAIL32
    q = ((((c10 * t + c9) * t + c8) * t + c7) * t + c6) * t + c5
    return c0, ((((q * t + c4) * t + c3) * t + c2) * t + c1) * t


@formula
def _scaled_mills64(t):
    """(a + 4) e^(a^2/2) Phi(-a), a from 0 to 39, of t = (a - 4)/(a + 4): c0 and the rest."""
    (c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11,
     c12, c13, c14, c15, c16, c17, c18, c19, c20, c21, c22, c23) = _NORMAL_TAIL64  # fmt: skip
    q = ((((c23 * t + c22) * t + c21) * t + c20) * t + c19) * t + c18
    q = (((((q * t + c17) * t + c16) * t + c15) * t + c14) * t + c13) * t + c12
    q = (((((q * t + c11) * t + c10) * t + c9) * t + c8) * t + c7) * t + c6
    return c0, (((((q * t + c5) * t + c4) * t + c3) * t + c2) * t + c1) * t


@formula
def _normal_centre32(z):
    """(Phi(x) - 1/2)/x of z = x^2, a float32 up to 1."""
    c0, c1, c2, c3, c4, c5 = _NORMAL_CENTRE32
    return ((((c5 * z + c4) * z + c3) * z + c2) * z + c1) * z + c0


@formula
def _normal_centre64(z):
    """(Phi(x) - 1/2)/x of z = x^2, a float64 up to 1."""
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 = _NORMAL_CENTRE64
    q = (((((c11 * z + c10) * z + c9) * z + c8) * z + c7) * z + c6) * z + c5
    return ((((q * z + c4) * z + c3) * z + c2) * z + c1) * z + c0


exp_parts = by_type("exp_parts", _exp_parts32, _exp_parts64)
sigmoid_parts = by_type("sigmoid_parts", sigmoid_parts32, sigmoid_parts64)
_scaled_mills = by_type("_scaled_mills", _scaled_mills32, _scaled_mills64)
normal_centre = by_type("normal_centre", _normal_centre32, _normal_centre64)
expm1_of_sum = by_type("expm1_of_sum", expm1_of_sum32, expm1_of_sum64)
split_sum = by_type("split_sum", split_sum32, split_sum64)
log_parts = by_type("log_parts", log_parts32, log_parts64)


@formula
def product(a, b):
    """a b, and what rounding lost of it.

    The product is an fma, too: as such it is rounded, whatever sum it goes into.
    """
    y = fma(a, b, like(a, -0.0))
    return y, fma(a, b, -y)


@formula
def gaussian_parts(a):
    """e^(-a^2/2) as (1 + m) half other_half."""
    square, lost = product(a, a)
    half = like(a, -0.5)
    return exp_parts(half * square, half * lost)


@formula
def mills(a):
    """R(a) = e^(a^2/2) Phi(-a), Mills's ratio over sqrt(2 pi), as (leading + rest) inverse.

    So a product with it is a sum that is rounded once. What 1/(a + 4) is off by, relative to
    itself, counts in the polynomial's argument and in the sum.
    """
    one, four = like(a, 1), like(a, 4)
    denominator = a + four
    inverse = one / denominator
    off = fma(-inverse, denominator, one) - inverse * (a - (denominator - four))
    eightfold = like(a, 8) * inverse
    leading, rest = _scaled_mills((one - eightfold) - eightfold * off)
    return leading, rest + (leading + rest) * off, inverse


@formula
def log_of_root(base, c):
    """log((1 + c^2 base)^(1/c)) as a sum, for base >= 0 and c > 0, accurate near 0."""
    zero, one, big = like(base, 0), like(base, 1), like(base, 2.0**60)
    # c^2 base may overflow where its root does not: 1 + c^2 base over 2^64 then.
    scale = like(base, 2.0**-64) if base > big else one
    square, square_lost = product(c, c)
    scaled = base * scale
    x, x_lost = product(square, scaled)
    k, f, f_lost = split_sum(scale, x, x_lost + square_lost * scaled)
    log, log_lost = add(*log_parts(k + (like(base, 64) if base > big else zero), f, f_lost))
    inverse = one / c
    whole, lost = product(inverse, c)
    inverse_lost = ((one - whole) - lost) * inverse
    y, y_lost = product(log, inverse)
    y_lost = y_lost + (log * inverse_lost + log_lost * inverse)
    # To first order where no more is left, so that subnormal numbers keep their digits.
    first_order = x < like(base, 2.0**-60)
    y, y_lost = c * base if first_order else y, zero if first_order else y_lost
    special = base - base != zero  # infinity, NaN
    return base if special else y, zero if special else y_lost
