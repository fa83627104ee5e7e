"""Normalisation of columns, by a batch's statistics or by others.

Rows of more than one dimension have their columns along the last: x (N, F) is M = N·F/C rows of C
columns. Ioffe & Szegedy 2015 (arXiv 1502.03167).

A mean is a number of the rows' type and another one, `low`: what was lost when the first was
rounded. Far from 0, that is not little beside how far the numbers lie from their mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu import blocks
from fastnn.kernels.cpu.flag import raise_flag
from fastnn.kernels.cpu.memory import LINE, address
from fastnn.kernels.cpu.settings import inlined, kernel
from fastnn.kernels.normalization import moved
from fastnn.kernels.scalar import is_finite
from fastnn.kernels.signatures import ITEM_BYTES

SUMMED = 8
"""Rows that are added up before their sum is added to that of their column, in float64."""

CHANGED = 4
"""Rows that are changed side by side by what belongs to their columns."""

CHUNK = 1024
"""Columns done at a time: what belongs to them, in the workspace, stays in the L1 cache."""

APART = 8 * CHUNK + 3 * LINE
"""Bytes between rows of the workspace. Were it a multiple of 4096, a processor would take a load
from one row for that of what was just stored into another."""

GRAIN = 16
"""A cut between threads falls on a multiple of this many columns, so on a cache line."""


# Sums down the columns


@blocks.loop(3)
def first_mean(block, rows, shift, x, row):
    """`shift` = the mean of the first `rows` rows."""

    def part(p):
        total = p.total([p.load(at) for at in block.rows(x, row, rows)])
        p.store(block.builder.fmul(total, p.narrow.constant(1.0 / rows)), shift)

    block.each(part)


@blocks.loop(6)
def column_sums(block, rows, factors, sums, x, dy, row, shift, begun):
    """Add Σ f and Σ f·(x − shift) over `rows` rows to the two rows of `sums`, in float64.

    f is dy, or with 1 factor x − shift itself. Where `begun` is 0, the sums begin here.
    """
    builder = block.builder

    def part(p):
        near = p.load(shift)
        centred = [builder.fsub(p.load(at), near) for at in block.rows(x, row, rows)]
        terms = centred if factors == 1 else [p.load(at) for at in block.rows(dy, row, rows)]
        products = [builder.fmul(terms[r], centred[r]) for r in range(min(2, rows))]
        for r in range(2, rows):  # two chains, as long as one
            products[r % 2] = p.fma(terms[r], centred[r], products[r % 2])
        p.add_wide(p.total(terms), sums, begun)
        p.add_wide(p.total(products), block.apart(sums, APART, 1), begun)

    block.each(part)


@blocks.loop(5, 1)
def column_moments(block, sums, shift, mean, low, variance, rows):
    """Mean and variance out of Σ (x − shift) and Σ (x − shift)² over `rows` rows."""
    builder = block.builder

    def part(p):
        count = p.same(rows, p.wide)
        total, squares = (p.load_wide(block.apart(sums, APART, i)) for i in (0, 1))
        distance = builder.fdiv(total, count)
        exact = builder.fadd(p.widened(p.load(shift)), distance)
        rounded = p.narrowed(exact)
        p.store(rounded, mean)
        p.store(p.narrowed(builder.fsub(exact, p.widened(rounded))), low)
        spread = builder.fdiv(p.fma(builder.fneg(distance), total, squares), count)
        p.store(p.narrowed(blocks.at_least(builder, spread, p.wide.zero)), variance)

    block.each(part)


@blocks.loop(5, 1)
def column_gradients(block, sums, low, variance, dgamma, dbeta, epsilon):
    """Σ dy·(x − mean)/√(variance + ε) and Σ dy out of Σ dy and Σ dy·(x − mean's first part)."""
    builder = block.builder

    def part(p):
        total, products = (p.load_wide(block.apart(sums, APART, i)) for i in (0, 1))
        products = p.fma(builder.fneg(p.widened(p.load(low))), total, products)
        square = builder.fadd(p.widened(p.load(variance)), p.same(epsilon, p.wide))
        p.store(p.narrowed(builder.fdiv(products, p.root(square))), dgamma)
        p.store(p.narrowed(total), dbeta)

    block.each(part)


def _adding(type_name: str, factors: int) -> Any:
    """The function that takes `column_sums` over all rows, into the workspace's first two rows."""
    eight, one = (column_sums(type_name, rows, factors) for rows in (SUMMED, 1))

    @inlined
    def add_up(workspace, x, dy, row, columns, shift, rows):
        full = rows // SUMMED * SUMMED
        for i in range(0, full, SUMMED):
            eight(workspace, x + i * row, dy + i * row, row, shift, i, columns)
        for i in range(full, rows):
            one(workspace, x + i * row, dy + i * row, row, shift, i, columns)

    return add_up


@inlined
def begin_of(columns, rank, team):
    """The first column of a thread's part of them."""
    return min(columns, (columns + GRAIN - 1) // GRAIN * rank // team * GRAIN)


def batch_statistics(type_name: str) -> Any:
    """Mean, as `mean` + `low`, and ``variance = Σ (x − mean)²/M`` of each column of x.

    The sums are taken of x less a number near the mean: that of the first rows. These are in the
    sums themselves, so Σ (x − it)² is no more than 1 + M/8 times the part of it that is the
    variance, and little is lost when the rest is taken off.
    """
    size, add_up = ITEM_BYTES[type_name], _adding(type_name, 1)
    of_eight, of_one = first_mean(type_name, SUMMED), first_mean(type_name, 1)
    moments = column_moments(type_name)

    @kernel
    def batch_statistics(mean, low, variance, x, workspace, rank, team):
        row, shift = mean.size * size, workspace + 2 * APART
        rows, end = x.size // mean.size, begin_of(mean.size, rank + 1, team)
        for first in range(begin_of(mean.size, rank, team), end, CHUNK):
            columns, at = min(CHUNK, end - first), first * size
            source = address(x) + at
            if rows >= SUMMED:
                of_eight(shift, source, row, columns)
            else:
                of_one(shift, source, row, columns)
            add_up(workspace, source, source, row, columns, shift, rows)
            moments(workspace, shift, address(mean) + at, address(low) + at,
                    address(variance) + at, columns, rows)  # fmt: skip

    return batch_statistics


def batch_normalization_parameters(type_name: str) -> Any:
    """``dgamma = Σ dy·x̂`` and ``dbeta = Σ dy`` with x̂ = (x − mean)/√(variance + ε), by columns."""
    size, add_up = ITEM_BYTES[type_name], _adding(type_name, 2)
    gradients = column_gradients(type_name)

    @kernel
    def batch_normalization_parameters(
        dgamma, dbeta, dy, x, mean, low, variance, epsilon, workspace, rank, team
    ):
        row, end = mean.size * size, begin_of(mean.size, rank + 1, team)
        for first in range(begin_of(mean.size, rank, team), end, CHUNK):
            columns, at = min(CHUNK, end - first), first * size
            add_up(workspace, address(x) + at, address(dy) + at, row, columns,
                   address(mean) + at, x.size // mean.size)  # fmt: skip
            gradients(workspace, address(low) + at, address(variance) + at, address(dgamma) + at,
                      address(dbeta) + at, columns, epsilon)  # fmt: skip

    return batch_normalization_parameters


# Rows changed by what belongs to their columns


@blocks.loop(6, 2)
def column_scales(block, scales, mean, low, variance, gamma, beta, epsilon, least):
    """The workspace's rows `near`, `factor` and `sum` of ``y = factor·(x − near) + sum``."""
    builder = block.builder

    def part(p):
        square = builder.fadd(p.load(variance), p.same(epsilon))
        square = blocks.at_least(builder, square, p.same(least))
        factor = builder.fdiv(p.load_or(gamma, 1.0), p.root(square))
        p.store(p.load_or(mean, 0.0), block.apart(scales, APART, 0))
        p.store(factor, block.apart(scales, APART, 1))
        sum_ = p.fma(builder.fneg(p.load_or(low, 0.0)), factor, p.load_or(beta, 0.0))
        p.store(sum_, block.apart(scales, APART, 2))

    block.each(part)


@blocks.loop(7, 2)
def column_slopes(block, scales, mean, low, variance, gamma, dgamma, dbeta, epsilon, rows):
    """The same rows of ``dx = slope·dy + (factor·(x − near) + sum)``, and `slope` after them."""
    builder = block.builder

    def part(p):
        count = p.same(rows)
        divisor = p.root(builder.fadd(p.load(variance), p.same(epsilon)))
        slope = builder.fdiv(p.load_or(gamma, 1.0), divisor)
        factor = builder.fdiv(builder.fdiv(p.load(dgamma), count), divisor)
        factor = builder.fneg(builder.fmul(slope, factor))
        sum_ = builder.fmul(slope, builder.fdiv(p.load(dbeta), count))
        sum_ = builder.fneg(p.fma(factor, p.load(low), sum_))
        for i, value in enumerate((p.load(mean), factor, sum_, slope)):
            p.store(value, block.apart(scales, APART, i))

    block.each(part)


@blocks.loop(5)
def change_rows(block, rows, factors, out, x, dy, row, scales):
    """``out = factor·(x − near) + sum``, and with 2 factors ``+ slope·dy``, of `rows` rows."""

    def part(p):
        near, factor, sum_, *slope = (
            p.load(block.apart(scales, APART, i)) for i in range(2 + factors)
        )
        places = (block.rows(first, row, rows) for first in (out, x, dy))
        for out_at, x_at, dy_at in zip(*places, strict=True):
            value = p.fma(factor, block.builder.fsub(p.load(x_at), near), sum_)
            if slope:
                value = p.fma(slope[0], p.load(dy_at), value)
            p.store(value, out_at)

    block.each(part)


def _changing(type_name: str, factors: int) -> Any:
    """The function that takes `change_rows` over all rows."""
    four, one = (change_rows(type_name, rows, factors) for rows in (CHANGED, 1))

    @inlined
    def change(out, x, dy, row, columns, scales, rows):
        full = rows // CHANGED * CHANGED
        for i in range(0, full, CHANGED):
            four(out + i * row, x + i * row, dy + i * row, row, scales, columns)
        for i in range(full, rows):
            one(out + i * row, x + i * row, dy + i * row, row, scales, columns)

    return change


def normalize_columns(type_name: str) -> Any:
    """``y = γ·(x − mean)/√max(variance + ε, least) + β``, overwriting y; y may be x.

    `mean`, `low`, `gamma` and `beta` may be left out: 0, 0, 1, 0.
    """
    size, change = ITEM_BYTES[type_name], _changing(type_name, 1)
    scales = column_scales(type_name)

    @kernel
    def normalize_columns(y, x, mean, low, variance, gamma, beta, epsilon, least, workspace):
        row = variance.size * size
        for first in range(0, variance.size, CHUNK):
            columns, at = min(CHUNK, variance.size - first), first * size
            scales(
                workspace,
                address(mean) + at if address(mean) != 0 else 0,
                address(low) + at if address(low) != 0 else 0,
                address(variance) + at,
                address(gamma) + at if address(gamma) != 0 else 0,
                address(beta) + at if address(beta) != 0 else 0,
                columns, epsilon, least,
            )  # fmt: skip
            source = address(x) + at
            change(address(y) + at, source, source, row, columns, workspace,
                   x.size // variance.size)  # fmt: skip

    return normalize_columns


def batch_normalization_backward(type_name: str) -> Any:
    """``dx = γ/√(variance + ε)·(dy − dbeta/M − x̂·dgamma/M)``, overwriting dx; dx may be dy.

    M counts the rows of the whole batch, as do `dgamma` and `dbeta`, of all columns.
    """
    size, change = ITEM_BYTES[type_name], _changing(type_name, 2)
    slopes = column_slopes(type_name)

    @kernel
    def batch_normalization_backward(
        dx, dy, x, mean, low, variance, gamma, dgamma, dbeta, epsilon, N, F, C, workspace
    ):
        row = C * size
        for first in range(0, C, CHUNK):
            columns, at = min(CHUNK, C - first), first * size
            slopes(
                workspace, address(mean) + at, address(low) + at, address(variance) + at,
                address(gamma) + at if address(gamma) != 0 else 0,
                address(dgamma) + at, address(dbeta) + at, columns, epsilon, N * (F // C),
            )  # fmt: skip
            change(address(dx) + at, address(x) + at, address(dy) + at, row, columns, workspace,
                   x.size // C)  # fmt: skip

    return batch_normalization_backward


def moving_average(type_name: str) -> Any:
    """``average = momentum·average + (1 − momentum)·value``, in its place.

    An element that would not be finite stays what it was, and the run's flag is raised.
    """
    real = getattr(np, type_name)

    @kernel
    def moving_average(average, value, momentum, state):
        bad = False
        for i in range(average.size):
            new = real(moved(average[i], value[i], momentum))
            finite = is_finite(new)
            average[i] = new if finite else average[i]
            bad |= not finite
        if bad:
            raise_flag(state)

    return moving_average
