"""``fastnn demo``: a network trained on the bundled images of digits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import fastnn
from fastnn.cli import arguments
from fastnn.cli.clock import Clock


def add(commands: Any) -> None:
    """The command and its arguments."""
    parser = arguments.parser(
        commands,
        "demo",
        run,
        "train a network on the bundled images of digits, and save it",
        "Train a network on the bundled images of digits, print its accuracy and time, save it.",
    )
    parser.add_argument("--epochs", type=int, default=40, help="passes over the data")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and dropout")
    parser.add_argument(
        "--out", type=Path, default=Path("digits.safetensors"), help="file to save the network in"
    )


def run(options: argparse.Namespace) -> int:
    """Train on the digits, print accuracy and time a step, save the network."""
    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    model = fastnn.Sequential(
        [
            fastnn.Dense(256, activation="relu"),
            fastnn.Dropout(0.3),
            fastnn.Dense(128, activation="relu"),
            fastnn.Dropout(0.3),
            fastnn.Dense(10, activation="softmax"),
        ],
        input_shape=x.shape[1:],
        seed=options.seed,
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    model.summary()
    print(f"training on {len(x)} images of 8x8 pixels")

    batch_size = 32
    # From the first epoch's beginning to the last one's end: without the compilation before.
    clock = Clock()
    model.fit(x, y, batch_size=batch_size, epochs=options.epochs, callbacks=[clock])
    scores = model.evaluate(x_test, y_test)
    print(f"test accuracy: {scores['accuracy']:.2%} on {len(x_test)} images never seen")
    steps = options.epochs * -(-len(x) // batch_size)
    if steps:
        print(f"time a step:   {clock.seconds / steps * 1e6:.1f} µs ({batch_size} images)")
    model.save(options.out)
    print(f'saved to:      {options.out}   (fastnn.load("{options.out}").predict(x))')
    return 0
