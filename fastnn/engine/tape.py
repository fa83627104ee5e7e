"""What layers speak to: they name ops and buffers, and a tape does with them what it is for.

A `Program` writes them down to be run many times without Python; an `Eager` tape runs each at
once on NumPy arrays. A layer says once which ops it becomes, so both compute the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastnn.engine import cpu
from fastnn.engine.compiler import address
from fastnn.engine.operands import Call
from fastnn.kernels import state as s

if TYPE_CHECKING:
    import numpy.typing as npt


class Tape(Protocol):
    """The common tongue of programs and eager execution."""

    training: bool
    """Whether layers behave as in training: dropout drops."""

    def new(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        """A fresh array of the batch's rows, each of `shape`."""

    def reshape(self, array: Any, shape: tuple[int, ...]) -> Any:
        """The same rows, each seen as `shape`."""

    def op(self, name: str, **operands: Any) -> None:
        """Run the op called `name`, or note it down."""

    def check(self, name: str, **operands: Any) -> None:
        """An op that looks at all gradients, or clips them, before the update."""

    def commit(self, name: str, **operands: Any) -> None:
        """An op of the update, which is done whole and after all others, see `update`."""

    def update(self) -> None:
        """The end of a training step: now what `commit` was given is done."""

    @property
    def stopped(self) -> bool:
        """Whether an op has met a value that is not finite, so that nothing may be updated."""

    def save(self, owner: object, *values: Any) -> None:
        """Keep what `owner` will need on the way back."""

    def saved(self, owner: object) -> tuple[Any, ...]:
        """What `owner` kept."""


class Saved:
    """What layers keep on the way forward for the way back."""

    def __init__(self) -> None:
        self._saved: dict[int, tuple[Any, ...]] = {}

    def save(self, owner: object, *values: Any) -> None:
        """Keep what `owner` will need on the way back."""
        self._saved[id(owner)] = values

    def saved(self, owner: object) -> tuple[Any, ...]:
        """What `owner` kept.

        Raises
        ------
        RuntimeError
            If it kept nothing: `backward` was called before `forward`.
        """
        if id(owner) not in self._saved:
            raise RuntimeError(
                f"{type(owner).__name__}: call forward(x, training=True) before backward"
            )
        return self._saved[id(owner)]


class Eager(Saved):
    """A tape that runs every op at once, on one thread, on arrays of `rows` rows.

    `state` holds seed, step and learning rate; what ops add up is added up in it.
    """

    def __init__(
        self, rows: int, dtype: str, state: npt.NDArray[np.int64], training: bool = False
    ) -> None:
        super().__init__()
        self.rows, self.dtype, self.state, self.training = rows, dtype, state, training
        self._committed: list[Call] = []

    def new(self, shape: tuple[int, ...], dtype: str | None = None) -> npt.NDArray[Any]:
        """A fresh array of the batch's rows, each of `shape`."""
        return np.empty((self.rows, *shape), dtype or self.dtype)

    def reshape(self, array: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The same rows, each seen as `shape`."""
        return array.reshape(len(array), *shape)

    @property
    def stopped(self) -> bool:
        """Whether an op has met a value that is not finite."""
        return bool(self.state[s.STATUS] == s.DIVERGED)

    def op(self, name: str, **operands: Any) -> None:
        """Run the op called `name` on C-contiguous arrays."""
        self._run(self._checked(name, operands))

    def _run(self, call: Call) -> None:
        words = call.integers(lambda array: array.ctypes.data, address)
        with cpu.workspace() as scratch:
            self.state[s.ROWS] = self.rows
            scratch.clear()
            scratch.lend(self.state)
            cpu.call_op(address(call.key), np.array(words, np.int64), self.state)
            if scratch.flag:
                self.state[s.STATUS] = s.DIVERGED

    def check(self, name: str, **operands: Any) -> None:
        """Run an op that looks at gradients, or clips them."""
        self.op(name, **operands)

    def commit(self, name: str, **operands: Any) -> None:
        """Keep an op of the update."""
        self._committed.append(self._checked(name, operands))

    def flush(self) -> None:
        """Run what `commit` has kept: for a layer by itself, to which there comes no update."""
        calls, self._committed = self._committed, []
        for call in [] if self.stopped else calls:
            self._run(call)

    def _checked(self, name: str, operands: dict[str, Any]) -> Call:
        """The call, if its arrays have as many rows as the tape."""
        call = Call(name, operands)
        rows = call.lengths.get("N")
        if rows is not None and rows != self.rows:
            raise ValueError(f"{name}: the arrays have {rows} rows, the tape {self.rows}")
        return call

    def update(self) -> None:
        """Run the ops of the update, and count the step.

        All in one call that nothing interrupts. Once an op has met a value that is not finite,
        nothing is updated.
        """
        calls, self._committed = self._committed, []
        if self.stopped:
            return
        code = np.zeros((len(calls), s.CODE_WIDTH), np.int64)
        code[:, [s.CODE_COST, s.CODE_PIECES]] = 1  # one step spends the budget
        code[:, s.CODE_PHASE] = s.COMMIT
        for row, call in zip(code, calls, strict=True):
            words = call.integers(lambda array: array.ctypes.data, address)
            row[s.CODE_ADDRESS] = address(call.key)
            row[s.CODE_OPERANDS : s.CODE_OPERANDS + len(words)] = words
        with cpu.workspace() as scratch:
            self.state[[s.BUDGET, s.POSITION, s.PIECE]] = len(calls), 0, 0
            scratch.clear()
            scratch.lend(self.state)
            cpu.call_program(code, self.state)
