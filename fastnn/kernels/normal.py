"""Normal numbers out of random words, two of two: no call and no branch, so that it vectorises.

Box & Muller 1958, "A note on the generation of random normal deviates": of u and v, uniform on
(0, 1) and independent, √(−2 log u)·cos 2πv and √(−2 log u)·sin 2πv are normal and independent.
Here u = (radius + 1/2)/2³² and v = angle/2³² of two 32-bit words, so no number is larger than 6.77
(one in 10¹¹ should be). The angle is reduced in integers and so exactly.

A word comes as an int32 of its bits. Largest errors beside the formula in exact arithmetic, in
units of the number's distance √(−2 log u) from 0: 2.2e-7 in float32, 4e-16 in float64.
"""

import math

from numpy import float32, float64, int32, uint32

from fastnn.kernels.formula import formula
from fastnn.kernels.transcendental import log_parts32, log_parts64, split32, split64

# fmt: off
# sin(pi s/4)/s = c0 + z (c1 + z (c2 + ...)), z = s^2, |s| <= 1
_SINE32 = tuple(map(float32, (
    0.7853982, -0.08074583, 0.0024910164, -3.660915e-05,
)))
_SINE64 = (
    0.7853981633974483, -0.0807455121882785, 0.0024903945701648454, -3.657620405601523e-05,
    3.133614233120152e-07, -1.7569724080368212e-09, 6.817979103643991e-12,
)
# (cos(pi s/4) - 1)/z = c0 + z (c1 + z (c2 + ...)), z = s^2, |s| <= 1
_COSINE32 = tuple(map(float32, (
    -0.30842513, 0.015854284, -0.0003258687, 3.4940874e-06,
)))
_COSINE64 = (
    -0.30842513753404244, 0.015854344243815106, -0.00032599188692470266, 3.590860439970241e-06,
    -2.461135492867919e-08, 1.1499839107729051e-10, -3.8387447562547973e-13,
)
# fmt: on

_ZERO32, _ZERO64 = float32(0.0), float64(0.0)
_UNIT32, _UNIT64 = float32(2.0**-32), float64(2.0**-32)
_EIGHTH32, _EIGHTH64 = float32(2.0**-29), float64(2.0**-29)


@formula
def _radius32(word):
    """√(−2 log u) of u = (word + 1/2)/2³².

    Near 1, u as a float32 has not the digits that log u is made of: 1 − u has them.
    """
    u = (float32(uint32(word)) + float32(0.5)) * _UNIT32
    rest = (float32(uint32(~word)) + float32(0.5)) * _UNIT32
    k, f = split32(u)
    total, lost = log_parts32(float32(k), -rest if k == 0 else f, _ZERO32)
    return float32(math.sqrt(float32(-2.0) * (total + lost)))


@formula
def _radius64(word):
    """√(−2 log u) of u = (word + 1/2)/2³²."""
    k, f = split64((float64(uint32(word)) + 0.5) * _UNIT64)
    total, lost = log_parts64(float64(k), f, _ZERO64)
    return float64(math.sqrt(-2.0 * (total + lost)))


@formula
def _reduced(word):
    """Of an angle in 2³² parts of a turn: the nearest quarter, in the two highest bits, and what
    is left, from −2²⁹ to 2²⁹."""
    return int32(word + (1 << 29)), int32(int32(word << 2) >> 2)


@formula
def _turned(cosine, sine, quarter):
    """Both of an angle with so many quarters of a turn in the two highest bits more."""
    odd = (quarter & (1 << 30)) != 0
    x = -sine if odd else cosine
    y = cosine if odd else sine
    return (-x, -y) if quarter < 0 else (x, y)


@formula
def normal_pair32(radius, angle):
    """Two normal float32 of two words."""
    quarter, part = _reduced(angle)
    s = float32(part) * _EIGHTH32
    z = s * s
    s0, s1, s2, s3 = _SINE32
    c0, c1, c2, c3 = _COSINE32
    sine = s * (((s3 * z + s2) * z + s1) * z + s0)
    cosine = float32(1.0) + z * (((c3 * z + c2) * z + c1) * z + c0)
    x, y = _turned(cosine, sine, quarter)
    r = _radius32(radius)
    return r * x, r * y


@formula
def normal_pair64(radius, angle):
    """Two normal float64 of two words."""
    quarter, part = _reduced(angle)
    s = float64(part) * _EIGHTH64
    z = s * s
    s0, s1, s2, s3, s4, s5, s6 = _SINE64
    c0, c1, c2, c3, c4, c5, c6 = _COSINE64
    sine = s * ((((((s6 * z + s5) * z + s4) * z + s3) * z + s2) * z + s1) * z + s0)
    cosine = 1.0 + z * ((((((c6 * z + c5) * z + c4) * z + c3) * z + c2) * z + c1) * z + c0)
    x, y = _turned(cosine, sine, quarter)
    r = _radius64(radius)
    return r * x, r * y
