"""Functions of NumPy's that formulas may call, and that Numba's CUDA target lacks.

Formulas of the user's own name them so, see `vocabulary`.
"""

from __future__ import annotations

import math

import numpy as np
from numba.cuda.extending import overload

from fastnn.kernels.formula import like

LACKING = {
    np.sqrt: math.sqrt,
    np.floor: math.floor,
    np.ceil: math.ceil,
    np.copysign: math.copysign,
    np.power: math.pow,
}
"""What stands for each, of the same arguments."""


def _let_kernels_call(function, meaning):
    """Let kernels call `function` for what `meaning` computes, in the type of its argument."""
    if function.nin == 1:
        overload(function)(lambda x: lambda x: like(x, meaning(x)))
    else:
        overload(function)(lambda x, y: lambda x, y: like(x, meaning(x, y)))


for _function, _meaning in LACKING.items():
    _let_kernels_call(_function, _meaning)
