"""Learning-rate decay: a large rate is fast and never settles, a small one settles and is slow.

A minibatch's gradient is noisy, so at a constant rate the weights end up wandering about the
minimum, the further the larger the rate. A rate that falls is fast first and settles then (Robbins
& Monro 1951, *A Stochastic Approximation Method*). The task, one layer and a fifth of the labels
wrong, is convex: there is one minimum, and all that is seen is how close to it each rate comes in
the same number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

RATE = 1.0
"""With which all but one begin."""

BATCH = 8
CONSTANT = ("constant, large", "constant, small")


class Findings(NamedTuple):
    """By schedule."""

    rates: dict[str, Array]  # (steps,)
    losses: dict[str, Array]  # (epochs,), over all training rows, the mean over seeds


def schedules(steps: int) -> dict[str, Any]:
    """What is compared, for a training of `steps` steps."""
    decays = fastnn.schedules
    return {
        CONSTANT[0]: RATE,
        CONSTANT[1]: RATE / 20,
        "inverse time": decays.InverseTimeDecay(RATE, decay_steps=steps, decay_rate=20),
        "exponential": decays.ExponentialDecay(RATE, decay_steps=steps, decay_rate=0.05),
        "step": decays.ExponentialDecay(
            RATE, decay_steps=-(-steps // 4), decay_rate=0.3, staircase=True
        ),
        "linear": decays.PolynomialDecay(RATE, decay_steps=steps, end_learning_rate=0.0),
        "cosine": decays.CosineDecay(RATE, decay_steps=steps),
    }


def measure(options: _page.Options) -> Findings:
    """Train the same layer with each schedule, from several seeds."""
    epochs, count = (10, 1) if options.quick else (40, 5)
    (x, y), _ = fastnn.datasets.load("digits")
    rng = np.random.default_rng(options.seed)
    y = np.where(rng.random(len(y)) < 0.2, rng.integers(0, 10, len(y)), y)
    seeds = rng.integers(1 << 31, size=count)
    steps = epochs * -(-len(x) // BATCH)
    found = Findings({}, {})
    for name, rate in schedules(steps).items():
        optimizer = fastnn.SGD(rate)
        found.rates[name] = optimizer.rates(0, steps)
        runs = []
        for seed in seeds:
            model = fastnn.Sequential(
                [fastnn.Dense(10, activation="softmax")], input_shape=(64,), seed=seed
            )
            model.compile(optimizer, "categorical_crossentropy")
            history = model.fit(
                x, y, batch_size=BATCH, epochs=epochs, validation_data=(x, y), verbose=0
            )
            runs.append(history.history["val_loss"])
        found.losses[name] = np.mean(runs, axis=0)
    return found


def report(found: Findings) -> _page.Report:
    """The loss after a quarter of the time, and at the end."""
    end = {name: float(loss[-1]) for name, loss in found.losses.items()}
    begin = {name: float(loss[len(loss) // 4]) for name, loss in found.losses.items()}
    decays = [name for name in end if name not in CONSTANT]
    large, small = CONSTANT
    return _page.Report(
        claims=[
            (
                "Every decay ends below both constant rates",
                max(end[name] for name in decays) < min(end[large], end[small]),
            ),
            (
                "The large rate, kept, ends highest of all",
                max(end, key=end.__getitem__) == large,
            ),
        ],
        header=("schedule", "last rate", "loss after 1/4", "loss at the end"),
        rows=[
            (name, float(found.rates[name][-1]), begin[name], end[name]) for name in found.losses
        ],
    )


def draw(figure: Any, found: Findings) -> None:
    """Rates by step, losses by epoch."""
    rates, losses = figure.subplots(1, 2)
    for name, loss in found.losses.items():
        style = "--" if name in CONSTANT else "-"
        rates.plot(found.rates[name], style, label=name)
        losses.plot(range(1, len(loss) + 1), loss, style, label=name)
    rates.set_title("What each schedule gives")
    rates.set_xlabel("step")
    rates.set_ylabel("learning rate")
    rates.legend(fontsize="small")
    losses.set_title("Loss over all training rows")
    losses.set_xlabel("epoch")
    losses.set_ylabel("cross-entropy")
    losses.grid(alpha=0.3)
    figure.suptitle("A rate that falls ends below a constant one, large or small")


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
