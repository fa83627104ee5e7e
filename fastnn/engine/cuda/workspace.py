"""Memory in which the blocks of a kernel lay down partial results for each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastnn.engine.cuda.device import Device, Launched, Memory, Work
from fastnn.kernels.cuda.slots import STATE_SLOTS, WORKSPACE


def workspace_bytes(launches: Sequence[Work]) -> int:
    """What the launch among these that takes most of it takes: they run one after the other."""
    return max((one.launch.workspace for one in launches if isinstance(one, Launched)), default=0)


def workspace_for(device: Device, state: int, size: int) -> Memory:
    """So much of it, which the state at an address is told of, with no block counted in it."""
    memory = device.allocate(max(size, 1))
    told = np.zeros(STATE_SLOTS - WORKSPACE, np.int64)
    told[0] = memory.address
    device.write(state + 8 * WORKSPACE, told)
    return memory
