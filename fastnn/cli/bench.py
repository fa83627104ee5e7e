"""``fastnn bench``: training steps and predictions of one row, beside the peers that are here."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastnn
from fastnn.cli import arguments

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SECONDS = 0.15
"""Of a contestant's turn, about."""

ROUNDS, SLOW_ROUNDS = 5, 2
"""Turns of each contestant; the second of one whose turn takes more than a second."""

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
    limited : callable
        A context that has the library use the threads with which it trains fastest.
    """

    train: Callable[[], object]
    predict: Callable[[], object]
    limited: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext


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
        prediction of one row. The others train on one thread or on all, whichever is faster.

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
    contestants = {name: LIBRARIES[name].contestant(case, x, y) for name in names}
    epochs, calls = (compare(contestants, what) for what in ("train", "predict"))
    steps = {name: {**each, "seconds": each["seconds"] / STEPS} for name, each in epochs.items()}
    return {"layers": layers, "batch": case.batch, "train": steps, "predict": calls}


def _cell(figures: dict[str, float]) -> str:
    return f"{figures['seconds'] * 1e6:,.1f} µs ({figures['ratio']:.1f}x)"


def compare(contestants: Mapping[str, Contestant], what: str) -> dict[str, dict[str, float]]:
    """Median seconds of each call, and its median ratio to the first, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    once = {}
    for name, contestant in contestants.items():
        _seconds(contestant, what, 1)  # compiles, allocates
        once[name] = _seconds(contestant, what, 1)
    for current in range(ROUNDS):
        for name, contestant in contestants.items():
            if current < (ROUNDS if once[name] < 1 else SLOW_ROUNDS):
                repeats = max(1, int(SECONDS / once[name]))
                seconds[name].append(_seconds(contestant, what, repeats))
    first = next(iter(seconds.values()))
    return {
        name: {
            "seconds": statistics.median(own),
            "ratio": statistics.median(a / b for a, b in zip(own, first, strict=False)),
        }
        for name, own in seconds.items()
    }


def _seconds(contestant: Contestant, what: str, repeats: int) -> float:
    """Seconds of a call, the mean of so many in a row."""
    call = getattr(contestant, what)
    with contestant.limited():
        begin = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - begin) / repeats


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


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _blas_threads(count: int) -> contextlib.AbstractContextManager[object]:
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(count, user_api="blas")
    return limits


class Library(NamedTuple):
    """What contestants are made of.

    Attributes
    ----------
    threads : callable or None
        A context with so many threads; None for a library that itself does what is best.
    """

    module: str
    make: Callable[[Case, Array, Array], Contestant]
    threads: Callable[[int], contextlib.AbstractContextManager[object]] | None = None

    def installed(self) -> bool:
        """Whether it can be imported; it is not, to find out."""
        return importlib.util.find_spec(self.module) is not None

    def contestant(self, case: Case, x: Array, y: Array) -> Contestant:
        """One with the threads with which it trains fastest: small steps lose by several."""
        made = self.make(case, x, y)
        if self.threads is None:
            return made
        counts = {1, fastnn.get_num_threads()}
        choices = [made._replace(limited=functools.partial(self.threads, n)) for n in counts]
        _seconds(choices[0], "train", 1)  # allocates
        return min(choices, key=lambda choice: _seconds(choice, "train", 1))


LIBRARIES = {
    "fastnn": Library("fastnn", _fastnn),
    "scikit-learn": Library("sklearn", _sklearn, _blas_threads),
    "PyTorch": Library("torch", _torch, _torch_threads),
}
