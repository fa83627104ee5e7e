"""The book's optimizers.

An optimizer keeps its vectors as attributes of the layers, ``weight_momentums``, ``bias_cache`` and
so on. Which ops an update is, `_ops` says, for loops by hand and for `Model.train` alike: in these
every product is rounded, as NumPy does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import checks
from fastnn.engine import cpu
from fastnn.engine.by_hand import ByHand, by_hand
from fastnn.kernels import state as s
from fastnn.nnfs import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.engine.tape import Tape

    Array = npt.NDArray[Any]

PARAMETERS = (("weights", "weight"), ("biases", "bias"))
"""A layer's arrays, and what the names of vectors that are kept for them begin with."""


class _Optimizer:
    """What they have in common.

    Attributes
    ----------
    learning_rate, decay : float
    current_learning_rate : float
        ``learning_rate · 1/(1 + decay · iterations)``.
    iterations : int
        Steps done.
    """

    def __init__(self, learning_rate: float, decay: float) -> None:
        self.learning_rate: Any = learning_rate
        self._check("learning_rate", learning_rate, "[0, inf)")
        self._check("decay", decay, "[0, inf)")
        self.current_learning_rate: Any = learning_rate
        self.decay = decay
        self.iterations = 0

    def _check(self, argument: str, value: float, interval: str) -> None:
        checks.number(type(self).__name__, argument, value, interval)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors that are kept for each of a layer's arrays."""
        return ()

    def _ops(self, tape: Tape | ByHand, w: Array, g: Array, **vectors: Array) -> None:
        """Put on `tape` the update of the flat parameters w (P,) by their gradient g (P,)."""
        raise NotImplementedError

    def _rates_ops(self, tape: Tape | ByHand) -> None:
        """Put on `tape` what comes before the updates of a step."""

    def rates(self, first: Any) -> Any:
        """The learning rate of a step, or of an array of steps."""
        if not self.decay:
            return self.current_learning_rate + 0 * first
        return self.learning_rate * (1.0 / (1.0 + self.decay * first))

    def pre_update_params(self) -> None:
        """Set `current_learning_rate`; before the layers of a step."""
        if self.decay:
            self.current_learning_rate = self.rates(self.iterations)

    def update_params(self, layer: Any) -> None:
        """Change a layer's `weights` and `biases` by its `dweights` and `dbiases`.

        Raises
        ------
        DivergenceError
            If a gradient or a new parameter is not finite; those parameters keep their values.
        """
        by_hand.slots[s.STEP] = self.iterations
        by_hand.numbers[s.LEARNING_RATE] = self.current_learning_rate
        self._rates_ops(by_hand)
        finite = True
        for name, kind in PARAMETERS:
            w = _own(layer, name)
            g = arrays.like(getattr(layer, f"d{name}"), f"d{name}", w)
            kept = {}
            for vector in self.vectors:
                if not hasattr(layer, f"{kind}_{vector}"):
                    setattr(layer, f"{kind}_{vector}", np.zeros_like(w))
                kept[vector] = _own(layer, f"{kind}_{vector}", w).reshape(-1)
            self._ops(by_hand, w.reshape(-1), g.reshape(-1), **kept)
            finite &= not by_hand.stopped
        if not finite:
            raise cpu.diverged(self.iterations, "a gradient")

    def post_update_params(self) -> None:
        """Count the step; after its layers."""
        self.iterations += 1


def _own(layer: Any, name: str, like: Array | None = None) -> Array:
    """A layer's array as an op can change it: it itself, or a copy that takes its place."""
    value = getattr(layer, name)
    array = arrays.real(value, name) if like is None else arrays.like(value, name, like)
    if array is not value or not array.flags.writeable:
        array = array.copy()
        setattr(layer, name, array)
    return array


class Optimizer_SGD(_Optimizer):
    """Gradient descent: ``v = μv − ηg; w += v``.

    Parameters
    ----------
    learning_rate, decay : float, at least 0
    momentum : float in [0, 1)
        μ.
    """

    def __init__(
        self, learning_rate: float = 1.0, decay: float = 0.0, momentum: float = 0.0
    ) -> None:
        super().__init__(learning_rate, decay)
        self._check("momentum", momentum, "[0, 1)")
        self.momentum = momentum

    @property
    def vectors(self) -> tuple[str, ...]:
        """v, if there is a momentum."""
        return ("momentums",) if self.momentum else ()

    def _ops(self, tape: Tape | ByHand, w: Array, g: Array, **vectors: Array) -> None:
        # Without a velocity the op would fuse ηg and the difference: it would round once.
        velocity = vectors.get("momentums", np.zeros_like(w))
        tape.commit(
            "sgd", w=w, g=g, velocity=velocity, momentum=self.momentum, nesterov=0, multiplier=1.0
        )


class Optimizer_Adagrad(_Optimizer):
    """``c += g²; w −= ηg / (√c + ε)``.

    Parameters
    ----------
    learning_rate, decay : float, at least 0
    epsilon : float, greater than 0
        ε.
    """

    def __init__(
        self, learning_rate: float = 1.0, decay: float = 0.0, epsilon: float = 1e-7
    ) -> None:
        super().__init__(learning_rate, decay)
        self._check("epsilon", epsilon, "(0, inf)")
        self.epsilon = epsilon

    @property
    def vectors(self) -> tuple[str, ...]:
        """c."""
        return ("cache",)

    def _ops(self, tape: Tape | ByHand, w: Array, g: Array, **vectors: Array) -> None:
        tape.commit(
            "adagrad",
            w=w,
            g=g,
            accumulator=vectors["cache"],
            epsilon=self.epsilon,
            multiplier=1.0,
        )


class Optimizer_RMSprop(_Optimizer):
    """``c = ρc + (1−ρ)g²; w −= ηg / (√c + ε)``: ε stands outside the root, unlike Keras's.

    Parameters
    ----------
    learning_rate, decay : float, at least 0
    epsilon : float, greater than 0
        ε.
    rho : float in [0, 1)
        ρ.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        decay: float = 0.0,
        epsilon: float = 1e-7,
        rho: float = 0.9,
    ) -> None:
        super().__init__(learning_rate, decay)
        self._check("epsilon", epsilon, "(0, inf)")
        self._check("rho", rho, "[0, 1)")
        self.epsilon, self.rho = epsilon, rho

    @property
    def vectors(self) -> tuple[str, ...]:
        """c."""
        return ("cache",)

    def _ops(self, tape: Tape | ByHand, w: Array, g: Array, **vectors: Array) -> None:
        tape.commit(
            "rmsprop_outside",
            w=w,
            g=g,
            v=vectors["cache"],
            rho=self.rho,
            weight=1.0 - self.rho,
            epsilon=self.epsilon,
            multiplier=1.0,
        )


class Optimizer_Adam(_Optimizer):
    """``m = β₁m + (1−β₁)g; c = β₂c + (1−β₂)g²; w −= η m̂ / (√ĉ + ε)``.

    m̂ = m/(1−β₁ᵗ) and ĉ = c/(1−β₂ᵗ) in step t = iterations + 1.

    Parameters
    ----------
    learning_rate, decay : float, at least 0
    epsilon : float, greater than 0
        ε.
    beta_1, beta_2 : float in [0, 1)
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        decay: float = 0.0,
        epsilon: float = 1e-7,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
    ) -> None:
        super().__init__(learning_rate, decay)
        self._check("epsilon", epsilon, "(0, inf)")
        self._check("beta_1", beta_1, "[0, 1)")
        self._check("beta_2", beta_2, "[0, 1)")
        self.epsilon, self.beta_1, self.beta_2 = epsilon, beta_1, beta_2

    @property
    def vectors(self) -> tuple[str, ...]:
        """m and c."""
        return ("momentums", "cache")

    def _rates_ops(self, tape: Tape | ByHand) -> None:
        tape.op("adam_corrections", beta_1=self.beta_1, beta_2=self.beta_2)

    def _ops(self, tape: Tape | ByHand, w: Array, g: Array, **vectors: Array) -> None:
        tape.commit(
            "adam_corrected",
            w=w,
            g=g,
            m=vectors["momentums"],
            v=vectors["cache"],
            beta_1=self.beta_1,
            weight_1=1.0 - self.beta_1,
            beta_2=self.beta_2,
            weight_2=1.0 - self.beta_2,
            epsilon=self.epsilon,
            multiplier=1.0,
        )
