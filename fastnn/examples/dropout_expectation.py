"""Dropout's expectation: over many masks, the mean of the sums is the plain sum.

Inverted dropout keeps an element with probability 1 − p and divides it by 1 − p, so that its
expectation is the element itself, and nothing is left to do when predicting (Srivastava et al.
2014, *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*, scale when predicting
instead). The variance of a sum under one mask is p/(1 − p) Σ v². Without the division the mean
would be (1 − p) Σ v.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

RATES = (0.1, 0.3, 0.5, 0.8)
SIZE = 64
"""Elements of the vector."""


class Findings(NamedTuple):
    """The vector, and its sum under every mask."""

    v: Array  # (SIZE,)
    sums: dict[float, Array]  # (masks,), by rate


def measure(options: _page.Options) -> Findings:
    """Sum the same vector under many masks."""
    v = np.random.default_rng(options.seed).uniform(0, 1, SIZE).astype(np.float32)
    rows = np.tile(v, (2_000 if options.quick else 50_000, 1))  # each row has a mask of its own
    sums = {}
    for rate in RATES:
        dropout = fastnn.Dropout(rate, seed=options.seed)
        sums[rate] = dropout.forward(rows, training=True).sum(axis=1, dtype=np.float64)
    return Findings(v, sums)


def _deviation(v: Array, rate: float) -> float:
    """Of a sum under one mask, by theory."""
    return math.sqrt(rate / (1 - rate) * float(np.sum(v.astype(np.float64) ** 2)))


def report(found: Findings) -> _page.Report:
    """The mean of the sums beside the plain sum."""
    plain = float(found.v.sum(dtype=np.float64))
    rows, near, spread = [], [], []
    for rate, sums in found.sums.items():
        deviation = _deviation(found.v, rate)
        error = deviation / math.sqrt(len(sums))
        off = (sums.mean() - plain) / error
        rows.append((rate, plain, sums.mean(), off, sums.std(), deviation))
        near.append(abs(off) < 4)
        spread.append(abs(sums.std() / deviation - 1) < 0.1)
    return _page.Report(
        claims=[
            ("At every rate the mean is the plain sum, within 4 standard errors", all(near)),
            ("The sums' deviation is that of theory, within a tenth", all(spread)),
        ],
        header=("rate", "plain sum", "mean", "standard errors off", "deviation", "in theory"),
        rows=[tuple(map(float, row)) for row in rows],
    )


def draw(figure: Any, found: Findings) -> None:
    """The mean over the first n masks, as n grows."""
    plain = float(found.v.sum(dtype=np.float64))
    for axes, (rate, sums) in zip(
        figure.subplots(2, 2, sharex=True).flat, found.sums.items(), strict=True
    ):
        n = np.arange(1, len(sums) + 1)
        band = 2 * _deviation(found.v, rate) / np.sqrt(n)
        axes.fill_between(n, plain - band, plain + band, alpha=0.2, label="± 2 standard errors")
        axes.semilogx(n, np.cumsum(sums) / n, label="mean under n masks")
        axes.axhline(plain, color="k", linewidth=1, label="plain sum")
        axes.axhline((1 - rate) * plain, color="C3", linestyle="--", label="(1 − p) × plain sum")
        axes.set_title(f"p = {rate}")
    for axes in figure.axes[2:]:
        axes.set_xlabel("n, masks")
    for axes in figure.axes[::2]:
        axes.set_ylabel("sum")
    figure.axes[0].legend(fontsize="small", loc="upper right")
    figure.suptitle("Under many masks the mean of the sums comes to the plain sum")


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
