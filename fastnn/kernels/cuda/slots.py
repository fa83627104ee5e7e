"""Where things lie in the state on the device: one piece of memory, in words of 64 bits.

The state's slots are followed by those of the shared block, and these by what blocks of a kernel
tell each other.
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

WORKSPACE = PARTIALS + MOST_PARTIALS
"""Address of memory that blocks of the kernel that runs lay down partial results in."""

ARRIVALS = WORKSPACE + 1
"""From this slot on, blocks of some kind that have done so; 0 between kernels."""

MOST_ARRIVALS = 512

STATE_SLOTS = ARRIVALS + MOST_ARRIVALS
"""Length of the state on the device."""
