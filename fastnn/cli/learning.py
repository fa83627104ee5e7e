"""A network for a table: made, trained, tested."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastnn
from fastnn import optimizers, schedules
from fastnn.cli.clock import Clock
from fastnn.tables import Recipe
from fastnn.tables.split import Split
from fastnn.tables.targets import Classes, Quantity

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

STEPS = 10_000
"""Where nobody says how many epochs, those of about so many steps, within `EPOCHS`."""

EPOCHS = (20, 200)

BATCHES = (16, 256)
"""Rows in a step, where nobody says how many: about a hundredth of all, within these."""

PATIENCE = 5
"""Training ends after a fifth of its epochs without a better one, but not before `LEAST_WAIT`."""

LEAST_WAIT = 10


class Data(NamedTuple):
    """Rows as numbers (N, width), float32, and labels int64 (N,) or quantities float64 (N,)."""

    recipe: Recipe
    x: Split
    y: Split


class Network(NamedTuple):
    """What is asked for; None is for what the data decide."""

    hidden: tuple[int, ...]
    dropout: float
    optimizer: str
    learning_rate: float
    batch_size: int | None
    epochs: int | None


class Fit(NamedTuple):
    """A trained network, and what is known of it.

    Attributes
    ----------
    seconds : float
        Of training and validation.
    scores, baseline : dict of str to float
        On the test rows: the network's, and those of the most frequent class or the mean of the
        training rows.
    interrupted : bool
        Whether Ctrl-C ended it; then there are no scores.
    """

    model: fastnn.Sequential
    seconds: float
    history: dict[str, list[float]]
    scores: dict[str, float]
    baseline: dict[str, float]
    interrupted: bool


def learn(data: Data, network: Network, seed: int) -> Fit:
    """Train until the validation rows' loss falls no more; test the best epoch's network."""
    batch, steps, epochs = _pace(len(data.x.training), network)
    model = make(data.recipe, network, epochs * steps, seed)
    clock, history = Clock(), fastnn.History()
    stop = fastnn.EarlyStopping(
        patience=max(epochs // PATIENCE, LEAST_WAIT), restore_best_weights=True
    )
    y = _as_trained(data)
    interrupted = False
    try:
        history = model.fit(
            data.x.training,
            y.training,
            batch_size=batch,
            epochs=epochs,
            validation_data=(data.x.validation, y.validation),
            callbacks=[clock, stop],
        )
    except KeyboardInterrupt:
        interrupted = True
    scores = {} if interrupted else score(data, answers(data.recipe, model.predict(data.x.test)))
    return Fit(model, clock.seconds, history.history, scores, baseline(data), interrupted)


def _pace(rows: int, network: Network) -> tuple[int, int, int]:
    """Rows in a step, steps in an epoch, and epochs."""
    low, high = BATCHES
    batch = network.batch_size or min(max(1 << round(math.log2(max(rows / 100, 1))), low), high)
    steps = -(-rows // batch)
    few, many = EPOCHS
    return batch, steps, network.epochs or min(max(round(STEPS / steps), few), many)


def make(recipe: Recipe, network: Network, steps: int, seed: int) -> fastnn.Sequential:
    """The network, compiled; its learning rate falls to 0 within `steps`."""
    layers: list[fastnn.Layer] = []
    for units in network.hidden:
        layers.append(fastnn.Dense(units, "relu", kernel_initializer="he_normal"))
        if network.dropout:
            layers.append(fastnn.Dropout(network.dropout))
    classes = isinstance(recipe.target, Classes)
    if isinstance(recipe.target, Classes):
        layers.append(fastnn.Dense(len(recipe.target.names), "softmax"))
    else:
        layers.append(fastnn.Dense(1))
    model = fastnn.Sequential(layers, input_shape=(recipe.width,), seed=seed)
    rate = schedules.CosineDecay(network.learning_rate, steps)
    model.compile(
        optimizers.OPTIMIZERS[network.optimizer](learning_rate=rate),
        "categorical_crossentropy" if classes else "mse",
        metrics=["accuracy"] if classes else None,
    )
    model.preprocessing = recipe.get_config()
    return model


def _as_trained(data: Data) -> Split:
    """What the network is to give."""
    target = data.recipe.target
    if isinstance(target, Classes):
        return data.y
    return Split(*(target.encode(part) for part in data.y))


def answers(recipe: Recipe, outputs: Array) -> Array:
    """What outputs mean: labels (N,), or quantities (N,)."""
    if isinstance(recipe.target, Quantity):
        return recipe.target.decode(outputs)
    labels: Array = outputs.argmax(axis=1)
    return labels


def baseline(data: Data) -> dict[str, float]:
    """The scores of one answer for all rows, the best one for the training rows."""
    y = data.y.training
    if isinstance(data.recipe.target, Classes):
        constant = np.bincount(y).argmax()
    else:
        constant = y.mean()
    return score(data, np.full(len(data.y.test), constant))


def score(data: Data, given: Array) -> dict[str, float]:
    """Scores of answers for the test rows; R² of rows with one value alone is 0."""
    y = data.y.test
    if isinstance(data.recipe.target, Classes):
        return {"accuracy": float((given == y).mean())}
    error, spread = ((given - y) ** 2).mean(), ((y - y.mean()) ** 2).mean()
    return {
        "r2": float(1 - error / spread) if spread else 0.0,
        "rmse": float(np.sqrt(error)),
        "mae": float(np.abs(given - y).mean()),
    }
