"""Constraints: what weights are brought back to after every update. Keras's.

Norms are Euclidean, taken along an axis: 0 is that of the inputs of a `Dense` layer's kernel, so
that each unit's weights have one norm; a bias has one in all.
"""

from __future__ import annotations

import math
from typing import Any

from fastnn import checks
from fastnn.configured import Configured
from fastnn.engine.tape import Tape

EPSILON = 1e-7
"""Added to norms that are divided by, as Keras does."""


class Constraint(Configured):
    """What holds of weights after every update."""

    def check(self, shape: tuple[int, ...], label: str) -> None:
        """Refuse weights of a shape that it does not suit; `label` is what messages begin with."""

    def ops(self, tape: Tape, w: Any) -> None:
        """Put on `tape` what brings the array w back, in place."""
        raise NotImplementedError


class NonNeg(Constraint):
    """No weight is negative: those that are become 0."""

    def ops(self, tape: Tape, w: Any) -> None:
        """Put on `tape` what brings the array w back, in place."""
        tape.commit("constrain_sign", w=w.reshape(-1))


class MinMaxNorm(Constraint):
    """Norms n are drawn into an interval: ``w ·= (rate·clip(n) + (1 − rate)·n) / (n + 1e-7)``.

    Parameters
    ----------
    min_value, max_value : float, at least 0
        The interval.
    rate : float in [0, 1]
        How strictly: with 1, all norms lie in it after every update.
    axis : int
        That along which norms are taken.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int = 0
    ) -> None:
        name = type(self).__name__
        self.min_value = checks.number(name, "min_value", min_value, "[0, inf)")
        self.max_value = checks.number(name, "max_value", max_value, "[0, inf)")
        if self.min_value > self.max_value:
            raise ValueError(
                f"{name}: min_value must be at most max_value, "
                f"got {self.min_value} and {self.max_value}"
            )
        self.rate = checks.number(name, "rate", rate, "[0, 1]")
        self.axis = checks.integer(name, "axis", axis, -(1 << 16))

    def check(self, shape: tuple[int, ...], label: str) -> None:
        """Refuse weights that have no such axis."""
        rank = len(shape)
        if not -rank <= self.axis < rank:
            raise ValueError(
                f"{label}: axis of {type(self).__name__} must be in [{-rank}, {rank - 1}] "
                f"for weights of shape {shape}, got {self.axis}"
            )

    def ops(self, tape: Tape, w: Any) -> None:
        """Put on `tape` what brings the array w back, in place."""
        axis = self.axis % w.ndim
        before, after = math.prod(w.shape[:axis]), math.prod(w.shape[axis + 1 :])
        tape.commit(
            "constrain_norm",
            w=w.reshape(before, w.shape[axis], after),
            least=self.min_value,
            most=self.max_value,
            rate=self.rate,
            epsilon=EPSILON,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a constraint again."""
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


class MaxNorm(MinMaxNorm):
    """No norm is larger than `max_value` (Srebro et al. 2004; Hinton et al. 2012).

    Parameters
    ----------
    max_value : float, at least 0
    axis : int
        That along which norms are taken.
    """

    def __init__(self, max_value: float = 2.0, axis: int = 0) -> None:
        super().__init__(0.0, max_value, axis=axis)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a constraint again."""
        return {"max_value": self.max_value, "axis": self.axis}


class UnitNorm(MinMaxNorm):
    """All norms are 1.

    Parameters
    ----------
    axis : int
        That along which norms are taken.
    """

    def __init__(self, axis: int = 0) -> None:
        super().__init__(1.0, 1.0, axis=axis)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a constraint again."""
        return {"axis": self.axis}


CONSTRAINTS: dict[str, type[Constraint]] = {
    "max_norm": MaxNorm,
    "min_max_norm": MinMaxNorm,
    "non_neg": NonNeg,
    "unit_norm": UnitNorm,
}
"""Every constraint by its name."""


def check(constraint: object, owner: str, argument: str) -> Constraint | None:
    """A constraint, or one made of its name with the arguments' defaults, or None."""
    if constraint is None:
        return None
    return checks.named(constraint, CONSTRAINTS, Constraint, f"{owner}: {argument}")
