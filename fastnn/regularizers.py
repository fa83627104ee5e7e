"""Regularizers: what is added to the loss for the size of weights, or of a layer's output.

Keras's, and its convention: λ‖w‖² has no ½ and is not divided by the number of rows.
"""

from __future__ import annotations

from typing import Any

from fastnn import checks
from fastnn.configured import Configured


class L1L2(Configured):
    """``l1·Σ|w| + l2·Σw²``; its gradient is ``l1·sign w + 2·l2·w``, 0 at 0.

    Parameters
    ----------
    l1, l2 : float, at least 0

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> layer = fastnn.Dense(1, kernel_initializer="ones", kernel_regularizer="l1")
    >>> _ = layer.forward(np.ones((1, 3)))
    >>> round(layer.penalty(), 6)
    0.03
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        name = type(self).__name__
        self.l1 = checks.number(name, "l1", l1, "[0, inf)")
        self.l2 = checks.number(name, "l2", l2, "[0, inf)")

    def scalars(self) -> dict[str, float]:
        """What the ops take."""
        return {"l1": self.l1, "l2": self.l2}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a regularizer again."""
        return self.scalars()


class L1(L1L2):
    """``l1·Σ|w|``.

    Parameters
    ----------
    l1 : float, at least 0
    """

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a regularizer again."""
        return {"l1": self.l1}


class L2(L1L2):
    """``l2·Σw²``.

    Parameters
    ----------
    l2 : float, at least 0
    """

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a regularizer again."""
        return {"l2": self.l2}


REGULARIZERS: dict[str, type[L1L2]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}
"""Every regularizer by its name."""


def check(regularizer: object, owner: str, argument: str) -> L1L2 | None:
    """A regularizer, or one made of its name with the arguments' defaults, or None."""
    if regularizer is None:
        return None
    return checks.named(regularizer, REGULARIZERS, L1L2, f"{owner}: {argument}")
