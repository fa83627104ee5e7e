"""Fits by L-BFGS: the loss of all rows, as a function of what is trained, given to SciPy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.callbacks import Checkpoint, Lowering
from fastnn.kernels import state as s
from fastnn.layers.base import leaves
from fastnn.optimizers import LBFGS
from fastnn.training import planner, resuming
from fastnn.training.fit import Fitting

if TYPE_CHECKING:
    import numpy.typing as npt

    Vector = npt.NDArray[np.float64]


class FullBatchFitting(Fitting):
    """One call of `fit` whose epochs are iterations of L-BFGS."""

    def __init__(self, *arguments: Any) -> None:
        try:
            self._scipy = importlib.import_module("scipy.optimize")
        except ImportError as error:
            raise ImportError('LBFGS minimises with SciPy: pip install "fastnn[lbfgs]"') from error
        super().__init__(*arguments)

    def _check_monitors(self) -> None:
        """Refuse as well what belongs to steps of another kind."""
        super()._check_monitors()
        for callback in self.callbacks:
            if isinstance(callback, Lowering):
                raise ValueError(
                    f"{type(callback).__name__}: LBFGS has no learning rate that could be lowered"
                )
            if isinstance(callback, Checkpoint) and callback.counts_within_epochs:
                raise ValueError("Checkpoint: LBFGS has no steps within an epoch: use every_epochs")
        for layer in leaves(self.model.layers):
            if layer.trained and layer.rate_multiplier != 1:
                raise ValueError(f"LBFGS: {layer.label}: there is no learning rate to multiply")
            if layer.trained and layer._constraints:
                raise ValueError(f"LBFGS: {layer.label}: it minimises without constraints")

    def _found(self, resume_from: Any) -> resuming.Standing | None:
        """Refuse to go on: what SciPy has learnt of the loss is in no file."""
        if resume_from is not None:
            raise ValueError(
                "fit: resume_from: a fit by LBFGS cannot go on from a file; load it, and fit anew"
            )
        return super()._found(None)

    def _train(self) -> None:
        """Minimise; the parameters end as those of the last iteration, whatever happens."""
        model = self.model
        flat = model.flat()
        self._trained = planner.trained_elements(model.layers, flat)
        self._first, self._passes, self._done = int(model.state[s.STEP]), 0, 0
        self._begun = False
        self._best = flat.parameters[self._trained].astype(np.float64)
        with model.training_pass(self.data, len(self.data.x), self.verbose) as self._training:
            try:
                if self.epochs > 0:
                    self._minimise()
            finally:
                flat.parameters[self._trained] = self._best
                model.state[s.STEP] = self._first + self._done

    def _minimise(self) -> None:
        optimizer = self.model.optimizer
        assert isinstance(optimizer, LBFGS)
        options = {
            "maxcor": optimizer.history,
            "gtol": optimizer.tol,
            "maxfun": optimizer.max_fun,
            "maxiter": self.epochs,
        }
        result = self._scipy.minimize(
            self._loss_and_gradient,
            self._best,
            jac=True,
            method="L-BFGS-B",
            callback=self._after_iteration,
            options=options,
        )
        optimizer.message = str(result.message)
        if self._done == 0:  # nothing could be gained: the history says what there is
            self._finish_epoch(self._best)

    def _loss_and_gradient(self, x: Vector) -> tuple[float, Vector]:
        """The mean loss of all rows at the trained parameters x (T,), and its gradient."""
        model, rows = self.model, len(self.data.x)
        if self._passes > 0 and not self._begun:  # the first pass is before all iterations
            self._begin()
        flat = model.flat()
        with np.errstate(over="ignore"):  # the pass will meet the infinity
            flat.parameters[self._trained] = x
        model.state[s.STEP] = self._first  # on which dropout's masks depend
        self._tally = model.cleared_tally()
        self._training.epoch(rows, rows)
        self._passes += 1
        loss: float = self._tally.figures(model.state, rows)["loss"]
        return loss, flat.gradients[self._trained].astype(np.float64)

    def _begin(self) -> None:
        self._begin_epoch(self._done)
        self._begun = True

    def _finish_epoch(self, x: Vector) -> None:
        """An epoch has led to x (T,), where the search has looked last."""
        if not self._begun:
            self._begin()
        self._best = x.copy()
        self._done += 1
        self._begun = False
        self._end_epoch(self._done - 1, self._tally, 1.0)

    def _after_iteration(self, x: Vector) -> None:
        """SciPy's callback: an iteration has led to x (T,)."""
        self._finish_epoch(x)
        if self.model.stop_training:
            raise StopIteration
