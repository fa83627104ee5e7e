"""What both estimators are: scikit-learn's arguments, attributes and errors over fastnn's steps."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, validate_data

import fastnn
from fastnn import activations, optimizers
from fastnn.schedules import Schedule
from fastnn.sklearn.batches import Data, rows_of
from fastnn.sklearn.full_batch import FullBatch
from fastnn.sklearn.networks import (
    HIDDEN_ACTIVATIONS,
    NOT_FINITE,
    Net,
    dropout_rates,
    hidden_activations,
    invalid,
    net_of,
    trained_net_of,
)
from fastnn.sklearn.stochastic import Stochastic
from fastnn.training.planner import Sources

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

PICKLE_FORMAT = 1
"""Version of what is pickled."""

KINDS: dict[str, list[Any]] = {
    "activation": [
        StrOptions(HIDDEN_ACTIVATIONS),
        activations.Custom,
        list,
        tuple,
    ],
    "solver": [StrOptions(set(optimizers.OPTIMIZERS)), optimizers.Optimizer],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule],
    "verbose": ["verbose", StrOptions({"bar"})],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "batch_norm": ["boolean"],
    "dtype": [StrOptions({"float32", "float64"}), None],
    "device": [StrOptions({"cpu", "cuda", "auto"})],
    "callbacks": [list, tuple, None],
    "reset_optimizer": ["boolean"],
}
"""What the parameters that are not scikit-learn's, or take more than there, may be."""

REALS = (np.float64, np.float32)
"""Element types that X is kept in; others become float64."""


class Accelerated(BaseMultilayerPerceptron):
    """What both estimators have in common: scikit-learn's arguments and errors, fastnn's steps."""

    coefs_: list[Any]
    intercepts_: list[Any]
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float]
    verbose: Any

    def _take(self, given: dict[str, Any]) -> None:
        """Keep the parameters, as they are."""
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
            )
        return True

    # Fitting.

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        validation_data: Any = None,
    ) -> Any:
        before = dict(self.__dict__)
        try:
            train = self._prepared(X, y, sample_weight, incremental, validation_data)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        train()
        return self

    def _prepared(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, validation_data: Any
    ) -> Callable[[], None]:
        """Training on data that are checked, with all that it needs: what remains is to call it."""
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        self._check_full_batch()
        hidden_activations(self, len(sizes))
        dropout_rates(self, len(sizes))
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        labels = y
        X, y = self._validate_input(X, y, incremental, reset=first)
        weights = self._class_weighted(_weights(sample_weight, X), labels, incremental)
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        outputs = y.shape[1] if first else np.shape(self.coefs_[-1])[1]
        self._check_outputs(y, outputs)
        validation = self._check_validation(validation_data, outputs)
        self.n_outputs_ = outputs
        self._random_state = check_random_state(self.random_state)
        if first:
            self._begin(y, [X.shape[1], *sizes, self.n_outputs_], X.dtype)
        self.__dict__.setdefault("validation_loss_curve_", [])
        data = Data(X, y, weights)
        if self.solver == "lbfgs":
            return functools.partial(self._minimise, FullBatch(self, data), data)
        return Stochastic(self, data, incremental, validation).run

    def _check_full_batch(self) -> None:
        """Refuse what a minimiser of one function of the weights cannot do."""
        if isinstance(self.solver, optimizers.LBFGS):
            raise invalid(self, "solver", "'lbfgs' for fits of all data at once")
        if self.solver == "lbfgs" and self.batch_norm:
            raise invalid(self, "batch_norm", "False with the solver 'lbfgs'")
        if self.solver == "lbfgs" and self.callbacks:
            raise invalid(self, "callbacks", "None with the solver 'lbfgs', which has no epochs")

    def _check_outputs(self, y: Array, expected: int, prefix: str = "") -> None:
        if y.shape[1] != expected:
            raise ValueError(
                f"{prefix}y has {y.shape[1]} outputs, but {type(self).__name__} is expecting "
                f"{expected} outputs."
            )

    def _begin(self, y: Array, units: list[int], dtype: Any) -> None:
        """Draw the initial weights, in scikit-learn's order, and forget what was."""
        for name in ("_net", "_norms", "_best_norms"):
            self.__dict__.pop(name, None)
        if not (self.warm_start and not self.reset_optimizer):
            self.__dict__.pop("_optimizer", None)
        self._initialize(y, units, self.dtype or dtype)
        if self.solver != "lbfgs":
            self.loss_curve_, self._no_improvement_count = [], 0
            self.validation_scores_ = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_loss_curve_ = []
        if any(dropout_rates(self, len(units) - 2)):
            self._seed = int(self._random_state.randint(np.iinfo(np.int32).max))

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Array, Array]:
        """A layer's first weights: for names that scikit-learn has, those that it draws."""
        given = self.activation
        names = set(map(str, given if isinstance(given, (list, tuple)) else [given]))
        factor = 2.0 if names and names <= {"logistic", "sigmoid"} else 6.0
        bound = np.sqrt(factor / (fan_in + fan_out))
        draw = self._random_state.uniform
        coef, intercept = draw(-bound, bound, (fan_in, fan_out)), draw(-bound, bound, fan_out)
        return coef.astype(dtype, copy=False), intercept.astype(dtype, copy=False)

    def _class_weighted(self, weights: Any, y: Any, incremental: bool) -> Any:
        """Rows' weights times those of their classes."""
        given = getattr(self, "class_weight", None)
        if given is None:
            return weights
        if incremental and isinstance(given, str):
            raise ValueError(
                f"class_weight {given!r} is not supported for partial_fit: a part of the data does "
                "not tell how frequent classes are. Give the weights as a dict."
            )
        of_class = compute_sample_weight(given, y)
        return of_class if weights is None else weights * of_class

    def _check_validation(self, given: Any, outputs: int) -> Data | None:
        if given is None:
            return None
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError(
                "validation_data must be (X, y) or (X, y, sample_weight), "
                f"got {type(given).__name__}"
            )
        if self.solver == "lbfgs":
            raise ValueError("validation_data is not used by the solver 'lbfgs'")
        X, y, *weight = given
        X, y = self._checked_targets(X, y)
        self._check_outputs(y, outputs, "validation_data: ")
        return Data(X, y, _weights(weight[0] if weight else None, X))

    def _minimise(self, full: FullBatch, data: Data) -> None:
        """Fit by scikit-learn's call of SciPy, to which `_loss_grad_lbfgs` then answers."""
        units = [len(self.coefs_[0]), *(len(bias) for bias in self.intercepts_)]
        verbose = self.verbose
        with full.opened() as self._full_batch:
            try:
                self.verbose = bool(verbose)  # a string is no number, with which it is compared
                self._fit_lbfgs(*data, *[None] * 4, layer_units=units)
            finally:
                self.verbose = verbose
                del self._full_batch
        net = trained_net_of(self)
        if not np.isfinite(net.model.parameters).all():
            raise ValueError(NOT_FINITE)

    def _loss_grad_lbfgs(
        self, packed: Array, X: Any, y: Any, sample_weight: Any, *_: Any
    ) -> tuple[float, Array]:
        full: FullBatch | None = self.__dict__.get("_full_batch")
        if full is not None and full.X is X:
            return full(packed)
        with FullBatch(self, Data(X, np.asarray(y), sample_weight)).opened() as full:
            return full(packed)

    # Predicting.

    def _quick(self, X: Any) -> Array | None:
        """The network's output, where there is nothing that scikit-learn would say about X."""
        own = self.__dict__
        net: Net | None = own.get("_net")
        if (
            net is None
            or type(X) is not np.ndarray
            or X.dtype.char not in "fd"
            or X.ndim != 2
            or X.shape[0] == 0
            or X.shape[1] != own["n_features_in_"]
            or "feature_names_in_" in own
        ):
            return None
        X = np.ascontiguousarray(X)
        if not math.isfinite(np.vdot(X, X)):  # as is X; a sum would warn where it overflows
            return None
        return _widened(net_of(self).model.predict_checked(Sources(X)), X.dtype)

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Array:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        given, net = X.dtype, net_of(self)
        if given.char not in "fd":
            X = X.astype(np.float64)
        return _widened(net.model.predict_checked(Sources(**rows_of(X))), given)

    # Keeping.

    def to_sklearn(self) -> Any:
        """The same fitted estimator as scikit-learn's: it predicts the same.

        Batch normalisation goes into the weights of the layers before it; of dropout, which only
        training knows, nothing is left. Where scikit-learn has not the solver, the schedule or the
        loss, its default stands in the place; where it has them, `partial_fit` goes on from there.

        Returns
        -------
        MLPClassifier or MLPRegressor
            Of scikit-learn.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        ValueError
            If it has activations that scikit-learn has not.
        """
        from fastnn.sklearn.conversion import to_sklearn

        return to_sklearn(self)

    def __copy__(self) -> Any:
        """A copy with weights and optimizer of its own, and the same parameters."""
        made = type(self).__new__(type(self))
        parameters = self.get_params(deep=False)
        for name, value in vars(self).items():
            if name != "_net":
                made.__dict__[name] = value if name in parameters else copy.deepcopy(value)
        return made

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in super().__getstate__().items() if k != "_net"}
        return {**state, "_fastnn": (fastnn.__version__, PICKLE_FORMAT)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "_fastnn" not in state:  # scikit-learn's own pickle, which `patch` has led here
            from fastnn.sklearn.conversion import become_unpickled

            become_unpickled(self, state)
            return
        version, written = state.pop("_fastnn")
        if written != PICKLE_FORMAT:
            raise ValueError(
                f"{type(self).__name__}: this pickle is of fastnn {version}, in format {written}; "
                f"fastnn {fastnn.__version__} reads format {PICKLE_FORMAT}"
            )
        super().__setstate__(state)


def _widened(y: Array, dtype: npt.DTypeLike) -> Array:
    """The output for rows of a type, in the type that NumPy would compute it in."""
    return y if y.dtype == dtype else y.astype(np.result_type(y.dtype, dtype), copy=False)


def _weights(sample_weight: Any, X: Any) -> Any:
    """Rows' weights, as scikit-learn checks them."""
    return None if sample_weight is None else _check_sample_weight(sample_weight, X)
