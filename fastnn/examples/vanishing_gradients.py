"""Vanishing gradients: through sigmoids the error fades from layer to layer, through ReLUs not.

On its way back the gradient is multiplied by each layer's derivative. The sigmoid's is 1/4 at most;
ReLU's is 1 where the unit is on, and weights of variance 2/in make up for the units that are off.
Each network starts as was proposed for it: the sigmoids by Glorot & Bengio 2010, *Understanding the
difficulty of training deep feedforward neural networks*, the ReLUs by He et al. 2015 (arXiv
1502.01852).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page

DEPTH = 8
"""Hidden layers."""

STARTS = {"sigmoid": "glorot_uniform", "relu": "he_normal"}
"""Activations, and the initializer that goes with each."""


class Findings(NamedTuple):
    """Of each activation, before and after training."""

    norms: dict[str, list[float]]  # of the kernels' gradients at the start, first layer first
    accuracy: dict[str, float]  # on the test rows, after training


def measure(options: _page.Options) -> Findings:
    """One step back through each network; then train it."""
    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    found = Findings({}, {})
    for activation, initializer in STARTS.items():
        hidden = [
            fastnn.Dense(64, activation=activation, kernel_initializer=initializer)
            for _ in range(DEPTH)
        ]
        model = fastnn.Sequential([*hidden, fastnn.Dense(10)], input_shape=(64,), seed=options.seed)
        loss = fastnn.CategoricalCrossentropy(from_logits=True)
        loss.forward(model(x, training=True), y)
        gradient = loss.backward()
        for layer in reversed(model.layers):
            gradient = layer.backward(gradient)
        found.norms[activation] = [
            float(np.linalg.norm(layer.grads["kernel"])) for layer in model.layers
        ]
        model.compile(fastnn.SGD(0.1), loss, metrics=["accuracy"])
        model.fit(x, y, epochs=12 if options.quick else 30, verbose=0)
        found.accuracy[activation] = model.evaluate(x_test, y_test)["accuracy"]
    return found


def _ratio(found: Findings, activation: str) -> float:
    """The first layer's gradient by the last one's."""
    norms = found.norms[activation]
    return norms[0] / norms[-1]


def report(found: Findings) -> _page.Report:
    """What is left of the gradient at the first layer, and what training makes of it."""
    accuracy = found.accuracy
    return _page.Report(
        claims=[
            (
                f"Of the gradient, {DEPTH} layers of sigmoids leave less than a thousandth",
                _ratio(found, "sigmoid") < 1e-3,
            ),
            (
                "Through as many of ReLUs it keeps its order of magnitude",
                0.1 < _ratio(found, "relu") < 10,
            ),
            (
                "In the same time the ReLUs learn and the sigmoids do not",
                accuracy["relu"] > 0.8 and accuracy["sigmoid"] < 0.3,
            ),
        ],
        header=("activation", "first layer", "last layer", "ratio", "test accuracy"),
        rows=[
            (name, norms[0], norms[-1], _ratio(found, name), accuracy[name])
            for name, norms in found.norms.items()
        ],
    )


def draw(figure: Any, found: Findings) -> None:
    """The gradient's norm by layer."""
    axes = figure.subplots()
    for name, norms in found.norms.items():
        label = f"{name} ({found.accuracy[name]:.0%} right after training)"
        axes.semilogy(range(1, len(norms) + 1), norms, "o-", label=label)
    axes.set_xlabel("layer, from the input on")
    axes.set_ylabel("norm of the kernel's gradient, at the start")
    axes.set_title("Sigmoids lose the gradient on its way to the first layers, ReLUs keep it")
    axes.legend()
    axes.grid(alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
