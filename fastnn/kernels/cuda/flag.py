"""How an op tells the executor that it met a value that is not finite.

The state's slots are followed by those of the shared block, in one piece of device memory. All ops
of a step are launched whatever the ones before have met: each first looks whether it is to run.
"""

from __future__ import annotations

from fastnn.kernels import state as s
from fastnn.kernels.cuda.target import device

FLAG = s.SLOTS + s.SHARED_FLAG
"""1 + the position of an op before the update that met such a value: no later op then runs."""

LATE_FLAG = s.SLOTS + s.SHARED_LATE_FLAG
"""The same of an op of the update, which is done whole."""


@device
def raise_flag(state, phase, position):
    """Tell the executor, after this op or the whole update, that a value was not finite."""
    if phase == s.COMMIT:
        state[LATE_FLAG] = position + 1
    else:
        state[FLAG] = position + 1
