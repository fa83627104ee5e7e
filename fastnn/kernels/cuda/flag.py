"""How an op tells the executor that it met a value that is not finite.

All ops of a step are launched whatever the ones before have met: each first looks whether it is to
run.
"""

from __future__ import annotations

from fastnn.kernels import state as s
from fastnn.kernels.cuda.slots import FLAG, LATE_FLAG
from fastnn.kernels.cuda.target import device


@device
def raise_flag(state, phase, position):
    """Tell the executor, after this op or the whole update, that a value was not finite."""
    if phase == s.COMMIT:
        state[LATE_FLAG] = position + 1
    else:
        state[FLAG] = position + 1
