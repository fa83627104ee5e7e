"""Random labels: a network learns by heart what has no rule, and dropout makes that hard for it.

With labels drawn at random there is nothing to learn but the rows themselves, and a network with
weights enough learns them all (Zhang et al. 2017, arXiv 1611.03530). True labels, which follow from
the image, are learned much faster, and dropout hinders memorising far more than it hinders learning
(Arpit et al. 2017, arXiv 1706.05394).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

DROPOUT = 0.5

Case = tuple[str, float]
"""Which labels, and the rate of dropout."""


class Findings(NamedTuple):
    """By case, without dropout when measured."""

    training: dict[Case, Array]  # (epochs,), accuracy on the training rows
    test: dict[Case, float]  # accuracy on the test rows, whose labels are true


def measure(options: _page.Options) -> Findings:
    """Train the same network on true and on random labels, with and without dropout."""
    rows, epochs = (500, 60) if options.quick else (1437, 100)
    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    x, y = x[:rows], y[:rows]
    labels = {"true": y, "random": np.random.default_rng(options.seed).integers(0, 10, rows)}
    found = Findings({}, {})
    for kind, targets in labels.items():
        for rate in (0.0, DROPOUT):
            model = fastnn.Sequential(
                [
                    fastnn.Dense(256, activation="relu"),
                    fastnn.Dropout(rate),
                    fastnn.Dense(256, activation="relu"),
                    fastnn.Dropout(rate),
                    fastnn.Dense(10, activation="softmax"),
                ],
                input_shape=(64,),
                seed=options.seed,
            )
            model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
            # Validated on the training rows themselves: that is their accuracy without dropout.
            history = model.fit(x, targets, epochs=epochs, validation_data=(x, targets), verbose=0)
            found.training[kind, rate] = np.array(history.history["val_accuracy"])
            found.test[kind, rate] = model.evaluate(x_test, y_test)["accuracy"]
    return found


def report(found: Findings) -> _page.Report:
    """Accuracy on what was trained on and on what was not."""
    end = {case: float(accuracy[-1]) for case, accuracy in found.training.items()}
    lost = {kind: end[kind, 0.0] - end[kind, DROPOUT] for kind in ("true", "random")}
    return _page.Report(
        claims=[
            ("Random labels are learned by heart, 19 of 20 at least", end["random", 0.0] > 0.95),
            ("Nothing of that is of use: test accuracy is chance", found.test["random", 0.0] < 0.2),
            (
                "Dropout keeps a tenth of the random labels or more from being learned, "
                "and next to none of the true ones",
                lost["random"] > 0.1 and lost["true"] < 0.02,
            ),
        ],
        header=("labels", "dropout", "training, epoch 10", "training, end", "test accuracy"),
        rows=[
            (kind, rate, float(accuracy[9]), end[kind, rate], found.test[kind, rate])
            for (kind, rate), accuracy in found.training.items()
        ],
    )


def draw(figure: Any, found: Findings) -> None:
    """Training accuracy by epoch."""
    axes = figure.subplots()
    for (kind, rate), accuracy in found.training.items():
        axes.plot(
            range(1, len(accuracy) + 1),
            accuracy,
            color="C0" if kind == "true" else "C3",
            linestyle="--" if rate else "-",
            label=f"{kind} labels, dropout {rate} (test: {found.test[kind, rate]:.0%})",
        )
    axes.axhline(0.1, color="k", linewidth=1, linestyle=":", label="chance")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy on the training rows")
    axes.set_title("Random labels are learned by heart; dropout slows that, and not the learning")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
