"""Normalisation of rows by their own mean and variance.

Rows of more than one dimension have their columns along the last: x (N, F) is M = N·F/C rows of C
columns. Ba, Kiros & Hinton 2016 (arXiv 1607.06450). x̂ is a row less its mean, over the root of its
variance and ε.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils

from fastnn.kernels import state as s
from fastnn.kernels.cpu import blocks
from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.normalization import begin_of
from fastnn.kernels.cpu.settings import VECTOR_BYTES, kernel
from fastnn.kernels.normalization import KEPT, slices_of
from fastnn.kernels.signatures import ITEM_BYTES

SIDE_BY_SIDE = 4
"""Rows that are each summed up, side by side, so that none waits for the last sum of its own."""

SHORT_SIDE_BY_SIDE = 8 if VECTOR_BYTES == 64 else 4
"""The same of short rows, as far as there are registers: one across all lanes takes its time."""

TOGETHER = 8
"""Blocks of rows whose sums for γ and β are added up in the rows' own type, in the workspace,
before they are added to those in float64: that takes as long as all else that is done for dx."""

SHORT = 1024
"""Bytes of a row that is short: eight of them, in and out, fill no more than half the L1 cache."""


@blocks.loop(6, 1)
def normalize_block(block, rows, y, kept, x, row, gamma, beta, epsilon):
    """``y = γ·x̂ + β`` of `rows` rows, whose numbers go to `kept` unless that is 0.

    Sums are taken of x less the mean of a row's first columns, as those of columns in
    `batch_statistics`.
    """
    builder, places = block.builder, block.rows(x, row, rows)
    near = block.first_means(places)
    shifts = block.spread_each(near)
    rests, squares = block.sums(rows), block.sums(rows)

    def add(p):
        for r, at in enumerate(places):
            centred = p.inside(builder.fsub(p.load(at), shifts[r]))
            rests[r] = builder.fadd(rests[r], centred)
            squares[r] = p.fma(centred, centred, squares[r])

    block.each(add)
    rest = rests.means()
    variance = builder.fsub(squares.means(), builder.fmul(rest, rest))
    factor = block.over_deviation(variance, epsilon)
    mean = builder.fadd(near, rest)
    lost = builder.fsub(rest, builder.fsub(mean, near))  # when the mean was rounded
    sum_ = builder.fneg(builder.fmul(lost, factor))
    with builder.if_then(builder.icmp_signed("!=", kept, blocks.integer(0))):
        for i, numbers in enumerate((mean, factor, sum_)):
            block.store_each(numbers, kept, i, KEPT)
    means, factors, sums = (block.spread_each(numbers) for numbers in (mean, factor, sum_))

    def scale(p):
        scale, shift = p.load_or(gamma, 1.0), p.load_or(beta, 0.0)
        for r, (at, to) in enumerate(zip(places, block.rows(y, row, rows), strict=True)):
            normalized = p.fma(factors[r], builder.fsub(p.load(at), means[r]), sums[r])
            p.store(p.fma(normalized, scale, shift), to)

    block.each(scale)


@blocks.loop(9)
def row_gradients(block, rows, wide, dx, sums, apart, begun, x, dy, row, kept, gamma):
    """dx of `rows` rows; Σ dy·x̂ and Σ dy over them are added to the two rows of `sums`, if any.

    These are `apart` bytes apart; if they are `wide`, they are in float64. They hold nothing of
    meaning unless `begun`.

    With g = γ·dy, ``dx = factor·(g − mean g − x̂·mean(g·x̂))``, which is taken as ``factor·g`` and
    a line in x − mean.
    """
    builder = block.builder
    mean, factor, shift = (block.load_each(kept, i, KEPT, rows) for i in range(KEPT))
    means, factors, shifts = (block.spread_each(numbers) for numbers in (mean, factor, shift))
    x_rows, dy_rows, dx_rows = (block.rows(first, row, rows) for first in (x, dy, dx))
    gradients, products = block.sums(rows), block.sums(rows)
    wanted = builder.icmp_signed("!=", sums, blocks.integer(0))
    begins = builder.icmp_signed("==", begun, blocks.integer(0))

    def add(p):
        scale, of_gamma, of_beta = p.load_or(gamma, 1.0), [], []
        for r in range(rows):
            centred = builder.fsub(p.load(x_rows[r]), means[r])
            slope = p.load(dy_rows[r])
            product = builder.fmul(p.fma(factors[r], centred, shifts[r]), slope)
            gradients[r] = p.fma(scale, slope, gradients[r])
            products[r] = p.fma(scale, product, products[r])
            of_gamma.append(product)
            of_beta.append(slope)
        with builder.if_then(wanted):
            for values, to in ((of_gamma, sums), (of_beta, builder.add(sums, apart))):
                if wide:
                    p.add_wide(p.total(values), to, begun)
                else:
                    before = builder.select(begins, p.narrow.zero, p.load(to))
                    p.store(builder.fadd(before, p.total(values)), to)

    block.each(add)
    steep = builder.fneg(builder.fmul(factor, products.means()))
    level = builder.fsub(builder.fmul(steep, shift), builder.fmul(factor, gradients.means()))
    steeps, levels = block.spread_each(builder.fmul(steep, factor)), block.spread_each(level)

    def change(p):
        scale = p.load_or(gamma, 1.0)
        for r in range(rows):
            centred = builder.fsub(p.load(x_rows[r]), means[r])
            line = p.fma(steeps[r], centred, levels[r])
            p.store(p.fma(scale, builder.fmul(factors[r], p.load(dy_rows[r])), line), dx_rows[r])

    block.each(change)


@blocks.loop(3)
def add_to(block, sums, begun, row):
    """Add a row of numbers to one of float64."""
    block.each(lambda p: p.add_wide(p.load(row), sums, begun))


@blocks.loop(4)
def slice_sums(block, out, sums, count, step):
    """The sum of `count` rows in float64, `step` bytes apart."""
    builder = block.builder

    def part(p):
        total = cgutils.alloca_once_value(builder, p.wide.zero)
        with cgutils.for_range(builder, count) as each:
            row = builder.add(sums, builder.mul(each.index, step))
            builder.store(builder.fadd(builder.load(total), p.load_wide(row)), total)
        p.store(p.narrowed(builder.load(total)), out)

    block.each(part)


def layer_normalization_forward(type_name: str) -> Any:
    """``y = γ·x̂ + β`` with x̂ = (x − mean)/√(variance + ε) of each row, overwriting y; y may be x.

    What `kept` gets are `KEPT` numbers a row, for the way back. γ, β and it may be left out.
    """
    size = ITEM_BYTES[type_name]
    several, most, one = (
        normalize_block(type_name, rows) for rows in (SIDE_BY_SIDE, SHORT_SIDE_BY_SIDE, 1)
    )

    @kernel
    def layer_normalization_forward(y, kept, x, gamma, beta, epsilon, columns):
        row, rows, i = columns * size, x.size // columns, 0
        while i < rows:
            to = address(kept) + i * KEPT * size if address(kept) != 0 else 0
            out, at = address(y) + i * row, address(x) + i * row
            if row <= SHORT and i + SHORT_SIDE_BY_SIDE <= rows:
                most(out, to, at, row, address(gamma), address(beta), columns, epsilon)
                i += SHORT_SIDE_BY_SIDE
            elif i + SIDE_BY_SIDE <= rows:
                several(out, to, at, row, address(gamma), address(beta), columns, epsilon)
                i += SIDE_BY_SIDE
            else:
                one(out, to, at, row, address(gamma), address(beta), columns, epsilon)
                i += 1

    return layer_normalization_forward


def layer_normalization_backward(type_name: str) -> Any:
    """``dx = (g − mean g − x̂·mean(g·x̂))/√(variance + ε)``, g = γ·dy, overwriting dx.

    Rows 2k and 2k + 1 of `sums` get Σ dy·x̂ and Σ dy over slice k, where they are asked for. γ may
    be left out, and dx be dy.
    """
    size = ITEM_BYTES[type_name]
    several, one = (row_gradients(type_name, rows, 0) for rows in (SIDE_BY_SIDE, 1))
    one_wide, add = row_gradients(type_name, 1, 1), add_to(type_name)

    @kernel
    def layer_normalization_backward(sums, dx, dy, x, kept, gamma, columns, workspace, rank, team):
        row, rows, apart = columns * size, x.size // columns, 8 * columns
        far = address(sums) != 0 and 2 * row > s.WORKSPACE_BYTES
        near = workspace if address(sums) != 0 and not far else 0
        slices = slices_of(rows)
        for k in range(rank, slices, team):
            i, end, begun = rows * k // slices, rows * (k + 1) // slices, 0
            to = address(sums) + 2 * k * apart if address(sums) != 0 else 0
            together = 0
            while i < end:
                out, at, slope = address(dx) + i * row, address(x) + i * row, address(dy) + i * row
                of_row = address(kept) + i * KEPT * size
                if far:
                    one_wide(out, to, apart, begun, at, slope, row, of_row, address(gamma), columns)
                    i, begun = i + 1, 1
                elif i + SIDE_BY_SIDE <= end:
                    several(out, near, row, together, at, slope, row, of_row, address(gamma),
                            columns)  # fmt: skip
                    i, together = i + SIDE_BY_SIDE, together + 1
                else:
                    one(out, near, row, together, at, slope, row, of_row, address(gamma), columns)
                    i, together = i + 1, together + 1
                if near != 0 and (together == TOGETHER or i == end):
                    add(to, begun, near, columns)
                    add(to + apart, begun, near + row, columns)
                    begun, together = 1, 0

    return layer_normalization_backward


def layer_normalization_parameters(type_name: str) -> Any:
    """``dgamma = Σ dy·x̂`` and ``dbeta = Σ dy`` out of the slices' `sums`; one may be left out.

    A row of the batch has `parts` rows of columns.
    """
    total, size = slice_sums(type_name), ITEM_BYTES[type_name]

    @kernel
    def layer_normalization_parameters(dgamma, dbeta, sums, parts, N, rank, team):
        columns, slices = sums.shape[1], slices_of(N * parts)
        begin, end = begin_of(columns, rank, team), begin_of(columns, rank + 1, team)
        at, row = address(sums) + 8 * begin, 8 * columns
        for r, out in enumerate((address(dgamma), address(dbeta))):
            if out != 0:
                total(out + begin * size, at + r * row, slices, 2 * row, end - begin)

    return layer_normalization_parameters
