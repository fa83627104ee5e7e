"""``fastnn bench``: training steps and predictions of one row, beside the peers that are here."""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastnn
from fastnn.cli import arguments

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SECONDS = 0.15
"""Of a contestant's turn, about."""

ROUNDS = 5

LEARNING_RATE = 1e-3


class Case(NamedTuple):
    """Features, units of hidden layers (ReLU), classes; rows in a step of Adam."""

    sizes: tuple[int, ...]
    batch: int


CASES = (Case((20, 64, 64, 2), 32), Case((64, 100, 10), 200), Case((784, 128, 10), 128))

STEPS = 50
"""In an epoch."""


class Contestant(NamedTuple):
    """One library with one network.

    Attributes
    ----------
    train : callable
        Does an epoch of `STEPS` steps.
    predict : callable
        Answers for one row.
    """

    train: Callable[[], object]
    predict: Callable[[], object]


def add(commands: Any) -> None:
    """The command and its arguments."""
    parser = arguments.parser(
        commands,
        "bench",
        run,
        "compare speed with scikit-learn and PyTorch, where they are installed",
        """
        Compare, in less than a minute, with scikit-learn and PyTorch, where they are installed: a
        training step (gather, forward, loss, backward, Adam) of three networks in float32, and the
        prediction of one row.

        Each has its turn in every round; shown are medians, and in brackets the median of the
        ratios to fastnn of the same round. Machines differ, and so do their moods.
        """,
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Measure and tell."""
    missing = [name for name, library in LIBRARIES.items() if not library.installed()]
    names = [name for name in LIBRARIES if name not in missing]
    measured = [measure(case, names) for case in CASES]
    if options.json:
        print(json.dumps({"cases": measured, "missing": missing}))
        return 0
    for what, title in (("train", "a training step"), ("predict", "one row predicted")):
        rows = [
            [found["layers"], *(_cell(found[what][name]) for name in names)] for found in measured
        ]
        print(arguments.table([[title, *names], *rows]) + "\n")
    for name in missing:
        print(f"not installed: {name}")
    return 0


def measure(case: Case, names: list[str]) -> dict[str, Any]:
    """Seconds of a training step and of a prediction, by libraries."""
    layers = "-".join(map(str, case.sizes))
    print(f"fastnn bench: {layers}, {case.batch} rows a step", file=sys.stderr, flush=True)
    x, y = _data(case)
    contestants = {name: LIBRARIES[name].make(case, x, y) for name in names}
    epochs = compare({name: each.train for name, each in contestants.items()})
    steps = {name: {**each, "seconds": each["seconds"] / STEPS} for name, each in epochs.items()}
    calls = compare({name: each.predict for name, each in contestants.items()})
    return {"layers": layers, "batch": case.batch, "train": steps, "predict": calls}


def _cell(figures: dict[str, float]) -> str:
    return f"{figures['seconds'] * 1e6:,.1f} µs ({figures['ratio']:.1f}x)"


def compare(turns: Mapping[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Median seconds of each call, and its median ratio to the first, measured in turns."""
    repeats = {}
    for name, call in turns.items():
        call()  # compiles, allocates
        begin = time.perf_counter()
        call()
        once = time.perf_counter() - begin
        repeats[name] = max(1, int(SECONDS / once))
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(ROUNDS):
        for name, call in turns.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.perf_counter() - begin) / repeats[name])
    first = next(iter(seconds.values()))
    return {
        name: {
            "seconds": statistics.median(own),
            "ratio": statistics.median(a / b for a, b in zip(own, first, strict=True)),
        }
        for name, own in seconds.items()
    }


def _data(case: Case) -> tuple[Array, Array]:
    """Random rows (N, features), float32, with labels (N,) of which one in ten is wrong."""
    rng = np.random.default_rng(0)
    rows, classes = case.batch * STEPS, case.sizes[-1]
    labels = np.arange(rows) % classes
    centres = 0.3 * rng.standard_normal((classes, case.sizes[0]))
    x = rng.standard_normal((rows, case.sizes[0])) + centres[labels]
    wrong = rng.random(rows) < 0.1
    labels[wrong] = rng.permutation(labels[wrong])
    return x.astype(np.float32), labels


def _fastnn(case: Case, x: Array, y: Array) -> Contestant:
    layers = [fastnn.Dense(units, "relu") for units in case.sizes[1:-1]]
    layers.append(fastnn.Dense(case.sizes[-1], "softmax"))
    model = fastnn.Sequential(layers, input_shape=x.shape[1:], seed=0)
    model.compile(fastnn.Adam(LEARNING_RATE), "categorical_crossentropy")
    return Contestant(
        lambda: model.fit(x, y, batch_size=case.batch, epochs=1, verbose=0),
        lambda: model.predict(x[:1]),
    )


def _sklearn(case: Case, x: Array, y: Array) -> Contestant:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    estimator = MLPClassifier(
        case.sizes[1:-1],
        alpha=0.0,
        batch_size=case.batch,
        learning_rate_init=LEARNING_RATE,
        max_iter=1,
        warm_start=True,
        random_state=0,
    )

    def train() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is meant
            estimator.fit(x, y)

    return Contestant(train, lambda: estimator.predict_proba(x[:1]))


def _torch(case: Case, x: Array, y: Array) -> Contestant:
    import torch

    torch.manual_seed(0)
    layers: list[Any] = []
    for inputs, units in zip(case.sizes[:-1], case.sizes[1:], strict=True):
        layers += [torch.nn.Linear(inputs, units), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)

    def train() -> None:
        for part in torch.randperm(len(rows)).split(case.batch):
            optimizer.zero_grad(set_to_none=True)
            criterion(net(rows[part]), labels[part]).backward()
            optimizer.step()

    def predict() -> Any:
        with torch.inference_mode():
            return net(rows[:1]).softmax(1).numpy()

    return Contestant(train, predict)


class Library(NamedTuple):
    """What a contestant is made with, and of."""

    module: str
    make: Callable[[Case, Array, Array], Contestant]

    def installed(self) -> bool:
        """Whether it can be imported; it is not, to find out."""
        return importlib.util.find_spec(self.module) is not None


LIBRARIES = {
    "fastnn": Library("fastnn", _fastnn),
    "scikit-learn": Library("sklearn", _sklearn),
    "PyTorch": Library("torch", _torch),
}
