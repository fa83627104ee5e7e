"""Symmetry: hidden units that start alike stay alike, however long they are trained.

Units of a layer with the same weights going in and coming out compute the same output and get the
same gradient, so gradient descent keeps them the same: a layer that starts constant is worth one
unit, at any width. Random numbers break the symmetry; their variance 2/in keeps the size of ReLU's
outputs from layer to layer (He et al. 2015, arXiv 1502.01852).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array

UNITS = 32
SIDE = 8  # pixels of an image

STARTS: dict[str, Any] = {
    "zeros": "zeros",
    "constant 0.05": lambda shape, generator: np.full(shape, 0.05),
    "He normal": "he_normal",
}
"""Initializers of the kernels, by what they are called here."""


class Findings(NamedTuple):
    """Of each start: the first kernel after training, how many of its units differ, accuracy."""

    kernels: dict[str, Array]  # (64, UNITS)
    different: dict[str, int]
    accuracy: dict[str, float]  # on the test rows


def measure(options: _page.Options) -> Findings:
    """Train one network from each start."""
    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    found = Findings({}, {}, {})
    for start, initializer in STARTS.items():
        hidden = fastnn.Dense(UNITS, activation="relu", kernel_initializer=initializer)
        model = fastnn.Sequential(
            [
                hidden,
                fastnn.Dense(10, activation="softmax", kernel_initializer=initializer),
            ],
            input_shape=(SIDE * SIDE,),
            seed=options.seed,
        )
        model.compile(fastnn.Adam(0.005), "categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, epochs=10 if options.quick else 60, verbose=0)
        found.kernels[start] = hidden.kernel.copy()
        found.different[start] = np.unique(hidden.kernel, axis=1).shape[1]
        found.accuracy[start] = model.evaluate(x_test, y_test)["accuracy"]
    return found


def report(found: Findings) -> _page.Report:
    """How many units differ, and what that costs."""
    *constant, random = STARTS
    return _page.Report(
        claims=[
            (
                f"After training from a constant start all {UNITS} units are the same, to the bit",
                all(found.different[start] == 1 for start in constant),
            ),
            (
                "From a random start no two units are",
                found.different[random] == UNITS,
            ),
            (
                "Alike units cost most of the accuracy",
                all(found.accuracy[start] < 0.5 * found.accuracy[random] for start in constant),
            ),
        ],
        header=("start", f"different units of {UNITS}", "test accuracy"),
        rows=[(start, found.different[start], found.accuracy[start]) for start in STARTS],
    )


def draw(figure: Any, found: Findings) -> None:
    """The first units' weights as images of what they look for."""
    shown = 8
    grid = figure.subplots(len(STARTS), shown)
    for unit, axes in enumerate(grid[0]):
        axes.set_title(f"unit {unit + 1}")
    for row, (start, kernel) in zip(grid, found.kernels.items(), strict=True):
        limit = np.abs(kernel).max() or 1.0
        for unit, axes in enumerate(row):
            image = kernel[:, unit].reshape(SIDE, SIDE)
            axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(f"{start}\n{found.accuracy[start]:.0%} right")
    figure.suptitle(
        "Weights of the first hidden units after training: a constant start leaves one unit\n"
        "(red: positive, blue: negative; each row has a scale of its own)"
    )


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
