"""An estimator's network: the layers that its parameters ask for, over its `coefs_`."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

from fastnn import activations, losses, regularizers
from fastnn.layers import Activation, BatchNormalization, Dense, Dropout
from fastnn.layers.base import Layer
from fastnn.model import Sequential

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "exp": "exponential"}
"""scikit-learn's names for activations that are called otherwise here."""

HIDDEN_ACTIVATIONS = {*activations.NAMES, *ACTIVATIONS} - {"exp", "step"}
"""Names for hidden layers; through a step, whose derivative is 0, nothing is learnt."""

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and"
    " need to be preprocessed."
)
"""scikit-learn's words for a fit that diverged."""


def invalid(estimator: Any, parameter: str, expected: str) -> InvalidParameterError:
    """The error for a parameter, in scikit-learn's words."""
    return InvalidParameterError(
        f"The {parameter!r} parameter of {type(estimator).__name__} must be {expected}. "
        f"Got {getattr(estimator, parameter)!r} instead."
    )


def hidden_activations(estimator: Any, layers: int) -> list[Any]:
    """The activation of each of `layers` hidden layers, by fastnn's names."""
    given = estimator.activation
    listed = list(given) if isinstance(given, (list, tuple)) else [given] * layers
    if len(listed) != layers:
        raise invalid(estimator, "activation", f"one name, or a list of {layers}")
    made = []
    for name in listed:
        if not isinstance(name, activations.Custom):
            if not isinstance(name, str) or name not in HIDDEN_ACTIVATIONS:
                names = ", ".join(sorted(HIDDEN_ACTIVATIONS))
                raise invalid(estimator, "activation", f"made of names among {names}")
            name = activations.check(ACTIVATIONS.get(name, name), "")
        made.append(name)
    return made


def dropout_rates(estimator: Any, layers: int) -> list[float]:
    """The rate of dropout after each of `layers` hidden layers."""
    given = estimator.dropout
    listed = list(given) if isinstance(given, (list, tuple)) else [given] * layers
    numbers = all(isinstance(rate, (int, float, np.number)) and 0 <= rate < 1 for rate in listed)
    if len(listed) != layers or not numbers:
        raise invalid(estimator, "dropout", f"a float in [0, 1), or a list of {layers} of them")
    return [float(rate) for rate in listed]


def loss_of(estimator: Any) -> tuple[losses.Loss, float, float]:
    """The loss, what rows' losses are multiplied by in training, and what in the figure shown.

    scikit-learn's losses are sums over the outputs: of squares, the half. The figure of its squared
    error, but not its gradient, is then divided by the number of outputs.
    """
    outputs, given = estimator.n_outputs_, estimator.loss
    if given == "squared_error":
        return losses.MeanSquaredError(), outputs / 2, 1 / outputs
    if given == "poisson":
        return losses.HalfPoissonDeviance(), float(outputs), 1.0
    if given == "log_loss":
        if estimator.out_activation_ == "softmax":
            return losses.CategoricalCrossentropy(), 1.0, 1.0
        return losses.BinaryCrossentropy(), float(outputs), 1.0
    loss = losses.check(given)
    if loss.targets not in estimator._loss_targets() or loss.only_logits:
        raise invalid(estimator, "loss", f"a loss of {' or '.join(estimator._loss_targets())}")
    return loss, 1.0, 1.0


def recipe_of(estimator: Any) -> tuple[Any, ...]:
    """All that the network's layers are made of besides the shapes of `coefs_`."""
    activation, dropout = estimator.activation, estimator.dropout
    return (
        tuple(activation) if isinstance(activation, list) else activation,  # a list may change
        estimator.out_activation_,
        estimator.alpha,
        tuple(dropout) if isinstance(dropout, list) else dropout,
        estimator.batch_norm,
        estimator.dtype,
        estimator.device,
    )


def dtype_of(estimator: Any) -> str:
    """The element type of the network: the one asked for, or that of the weights."""
    kind = np.result_type(*estimator.coefs_, *estimator.intercepts_)
    return estimator.dtype or ("float32" if kind == np.float32 else "float64")


class Net:
    """The network of an estimator, whose `coefs_` and `intercepts_` are views of its memory.

    Making one copies them, and what `_norms` keeps of batch normalisation, into that memory, and
    lets the estimator's attributes be the views.

    Attributes
    ----------
    model : Sequential
    kernels, biases : list of ndarray
        Live views.
    """

    def __init__(self, estimator: Any) -> None:
        self.recipe = recipe_of(estimator)
        coefs = estimator.coefs_
        self.model = model = Sequential(
            _layers(estimator, [np.shape(coef)[1] for coef in coefs]),
            input_shape=(np.shape(coefs[0])[0],),
            dtype=dtype_of(estimator),
            seed=getattr(estimator, "_seed", 0),
            device=estimator.device,
        )
        dense = [layer for layer in model.layers if isinstance(layer, Dense)]
        self.kernels = [layer.kernel for layer in dense]
        self.biases = [layer.bias for layer in dense]
        norms = [layer.weights for layer in model.layers if isinstance(layer, BatchNormalization)]
        for views, kept in zip(norms, getattr(estimator, "_norms", []), strict=False):
            for name, array in kept.items():
                views[name][...] = array
        self.pull(estimator)
        self.bind(estimator)
        estimator._norms = norms

    def fits(self, estimator: Any) -> bool:
        """Whether it can hold the weights that the estimator's attributes are now."""
        return (
            [np.shape(coef) for coef in estimator.coefs_] == [w.shape for w in self.kernels]
            and [np.shape(bias) for bias in estimator.intercepts_] == [b.shape for b in self.biases]
            and dtype_of(estimator) == self.model.dtype
        )

    def is_bound(self, estimator: Any) -> bool:
        """Whether the estimator's attributes are the views."""
        coefs, intercepts = estimator.coefs_, estimator.intercepts_
        return (
            len(coefs) == len(self.kernels)
            and len(intercepts) == len(self.biases)
            and all(map(operator.is_, coefs, self.kernels))
            and all(map(operator.is_, intercepts, self.biases))
        )

    def pull(self, estimator: Any) -> None:
        """Take over what was assigned to the estimator's attributes."""
        views = (*self.kernels, *self.biases)
        for array, view in zip((*estimator.coefs_, *estimator.intercepts_), views, strict=True):
            if array is not view:
                view[...] = array

    def bind(self, estimator: Any) -> None:
        """Let the estimator's attributes be the views."""
        if not self.is_bound(estimator):
            estimator.coefs_, estimator.intercepts_ = list(self.kernels), list(self.biases)


def net_of(estimator: Any) -> Net:
    """The estimator's network, with the weights that its attributes hold now."""
    net: Net | None = estimator.__dict__.get("_net")
    if net is not None and net.recipe == recipe_of(estimator):
        if net.is_bound(estimator):
            return net
        if net.fits(estimator):
            net.pull(estimator)
            return net
    net = estimator._net = Net(estimator)
    return net


def trained_net_of(estimator: Any) -> Net:
    """The same, its views put in the place of what was assigned: training is to be seen there."""
    net = net_of(estimator)
    net.bind(estimator)
    return net


def _layers(estimator: Any, units: list[int]) -> list[Layer]:
    hidden = len(units) - 1
    names, rates = hidden_activations(estimator, hidden), dropout_rates(estimator, hidden)
    layers: list[Layer] = []
    for width, name, rate in zip(units, names, rates, strict=False):
        layers.append(_dense(estimator, width))
        layers += [BatchNormalization()] if estimator.batch_norm else []
        layers += [Activation(name)] if name != "linear" else []
        layers += [Dropout(rate)] if rate > 0 else []
    last = ACTIVATIONS.get(estimator.out_activation_, estimator.out_activation_)
    return [*layers, _dense(estimator, units[-1], last)]


def _dense(estimator: Any, units: int, activation: str = "linear") -> Dense:
    penalty = regularizers.L2(estimator.alpha / 2) if estimator.alpha > 0 else None
    return Dense(units, activation, kernel_initializer="zeros", kernel_regularizer=penalty)
