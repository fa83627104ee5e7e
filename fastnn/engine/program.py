"""A program: a list of ops over one arena, made once, run many times without Python."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine import arena, fusion
from fastnn.engine.compiler import Key, address
from fastnn.engine.operands import Call
from fastnn.engine.tape import Saved
from fastnn.kernels import state as s
from fastnn.kernels.signatures import ITEM_BYTES

if TYPE_CHECKING:
    import numpy.typing as npt

PIECE_COST = 5_000_000
"""An op estimated to take longer than this, in nanoseconds, is done in pieces."""


class Buffer:
    """Rows of a batch, or an array that is bound when the program is linked.

    Parameters
    ----------
    name : str or None
        For an array from outside, what it is bound by; None for one in the arena.
    shape : tuple
        Its first length is None where it counts the batch's rows.
    dtype : str
        Element type.
    """

    def __init__(self, name: str | None, shape: tuple[int | None, ...], dtype: str) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self.root = self

    def view(self, shape: tuple[int | None, ...]) -> Buffer:
        """The same memory seen as another shape."""
        view = Buffer(self.name, shape, self.dtype)
        view.root = self.root
        return view

    def size(self, rows: int) -> int:
        """Bytes that it takes where a batch has `rows` rows."""
        lengths = (rows if n is None else n for n in self.shape)
        return math.prod(lengths) * ITEM_BYTES[self.dtype]


class Program(Saved):
    """A tape that notes ops down, plans one arena for their buffers and links them.

    Parameters
    ----------
    rows : int
        The most rows that a batch has.
    dtype : str
        Element type of buffers for which none is named.
    training : bool
        Whether layers behave as in training.

    Attributes
    ----------
    calls : list of Call
        The ops.
    """

    def __init__(self, rows: int, dtype: str, training: bool = False) -> None:
        super().__init__()
        self.rows, self.dtype, self.training = rows, dtype, training
        self.calls: list[Call] = []
        self._committed: list[Call] = []
        self._apart = False
        self._plan: tuple[dict[int, int], int] | None = None

    def new(self, shape: tuple[int, ...], dtype: str | None = None) -> Buffer:
        """A buffer of the batch's rows, each of `shape`."""
        return Buffer(None, (None, *shape), dtype or self.dtype)

    def external(self, name: str, shape: tuple[int | None, ...], dtype: str) -> Buffer:
        """An array from outside, bound to `name` when the program is linked."""
        return Buffer(name, shape, dtype)

    def reshape(self, array: Buffer, shape: tuple[int, ...]) -> Buffer:
        """The same rows, each seen as `shape`."""
        return array.view((None, *shape))

    def op(self, name: str, **operands: Any) -> None:
        """Note down the op called `name` over buffers, and arrays that outlive the program."""
        self.calls.append(Call(name, operands))

    def commit(self, name: str, **operands: Any) -> None:
        """Note down an op of the update, to come after all others.

        It is never done in pieces: wherever a run is left, parameters are those of whole steps.
        """
        self._committed.append(Call(name, operands))
        self._committed[-1].commit()

    def update(self) -> None:
        """The end of a training step: the ops of the update."""
        self.calls += self._committed
        self._committed = []

    def check(self, name: str, **operands: Any) -> None:
        """Note down an op that looks at all gradients, or clips them, before the update."""
        self.op(name, **operands)
        self.calls[-1].phase = s.CHECK

    def fuse(self, team: bool = False) -> None:
        """Put together ops that can be done in one, on one thread or by a `team`."""
        self.calls = fusion.fuse(self.calls, self.rows, team)
        self._plan = None

    def fuse_activations(self) -> None:
        """Leave activations to the products that they follow: all that a GPU's take on."""
        self.calls = fusion.fuse_activations(self.calls)
        self._plan = None

    def keep_apart(self) -> None:
        """Let no buffer take the room of another: ops that share none may then be done at once."""
        self._apart, self._plan = True, None

    @property
    def stopped(self) -> bool:
        """A program being made has met no values yet; its executor looks out for them."""
        return False

    @property
    def needs(self) -> list[Key]:
        """The compiled functions that it calls, each once, in order of first use."""
        return list(dict.fromkeys(key for call in self.calls for key in call.needs))

    def plan(self) -> tuple[dict[int, int], int]:
        """Where each of the arena's buffers begins, by the id of its root, and the arena's size."""
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> tuple[dict[int, int], int]:
        lives: dict[int, arena.Life] = {}
        for position, call in enumerate(self.calls):
            for buffer in call.buffers:
                if buffer.name is None:
                    root = buffer.root
                    life = lives.setdefault(
                        id(root), arena.Life(root.size(self.rows), position, position)
                    )
                    life.last = position
        shares = self._in_place(lives)
        if self._apart:
            for life in lives.values():
                life.first, life.last = 0, len(self.calls)
        owners = [key for key in lives if key not in shares]
        offsets, size = arena.plan([lives[key] for key in owners])
        places = dict(zip(owners, offsets, strict=True))
        for key in shares:
            owner = key
            while owner in shares:
                owner = shares[owner]
            places[key] = places[owner]
        return places, size

    def _in_place(self, lives: dict[int, arena.Life]) -> dict[int, int]:
        """Outputs that take over the room of an input which nobody needs any more."""
        shares: dict[int, int] = {}
        owner_of: dict[int, int] = {}
        for position, call in enumerate(self.calls):
            if call.signature.in_place is None:
                continue
            output, source = (call.arrays[name] for name in call.signature.in_place)
            if not isinstance(output, Buffer) or not isinstance(source, Buffer):
                continue
            if output.name is not None or source.name is not None or output.root is source.root:
                continue
            new, old = id(output.root), id(source.root)
            readers = [v for v in call.arrays.values() if isinstance(v, Buffer)]
            if sum(id(reader.root) == old for reader in readers) > 1:
                continue  # read in another place, too, by the same op
            dies = lives[old].last == position and lives[new].first == position
            if dies and lives[new].size == lives[old].size:
                owner = owner_of.get(old, old)
                shares[new] = owner_of[new] = owner
                # The shared room lives until its last tenant's end.
                lives[owner].last = max(lives[owner].last, lives[new].last)
        return shares

    @property
    def arena_bytes(self) -> int:
        """Size of the arena: activations, deltas and other rows of a batch."""
        return self.plan()[1]

    def cost(self) -> int:
        """A rough estimate of a step's work, in nanoseconds of one core."""
        return sum(call.cost(self.rows) for call in self.calls)

    def link(
        self, memory: npt.NDArray[np.uint8], externals: dict[str, npt.NDArray[Any] | None]
    ) -> npt.NDArray[np.int64]:
        """The program as the executor reads it: a row of integers an op, all addresses final.

        It is the beginning of an array, its base, whose other rows are those of finishes and
        supplies.

        `memory` is the arena, at least `arena_bytes` long; `externals` binds the outside's names,
        None to leave an optional operand out. Both must outlive the result's use.
        """
        places, _ = self.plan()
        base = memory.ctypes.data

        def address_of(value: Any) -> int:
            if isinstance(value, Buffer):
                if value.name is not None:
                    array = externals[value.name]
                    return 0 if array is None else array.ctypes.data
                return base + places[id(value.root)]
            data: int = value.ctypes.data
            return data

        finishes = [(call, finish) for call in self.calls for finish in call.finish]
        supplies = [(call, call.supply) for call in self.calls if call.supply is not None]
        # The rows of both stand after the ops', out of the executor's sight.
        count = len(self.calls) + len(finishes) + len(supplies)
        rows = np.zeros((count, s.CODE_WIDTH), np.int64)
        at = len(rows)

        def put(call: Call, key: Key, following: int) -> int:
            """Write the row of a call that another makes; its address."""
            nonlocal at
            at -= 1
            words = call.integers(address_of, address, rows=self.rows)
            rows[at, s.CODE_ADDRESS], rows[at, s.CODE_PHASE] = address(key), call.phase
            rows[at, s.CODE_NEXT] = following
            rows[at, s.CODE_OPERANDS : s.CODE_OPERANDS + len(words)] = words
            return int(rows[at].ctypes.data)

        chains: dict[int, int] = {}
        for call, finish in reversed(finishes):
            chains[id(call)] = put(finish, finish.finish_key, chains.get(id(call), 0))
        supply_of = {id(call): put(supply, supply.supply_key, 0) for call, supply in supplies}
        code = rows[: len(self.calls)]
        for row, call in zip(code, self.calls, strict=True):
            cost = call.cost(self.rows)
            pieces = 1 if call.in_one_piece else -(-cost // PIECE_COST)
            own = chains.get(id(call), 0), self.rows, supply_of.get(id(call), 0)
            words = call.integers(address_of, address, *own)
            row[s.CODE_ADDRESS] = address(call.key)
            row[s.CODE_COST] = cost // pieces
            row[s.CODE_PIECES] = pieces
            row[s.CODE_PHASE] = call.phase
            row[s.CODE_OPERANDS : s.CODE_OPERANDS + len(words)] = words
        return code
