"""The end of a step on a GPU, in the simulator."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

from fastnn.engine import cpu
from fastnn.engine.cuda.device import Launched
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels import state as s
from fastnn.kernels.cuda.launch import Launch
from fastnn.kernels.cuda.slots import FLAG, LATE_FLAG, STATE_SLOTS
from kernel_cases import Array

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

BATCH, TOTAL, BEFORE = 4, 10, 17


def first_state(**slots: int) -> Array:
    """The state at the beginning of an epoch, after some steps, but for `slots`."""
    state = np.append(cpu.new_state(), np.zeros(STATE_SLOTS - s.SLOTS, np.int64))
    state[s.STEP], state[s.BATCH], state[s.TOTAL], state[s.ROWS] = BEFORE, BATCH, TOTAL, BATCH
    state[s.STATUS] = s.PAUSED
    for name, value in slots.items():
        state[getattr(s, name)] = value
    return state


def after(state: Array, steps: int) -> Array:
    """The state after so many ends of steps."""
    device, result = SimulatedDevice(), state.copy()
    memory = device.allocate(state.nbytes)
    device.write(memory.address, state)
    end = Launched(("next_step",), Launch((1, 1), 1), [memory.address])
    device.prepare([end]).run(steps)
    device.read(memory.address, result)
    return result


@pytest.mark.parametrize(
    ("steps", "first", "rows", "status"),
    [
        (1, 4, 4, s.PAUSED),
        (2, 8, 2, s.PAUSED),
        (3, 10, 0, s.FINISHED),
    ],
)
def test_steps_go_through_the_rows(steps: int, first: int, rows: int, status: int) -> None:
    expected = first_state(STEP=BEFORE + steps, FIRST=first, ROWS=rows, STATUS=status)
    np.testing.assert_array_equal(after(first_state(), steps), expected)


def test_nothing_is_counted_after_the_last_row() -> None:
    finished = after(first_state(), 3)
    np.testing.assert_array_equal(after(finished, 2), finished)


@pytest.mark.parametrize("flag", [FLAG, LATE_FLAG])
def test_step_that_raised_a_flag_is_not_counted_and_is_the_last(flag: int) -> None:
    state = first_state()
    state[flag] = 5
    expected = state.copy()
    expected[s.STATUS], expected[s.ROWS] = s.DIVERGED, 0
    np.testing.assert_array_equal(after(state, 2), expected)
