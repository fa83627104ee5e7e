"""exp, log, log1p, expm1, tanh and sigmoid that LLVM vectorises, in float32 and float64.

`np.exp` in a compiled loop is a call of the C library per element. These are plain arithmetic
without a branch or a call, so that a loop over them becomes vector instructions. Each runs as
plain Python on NumPy scalars too (warning of overflow as NumPy does), and compiled for the CPU
or the GPU from the same body.

Special values are those of C99: NaN gives NaN, the sign of zero is kept, overflow gives infinity
only where the rounded result is infinite, and underflow is gradual. Largest errors in units in the
last place, float32 over every input, float64 over 21 million (`benchmarks.transcendentals`):

| | exp | log | log1p | expm1 | tanh | sigmoid |
| --- | --- | --- | --- | --- | --- | --- |
| float32 | 0.99 | 0.88 | 0.97 | 1.10 | 1.05 | 1.23 |
| float64 | 0.98 | 0.83 | 0.89 | 1.03 | 1.04 | 1.21 |

The pattern throughout is: reduce the argument exactly, add a small polynomial correction to a
leading part that is exact, and carry along what the additions of leading parts lost to rounding.
For that no `reassoc` may be set.
"""

import numpy as np
from numpy import float32, float64, int32, int64

from fastnn.kernels.bits import (
    bits_from_float32,
    bits_from_float64,
    float32_from_bits,
    float64_from_bits,
)
from fastnn.kernels.formula import by_type, formula

# --------------------------------------------------------------------------------------
# Constants, as benchmarks.derive_polynomials prints them. ln 2 is in two parts, the high one with
# so few bits that n * high is exact for every exponent n. Adding ROUND rounds to an integer n and
# leaves n + 2 * bias (127, 1023) in the lowest bits of the sum.

# fmt: off
_ROUND32 = float32(1.2583166e+07)
_ROUND64 = float64(6755399441057790.0)
_LOG2_E32 = float32(1.442695)
_LOG2_E64 = float64(1.4426950408889634)
_LN2_HIGH32 = float32(0.69314575)
_LN2_HIGH64 = float64(0.6931471805598903)
_LN2_LOW32 = float32(1.4286068e-06)
_LN2_LOW64 = float64(5.497923018708371e-14)
_SQRT_HALF32 = float32(0.70710677)
_SQRT_HALF64 = float64(0.7071067811865476)
# (e^r - 1 - r)/r^2 = 1/2 + r (c1 + r (c2 + ...)), |r| <= ln(2)/2
_EXP32 = tuple(map(float32, (
    0.16666666, 0.041666493, 0.008333544, 0.001393234, 0.00019763428,
)))
_EXP64 = (
    0.16666666666666677, 0.041666666666666685, 0.00833333333332179, 0.0013888888888893669,
    0.00019841269885372163, 2.4801587279089324e-05, 2.7557245105937357e-06, 2.755732935318169e-07,
    2.5108708480744593e-08, 2.089400464641932e-09,
)
# (tanh(x)/x - 1)/z = c0 + z (c1 + z (c2 + ...)), z = x^2, tanh(x) <= 1/2
_TANH32 = tuple(map(float32, (
    -0.33333316, 0.13332544, -0.053847548, 0.021050714, -0.0062428494,
)))
_TANH64 = (
    -0.333333333333333, 0.1333333333332658, -0.05396825396373689, 0.02186948838517405,
    -0.008863232590252209, 0.0035920919175434244, -0.0014555421217489972, 0.0005884415277640513,
    -0.00023337410910139294, 8.330588742785397e-05, -1.948825965191738e-05,
)
# (log(1 + f) - f)/f^2 = -1/2 + f (c1 + f (c2 + ...)), sqrt(1/2) <= 1 + f <= sqrt(2)
_LOG32 = tuple(map(float32, (
    0.3333333, -0.25000826, 0.2000125, -0.16623192, 0.14201178, -0.13161442, 0.12766185,
    -0.076364994,
)))
# (log(1 + f) - 2s)/s^3 = c0 + z (c1 + z (c2 + ...)), s = f/(2 + f), z = s^2, same f
_LOG64 = (
    0.6666666666666735, 0.39999999999409136, 0.2857142874378149, 0.22222198414615274,
    0.18183573330822916, 0.1531380157913053, 0.14798618673836061,
)
# fmt: on

_ZERO32, _INFINITY32 = float32(0.0), float32(np.inf)
_ZERO64, _INFINITY64 = float64(0.0), float64(np.inf)
_NOTHING32, _NOTHING64 = float32(-0.0), float64(-0.0)  # x + -0 is x: no instruction is spent
_SQRT_HALF_BITS32 = bits_from_float32(_SQRT_HALF32)
_SQRT_HALF_BITS64 = bits_from_float64(_SQRT_HALF64)
_SIGN_BIT32, _SIGN_BIT64 = int32(-(2**31)), int64(-(2**63))
# Beyond these, exp is 0 or infinity, and expm1 is -1.
_EXP_LOW32, _EXP_HIGH32, _EXPM1_LOW32 = float32(-104.0), float32(89.0), float32(-18.0)
_EXP_LOW64, _EXP_HIGH64, _EXPM1_LOW64 = float64(-746.0), float64(710.0), float64(-38.0)
# Beyond these, the sigmoid of -x is 0, and the product of both too.
_SIGMOID_HIGH32, _SIGMOID_HIGH64 = float32(128.0), float64(800.0)
# Below this, tanh has its own polynomial; above, it exceeds 1/2, and 1 - 2/(1 + e^2x) is accurate.
_TANH_SMALL32, _TANH_SMALL64 = float32(0.5494), float64(0.5494)


@formula
def clamp(x, low, high):
    """`x` within [low, high]; NaN stays NaN because no comparison with it holds."""
    x = low if x < low else x
    return high if x > high else x


@formula
def add(large, small):
    """Their sum, and exactly what rounding lost: |large| >= |small| or large = 0 (Dekker 1971)."""
    total = large + small
    return total, (large - total) + small


# --------------------------------------------------------------------------------------
# The exponential family: x = n ln 2 + r with |r| <= ln(2)/2, e^x = 2^n e^r (Cody and Waite 1980).


@formula
def reduce32(x):
    """n + 254 in the low bits of an integer, r, and what rounding r lost."""
    shifted = x * _LOG2_E32 + _ROUND32
    n = shifted - _ROUND32
    high = x - n * _LN2_HIGH32
    r, lost = add(high, -(n * _LN2_LOW32))
    return bits_from_float32(shifted), r, lost


@formula
def reduce64(x):
    """n + 2046 in the low bits of an integer, r, and what rounding r lost."""
    shifted = x * _LOG2_E64 + _ROUND64
    n = shifted - _ROUND64
    high = x - n * _LN2_HIGH64
    r, lost = add(high, -(n * _LN2_LOW64))
    return bits_from_float64(shifted), r, lost


@formula
def exp_tail32(r):
    """e^r - 1 - r for |r| <= ln(2)/2."""
    c1, c2, c3, c4, c5 = _EXP32
    q = ((((c5 * r + c4) * r + c3) * r + c2) * r + c1) * r + float32(0.5)
    return r * r * q


@formula
def exp_tail64(r):
    """e^r - 1 - r for |r| <= ln(2)/2."""
    c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 = _EXP64
    q = ((((c10 * r + c9) * r + c8) * r + c7) * r + c6) * r + c5
    q = ((((q * r + c4) * r + c3) * r + c2) * r + c1) * r + 0.5
    return r * r * q


# 2^n comes as two factors that are normal numbers even where 2^n is not: of a product with both,
# only the last multiplication overflows or underflows, and rounds once. The bits hold n + 2 * bias,
# so a half is biased by one; the shift to the exponent's place drops the bits above.


@formula
def halves32(n):
    """2^n as the product of two float32, of n + 254 in the low bits of an integer."""
    half = float32_from_bits(int32((n >> 1) << 23))
    return half, float32_from_bits(int32(((n + 1) >> 1) << 23))


@formula
def halves64(n):
    """2^n as the product of two float64, of n + 2046 in the low bits of an integer."""
    return float64_from_bits((n >> 1) << 52), float64_from_bits(((n + 1) >> 1) << 52)


@formula
def exp32(x):
    """e^x of a float32."""
    n, r, _ = reduce32(clamp(x, _EXP_LOW32, _EXP_HIGH32))
    half, other_half = halves32(n)
    return (float32(1.0) + (r + exp_tail32(r))) * half * other_half


@formula
def exp64(x):
    """e^x of a float64."""
    n, r, _ = reduce64(clamp(x, _EXP_LOW64, _EXP_HIGH64))
    half, other_half = halves64(n)
    return (1.0 + (r + exp_tail64(r))) * half * other_half


@formula
def expm1_of_sum32(x, low):
    """e^(x + low) - 1 of two float32, |low| at most an ulp of x; accurate near 0."""
    n, r, r_lost = reduce32(clamp(x, _EXPM1_LOW32, _EXP_HIGH32))
    # (2^n - 1) + 2^n r + 2^n tail, all halved: 2^128 is not a float32, but 2^127 is.
    scale = float32_from_bits(int32((n - 128) << 23))
    r, low = add(r, low)
    r_lost = r_lost + low
    total, lost = add(scale - float32(0.5), scale * r)
    tail = exp_tail32(r) + (r_lost + r_lost * r)
    y = float32(2.0) * (total + (lost + scale * tail))
    return x if abs(x) < float32(2.0**-25) else y  # keeps -0 and the subnormals' last bit


@formula
def expm1_of_sum64(x, low):
    """e^(x + low) - 1 of two float64, |low| at most an ulp of x; accurate near 0."""
    n, r, r_lost = reduce64(clamp(x, _EXPM1_LOW64, _EXP_HIGH64))
    scale = float64_from_bits((n - 1024) << 52)
    r, low = add(r, low)
    r_lost = r_lost + low
    total, lost = add(scale - 0.5, scale * r)
    tail = exp_tail64(r) + (r_lost + r_lost * r)
    y = 2.0 * (total + (lost + scale * tail))
    return x if abs(x) < 2.0**-54 else y


@formula
def expm132(x):
    """e^x - 1 of a float32, accurate near 0."""
    return expm1_of_sum32(x, _NOTHING32)


@formula
def expm164(x):
    """e^x - 1 of a float64, accurate near 0."""
    return expm1_of_sum64(x, _NOTHING64)


@formula
def sigmoid_parts32(y, low):
    """1/(1 + e^(y + low)) for y >= 0, as 2^-n/(2^-n + e^r), which cannot overflow.

    As inverse·half·other_half, of which the last two are the halves of 2^-n.
    """
    n, r, _ = reduce32(_SIGMOID_HIGH32 if y > _SIGMOID_HIGH32 else y)
    r = r + low
    half, other_half = halves32(int32(508 - n))
    one_r, lost_r = add(float32(1.0), r)
    total, lost = add(one_r, half * other_half)
    denominator, lost = add(total, lost + (lost_r + exp_tail32(r)))
    inverse = float32(1.0) / denominator
    return inverse - inverse * (inverse * lost), half, other_half


@formula
def sigmoid_parts64(y, low):
    """The same of float64."""
    n, r, _ = reduce64(_SIGMOID_HIGH64 if y > _SIGMOID_HIGH64 else y)
    r = r + low
    half, other_half = halves64(4092 - n)
    one_r, lost_r = add(1.0, r)
    total, lost = add(one_r, half * other_half)
    denominator, lost = add(total, lost + (lost_r + exp_tail64(r)))
    inverse = 1.0 / denominator
    return inverse - inverse * (inverse * lost), half, other_half


@formula
def _sigmoid_of_negative32(y):
    """1/(1 + e^y) for y >= 0."""
    inverse, half, other_half = sigmoid_parts32(y, _NOTHING32)
    return inverse * half * other_half


@formula
def _sigmoid_of_negative64(y):
    """1/(1 + e^y) for y >= 0."""
    inverse, half, other_half = sigmoid_parts64(y, _NOTHING64)
    return inverse * half * other_half


@formula
def sigmoid32(x):
    """1/(1 + e^-x) of a float32."""
    below_half = _sigmoid_of_negative32(abs(x))
    return below_half if x < _ZERO32 else float32(1.0) - below_half


@formula
def sigmoid64(x):
    """1/(1 + e^-x) of a float64."""
    below_half = _sigmoid_of_negative64(abs(x))
    return below_half if x < 0.0 else 1.0 - below_half


@formula
def tanh32(x):
    """Hyperbolic tangent of a float32."""
    c0, c1, c2, c3, c4 = _TANH32
    a = abs(x)
    z = a * a
    small = a + a * z * ((((c4 * z + c3) * z + c2) * z + c1) * z + c0)
    large = float32(1.0) - float32(2.0) * _sigmoid_of_negative32(a + a)
    y = small if a < _TANH_SMALL32 else large
    return float32_from_bits(int32(bits_from_float32(y) | (bits_from_float32(x) & _SIGN_BIT32)))


@formula
def tanh64(x):
    """Hyperbolic tangent of a float64."""
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 = _TANH64
    a = abs(x)
    z = a * a
    q = ((((c10 * z + c9) * z + c8) * z + c7) * z + c6) * z + c5
    small = a + a * z * (((((q * z + c4) * z + c3) * z + c2) * z + c1) * z + c0)
    large = 1.0 - 2.0 * _sigmoid_of_negative64(a + a)
    y = small if a < _TANH_SMALL64 else large
    return float64_from_bits(bits_from_float64(y) | (bits_from_float64(x) & _SIGN_BIT64))


# --------------------------------------------------------------------------------------
# The logarithms: u = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), log u = k ln 2 + log(1 + f).


@formula
def split32(u):
    """k and f of a normal u = 2^k (1 + f); f is exact."""
    bits = bits_from_float32(u)
    k = int32(int32(bits - _SQRT_HALF_BITS32) >> 23)
    return k, float32_from_bits(int32(bits - int32(k << 23))) - float32(1.0)


@formula
def split64(u):
    """k and f of a normal u = 2^k (1 + f); f is exact."""
    bits = bits_from_float64(u)
    k = (bits - _SQRT_HALF_BITS64) >> 52
    return k, float64_from_bits(bits - (k << 52)) - 1.0


@formula
def log_parts32(k, f, f_lost):
    """k ln 2 + log(1 + f + f_lost) as a leading part and what comes to it."""
    c1, c2, c3, c4, c5, c6, c7, c8 = _LOG32
    q = (((c8 * f + c7) * f + c6) * f + c5) * f + c4
    tail = f * f * ((((q * f + c3) * f + c2) * f + c1) * f - float32(0.5))
    total, lost = add(k * _LN2_HIGH32, f)
    return total, lost + (tail + (f_lost + k * _LN2_LOW32))


@formula
def log_parts64(k, f, f_lost):
    """k ln 2 + log(1 + f + f_lost) as a leading part and what comes to it."""
    # A polynomial in f as in float32 needs 20 coefficients, which take longer than a division.
    # 1 + f = (1 + s)/(1 - s): log(1 + f) = 2 artanh s = f - f^2/2 + s (f^2/2 + z (c0 + ...)),
    # as in Sun's fdlibm.
    c0, c1, c2, c3, c4, c5, c6 = _LOG64
    s = f / (2.0 + f)
    z = s * s
    half_square = 0.5 * f * f
    q = (((((c6 * z + c5) * z + c4) * z + c3) * z + c2) * z + c1) * z + c0
    tail = s * (half_square + z * q) - half_square
    total, lost = add(k * _LN2_HIGH64, f)
    return total, lost + (tail + (f_lost + k * _LN2_LOW64))


@formula
def _log_edges(log_u, u, zero, infinity):
    """`log_u` where u is positive and finite, else what belongs there."""
    log_u = u if u == infinity else log_u
    return log_u if u > zero else (-infinity if u == zero else infinity - infinity)


@formula
def log32(x):
    """Natural logarithm of a float32."""
    subnormal = x < float32(2.0**-126)
    k, f = split32(x * float32(2.0**23) if subnormal else x)
    exponent = float32(k) - (float32(23.0) if subnormal else _ZERO32)
    total, rest = log_parts32(exponent, f, _ZERO32)
    return _log_edges(total + rest, x, _ZERO32, _INFINITY32)


@formula
def log64(x):
    """Natural logarithm of a float64."""
    subnormal = x < 2.0**-1022
    k, f = split64(x * 2.0**52 if subnormal else x)
    exponent = float64(k) - (52.0 if subnormal else 0.0)
    total, rest = log_parts64(exponent, f, _ZERO64)
    return _log_edges(total + rest, x, _ZERO64, _INFINITY64)


@formula
def split_sum32(one, x, low):
    """k, f and what rounding lost of f, of one + x + low = 2^k (1 + f)."""
    u = one + x
    added = u - one
    lost = (one - (u - added)) + (x - added)  # either may be larger (Knuth's TwoSum)
    k, high = split32(u)
    # 2^-k lost, through 2^(1-k), because 2^-128 has no such bits.
    lost = (lost + low) * float32_from_bits(int32(int32(128 - k) << 23)) * float32(0.5)
    f, f_lost = add(high, lost)
    return float32(k), f, f_lost


@formula
def split_sum64(one, x, low):
    """The same of float64."""
    u = one + x
    added = u - one
    lost = (one - (u - added)) + (x - added)
    k, high = split64(u)
    lost = (lost + low) * float64_from_bits((1024 - k) << 52) * 0.5
    f, f_lost = add(high, lost)
    return float64(k), f, f_lost


@formula
def log1p32(x):
    """log(1 + x) of a float32, accurate near 0."""
    k, f, f_lost = split_sum32(float32(1.0), x, _NOTHING32)
    total, rest = log_parts32(k, f, f_lost)
    y = _log_edges(total + rest, float32(1.0) + x, _ZERO32, _INFINITY32)
    return x if x == _ZERO32 else y  # keeps -0


@formula
def log1p64(x):
    """log(1 + x) of a float64, accurate near 0."""
    k, f, f_lost = split_sum64(float64(1.0), x, _NOTHING64)
    total, rest = log_parts64(k, f, f_lost)
    y = _log_edges(total + rest, float64(1.0) + x, _ZERO64, _INFINITY64)
    return x if x == _ZERO64 else y


# --------------------------------------------------------------------------------------
# One name for both types, chosen when the caller is compiled.


exp = by_type("exp", exp32, exp64)
log = by_type("log", log32, log64)
log1p = by_type("log1p", log1p32, log1p64)
expm1 = by_type("expm1", expm132, expm164)
tanh = by_type("tanh", tanh32, tanh64)
sigmoid = by_type("sigmoid", sigmoid32, sigmoid64)
