"""The end of a step on the device."""

from __future__ import annotations

from typing import Any

from fastnn.kernels import state as s
from fastnn.kernels.cuda.memory import view
from fastnn.kernels.cuda.slots import FLAG, LATE_FLAG, STATE_SLOTS


def entry_of_step() -> tuple[Any, int]:
    """The entry that ends a step and counts it, and the number of integers that it takes.

    It finds the next batch's rows: none after a flag, so that no step that was begun meanwhile does
    anything. Of a step that raised a flag, and of one that had no rows, nothing is counted.
    """
    integers = view("int64", 1)

    def next_step(state_at):
        state = integers(state_at, (STATE_SLOTS,))
        flags = state[FLAG] | state[LATE_FLAG]
        # Without branches, so that no word is read only after another.
        done = state[s.ROWS] * (flags == 0)
        state[s.STEP] += done > 0
        state[s.FIRST] += done
        rows = max(0, min(state[s.BATCH], state[s.TOTAL] - state[s.FIRST]))
        state[s.ROWS] = rows * (flags == 0)
        status = s.FINISHED if rows == 0 else s.PAUSED
        state[s.STATUS] = status if flags == 0 else s.DIVERGED

    return next_step, 1
