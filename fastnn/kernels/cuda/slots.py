"""Where things lie in the state on the device: one piece of memory, in words of 64 bits.

The state's slots are followed by those of the shared block, and these by partial sums.
"""

from __future__ import annotations

from fastnn.kernels import state as s

FLAG = s.SLOTS + s.SHARED_FLAG
"""1 + the position of an op before the update that met a value that is not finite: no later op of
the step then runs."""

LATE_FLAG = s.SLOTS + s.SHARED_LATE_FLAG
"""The same of an op of the update, which is done whole."""

WAITING = s.SLOTS + s.SHARED_WAITING
"""Blocks that wait for the rest of a grid; 0 between meetings."""

GENERATION = s.SLOTS + s.SHARED_GENERATION
"""The word by which blocks that wait are told to go on, see `cooperative.meeting`."""

ARRIVED = s.SLOTS + s.SHARED_ARRIVED
"""Blocks of the kernel that runs which have laid down their partial sums; 0 between kernels."""

PARTIALS = s.SLOTS + s.SHARED_SLOTS
"""From this slot on, partial sums of the kernel that runs, float64."""

MOST_PARTIALS = 1024

STATE_SLOTS = PARTIALS + MOST_PARTIALS
"""Length of the state on the device."""
