"""Random bits, and what is made of them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.kernels.reference.forms import Array, Words

__all__ = [
    "dropout_backward",
    "dropout_forward",
    "dropout_mask",
    "philox4x32",
    "shuffle",
]


def philox4x32(counter: ArrayLike, key: ArrayLike, rounds: int = 10) -> Words:
    """Philox 4x32: four random words (..., 4), a bijection of the counter that the key chooses.

    Salmon, Moraes, Dror & Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), section 3.
    A round multiplies words 0 and 2, each into a high and a low half, and mixes in the other words
    and the key; the key grows by Weyl constants between rounds.

    Parameters
    ----------
    counter : (..., 4) uint32
    key : (..., 2) uint32, whose leading axes broadcast with the counter's
    rounds : int

    Examples
    --------
    >>> [hex(word) for word in philox4x32([0, 0, 0, 0], [0, 0])]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    # uint64 holds the products; its constants are typed because NumPy 1 mixes it with int as float.
    multiplier0, multiplier1, weyl0, weyl1, low, half = np.array(
        [0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85, 0xFFFFFFFF, 32], dtype=np.uint64
    )
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint32).astype(np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, dtype=np.uint32).astype(np.uint64), -1, 0)
    for _ in range(rounds):
        product0, product1 = c0 * multiplier0, c2 * multiplier1
        c0, c1 = (product1 >> half) ^ c1 ^ k0, product1 & low
        c2, c3 = (product0 >> half) ^ c3 ^ k1, product0 & low
        k0, k1 = (k0 + weyl0) & low, (k1 + weyl1) & low
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def shuffle(order: ArrayLike, begin: int, end: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Places `begin` to `end` of a random order, of which those before are drawn already.

    Knuth, The Art of Computer Programming, volume 2, algorithm P, inside out: place i is given what
    stands at j, and j is given i. j = floor(w (i + 1) / 2^64), where w is the 64-bit number, low
    word first, at words 2 h and 2 h + 1 of Philox 4x32-10, with h = (i // 256) % 2,

        key     = (seed's low 32 bits, seed's high 32 bits)
        counter = (256 (i // 512) + i % 256, epoch's low 32 bits, epoch's high 32 bits, 2^32 - 1)

    Examples
    --------
    >>> sorted(int(i) for i in shuffle([0] * 5, 0, 5, seed=1, epoch=0))
    [0, 1, 2, 3, 4]
    """
    rows, places = np.array(order, dtype=np.int64), np.arange(begin, end)
    low = 2**32 - 1
    counters = np.zeros((len(places), 4), np.uint32)
    counters[:, 0] = 256 * (places // 512) + places % 256
    counters[:, 1:] = epoch & low, epoch >> 32, low
    words = philox4x32(counters, (seed & low, seed >> 32)).tolist()
    for i, drawn in zip(range(begin, end), words, strict=True):
        at = 2 * ((i // 256) % 2)
        j = ((drawn[at + 1] << 32 | drawn[at]) * (i + 1)) >> 64
        rows[i] = rows[j]
        rows[j] = i
    return rows


def dropout_mask(shape: tuple[int, int], rate: float, seed: int, stream: int, step: int) -> Array:
    """Inverted dropout's mask: 0 for a dropped element, 1 / (1 - rate) for a kept one.

    An element's word is a function of its place and of (seed, stream, step), and of nothing else.
    With G = ceil(columns / 64), element (row, column) reads word `lane` of Philox 4x32-10, where

        key     = (seed's low 32 bits, seed's high 32 bits)
        counter = (block, step's low 32 bits, step's high 32 bits, stream)
        block   = row * 16 G + (column // 64) * 16 + column % 16
        lane    = (column // 16) % 4

    so that 16 blocks side by side in vector lanes serve 64 columns in order. The element is kept
    when its word >= floor(rate * 2^32), as integers. Dropout: Srivastava et al. 2014, JMLR 15.

    Parameters
    ----------
    shape : (rows, columns), with rows * 16 G at most 2^32: the block is one word
    rate : float, the share to drop, at least 0 and below 1
    seed, stream, step : int of 64, 32 and 64 bits, none negative

    Raises
    ------
    ValueError
        For anything out of these ranges.
    """
    rows, columns = shape
    groups = -(-columns // 64)
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout_mask: rate must be at least 0 and below 1, got {rate}")
    if rows * 16 * groups > 2**32:
        raise ValueError(f"dropout_mask: shape must need at most 2^32 blocks, got {shape}")
    for name, value, bits in (("seed", seed, 64), ("stream", stream, 32), ("step", step, 64)):
        if not 0 <= value < 2**bits:
            raise ValueError(f"dropout_mask: {name} must be of {bits} bits, got {value}")
    row, column = np.indices(shape)
    key = np.array([seed % 2**32, seed // 2**32], dtype=np.uint32)
    counter = np.empty((rows, columns, 4), dtype=np.uint32)
    counter[..., 0] = row * 16 * groups + (column // 64) * 16 + column % 16
    counter[..., 1:] = np.array([step % 2**32, step // 2**32, stream], dtype=np.uint32)
    lane = (column // 16) % 4
    word = np.take_along_axis(philox4x32(counter, key), lane[..., None], axis=-1)[..., 0]
    return np.where(word >= int(rate * 2**32), 1.0 / (1.0 - rate), 0.0)


def dropout_forward(x: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Inverted dropout y = x * mask, of x (rows, columns); see `dropout_mask`."""
    x = np.asarray(x, dtype=np.float64)
    return x * dropout_mask((x.shape[0], x.shape[1]), rate, seed, stream, step)


def dropout_backward(dy: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Gradient at dropout's input: dy times the forward pass's mask, made again, not stored."""
    return dropout_forward(dy, rate, seed, stream, step)
