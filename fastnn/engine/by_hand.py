"""Single ops called by hand on NumPy arrays, with as little around them as can be.

To check an op's operands and to lay them out takes longer than the op itself on small arrays. Here
that is done once for arrays of the same shapes: a later call fills in their addresses alone.
"""

from __future__ import annotations

import ctypes
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine import cpu
from fastnn.engine.compiler import address
from fastnn.engine.operands import Call
from fastnn.kernels import state as s

if TYPE_CHECKING:
    import numpy.typing as npt

KEPT_OPS = 1024
"""Ops laid out that a thread keeps; then it begins anew."""

ROOM_ITEMS = 1 << 17
"""Numbers that a thread keeps room for in one place; larger arrays are made anew."""


class _Op:
    """An op laid out for arrays of certain shapes."""

    __slots__ = ("_words", "call", "places", "rows", "words")

    def __init__(self, name: str, operands: dict[str, Any], state: Any) -> None:
        call = Call(name, operands)
        self._words = np.array(call.integers(lambda array: 0, address), np.int64)
        self.words = self._words.data
        self.rows = call.lengths.get("N") or 0
        begin = len(call.signature.dimensions)
        places = ((at, name) for at, name in enumerate(call.arrays, begin))
        self.places = [(at, name) for at, name in places if operands.get(name) is not None]
        self.call = cpu.prepared_op(address(call.key), self._words, state)


def _address(array: Any) -> int:
    """Where an array begins: in a third of the time that ``array.ctypes.data`` takes."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except TypeError:  # it cannot be written to
        begin: int = array.ctypes.data
        return begin


class ByHand(threading.local):
    """A thread's ops, and the memory and the state that they run on.

    Attributes
    ----------
    slots, numbers : memoryview
        The state that ops read, as integers and as floats: see ``kernels/state.py``.
    """

    def __init__(self) -> None:
        self._state, self._scratch = cpu.new_state(), cpu.Scratch(1)
        self._scratch.lend(self._state)
        self.slots, self.numbers = self._state.data, cpu.floats(self._state).data
        self._ops: dict[tuple[Any, ...], _Op] = {}
        self._rooms: dict[str, npt.NDArray[np.float64]] = {}

    def op(self, name: str, **operands: Any) -> None:
        """Run the op called `name` on C-contiguous, aligned arrays, on one thread."""
        key: list[Any] = [name]
        for value in operands.values():
            if type(value) is np.ndarray:
                key += (value.shape, value.dtype)
            else:
                key.append(value)
        known = tuple(key)
        op = self._ops.get(known)
        if op is None:
            if len(self._ops) >= KEPT_OPS:
                self._ops.clear()
            op = self._ops[known] = _Op(name, operands, self._state)
        words = op.words
        for at, operand in op.places:
            words[at] = _address(operands[operand])
        self.slots[s.ROWS] = op.rows
        cpu.check_status(op.call())

    def commit(self, name: str, **operands: Any) -> None:
        """Run an op of an update; `stopped` then tells of it."""
        self._scratch.clear()
        self.op(name, **operands)

    def room(self, place: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """An array for what lasts until the next one is asked for in the same `place`.

        The system gives fresh memory page by page, which takes longer than to fill it.
        """
        count = math.prod(shape)
        if count > ROOM_ITEMS:
            return np.empty(shape)
        if place not in self._rooms:
            self._rooms[place] = np.empty(ROOM_ITEMS)
        return self._rooms[place][:count].reshape(shape)

    @property
    def stopped(self) -> bool:
        """Whether the last update met a value that is not finite."""
        return self._scratch.flag != 0


by_hand = ByHand()
