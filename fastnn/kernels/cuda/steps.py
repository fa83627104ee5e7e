"""The end of a step on the device."""

from __future__ import annotations

from typing import Any

from fastnn.kernels import state as s
from fastnn.kernels.cuda.memory import view
from fastnn.kernels.cuda.slots import FLAG, LATE_FLAG, STATE_SLOTS


def entry_of_step() -> tuple[Any, int]:
    """The entry that ends a step and counts it, and the number of integers that it takes."""
    integers = view("int64", 1)

    def next_step(state_at):
        state = integers(state_at, (STATE_SLOTS,))
        if state[FLAG] != 0 or state[LATE_FLAG] != 0:
            state[s.STATUS] = s.DIVERGED
            return
        state[s.STEP] += 1
        state[s.FIRST] += state[s.ROWS]
        state[s.ROWS] = max(0, min(state[s.BATCH], state[s.TOTAL] - state[s.FIRST]))
        state[s.STATUS] = s.FINISHED if state[s.ROWS] == 0 else s.PAUSED

    return next_step, 1
