"""Optimizers: how gradients change parameters.

Every optimizer takes the same options beside its own arguments, by name; see `Optimizer`. Where
nothing else is said, formulas and defaults are Keras's. One more is an update in
``fastnn/kernels/updates.py`` and a class here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn import checks
from fastnn.optimizers.base import AVERAGE as AVERAGE
from fastnn.optimizers.base import Group as Group
from fastnn.optimizers.base import Optimizer, Options
from fastnn.optimizers.lbfgs import LBFGS
from fastnn.schedules import Schedule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
]


class SGD(Optimizer):
    """Gradient descent: ``v = μv − ηg; w += v``.

    PyTorch keeps −v/η for v: the same path while the learning rate stands still.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    momentum : float in [0, 1]
        μ.
    nesterov : bool
        Whether to step ``w += μv − ηg`` with the new v (Sutskever et al. 2013).
    **options
        Those of `Optimizer`.
    """

    name = op = "sgd"

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self._momentum = self._number("momentum", momentum, "[0, 1]")
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD: nesterov needs a momentum greater than 0")
        self.slots = ("velocity",) if self.momentum else ()

    @property
    def momentum(self) -> float:
        """μ; fixed, for with it comes a vector of velocities."""
        return self._momentum

    def scalars(self) -> dict[str, float]:
        """The numbers that the op takes."""
        return {"momentum": self.momentum, "nesterov": self.nesterov}


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011, JMLR 12): ``c += g²; w −= ηg / (√c + ε)``.

    ε is added outside the root, as in PyTorch; Keras adds it inside. PyTorch begins with a c of 0.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    initial_accumulator_value : float, at least 0
        c before the first step.
    epsilon : float, greater than 0
    **options
        Those of `Optimizer`.
    """

    name = op = "adagrad"
    slots = ("accumulator",)

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = self._number(
            "initial_accumulator_value", initial_accumulator_value, "[0, inf)"
        )
        self.epsilon = self._number("epsilon", epsilon, "(0, inf)")

    def initial_value(self, slot: str) -> float:
        """What all elements of a vector are before the first step."""
        return self.initial_accumulator_value if slot in self.slots else 0.0

    def scalars(self) -> dict[str, float]:
        """The numbers that the op takes."""
        return {"epsilon": self.epsilon}


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012): ``v = ρv + (1−ρ)g²; w −= ηg / √(v + ε)``.

    ε is added inside the root, as in Keras; PyTorch adds it outside, and its defaults are a ρ
    (there alpha) of 0.99 and 1e-8.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    rho : float in [0, 1]
        ρ, which smooths the mean of squares; the learning rate decays by a schedule.
    momentum : float in [0, 1)
        μ: the step without it goes into a velocity u, ``u = μu + ηg / √(v + ε); w −= u``.
    epsilon : float, greater than 0
    centered : bool
        Whether the variance v − m² takes the place of v, with the mean m = ρm + (1−ρ)g.
    **options
        Those of `Optimizer`.
    """

    name = "rmsprop"

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = self._number("rho", rho, "[0, 1]")
        self._momentum = self._number("momentum", momentum, "[0, 1)")
        self.epsilon = self._number("epsilon", epsilon, "(0, inf)")
        self._centered = bool(centered)
        full = self.momentum > 0 or self.centered
        self.op = "rmsprop_full" if full else "rmsprop"
        self.slots = ("v", "m", "velocity") if full else ("v",)

    @property
    def momentum(self) -> float:
        """μ; fixed, for with it comes a vector of velocities."""
        return self._momentum

    @property
    def centered(self) -> bool:
        """Whether the variance is taken; fixed, for with it comes a vector of means."""
        return self._centered

    def scalars(self) -> dict[str, float]:
        """The numbers that the op takes."""
        return {
            "rho": self.rho,
            "weight": 1.0 - self.rho,
            "momentum": self.momentum,
            "centered": self.centered,
            "epsilon": self.epsilon,
        }


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, arXiv 1212.5701): steps as large as steps have been.

    ``v = ρv + (1−ρ)g²; δ = √(d+ε) / √(v+ε) · g; d = ρd + (1−ρ)δ²; w −= ηδ``. ε is added inside
    both roots. The paper's η is 1, PyTorch's defaults are an η of 1, a ρ of 0.9 and an ε of 1e-6.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    rho : float in [0, 1]
    epsilon : float, greater than 0
    **options
        Those of `Optimizer`.
    """

    name = op = "adadelta"
    slots = ("v", "d")

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = self._number("rho", rho, "[0, 1]")
        self.epsilon = self._number("epsilon", epsilon, "(0, inf)")

    def scalars(self) -> dict[str, float]:
        """The numbers that the op takes."""
        return {"rho": self.rho, "weight": 1.0 - self.rho, "epsilon": self.epsilon}


class Moments(Optimizer):
    """What optimizers with running means of the gradient and of its size have in common."""

    slots: tuple[str, ...] = ("m", "v")

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = self._number("beta_1", beta_1, "[0, 1)")
        self.beta_2 = self._number("beta_2", beta_2, "[0, 1)")
        self.epsilon = self._number("epsilon", epsilon, "(0, inf)")

    def scalars(self) -> dict[str, float]:
        """The numbers that the ops take."""
        return {
            "beta_1": self.beta_1,
            "weight_1": 1.0 - self.beta_1,
            "beta_2": self.beta_2,
            "weight_2": 1.0 - self.beta_2,
            "epsilon": self.epsilon,
        }


class Adam(Moments):
    """Adam (Kingma & Ba 2014, arXiv 1412.6980), bias-corrected.

    ``m = β₁m + (1−β₁)g; v = β₂v + (1−β₂)g²; w −= η m̂ / (√v̂ + ε)`` with m̂ = m/(1−β₁ᵗ) and
    v̂ = v/(1−β₂ᵗ). ε is added outside the root after the bias correction: the paper's algorithm 1,
    and PyTorch's; Keras's ε is added before it. The default ε is Keras's; PyTorch's is 1e-8.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    beta_1, beta_2 : float in [0, 1)
    epsilon : float, greater than 0
    amsgrad : bool
        Whether the largest v so far takes the place of v (Reddi, Kale & Kumar 2018, arXiv
        1904.09237).
    **options
        Those of `Optimizer`.
    """

    name = "adam"
    rates_op = "adam_rates"

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)
        self._amsgrad = bool(amsgrad)
        self.op = "amsgrad" if self.amsgrad else "adam"
        self.slots = ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    @property
    def amsgrad(self) -> bool:
        """Whether the largest v is taken; fixed, for with it comes a vector of these."""
        return self._amsgrad


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101).

    `Adam` with another default: PyTorch's is 0.01.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    weight_decay : float, at least 0
    beta_1, beta_2 : float in [0, 1)
    epsilon : float, greater than 0
    amsgrad : bool
    **options
        Those of `Optimizer`.
    """

    name = "adamw"

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        options["weight_decay"] = weight_decay
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, **options)


class Nadam(Moments):
    """Adam that looks ahead (Dozat 2016), with Keras's momenta: ``μₜ = β₁(1 − ½·0.96ᵗ)``.

    ``w −= η (μₜ₊₁m/(1−Π_{i≤t+1} μᵢ) + (1−μₜ)g/(1−Π_{i≤t} μᵢ)) / (√v̂ + ε)``, m and v̂ as in `Adam`.
    ε is added outside the root after the bias correction. PyTorch's momenta approach β₁ more
    slowly: 0.96 to the power of 0.004·t.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    beta_1, beta_2 : float in [0, 1)
    epsilon : float, greater than 0
    **options
        Those of `Optimizer`.
    """

    name = op = "nadam"
    rates_op = "nadam_rates"


class Adamax(Moments):
    """Adam by the largest gradient (Kingma & Ba 2014, algorithm 2).

    ``m = β₁m + (1−β₁)g; u = max(β₂u, |g|); w −= η/(1−β₁ᵗ) · m / (u + ε)``, as in Keras; PyTorch
    adds its ε to |g|.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    beta_1, beta_2 : float in [0, 1)
    epsilon : float, greater than 0
    **options
        Those of `Optimizer`.
    """

    name = op = "adamax"
    rates_op = "adam_rates"
    slots = ("m", "u")


class Lion(Moments):
    """Steps of one size (Chen et al. 2023, arXiv 2302.06675).

    ``w −= η sign(β₁m + (1−β₁)g); m = β₂m + (1−β₂)g``. It has no ε. Its learning rate should be
    some 3 to 10 times smaller than Adam's.

    Parameters
    ----------
    learning_rate : float, at least 0, or Schedule
    beta_1, beta_2 : float in [0, 1)
    **options
        Those of `Optimizer`.
    """

    name = op = "lion"
    slots = ("m",)

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, **options)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.name: kind
    for kind in (SGD, Adagrad, RMSprop, Adadelta, Adam, AdamW, Nadam, Adamax, Lion, LBFGS)
}
"""Every optimizer by its name."""


def check(optimizer: object) -> Optimizer:
    """An optimizer out of its name, or as it is.

    Raises
    ------
    ValueError, TypeError
        If it is neither a name out of `OPTIMIZERS` nor an `Optimizer`.
    """
    return checks.named(optimizer, OPTIMIZERS, Optimizer, "compile: optimizer")
