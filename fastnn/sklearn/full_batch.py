"""Fits by L-BFGS: the loss of all rows as a function of the weights, given to SciPy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import optimizers
from fastnn.engine import cpu
from fastnn.kernels import state as s
from fastnn.sklearn.batches import Batches, Data
from fastnn.sklearn.networks import loss_of, trained_net_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class FullBatch:
    """The objective of all rows and its gradient, for SciPy's L-BFGS."""

    def __init__(self, estimator: Any, data: Data) -> None:
        self.X, self.net = data.X, trained_net_of(estimator)
        model, loss = self.net.model, loss_of(estimator)[0]
        if not isinstance(model.optimizer, optimizers.LBFGS) or repr(model.loss) != repr(loss):
            model.compile(optimizers.LBFGS(), loss)
        rows = data.X.shape[0]
        self._batches = Batches(estimator, self.net, data, rows)
        # Rows' order is of no account here, and reading them as they stand needs none.
        self._batches.sources = self._batches.sources._replace(order=None)
        if data.sample_weight is not None:
            self._batches.weigh(np.asarray(data.sample_weight, np.float64))
        layers = [layer for layer in model.layers if "kernel" in layer.params]
        self._gradients = [layer.grads[name] for name in ("kernel", "bias") for layer in layers]

    @contextlib.contextmanager
    def opened(self) -> Iterator[FullBatch]:
        """Take memory and threads for any number of calls."""
        model, rows = self.net.model, self._batches.rows
        with (
            model.being_trained("fit"),
            model.training_pass(self._batches.sources, rows, 0) as self._training,
        ):
            yield self

    def __call__(self, packed: Array) -> tuple[float, Array]:
        """Loss and gradient at the weights `packed`: all coefficients, then all intercepts."""
        net, begin = self.net, 0
        for view in (*net.kernels, *net.biases):
            view[...] = packed[begin : begin + view.size].reshape(view.shape)
            begin += view.size
        net.model.state[s.STEP] = 0  # dropout's masks: one function is minimised
        net.model.cleared_tally()
        rows = self._batches.rows
        try:
            self._training.epoch(rows, rows)
        except cpu.DivergenceError:
            return np.inf, np.zeros_like(packed)
        gradient = np.concatenate([g.reshape(-1) for g in self._gradients])
        return self._batches.loss(), gradient.astype(packed.dtype, copy=False)
