"""Graphs of other tools read as layers one after the other, with skip connections.

A graph is cut at every place where all that follows depends on one array alone. Between two such
places there is one node, or a few that together are an activation or a normalisation, or a branch
that is added to what it began with: `Residual`, in which the same is done.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fastnn.io.chains import Chain


class Step(NamedTuple):
    """A node of a graph: what it reads of all that depends on the input, and what it gives."""

    inputs: tuple[str, ...]
    output: str
    node: Any


class Piece(NamedTuple):
    """Steps between two places where the graph hangs on one array."""

    start: str
    steps: list[Step]

    @property
    def end(self) -> str:
        """The array that all which follows depends on."""
        return self.steps[-1].output

    @property
    def single(self) -> bool:
        """Whether it is one node that reads its array once."""
        return [step.inputs for step in self.steps] == [(self.start,)]


class Reader(ABC):
    """Makes a chain of layers out of the steps of a graph, which stand in order."""

    owner: str
    """Whom messages name."""

    @abstractmethod
    def one(self, step: Step, chain: Chain) -> None:
        """Append what a node is that reads one array, or raise a ValueError that names it."""

    @abstractmethod
    def is_sum(self, step: Step) -> bool:
        """Whether the node adds two arrays."""

    @abstractmethod
    def error(self, step: Step, why: str) -> ValueError:
        """The error that says why a node cannot be read."""

    def several(self, pieces: Sequence[Piece], chain: Chain) -> int:
        """How many of the first pieces together are a layer, which is appended; 0: none are."""
        return 0

    def read(self, steps: Sequence[Step], start: str, end: str, chain: Chain) -> None:
        """Append to `chain` all that leads from the array `start` to the array `end`."""
        pieces = list(_pieces(_leading_to(steps, end), start, end))
        if (pieces[-1].end if pieces else start) != end:
            raise ValueError(f"{self.owner}: {end!r} does not come from {start!r} alone")
        at = 0
        while at < len(pieces):
            taken = self.several(pieces[at:], chain)
            if not taken:
                self._read_piece(pieces[at], chain)
            at += taken or 1

    def _read_piece(self, piece: Piece, chain: Chain) -> None:
        if piece.single:
            self.one(piece.steps[0], chain)
            return
        *inner, last = piece.steps
        around = [name for name in last.inputs if name != piece.start]
        if not self.is_sum(last) or len(around) != 1 or len(last.inputs) != 2:
            reads = " and ".join(f"{name!r}" for name in dict.fromkeys(last.inputs))
            raise self.error(
                last, f"it joins {reads}: of branches, only x + f(x) is known, a skip connection"
            )
        with self.named(last):
            branch = chain.branch()
        self.read(inner, piece.start, around[0], branch)
        with self.named(last):
            chain.add_residual(branch)

    @contextlib.contextmanager
    def named(self, step: Step) -> Iterator[None]:
        """Give an error in the block the name of a node."""
        try:
            yield
        except ValueError as error:
            raise self.error(step, str(error)) from error


def _leading_to(steps: Sequence[Step], end: str) -> list[Step]:
    """Those of `steps` that `end` depends on."""
    wanted, kept = {end}, []
    for step in reversed(steps):
        if step.output in wanted:
            wanted.update(step.inputs)
            kept.append(step)
    return kept[::-1]


def _pieces(steps: Sequence[Step], start: str, end: str) -> Iterator[Piece]:
    """`steps`, all of which lead from `start` to `end`, cut where one array is yet to be read."""
    readers = Counter(name for step in steps for name in step.inputs)
    readers[end] += 1
    unread, piece = {start}, Piece(start, [])
    for step in steps:
        piece.steps.append(step)
        readers.subtract(step.inputs)
        unread -= {name for name in step.inputs if not readers[name]}
        unread.add(step.output)
        if unread == {step.output}:
            yield piece
            piece = Piece(step.output, [])
