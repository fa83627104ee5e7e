"""Fits by minibatches: epochs, early stopping and learning rates as scikit-learn has them."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastnn import callbacks as callbacks_module
from fastnn.callbacks import Callback
from fastnn.engine import cpu
from fastnn.kernels import state as s
from fastnn.schedules import Schedule
from fastnn.sklearn.batches import Batches, Data, validation_sources
from fastnn.sklearn.networks import NOT_FINITE, invalid, loss_of, trained_net_of
from fastnn.sklearn.optimizer import EpsilonHatAdam, OptimizerState, optimizer_of
from fastnn.training.fit import end_all
from fastnn.training.planner import Sources
from fastnn.training.progress import Progress


class Stochastic:
    """One call of `fit` or `partial_fit` that trains on minibatches."""

    def __init__(
        self, estimator: Any, data: Data, incremental: bool, validation: Data | None
    ) -> None:
        self.estimator, self.incremental = estimator, incremental
        self.early_stopping = bool(estimator.early_stopping)
        if self.early_stopping and incremental and validation is None:
            raise ValueError("partial_fit does not support early_stopping=True")
        self.held = validation if self.early_stopping else None
        if self.early_stopping and validation is None:
            data, self.held = self._split(data)
        if self.held is not None and is_classifier(estimator):
            labels = estimator._label_binarizer.inverse_transform(self.held.y)
            self.held = self.held._replace(y=labels)
        self.net = trained_net_of(estimator)
        self._begin_figures()
        self.state = self._optimizer_state()
        self.batches = Batches(estimator, self.net, data, self._batch_size(data.X.shape[0]))
        self.validation: Sources | None = None
        if validation is not None:
            self.validation = validation_sources(estimator, self.net, validation)
        self.callbacks = self._checked_callbacks()
        self.loss, self.logs = np.inf, dict[str, Any]()

    def _begin_figures(self) -> None:
        """Begin the figures of `early_stopping`, or those without it, where there are none yet."""
        estimator = self.estimator
        if not self.early_stopping:
            estimator.best_loss_ = np.inf if estimator.best_loss_ is None else estimator.best_loss_
            return
        if estimator.validation_scores_ is None:
            estimator.validation_scores_, estimator.best_validation_score_ = [], -np.inf
        if not hasattr(estimator, "_best_norms"):
            estimator._best_norms = copy.deepcopy(estimator._norms)

    def _optimizer_state(self) -> OptimizerState:
        """The optimizer's state that this fit goes on from, or begins."""
        estimator, model = self.estimator, self.net.model
        goes_on = self.incremental or (estimator.warm_start and not estimator.reset_optimizer)
        kept: OptimizerState | None = getattr(estimator, "_optimizer", None)
        if kept is None or not goes_on or not isinstance(kept, OptimizerState):
            kept = OptimizerState(optimizer_of(estimator))
        if any(vector.size != model.parameters.size for vector in kept.slots.values()):
            kept = OptimizerState(kept.optimizer)
        loss = loss_of(estimator)[0]
        if model.optimizer is not kept.optimizer or repr(model.loss) != repr(loss):
            model.compile(kept.optimizer, loss)
        kept.give(self.net)
        estimator._optimizer = kept
        return kept

    def _split(self, data: Data) -> tuple[Data, Data]:
        """Training and validation rows, split as scikit-learn does."""
        estimator = self.estimator
        stratified = is_classifier(estimator) and estimator.n_outputs_ == 1
        parts = train_test_split(
            *(part for part in data if part is not None),
            random_state=estimator._random_state,
            test_size=estimator.validation_fraction,
            stratify=data.y if stratified else None,
        )
        training, held = Data(*parts[::2]), Data(*parts[1::2])
        if held.X.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        return training, held

    def _batch_size(self, rows: int) -> int:
        given = self.estimator.batch_size
        if given == "auto":
            return min(200, rows)
        if given > rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than "
                "sample size. It is going to be clipped",
                stacklevel=2,
            )
        return int(np.clip(given, 1, rows))

    def _checked_callbacks(self) -> list[Callback]:
        try:
            listed = callbacks_module.check(self.estimator.callbacks)
        except TypeError:
            raise invalid(self.estimator, "callbacks", "a list of callbacks") from None
        names = ["loss", "learning_rate"]
        names += [] if self.validation is None else ["val_loss"]
        names += [] if self.held is None else ["val_score"]
        callbacks_module.check_monitors(listed, names, self.net.model)
        return listed

    def run(self) -> None:
        """All epochs; what they come to is written into the estimator's attributes."""
        estimator, net, begun = self.estimator, self.net, []
        bar = estimator.verbose == "bar"
        self.progress = Progress(int(bar), estimator.max_iter, self.batches.rows)
        net.model.stop_training = False
        with net.model.being_trained("fit"):
            try:
                for callback in self.callbacks:
                    callback.model = net.model
                    callback.on_train_begin({})
                    begun.append(callback)
                self._train()
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=2)
            finally:
                self.progress.close()
                self.state.take(net)
                try:
                    end_all(begun, self.logs)
                finally:
                    for callback in self.callbacks:  # a parameter of an estimator is to be copied
                        vars(callback).pop("model", None)
            self._finish()

    def _train(self) -> None:
        estimator, model = self.estimator, self.net.model
        sources, optimizer = self.batches.sources, self.state.optimizer
        if isinstance(optimizer.learning_rate, Schedule):
            sources = sources._replace(rates=np.empty(len(sources.scales)))
        else:
            optimizer.learning_rate = self.state.rate
        estimator.n_iter_ = 0
        with model.training_pass(sources, self.batches.batch, 0) as training:
            for epoch in range(1 if self.incremental else estimator.max_iter):
                for callback in self.callbacks:
                    callback.on_epoch_begin(epoch, {})
                self.progress.begin(epoch)
                diverged = not self._epoch(training, sources)
                if self._after_epoch(epoch) or diverged or model.stop_training:
                    return
        if not self.incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) "
                "reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _epoch(self, training: Any, sources: Sources) -> bool:
        """Train for an epoch; False if it diverged: weights then are the last finite ones."""
        model, batches = self.net.model, self.batches
        floats, step = cpu.floats(model.state), int(model.state[s.STEP])
        rates = self.state.optimizer.rates(step, step + len(sources.scales))
        if sources.rates is not None:
            sources.rates[:] = rates
        self.state.rate = float(rates[-1])
        floats[s.LEARNING_RATE] = rates[0]
        batches.begin_epoch()
        tally = model.cleared_tally()

        def on_pause() -> bool:
            done = int(model.state[s.FIRST])
            self.progress.advance(done, tally.figures(model.state, max(done, 1)))
            return False  # nothing asks the epoch to end

        try:
            training.epoch(batches.rows, batches.batch, on_pause)
        except cpu.DivergenceError:
            self.loss = np.nan
            return False
        self.loss = batches.loss()
        return True

    def _after_epoch(self, epoch: int) -> bool:
        """Note down what the epoch has come to; whether training is at its end."""
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.t_ += self.batches.rows
        estimator.loss_ = self.loss
        estimator.loss_curve_.append(self.loss)
        said = estimator.verbose and estimator.verbose != "bar"
        if said:
            print(f"Iteration {estimator.n_iter_}, loss = {self.loss:.8f}")
        self.logs = logs = {"loss": self.loss, "learning_rate": self.state.rate}
        if self.validation is not None:
            mean = self.net.model.evaluate_checked(self.validation)["loss"]
            logs["val_loss"] = self.batches.figure * float(mean)
            estimator.validation_loss_curve_.append(logs["val_loss"])
        if self.held is not None:
            logs["val_score"] = self._score()
            if said:
                print(f"Validation score: {logs['val_score']:f}")
        else:
            self._compare_loss()
        self.progress.end(epoch, logs)
        self._scale_rate()
        stops = estimator._no_improvement_count > estimator.n_iter_no_change and self._give_up(said)
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)
        return stops

    def _score(self) -> float:
        """The validation score; the best weights so far are kept."""
        estimator, held = self.estimator, self.held
        assert held is not None
        score = np.nan
        if not np.isnan(self.loss):
            score = estimator._score(held.X, held.y, sample_weight=held.sample_weight)
        estimator.validation_scores_.append(score)
        worse = score < estimator.best_validation_score_ + estimator.tol
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._best_coefs = [w.copy() for w in self.net.kernels]
            estimator._best_intercepts = [b.copy() for b in self.net.biases]
            estimator._best_norms = copy.deepcopy(estimator._norms)
        return float(score)

    def _compare_loss(self) -> None:
        estimator = self.estimator
        worse = self.loss > estimator.best_loss_ - estimator.tol
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0
        if self.loss < estimator.best_loss_:
            estimator.best_loss_ = self.loss

    @property
    def _rule(self) -> str:
        """How the learning rate changes by itself: scikit-learn lets Adam's be."""
        state = self.state
        fixed = isinstance(state.optimizer, EpsilonHatAdam)
        fixed = fixed or isinstance(state.initial_rate, Schedule)
        return "constant" if fixed else self.estimator.learning_rate

    def _scale_rate(self) -> None:
        estimator, initial = self.estimator, self.state.initial_rate
        if self._rule == "invscaling":
            assert not isinstance(initial, Schedule)
            self._set_rate(float(initial) / (estimator.t_ + 1) ** estimator.power_t)

    def _set_rate(self, rate: float) -> None:
        self.state.optimizer.learning_rate = self.state.rate = rate

    def _give_up(self, said: bool) -> bool:
        """After too many epochs without a gain: whether to stop, or go on at a lower rate."""
        estimator = self.estimator
        what = "Validation score" if self.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} for "
            f"{estimator.n_iter_no_change} consecutive epochs."
        )
        stops, ending = True, " Stopping."
        if self._rule == "adaptive" and self.state.rate > 1e-6:
            self._set_rate(self.state.rate / 5.0)
            estimator._no_improvement_count = 0
            stops, ending = False, f" Setting learning rate to {self.state.rate:f}"
        elif self._rule == "adaptive":
            ending = " Learning rate too small. Stopping."
        if said:
            print(message + ending)
        return stops

    def _finish(self) -> None:
        """Put the best weights in place, or refuse those of a fit that diverged."""
        estimator, net = self.estimator, self.net
        ended = not self.incremental or (
            estimator._no_improvement_count > estimator.n_iter_no_change
        )
        if self.early_stopping and ended:
            best = (*estimator._best_coefs, *estimator._best_intercepts)
            for view, kept in zip((*net.kernels, *net.biases), best, strict=True):
                view[...] = kept
            for norm, values in zip(estimator._norms, estimator._best_norms, strict=True):
                for name, array in values.items():
                    norm[name][...] = array
        elif np.isnan(self.loss):
            raise ValueError(NOT_FINITE)
        else:
            net.model.take_average()
