"""A kernel with the blocks and threads that it is launched in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fastnn.kernels.activations import ELEMENTWISE

Lengths = Mapping[str, int]
"""An op's dimensions; N is the most rows that a batch has."""

THREADS = 256
"""Threads of a block, where a kernel has no reason for another number."""

MOST_BLOCKS = 2112
"""Blocks of a grid whose threads take several elements: 16 for each of an H200's 132 processors."""


PRECISIONS = ("fp32", "tf32", "bf16")
"""What the factors of float32 products may be rounded to: to nothing less, or for tensor cores."""


class Launch(NamedTuple):
    """How a kernel is launched on arrays of given lengths.

    Parameters
    ----------
    blocks : tuple of int
        Of the grid, along x and y.
    threads : int
        Of a block.
    constants : tuple of int
        What the kernel is compiled for beside its element types.
    workspace : int
        Bytes of device memory that its blocks lay down partial results in.
    shared : int
        Bytes of shared memory of a block, beside those that the kernel names itself.
    at_once : bool
        Whether all blocks run at once, so that they may wait for each other.
    """

    blocks: tuple[int, int]
    threads: int
    constants: tuple[int, ...] = ()
    workspace: int = 0
    shared: int = 0
    at_once: bool = False


class Kernel(NamedTuple):
    """A kernel: ``make(*constants)`` is the device function, whose parameters name operands.

    ``launch(lengths, aligned)`` says how it is launched; `aligned`: whether all arrays begin on
    multiples of 16 bytes. `any_blocks`: its result is the same for any number of blocks along x;
    `any_grid`: and of threads, too. ``rounded(lengths, aligned, precision)`` says how it is
    launched if the factors of its products are to be rounded to another of `PRECISIONS` than fp32.
    ``in_tiles(tile, wide, following)`` is a product's device function for any number of blocks,
    which go over such tiles in shared memory that they are given.
    """

    make: Callable[..., Any]
    launch: Callable[[Lengths, bool], Launch]
    any_grid: bool = False
    any_blocks: bool = False
    rounded: Callable[[Lengths, bool, str], Launch] | None = None
    in_tiles: Callable[[Any, bool, int], Any] | None = None


FOLLOWING = tuple(ELEMENTWISE)
"""Activations that a product does itself, and, on the way back, their derivatives."""


def followed_by(constants: tuple[int, ...], activation: str) -> tuple[int, ...]:
    """A product's constants, (tile, wide) and maybe precision, with an activation after it."""
    return (*constants, *(0,) * (3 - len(constants)), 1 + FOLLOWING.index(activation))


def in_blocks(count: int, threads: int = THREADS, each: int = 1) -> tuple[int, int]:
    """The grid for `count` pieces of work, at least `each` of them to a thread."""
    return max(1, min(-(-count // (threads * each)), MOST_BLOCKS)), 1


def by_element(body: Any, dimensions: str = "NF", each: int = 1) -> Kernel:
    """A kernel whose threads go over elements, of arrays of these dimensions, in strides."""

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        count = 1
        for letter in dimensions:
            count *= lengths[letter]
        return Launch(in_blocks(count, each=each), THREADS)

    return Kernel(lambda: body, launch, any_grid=True)


def by_one_thread(body: Any) -> Kernel:
    """A kernel of a few scalars."""
    return Kernel(lambda: body, lambda lengths, aligned: Launch((1, 1), 1))


def power_of_two(count: int, least: int, most: int) -> int:
    """The smallest power of two that is not below `count`, but between two others."""
    return max(least, min(most, 1 << max(0, count - 1).bit_length()))
