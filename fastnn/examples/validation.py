"""Validation: the rows that chose among networks praise their choice; only fresh rows are honest.

Of many candidates the one that scores best on some rows owes that partly to luck with those rows,
and its score there is too good; the more so, the more candidates were tried. So hyperparameters are
chosen on validation rows, and the test rows are looked at once, for the network already chosen: as
soon as a choice is made on them, they are validation rows. (Cawley & Talbot 2010, *On Over-fitting
in Model Selection and Subsequent Selection Bias in Performance Evaluation*.)

The candidates are trained once, on a few rows. Then, again and again, some of the other rows are
drawn for choosing and as many for testing; what is left of them is close to the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

TRAINING = 150
"""Rows that the candidates are trained on."""

DRAWN = 60
"""Rows drawn for choosing, and again for testing."""


class Findings(NamedTuple):
    """By the number of candidates tried: of each draw, the chosen one's accuracies."""

    chosen_on: dict[int, Array]  # (draws,), on the rows that chose it
    test: dict[int, Array]  # (draws,), on as many that did not
    truth: dict[int, Array]  # (draws,), on all the rest


def candidates(count: int, x: Array, y: Array, rng: np.random.Generator) -> list[fastnn.Sequential]:
    """Trained networks of random hyperparameters."""
    models = []
    for _ in range(count):
        model = fastnn.Sequential(
            [
                fastnn.Dense(int(rng.integers(16, 65)), activation="relu"),
                fastnn.Dropout(float(rng.uniform(0, 0.5))),
                fastnn.Dense(10, activation="softmax"),
            ],
            seed=int(rng.integers(1 << 31)),
        )
        rate = 10 ** rng.uniform(-3, -1.5)
        model.compile(fastnn.Adam(rate), "categorical_crossentropy")
        model.fit(x, y, epochs=20, verbose=0)
        models.append(model)
    return models


def measure(options: _page.Options) -> Findings:
    """Choose among the first few candidates, on many draws of rows."""
    tried = (1, 4, 16) if options.quick else (1, 4, 16, 64)
    draws = 500 if options.quick else 2000
    rng = np.random.default_rng(options.seed)
    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    models = candidates(tried[-1], x[:TRAINING], y[:TRAINING], rng)
    others = np.concatenate([x[TRAINING:], x_test])
    labels = np.concatenate([y[TRAINING:], y_test])
    right = np.array([model.predict(others).argmax(axis=1) == labels for model in models])

    found = Findings(*({count: np.empty(draws) for count in tried} for _ in range(3)))
    for turn in range(draws):
        rows = rng.permutation(len(labels))
        parts = np.split(right[:, rows], [DRAWN, 2 * DRAWN], axis=1)
        chooser, test, rest = (part.mean(axis=1) for part in parts)
        order = rng.permutation(len(models))  # so that which are tried is luck, too
        for count in tried:
            best = order[:count][np.argmax(chooser[order[:count]])]
            found.chosen_on[count][turn] = chooser[best]
            found.test[count][turn] = test[best]
            found.truth[count][turn] = rest[best]
    return found


def _gaps(scores: dict[int, Array], truth: dict[int, Array]) -> dict[int, tuple[float, float]]:
    """By how much scores are above the truth: the mean, and the mean's standard error."""
    return {
        count: (
            float((score - truth[count]).mean()),
            float((score - truth[count]).std() / math.sqrt(len(score))),
        )
        for count, score in scores.items()
    }


def report(found: Findings) -> _page.Report:
    """What each score promises beyond the truth."""
    praise, honest = _gaps(found.chosen_on, found.truth), _gaps(found.test, found.truth)
    means = [mean for mean, _ in praise.values()]
    most = max(praise)
    return _page.Report(
        claims=[
            (
                f"The rows that chose among {most} praise their choice by a point or more",
                means[-1] > 0.01 + 3 * praise[most][1],
            ),
            ("The more candidates, the more praise", means == sorted(means)),
            (
                "Rows that did not choose are right on average, within 4 standard errors",
                all(abs(mean) < 4 * error for mean, error in honest.values()),
            ),
            (
                "Choosing is of use all the same: the chosen are truly better than one at random",
                float((found.truth[most] - found.truth[1]).mean()) > 0,
            ),
        ],
        header=("candidates", "choosing rows", "test rows", "truth", "praise", "test - truth"),
        rows=[
            (
                str(count),
                *(f"{scores[count].mean():.2%}" for scores in found),
                f"{praise[count][0]:+.2%}",
                f"{honest[count][0]:+.2%}",
            )
            for count in found.truth
        ],
    )


def draw(figure: Any, found: Findings) -> None:
    """How far the two scores are from the truth."""
    means, spread = figure.subplots(1, 2)
    counts = list(found.truth)
    for scores, label, colour in (
        (found.chosen_on, "rows that chose", "C3"),
        (found.test, "test rows", "C0"),
    ):
        gaps = _gaps(scores, found.truth)
        means.errorbar(
            counts,
            [100 * gaps[count][0] for count in counts],
            [200 * gaps[count][1] for count in counts],
            fmt="o-",
            capsize=3,
            color=colour,
            label=f"{label} (± 2 standard errors)",
        )
        off = 100 * (scores[counts[-1]] - found.truth[counts[-1]])
        bins = np.arange(-12.5, 13) * 100 / DRAWN  # one for each number of right answers
        spread.hist(off, bins, color=colour, alpha=0.5, label=label)
    for axes in (means.axhline, spread.axvline):
        axes(0, color="k", linewidth=1)
    means.set_xscale("log")
    means.set_xticks(counts, [str(count) for count in counts])
    means.minorticks_off()
    means.set_xlabel("candidates tried")
    means.set_ylabel("accuracy above the truth, points")
    means.set_title("On average")
    means.legend()
    spread.set_xlabel("accuracy above the truth, points")
    spread.set_ylabel("draws")
    spread.set_title(f"Each draw, of {counts[-1]} candidates")
    spread.legend(loc="upper left")
    figure.suptitle("Rows that chose a network praise it; rows that did not are right on average")


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
