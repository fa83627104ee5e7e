"""Rows for training, validation and test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_STEP = (5**0.5 - 1) / 2
"""Multiples of it, modulo 1, fill every part of [0, 1) in proportion, wherever they begin (Weyl
1916): of the golden ratio they do so the most evenly."""


class Split(NamedTuple):
    """Numbers of rows, ascending."""

    training: Array
    validation: Array
    test: Array


def split(groups: Array, validation: float, test: float, seed: int) -> Split:
    """Split rows at random, but each group in proportion; a group of few has rows for training.

    Parameters
    ----------
    groups : ndarray of int, (N,)
        Classes, or all the same.
    validation, test : float in (0, 1)
        Shares of the rows.
    seed : int
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]  # shuffled within each group
    place = np.empty(len(groups))
    place[order] = np.arange(len(groups)) * _STEP % 1.0
    training = place >= validation + test
    training |= ~np.isin(groups, groups[training])
    in_test = ~training & (place < test)
    return Split(*(np.flatnonzero(part) for part in (training, ~training & ~in_test, in_test)))
