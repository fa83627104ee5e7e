"""Adam's loop of vectors: as exact as its formula, at all sizes that its numbers can have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastnn.engine import cpu
from fastnn.engine.tape import Eager
from fastnn.kernels import state as s
from kernel_cases import BETAS, DTYPES, adam_rates_at

Array = NDArray[Any]

RATE = 1e-3


def updated(g: Array, m: Array, v: Array, epsilon: float, t: int) -> tuple[Array, Array, Array]:
    """What a step makes of zeros as parameters, and of the means: the step itself, that is."""
    w, m, v = np.zeros_like(g), m.copy(), v.copy()
    state = cpu.new_state()
    state[s.STEP] = t - 1
    rate, correction = adam_rates_at(t, RATE, **BETAS)
    floats = cpu.floats(state)
    floats[s.UPDATE_RATE], floats[s.UPDATE_CORRECTION] = rate, correction
    tape = Eager(0, str(g.dtype), state)
    tape.op("adam", w=w, g=g, m=m, v=v, epsilon=epsilon, multiplier=1.0, **BETAS)
    assert not tape.stopped
    return w, m, v


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("t", [1, 10, 10000])
def test_step_is_exact_to_a_few_ulp_at_all_sizes(dtype: str, t: int) -> None:
    largest = 16 if dtype == "float32" else 140
    rng = np.random.default_rng(t)
    for epsilon in (1e-7, 1e-8, 1e-30, 1.0):
        size = 10.0 ** rng.uniform(-largest, largest, 5003)
        g = (size * rng.choice([-1.0, 1.0], size.size)).astype(dtype)
        m = (size * rng.normal(size=size.size)).astype(dtype)
        v = (size**2 * rng.uniform(0.0, 2.0, size.size)).astype(dtype)
        w, new_m, new_v = updated(g, m, v, epsilon, t)
        # From the means as they were rounded: what is judged is the root and the quotient.
        rate, correction = adam_rates_at(t, RATE, **BETAS)
        exact = (
            -rate
            * new_m.astype(np.longdouble)
            / (np.sqrt(new_v.astype(np.longdouble)) * correction + epsilon)
        )
        normal = np.abs(exact) > np.finfo(dtype).tiny
        assert normal.mean() > 0.5
        error = np.abs(w - exact)[normal] / np.spacing(np.abs(exact[normal]).astype(dtype))
        assert error.max() < 6.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_and_next_to_nothing(dtype: str) -> None:
    zeros = np.zeros(37, dtype)
    for epsilon in (1e-7, 1e-45, math.ulp(0.0)):
        for array in updated(zeros, zeros, zeros, epsilon, 1):
            np.testing.assert_array_equal(array, 0)
    # Squares of these are 0, their means are not.
    tiny = np.full(37, 1e-30 if dtype == "float32" else 1e-200, dtype)
    w, m, v = updated(tiny, tiny, zeros, 1e-7, 1)
    np.testing.assert_allclose(w, -RATE / 0.1 * m.astype(np.float64) / 1e-7, rtol=1e-6)
    np.testing.assert_array_equal(v, 0)
