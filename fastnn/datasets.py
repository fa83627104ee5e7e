"""Data sets by name, already split into training and test rows: `load("digits")`.

"digits" ships with fastnn. It is a copy of the test set of E. Alpaydin, C. Kaynak: Optical
Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, CC BY 4.0, with the rows
in another order (fastnn/data/README.md says how it was made).
"""

import gzip
import math
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.engine import cache

__all__ = ["load"]

Split = tuple[NDArray[Any], NDArray[Any]]  # x, y

DIGITS_TRAIN_ROWS = 1437  # of 1797; the file holds them first, then the test rows
PIXELS = (28, 28)  # rows, columns of an image in the sets of idx files
CLASSES = 10

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

IDX_UINT8 = 0x08  # the type byte of an idx file
GZIP_MAGIC = b"\x1f\x8b"
GZIP_MAX_RATIO = 1032  # deflate writes at least 2 bits for 258 bytes
CHUNK = 1 << 20


class _IdxSet(NamedTuple):
    """A set of four idx files: where it is published, and how to know it."""

    url: str
    sha256: dict[str, str]  # by file name, of the .gz files as published
    test_labels_crc32: int  # of the labels alone, without the idx header
    debian_package: str | None


_IDX_SETS = {
    # The checksums belong to the MD5 sums in the README of the publisher's repository. Debian's
    # package holds the same streams with the name and time taken out of the gzip headers.
    "fashion-mnist": _IdxSet(
        url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        sha256={
            TRAIN_IMAGES: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            TRAIN_LABELS: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            TEST_IMAGES: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            TEST_LABELS: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        test_labels_crc32=0x242BC73F,
        debian_package="dataset-fashion-mnist",
    ),
    # PyTorch's mirror: the authors' own page, yann.lecun.com/exdb/mnist, answers programs with
    # "403 Forbidden". The checksums are of the authors' files.
    "mnist": _IdxSet(
        url="https://ossci-datasets.s3.amazonaws.com/mnist",
        sha256={
            TRAIN_IMAGES: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            TRAIN_LABELS: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            TEST_IMAGES: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            TEST_LABELS: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        test_labels_crc32=0xEE8604D9,
        debian_package=None,
    ),
}


def load(name: str) -> tuple[Split, Split]:
    """Load a data set as ``(x_train, y_train), (x_test, y_test)``.

    ================ ===================================== =========== =================
    name             x                                     y           training + test
    ================ ===================================== =========== =================
    "digits"         float32 (N, 64) in [0, 1]             int64 (N,)  1437 + 360 rows
    "fashion-mnist"  uint8 (N, 28, 28), 0 to 255           uint8 (N,)  60000 + 10000
    "mnist"          uint8 (N, 28, 28), 0 to 255           uint8 (N,)  60000 + 10000
    ================ ===================================== =========== =================

    All three have the classes 0 to 9; types and shapes of the last two are Keras's. "digits" ships
    with fastnn, in a fixed split in which each part has the digits in proportion. The others are
    looked for in these places, in this order; the first that holds all four files serves:

    1. ``$FASTNN_DATA/<name>``, then the folder ``$FASTNN_DATA`` itself;
    2. ``data/<name>`` in fastnn's cache: ``$FASTNN_CACHE_DIR``, else the platform's place, such as
       ``~/.cache/fastnn``;
    3. the folder of a system package, such as ``/usr/share/datasets/<name>``;
    4. the publisher's address: pooch downloads the files once into the user's cache and compares
       their SHA-256 sums. ``$FASTNN_DATA_URL`` names a mirror that holds ``<name>/<file>``.

    Files are named as published (``train-images-idx3-ubyte.gz`` and so on), with or without
    ``.gz``.

    Parameters
    ----------
    name : {"digits", "fashion-mnist", "mnist"}

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : pairs of arrays
        Fresh at each call, writable and C-contiguous.

    Raises
    ------
    ValueError
        If the name is unknown, a file is damaged, or a download has the wrong checksum.
    FileNotFoundError
        If the set is nowhere on this machine and cannot be downloaded.
    ImportError
        If the set is nowhere on this machine and pooch, which would download it, is missing.

    References
    ----------
    digits: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998, CC BY 4.0. fashion-mnist: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a
    Novel Image Dataset for Benchmarking Machine Learning Algorithms, arXiv:1708.07747, MIT.
    mnist: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST Database of Handwritten Digits.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = load("digits")
    >>> x_train.shape, y_train.shape, x_test.shape, y_test.shape
    ((1437, 64), (1437,), (360, 64), (360,))
    """
    if not isinstance(name, str):
        raise TypeError(f"load: name must be a string, got {type(name).__name__}")
    if name == "digits":
        return _load_digits()
    if name not in _IDX_SETS:
        known = ", ".join(repr(known) for known in ("digits", *_IDX_SETS))
        raise ValueError(f"load: name must be one of {known}, got {name!r}")

    searched = []
    for folder in _folders(name):
        files = _files(folder)
        reason = _why_not(files, folder, name)
        if reason is None:
            return _read_set(files)
        searched.append(f"  {folder}: {reason}")
    folder = _user_cache() / name
    _download(name, folder, "\n".join(searched))
    return _read_set(_files(folder))


def _load_digits() -> tuple[Split, Split]:
    with np.load(Path(__file__).with_name("data") / "digits.npz") as file:
        x = file["x"].astype(np.float32) / np.float32(16)  # pixels are 0 to 16
        y = file["y"].astype(np.int64)
    n = DIGITS_TRAIN_ROWS
    # Copies, so that neither part is a view that keeps the other one alive.
    return (x[:n].copy(), y[:n].copy()), (x[n:].copy(), y[n:].copy())


# Where a set is


def _folders(name: str) -> Iterator[Path]:
    """The folders in which a set may lie, in the order in which they are tried."""
    if chosen := os.environ.get("FASTNN_DATA"):
        yield Path(chosen).expanduser() / name
        yield Path(chosen).expanduser()
    yield _user_cache() / name
    for share in _system_shares():
        yield share / "datasets" / name


def _system_shares() -> list[Path]:
    """Folders under which packages of a system or an environment (conda's, say) put data."""
    shares = (Path(sys.prefix, "share"), Path("/usr/local/share"), Path("/usr/share"))
    return list(dict.fromkeys(shares))  # sys.prefix may be /usr


def _user_cache() -> Path:
    """The folder for downloads, which need not exist."""
    return cache.directory() / "data"


def _files(folder: Path) -> dict[str, Path]:
    """Those of the four files that the folder has, by their published names."""
    packed = {file: folder / file for file in FILES}
    plain = {file: folder / file.removesuffix(".gz") for file in FILES}  # read faster: goes first
    return {
        file: path
        for candidates in (packed, plain)
        for file, path in candidates.items()
        if path.is_file()
    }


def _why_not(files: dict[str, Path], folder: Path, name: str) -> str | None:
    """Why the files of a folder cannot serve as the set, or None where they can."""
    if not folder.is_dir():
        return "no such folder"
    if missing := [file for file in FILES if file not in files]:
        return f"lacks {', '.join(missing)}"
    # The sets share their file names; a folder given for one of them must not pass for another.
    crc32 = zlib.crc32(read_idx(files[TEST_LABELS], ndim=1).data)
    for other, source in _IDX_SETS.items():
        if other != name and crc32 == source.test_labels_crc32:
            return f"holds {other}"
    return None


# From the publisher


def _download(name: str, folder: Path, searched: str) -> None:
    """Put the four files of a set into a folder, each whole and verified or not at all."""
    source = _IDX_SETS[name]
    nowhere = f"{name} is in none of\n{searched}\nWays to get it:\n{_ways(name)}"
    try:
        import pooch  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"load: pooch, which downloads data sets, is not installed;"
            f' install it with: pip install "fastnn[datasets]"\n{nowhere}'
        ) from error

    mirror = os.environ.get("FASTNN_DATA_URL")
    base = f"{mirror.rstrip('/')}/{name}" if mirror else source.url
    for file, sha256 in source.sha256.items():
        url = f"{base}/{file}"
        try:
            _retrieve(url, folder / file, sha256)
        except OSError as error:  # requests' errors are among them
            raise FileNotFoundError(
                f"load: could not download {url} to {folder}: {error}\n{nowhere}"
            ) from error
        except ValueError as error:
            raise ValueError(
                f"load: {url} is not the file that the publisher of {name} put there, and was not"
                f" kept: {error}"
            ) from error


def _ways(name: str) -> str:
    """How a user can get a set, one way a line."""
    ways = [
        f"put its four files ({', '.join(FILES)}; unpacked ones will do) into $FASTNN_DATA/{name}",
        'pip install "fastnn[datasets]" and be online: load downloads them',
    ]
    if package := _IDX_SETS[name].debian_package:
        ways.insert(1, f"apt-get install {package} (Debian, Ubuntu)")
    return "\n".join(f"  {way}" for way in ways)


def _retrieve(url: str, path: Path, sha256: str) -> None:
    """Download a file, unless it is there and right already."""
    import pooch

    responses: list[Any] = []
    hooks = {"response": lambda response, **_: responses.append(response)}
    try:
        # Writes to a temporary file beside the target, and renames it when the sum is right.
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(hooks=hooks),
        )
    finally:
        for response in responses:  # pooch leaves that of a failed request open
            response.close()


# idx files


def _read_set(files: dict[str, Path]) -> tuple[Split, Split]:
    return (
        _read_split(files[TRAIN_IMAGES], files[TRAIN_LABELS]),
        _read_split(files[TEST_IMAGES], files[TEST_LABELS]),
    )


def _read_split(images: Path, labels: Path) -> Split:
    x = read_idx(images, ndim=3)  # (N, 28, 28)
    y = read_idx(labels, ndim=1)  # (N,)
    if x.shape[1:] != PIXELS:
        raise ValueError(f"{images}: expected images of {PIXELS} pixels, got {x.shape[1:]}")
    if len(x) != len(y):
        raise ValueError(f"{labels}: expected a label for each of {len(x)} images, got {len(y)}")
    if y.max() >= CLASSES:
        raise ValueError(f"{labels}: labels must be below {CLASSES}, got {y.max()}")
    return x, y


def read_idx(path: Path, ndim: int | None = None) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, packed with gzip or not, into a fresh array.

    Of `ndim` dimensions, if that is given.

    The format: two zero bytes, a byte for the type, a byte for the number of dimensions, each
    dimension as a big-endian uint32, then the elements in C order
    (Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST Database of Handwritten Digits).
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
    room = path.stat().st_size * (GZIP_MAX_RATIO if packed else 1)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            magic = file.read(4)
            ndim = magic[-1] if ndim is None and magic else ndim or 1
            expected = bytes([0, 0, IDX_UINT8, ndim])
            if magic != expected:
                raise ValueError(
                    f"{path}: expected an idx file of uint8 in {ndim} dimensions, which begins with"
                    f" the bytes {expected.hex(' ')}, got {magic.hex(' ') or 'an empty file'}"
                )
            header = file.read(4 * ndim)
            if len(header) < 4 * ndim:
                raise ValueError(f"{path}: ends within its header")
            shape = tuple(np.frombuffer(header, dtype=">u4").tolist())
            size = math.prod(shape)
            if size == 0:
                raise ValueError(f"{path}: holds no elements, its shape is {shape}")
            # Before the allocation, which a garbled header could make as large as memory.
            if size > room:
                raise ValueError(f"{path}: is too short to hold an array of shape {shape}")

            out = np.empty(shape, dtype=np.uint8)
            rest = out.data.cast("B")
            while rest:  # by chunks: the packed file's content exists only once in memory
                chunk = file.read(min(CHUNK, len(rest)))
                if not chunk:
                    raise ValueError(f"{path}: is too short to hold an array of shape {shape}")
                rest[: len(chunk)] = chunk
                rest = rest[len(chunk) :]
            if file.read(1):  # at the end of the stream gzip compares its checksum
                raise ValueError(f"{path}: has bytes left after an array of shape {shape}")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: is a damaged gzip file: {error}") from error
    return out
