"""Joint gradient: softmax and cross-entropy differentiated as one are (p − y)/N, and fast.

Apart, the loss's gradient by the probabilities, −y/(pN), goes through softmax's derivative. Written
with the Jacobian diag(p) − ppᵀ of each row that takes C² numbers a row; as p ⊙ (g − Σ g⊙p) over the
whole batch it takes C. Joined, all but a subtraction cancels. Every way below computes the mean
loss and its gradient from the logits, in float32, called from Python: for small batches the calls
are most of what is measured. Times, and ratios of times, are medians over runs taken in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

SIZES = ((32, 10), (1024, 10), (1024, 100))
"""Rows and classes."""


class Findings(NamedTuple):
    """By way and size."""

    seconds: dict[str, dict[tuple[int, int], Array]]  # (turns,)
    error: dict[str, float]  # the largest of the gradient's, from float64, times N


def _probabilities(z: Array) -> Array:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    p: Array = powers / powers.sum(axis=1, keepdims=True)
    return p


def _loss(p: Array, y: Array) -> tuple[float, Array]:
    """The cross-entropy of probabilities, and its gradient by them."""
    rows = np.arange(len(y))
    gradient = np.zeros_like(p)
    gradient[rows, y] = -1 / (p[rows, y] * len(y))
    return float(-np.log(p[rows, y]).mean()), gradient


def jacobians(z: Array, y: Array) -> Array:
    """Each row's Jacobian times its gradient."""
    p = _probabilities(z)
    gradient = _loss(p, y)[1]
    dz = np.empty_like(z)
    for row, (p_row, g_row) in enumerate(zip(p, gradient, strict=True)):
        dz[row] = (np.diag(p_row) - np.outer(p_row, p_row)) @ g_row
    return dz


def vectorised(z: Array, y: Array) -> Array:
    """The same product of all rows, without the Jacobians."""
    p = _probabilities(z)
    gradient = _loss(p, y)[1]
    dz: Array = p * (gradient - (gradient * p).sum(axis=1, keepdims=True))
    return dz


def kernels_apart(z: Array, y: Array) -> Array:
    """The same, in compiled kernels."""
    softmax, loss = fastnn.Softmax(), fastnn.CategoricalCrossentropy()
    loss.forward(softmax.forward(z, training=True), y)
    return softmax.backward(loss.backward())


def joint(z: Array, y: Array) -> Array:
    """Loss and gradient in one compiled kernel."""
    loss = fastnn.CategoricalCrossentropy(from_logits=True)
    loss.forward(z, y)
    return loss.backward()


WAYS: dict[str, Callable[[Array, Array], Array]] = {
    "Jacobian of each row (NumPy)": jacobians,
    "separate, vectorised (NumPy)": vectorised,
    "separate, compiled (fastnn)": kernels_apart,
    "joint kernel (fastnn)": joint,
}
JOINT = "joint kernel (fastnn)"


def measure(options: _page.Options) -> Findings:
    """Compare and time the ways, on logits of a fresh network's size."""
    turns = 3 if options.quick else 25
    rng = np.random.default_rng(options.seed)
    found = Findings({name: {} for name in WAYS}, dict.fromkeys(WAYS, 0.0))
    for n, classes in SIZES:
        z, y = rng.standard_normal((n, classes), np.float32), rng.integers(0, classes, n)
        exact = _probabilities(z.astype(np.float64))
        exact[np.arange(n), y] -= 1
        for name, way in WAYS.items():  # a first call may compile: it is not timed
            error = float(np.abs(n * way(z, y) - exact).max())
            found.error[name] = max(found.error[name], error)
            found.seconds[name][n, classes] = np.empty(turns)
        for turn in range(turns):
            for name, way in WAYS.items():
                begin = time.perf_counter()
                way(z, y)
                found.seconds[name][n, classes][turn] = time.perf_counter() - begin
    return found


def microseconds(found: Findings, name: str, size: tuple[int, int]) -> float:
    """What a way takes, the median over the turns."""
    return float(1e6 * np.median(found.seconds[name][size]))


def ratio(found: Findings, name: str, size: tuple[int, int]) -> float:
    """How many times as long as the joint kernel a way takes, the median over the turns."""
    return float(np.median(found.seconds[name][size] / found.seconds[JOINT][size]))


def report(found: Findings) -> _page.Report:
    """Times, and in brackets how many times the joint kernel's."""
    return _page.Report(
        claims=[
            (
                "All four ways give (p - y)/N, within 2e-6 of N times it",
                max(found.error.values()) < 2e-6,
            ),
        ],
        header=("loss and gradient", "error", *(f"{n} x {classes}" for n, classes in SIZES)),
        rows=[
            (
                name,
                f"{found.error[name]:.1e}",
                *(
                    f"{microseconds(found, name, size):,.0f} µs ({ratio(found, name, size):.1f}x)"
                    for size in SIZES
                ),
            )
            for name in WAYS
        ],
    )


def draw(figure: Any, found: Findings) -> None:
    """Times as bars, for each size."""
    axes = figure.subplots()
    height = 0.8 / len(SIZES)
    for index, (n, classes) in enumerate(SIZES):
        size = (n, classes)
        places = np.arange(len(WAYS)) + index * height
        times = [microseconds(found, name, size) for name in WAYS]
        bars = axes.barh(places, times, height, log=True, label=f"{n} rows, {classes} classes")
        axes.bar_label(bars, [f"{ratio(found, name, size):.1f}x" for name in WAYS], padding=3)
    axes.set_yticks(np.arange(len(WAYS)) + height, list(WAYS))
    axes.invert_yaxis()
    longest = max(microseconds(found, name, size) for name in WAYS for size in SIZES)
    axes.set_xlim(10, 4 * longest)  # room for the last label
    axes.set_xlabel("µs for loss and gradient (and how many times the joint kernel's)")
    most = max(ratio(found, next(iter(WAYS)), size) for size in SIZES)
    axes.set_title(f"Row by row with Jacobians takes up to {most:.0f} times as long as joined")
    axes.legend(loc="lower right")


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
