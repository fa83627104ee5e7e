"""`MLPClassifier` and `MLPRegressor`: scikit-learn's own, whose computing is fastnn's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import check_consistent_length, validate_data

from fastnn import losses
from fastnn.sklearn.base import KINDS, REALS, Accelerated

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class MLPClassifier(Accelerated, TheirClassifier):
    """scikit-learn's `MLPClassifier`, trained by fastnn; an instance of it, too.

    All parameters, attributes, warnings and errors are scikit-learn's, and so is the order in which
    `random_state` is drawn from: the same data and seed give the same initial weights, the same
    batches and, in float64, the same network to many digits. What is more is below.

    Parameters
    ----------
    hidden_layer_sizes : int or array_like of int
    activation : str, activation, or list of them
        Any name of `fastnn.activations`, scikit-learn's ``"identity"`` and ``"logistic"``, one of
        your own (`fastnn.activation`), or a list with one for each hidden layer.
    solver : str or Optimizer
        ``"adam"``, ``"sgd"``, ``"lbfgs"``, another name of fastnn's optimizers, which then has the
        rate `learning_rate_init` and otherwise its defaults, or an `Optimizer`, with its own rate.
    alpha, batch_size : float; int or "auto"
    learning_rate : {"constant", "invscaling", "adaptive"} or Schedule
        The latter two work with every solver but ``"adam"``, as in scikit-learn; a schedule of
        `fastnn.schedules` with all.
    learning_rate_init, power_t, max_iter, shuffle, random_state, tol : see scikit-learn
    verbose : bool, int or "bar"
        ``"bar"`` shows a progress bar.
    warm_start, momentum, nesterovs_momentum, early_stopping : see scikit-learn
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun : see scikit-learn
    loss : str or Loss
        ``"log_loss"``, or a loss of fastnn's on probabilities.
    dropout : float in [0, 1), or list of them
        Rate of dropout after the hidden layers, or after each.
    batch_norm : bool
        Whether hidden layers are batch-normalised before their activation; not with ``"lbfgs"``.
    class_weight : dict, "balanced" or None
        Weights of classes by label, multiplied with `sample_weight`.
    dtype : {"float32", "float64"}, optional
        Element type of the network; None is that of X.
    device : {"cpu", "cuda", "auto"}
    callbacks : list of Callback, optional
        Called with the figures ``loss``, ``learning_rate`` and, where there are any, ``val_loss``
        and ``val_score``; not with ``"lbfgs"``.
    reset_optimizer : bool
        Whether a fit with `warm_start` begins with a new optimizer, as in scikit-learn, or goes on
        with the means that it has gathered.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Live: what is assigned to them, or written into them, is the network; training puts arrays
        of its own in the place of assigned ones.
    validation_loss_curve_ : list of float
        The mean loss of `validation_data` after each epoch, without the penalty of weights.
    classes_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_ : see \
scikit-learn
    n_features_in_, feature_names_in_, n_iter_, n_layers_, n_outputs_, out_activation_, t_ : see \
scikit-learn

    Notes
    -----
    A few things are otherwise than in scikit-learn. A fit that is refused changes nothing. A fit
    that diverges stops there, with the last finite weights. ``"lbfgs"`` works in the type of the
    data, float32 among them. With `warm_start` and `early_stopping`, the best weights of earlier
    fits are kept until there are better ones; scikit-learn trains on the very arrays.

    Examples
    --------
    >>> from fastnn.sklearn import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(dropout=0.1, learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TheirClassifier._parameter_constraints,
        **KINDS,
        "loss": [StrOptions({"log_loss", *losses.LOSSES}), losses.Loss],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        loss: Any = "log_loss",
        dropout: Any = 0.0,
        batch_norm: bool = False,
        class_weight: Any = None,
        dtype: str | None = None,
        device: str = "cpu",
        callbacks: Any = None,
        reset_optimizer: bool = True,
    ) -> None:
        self._take(locals())

    def _loss_targets(self) -> tuple[str, ...]:
        kinds = ("probabilities", "values")
        return ("classes", *kinds) if self.out_activation_ == "softmax" else kinds

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> MLPClassifier:
        """Train on data.

        Parameters
        ----------
        X : array_like or sparse matrix, (N, F)
        y : array_like, (N,) or (N, K)
            Labels of any type, or an indicator matrix of several labels a row.
        sample_weight : array_like, (N,), optional
        validation_data : (X, y) or (X, y, sample_weight), optional
            Rows kept apart: their loss is kept in `validation_loss_curve_`, and `early_stopping`
            looks at their score, in place of that of a part of X.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        return self._fit(X, y, sample_weight, False, validation_data)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        validation_data: Any = None,
    ) -> MLPClassifier:
        """Train for one epoch on data, from the weights that there are.

        Parameters
        ----------
        X, y, sample_weight, validation_data : see `fit`
            With `early_stopping`, `validation_data` must be given. After `n_iter_no_change` calls
            in a row without a better score, the weights of the best one are put in place.
        classes : array_like, (K,), optional
            All labels that calls will bring; needed in the first.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        if _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if several else classes)
        return self._fit(X, y, sample_weight, True, validation_data)

    def _checked_targets(self, X: Any, y: Any) -> tuple[Any, Any]:
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=REALS, reset=False)
        check_consistent_length(X, y)
        unseen = np.setdiff1d(unique_labels(y), self.classes_)
        if len(unseen):
            raise ValueError(
                f"validation_data: y has classes not in `self.classes_`: {unseen.tolist()}"
            )
        return X, self._label_binarizer.transform(y).astype(bool)

    @property
    def _is_multilabel(self) -> bool:
        return self._label_binarizer.y_type_.startswith("multilabel")

    def predict(self, X: Any) -> Array:
        """The labels of rows.

        Parameters
        ----------
        X : array_like or sparse matrix, (N, F)

        Returns
        -------
        ndarray, (N,) or (N, K)
        """
        y = self._quick(X)
        if y is None or self._is_multilabel or len(self.classes_) < 2:
            return super().predict(X)
        labels = y[:, 0] > 0.5 if y.shape[1] == 1 else y.argmax(axis=1)
        return self.classes_[labels.view(np.int8) if y.shape[1] == 1 else labels]

    def predict_proba(self, X: Any) -> Array:
        """The probabilities of rows' labels.

        Parameters
        ----------
        X : array_like or sparse matrix, (N, F)

        Returns
        -------
        ndarray, (N, K)
        """
        y = self._quick(X)
        if y is None:
            return super().predict_proba(X)
        return np.hstack([1 - y, y]) if y.shape[1] == 1 else y


class MLPRegressor(Accelerated, TheirRegressor):
    """scikit-learn's `MLPRegressor`, trained by fastnn; an instance of it, too.

    What is not listed here is as in `MLPClassifier`; there is no `class_weight`.

    Parameters
    ----------
    loss : str or Loss
        ``"squared_error"``, ``"poisson"``, both as in scikit-learn, or a loss of fastnn's on
        numbers.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Live: what is assigned to them, or written into them, is the network; training puts arrays
        of its own in the place of assigned ones.
    others
        Those of `MLPClassifier`, but for `classes_`.

    Examples
    --------
    >>> from fastnn.sklearn import MLPRegressor
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> model = MLPRegressor(activation="tanh", solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(model.score(X, X[:, 0] ** 2) > 0.99)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TheirRegressor._parameter_constraints,
        **KINDS,
        "loss": [StrOptions({"squared_error", "poisson", *losses.LOSSES}), losses.Loss],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        batch_norm: bool = False,
        dtype: str | None = None,
        device: str = "cpu",
        callbacks: Any = None,
        reset_optimizer: bool = True,
    ) -> None:
        self._take(locals())

    def _loss_targets(self) -> tuple[str, ...]:
        return ("values", "counts")

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> MLPRegressor:
        """Train on data.

        Parameters
        ----------
        X : array_like or sparse matrix, (N, F)
        y : array_like, (N,) or (N, K)
        sample_weight : array_like, (N,), optional
        validation_data : (X, y) or (X, y, sample_weight), optional
            Rows kept apart: their loss is kept in `validation_loss_curve_`, and `early_stopping`
            looks at their score, in place of that of a part of X.

        Returns
        -------
        MLPRegressor
            Itself.
        """
        return self._fit(X, y, sample_weight, False, validation_data)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> MLPRegressor:
        """Train for one epoch on data, from the weights that there are.

        Parameters
        ----------
        X, y, sample_weight, validation_data : see `fit`
            With `early_stopping`, `validation_data` must be given. After `n_iter_no_change` calls
            in a row without a better score, the weights of the best one are put in place.

        Returns
        -------
        MLPRegressor
            Itself.
        """
        return self._fit(X, y, sample_weight, True, validation_data)

    def _checked_targets(self, X: Any, y: Any) -> tuple[Any, Any]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
            dtype=REALS, reset=False,
        )  # fmt: skip
        return X, y.reshape(-1, 1) if y.ndim == 1 else y

    def predict(self, X: Any) -> Array:
        """The outputs for rows.

        Parameters
        ----------
        X : array_like or sparse matrix, (N, F)

        Returns
        -------
        ndarray, (N,) or (N, K)
        """
        y = self._quick(X)
        if y is None:
            return super().predict(X)
        return y[:, 0] if y.shape[1] == 1 else y
