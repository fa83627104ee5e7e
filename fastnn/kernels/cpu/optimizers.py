"""Optimizers: one pass over the flat vectors of parameters, gradients and running means.

Before it, `guard` stops the run where a gradient is of no use, so that weights stay what they
were. Should a new value all the same not be finite, its element keeps its old value and its old
running means, and the run's flag is raised: weights never become infinite or NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.kernels import state as slot_of
from fastnn.kernels.cpu.flag import raise_flag
from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.settings import kernel, reduction
from fastnn.kernels.scalar import adam_moments, adam_update, is_finite, sgd_velocity


def guard(type_name: str) -> Any:
    """Raise the run's flag if a gradient, or its square, is not finite."""
    real = getattr(np, type_name)

    @reduction
    def zero_or_nan(g):
        total = real(0)
        for i in range(g.size):
            total += g[i] * g[i] * real(0)
        return total

    @kernel
    def guard(g, state):
        if not zero_or_nan(g) == real(0):
            raise_flag(state)

    return guard


def sgd(type_name: str) -> Any:
    """``v = μv − ηg; w += v``; Nesterov's form ``w += μv − ηg`` with the new v (Sutskever 2013).

    `velocity` left out stands for no momentum.
    """
    real = getattr(np, type_name)

    @reduction
    def plain(w, g, learning_rate):
        bad = real(0)
        for i in range(w.size):
            new = w[i] - learning_rate * g[i]
            finite = is_finite(new)
            w[i] = new if finite else w[i]
            bad += real(0) if finite else real(1)
        return bad

    @reduction
    def with_momentum(w, g, velocity, learning_rate, momentum, lookahead):
        bad = real(0)
        for i in range(w.size):
            new_velocity = sgd_velocity(g[i], velocity[i], learning_rate, momentum)
            # Nesterov: once more along the velocity, from where it leads.
            ahead = sgd_velocity(g[i], new_velocity, learning_rate, momentum)
            new = w[i] + (ahead if lookahead else new_velocity)
            finite = is_finite(new)
            w[i] = new if finite else w[i]
            velocity[i] = new_velocity if finite else velocity[i]
            bad += real(0) if finite else real(1)
        return bad

    @kernel
    def sgd(w, g, velocity, momentum, nesterov, state, floats):
        learning_rate = real(floats[slot_of.LEARNING_RATE])
        if address(velocity) == 0:
            bad = plain(w, g, learning_rate)
        else:
            bad = with_momentum(w, g, velocity, learning_rate, real(momentum), nesterov != 0)
        if bad > real(0):
            raise_flag(state)

    return sgd


def adam(type_name: str) -> Any:
    """Adam (Kingma & Ba 2014, arXiv 1412.6980), bias-corrected; see ``scalar.adam_update``."""
    real = getattr(np, type_name)

    @reduction
    def update(w, g, m, v, beta_1, weight_1, beta_2, weight_2, rate, correction, epsilon):
        bad = real(0)
        for i in range(w.size):
            new_m, new_v = adam_moments(g[i], m[i], v[i], beta_1, weight_1, beta_2, weight_2)
            new = adam_update(w[i], new_m, new_v, rate, correction, epsilon)
            # The square of a gradient may overflow where w then would stand still for ever.
            finite = is_finite(new) and is_finite(new_v)
            w[i] = new if finite else w[i]
            m[i] = new_m if finite else m[i]
            v[i] = new_v if finite else v[i]
            bad += real(0) if finite else real(1)
        return bad

    @kernel
    def adam(w, g, m, v, beta_1, beta_2, epsilon, state, floats):
        t = float(state[slot_of.STEP] + 1)
        rate = floats[slot_of.LEARNING_RATE] / (1.0 - beta_1**t)
        correction = 1.0 / math.sqrt(1.0 - beta_2**t)
        bad = update(
            w,
            g,
            m,
            v,
            real(beta_1),
            real(1.0 - beta_1),
            real(beta_2),
            real(1.0 - beta_2),
            real(rate),
            real(correction),
            real(epsilon),
        )
        if bad > real(0):
            raise_flag(state)

    return adam
