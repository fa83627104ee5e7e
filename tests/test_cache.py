"""The cache of compiled ops never lies: edits are seen, damage is repaired, a disk that takes no
files is survived, and processes that compile at once do not disturb each other.
"""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import fastnn
from fastnn.engine import cache, compiler

PACKAGE = Path(fastnn.__file__).parent

RELU = """
import fastnn, numpy as np
print(fastnn.Activation("relu").forward(np.array([[-2.0, 3.0]], np.float32)).tolist())
"""
RELU_PRINTS = "[[0.0, 3.0]]\n"

EDIT = '''

@formula
def doubled(x):
    """An edit."""
    return x + x


ELEMENTWISE["relu"] = Elementwise(doubled, relu_derivative)
'''


def relu_in(place: Path, folder: Path, code: str = RELU) -> str:
    """What a fresh process prints that takes the package from `place` and caches in `folder`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=place,
        env={**os.environ, "FASTNN_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package."""
    ignored = shutil.ignore_patterns("__pycache__", "data")
    shutil.copytree(PACKAGE, tmp_path / "copy" / "fastnn", ignore=ignored)
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def relu_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with ReLU in it: the file."""
    folder = tmp_path_factory.mktemp("cache")
    assert relu_in(PACKAGE.parent, folder) == RELU_PRINTS
    (file,) = files_in(folder)
    return file


@pytest.fixture
def folder(relu_file: Path, tmp_path: Path) -> Path:
    """A cache of a test's own with ReLU in it."""
    root = relu_file.parent.parent.parent
    return Path(shutil.copytree(root, tmp_path / "cache"))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Edits.


def test_an_edited_formula_is_never_served_stale(copy: Path, folder: Path) -> None:
    assert relu_in(copy, folder) == RELU_PRINTS
    source = copy / "fastnn" / "kernels" / "activations.py"
    original = source.read_text()
    source.write_text(original + EDIT)
    assert relu_in(copy, folder) == "[[-4.0, 6.0]]\n"
    source.write_text(original)
    assert relu_in(copy, folder) == RELU_PRINTS
    assert len(files_in(folder)) == 2


def test_an_edit_under_a_running_process_is_not_kept_as_the_old_code(
    copy: Path, tmp_path: Path
) -> None:
    # The process knows the fingerprint before the edit and compiles after it.
    folder, source = tmp_path / "empty", copy / "fastnn" / "kernels" / "activations.py"
    original = source.read_text()
    edit = f"open({str(source)!r}, 'a').write({EDIT!r})"
    prelude = f"from fastnn.engine import cache\ncache.fingerprint()\n{edit}\n"
    relu_in(copy, folder, prelude + RELU)
    source.write_text(original)
    assert relu_in(copy, folder) == RELU_PRINTS


def test_an_edit_after_the_import_is_not_kept_as_the_new_code(copy: Path, tmp_path: Path) -> None:
    # The process has read the formulas before the edit, and looks at the fingerprint after it.
    folder, source = tmp_path / "empty", copy / "fastnn" / "kernels" / "activations.py"
    edit = f"open({str(source)!r}, 'a').write({EDIT!r})"
    assert relu_in(copy, folder, f"import fastnn.activations\n{edit}\n" + RELU) == RELU_PRINTS
    assert relu_in(copy, folder) == "[[-4.0, 6.0]]\n"


# The fingerprint.


@pytest.fixture
def fingerprint() -> Callable[[], str]:
    """The fingerprint as a fresh process would see it."""
    return cache.fingerprint.__wrapped__


def test_the_fingerprint_is_a_function_of_its_inputs(fingerprint: Callable[[], str]) -> None:
    assert fingerprint() == fingerprint() == cache.fingerprint()


def set_numba_setting(name: str) -> Callable[[pytest.MonkeyPatch, Path], None]:
    return lambda monkeypatch, folder: monkeypatch.setenv(name, "another")


def set_version_of(package: str) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def change(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        (folder / "_version.py").write_text("another")
        found = cache.importlib.util.find_spec
        moved = SimpleNamespace(origin=str(folder / "__init__.py"))
        monkeypatch.setattr(
            cache.importlib.util,
            "find_spec",
            lambda name: moved if name == package else found(name),
        )

    return change


def add_source(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "new.py").write_text("")
    sources = cache.kernel_sources()
    monkeypatch.setattr(cache, "kernel_sources", lambda: [*sources, folder / "new.py"])
    monkeypatch.setattr(cache, "_first_look", cache.hash_of_sources())


def set_python(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(cache, "sys", SimpleNamespace(version_info=(3, 99), platform=sys.platform))


def set_platform(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    changed = SimpleNamespace(version_info=sys.version_info, platform="plan9")
    monkeypatch.setattr(cache, "sys", changed)


CHANGES: dict[str, Callable[[pytest.MonkeyPatch, Path], None]] = {
    "a source": add_source,
    "Numba": set_version_of("numba"),
    "llvmlite": set_version_of("llvmlite"),
    "LLVM": lambda m, _: m.setattr(llvm, "llvm_version_info", (99, 0, 0)),
    "Python": set_python,
    "platform": set_platform,
    "machine": lambda m, _: m.setattr(cache.platform, "machine", lambda: "z80"),
    "CPU": lambda m, _: m.setattr(llvm, "get_host_cpu_name", lambda: "z80"),
    "CPU features": lambda m, _: m.setattr(
        llvm, "get_host_cpu_features", lambda: SimpleNamespace(flatten=lambda: "+none")
    ),
    **{name: set_numba_setting(name) for name in cache.NUMBA_SETTINGS},
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_fingerprint_changes_with(
    what: str, fingerprint: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = fingerprint()
    CHANGES[what](monkeypatch, tmp_path)
    assert fingerprint() != before


@pytest.mark.parametrize("package", cache.CUDA_PACKAGES)
def test_kernels_for_gpus_are_kept_under_the_version_of(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    key = compiler.CUDA, "9-0-256", "relu_forward", "float32"
    monkeypatch.setattr(cache, "cuda_fingerprint", cache.cuda_fingerprint.__wrapped__)
    compiler._keep(key, (b"code", "symbol"))
    assert compiler._kept(key) == (b"code", "symbol")
    version = cache.importlib.metadata.version
    monkeypatch.setattr(
        cache.importlib.metadata, "version", lambda p: "99" if p == package else version(p)
    )
    assert compiler._kept(key) is None
    assert compiler._name(key[2:]) == "relu_forward.float32"


@pytest.mark.parametrize("name", cache.CUDA_SETTINGS)
def test_kernels_for_gpus_are_kept_under_the_setting(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.cuda_fingerprint.__wrapped__()
    monkeypatch.setenv(name, "another")
    assert cache.cuda_fingerprint.__wrapped__() != before


def test_the_fingerprint_knows_every_kernel_source_but_the_oracle() -> None:
    sources = cache.kernel_sources()
    names = {path.relative_to(PACKAGE / "kernels").as_posix() for path in sources}
    assert {"scalar.py", "signatures.py", "state.py", "cpu/gemm.py", "cpu/adapter.py"} <= names
    assert not any(name.startswith("reference") for name in names)
    assert sources == sorted(sources)


# Damage.


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A key with a small file in a cache of the test's own."""
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "small"))
    assert cache.write("key", b"object file", "symbol")
    assert cache.read("key") == (b"object file", "symbol")
    return "key"


def test_no_flipped_bit_passes(key: str) -> None:
    path = cache._path(key)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert cache.read(key) is None, f"bit {bit % 8} of byte {bit // 8}"


def test_no_part_of_a_file_passes_and_none_with_more(key: str) -> None:
    path = cache._path(key)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert cache.read(key) is None, length
    path.write_bytes(whole + b"\0")
    assert cache.read(key) is None


def test_what_is_no_file_is_read_as_nothing_and_left(key: str) -> None:
    path = cache._path(key)
    path.unlink()
    assert cache.read(key) is None
    path.mkdir()
    assert cache.read(key) is None
    assert not cache.write(key, b"object file", "symbol")
    assert files_in(cache.directory()) == []


# Disks that will not take files.


@pytest.fixture
def compile_once(monkeypatch: pytest.MonkeyPatch, relu_file: Path) -> list[Any]:
    """An empty table of ops in this process, and a compiler that hands out ReLU; its calls."""
    calls: list[Any] = []
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(relu_file.parent.parent.parent))
    found = cache.read("relu_forward.float32")
    assert found is not None

    def compile_op(name: str, element_types: tuple[str, ...]) -> tuple[bytes, str]:
        calls.append((name, element_types))
        return found

    from fastnn.kernels.cpu import adapter

    monkeypatch.setattr(adapter, "compile_op", compile_op)
    monkeypatch.setattr(compiler, "_addresses", {})
    return calls


def assert_relu_works() -> None:
    x = np.array([[-2.0, 3.0]], np.float32)
    for _ in range(2):
        assert fastnn.Activation("relu").forward(x).tolist() == [[0.0, 3.0]]


@pytest.mark.parametrize("kind", ["empty", "truncated", "garbage", "bit flipped"])
def test_a_damaged_file_is_rebuilt(
    kind: str, compile_once: list[Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(folder))
    (file,) = files_in(folder)
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 8]) + whole[middle + 1 :]
    damaged = {"empty": b"", "truncated": whole[:-1], "garbage": whole[::-1]}
    file.write_bytes(damaged.get(kind, flipped))
    assert_relu_works()
    assert compile_once == [("relu_forward", ("float32",))]
    assert files_in(folder) == [file]
    assert file.read_bytes() == whole


def no_space(*arguments: object, **named: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullFile:
    """A file on a disk that is full: it opens, and fails where `at` says."""

    def __init__(self, at: str, *arguments: Any) -> None:
        self._at = at
        self._file = open(*arguments)

    def __enter__(self) -> "FullFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._at == "close":
            no_space()

    def __getattr__(self, name: str) -> Any:
        return no_space if name == self._at else getattr(self._file, name)


@pytest.mark.skipif(os.name != "posix", reason="no umask on this system")
def test_files_are_for_all_whom_the_user_lets(key: str) -> None:
    # A container's image is made by one user and run by another.
    before = os.umask(0o027)
    try:
        assert cache.write(key, b"object file", "symbol")
        assert cache._path(key).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize("at", ["mkdir", "open", "write", "close", "replace"])
def test_a_full_disk_is_survived(
    at: str, compile_once: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "full"))
    if at == "mkdir":
        monkeypatch.setattr(Path, "mkdir", no_space)
    elif at == "replace":
        monkeypatch.setattr(cache.os, "replace", no_space)
    else:
        opened = no_space if at == "open" else lambda *a: FullFile(at, *a)
        monkeypatch.setattr(cache, "open", opened, raising=False)
    assert_relu_works()
    assert len(compile_once) == 1
    assert files_in(tmp_path) == []


def test_a_folder_that_is_read_only_is_survived(compile_once: list[Any], tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    with pytest.MonkeyPatch.context() as monkeypatch:
        # root may write anywhere but below /proc.
        monkeypatch.setenv("FASTNN_CACHE_DIR", "/proc/fastnn" if os.access(folder, os.W_OK) else
                           str(folder))  # fmt: skip
        assert not cache.write("key", b"object file", "symbol")
        assert_relu_works()
    assert len(compile_once) == 1


def test_a_path_that_is_a_file_is_survived(
    compile_once: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "file"))
    assert_relu_works()
    assert len(compile_once) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_a_user_without_a_home_is_survived(
    compile_once: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a container under a user id that the system does not know.
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("FASTNN_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert_relu_works()
    assert len(compile_once) == 1


def test_the_folder_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache.directory() == tmp_path / "chosen"
    monkeypatch.setenv("FASTNN_CACHE_DIR", "")
    if sys.platform == "linux":
        assert cache.directory() == tmp_path / "xdg" / "fastnn"
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        assert cache.directory() == Path.home() / ".cache" / "fastnn"


# Processes at once.


def test_four_processes_that_compile_at_once_all_succeed(tmp_path: Path) -> None:
    # Each says that it has imported everything, and goes on when all have.
    prelude = "import fastnn.kernels.cpu.adapter, sys\nprint('ready', flush=True)\ninput()\n"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", prelude + RELU],
            cwd=PACKAGE.parent,
            env={**os.environ, "FASTNN_CACHE_DIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        assert child.communicate(timeout=300)[0] == RELU_PRINTS
        assert child.returncode == 0
    (file,) = files_in(tmp_path)
    assert file.name == "relu_forward.float32.bin"
    assert relu_in(PACKAGE.parent, tmp_path) == RELU_PRINTS
