"""Fitted estimators of scikit-learn to fastnn's, and back."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.neural_network import _stochastic_optimizers as theirs
from sklearn.utils._param_validation import make_constraint
from sklearn.utils.validation import check_is_fitted

from fastnn import optimizers
from fastnn.layers import BatchNormalization
from fastnn.schedules import Schedule
from fastnn.sklearn import estimators, networks
from fastnn.sklearn.base import Accelerated
from fastnn.sklearn.optimizer import EpsilonHatAdam, OptimizerState

THEIRS = {
    "MLPClassifier": neural_network.MLPClassifier,
    "MLPRegressor": neural_network.MLPRegressor,
}
"""scikit-learn's estimators, whatever `patch` has put in their place."""
_OWN = ("_net", "_norms", "_best_norms", "_seed", "_full_batch", "validation_loss_curve_")
"""Attributes of fastnn's estimators that scikit-learn's have not."""
_THEIR_ACTIVATIONS = {
    "linear": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"
}  # fmt: skip


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
    names = [name for name, kind in THEIRS.items() if isinstance(fitted, kind)]
    if not names:
        raise TypeError(
            f"from_sklearn: fitted must be an MLPClassifier or MLPRegressor, got {fitted!r}"
        )
    if isinstance(fitted, Accelerated):
        return copy.deepcopy(fitted)
    check_is_fitted(fitted)
    made = getattr(estimators, names[0])()
    _become(made, fitted)
    return made


def become_unpickled(made: Any, state: dict[str, Any]) -> None:
    """Let `made` be what a pickle of scikit-learn's holds: `patch` has replaced its class."""
    theirs = next(kind for kind in THEIRS.values() if isinstance(made, kind))()
    theirs.__setstate__(state)
    _become(made, theirs)


def _become(made: Any, theirs: Any) -> None:
    """Let `made`, of fastnn, be as `theirs` is, of scikit-learn, fitted or not."""
    made.__init__(**theirs.get_params())
    state = copy.deepcopy(vars(theirs))
    optimizer = state.pop("_optimizer", None)
    vars(made).update(state)
    if optimizer is not None:
        made._optimizer = _optimizer_state(made, optimizer)


def to_sklearn(estimator: Any) -> Any:
    """The other way round; see `Accelerated.to_sklearn`."""
    check_is_fitted(estimator)
    kind = next(kind for kind in THEIRS.values() if isinstance(estimator, kind))
    parameters = _their_parameters(estimator, kind)
    made = kind(**parameters)
    state = {name: value for name, value in vars(estimator).items() if name not in _OWN}
    optimizer = state.pop("_optimizer", None)
    for name in estimator.get_params():
        state.pop(name)
    vars(made).update(copy.deepcopy(state))
    _fold_norms(estimator, made)
    if parameters["solver"] == estimator.solver and optimizer is not None:
        converted = _their_optimizer(estimator, made, optimizer)
        if converted is not None:
            made._optimizer = converted
    return made


def _their_parameters(estimator: Any, kind: Any) -> dict[str, Any]:
    """Parameters for scikit-learn's estimator: its default where a value is none for it."""
    parameters: dict[str, Any] = kind().get_params()
    given = {name: getattr(estimator, name) for name in parameters}
    given["activation"] = _their_activation(estimator)
    for name, value in given.items():
        allowed = map(make_constraint, kind._parameter_constraints[name])
        if any(constraint.is_satisfied_by(value) for constraint in allowed):
            parameters[name] = value
    return parameters


def _their_activation(estimator: Any) -> str:
    """scikit-learn's name for the activation of all hidden layers; refuses what it has not."""
    names = networks.hidden_activations(estimator, len(estimator.coefs_) - 1) or ["relu"]
    if len(set(map(str, names))) > 1 or str(names[0]) not in _THEIR_ACTIVATIONS:
        raise ValueError(
            "to_sklearn: scikit-learn has one activation among "
            f"{', '.join(sorted(_THEIR_ACTIVATIONS))} for all layers, got "
            f"{', '.join(map(str, names))}"
        )
    return _THEIR_ACTIVATIONS[str(names[0])]


def _fold_norms(estimator: Any, made: Any) -> None:
    """Put batch normalisation, as it predicts, into the weights of the layer before it."""
    norms = getattr(estimator, "_norms", [])
    model = networks.net_of(estimator).model
    layers = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
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
    rate = given.learning_rate_init
    if adam:
        state = OptimizerState(EpsilonHatAdam(rate, given.beta_1, given.beta_2, given.epsilon))
    else:
        nesterov = bool(given.nesterov and given.momentum > 0)
        state = OptimizerState(optimizers.SGD(rate, given.momentum, nesterov))
        state.rate = given.learning_rate
    state.learning_rate = given.learning_rate
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
    params, optimizer = [*made.coefs_, *made.intercepts_], state.optimizer
    first = state.rate if isinstance(state.initial_rate, Schedule) else state.initial_rate
    if any(vector.size != sum(p.size for p in params) for vector in state.slots.values()):
        return None  # batch normalisation has parameters that are now in others
    if isinstance(optimizer, EpsilonHatAdam):
        adam = theirs.AdamOptimizer(
            params, first, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
        )
        adam.t, adam.ms, adam.vs = state.step, *(_split(estimator, made, state, n) for n in "mv")
        made_optimizer = adam
    elif isinstance(optimizer, optimizers.SGD):
        made_optimizer = theirs.SGDOptimizer(
            params, first, made.learning_rate, optimizer.momentum, optimizer.nesterov, made.power_t
        )
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
