"""scikit-learn as a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.grid import make_weights
from benchmarks.peers.base import EPSILON, LEARNING_RATES, Peer, limit_blas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row


class Sklearn(Peer):
    """scikit-learn's estimators, warm-started, without penalty or early end.

    Each `fit` starts Adam's state anew; two classes share one sigmoid output.
    """

    name = "sklearn"
    module = "sklearn"
    packages = ("scikit-learn",)

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        if row.optimizer != "adam" or row.dropout:
            raise ValueError(f"{self.name}: {row.name} is timed with Adam and no dropout only")
        estimator = MLPRegressor if row.loss == "mse" else MLPClassifier
        self.estimator = estimator(
            hidden_layer_sizes=row.sizes[1:-1],
            alpha=0.0,
            batch_size=row.batch,
            learning_rate_init=LEARNING_RATES["adam"],
            epsilon=EPSILON,
            max_iter=1,
            n_iter_no_change=1_000_000,
            warm_start=True,
            random_state=0,
        )
        self.x, self.y, self.row, self.threads = x, y.ravel(), row, threads
        self.set_threads()
        self.run(row.steps)  # lays out the weights, so that they can be replaced
        self.restart()

    def set_threads(self) -> None:
        limit_blas(self.threads)

    def restart(self) -> None:
        import numpy as np

        weights = make_weights(self.row, self.x.dtype.name)
        if self.estimator.n_outputs_ < self.row.sizes[-1]:
            weights[-2:] = [np.diff(weights[-2]), np.diff(weights[-1])]
        self.estimator.coefs_[:] = weights[::2]
        self.estimator.intercepts_[:] = weights[1::2]

    def run(self, steps: int) -> None:
        import warnings

        from sklearn.exceptions import ConvergenceWarning

        self.estimator.max_iter = steps // self.row.steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is reached on purpose
            self.estimator.fit(self.x, self.y)

    def loss(self) -> float:
        import numpy as np

        if self.row.loss == "mse":
            return float(np.mean((self.estimator.predict(self.x) - self.y) ** 2))
        chosen = self.estimator.predict_proba(self.x)[np.arange(len(self.y)), self.y]
        return float(-np.mean(np.log(np.maximum(chosen, np.finfo(chosen.dtype).tiny))))
