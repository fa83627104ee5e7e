"""Why biases: without them a ReLU network sees directions, and no distances.

Points inside a circle are to be told from those outside it. A network of ReLUs without biases is
positively homogeneous, f(λx) = λ f(x) for λ > 0: all points of a ray from the origin get logits of
the same signs, and so the same class. Where half of the points of each direction are inside, it
cannot do better than a coin. With biases the same network solves the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array


class Findings(NamedTuple):
    """The networks and their points, by whether there are biases."""

    x: Array  # (N, 2)
    inside: Array  # (N,), 0 or 1
    models: dict[bool, fastnn.Sequential]
    accuracy: dict[bool, float]
    stretch: dict[bool, float]  # of f(2x) from 2 f(x), the largest, by the size of f


def measure(options: _page.Options) -> Findings:
    """Train the same network with and without biases."""
    rng = np.random.default_rng(options.seed)
    inside = np.arange(600) % 2
    radius = np.where(inside == 1, rng.uniform(0.2, 0.8, 600), rng.uniform(1.2, 1.8, 600))
    angle = rng.uniform(0, 2 * np.pi, 600)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)

    models, accuracy, stretch = {}, {}, {}
    for biases in (False, True):
        model = fastnn.Sequential(
            [
                fastnn.Dense(32, activation="relu", use_bias=biases),
                fastnn.Dense(2, use_bias=biases),
            ],
            input_shape=(2,),
            seed=options.seed,
        )
        loss = fastnn.CategoricalCrossentropy(from_logits=True)
        model.compile(fastnn.Adam(0.01), loss, metrics=["accuracy"])
        model.fit(x, inside, epochs=20 if options.quick else 100, verbose=0)
        models[biases] = model
        accuracy[biases] = model.evaluate(x, inside)["accuracy"]
        once, twice = model.predict(x), model.predict(2 * x)
        stretch[biases] = float(np.abs(twice - 2 * once).max() / np.abs(once).max())
    return Findings(x, inside, models, accuracy, stretch)


def report(found: Findings) -> _page.Report:
    """Accuracy, and how far the network is from homogeneous."""
    return _page.Report(
        claims=[
            ("With biases the network tells inside from outside", found.accuracy[True] > 0.95),
            ("Without biases it does no better than a coin", found.accuracy[False] < 0.6),
            ("Without biases f(2x) is 2 f(x), to the bit", found.stretch[False] == 0),
        ],
        header=("network", "accuracy", "max |f(2x) - 2f(x)| / max |f(x)|"),
        rows=[
            ("with biases" if biases else "without", found.accuracy[biases], found.stretch[biases])
            for biases in (False, True)
        ],
    )


def draw(figure: Any, found: Findings) -> None:
    """The plane as each network divides it."""
    line = np.linspace(-2, 2, 200)
    plane = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    for axes, biases in zip(figure.subplots(1, 2, sharey=True), (False, True), strict=True):
        logits = found.models[biases].predict(plane)
        inside = (logits[:, 1] > logits[:, 0]).astype(float).reshape(len(line), len(line))
        axes.contourf(line, line, inside, levels=[-0.5, 0.5, 1.5], colors=["#f6d5c3", "#c9dcef"])
        for value, label, colour in ((1, "inside", "C0"), (0, "outside", "C1")):
            points = found.x[found.inside == value]
            axes.scatter(points[:, 0], points[:, 1], s=6, color=colour, label=label)
        network = "with biases" if biases else "without biases"
        axes.set_title(f"{network}: accuracy {found.accuracy[biases]:.0%}")
        axes.set_xlabel("x₁")
        axes.set_aspect("equal")
    figure.axes[0].set_ylabel("x₂")
    figure.axes[0].legend(loc="upper right")
    figure.suptitle("Without biases a network cannot tell near from far (areas: its answers)")


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
