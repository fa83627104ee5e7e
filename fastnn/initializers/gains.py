"""How wide weights begin before an activation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import activations
from fastnn.kernels.activations import ELEMENTWISE


def gain(activation: str, **parameters: Any) -> float:
    """How much wider weights before an activation begin than those of a linear layer.

    He et al. 2015 (arXiv 1502.01852, equation 10) ask that the variance of what goes into the
    activations is the same in every layer: ``n · Var(w) · E[f(z)²] = Var(z)``, n inputs a unit. For
    z of the standard normal distribution that is ``Var(w) = gain² / n``, with
    ``gain = E[f(z)²]^(−1/2)``: √2 for relu, √(2/(1 + a²)) for leaky_relu, 1 for selu. Those of the
    bionodal root units are made by the same rule; oru with r below 1 grows faster than its input,
    and no start keeps the variance there for long. The mean is computed by quadrature.

    Parameters
    ----------
    activation : str
        The name of an elementwise activation.
    **parameters
        Its own: ``r`` of eru and oru (2.0), and so on; see ``fastnn.Activation``.

    Returns
    -------
    float

    Examples
    --------
    >>> import fastnn
    >>> round(fastnn.initializers.gain("relu") ** 2, 12)
    2.0
    """
    name = activations.check(activation, "gain")
    own = activations.check_parameters(name, parameters, "gain")
    if name == "linear":
        return 1.0
    if not activations.is_elementwise(name):
        raise ValueError(f"gain: activation must be elementwise, got {activation!r}")
    line = ELEMENTWISE[name]
    if line.approximate is not None and own.pop("approximate"):
        line = ELEMENTWISE[line.approximate]
    arguments = [np.float64(value) for value in own.values()]
    # In pieces of length 1, for at whole numbers an activation may bend; beyond 16 the density is
    # below 1e-56.
    nodes, weights = np.polynomial.legendre.leggauss(20)
    z = (np.arange(-16, 16)[:, None] + 0.5 * (nodes + 1.0)).reshape(-1)
    density = np.tile(0.5 * weights, 32) * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    y = np.array([line.formula(each, *arguments) for each in z])
    return 1.0 / math.sqrt(float(density @ (y * y)))
