"""Many whole steps of a network in one launch of a grid, all of whose blocks run at once.

What one block has no room or no time for, blocks share: each op goes over its elements, rows or
tiles in strides of the grid, so that its results are the same bits for any number of blocks. Ops
whose arrays have nothing to do with each other are done side by side; before one that reads what
another wrote, all blocks meet. A meeting also settles whether the step goes on: the block that
comes last looks for a flag, when nobody can raise one, and the others hear of it with the word that
lets them go. So no flag is seen by some blocks and missed by others, which would wait for them for
ever.

Predicted, not measured, for a step of 784, 128 and 10 units and 128 rows on an H200:

- 26,000,000 multiply-adds, 64 a cycle by each processor that has a tile: 3,100 cycles where 64 have
  one, and 1,500 where each has three of 392 tiles;
- 17 MB through the L2: 13 of the factors of products, tile by tile, 28 bytes of each of 102,000
  parameters for Adam, the batch's rows: 3 µs at 5.5 TB/s, but as they come behind each other
  1,000 cycles for each of 8 groups of ops;
- 8 meetings, each two round trips to the L2 and a queue of 132 at one word, 1.3 µs: 18,700 cycles.

In all 31,000 cycles, 17 µs at 1.8 GHz, of which the meetings are most.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastnn.kernels import state as s
from fastnn.kernels.cuda.groups import WARP
from fastnn.kernels.cuda.launch import Kernel, Launch, Lengths
from fastnn.kernels.cuda.memory import view
from fastnn.kernels.cuda.metrics import accumulate
from fastnn.kernels.cuda.parts import (
    ACCURACIES,
    LOSSES,
    ONE_THREAD,
    PRODUCTS,
    ROWWISE,
    STEPS,
    Part,
    PartCall,
)
from fastnn.kernels.cuda.product import Tile, blocks_of, shared_size, tile_for
from fastnn.kernels.cuda.ptx import arrive, look, tell
from fastnn.kernels.cuda.rows import THREADS as THREADS_OF_ROWS
from fastnn.kernels.cuda.slots import FLAG, GENERATION, LATE_FLAG, STATE_SLOTS, WAITING
from fastnn.kernels.cuda.steps import entry_of_step
from fastnn.kernels.cuda.target import cuda, device

NAME = "cooperative_steps"
"""What the kernel is called, whatever its ops are."""

MEETING = "|"
"""Stands among the parts of a step where all blocks meet."""

TILES = (
    Tile(64, 64, 16, 4, 4),
    Tile(32, 32, 8, 4, 4, groups=4),
    Tile(16, 16, 8, 4, 4, groups=16),
)
"""Tiles of products, of 256 threads each."""

SMALL_TILES = Tile(16, 16, 8, 4, 4, groups=2), Tile(16, 8, 8, 4, 4, groups=4)
"""Those of a warp, which the simulator can afford."""

FEW = dict.fromkeys(ONE_THREAD, 1) | {"accumulate": WARP} | dict.fromkeys(ROWWISE, THREADS_OF_ROWS)
"""Threads of a block that do an op, where it is not for all of them."""

WRITTEN = {
    "gather": ("out",),
    "dense_forward": ("y",),
    "dense_backward_input": ("dx",),
    "dense_backward_kernel": ("dw", "db"),
    "accumulate": (),
    "guard": (),
    **dict.fromkeys(LOSSES, ("loss", "dz")),
    **dict.fromkeys(ACCURACIES, ("hits",)),
}
"""Arrays that ops write; of others any may be."""


def tiles_of(threads: int) -> tuple[Tile, ...]:
    """The tiles of blocks of so many threads."""
    return TILES if threads == TILES[0].threads else SMALL_TILES


def part_of(
    name: str,
    element_types: tuple[str, ...],
    kernel: Kernel,
    launch: Launch,
    lengths: Lengths,
    grid: tuple[int, int],
) -> tuple[Part, int] | None:
    """An op as part of a step that a grid does, and how many blocks have work then.

    None if it takes more than a `grid`, of so many blocks and threads, or makes them wait.
    """
    if name in PRODUCTS:
        _, wide, *more = launch.constants
        tiles = tiles_of(grid[1])
        rows, columns, depth = (lengths[letter] for letter in PRODUCTS[name])
        place = tile_for(tiles, rows, columns, depth)
        constants = place, wide, more[1] if more else 0
        return Part(name, element_types, constants), blocks_of(tiles[place], rows, columns)
    threads = launch.blocks[0] * launch.threads
    if name in ROWWISE:
        blocks = -(-threads // min(grid[1], THREADS_OF_ROWS))
        return (Part(name, element_types, launch.constants), blocks) if blocks <= grid[0] else None
    if name in ONE_THREAD or name == "accumulate":
        return Part(name, element_types), 1
    if kernel.any_grid:
        return Part(name, element_types, launch.constants), -(-threads // grid[1])
    return None


class Access(NamedTuple):
    """Bytes of memory that an op reads, or may write."""

    begin: int
    end: int
    writes: bool


class Op(NamedTuple):
    """A part of a step, and what decides which others may be done beside it.

    Parameters
    ----------
    part : Part
    accesses : sequence of Access
    scalars : bool
        Whether it reads or writes numbers of the step that other ops write.
    flags : bool
        Whether it may raise a flag.
    update : bool
        Whether it is one of the update: it waits until no flag can be raised any more.
    """

    part: Part
    accesses: Sequence[Access]
    scalars: bool
    flags: bool
    update: bool


def op_of(part: Part, kernel: Kernel, accesses: Sequence[Access], phase: int) -> Op:
    """A part of a step that belongs to a phase of it; what else it touches, its body asks for."""
    wanted: Sequence[str] = ()
    if part.name not in PRODUCTS:
        wanted = list(inspect.signature(kernel.make(*part.constants).py_func).parameters)
    return Op(part, accesses, "floats" in wanted, "position" in wanted, phase == s.COMMIT)


def _in_order(earlier: Op, later: Op) -> bool:
    """Whether an op must come after another."""
    by_flags = earlier.flags and (later.flags or later.update)
    if by_flags or (earlier.scalars and later.scalars):
        return True
    return any(_clash(a, b) for a in earlier.accesses for b in later.accesses)


def _clash(a: Access, b: Access) -> bool:
    return (a.writes or b.writes) and a.begin < b.end and b.begin < a.end


def _by_the_same_threads(earlier: Op, later: Op) -> bool:
    """Whether what an op has to do with another is done by one thread, or within one warp."""
    if earlier.part.name == later.part.name == "accumulate":
        return True
    alike = earlier.part.constants == later.part.constants
    by_rows = {earlier.part.name, later.part.name} <= set(ROWWISE)
    clashes = [(a, b) for a in earlier.accesses for b in later.accesses if _clash(a, b)]
    return alike and by_rows and all(a[:2] == b[:2] for a, b in clashes)


def meetings_before(ops: Sequence[Op]) -> list[int]:
    """How often all blocks meet in a step before each op: as early as it may be done."""
    before: list[int] = []
    for op in ops:
        least = 0
        for earlier, its in zip(ops, before, strict=False):
            if _in_order(earlier, op):
                least = max(least, its + (not _by_the_same_threads(earlier, op)))
        before.append(least)
    return before


def body_of(part: Part, threads: int, kernel: Callable[[Part], Kernel]) -> Any:
    """A part's device function; ``kernel(part)`` is its op's kernel."""
    if part.name in PRODUCTS:
        place, wide, following = part.constants
        in_tiles = kernel(part).in_tiles
        assert in_tiles is not None
        return in_tiles(tiles_of(threads)[place], bool(wide), following)
    if part.name == "accumulate":
        return accumulate(*part.element_types, threads=WARP).make()
    return kernel(part).make(*part.constants)


def meeting() -> Any:
    """The function ``meet(told, state_at, ends_step)`` that all threads of a grid call.

    None of them goes on before all have come; what each then reads, of what another wrote before,
    is what that one wrote. It returns, to all the same, 1 if the step under way is not to go on,
    or after the step's end the next one not to begin, else 0.

    `told` is shared memory of one word, what the block has been told last: the number of meetings
    so far, twice, and in its lowest bit what they returned.
    """
    next_step, integers = device(entry_of_step()[0]), view("int64", 1)

    @device
    def meet(told, state_at, ends_step):
        state = integers(state_at, (STATE_SLOTS,))
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            before = told[0]
            if arrive(state, WAITING) == cuda.gridDim.x - 1:
                # Nobody does anything before this block tells them to.
                if ends_step:
                    next_step(state_at)
                ended = (state[FLAG] != 0) | (state[LATE_FLAG] != 0) | (state[s.ROWS] == 0)
                state[WAITING] = 0
                told[0] = (before | 1) + 1 + ended
                tell(state, GENERATION, told[0])
            else:
                word = look(state, GENERATION)
                while word == before:
                    word = look(state, GENERATION)
                told[0] = word
        cuda.syncthreads()
        return told[0] & 1

    return meet


def _is_fresh(word: str) -> bool:
    """Whether a word is read anew for its op: else what follows from it takes registers all along.

    Addresses are not: only as they come in are they known to be of global memory.
    """
    return "_at_" not in word


def source_of(groups: Sequence[Sequence[PartCall]], threads: int) -> str:
    """The text of the kernel whose blocks meet after each group of calls."""
    lines: list[str] = []
    for number, group in enumerate(groups):
        lines.append("if ended == 0:")
        for call in group:
            name = call.part.name
            only: list[str] = []
            if name in ONE_THREAD or name == "accumulate":
                only.append("cuda.blockIdx.x == 0")
            if (few := FEW.get(name, threads)) < threads:
                only.append(f"cuda.threadIdx.x < {few}")
            lines += [f"    {word} = anew(own_{word})" for word in call.words if _is_fresh(word)]
            if only:
                lines += [f"    if {' and '.join(only)}:", f"        {call.text}"]
            else:
                lines.append(f"    {call.text}")
        lines.append(f"ended = meet(told, state_at, {number == len(groups) - 1})")
    body_text = "\n".join("        " + line for line in lines)
    words = [
        f"own_{word}" if _is_fresh(word) else word
        for group in groups
        for call in group
        for word in call.words
    ]
    size = max(shared_size(tile) for tile in tiles_of(threads))
    return f"""
def {NAME}({", ".join([*words, "state_at"])}):
    staged = cuda.shared.array({size}, float32, alignment=16)
    told = cuda.shared.array(1, int64)
    state = view_int64_1(state_at, (STATE_SLOTS,))
    if cuda.threadIdx.x == 0:
        told[0] = look(state, {GENERATION})
    ended = meet(told, state_at, False)
    for _ in range({STEPS}):
        if ended != 0:
            return
        state = view_int64_1(state_at, (STATE_SLOTS,))
        floats = view_float64_1(state_at, (STATE_SLOTS,))
        N = state[{s.ROWS}]
{body_text}
"""
