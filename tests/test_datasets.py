"""fastnn.datasets: the bundled digits, idx files, the order of places, and downloads from a server
on this machine. No test needs the internet.
"""

import doctest
import gc
import gzip
import hashlib
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastnn import datasets

Images = NDArray[np.uint8]
Files = dict[str, bytes]

TRAIN_ROWS, TEST_ROWS = 7, 5
SYSTEM_SHARES = datasets._system_shares()  # before `places` replaces them


class Places(NamedTuple):
    """Where a test's data may lie; nothing of the machine's own is seen."""

    chosen: Path
    cache: Path
    system: Path


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "cache" / "fastnn"))
    monkeypatch.setattr(datasets, "_system_shares", lambda: [tmp_path / "share"])
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    # Should a test ever get as far as the network, nobody listens there.
    monkeypatch.setenv("FASTNN_DATA_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Places(
        chosen=tmp_path / "chosen",
        cache=tmp_path / "cache" / "fastnn" / "data",
        system=tmp_path / "share" / "datasets",
    )


@pytest.fixture
def pooch() -> Any:
    return pytest.importorskip("pooch", reason="pooch is not installed")


def idx(array: Images) -> bytes:
    """An array as an idx file, written from the description of the format."""
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def made_up(seed: int) -> Files:
    """The four files of a small set, packed, by name."""
    rng = np.random.default_rng(seed)
    files = {}
    for part, rows in (("train", TRAIN_ROWS), ("t10k", TEST_ROWS)):
        images = rng.integers(0, 256, size=(rows, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, size=rows, dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(images))
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels))
    return files


def put(files: Files, folder: Path, unpacked: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        if unpacked:
            (folder / file.removesuffix(".gz")).write_bytes(gzip.decompress(content))
        else:
            (folder / file).write_bytes(content)


def assert_is(loaded: tuple[datasets.Split, datasets.Split], files: Files) -> None:
    """The arrays have the bytes of the files, and are the caller's own."""
    for (x, y), part, rows in zip(loaded, ("train", "t10k"), (TRAIN_ROWS, TEST_ROWS), strict=True):
        assert x.shape == (rows, 28, 28)
        assert y.shape == (rows,)
        assert bytes(x) == gzip.decompress(files[f"{part}-images-idx3-ubyte.gz"])[16:]
        assert bytes(y) == gzip.decompress(files[f"{part}-labels-idx1-ubyte.gz"])[8:]
        for array in (x, y):
            assert array.dtype == np.uint8
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert array.flags.owndata


# Digits


@pytest.mark.smoke
def test_digits_have_the_promised_types_shapes_and_range() -> None:
    (x_train, y_train), (x_test, y_test) = datasets.load("digits")
    assert (x_train.shape, y_train.shape) == ((1437, 64), (1437,))
    assert (x_test.shape, y_test.shape) == ((360, 64), (360,))
    for x in (x_train, x_test):
        assert x.dtype == np.float32
        assert (x.min(), x.max()) == (0.0, 1.0)
    for array in (x_train, y_train, x_test, y_test):
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.owndata
    assert y_train.dtype == y_test.dtype == np.int64


def test_digits_are_the_rows_of_scikit_learns_copy() -> None:
    sklearn_datasets = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn is not installed"
    )
    reference_x, reference_y = sklearn_datasets.load_digits(return_X_y=True)
    (x_train, y_train), (x_test, y_test) = datasets.load("digits")
    x, y = np.vstack([x_train, x_test]) * 16, np.hstack([y_train, y_test])

    def rows(x: NDArray[Any], y: NDArray[Any]) -> list[tuple[float, ...]]:
        return sorted(map(tuple, np.column_stack([x, y]).tolist()))

    assert rows(x, y) == rows(reference_x, reference_y)


def test_digits_are_shuffled_and_stratified() -> None:
    (_, y_train), (_, y_test) = datasets.load("digits")
    total = np.bincount(y_train) + np.bincount(y_test)
    # Within one row of the exact share.
    assert np.all(np.abs(np.bincount(y_test) - total * 360 / 1797) < 1)
    # In sorted order neighbours are equal, in UCI's order 0 1 2 … 9 they never are.
    equal_neighbours = np.mean(y_train[1:] == y_train[:-1])
    assert 0.05 < equal_neighbours < 0.15


def test_each_load_is_fresh() -> None:
    datasets.load("digits")[0][0][:] = -1
    assert datasets.load("digits")[0][0].min() == 0


# The door


def test_an_unknown_name_lists_the_right_ones() -> None:
    with pytest.raises(
        ValueError, match=r"'digits', 'fashion-mnist', 'mnist', got 'fashion_mnist'"
    ):
        datasets.load("fashion_mnist")


def test_a_name_must_be_a_string() -> None:
    with pytest.raises(TypeError, match="name must be a string, got int"):
        datasets.load(3)  # type: ignore[arg-type]


def test_importing_is_cheap() -> None:
    code = (
        "import sys, fastnn.datasets;"
        "print({'pooch', 'requests', 'urllib.request', 'http', 'ssl', 'numba', 'sklearn'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_examples_of_the_docstrings() -> None:
    result = doctest.testmod(datasets)
    assert result.attempted > 0
    assert result.failed == 0


# Places


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_each_place_serves_and_goes_before_the_next(
    name: str, unpacked: bool, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)  # what is on the machine needs no pooch
    monkeypatch.setenv("FASTNN_DATA", str(places.chosen))
    order = [places.chosen / name, places.chosen, places.cache / name, places.system / name]
    # From the last place to the first: each newcomer must win.
    for seed, folder in enumerate(reversed(order)):
        files = made_up(seed)
        put(files, folder, unpacked)
        assert_is(datasets.load(name), files)


def test_unpacked_files_go_before_packed_ones(places: Places) -> None:
    put(made_up(0), places.system / "mnist")
    put(made_up(1), places.system / "mnist", unpacked=True)
    assert_is(datasets.load("mnist"), made_up(1))


def test_an_incomplete_folder_is_passed_over(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTNN_DATA", str(places.chosen))
    incomplete = made_up(0)
    del incomplete["t10k-labels-idx1-ubyte.gz"]
    put(incomplete, places.chosen)
    files = made_up(1)
    put(files, places.system / "mnist")
    assert_is(datasets.load("mnist"), files)


def test_a_folder_of_one_set_does_not_pass_for_another(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist, fashion = made_up(0), made_up(1)
    labels = gzip.decompress(mnist["t10k-labels-idx1-ubyte.gz"])[8:]
    known = datasets._IDX_SETS["mnist"]._replace(test_labels_crc32=zlib_crc32(labels))
    monkeypatch.setitem(datasets._IDX_SETS, "mnist", known)
    monkeypatch.setenv("FASTNN_DATA", str(places.chosen))
    put(mnist, places.chosen)
    put(fashion, places.system / "fashion-mnist")
    assert_is(datasets.load("mnist"), mnist)
    assert_is(datasets.load("fashion-mnist"), fashion)


def zlib_crc32(data: bytes) -> int:
    """The CRC-32 of gzip, read from the trailer that it writes."""
    return int(struct.unpack("<I", gzip.compress(data)[-8:-4])[0])


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/fastnn/data"),
        ("linux", {"XDG_CACHE_HOME": "not/absolute"}, "/home/ada/.cache/fastnn/data"),
        ("linux", {}, "/home/ada/.cache/fastnn/data"),
        ("darwin", {}, "/home/ada/Library/Caches/fastnn/data"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/fastnn/data"),
        ("win32", {}, "/home/ada/AppData/Local/fastnn/data"),
        ("linux", {"FASTNN_CACHE_DIR": "/chosen", "XDG_CACHE_HOME": "/x"}, "/chosen/data"),
    ],
)
def test_the_users_cache_follows_the_platform(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    for variable in ("FASTNN_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert datasets._user_cache() == Path(expected)


def test_fashion_mnist_of_the_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    if not any((share / "datasets" / "fashion-mnist").is_dir() for share in SYSTEM_SHARES):
        pytest.skip("the Debian package dataset-fashion-mnist is not installed")
    monkeypatch.setattr(datasets, "_system_shares", lambda: SYSTEM_SHARES)
    tracemalloc.start()
    (x_train, y_train), (x_test, y_test) = datasets.load("fashion-mnist")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (x_train.shape, x_test.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert np.bincount(y_train).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    # Of the idx files as published by Zalando Research, unpacked.
    for array, sha256 in (
        (x_train, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        (y_train, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        (x_test, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        (y_test, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ):
        assert hashlib.sha256(idx(array)).hexdigest() == sha256
    # Reading by chunks: no second copy of the images at any time.
    assert peak < 1.1 * (x_train.nbytes + x_test.nbytes)


# idx files


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    packed=st.booleans(),
    chunk=st.integers(1, 64),
)
@settings(deadline=None)
def test_idx_files_of_any_shape_are_read(
    shape: tuple[int, ...], packed: bool, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    array = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "CHUNK", chunk)
        np.testing.assert_array_equal(datasets.read_idx(path, ndim=len(shape)), array)


GOOD = idx(np.arange(12, dtype=np.uint8).reshape(1, 3, 4))
GARBAGE = {
    "empty": (b"", "an empty file"),
    "text": (b"<html>404</html>", "begins with the bytes 00 00 08 03, got 3c 68 74 6d"),
    "another type": (b"\0\0\x0d\x03" + GOOD[4:], "uint8 .* got 00 00 0d 03"),
    "other dimensions": (idx(np.ones(5, np.uint8)), "in 3 dimensions"),
    "half a header": (GOOD[:9], "ends within its header"),
    "no rows": (idx(np.ones((0, 3, 4), np.uint8)), "holds no elements"),
    "too short": (GOOD[:-1], r"too short to hold an array of shape \(1, 3, 4\)"),
    "too long": (GOOD + b"\0", r"bytes left after an array of shape \(1, 3, 4\)"),
    # 2**96 bytes: must not be asked of the memory.
    "absurd shape": (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "too short to hold"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_a_value_error_that_names_the_file(
    case: str, packed: bool, tmp_path: Path
) -> None:
    content, message = GARBAGE[case]
    path = tmp_path / "some-file"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=rf"some-file.*{message}"):
        datasets.read_idx(path, ndim=3)


def flip(content: bytes, position: int) -> bytes:
    damaged = bytearray(content)
    damaged[position] ^= 0xFF
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:5],
        lambda content: flip(content, 10),  # the type of the first deflate block
        lambda content: flip(content, len(content) // 2),
        lambda content: flip(content, -6),  # within the CRC
        lambda content: content + b"trailing",
    ],
    ids=["half", "header only", "block type", "a byte of the body", "checksum", "trailing bytes"],
)
def test_a_damaged_gzip_file_is_a_value_error_that_names_the_file(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    array = np.random.default_rng(0).integers(0, 256, size=(4, 9, 9), dtype=np.uint8)
    path = tmp_path / "some-file.gz"
    path.write_bytes(damage(gzip.compress(idx(array))))
    with pytest.raises(ValueError, match="some-file"):
        datasets.read_idx(path, ndim=3)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        (
            datasets.TRAIN_IMAGES,
            np.zeros((7, 28, 27), np.uint8),
            r"\(28, 28\) pixels, got \(28, 27",
        ),
        (datasets.TRAIN_LABELS, np.zeros(6, np.uint8), "a label for each of 7 images, got 6"),
        (datasets.TEST_LABELS, np.full(5, 10, np.uint8), "must be below 10, got 10"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    file: str, array: Images, message: str, places: Places
) -> None:
    put(made_up(0) | {file: gzip.compress(idx(array))}, places.system / "mnist")
    with pytest.raises(ValueError, match=rf"{file}: .*{message}"):
        datasets.load("mnist")


# Downloads


class Publisher:
    """A server on this machine; what it has to say for each path stands in `answers`."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[str] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.requests.append(self.path)
                publisher.answers.get(self.path, Handler.not_found)(self)

            def not_found(self) -> None:
                self.send_error(404)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def offer(self, name: str, files: Files) -> None:
        for file, content in files.items():
            self.answers[f"/{name}/{file}"] = reply(content)


def reply(content: bytes, length: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer with this body, and a Content-Length that may be a lie."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch, pooch: Any) -> Iterator[Publisher]:
    publisher = Publisher()
    thread = threading.Thread(target=publisher.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("FASTNN_DATA_URL", publisher.url + "/")
    yield publisher
    publisher.server.shutdown()
    thread.join()
    publisher.server.server_close()


@pytest.fixture
def published(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A small "mnist" at the publisher's, with its checksums."""
    files = made_up(0)
    sha256 = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    known = datasets._IDX_SETS["mnist"]._replace(sha256=sha256)
    monkeypatch.setitem(datasets._IDX_SETS, "mnist", known)
    publisher.offer("mnist", files)
    return files


def kept(places: Places) -> set[str]:
    return {path.name for path in places.cache.rglob("*") if path.is_file()}


def test_a_set_is_downloaded_once_into_the_cache(
    publisher: Publisher, published: Files, places: Places
) -> None:
    assert_is(datasets.load("mnist"), published)
    assert sorted(publisher.requests) == sorted(f"/mnist/{file}" for file in published)
    assert kept(places) == set(published)
    publisher.requests.clear()
    assert_is(datasets.load("mnist"), published)
    assert publisher.requests == []


def test_a_set_on_the_machine_is_never_asked_of_the_network(
    publisher: Publisher, published: Files, places: Places
) -> None:
    put(made_up(1), places.system / "mnist")
    datasets.load("mnist")
    datasets.load("digits")
    assert publisher.requests == []


BAD = "t10k-images-idx3-ubyte.gz"  # the third of four: two are there when it fails
FAILURES = {
    "wrong content": (reply(b"something else"), ValueError, "was not kept: SHA256"),
    "server error": (
        lambda handler: handler.send_error(500),
        FileNotFoundError,
        "500 Server Error",
    ),
    "not found": (lambda handler: handler.send_error(404), FileNotFoundError, "404 Client Error"),
    "truncated": (reply(b"\x1f\x8b" * 99, length=4096), FileNotFoundError, "IncompleteRead"),
    "hung up": (lambda handler: None, FileNotFoundError, "without response"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_download_is_a_clear_error_and_leaves_nothing_half_written(
    case: str, publisher: Publisher, published: Files, places: Places
) -> None:
    answer, error, message = FAILURES[case]
    publisher.answers[f"/mnist/{BAD}"] = answer
    with pytest.raises(error, match=message) as caught:
        datasets.load("mnist")
    assert f"{publisher.url}/mnist/{BAD}" in str(caught.value)
    del caught  # and with it the traceback: a connection left open would be reported here
    gc.collect()
    # Whole files that were verified may stay, and nothing else.
    for path in places.cache.rglob("*"):
        assert path.is_dir() or path.read_bytes() == published[path.name]
    assert BAD not in kept(places)

    # The next attempt asks only for what is missing.
    before = kept(places)
    publisher.requests.clear()
    publisher.offer("mnist", published)
    assert_is(datasets.load("mnist"), published)
    assert {Path(path).name for path in publisher.requests} == set(published) - before


def test_a_truncated_file_of_unknown_length_fails_the_checksum(
    publisher: Publisher, published: Files, places: Places
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()  # no Content-Length: the end of the connection is the end
        handler.wfile.write(published[BAD][:-1])

    publisher.answers[f"/mnist/{BAD}"] = answer
    with pytest.raises(ValueError, match=f"{BAD} is not the file that the publisher of mnist"):
        datasets.load("mnist")
    assert BAD not in kept(places)


def test_a_cache_that_cannot_be_written_is_a_clear_error(
    publisher: Publisher, published: Files, places: Places
) -> None:
    places.cache.parent.mkdir(parents=True)
    places.cache.write_text("a file where the folder should be")
    with pytest.raises(FileNotFoundError, match="could not download") as caught:
        datasets.load("mnist")
    assert str(places.cache) in str(caught.value)


WAYS = [
    r"\$FASTNN_DATA/fashion-mnist",
    "apt-get install dataset-fashion-mnist",
    r"fastnn\[datasets\]",
]


def test_a_missing_set_says_where_it_was_looked_for_and_each_way_to_get_it(
    places: Places, pooch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTNN_DATA", str(places.chosen))
    put({"train-images-idx3-ubyte.gz": b""}, places.chosen)
    with pytest.raises(FileNotFoundError, match="could not download") as caught:
        datasets.load("fashion-mnist")
    for way in WAYS:
        assert caught.match(way)
    for folder in (
        places.chosen / "fashion-mnist",
        places.cache / "fashion-mnist",
        places.system / "fashion-mnist",
    ):
        assert f"{folder}: no such folder" in str(caught.value)
    assert f"{places.chosen}: lacks train-labels-idx1-ubyte.gz" in str(caught.value)
    assert kept(places) == set()


def test_without_pooch_the_error_names_the_install_line_and_the_other_ways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[datasets\]"') as caught:
        datasets.load("fashion-mnist")
    for way in WAYS:
        assert caught.match(way)
