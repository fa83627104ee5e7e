"""Activations, losses, optimizers and layers of your own, each one decorated function of numbers.

The function is translated as it is decorated, see ``fastnn/kernels/translation.py``, with all that
it uses as it is then; its derivative is found (``derivation.py``); both are compiled when first
needed, and run inside the compiled loop, fused and as fast as fastnn's own.

It may assign names, choose by ``if``, and return. It calculates by ``+ - * / **``, compares, and
calls ``exp``, ``log``, ``tanh``, ``sqrt``, ``sin`` and the like of `math`, NumPy or `fastnn.math`,
``abs``, ``min`` and ``max`` (which keep NaN), ``np.where``, ``np.clip``, and functions of your own
of the same kind. Anything else is refused, with the line. What it has from outside, numbers and
functions, it keeps as they are then.

Functions need a source that can be read: a file, a notebook, not ``exec``.
"""

from fastnn.custom.activations import OwnActivation, activation
from fastnn.custom.layers import OwnLayer, layer
from fastnn.custom.losses import OwnLoss, loss
from fastnn.custom.optimizers import OwnOptimizer, optimizer

__all__ = [
    "OwnActivation",
    "OwnLayer",
    "OwnLoss",
    "OwnOptimizer",
    "activation",
    "layer",
    "loss",
    "optimizer",
]
