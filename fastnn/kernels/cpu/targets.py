"""Targets in the form that a loss or a metric takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cpu.settings import kernel


def one_hot(type_name: str) -> Any:
    """``out`` = `on` at a row's label and `off` elsewhere, overwriting out (N, C)."""
    real = getattr(np, type_name)

    @kernel
    def one_hot(out, labels, on, off):
        for i in range(labels.size):
            for j in range(out.shape[1]):
                out[i, j] = real(off)
            out[i, labels[i]] = real(on)

    return one_hot


def affine(type_name: str) -> Any:
    """``y = scale · x + shift``, overwriting y (N, F)."""
    real = getattr(np, type_name)

    @kernel
    def affine(y, x, scale, shift):
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = real(scale) * x[i, j] + real(shift)

    return affine
