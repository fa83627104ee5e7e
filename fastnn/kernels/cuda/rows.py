"""Rows of matrices, each gone through by the threads that a plan gives it.

What a thread has of a row, its share, is kept in registers, so that a row that is gone through
several times is read once. Short rows that are a thread's each are moved by their warp, 32 at a
time, between global and shared memory, as the one run of memory that they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.groups import ALL, WARP
from fastnn.kernels.cuda.launch import Kernel, Launch, Lengths
from fastnn.kernels.cuda.memory import (
    address,
    copy_wide,
    lanes_of,
    load_wide,
    store_wide,
    view,
)
from fastnn.kernels.cuda.row_plans import Plan, plan_for
from fastnn.kernels.cuda.target import cuda, device, unrolled

CHAINS = 4
"""Sums of a thread's columns that do not wait for each other; fewer terms in each err less, too."""

MOST_FOLDED = 3
"""Numbers that a fold may have."""

THREADS = 128
"""Threads of a block that takes several rows."""

ENOUGH_WARPS = 4 * 132
"""Fewer warps than these are a block each, so that as many of an H200's processors have work."""


def _defined(lines: Sequence[str], name: str, parameters: str, **namespace: Any) -> Any:
    """The device function of this name, these parameters and these lines."""
    text = "\n".join([f"def {name}({parameters}):", *("    " + line for line in lines)])
    exec(text, namespace)
    return device(namespace[name])


def _sums(parts: Sequence[str]) -> Any:
    """The function that merges two tuples of sums of these types."""
    added = ", ".join(f"{part}(a[{i}] + b[{i}])" for i, part in enumerate(parts))
    return _defined([f"return ({added},)"], "add", "a, b", **_types(parts))


def _types(parts: Sequence[str]) -> dict[str, Any]:
    return {part: getattr(np, part) for part in parts}


@device
def larger(a, b):
    """Merge two maxima; each began as −∞, and NaN was passed over."""
    return (b[0] if b[0] > a[0] else a[0],)


@device
def first_of_largest(a, b):
    """Merge two maxima and where they stand: of equal ones the first counts."""
    takes = b[0] > a[0] or (b[0] == a[0] and b[1] < a[1])
    return (b[0], b[1]) if takes else (a[0], a[1])


def _across(threads: int, parts: Sequence[str], merge: Any) -> Any:
    """The function that merges what so many threads have, tuples of numbers of types `parts`.

    They are neighbouring lanes, a power of 2, or a whole block; each gets the result.
    """
    numbers, lines, lane_bit = range(len(parts)), [], min(threads, WARP) // 2
    while lane_bit:
        others = ", ".join(f"cuda.shfl_xor_sync({ALL}, so_far[{i}], {lane_bit})" for i in numbers)
        lines.append(f"so_far = merge(so_far, ({others},))")
        lane_bit //= 2
    if threads > WARP:
        warps = threads // WARP

        def of(warp: int) -> str:
            return ", ".join(f"{parts[i]}(parts[{i * warps + warp}])" for i in numbers)

        # The same array for all merges: what float32 and int32 hold, float64 does, too.
        lines += [f"parts = cuda.shared.array({MOST_FOLDED * warps}, item)"]
        lines += [f"warp = cuda.threadIdx.x // {WARP}", f"if cuda.threadIdx.x % {WARP} == 0:"]
        lines += [f"    parts[{i * warps} + warp] = so_far[{i}]" for i in numbers]
        lines += ["cuda.syncthreads()", f"so_far = ({of(0)},)"]
        lines += [f"so_far = merge(so_far, ({of(warp)},))" for warp in range(1, warps)]
        lines += ["cuda.syncthreads()"]
    return _defined(
        [*lines, "return so_far"],
        "across",
        "so_far",
        cuda=cuda,
        merge=merge,
        item=types.float64,
        **_types(parts),
    )


class Rows:
    """Functions on the rows of matrices of one shape, for kernels that all of a grid's threads run.

    Of blocks of more threads than `THREADS`, or than a row has, the first so many run them.

    A row that a thread has a share of is told as its `place`: the row's number, the place in memory
    of the share's first column, the number of columns from there to the row's end (0 or less where
    nothing is left for the thread), and the first column. `kept` is the array, of `slots` elements,
    that a thread keeps its share in.

    Parameters
    ----------
    type_name : str
        Element type of the matrices.
    plan : Plan
        Who has what of a row.

    Attributes
    ----------
    place : device function
        ``place(matrix)``: the caller's.
    keep : device function
        ``keep(kept, matrix, place)``: the share, in `kept`; of rows that are not kept, `matrix`.
    blank : device function
        ``blank(kept, matrix)``: a share of `matrix` that nothing is read from, to write it by.
    leads : device function
        ``leads(place)``: whether the caller is the one of the row's threads that tells of it.
    owns : device function
        ``owns(place, column)``: whether a column of the row is in the caller's share.
    """

    def __init__(self, type_name: str, plan: Plan) -> None:
        self.type_name, self.plan, self.real = type_name, plan, getattr(np, type_name)
        self.item = getattr(types, type_name)
        # A whole number of wide loads, which short rows pass through.
        self.slots = -(-max(plan.each, 1) // lanes_of(type_name)) * lanes_of(type_name)
        self._flat = view(type_name, 1)
        threads, run, span = plan.threads, plan.run, plan.span
        most = max(threads, THREADS)

        @device
        def place(matrix):
            rows, columns = matrix.shape
            thread = cuda.blockIdx.x * min(cuda.blockDim.x, most) + cuda.threadIdx.x
            row, first = thread // threads, thread % threads * run
            left = columns - first if row < rows else 0
            return row, row * columns + first, np.int32(left), np.int32(first)

        @device
        def leads(place):
            return place[3] == 0 and place[2] > 0

        @device
        def owns(place, column):
            return place[2] > 0 and (column - place[3]) & (span - 1) < run

        if plan.each:

            @device
            def blank(kept, matrix):
                return kept

        else:

            @device
            def blank(kept, matrix):
                return matrix

        self.place, self.leads, self.owns, self.blank = place, leads, owns, blank
        if plan.shared:
            self.keep, self._write_kept = self._through_shared_memory()
        else:
            self.keep, self._write_kept = self._by_runs()

    def _by_runs(self) -> tuple[Any, Any]:
        """`keep` and its reverse, each thread reading and writing what it has."""
        plan, flat, zero = self.plan, self._flat, self.real(0)
        each, run, span, wide = plan.each, plan.run, plan.span, plan.wide and plan.run > 1

        @device
        def read_run(i, kept, source, begin, left):
            at = i * span
            if at < left:
                if wide:
                    copy_wide(kept, i * run, source, begin + at)
                else:
                    for j in range(run):
                        kept[i * run + j] = source[begin + at + j]
            else:
                for j in range(run):
                    kept[i * run + j] = zero

        @device
        def write_run(i, kept, target, begin, left):
            at = i * span
            if at < left:
                if wide:
                    copy_wide(target, begin + at, kept, i * run)
                else:
                    for j in range(run):
                        target[begin + at + j] = kept[i * run + j]

        if not each:

            @device
            def leave(kept, matrix, place):
                return matrix

            return leave, None

        read_runs, write_runs = unrolled(read_run, each // run), unrolled(write_run, each // run)

        @device
        def keep(kept, matrix, place):
            read_runs(kept, flat(address(matrix), (matrix.size,)), place[1], place[2])
            return kept

        @device
        def write(kept, matrix, place):
            write_runs(kept, flat(address(matrix), (matrix.size,)), place[1], place[2])

        return keep, write

    def _through_shared_memory(self) -> tuple[Any, Any]:
        """The same for short rows, of which each thread of a warp has one."""
        plan, flat, item = self.plan, self._flat, self.item
        zero, lanes, wide = self.real(0), lanes_of(self.type_name), plan.wide
        columns, of_warp, of_block = plan.each, WARP * plan.each, THREADS * plan.each

        run = lanes if wide else 1
        turns = -(-columns // run)

        @device
        def fetch(turn, kept, source, begin, lane, whole):
            """Read the lane's run of one turn, of those of all of the warp's elements."""
            i = (turn * WARP + lane) * run
            if i < whole:
                if wide:
                    copy_wide(kept, turn * run, source, begin + i)
                else:
                    kept[turn] = source[begin + i]

        @device
        def put(turn, kept, target, begin, lane, whole):
            """Write that run."""
            i = (turn * WARP + lane) * run
            if i < whole:
                if wide:
                    copy_wide(target, begin + i, kept, turn * run)
                else:
                    target[begin + i] = kept[turn]

        @device
        def take(i, kept, shared, at, is_inside):
            kept[i] = shared[at + i] if is_inside else zero

        @device
        def lay(i, kept, shared, at):
            shared[at + i] = kept[i]

        fetch_all, put_all = unrolled(fetch, turns), unrolled(put, turns)
        take_all, lay_all = unrolled(take, columns), unrolled(lay, columns)

        @device
        def copy(target, to, source, begin, kept, lane, count):
            """Copy the warp's elements, all loads before all stores."""
            whole = count // run * run
            fetch_all(kept, source, begin, lane, whole)
            put_all(kept, target, to, lane, whole)
            if whole + lane < count:
                target[to + whole + lane] = source[begin + whole + lane]

        @device
        def move(kept, matrix, place, writes):
            shared = cuda.shared.array(of_block, item, alignment=16)
            memory = flat(address(matrix), (matrix.size,))
            lane, of_all = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP * of_warp
            begin = (place[0] - lane) * columns
            count = np.int32(max(min(matrix.size - begin, of_warp), 0))
            if writes:
                lay_all(kept, shared, of_all + lane * columns)
                cuda.syncwarp()
                copy(memory, begin, shared, of_all, kept, lane, count)
            else:
                copy(shared, of_all, memory, begin, kept, lane, count)
                cuda.syncwarp()
                take_all(kept, shared, of_all + lane * columns, place[2] > 0)
            cuda.syncwarp()

        @device
        def keep(kept, matrix, place):
            move(kept, matrix, place, False)
            return kept

        @device
        def write(kept, matrix, place):
            move(kept, matrix, place, True)

        return keep, write

    def _offsets(self) -> list[int]:
        """Where the columns of a kept share stand, from its first on."""
        run, span = self.plan.run, self.plan.span
        return [k // run * span + k % run for k in range(self.plan.each)]

    def _read_again(self, body: Callable[[str, str, str], Sequence[str]]) -> list[str]:
        """Lines that read a share: ``body(element of a, element of b, offset)`` for each column."""
        run, wide = self.plan.run, self.plan.wide and self.plan.run > 1
        lines = [f"{m}_memory = flat(address({m}), ({m}.size,))" for m in "ab"]
        lines += [f"for at in range(0, place[2], {self.plan.span}):", "    i = place[1] + at"]
        if wide:
            lines += [f"    {m}_run = load_wide({m}_memory, i)" for m in "ab"]
        for j in range(run):
            elements = [f"{m}_run[{j}]" if wide else f"{m}_memory[i + {j}]" for m in "ab"]
            lines += ["    " + line for line in body(*elements, f"at + {j}")]
        return lines

    def fold(
        self, step: Any, parts: Sequence[str], merge: Any = None, *, keeps: bool = False
    ) -> Any:
        """The function ``fold(place, a, b, start, numbers)``: a tuple of what a row comes to.

        All threads of a row get it. `a` and `b` are shares of two matrices, or one of them twice.
        `start` is what a row of no columns comes to: it changes nothing that it is merged with.

        Parameters
        ----------
        step : device function
            ``step(so far, element of a, element of b, offset, numbers)`` is what it comes to with
            these; `offset` is the element's column less the share's first.
        parts : sequence of str
            Types of the tuple's members.
        merge : device function
            Of two such tuples, one, the order of which changes no bit; unless given, their sum.
        keeps : bool
            Whether `step` returns the tuple and what is kept from then on in place of the element
            of a; only for shares that are kept.
        """
        if self.plan.each:
            lines = self._fold_kept(len(parts), keeps)
        else:

            def go_on(a: str, b: str, offset: str) -> list[str]:
                return [f"so_far = step(so_far, {a}, {b}, {offset}, numbers)"]

            lines = ["so_far = start", *self._read_again(go_on)]
        merge = merge or _sums(parts)
        return _defined(
            [*lines, "return across(so_far)"],
            "fold",
            "place, a, b, start, numbers",
            step=step,
            merge=merge,
            flat=self._flat,
            address=address,
            load_wide=load_wide,
            across=_across(self.plan.threads, parts, merge),
        )

    def _fold_kept(self, count: int, keeps: bool) -> list[str]:
        """Lines that fold a share of registers, of which every fourth goes into one result."""
        chains = [f"so_far_{i}" for i in range(min(CHAINS, self.plan.each))]
        lines = [f"{chain} = start" for chain in chains]
        for k, offset in enumerate(self._offsets()):
            chain = chains[k % len(chains)]
            results = f"new, a[{k}]" if keeps else "new"
            lines.append(f"{results} = step({chain}, a[{k}], b[{k}], {offset}, numbers)")
            if not self.plan.full:
                lines.append(f"is_inside = {offset} < place[2]")
                members = [f"new[{i}] if is_inside else {chain}[{i}]" for i in range(count)]
                lines.append(f"new = ({', '.join(members)},)")
            lines.append(f"{chain} = new")
        while len(chains) > 1:
            chains = [
                f"merge({', '.join(pair)})" if len(pair) == 2 else pair[0]
                for pair in (chains[i : i + 2] for i in range(0, len(chains), 2))
            ]
        return [*lines, f"so_far = {chains[0]}"]

    def _write_again(self, line: Callable[[str, str, str, str], str]) -> list[str]:
        """Lines that read a share and overwrite it.

        ``line(result, element of a, element of b, offset)`` names a result, for each column.
        """
        run = self.plan.run
        results = iter(range(run))

        def result(a: str, b: str, offset: str) -> list[str]:
            return [line(f"r{next(results)}", a, b, offset)]

        lines = ["target = flat(address(matrix), (matrix.size,))", *self._read_again(result)]
        if self.plan.wide and run > 1:
            values = ", ".join(f"r{j}" for j in range(run))
            return [*lines, f"    store_wide(target, i, ({values},))"]
        return [*lines, *(f"    target[i + {j}] = r{j}" for j in range(run))]

    def fold_and_write(self, step: Any, parts: Sequence[str]) -> Any:
        """The function ``fold_and_write(matrix, place, a, b, start, numbers)``: both at once.

        It returns the sums that `fold` would, whose parameters these are, and overwrites `matrix`
        as `write` does: ``step`` returns the sums so far and, last, the element.
        """
        if self.plan.each:
            lines = [*self._fold_kept(len(parts), True), "write_kept(a, matrix, place)"]
        else:

            def go_on(result: str, a: str, b: str, offset: str) -> str:
                return f"so_far, {result} = step(so_far, {a}, {b}, {offset}, numbers)"

            lines = ["so_far = start", *self._write_again(go_on)]
        merge = _sums(parts)
        return _defined(
            [*lines, "return across(so_far)"],
            "fold_and_write",
            "matrix, place, a, b, start, numbers",
            step=step,
            merge=merge,
            flat=self._flat,
            address=address,
            load_wide=load_wide,
            store_wide=store_wide,
            write_kept=self._write_kept,
            across=_across(self.plan.threads, parts, merge),
        )

    def write(self, body: Any) -> Any:
        """The function ``write(matrix, place, a, b, numbers)``, which overwrites the row.

        Its elements become ``body(element of a, element of b, offset, numbers)``. `matrix` may be
        one of those that `a` and `b` are shares of. What was kept in `a` is lost.
        """
        if self.plan.each:
            lines = [
                f"a[{k}] = body(a[{k}], b[{k}], {offset}, numbers)"
                for k, offset in enumerate(self._offsets())
            ]
            lines += ["write_kept(a, matrix, place)"]
        else:

            def element(result: str, a: str, b: str, offset: str) -> str:
                return f"{result} = body({a}, {b}, {offset}, numbers)"

            lines = self._write_again(element)
        return _defined(
            lines,
            "write",
            "matrix, place, a, b, numbers",
            body=body,
            flat=self._flat,
            address=address,
            load_wide=load_wide,
            store_wide=store_wide,
            write_kept=self._write_kept,
        )


def over_rows(type_name: str, make: Callable[[Rows], Any], *, keeps: bool = True) -> Kernel:
    """The kernel ``make(rows)``, of matrices (N, C); `keeps` as in `plan_for`."""

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        plan = plan_for(type_name, lengths["C"], aligned, keeps)
        constants = tuple(map(int, plan))
        if plan.threads > WARP:
            return Launch((max(1, lengths["N"]), 1), plan.threads, constants)
        warps = -(-lengths["N"] * plan.threads // WARP)
        threads = WARP if warps < ENOUGH_WARPS else THREADS
        return Launch((max(1, -(-warps * WARP // threads)), 1), threads, constants)

    return Kernel(lambda *constants: make(Rows(type_name, Plan(*constants))), launch)
