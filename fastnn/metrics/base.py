"""What every metric is: which ops it becomes, and the figure made of what they add up.

Most metrics are the mean of a value for each row. The others keep sums of their own, to which ops
add batch by batch, row by row, on one thread: so a figure has the same bits for any number of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.configured import Configured
from fastnn.engine import cpu
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels import state as s
from fastnn.losses import Loss, one_hot

Array = npt.NDArray[Any]


class Metric(Configured):
    """A metric: which ops it becomes. Sample weights do not count in it, as in Keras.

    Parameters
    ----------
    name : str, optional
        What the figure is called in histories.

    Attributes
    ----------
    more_is_better : bool
        Whether callbacks in their mode "auto" take a larger figure for a better one.
    is_number : bool
        Whether the figure is one number, or else an array.
    takes_logits : bool
        Whether logits tell it as much. Other metrics are shown the probabilities that a loss on
        logits makes of them.
    """

    name: str
    more_is_better: bool = False
    is_number: bool = True
    takes_logits: bool = False
    _tally: Tally | None = None

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}: name must be a string, got {name!r}")
        self.name = name or self.name

    def check(self, columns: int) -> None:
        """Refuse a network with so many outputs that there is no such figure."""

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """Put the metric on `tape`: the handle of the rows' values (N,).

        `z` is the network's output, or its logits if `logits`.
        """
        raise NotImplementedError

    def figure(self, sums: Array, rows: int) -> Any:
        """What the sum of the values of `rows` rows comes to, or what the metric's own sums do."""
        return float(sums[0]) / rows

    def update_state(self, y_true: Any, y_pred: Any) -> None:
        """Take in a batch: for loops written by hand.

        Parameters
        ----------
        y_true : array_like
            Integer labels (N,), or numbers (N, C); (N,) also for one output.
        y_pred : array_like, (N, C) or (N,)
            float32 or float64; the network's output.
        """
        predicted = checks.array(y_pred, "y_pred")
        dtype = "float64" if predicted.dtype == np.float64 else "float32"
        z = np.ascontiguousarray(predicted, dtype)
        z = z[:, None] if z.ndim == 1 else z
        if z.ndim != 2 or (self._tally is not None and z.shape[1] != self._tally.columns):
            columns = "C" if self._tally is None else self._tally.columns
            raise ValueError(f"{self.name}: y_pred must be (N, {columns}), got shape {z.shape}")
        kind = "classes" if np.ndim(y_true) == 1 and z.shape[1] > 1 else "values"
        y = checks.targets(y_true, "y_true", len(z), z.shape[1:], kind, dtype).array
        if self._tally is None:
            self.check(z.shape[1])
            self._tally = Tally([self], z.shape[1], y)
            self._state, self._rows = cpu.new_state(), 0
        self._state[s.FIRST] = self._rows
        accumulate(Eager(len(z), dtype, self._state), [self], z, y, Loss(), False, self._tally.sums)
        self._rows += len(z)

    def result(self) -> Any:
        """The figure of all that `update_state` has taken in."""
        if self._tally is None:
            raise RuntimeError(f"{self.name}: call update_state before result")
        return self._tally.figures(self._state, self._rows)[self.name]

    def reset_state(self) -> None:
        """Forget what `update_state` has taken in."""
        self._tally = None

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a metric again."""
        return {} if self.name == type(self).name else {"name": self.name}


class SummedMetric(Metric):
    """A metric that keeps float64 sums of its own."""

    def size(self, columns: int) -> int:
        """How many, for a network of `columns` outputs."""
        raise NotImplementedError

    def start(self, columns: int, targets: Array) -> Array:
        """What they are before the first row; `targets` are those of all rows to come."""
        return np.zeros(self.size(columns))

    def ops(self, tape: Tape, z: Any, targets: Any, loss: Any, logits: bool) -> Any:
        """A metric like this has no value for a row."""
        raise TypeError(f"{self.name}: not a mean of rows' values")

    def sum_ops(self, tape: Tape, operands: dict[str, Any]) -> None:
        """Put on `tape` the op that adds to the sums.

        `operands` are those that all such ops have: ``sums`` and ``at``, the place in them where
        this metric's begin; ``z``, the network's output; ``targets``, rows (N, C).
        """
        raise NotImplementedError


def places(metrics: Sequence[Metric], columns: int) -> Iterator[tuple[int, Metric, int]]:
    """Each metric's slot in the state, the metric, and where its sums begin among those of all."""
    at = 0
    for slot, metric in enumerate(metrics, s.METRIC_SUMS):
        yield slot, metric, at
        at += metric.size(columns) if isinstance(metric, SummedMetric) else 0


def accumulate(
    tape: Tape,
    metrics: Sequence[Metric],
    z: Any,
    targets: Any,
    loss: Loss,
    logits: bool,
    sums: Any,
) -> None:
    """Put on `tape` all that adds up `metrics`, in the state's slots and in `sums`."""
    probabilities, rows = (None, None) if logits else (z, None)
    for slot, metric, at in places(metrics, z.shape[-1]):
        if probabilities is None and not metric.takes_logits:
            probabilities = tape.new(tuple(z.shape[1:]))
            tape.op(f"{loss.fuses}_forward", y=probabilities, x=z)
        if isinstance(metric, SummedMetric):
            rows = one_hot(tape, targets, z.shape[-1]) if rows is None else rows
            metric.sum_ops(tape, {"sums": sums, "at": at, "z": probabilities, "targets": rows})
        else:
            seen = (z, logits) if metric.takes_logits else (probabilities, False)
            values = metric.ops(tape, seen[0], targets, loss, seen[1])
            tape.op("accumulate", values=values, slot=slot, guard=0)


class Tally:
    """What the loss and the metrics have added up to in one run.

    Parameters
    ----------
    metrics : sequence of Metric
    columns : int
        Outputs of the network.
    targets : ndarray
        Those of all rows of the run.

    Attributes
    ----------
    sums : ndarray of float64, or None
        The sums of all metrics that keep some, one after the other; None: none does.
    """

    def __init__(self, metrics: Sequence[Metric], columns: int, targets: Array) -> None:
        self.metrics, self.columns = metrics, columns
        parts = [m.start(columns, targets) for m in metrics if isinstance(m, SummedMetric)]
        self._start = np.concatenate(parts) if parts else None
        self.sums = None if self._start is None else self._start.copy()

    def clear(self, state: npt.NDArray[np.int64]) -> None:
        """Begin again."""
        state[s.LOSS_SUM : s.METRIC_SUMS + len(self.metrics)] = 0
        if self.sums is not None:
            self.sums[:] = self._start

    def taken(self, state: npt.NDArray[np.int64]) -> Array:
        """All that was added up here and in `state`, as one vector of float64."""
        own = cpu.floats(state)[s.LOSS_SUM : s.METRIC_SUMS + len(self.metrics)]
        return own.copy() if self.sums is None else np.concatenate([own, self.sums])

    def put(self, state: npt.NDArray[np.int64], taken: Array) -> None:
        """Go on adding up from what `taken` gave."""
        own = cpu.floats(state)[s.LOSS_SUM : s.METRIC_SUMS + len(self.metrics)]
        own[:] = taken[: own.size]
        if self.sums is not None:
            self.sums[:] = taken[own.size :]

    def figures(self, state: npt.NDArray[np.int64], rows: int) -> dict[str, Any]:
        """Loss and metrics over the `rows` rows that were added up here and in `state`."""
        floats = cpu.floats(state)
        figures = {"loss": float(floats[s.LOSS_SUM] + floats[s.PENALTY_SUM]) / rows}
        for slot, metric, at in places(self.metrics, self.columns):
            own = floats[slot : slot + 1]
            if isinstance(metric, SummedMetric) and self.sums is not None:
                own = self.sums[at : at + metric.size(self.columns)]
            figures[metric.name] = metric.figure(own, rows)
        return figures
