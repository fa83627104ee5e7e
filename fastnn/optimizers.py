"""Optimizers: how gradients change parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import checks
from fastnn.engine import cpu
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels import state as s
from fastnn.layers.base import Layer

Array = npt.NDArray[Any]


class Optimizer:
    """One pass over a vector of parameters, its gradient and the optimizer's own vectors.

    Attributes
    ----------
    learning_rate : float
        May be changed at any time; counts from the next epoch on.
    slots : tuple of str
        Names of the vectors that the optimizer keeps, each as long as the parameters.
    """

    name: str
    slots: tuple[str, ...] = ()

    def __init__(self, learning_rate: float = 0.01) -> None:
        self.learning_rate = learning_rate
        self._by_hand: dict[int, tuple[Layer, dict[str, dict[str, Array]]]] = {}
        self._steps = 0

    @property
    def learning_rate(self) -> float:
        """Step size η."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = checks.number(type(self).__name__, "learning_rate", value, "[0, inf)")

    def update_ops(self, tape: Tape, w: Any, g: Any, slots: dict[str, Any]) -> None:
        """Put on `tape` the update of parameters w (P,) by the gradient g (P,)."""
        raise NotImplementedError

    def update(self, layers: Layer | Iterable[Layer]) -> None:
        """Change layers' parameters by their gradients, once: for loops written by hand.

        The optimizer keeps its own vectors for every layer that it has seen.

        Raises
        ------
        DivergenceError
            If a new parameter would not be finite; it keeps its old value.
        """
        step, finite = self._steps, True
        for layer in [layers] if isinstance(layers, Layer) else layers:
            _, kept = self._by_hand.setdefault(id(layer), (layer, {}))
            for name, w in layer.params.items():
                slots = kept.setdefault(name, {slot: np.zeros_like(w) for slot in self.slots})
                state = cpu.new_state()
                state[s.STEP] = step
                cpu.floats(state)[s.LEARNING_RATE] = self.learning_rate
                tape = Eager(0, layer.dtype, state)
                self.update_ops(
                    tape,
                    w.reshape(-1),
                    layer.grads[name].reshape(-1),
                    {slot: array.reshape(-1) for slot, array in slots.items()},
                )
                finite &= not tape.stopped
        self._steps = step + 1
        if not finite:
            raise cpu.diverged(step, "a gradient")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such an optimizer again."""
        raise NotImplementedError

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class SGD(Optimizer):
    """Gradient descent: ``v = μv − ηg; w += v``.

    Parameters
    ----------
    learning_rate : float, at least 0
    momentum : float in [0, 1)
        μ.
    nesterov : bool
        Whether to step ``w += μv − ηg`` with the new v (Sutskever et al. 2013).
    """

    name = "sgd"

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(learning_rate)
        self._momentum = checks.number("SGD", "momentum", momentum, "[0, 1)")
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD: nesterov needs a momentum greater than 0")
        self.slots = ("velocity",) if self.momentum else ()

    @property
    def momentum(self) -> float:
        """μ; fixed, for with it comes a vector of velocities."""
        return self._momentum

    def update_ops(self, tape: Tape, w: Any, g: Any, slots: dict[str, Any]) -> None:
        """The update of w (P,) by g (P,)."""
        tape.update(
            "sgd",
            w=w,
            g=g,
            velocity=slots.get("velocity"),
            momentum=self.momentum,
            nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such an optimizer again."""
        return {
            "learning_rate": self.learning_rate,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
        }


class Adam(Optimizer):
    """Adam (Kingma & Ba 2014, arXiv 1412.6980), bias-corrected.

    ``m = β₁m + (1−β₁)g; v = β₂v + (1−β₂)g²; w −= η m̂ / (√v̂ + ε)`` with m̂ = m/(1−β₁ᵗ) and
    v̂ = v/(1−β₂ᵗ). ε is added outside the root after the bias correction: the paper's algorithm 1,
    and PyTorch's; Keras's ε is added before it. The default ε is Keras's; PyTorch's is 1e-8.

    Parameters
    ----------
    learning_rate : float, at least 0
    beta_1, beta_2 : float in [0, 1)
    epsilon : float, greater than 0
    """

    name = "adam"
    slots = ("m", "v")

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ) -> None:
        super().__init__(learning_rate)
        self.beta_1 = checks.number("Adam", "beta_1", beta_1, "[0, 1)")
        self.beta_2 = checks.number("Adam", "beta_2", beta_2, "[0, 1)")
        self.epsilon = checks.number("Adam", "epsilon", epsilon, "(0, inf)")

    def update_ops(self, tape: Tape, w: Any, g: Any, slots: dict[str, Any]) -> None:
        """The update of w (P,) by g (P,)."""
        tape.op("adam_rates", beta_1=self.beta_1, beta_2=self.beta_2)
        tape.update(
            "adam",
            w=w,
            g=g,
            m=slots["m"],
            v=slots["v"],
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such an optimizer again."""
        return {
            "learning_rate": self.learning_rate,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}
"""Every optimizer by its name."""


def check(optimizer: object) -> Optimizer:
    """An optimizer out of its name, or as it is.

    Raises
    ------
    ValueError, TypeError
        If it is neither a name out of `OPTIMIZERS` nor an `Optimizer`.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        return optimizer()
    if isinstance(optimizer, str):
        if optimizer.lower() not in OPTIMIZERS:
            names = ", ".join(OPTIMIZERS)
            raise ValueError(f"compile: optimizer must be one of {names}, got {optimizer!r}")
        return OPTIMIZERS[optimizer.lower()]()
    raise TypeError(f"compile: optimizer must be a name or an Optimizer, got {optimizer!r}")
