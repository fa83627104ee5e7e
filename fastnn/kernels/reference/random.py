"""Random bits, and what is made of them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn.kernels.reference.forms import Array, Words

__all__ = [
    "alpha_dropout_backward",
    "alpha_dropout_forward",
    "drop_block_forward",
    "drop_block_mask",
    "dropout_backward",
    "dropout_forward",
    "dropout_mask",
    "gaussian_dropout",
    "gaussian_noise",
    "normal_numbers",
    "philox4x32",
    "shuffle",
    "spatial_dropout_forward",
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


def _words(shape: tuple[int, int], seed: int, stream: int, step: int) -> Words:
    """The words of rows' blocks as `dropout_mask` has them: (rows, groups, lane, block of 16)."""
    rows, columns = shape
    groups = -(-columns // 64)
    if rows * 16 * groups > 2**32:
        raise ValueError(f"random words: shape must need at most 2^32 blocks, got {shape}")
    for name, value, bits in (("seed", seed, 64), ("stream", stream, 32), ("step", step, 64)):
        if not 0 <= value < 2**bits:
            raise ValueError(f"random words: {name} must be of {bits} bits, got {value}")
    key = np.array([seed % 2**32, seed // 2**32], dtype=np.uint32)
    counter = np.empty((rows, groups, 16, 4), dtype=np.uint32)
    counter[..., 0] = np.arange(rows * groups * 16).reshape(rows, groups, 16)
    counter[..., 1:] = np.array([step % 2**32, step // 2**32, stream], dtype=np.uint32)
    return np.moveaxis(philox4x32(counter, key), -1, 2)


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
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout_mask: rate must be at least 0 and below 1, got {rate}")
    word = _words(shape, seed, stream, step).reshape(shape[0], -1)[:, : shape[1]]
    return np.where(word >= int(rate * 2**32), 1.0 / (1.0 - rate), 0.0)


def dropout_forward(x: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Inverted dropout y = x * mask, of x (rows, columns); see `dropout_mask`."""
    x = np.asarray(x, dtype=np.float64)
    return x * dropout_mask((x.shape[0], x.shape[1]), rate, seed, stream, step)


def dropout_backward(dy: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Gradient at dropout's input: dy times the forward pass's mask, made again, not stored."""
    return dropout_forward(dy, rate, seed, stream, step)


def alpha_dropout_forward(x: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Alpha dropout of x (rows, columns): what is dropped becomes SELU's limit, all is rescaled.

    Klambauer, Unterthiner, Mayr & Hochreiter 2017, Self-Normalizing Neural Networks (arXiv
    1706.02515), section 3: with d = 1 where `dropout_mask` keeps an element, a' = -lambda alpha and
    q = 1 - rate, a (x d + a' (1 - d)) + b has mean 0 and variance 1 where x has, for
    a = (q + a'^2 q (1 - q))^(-1/2) and b = -a a' (1 - q).
    """
    kept = dropout_mask(np.shape(x), rate, seed, stream, step) > 0.0
    q, limit = 1.0 - rate, -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717
    a = (q + limit**2 * q * (1.0 - q)) ** -0.5
    return a * (np.asarray(x, dtype=np.float64) * kept + limit * ~kept) - a * limit * (1.0 - q)


def alpha_dropout_backward(dy: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Gradient at alpha dropout's input: that of an affine map of what was kept."""
    zero, one = np.zeros(np.shape(dy)), np.ones(np.shape(dy))
    slope = alpha_dropout_forward(one, rate, seed, stream, step)
    slope = slope - alpha_dropout_forward(zero, rate, seed, stream, step)
    return np.asarray(dy, dtype=np.float64) * slope


def spatial_dropout_forward(x: ArrayLike, rate: float, seed: int, stream: int, step: int) -> Array:
    """Dropout of whole channels of x (rows, ..., channels); its backward pass is the same.

    Element (row, channel) of `dropout_mask`, of rows of as many columns as there are channels, is
    the factor of the whole channel. Tompson et al. 2015 (arXiv 1411.4280), section 3.2.
    """
    x = np.asarray(x, dtype=np.float64)
    mask = dropout_mask((len(x), x.shape[-1]), rate, seed, stream, step)
    return x * mask.reshape(len(x), *[1] * (x.ndim - 2), -1)


def drop_block_mask(
    shape: tuple[int, int, int, int],
    rate: float,
    block_size: int,
    seed: int,
    stream: int,
    step: int,
) -> Array:
    """DropBlock's mask for pictures (N, H, W, C): 0 in blocks, elsewhere what makes its mean 1.

    Ghiasi, Lin & Le 2018 (arXiv 1810.12890), algorithm 1, by channel and with each row's own count:
    with b the block's size, b x b elements are 0 from place (i, j) on where `dropout_mask` at the
    rate (rate/b^2) H W / ((H - b + 1) (W - b + 1)) drops column (i (W - b + 1) + j) C + c of
    (H - b + 1) (W - b + 1) C. A row of which nothing is left is 0.
    """
    rows, height, width, channels = shape
    down, across = height - block_size + 1, width - block_size + 1
    gamma = rate / block_size**2 * height * width / (down * across)
    begins = dropout_mask((rows, down * across * channels), gamma, seed, stream, step) == 0.0
    begins = begins.reshape(rows, down, across, channels)
    mask = np.ones(shape)
    for row, i, j, channel in np.argwhere(begins):
        mask[row, i : i + block_size, j : j + block_size, channel] = 0.0
    left = mask.sum(axis=(1, 2, 3), keepdims=True)
    return mask * (height * width * channels) / np.maximum(left, 1.0)


def drop_block_forward(
    x: ArrayLike, rate: float, block_size: int, seed: int, stream: int, step: int
) -> Array:
    """DropBlock of x (N, H, W, C): x * mask; its backward pass is the same."""
    x = np.asarray(x, dtype=np.float64)
    n, height, width, channels = x.shape
    shape = (n, height, width, channels)
    return x * drop_block_mask(shape, rate, block_size, seed, stream, step)


def normal_numbers(shape: tuple[int, int], seed: int, stream: int, step: int) -> Array:
    """Independent numbers N(0, 1): sqrt(-2 log u) times cos 2 pi v, or sin 2 pi v.

    Box & Muller 1958, of u = (w + 1/2) / 2^32 and v = w' / 2^32. Where `dropout_mask` reads word
    0 or 1 of a counter, w is its word 0 and w' its word 1; where it reads word 2 or 3, these are
    words 2 and 3. Words 0 and 2 stand for the cosine.
    """
    words = _words(shape, seed, stream, step).astype(np.float64)
    distance = np.sqrt(-2.0 * np.log((words[:, :, ::2] + 0.5) / 2**32))
    angle = 2.0 * np.pi * words[:, :, 1::2] / 2**32
    pairs = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=3)
    return pairs.reshape(shape[0], -1)[:, : shape[1]]


def gaussian_noise(x: ArrayLike, stddev: float, seed: int, stream: int, step: int) -> Array:
    """x + stddev z of x (rows, columns) and `normal_numbers` z."""
    x = np.asarray(x, dtype=np.float64)
    return x + stddev * normal_numbers((x.shape[0], x.shape[1]), seed, stream, step)


def gaussian_dropout(x: ArrayLike, stddev: float, seed: int, stream: int, step: int) -> Array:
    """x (1 + stddev z); its backward pass is the same. Srivastava et al. 2014, JMLR 15, sec. 10."""
    x = np.asarray(x, dtype=np.float64)
    return x * (1.0 + stddev * normal_numbers((x.shape[0], x.shape[1]), seed, stream, step))
