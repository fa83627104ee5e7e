"""Fitted estimators of scikit-learn to fastnn's, and back."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.neural_network import _stochastic_optimizers as theirs
from sklearn.utils.validation import check_is_fitted

from fastnn import optimizers
from fastnn.sklearn import estimators, networks
from fastnn.sklearn.base import Accelerated
from fastnn.sklearn.optimizer import EpsilonHatAdam, OptimizerState, optimizer_of

_SKLEARN = {
    "MLPClassifier": neural_network.MLPClassifier,
    "MLPRegressor": neural_network.MLPRegressor,
}
_OWN = ("_net", "_norms", "_best_norms", "_seed", "_full_batch", "validation_loss_curve_")
"""Attributes of fastnn's estimators that scikit-learn's have not."""


def from_sklearn(fitted: Any) -> estimators.MLPClassifier | estimators.MLPRegressor:
    """fastnn's estimator with the parameters, weights and optimizer of a fitted one.

    Parameters
    ----------
    fitted : MLPClassifier or MLPRegressor
        Of scikit-learn; it is left as it is.

    Returns
    -------
    MLPClassifier or MLPRegressor
        Of fastnn: it predicts the same, and `partial_fit` goes on from there.

    Raises
    ------
    TypeError
        If it is no such estimator.
    NotFittedError
        If it is not fitted.
    """
    names = [name for name, kind in _SKLEARN.items() if isinstance(fitted, kind)]
    if not names:
        raise TypeError(
            f"from_sklearn: fitted must be an MLPClassifier or MLPRegressor, got {fitted!r}"
        )
    if isinstance(fitted, Accelerated):
        return copy.deepcopy(fitted)
    check_is_fitted(fitted)
    made = getattr(estimators, names[0])(**fitted.get_params())
    state = copy.deepcopy(vars(fitted))
    optimizer = state.pop("_optimizer", None)
    vars(made).update(state)
    if optimizer is not None:
        made._optimizer = _optimizer_state(made, optimizer)
    return made


def to_sklearn(estimator: Any) -> Any:
    """The other way round; see `Accelerated.to_sklearn`."""
    check_is_fitted(estimator)
    kind = next(kind for kind in _SKLEARN.values() if isinstance(estimator, kind))
    _refuse_what_they_lack(estimator)
    parameters = {name: getattr(estimator, name) for name in kind().get_params()}
    if isinstance(estimator.activation, (list, tuple)):
        parameters["activation"] = estimator.activation[0]
    if parameters["solver"] not in ("lbfgs", "sgd", "adam"):
        parameters["solver"] = "adam"
    if parameters["verbose"] == "bar":
        parameters["verbose"] = True
    made = kind(**parameters)
    state = {name: value for name, value in vars(estimator).items() if name not in _OWN}
    optimizer = state.pop("_optimizer", None)
    for name in estimator.get_params():
        state.pop(name)
    vars(made).update(copy.deepcopy(state))
    made.loss = "log_loss" if kind is neural_network.MLPClassifier else made.loss
    _fold_norms(estimator, made)
    if parameters["solver"] == estimator.solver and optimizer is not None:
        made._optimizer = _their_optimizer(estimator, made, optimizer)
    return made


def _refuse_what_they_lack(estimator: Any) -> None:
    """Refuse a network that scikit-learn cannot compute."""
    hidden = len(estimator.coefs_) - 1
    names = networks.hidden_activations(estimator, hidden)
    known = {"linear", "sigmoid", "tanh", "relu"}
    if len(set(map(str, names))) > 1 or not set(map(str, names)) <= known:
        raise ValueError(
            f"to_sklearn: scikit-learn has one activation among {', '.join(sorted(known))} for all "
            f"layers, got {', '.join(map(str, names))}"
        )


def _fold_norms(estimator: Any, made: Any) -> None:
    """Put batch normalisation, as it predicts, into the weights of the layer before it."""
    norms = getattr(estimator, "_norms", [])
    model = networks.net_of(estimator).model
    layers = [layer for layer in model.layers if hasattr(layer, "epsilon")]
    for index, (norm, layer) in enumerate(zip(norms, layers, strict=True)):
        scale = norm["gamma"] / np.sqrt(norm["moving_variance"] + layer.epsilon)
        made.coefs_[index] = made.coefs_[index] * scale
        shifted = made.intercepts_[index] - norm["moving_mean"]
        made.intercepts_[index] = shifted * scale + norm["beta"]


def _places(estimator: Any) -> list[tuple[int, int]]:
    """Where in the flat vectors each coefficient matrix, then each intercept, begins and ends."""
    net = networks.net_of(estimator)
    flat = net.model.parameters
    return [
        ((view.ctypes.data - flat.ctypes.data) // flat.itemsize, view.size)
        for view in (*net.kernels, *net.biases)
    ]


def _optimizer_state(estimator: Any, given: Any) -> OptimizerState:
    """An optimizer of scikit-learn as what fastnn keeps of one."""
    adam = isinstance(given, theirs.AdamOptimizer)
    state = OptimizerState(optimizer_of(estimator))
    state.learning_rate = given.learning_rate
    if not adam:
        state.rate = given.learning_rate
    names = {"m": given.ms, "v": given.vs} if adam else {"velocity": given.velocities}
    state.step = given.t if adam else 1
    for name in state.optimizer.slots:
        vector = np.zeros_like(networks.net_of(estimator).model.parameters)
        for (begin, size), array in zip(_places(estimator), names[name], strict=True):
            vector[begin : begin + size] = array.reshape(-1)
        state.slots[name] = vector
    return state


def _their_optimizer(estimator: Any, made: Any, state: OptimizerState) -> Any:
    """What fastnn keeps of an optimizer as one of scikit-learn's; None if they have none such."""
    params = [*made.coefs_, *made.intercepts_]
    if any(vector.size != sum(p.size for p in params) for vector in state.slots.values()):
        return None  # batch normalisation has parameters that are now in others
    if isinstance(state.optimizer, EpsilonHatAdam):
        adam = theirs.AdamOptimizer(
            params, made.learning_rate_init, made.beta_1, made.beta_2, made.epsilon
        )
        adam.t, adam.ms, adam.vs = state.step, *(_split(estimator, made, state, n) for n in "mv")
        made_optimizer = adam
    elif isinstance(state.optimizer, optimizers.SGD):
        made_optimizer = theirs.SGDOptimizer(
            params, made.learning_rate_init, made.learning_rate, made.momentum,
            made.nesterovs_momentum, made.power_t,
        )  # fmt: skip
        if "velocity" in state.slots:
            made_optimizer.velocities = _split(estimator, made, state, "velocity")
    else:
        return None
    made_optimizer.learning_rate = state.learning_rate
    return made_optimizer


def _split(estimator: Any, made: Any, state: OptimizerState, name: str) -> list[Any]:
    """A flat vector as scikit-learn's list of arrays."""
    arrays = [*made.coefs_, *made.intercepts_]
    return [
        state.slots[name][begin : begin + size].reshape(array.shape).copy()
        for (begin, size), array in zip(_places(estimator), arrays, strict=True)
    ]
