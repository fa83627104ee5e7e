"""Compiled ops on disk: object files in the user's cache that can never be stale or half written.

A file's folder is named by a fingerprint of all that its content depends on: the kernels' sources,
the versions of Numba, llvmlite, LLVM and Python, the CPU with its features, Numba's settings. Files
are written under another name and moved into place, and carry a checksum that is looked at on
reading. Whatever goes wrong on disk, the op is compiled again and kept in memory. Kernels for GPUs
are kept under the versions of what compiles those, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import secrets
import struct
import sys
from functools import cache
from pathlib import Path

_MAGIC = b"fastnn object 1\n"
_LENGTH = struct.Struct("<I")
_CHECKSUM_BYTES = 32

NUMBA_SETTINGS = (
    "NUMBA_BOUNDSCHECK",
    "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES",
    "NUMBA_DEBUGINFO",
    "NUMBA_ENABLE_AVX",
    "NUMBA_LOOP_VECTORIZE",
    "NUMBA_OPT",
    "NUMBA_SLP_VECTORIZE",
)
"""Environment variables that decide how Numba compiles."""


CUDA_PACKAGES = ("numba-cuda", "cuda-bindings", "cuda-toolkit", "nvidia-nvvm", "nvidia-nvjitlink")
"""What compiles kernels for GPUs, beside Numba."""

CUDA_SETTINGS = ("CUDA_HOME", "CUDA_PATH", "NUMBA_CUDA_DEBUGINFO")
"""Environment variables that decide which toolkit Numba compiles by, and how."""


def directory() -> Path:
    """The folder that fastnn keeps files in: ``FASTNN_CACHE_DIR``, or the platform's place."""
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fastnn"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastnn"
    # The XDG specification voids relative paths.
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "fastnn"


def kernel_sources() -> list[Path]:
    """The files whose text decides what is compiled."""
    root = Path(__file__).resolve().parent.parent / "kernels"
    return sorted(p for p in root.rglob("*.py") if p.relative_to(root).parts[0] != "reference")


def hash_of_sources() -> bytes:
    """A hash of the kernels' text as it is on disk now."""
    digest = hashlib.sha256()
    for path in kernel_sources():
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)}\n".encode() + text)
    return digest.digest()


_first_look = hash_of_sources()
"""The hash of the sources when this process began to import them."""


@cache
def fingerprint() -> str:
    """A hash of everything that compiled ops depend on."""
    import llvmlite.binding as llvm

    digest = hashlib.sha256(_first_look)
    # The packages' version files are read, not imported: importing Numba takes half a second.
    for package in ("numba", "llvmlite"):
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise ImportError(f"fastnn compiles its kernels with {package}: pip install {package}")
        digest.update((Path(found.origin).parent / "_version.py").read_bytes())
    facts = (
        llvm.llvm_version_info,
        sys.version_info[:2],
        platform.machine(),
        sys.platform,
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        *(os.environ.get(name) for name in NUMBA_SETTINGS),
    )
    digest.update(repr(facts).encode())
    return digest.hexdigest()


@cache
def cuda_fingerprint() -> str:
    """A hash of what kernels for GPUs depend on beyond `fingerprint`."""
    versions = []
    for package in CUDA_PACKAGES:
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            versions.append("")
    linking = (Path(__file__).parent / "cuda" / "cubin.py").read_bytes()
    facts = versions, [os.environ.get(name) for name in CUDA_SETTINGS]
    return hashlib.sha256(repr(facts).encode() + linking).hexdigest()


def folder() -> Path:
    """The folder of the ops compiled for this machine, which need not exist."""
    return directory() / "ops" / fingerprint()[:32]


LONGEST_NAME = 128
"""Letters of a key that a file is called by; a longer one's is called by its hash."""


def _path(key: str) -> Path:
    name = key if len(key) <= LONGEST_NAME else hashlib.sha256(key.encode()).hexdigest()
    return folder() / f"{name}.bin"


# Without a home directory there is no place for a cache: `directory` raises RuntimeError.
_NO_DISK = (OSError, RuntimeError)


def seal(magic: bytes, body: bytes) -> bytes:
    """A file's content: what it is, a checksum, and the body."""
    return magic + hashlib.sha256(body).digest() + body


def unseal(magic: bytes, content: bytes) -> bytes | None:
    """The body of what `seal` made; None if it is not whole."""
    begin = len(magic) + _CHECKSUM_BYTES
    body = content[begin:]
    return body if content[:begin] == magic + hashlib.sha256(body).digest() else None


def join(head: bytes, rest: bytes) -> bytes:
    """Two things as one: the length of the first, and both."""
    return _LENGTH.pack(len(head)) + head + rest


def split(body: bytes) -> tuple[bytes, bytes]:
    """The two that `join` made one of."""
    (length,) = _LENGTH.unpack_from(body)
    begin = _LENGTH.size + length
    return body[_LENGTH.size : begin], body[begin:]


def read(key: str) -> tuple[bytes, str] | None:
    """The object file and symbol kept under `key`; None where there is none that is whole."""
    try:
        body = unseal(_MAGIC, _path(key).read_bytes())
    except _NO_DISK:
        return None
    if body is None:
        return None
    symbol, object_file = split(body)
    return object_file, symbol.decode()


def write(key: str, object_file: bytes, symbol: str) -> bool:
    """Keep an object file under `key`; whether the disk took it.

    Not where the sources were edited since this process imported them: what it has compiled might
    be neither the old nor the new.
    """
    try:
        target = _path(key)
        if hash_of_sources() != _first_look:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        replace(target, seal(_MAGIC, join(symbol.encode(), object_file)))
    except _NO_DISK:
        return False
    return True


def replace(path: Path, content: bytes) -> None:
    """Write a file at once: whoever reads it finds the old content or the new, never a part."""
    # Not by `tempfile`, whose files only their owner may read: a container's image is made by one
    # user and run by another.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
