"""Optimizers: one pass over the flat vectors of parameters, gradients and running means.

Or over rows of a kernel's gradient, just computed and never written to memory. Before either,
`guard` or `guard_product` stops the run where a gradient is of no use, so that weights stay what
they were. Should a new value all the same not be finite, its element keeps its old value and its
old running means, and the run's flag is raised: weights never become infinite or NaN.
"""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import Any

import numpy as np

from fastnn.kernels import state as slot_of
from fastnn.kernels.bits import bits_of, from_bits
from fastnn.kernels.cpu.adam import adam_row
from fastnn.kernels.cpu.flag import raise_flag
from fastnn.kernels.cpu.gemm import call_product
from fastnn.kernels.cpu.memory import address, view
from fastnn.kernels.cpu.settings import exact, inlined, kernel, reduction
from fastnn.kernels.cpu.steps import atomic_add, atomic_store
from fastnn.kernels.scalar import flushed, is_finite, sgd_velocity
from fastnn.kernels.signatures import ITEM_BYTES
from fastnn.kernels.updates import NORM_BLOCK, RATES, STEP_NUMBERS, WITH_OWN, expression_of


def _zero_or_nan(type_name: str) -> Any:
    """The function that is 0 where all squares of a vector are finite, else NaN."""
    real = getattr(np, type_name)

    @reduction
    def zero_or_nan(g):
        total = real(0)
        for i in range(g.size):
            total += g[i] * g[i] * real(0)
        return total

    return zero_or_nan


def guard(type_name: str) -> Any:
    """Raise the run's flag if a gradient, or its square, is not finite."""
    real, zero_or_nan = getattr(np, type_name), _zero_or_nan(type_name)

    @kernel
    def guard(g, state):
        if not zero_or_nan(g) == real(0):
            raise_flag(state)

    return guard


def guard_product(type_name: str) -> Any:
    """The same for a dense kernel's gradient xᵀ·dy and its bias's, which are not computed yet.

    No element of either is larger than N max(|x|, 1) max|dy|. Only where that might be too large
    are they computed, into dw (I, O) and db (O,), to be looked at one by one. Each thread looks
    at its own rows, and vouches for its share of the sum; of those that cannot, one at a time
    computes all.
    """
    real, zero_or_nan = getattr(np, type_name), _zero_or_nan(type_name)
    size, vector = ITEM_BYTES[type_name], view(type_name, 1)
    largest_square_root = math.sqrt(float(np.finfo(type_name).max)) / 2
    integer = np.int32 if size == 4 else np.int64
    no_sign = np.iinfo(integer).max

    @inlined
    def largest_of_rows(array, first, last):
        # As integers, the bits of absolute values are in order, infinity and NaN last.
        columns = array.shape[1]
        flat = vector(address(array) + first * columns * size, ((last - first) * columns,))
        largest = integer(0)
        for i in range(flat.size):
            largest = max(largest, integer(bits_of(flat[i]) & no_sign))
        return float(from_bits(largest))

    @kernel
    def guard_product(dw, db, x, dy, multiply, workspace, state, rank, team):
        rows = x.shape[0]
        first, last = rows * rank // team, rows * (rank + 1) // team
        bound = max(largest_of_rows(x, first, last), 1.0) * largest_of_rows(dy, first, last)
        if rows * bound < largest_square_root:
            return
        busy = state[slot_of.SHARED] + 8 * slot_of.SHARED_CHECK
        if atomic_add(busy, 1) != 0:
            return
        inputs, outputs = dw.shape
        call_product(multiply, inputs, outputs, rows, address(x), size, inputs * size,
                     address(dy), outputs * size, size, 0, address(db),
                     address(dw), outputs * size, 0, 0, 0, 0, 0, 0, workspace, address(state),
                     0, 1)  # fmt: skip
        total = zero_or_nan(vector(address(dw), (dw.size,)))
        if address(db) != 0:
            total += zero_or_nan(db)
        if not total == real(0):
            raise_flag(state)
        atomic_store(busy, 0)

    return guard_product


def clip_value(type_name: str) -> Any:
    """Every gradient no larger than `limit`, no smaller than −`limit`."""
    real = getattr(np, type_name)

    @kernel
    def clip_value(g, limit):
        high = real(limit)
        for i in range(g.size):
            g[i] = min(max(g[i], -high), high)

    return clip_value


def sum_of_squares(type_name: str) -> Any:
    """``sums`` = the sums of squares, in float64, of one block of gradients after the other."""

    @reduction
    def of_block(g, first, last):
        total = 0.0
        for i in range(first, last):
            total += np.float64(g[i]) * np.float64(g[i])
        return total

    @kernel
    def sum_of_squares(sums, g, rank, team):
        for block in range(rank, sums.size, team):
            first = block * NORM_BLOCK
            sums[block] = of_block(g, first, min(first + NORM_BLOCK, g.size))

    return sum_of_squares


def clip_norm(type_name: str) -> Any:
    """Scale gradients down so that a norm, of which `sums` are the squares, is at most `limit`."""
    real = getattr(np, type_name)

    @kernel
    def clip_norm(g, sums, limit, state):
        total = 0.0
        for block in range(sums.size):
            total += sums[block]
        if not is_finite(total):
            raise_flag(state)
        elif math.sqrt(total) > limit:
            scale = real(limit / math.sqrt(total))
            for i in range(g.size):
                g[i] *= scale

    return clip_norm


def weight_decay(type_name: str) -> Any:
    """``w −= ηλw``, before the update: decoupled (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
    real = getattr(np, type_name)

    @reduction
    def shrink(w, factor):
        bad = real(0)
        for i in range(w.size):
            old = w[i]  # read again below, it would not become a vector (measured: 8 times slower)
            new = factor * old
            finite = is_finite(new)
            w[i] = new if finite else old
            bad += real(0) if finite else real(1)
        return bad

    @kernel
    def weight_decay(w, decay, multiplier, state, floats):
        learning_rate = floats[slot_of.LEARNING_RATE] * multiplier
        if shrink(w, real(1.0 - learning_rate * decay)) > real(0):
            raise_flag(state)

    return weight_decay


def weight_average(type_name: str) -> Any:
    """``average += (1−μ)(w − average)``; at the first step w itself, as in Keras."""
    real = getattr(np, type_name)

    @kernel
    def weight_average(average, w, momentum, state):
        share = real(1.0 if state[slot_of.STEP] == 0 else 1.0 - momentum)
        for i in range(w.size):
            average[i] = flushed(average[i] + share * (w[i] - average[i]))

    return weight_average


SGD_BLOCK = 1024
"""Elements that are looked at, and then updated, while they are in the L1 cache."""


def sgd(type_name: str) -> Any:
    """``v = μv − ηg; w += v``; Nesterov's form ``w += μv − ηg`` with the new v (Sutskever 2013).

    `velocity` left out stands for no momentum.
    """
    real, size, part = getattr(np, type_name), ITEM_BYTES[type_name], view(type_name, 1)
    # A sum of two products: see `exact`.
    velocity_of = exact(sgd_velocity)

    @inlined
    def moved(g, velocity, learning_rate, momentum, lookahead):
        """The new velocity, and what is added to w."""
        new = velocity_of(g, velocity, learning_rate, momentum)
        # Nesterov: once more along the velocity, from where it leads.
        return new, velocity_of(g, new, learning_rate, momentum) if lookahead else new

    # Where all is finite, as it is but once, a loop without choices is as fast as memory; one that
    # leaves elements out LLVM takes one by one (7510 parameters on Sapphire Rapids: 7.6 µs).

    @reduction
    def plain_is_finite(w, g, learning_rate):
        nothing = real(0)
        for i in range(w.size):
            nothing += (w[i] - learning_rate * g[i]) * real(0)
        return nothing == real(0)

    @kernel
    def plain(w, g, learning_rate):
        for i in range(w.size):
            w[i] = w[i] - learning_rate * g[i]

    @kernel
    def plain_of_finite(w, g, learning_rate):
        for i in range(w.size):
            new = w[i] - learning_rate * g[i]
            if is_finite(new):
                w[i] = new

    @reduction
    def with_momentum_is_finite(w, g, velocity, learning_rate, momentum, lookahead):
        nothing = real(0)
        for i in range(w.size):
            _, step = moved(g[i], velocity[i], learning_rate, momentum, lookahead)
            nothing += (w[i] + step) * real(0)
        return nothing == real(0)

    @kernel
    def with_momentum(w, g, velocity, learning_rate, momentum, lookahead):
        for i in range(w.size):
            new_velocity, step = moved(g[i], velocity[i], learning_rate, momentum, lookahead)
            w[i], velocity[i] = w[i] + step, new_velocity

    @kernel
    def with_momentum_of_finite(w, g, velocity, learning_rate, momentum, lookahead):
        for i in range(w.size):
            new_velocity, step = moved(g[i], velocity[i], learning_rate, momentum, lookahead)
            if is_finite(w[i] + step):
                w[i], velocity[i] = w[i] + step, new_velocity

    @kernel
    def sgd(w, g, velocity, momentum, nesterov, multiplier, state, floats):
        learning_rate = real(floats[slot_of.LEARNING_RATE] * multiplier)
        of_velocity, ahead = real(momentum), nesterov != 0
        for begin in range(0, w.size, SGD_BLOCK):
            shape = (min(SGD_BLOCK, w.size - begin),)
            w_part, g_part = (
                part(address(w) + begin * size, shape),
                part(address(g) + begin * size, shape),
            )
            if address(velocity) == 0:
                if plain_is_finite(w_part, g_part, learning_rate):
                    plain(w_part, g_part, learning_rate)
                else:
                    plain_of_finite(w_part, g_part, learning_rate)
                    raise_flag(state)
                continue
            v_part = part(address(velocity) + begin * size, shape)
            numbers = learning_rate, of_velocity, ahead
            if with_momentum_is_finite(w_part, g_part, v_part, *numbers):
                with_momentum(w_part, g_part, v_part, *numbers)
            else:
                with_momentum_of_finite(w_part, g_part, v_part, *numbers)
                raise_flag(state)

    return sgd


def adam(type_name: str) -> Any:
    """Adam (Kingma & Ba 2014, arXiv 1412.6980), bias-corrected; see ``adam``.

    `adam_rates` comes before it in every step.
    """
    real, update = getattr(np, type_name), adam_row(type_name)

    @kernel
    def adam(w, g, m, v, beta_1, beta_2, epsilon, multiplier, state, floats):
        bad = update(
            address(w),
            address(g),
            address(m),
            address(v),
            w.size,
            real(beta_1),
            real(1.0 - beta_1),
            real(beta_2),
            real(1.0 - beta_2),
            real(floats[slot_of.UPDATE_RATE] * multiplier),
            real(floats[slot_of.UPDATE_CORRECTION]),
            real(epsilon),
        )
        if bad > 0:
            raise_flag(state)

    return adam


def _update(name: str, type_name: str) -> Any:
    """The kernel of an update: the text of its loop follows from the formula's names."""
    update, real = WITH_OWN[name], getattr(np, type_name)
    element, zero, one = exact(update.formula), real(0), real(1)
    changed = ("w", *update.means)
    own = [number for number in update.numbers if number not in STEP_NUMBERS]
    values = [f"real({expression_of(number)})" for number in update.numbers]
    arrays = ", ".join(["w", "g", *update.means])
    kept = [("w", "new_w"), *((mean, f"flushed(new_{mean})") for mean in update.means)]
    text = "\n".join([
        f"def loop({arrays}, {', '.join(update.numbers)}):",
        "    bad = zero",
        "    for i in range(w.size):",
        f"        {', '.join(f'new_{a}' for a in changed)} = element(",
        f"            w[i], g[i], {''.join(f'{mean}[i], ' for mean in update.means)}",
        f"            {', '.join(update.numbers)})",
        f"        finite = {' and '.join(f'is_finite(new_{a})' for a in changed)}",
        *(f"        {a}[i] = {value} if finite else {a}[i]" for a, value in kept),
        "        bad += zero if finite else one",
        "    return bad",
        f"def {name}({arrays}, {''.join(f'{n}, ' for n in own)}multiplier, state, floats):",
        f"    if loop({arrays}, {', '.join(values)}) > zero:",
        "        raise_flag(state)",
    ])  # fmt: skip
    namespace = {
        "real": real, "zero": zero, "one": one, "element": element,
        "flushed": flushed, "is_finite": is_finite, "raise_flag": raise_flag,
    }  # fmt: skip
    exec(text, namespace)
    namespace["loop"] = reduction(namespace["loop"])
    return kernel(namespace[name])


def _rates(name: str, type_name: str) -> Any:
    """The kernel of one of `RATES`: what is the same for all elements, into `floats`."""
    function, numbers = RATES[name]
    _, _, *own = inspect.signature(function).parameters
    slots = ", ".join(f"floats[{STEP_NUMBERS[number]}]" for number in numbers)
    text = "\n".join([
        f"def {name}({', '.join(own)}, state, floats):",
        f"    {slots} = element(",
        f"        state[{slot_of.STEP}] + 1, floats[{slot_of.LEARNING_RATE}], {', '.join(own)})",
    ])  # fmt: skip
    namespace = {"element": exact(function)}
    exec(text, namespace)
    return kernel(namespace[name])


def __getattr__(name: str) -> Any:
    """What makes the kernel of an update, or of one of `RATES`."""
    if name in WITH_OWN:
        return partial(_update, name)
    if name in RATES:
        return partial(_rates, name)
    raise AttributeError(f"no optimizer's kernel is called {name!r}")
