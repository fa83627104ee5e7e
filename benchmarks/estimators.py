"""`fastnn.sklearn` beside scikit-learn: ``python -m benchmarks.estimators --write``.

Whole calls of `fit`, with all that scikit-learn does around them, on one core and in turns;
`predict` of one row; and a grid search as a whole process on all cores, where scikit-learn has its
best backend. Ratios are scikit-learn's time divided by fastnn's in the same round.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks import RESULTS, machine, rounds, tables

GOALS = {
    "digits, 64-100-10": {"float64": 4.0, "float32": 6.5},
    "20000 x 16, 26 classes, 16-100-26": {"float64": 5.0, "float32": 9.0},
    "Fashion-MNIST, 784-128-10": {"float64": 1.6, "float32": 1.7},
}
"""How many times faster `fit` is to be, for each type of X."""

GRID = """
import sys, warnings
warnings.simplefilter("ignore")
from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from {module} import MLPClassifier
X, y = load_digits(return_X_y=True)
search = GridSearchCV(
    MLPClassifier(random_state=0),
    {{"alpha": [1e-5, 1e-4, 1e-3], "learning_rate_init": [1e-3, 1e-2],
     "hidden_layer_sizes": [(50,), (100,)]}},
    cv=3, n_jobs={jobs},
)
with parallel_config(backend="{backend}"):
    search.fit(X / 16, y)
print(search.best_score_)
"""
"""A search over 12 candidates on 3 folds of digits."""

THEIRS = {"threading, 2": ("threading", 2), "loky, 2": ("loky", 2), "sequential": ("loky", 1)}
"""Ways in which scikit-learn may search: backend and number of jobs."""


class Case(NamedTuple):
    """Data and the arguments of both estimators."""

    name: str
    X: Any
    y: Any
    arguments: dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each contestant in a case")
    parser.add_argument("--write", action="store_true", help="keep the figures in a file")
    parser.add_argument("--no-search", action="store_true", help="leave the grid search out")
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {"date": datetime.date.today().isoformat(), "cpu": machine.cpu_name()}
    searched = None if options.no_search else search()  # before this process is kept to one core
    machine.pin(1)
    if searched is not None:
        report["search"] = rounds.figures(searched)
    warnings.simplefilter("ignore")  # fits end before they converge
    report["versions"] = machine.versions("numpy", "numba", "scikit-learn")
    report["fit"] = {name: fits(case, options.seconds) for name, case in named(cases()).items()}
    report["predict"] = predictions()
    print(text(report))
    if options.write:
        path = RESULTS / f"estimators-{report['date']}.json"
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten to {path.name}")
    return 0


def named(cases: Iterator[Case]) -> dict[str, Case]:
    """The cases by their names."""
    return {case.name: case for case in cases}


def cases() -> Iterator[Case]:
    """Digits, a set of the shape of *Letter Recognition*, Fashion-MNIST, and sparse text."""
    import numpy as np
    from scipy import sparse
    from sklearn.datasets import load_digits, make_classification

    import fastnn

    names = iter(GOALS)
    X, y = load_digits(return_X_y=True)
    yield Case(next(names), X / 16, y, {"hidden_layer_sizes": (100,), "max_iter": 100})
    X, y = make_classification(
        20_000, 16, n_informative=12, n_redundant=0, n_classes=26, n_clusters_per_class=1,
        random_state=0,
    )  # fmt: skip
    yield Case(next(names), X, y, {"hidden_layer_sizes": (100,), "max_iter": 10})
    (X, y), _ = fastnn.datasets.load("fashion-mnist")
    X = X.reshape(len(X), -1) / 255.0
    yield Case(next(names), X, y, {"hidden_layer_sizes": (128,), "max_iter": 1})
    rng = np.random.default_rng(0)
    X = sparse.random_array((4000, 20_000), density=0.005, format="csr", rng=rng)
    y = rng.integers(0, 2, 4000)
    yield Case("sparse 4000 x 20000, 20000-100-1", X, y, {"max_iter": 1})


def fits(case: Case, seconds: float) -> dict[str, Any]:
    """Times of `fit` for each type of X, and of float64 data trained in float32."""
    from sklearn.neural_network import MLPClassifier as Theirs

    from fastnn.sklearn import MLPClassifier as Ours

    found = {}
    for label, dtype, own in (
        ("float64", "float64", {}),
        ("float32", "float32", {}),
        ('float64, dtype="float32"', "float64", {"dtype": "float32"}),
    ):
        X = case.X.astype(dtype)

        def fit(kind: Any, X: Any = X, own: dict[str, Any] | None = None) -> Callable[[], float]:
            def turn() -> float:
                estimator = kind(random_state=0, **case.arguments, **(own or {}))
                start = time.perf_counter()
                estimator.fit(X, case.y)
                return time.perf_counter() - start

            return turn

        turns = {"fastnn": fit(Ours, own=own), "scikit-learn": fit(Theirs)}
        turns["fastnn"]()  # what is not compiled yet is now
        times = rounds.alternate(turns, rounds.Pace(seconds, most=15))
        found[label] = rounds.figures(times)
    return found


def predictions() -> dict[str, Any]:
    """Times of `predict` and `predict_proba` for one row of digits."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier as Theirs

    from fastnn.sklearn import MLPClassifier as Ours

    X, y = load_digits(return_X_y=True)
    fitted = {
        "fastnn": Ours(max_iter=5, random_state=0).fit(X, y),
        "scikit-learn": Theirs(max_iter=5, random_state=0).fit(X, y),
    }
    found = {}
    for method in ("predict", "predict_proba"):
        turns = {
            name: rounds.repeated(functools.partial(getattr(model, method), X[:1]))
            for name, model in fitted.items()
        }
        found[method] = rounds.figures(rounds.alternate(turns, rounds.Pace(1.0)))
    return found


def search() -> rounds.Times:
    """Wall time of processes that search a grid: fastnn's, and scikit-learn's in each way."""

    def turn(module: str, backend: str, jobs: int) -> Callable[[], float]:
        script = GRID.format(module=module, backend=backend, jobs=jobs)
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}

        def run() -> float:
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", script], env=environment, check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            return time.perf_counter() - start

        return run

    turns = {"fastnn, threading, 2": turn("fastnn.sklearn", "threading", 2)}
    turns |= {
        f"scikit-learn, {way}": turn("sklearn.neural_network", *how) for way, how in THEIRS.items()
    }
    turns["fastnn, threading, 2"]()
    return rounds.alternate(turns, rounds.Pace(0.0, least=3, slow=1, most=3))


def text(report: dict[str, Any]) -> str:
    """The figures as tables, beside what was to be reached."""
    lines = []
    for name, types in report["fit"].items():
        for label, figures in types.items():
            goal = GOALS.get(name, {}).get(label)
            lines.append(
                (
                    name,
                    label,
                    tables.duration(figures["fastnn"]["microseconds"][1]),
                    tables.duration(figures["scikit-learn"]["microseconds"][1]),
                    tables.spread(figures["scikit-learn"]["ratio"]),
                    "" if goal is None else f"≥ {goal}",
                )
            )
            name = ""
    head = ("fit, one core", "", "fastnn", "scikit-learn", "times faster", "goal")
    parts = [report["cpu"], tables.columns(head, lines, left=2)]
    parts.append(tables.compared(list(report["predict"].items())))
    if "search" in report:
        parts.append(tables.compared([("grid search, whole process", report["search"])]))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
