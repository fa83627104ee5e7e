"""Programs linked once and run over many arrays: to bind one is a few words, not a new link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine import arena, cpu
from fastnn.engine.program import Program

if TYPE_CHECKING:
    import numpy.typing as npt


class Linked:
    """A program linked on an arena of its own, whose outside arrays are bound at each use.

    Parameters
    ----------
    program : Program
    arrays : mapping of str to bool
        The outside arrays' names, and whether each will be bound or, being optional, is left out.

    Attributes
    ----------
    code : ndarray of int64
        The program as the executor reads it.
    scratch : cpu.Scratch
        What one thread needs to run it.
    """

    def __init__(self, program: Program, arrays: Mapping[str, bool]) -> None:
        self._memory = arena.allocate(program.arena_bytes)
        # Arrays that stand in for those to come: while they live, their addresses are nothing
        # else's, so that the words of code which hold them are found by them.
        stand_ins = {
            name: np.empty(1, np.int64) if bound else None for name, bound in arrays.items()
        }
        self.code = program.link(self._memory, stand_ins)
        whole = self.code.base
        assert whole is not None
        self._words = whole.reshape(-1)
        self._places = {
            name: np.flatnonzero(self._words == array.ctypes.data).tolist()
            for name, array in stand_ins.items()
            if array is not None
        }
        for name, places in self._places.items():
            if not places:
                raise SystemError(f"no op of the program reads or writes {name}")
        self.scratch = cpu.Scratch(1)

    def bind(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Let the code run over `arrays`, which must outlive its use."""
        for name in self._places:
            self.bind_one(name, arrays[name].ctypes.data)

    def bind_one(self, name: str, address: int) -> None:
        """Let the code find the array called `name` at an address."""
        for place in self._places[name]:
            self._words[place] = address
