"""Scaling inputs: from [0, 1] to [−1, 1] is four times the learning rate, in disguise.

Inputs twice as large double a kernel's gradient, and each step's effect doubles once more when it
meets the inputs again: [−1, 1] does at a rate η what [0, 1] does at 4η, and bytes at η/255².
Neither range is centred, for most of an image is background. What helps, at a rate that makes use
of it, is to take the mean image away, which lowers the largest curvature, and that limits the rate
(LeCun et al. 1998, *Efficient BackProp*, section 4.3). One layer that starts at 0 shows it without
luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

RATES = tuple(4.0**power for power in range(-8, 4))
SHOWN = slice(4, 7)
"""Those of the rates that the table shows."""

UNIT, SIGNED, BYTES, CENTRED = "[0, 1]", "[-1, 1]", "[0, 255]", "[0, 1] less the mean image"


class Findings(NamedTuple):
    """By scaling."""

    means: dict[str, float]  # of all inputs
    curvatures: dict[str, float]  # the largest eigenvalue of the inputs' second moments
    losses: dict[str, Array]  # (rates,), after training


def scalings(x: Array) -> dict[str, Array]:
    """Images of pixels in [0, 1], scaled."""
    return {BYTES: 255 * x, UNIT: x, SIGNED: 2 * x - 1, CENTRED: x - x.mean(axis=0)}


def train(x: Array, y: Array, rate: float, epochs: int, seed: int) -> float:
    """The loss of one layer after a few epochs."""
    layer = fastnn.Dense(10, activation="softmax", kernel_initializer="zeros")
    model = fastnn.Sequential([layer], input_shape=x.shape[1:], seed=seed)
    model.compile(fastnn.SGD(rate), "categorical_crossentropy")
    model.fit(x, y, epochs=epochs, verbose=0)
    loss: float = model.evaluate(x, y)["loss"]
    return loss


def measure(options: _page.Options) -> Findings:
    """Train on each scaling, at every rate."""
    epochs, count = (3, 1) if options.quick else (5, 5)
    seeds = np.random.default_rng(options.seed).integers(1 << 31, size=count)
    (x, y), _ = fastnn.datasets.load("digits")
    found = Findings({}, {}, {})
    for name, scaled in scalings(x).items():
        moments = np.cov(scaled.T, bias=True) + np.outer(scaled.mean(0), scaled.mean(0))
        found.means[name] = float(scaled.mean())
        found.curvatures[name] = float(np.linalg.eigvalsh(moments)[-1])
        found.losses[name] = np.array(
            [np.mean([train(scaled, y, rate, epochs, seed) for seed in seeds]) for rate in RATES]
        )
    return found


def report(found: Findings) -> _page.Report:
    """Losses at some rates, and at the best."""
    best = {name: float(losses.min()) for name, losses in found.losses.items()}
    shown = [f"at {rate:.2g}" for rate in RATES[SHOWN]]
    one = RATES.index(1.0)
    times_4 = found.losses[SIGNED][:one] / found.losses[UNIT][1 : one + 1]
    times_4_8 = float(found.losses[BYTES][0] / found.losses[UNIT][one])  # 4⁸ = 65536 ≈ 255²
    return _page.Report(
        claims=[
            (
                "Below a rate of 1, [-1, 1] ends where [0, 1] ends at four times the rate, "
                "to a tenth of the loss",
                bool((abs(times_4 - 1) < 0.1).all()),
            ),
            (
                "At 1/65536 [0, 255] ends where [0, 1] ends at 1, to a tenth of the loss",
                abs(times_4_8 - 1) < 0.1,
            ),
            (
                "Each at its best rate, the loss without the mean image is two thirds of the "
                "others' or less",
                best[CENTRED] < 2 / 3 * min(best[name] for name in (BYTES, UNIT, SIGNED)),
            ),
        ],
        header=("inputs", "mean", "curvature", *shown, "best rate", "loss there"),
        rows=[
            (
                name,
                f"{found.means[name]:.2f}",
                found.curvatures[name],
                *map(float, losses[SHOWN]),
                RATES[int(losses.argmin())],
                best[name],
            )
            for name, losses in found.losses.items()
        ],
    )


def draw(figure: Any, found: Findings) -> None:
    """Loss against rate, for each scaling."""
    axes = figure.subplots()
    for name, losses in found.losses.items():
        style = "o--" if name == CENTRED else "o-"  # below a rate of 1 it lies on that of [0, 1]
        axes.loglog(RATES, losses, style, label=f"{name}, curvature {found.curvatures[name]:.3g}")
    axes.set_ylim(top=10)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss after the same few epochs")
    axes.set_title("A range is a learning rate in disguise; what helps is to take the mean away")
    axes.legend()
    axes.grid(alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
