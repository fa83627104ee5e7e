"""How an op tells the executor that it met a value that is not finite."""

from __future__ import annotations

from fastnn.kernels import state as slot_of
from fastnn.kernels.cpu.memory import view
from fastnn.kernels.cpu.settings import inlined

_integers = view("int64", 1)


@inlined
def raise_flag(state):
    """Tell the executor, after this op, that a value was not finite."""
    shared = _integers(state[slot_of.SHARED], (slot_of.SHARED_SLOTS,))
    shared[slot_of.SHARED_FLAG] = state[slot_of.POSITION] + 1
