"""Rows, targets and weights of an estimator's data as steps read them, and what varies by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from fastnn import checks
from fastnn.engine import cpu
from fastnn.kernels import state as s
from fastnn.sklearn.networks import Net, loss_of
from fastnn.training.planner import Sources

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Data(NamedTuple):
    """Checked rows, targets and weights; targets as the label binarizer makes them, or numbers."""

    X: Any
    y: Any
    sample_weight: Any = None


def rows_of(X: Any) -> dict[str, Array]:
    """Rows as steps read them: dense ones in C order, sparse ones as three arrays."""
    if sparse.issparse(X):
        X = X.tocsr()
        return {
            "x": np.asarray(X.data),
            "columns": X.indices.astype(np.int32, copy=False),
            "starts": X.indptr.astype(np.int64, copy=False),
        }
    return {"x": np.ascontiguousarray(X)}


def targets_of(estimator: Any, y: Array, kind: str, dtype: str) -> Array:
    """Targets as the loss takes them: labels, or numbers (N, C)."""
    if kind == "classes" and estimator.out_activation_ == "softmax":
        return y.argmax(axis=1).astype(np.int32)
    return checks.targets(y, "y", len(y), y.shape[1:], kind, dtype).array


class Batches:
    """Rows, targets and weights of a network's training, and what varies by step.

    scikit-learn's objective of a batch is ``(Σ wᵢ lossᵢ + α/2 Σ ‖W‖²) / Σ wᵢ``. So rows' weights
    are divided by their batch's mean, and penalties, which steps add to a mean, by their batch's
    sum: both anew for every order of the rows.
    """

    def __init__(self, estimator: Any, net: Net, data: Data, batch: int) -> None:
        self._estimator, self._state = estimator, net.model.state
        self.rows, self.batch = data.X.shape[0], batch
        loss, self._factor, self.figure = loss_of(estimator)
        dtype = net.model.dtype
        given = data.sample_weight
        self._given = None if given is None else np.asarray(given, np.float64)
        self._firsts = np.arange(0, self.rows, batch)
        self._counts = np.diff(self._firsts, append=self.rows)
        weighted = self._given is not None or self._factor != 1
        self.sources = Sources(
            **rows_of(data.X),
            targets=targets_of(estimator, data.y, loss.targets, dtype),
            weights=np.full(self.rows, self._factor, dtype) if weighted else None,
            order=np.arange(self.rows) if estimator.shuffle else None,
            scales=1.0 / self._counts,
        )
        if self.sources.x.dtype.itemsize > np.dtype(dtype).itemsize:
            checks.finite(self.sources.x, "X", dtype)
        if not estimator.shuffle and self._given is not None:
            self.weigh(self._given)

    def begin_epoch(self) -> None:
        """Put the rows in a new order, drawn as scikit-learn draws it."""
        order = self.sources.order
        if order is None:
            return
        places = np.arange(self.rows)
        self._estimator._random_state.shuffle(places)
        order[:] = order[places]
        if self._given is not None:
            self.weigh(self._given[order], order)

    def weigh(self, ordered: Array, order: Any = slice(None)) -> None:
        """Make weights and scales of the rows' own weights, in the order of the epoch."""
        sums = np.add.reduceat(ordered, self._firsts)
        if (sums == 0).any():
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        self.sources.weights[order] = ordered * np.repeat(
            self._factor * self._counts / sums, self._counts
        )
        self.sources.scales[:] = 1.0 / sums

    def loss(self) -> float:
        """The epoch's loss, out of what its steps have added up."""
        floats = cpu.floats(self._state)
        return float(self.figure * floats[s.LOSS_SUM] + floats[s.PENALTY_SUM]) / self.rows


def validation_sources(estimator: Any, net: Net, data: Data) -> Sources:
    """Rows kept apart as an evaluation reads them, which leaves out the penalty of weights."""
    loss, factor, _ = loss_of(estimator)
    rows, dtype = data.X.shape[0], net.model.dtype
    weights = np.full(rows, factor)
    if data.sample_weight is not None:
        weights *= data.sample_weight / np.mean(data.sample_weight)
    return Sources(
        **rows_of(data.X),
        targets=targets_of(estimator, data.y, loss.targets, dtype),
        weights=weights.astype(dtype),
        scales=np.zeros(rows),  # of more steps than there will be
    )
