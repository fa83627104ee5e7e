"""Functions for formulas of your own, see `fastnn.activation`: vectorised, as in fastnn's own.

``math.exp`` and ``np.exp`` in a formula are these, too; only `sigmoid` is in neither. Outside of
formulas they take float32 or float64 scalars.
"""

from fastnn.kernels.transcendental import exp, expm1, log, log1p, sigmoid, tanh

__all__ = ["exp", "expm1", "log", "log1p", "sigmoid", "tanh"]
