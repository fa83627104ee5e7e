"""What an estimator keeps of its optimizer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import optimizers
from fastnn.kernels import state as s
from fastnn.schedules import Schedule
from fastnn.sklearn.networks import Net

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class EpsilonHatAdam(optimizers.Adam):
    """Adam with ε added before the bias correction, as scikit-learn's."""

    rates_op = "adam_rates_epsilon_hat"


def optimizer_of(estimator: Any) -> optimizers.Optimizer:
    """The optimizer that the parameters describe."""
    given, rate = estimator.solver, estimator.learning_rate_init
    scheduled = isinstance(estimator.learning_rate, Schedule)
    if scheduled:
        rate = estimator.learning_rate
    if isinstance(given, optimizers.Optimizer):
        made = copy.deepcopy(given)  # its rate may change, a parameter may not
        if scheduled:
            made.learning_rate = rate
        return made
    if given == "adam":
        return EpsilonHatAdam(rate, estimator.beta_1, estimator.beta_2, estimator.epsilon)
    if given == "sgd":
        nesterov = estimator.nesterovs_momentum and estimator.momentum > 0
        return optimizers.SGD(rate, estimator.momentum, nesterov)
    return optimizers.OPTIMIZERS[given](learning_rate=rate)


class OptimizerState:
    """What an estimator keeps of its optimizer, from one fit to the next and in a pickle.

    Attributes
    ----------
    optimizer : Optimizer
    learning_rate : float
        The rate of the last step: of Adam, the bias correction in it, as in scikit-learn.
    rate : float
        The rate without it.
    initial_rate : float or Schedule
        What the optimizer was given.
    step : int
        Steps done.
    slots : dict of ndarray
        The vectors that it keeps, as long as all weights together.
    """

    def __init__(self, optimizer: optimizers.Optimizer) -> None:
        self.optimizer, self.step = optimizer, 0
        given = optimizer.learning_rate
        self.rate = given(0) if isinstance(given, Schedule) else given
        self.learning_rate, self.initial_rate = self.rate, given
        self.slots: dict[str, Array] = {}

    def give(self, net: Net) -> None:
        """Let the network's model go on from here."""
        own = net.model.flat().slots
        for name, vector in self.slots.items():
            if vector is not own[name]:
                own[name][:] = vector
        self.slots = own
        net.model.state[s.STEP] = self.step

    def take(self, net: Net) -> None:
        """Note down how far the model has come."""
        self.step = int(net.model.state[s.STEP])
        self.learning_rate = self.rate
        if isinstance(self.optimizer, EpsilonHatAdam) and self.step > 0:
            first, second = self.optimizer.beta_1**self.step, self.optimizer.beta_2**self.step
            self.learning_rate *= np.sqrt(1 - second) / (1 - first)
