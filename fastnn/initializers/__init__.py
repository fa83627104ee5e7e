"""How weights begin: each initializer draws an array of a given shape.

They are named and take their arguments as in Keras, but no seed: what they draw follows from the
model's seed and the layer's place. The names ``"glorot_normal"``, ``"he_normal"`` and
``"lecun_normal"`` stand for the normal distribution of the papers; Keras's cut it off at two
deviations, for which there is ``VarianceScaling(distribution="truncated_normal")``.

For other activations than those of the papers, `gain` says how much wider weights have to begin.
"""

from __future__ import annotations

import numpy as np

from fastnn import checks
from fastnn.initializers.base import Array, Initializer, generator
from fastnn.initializers.distributions import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)
from fastnn.initializers.gains import gain
from fastnn.initializers.matrices import Constant, Identity, Ones, Orthogonal, Zeros

__all__ = [
    "INITIALIZERS",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "check",
    "draw",
    "gain",
    "generator",
]

INITIALIZERS: dict[str, Initializer] = {
    "zeros": Zeros(),
    "ones": Ones(),
    "constant": Constant(),
    "random_normal": RandomNormal(),
    "random_uniform": RandomUniform(),
    "truncated_normal": TruncatedNormal(),
    "variance_scaling": VarianceScaling(),
    "glorot_uniform": GlorotUniform(),
    "glorot_normal": GlorotNormal(),
    "he_uniform": HeUniform(),
    "he_normal": HeNormal(),
    "lecun_uniform": LecunUniform(),
    "lecun_normal": LecunNormal(),
    "orthogonal": Orthogonal(),
    "identity": Identity(),
}
"""Every initializer by its name, with its defaults."""


def check(initializer: object, owner: str, argument: str) -> str | Initializer:
    """A name out of `INITIALIZERS`, or a function ``(shape, generator) -> array``.

    Raises
    ------
    ValueError, TypeError
        If it is neither.
    """
    if isinstance(initializer, str):
        if initializer not in INITIALIZERS:
            names = ", ".join(INITIALIZERS)
            raise ValueError(f"{owner}: {argument} must be one of {names}, got {initializer!r}")
        return initializer
    if callable(initializer) and not isinstance(initializer, type):
        return initializer
    raise TypeError(
        f"{owner}: {argument} must be a name, an initializer or a function, got {initializer!r}"
    )


def draw(
    initializer: str | Initializer,
    shape: tuple[int, ...],
    generator: np.random.Generator,
    dtype: str = "float64",
) -> Array:
    """An array of `shape`, float64, of numbers that `dtype` can hold.

    Raises
    ------
    ValueError
        If a function of the user's returns another shape, or no such numbers.
    """
    function = INITIALIZERS[initializer] if isinstance(initializer, str) else initializer
    drawn = np.asarray(function(shape, generator))
    if drawn.shape != shape:
        raise ValueError(f"an initializer returned shape {drawn.shape} where {shape} is needed")
    if drawn.dtype.kind not in "buif":
        raise ValueError(f"an initializer must return numbers, got {drawn.dtype} {drawn}")
    checks.finite(drawn.reshape(-1), "an initializer's numbers", dtype)
    return drawn
