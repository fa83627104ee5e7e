"""Random words of counters: Philox 4x32-10, see ``counters``."""

from __future__ import annotations

import numpy as np

from fastnn.kernels.counters import LOW, MULTIPLIERS, ROUNDS, WEYL
from fastnn.kernels.cuda.target import device

_M0, _M1 = (np.uint64(multiplier) for multiplier in MULTIPLIERS)
_W0, _W1 = (np.uint64(number) for number in WEYL)
_LOW, _HALF = np.uint64(LOW), np.uint64(32)


@device
def low(number):
    """The low 32 bits, as a word."""
    return np.uint32(np.uint64(number) & _LOW)


@device
def high(number):
    """The high 32 bits, as a word."""
    return np.uint32(np.uint64(number) >> _HALF)


@device
def philox(counter, step, stream, seed):
    """The four words of the counter (`counter`, `step`, `stream`) under the key `seed`."""
    c0, c1, c2, c3 = low(counter), low(step), high(step), low(stream)
    k0, k1 = low(seed), high(seed)
    for _ in range(ROUNDS):
        of_0, of_2 = np.uint64(c0) * _M0, np.uint64(c2) * _M1
        c0, c1 = low(high(of_2) ^ c1 ^ k0), low(of_2)
        c2, c3 = low(high(of_0) ^ c3 ^ k1), low(of_0)
        k0, k1 = low(np.uint64(k0) + _W0), low(np.uint64(k1) + _W1)
    return c0, c1, c2, c3
