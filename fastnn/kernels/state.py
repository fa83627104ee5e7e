"""The step-varying scalars that every op can read: one small array of 64-bit slots.

Integers and floats share the array: a slot named in ``FLOATS`` is read through a float64 view of
the same memory. Each thread of a team has a private copy, so that all of them advance alike
without sharing a cache line; what they do share is the block that ``SHARED`` points to.
"""

from __future__ import annotations

SLOTS = 64
"""Length of a state array."""

STEP = 0
"""Training steps done since the model was built: Adam's t − 1, and dropout's counter."""
FIRST = 1
"""Position in the epoch's order of this batch's first row."""
ROWS = 2
"""Rows in this batch: the batch size, or less in an epoch's last batch."""
BATCH = 3
"""The batch size."""
TOTAL = 4
"""Rows in the epoch."""
POSITION = 5
"""The next op of the step, so that a step can be left and taken up again."""
BUDGET = 6
"""Work, in the unit of the ops' costs, after which the executor returns to Python; what is left."""
SEED = 7
"""The 64-bit key of the counter-based random numbers."""
SHARED = 8
"""Address of the block that the threads of a team share (see below)."""
WORKSPACE = 9
"""Address of this thread's scratch memory, ``WORKSPACE_BYTES`` long."""
STATUS = 10
"""Why the executor returned: one of the three below."""
PIECE = 11
"""The next piece of the op at POSITION: a long op is done in pieces, so that it can be left."""
BLOCK_BYTES = 12
"""Bytes of the blocks that a matrix product cuts its second factor into: of what stays in the L2
cache, ``MOST_BLOCK_BYTES`` at most."""

FLOATS = 32
"""From this slot on, slots hold float64."""
LEARNING_RATE = 32
PENALTY_SCALE = 33
"""What the penalties of weights are multiplied by in this step: 1, unless a program sets it."""
LOSS_SUM = 34
"""Sum of the rows' losses since the epoch began, penalties apart."""
PENALTY_SUM = 35
"""Sum of the penalties of weights and outputs since then, for each row again."""
UPDATE_RATE = 36
"""The learning rate with what the optimizer makes of it in this step."""
UPDATE_CORRECTION = 37
"""Another factor of the optimizer's that is the same for all elements in one step."""
UPDATE_GRADIENT_RATE = 38
"""The rate of the gradient itself, in updates that follow its mean and, at another rate, it."""
UPDATE_SECOND_CORRECTION = 39
"""The same for another of the optimizer's means."""
METRIC_SUMS = 40
"""From this slot on, sums of the metrics."""
MAX_METRICS = SLOTS - METRIC_SUMS

FINISHED, PAUSED, DIVERGED = 0, 1, 2
"""Values of STATUS."""

SHARED_ARRIVED = 0
"""Slot of the shared block: threads that wait at the barrier."""
SHARED_GENERATION = 8
"""Slot of the shared block: barriers passed (on a cache line of its own)."""
SHARED_WAITING = 28
"""Slot of the shared block: blocks of a GPU's that wait for the rest of their grid."""
SHARED_FLAG = 16
"""Slot of the shared block: 1 + the position of the op that met a value that is not finite."""
SHARED_CHECK = 17
"""Slot of the shared block: not 0 while a thread computes a gradient only to look at it."""
SHARED_LATE_FLAG = 18
"""Slot of the shared block: SHARED_FLAG of an op of the update, which a GPU keeps apart."""
SHARED_YIELD = 24
"""Slot of the shared block: address of the system's function that gives the core away."""
SHARED_SLOTS = 32

MOST_BLOCK_BYTES = 1 << 19
WORKSPACE_BYTES = MOST_BLOCK_BYTES + (3 << 16)
"""Scratch memory of one thread, for a matrix product's packed block and a row of its tiles."""

CODE_WIDTH = 24
"""Words of a program's row: five that say how to run the op, then its operands."""
CODE_ADDRESS, CODE_COST, CODE_PIECES, CODE_PHASE, CODE_NEXT, CODE_OPERANDS = range(6)
"""Where these stand in a row. NEXT is the address of another row, in a chain of finishes, or 0."""

GRADIENT, CHECK, COMMIT = 0, 1, 2
"""Values of PHASE: forward and backward; the gradients' check and what
comes between it and the update; the update, which is done whole."""
