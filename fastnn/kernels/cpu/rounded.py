"""A dense layer's products summed in float64 and rounded once: for small arrays, called by hand.

So summed, products of float32 have the same bits in almost any order. One factor is first copied
into float64, turned where that makes its rows the longer ones, and then either whole rows are added
up, or each sum is that of one row. The copy, I·O numbers, and a row of sums take the thread's
workspace: ``shapes.rounds`` says for which layers that is large enough, and the faster way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu.memory import view
from fastnn.kernels.cpu.settings import inlined, kernel, reduction

doubles = view("float64", 1)
tables = view("float64", 2)


@reduction
def _dot(row, table, k):
    """Σ row · table[k] in float64."""
    total = np.float64(row[0]) * table[k, 0]
    for j in range(1, table.shape[1]):
        total += np.float64(row[j]) * table[k, j]
    return total


@inlined
def _add_rows(sums, row, table):
    """sums = Σ row[j] · table[j], row by row."""
    first = np.float64(row[0])
    for k in range(sums.size):
        sums[k] = first * table[0, k]
    for j in range(1, table.shape[0]):
        factor = np.float64(row[j])
        for k in range(sums.size):
            sums[k] += factor * table[j, k]


@inlined
def _copy(table, w):
    """table = w in float64."""
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            table[i, j] = np.float64(w[i, j])


@inlined
def _turn(table, w):
    """table = wᵀ in float64."""
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            table[j, i] = np.float64(w[i, j])


def dense_forward_rounded(type_name: str) -> Any:
    """``y = x·w + b``, the product rounded before b is added; overwriting y (N, O)."""
    real = getattr(np, type_name)

    @kernel
    def dense_forward_rounded(y, x, w, b, workspace):
        inputs, outputs = w.shape
        sums = doubles(workspace, (outputs,))
        place = workspace + 8 * outputs
        if outputs >= inputs:
            table = tables(place, (inputs, outputs))
            _copy(table, w)
            for i in range(y.shape[0]):
                _add_rows(sums, x[i], table)
                for j in range(outputs):
                    y[i, j] = real(sums[j]) + b[j]
        else:
            table = tables(place, (outputs, inputs))
            _turn(table, w)
            for i in range(y.shape[0]):
                for j in range(outputs):
                    y[i, j] = real(_dot(x[i], table, j)) + b[j]

    return dense_forward_rounded


def dense_backward_rounded(type_name: str) -> Any:
    """``dw = xᵀ·dy`` and ``dx = dy·wᵀ``, overwriting dw (I, O) and dx (N, I)."""
    real = getattr(np, type_name)

    @inlined
    def outer(table, a, b):
        """table += aᵀ·b of one row each, in float64."""
        for i in range(table.shape[0]):
            factor = np.float64(a[i])
            for j in range(table.shape[1]):
                table[i, j] += factor * np.float64(b[j])

    @inlined
    def begin(table, a, b):
        for i in range(table.shape[0]):
            factor = np.float64(a[i])
            for j in range(table.shape[1]):
                table[i, j] = factor * np.float64(b[j])

    @inlined
    def kernel_gradient(dw, x, dy, workspace):
        inputs, outputs = dw.shape
        if outputs >= inputs:
            table = tables(workspace, (inputs, outputs))
            begin(table, x[0], dy[0])
            for n in range(1, x.shape[0]):
                outer(table, x[n], dy[n])
            for i in range(inputs):
                for j in range(outputs):
                    dw[i, j] = real(table[i, j])
        else:
            table = tables(workspace, (outputs, inputs))
            begin(table, dy[0], x[0])
            for n in range(1, x.shape[0]):
                outer(table, dy[n], x[n])
            for i in range(inputs):
                for j in range(outputs):
                    dw[i, j] = real(table[j, i])

    @inlined
    def input_gradient(dx, dy, w, workspace):
        inputs, outputs = w.shape
        sums = doubles(workspace, (inputs,))
        place = workspace + 8 * inputs
        if outputs >= inputs:
            table = tables(place, (inputs, outputs))
            _copy(table, w)
            for n in range(dx.shape[0]):
                for i in range(inputs):
                    dx[n, i] = real(_dot(dy[n], table, i))
        else:
            table = tables(place, (outputs, inputs))
            _turn(table, w)
            for n in range(dx.shape[0]):
                _add_rows(sums, dy[n], table)
                for i in range(inputs):
                    dx[n, i] = real(sums[i])

    @kernel
    def dense_backward_rounded(dw, dx, x, dy, w, workspace, rank):
        if rank == 0:
            kernel_gradient(dw, x, dy, workspace)
            input_gradient(dx, dy, w, workspace)

    return dense_backward_rounded
