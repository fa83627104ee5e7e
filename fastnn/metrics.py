"""Metrics: what is reported beside the loss, the mean over rows of a value for each."""

from __future__ import annotations

from typing import Any

from fastnn.engine.tape import Tape
from fastnn.kernels import state as s


class Metric:
    """A metric: which ops it becomes. Sample weights do not count in it, as in Keras."""

    name: str

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """Put the metric on `tape`: the handle of the rows' values (N,).

        `z` is the network's output, or its logits if `logits`.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {}


class Accuracy(Metric):
    """The share of right answers.

    For classes, the largest output stands at the label (of several largest, the first). For one
    output, or with binary cross-entropy, the share of a row's outputs on the right side of 0.5.
    """

    name = "accuracy"

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """Categorical or binary accuracy, by targets and loss."""
        hits = tape.new(())
        if len(targets.shape) == 1:
            tape.op("categorical_accuracy", hits=hits, z=z, labels=targets)
        elif loss.targets == "probabilities" or z.shape[-1] == 1:
            # σ(z) > 0.5 where z > 0.
            threshold = 0.0 if logits else 0.5
            tape.op("binary_accuracy", hits=hits, z=z, targets=targets, threshold=threshold)
        else:
            tape.op("categorical_accuracy_soft", hits=hits, z=z, targets=targets)
        return hits


METRICS: dict[str, type[Metric]] = {"accuracy": Accuracy, "acc": Accuracy}
"""Every metric by its names."""


def check(metrics: object) -> list[Metric]:
    """A list of metrics out of names and metrics.

    Raises
    ------
    ValueError, TypeError
        If one is neither a name out of `METRICS` nor a `Metric`.
    """
    if metrics is None:
        return []
    if isinstance(metrics, (str, Metric)) or not hasattr(metrics, "__iter__"):
        raise TypeError(f"compile: metrics must be a list, got {metrics!r}")
    checked: list[Metric] = []
    for metric in metrics:
        if isinstance(metric, Metric):
            checked.append(metric)
        elif isinstance(metric, str) and metric in METRICS:
            checked.append(METRICS[metric]())
        elif isinstance(metric, str):
            raise ValueError(f"compile: metrics must be of {', '.join(METRICS)}, got {metric!r}")
        else:
            raise TypeError(f"compile: a metric must be a name or a Metric, got {metric!r}")
    names = [metric.name for metric in checked]
    if "loss" in names:
        raise ValueError("compile: metrics must not be named 'loss'")
    if len(names) > s.MAX_METRICS:
        raise ValueError(f"compile: metrics must be at most {s.MAX_METRICS}, got {len(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"compile: metrics are named twice: {names}")
    return checked
