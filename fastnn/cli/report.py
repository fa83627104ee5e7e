"""What ``fastnn train`` tells: in words, as JSON, as a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from fastnn.cli.arguments import table
from fastnn.cli.learning import Data, Fit
from fastnn.plot import history
from fastnn.tables.targets import Classes

LABELS = {"accuracy": "accuracy", "r2": "R²", "rmse": "RMSE", "mae": "mean abs. error"}


def of_data(data: Data, seconds: float) -> str:
    """What was found in the table."""
    recipe, rows = data.recipe, [len(part) for part in data.y]
    target = recipe.target
    if isinstance(target, Classes):
        shown = ", ".join(target.names[:5]) + (", ..." if len(target.names) > 5 else "")
        aim = f"classification, {len(target.names)} classes: {shown}"
        other = "regression"
    else:
        aim = f"regression, mean {target.mean:.6g}, standard deviation {target.scale:.6g}"
        other = "classification"
    kinds = Counter(feature.kind for feature in recipe.features)
    plural = {"number": "numbers", "category": "categories", "date": "dates"}
    columns = ", ".join(f"{count} of {plural[kind]}" for kind, count in kinds.items())
    lines = [
        f"{sum(rows)} rows read in {seconds:.1f} s: {rows[0]} for training, {rows[1]} for "
        f"validation, {rows[2]} for the test",
        f"{target.name}: {aim} (--task {other} if that is wrong)",
        f"columns: {columns}; {recipe.width} inputs",
    ]
    dates = [feature.name for feature in recipe.features if feature.kind == "date"]
    if dates:
        lines.append(f"dates, counted in days: {', '.join(dates)}")
    lines += [f"left out: {name}: {why}" for name, why in recipe.left_out.items()]
    return "\n".join(lines)


def of_fit(data: Data, fit: Fit) -> str:
    """The scores beside the baseline's, and the time."""
    classes = isinstance(data.recipe.target, Classes)
    header = ["on test rows", "network", "most frequent class" if classes else "mean"]
    rows = [
        [LABELS[name], f"{value:.4g}", f"{fit.baseline[name]:.4g}"]
        for name, value in fit.scores.items()
    ]
    done = fit.model.epochs_done
    speed = done * len(data.y.training) / fit.seconds
    return (
        f"\n{table([header, *rows])}\n\n"
        f"{done} epochs in {fit.seconds:.1f} s, {speed:,.0f} samples a second"
    )


def as_json(data: Data, fit: Fit) -> dict[str, Any]:
    """The report for scripts."""
    recipe, done = data.recipe, fit.model.epochs_done
    return {
        "task": recipe.target.task,
        "target": recipe.target.name,
        "rows": {name: len(part) for name, part in data.y._asdict().items()},
        "columns": {feature.name: feature.kind for feature in recipe.features},
        "left_out": recipe.left_out,
        "inputs": recipe.width,
        "test": fit.scores,
        "baseline": fit.baseline,
        "epochs": done,
        "seconds": fit.seconds,
        "samples_per_second": done * len(data.y.training) / fit.seconds,
        "seed": fit.model.seed,
    }


def plot(path: Path, fit: Fit) -> None:
    """Draw loss, accuracy and learning rate by epoch, of training and validation."""
    from matplotlib.figure import Figure

    quantities = sum(not name.startswith("val_") for name in fit.history)
    # A figure of its own: pyplot's belong to the process.
    figure = Figure(figsize=(4.5 * quantities, 3.6), dpi=120, layout="constrained")
    history(fit.history, figure)
    figure.savefig(path)
