"""Charts of the reports beside the comparison, each of a module of its own."""

from __future__ import annotations

from typing import Any

from benchmarks import tables
from benchmarks.estimators import GOALS
from benchmarks.page.charts import (
    MISS,
    OWN,
    PEER,
    Bar,
    Chart,
    Group,
    contestants,
    display,
    is_own,
    nanoseconds,
    of_nanoseconds,
    of_number,
    once,
    share_bar,
)
from benchmarks.reports import Report


def passes(report: Report) -> list[Chart]:
    """Passes over memory, one chart with a group for each size."""
    groups = []
    for size, found in report["sizes"].items():
        bars = [
            share_bar(name, figures["share"], f"{figures['ns']:.3f} ns an element")
            for name, figures in found.items()
        ]
        groups.append(Group(f"{size} float32", bars, {"copy": 1.0}))
    text = (
        "The rate at which a pass of a layer moves its arrays, as a share of the rate of a copy "
        "of one array: 1 is as fast as memory or cache allow a copy to be, more is had by reading "
        "more than writing. Small sizes stay in the cache, the last does not."
    )
    chart = Chart(
        "share", "Passes as a share of a copy", text, groups, of_number,
        logarithmic=False, common=True, folded=True,
    )  # fmt: skip
    return [chart]


def estimators(report: Report) -> list[Chart]:
    """Fits beside their goals, predictions of one row, and a search where it was done."""
    fits = [
        Group(f"{case}, {kind}", contestants(found, goal_of(case, kind, found)))
        for case, kinds in report["fit"].items()
        for kind, found in kinds.items()
    ]
    text = "Whole calls of `fit`, the same network and data, on one core."
    found = [
        Chart("fit", "Fits", text, missed(fits)),
        Chart(
            "predict",
            "One row",
            "Calls for one row of digits, with all checks of its argument.",
            [Group(method, contestants(found)) for method, found in report["predict"].items()],
        ),
    ]
    if "search" in report:
        groups = [Group("Wall time", contestants(report["search"]))]
        text = "A grid search as a whole process on all cores: 12 candidates, 3 folds of digits."
        found.append(Chart("search", "Grid search", text, groups))
    return found


def goal_of(case: str, kind: str, found: dict[str, Any]) -> dict[str, str]:
    """A note on what was to be reached, for scikit-learn's bar."""
    goal = GOALS.get(case, {}).get(kind)
    if goal is None:
        return {}
    verdict = "reached" if found["scikit-learn"]["ratio"][1] >= goal else "MISSED"
    return {"scikit-learn": f"goal ≥ {goal:g}: {verdict}"}


def missed(groups: list[Group]) -> list[Group]:
    """The groups with bars of their own kind where a goal was missed."""
    return [
        group._replace(
            bars=[
                bar._replace(kind=MISS) if bar.note.endswith("MISSED") else bar
                for bar in group.bars
            ]
        )
        for group in groups
    ]


def book(report: Report) -> list[Chart]:
    """The book's networks, an epoch, and where training arrived."""
    arrived = report["spiral"]["10,001 epochs by Model.train"]
    accuracies = ", ".join(
        f"{display(name)} {accuracy:.4f}"
        for name, accuracy in report["fashion-mnist"]["test accuracy"].items()
    )
    text = (
        "An epoch by `Model.train`, by the book's loop with fastnn's classes, and by that loop in "
        "NumPy, which sums products in float64 as the book's programs do or, where so named, in "
        f"float32. On the spiral 10,001 epochs arrive at an accuracy of {arrived['accuracy']:.4f} "
        f"and a loss of {arrived['loss']:.4f}. Test accuracies on Fashion-MNIST: {accuracies}."
    )
    groups = [
        Group("Spiral, 2-64-3, 300 rows", contestants(report["spiral"]["an epoch"])),
        Group("Fashion-MNIST, 784-128-128-10", contestants(report["fashion-mnist"]["an epoch"])),
    ]
    return [Chart("epoch", "The book's networks", text, groups)]


def accuracy(report: Report) -> list[Chart]:
    """Test accuracies over seeds."""
    bars = []
    for name, found in report.items():
        if not isinstance(found, dict) or "accuracies" not in found:
            continue
        values, mean = found["accuracies"], found["mean"]
        how, _, who = name.rpartition(", ")
        ahead = mean > report.get(f"{how}, fastnn", found)["mean"]
        bars.append(
            Bar(
                f"{how}, {display(who)}",
                (found["least"], mean, max(values)),
                f"{mean:.4f} [{found['least']:.4f} {max(values):.4f}]",
                f"{len(values)} seeds; {found['seconds']:.1f} s each",
                f"{mean:.4f}",
                OWN if is_own(who) else MISS if ahead else PEER,
            )
        )
    text = "Fashion-MNIST, 784-128-10 with Adam: means over seeds, in brackets the least and most."
    group = Group("Test accuracy", bars)
    return [Chart("test", "Accuracy", text, [group], of_number, logarithmic=False)]


def transcendentals(report: Report) -> list[Chart]:
    """Time and error of each function beside NumPy's time."""
    groups: dict[str, list[Bar]] = {}
    for row in report["rows"]:
        own, other = row["ns"], row["numpy_ns"]
        error = f"at most {row['ulp']:.2f} ulp off at {row['points']:,} arguments"
        ratio = tables.times(other / own)
        groups.setdefault(row["dtype"], []).extend(
            [
                nanoseconds(f"{row['function']}, fastnn", once(own), error),
                nanoseconds(
                    f"{row['function']}, NumPy", once(other), ratio, MISS if other < own else PEER
                ),
            ]
        )
    text = (
        "Time of an element in an array that stays in the cache, medians in turns with NumPy; and "
        "the largest error that was found, in units in the last place (ulp)."
    )
    found = [Group(dtype, bars) for dtype, bars in groups.items()]
    return [Chart("time", "exp, log and the like", text, found, of_nanoseconds, logarithmic=False)]
