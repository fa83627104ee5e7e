"""Optimizers: one pass over the flat vectors of parameters, gradients and running means.

What becomes of a value that is not finite, the CPU's kernels of the same names say.
"""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import Any

import numpy as np

from fastnn.kernels import state as s
from fastnn.kernels.cuda.flag import raise_flag
from fastnn.kernels.cuda.groups import sum_over
from fastnn.kernels.cuda.launch import (
    Kernel,
    Launch,
    Lengths,
    by_element,
    by_one_thread,
    in_blocks,
)
from fastnn.kernels.cuda.maps import loop_over, over_elements
from fastnn.kernels.cuda.memory import given, lanes_of
from fastnn.kernels.cuda.reduction import sum_of
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.formula import fma, smallest_normal
from fastnn.kernels.scalar import flushed, is_finite, sgd_velocity
from fastnn.kernels.updates import NORM_BLOCK, RATES, STEP_NUMBERS, WITH_OWN, expression_of

SUMMING = 128
"""Threads of a block that sums."""


def guard(type_name: str) -> Kernel:
    """Raise the run's flag if a gradient, or its square, is not finite."""

    @device
    def looked_at(g, numbers):
        return (not is_finite(g * g),)

    return over_elements(type_name, [], ["g"], looked_at, dimensions="P", flags=True)


def clip_value(type_name: str) -> Kernel:
    """Every gradient no larger than `limit`, no smaller than −`limit`; NaN stays."""
    real = getattr(np, type_name)

    @device
    def numbers(limit):
        return (real(limit),)

    @device
    def clipped(g, numbers):
        high = numbers[0]
        return (high if g > high else (-high if g < -high else g),)

    return over_elements(type_name, ["g"], ["g"], clipped, numbers, dimensions="P")


def sum_of_squares(type_name: str) -> Kernel:
    """``sums`` = the sums of squares, in float64, of one block of gradients after the other."""

    @device
    def square(g, numbers):
        return g * g

    of_thread, of_block = sum_of(type_name, SUMMING, square), sum_over("float64", SUMMING)

    @device
    def sum_of_squares(sums, g):
        block = cuda.blockIdx.x
        while block < sums.size:
            first = block * NORM_BLOCK
            count = min(NORM_BLOCK, g.size - first)
            total = of_block(of_thread(g, first, count, cuda.threadIdx.x, ()))
            if cuda.threadIdx.x == 0:
                sums[block] = total
            block += cuda.gridDim.x

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        return Launch(in_blocks(lengths["B"], 1), SUMMING)

    return Kernel(lambda: sum_of_squares, launch, any_blocks=True)


def clip_norm(type_name: str) -> Kernel:
    """Scale gradients down so that a norm, of which `sums` are the squares, is at most `limit`.

    Every block sums them up, in the same order.
    """
    real, of_block = getattr(np, type_name), sum_over("float64", SUMMING)

    @device
    def scaled(g, numbers):
        return (g * numbers[0],)

    scale = loop_over(type_name, ["g"], ["g"], scaled)

    @device
    def clip_norm(g, sums, limit, state, phase, position):
        total, i = 0.0, cuda.threadIdx.x
        while i < sums.size:
            total += sums[i]
            i += SUMMING
        total = of_block(total)
        if not is_finite(total):
            raise_flag(state, phase, position)
        elif math.sqrt(total) > limit:
            scale(g, (real(limit / math.sqrt(total)),))

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        return Launch(in_blocks(lengths["P"], SUMMING, lanes_of(type_name)), SUMMING)

    return Kernel(lambda: clip_norm, launch, any_blocks=True)


def weight_decay(type_name: str) -> Kernel:
    """``w −= ηλw``, before the update: decoupled (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
    real = getattr(np, type_name)

    @device
    def numbers(decay, multiplier, floats):
        return (real(1.0 - floats[s.LEARNING_RATE] * multiplier * decay),)

    @device
    def shrunk(w, numbers):
        new = numbers[0] * w
        finite = is_finite(new)
        return new if finite else w, not finite

    return over_elements(type_name, ["w"], ["w"], shrunk, numbers, dimensions="P", flags=True)


def weight_average(type_name: str) -> Kernel:
    """``average += (1−μ)(w − average)``; at the first step w itself, as in Keras."""
    real = getattr(np, type_name)

    @device
    def numbers(momentum, state):
        return (real(1.0 if state[s.STEP] == 0 else 1.0 - momentum),)

    @device
    def averaged(average, w, numbers):
        return (flushed(average + numbers[0] * (w - average)),)

    return over_elements(
        type_name, ["average"], ["average", "w"], averaged, numbers, dimensions="P"
    )


def sgd(type_name: str) -> Kernel:
    """``v = μv − ηg; w += v``; Nesterov's form ``w += μv − ηg`` with the new v (Sutskever 2013).

    `velocity` left out stands for no momentum.
    """
    real = getattr(np, type_name)

    @device
    def plain(w, g, numbers):
        new = w - numbers[0] * g
        finite = is_finite(new)
        return new if finite else w, not finite

    @device
    def with_momentum(w, velocity, g, numbers):
        learning_rate, momentum, nesterov = numbers
        new_velocity = sgd_velocity(g, velocity, learning_rate, momentum)
        # Nesterov: once more along the velocity, from where it leads.
        ahead = sgd_velocity(g, new_velocity, learning_rate, momentum)
        new = w + (ahead if nesterov else new_velocity)
        finite = is_finite(new)
        return new if finite else w, new_velocity if finite else velocity, not finite

    step = loop_over(type_name, ["w"], ["w", "g"], plain, flags=True)
    both = ["w", "velocity"]
    step_with_momentum = loop_over(type_name, both, [*both, "g"], with_momentum, flags=True)

    @device
    def sgd(w, g, velocity, momentum, nesterov, multiplier, state, floats, phase, position):
        learning_rate = real(floats[s.LEARNING_RATE] * multiplier)
        if given(velocity):
            numbers = (learning_rate, real(momentum), nesterov != 0)
            bad = step_with_momentum(w, velocity, g, numbers)
        else:
            bad = step(w, g, (learning_rate,))
        if bad:
            raise_flag(state, phase, position)

    return by_element(sgd, "P", each=lanes_of(type_name))


def adam(type_name: str) -> Kernel:
    """Adam (Kingma & Ba 2014, arXiv 1412.6980), bias-corrected; rounded as the CPU's is.

    `adam_rates` comes before it in every step.
    """
    real = getattr(np, type_name)

    @device
    def numbers(beta_1, beta_2, epsilon, multiplier, floats):
        epsilon = real(epsilon)
        return (
            real(beta_1),
            real(1.0 - beta_1),
            real(beta_2),
            real(1.0 - beta_2),
            real(floats[s.UPDATE_RATE] * multiplier),
            real(floats[s.UPDATE_CORRECTION]),
            max(epsilon, smallest_normal(epsilon)),
        )

    @device
    def updated(w, m, v, g, numbers):
        beta_1, weight_1, beta_2, weight_2, rate, correction, epsilon = numbers
        new_m = flushed(fma(beta_1, m, weight_1 * g))
        new_v = flushed(fma(beta_2, v, weight_2 * (g * g)))
        new_w = fma(-rate, new_m / fma(real(math.sqrt(new_v)), correction, epsilon), w)
        # The square of a gradient may overflow where w then would stand still for ever.
        finite = is_finite(new_w) and is_finite(new_v)
        return (
            new_w if finite else w,
            new_m if finite else m,
            new_v if finite else v,
            not finite,
        )

    kept = ["w", "m", "v"]
    return over_elements(
        type_name, kept, [*kept, "g"], updated, numbers, dimensions="P", flags=True
    )


def _update(name: str, type_name: str) -> Kernel:
    """The kernel of an update: its text follows from the formula's names."""
    update = WITH_OWN[name]
    kept = ["w", *update.means]
    own = [number for number in update.numbers if number not in STEP_NUMBERS]
    values = ", ".join(f"real({expression_of(number)})" for number in update.numbers)
    arguments = ", ".join(["w", "g", *update.means, *update.numbers])
    new_values = ["new_w", *(f"flushed(new_{mean})" for mean in update.means)]
    chosen = [f"{new} if finite else {old}" for old, new in zip(kept, new_values, strict=True)]
    text = f"""
def numbers({", ".join([*own, "multiplier", "state", "floats"])}):
    return ({values},)

def updated({", ".join(kept)}, g, numbers):
    {", ".join(update.numbers)}, = numbers
    {", ".join(f"new_{a}" for a in kept)} = element({arguments})
    finite = {" and ".join(f"is_finite(new_{a})" for a in kept)}
    return {", ".join(chosen)}, not finite
"""
    namespace = {
        "real": getattr(np, type_name),
        "element": device(update.formula),
        "flushed": flushed,
        "is_finite": is_finite,
    }
    exec(text, namespace)
    numbers, updated = device(namespace["numbers"]), device(namespace["updated"])
    return over_elements(
        type_name, kept, [*kept, "g"], updated, numbers, dimensions="P", flags=True
    )


def _rates(name: str, type_name: str) -> Kernel:
    """The kernel of one of `RATES`: what is the same for all elements, into `floats`."""
    function, numbers = RATES[name]
    _, _, *own = inspect.signature(function).parameters
    slots = ", ".join(f"floats[{STEP_NUMBERS[number]}]" for number in numbers)
    text = f"""
def {name}({", ".join(own)}, state, floats):
    {slots} = element(state[{s.STEP}] + 1, floats[{s.LEARNING_RATE}], {", ".join(own)})
"""
    namespace = {"element": device(function)}
    exec(text, namespace)
    return by_one_thread(device(namespace[name]))


def __getattr__(name: str) -> Any:
    """What makes the kernel of an update, or of one of `RATES`."""
    if name in WITH_OWN:
        return partial(_update, name)
    if name in RATES:
        return partial(_rates, name)
    raise AttributeError(f"no optimizer's kernel is called {name!r}")
