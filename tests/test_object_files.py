"""Compiled ops as object files: complete, self-contained, called with the right operands."""

from __future__ import annotations

import inspect
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from fastnn.engine import cache, compiler
from fastnn.engine.catalogue import every_key
from fastnn.engine.compiler import Key
from fastnn.kernels import state as s
from fastnn.kernels.cpu import adapter
from fastnn.kernels.signatures import (
    FINISH_SUFFIX,
    FINISHES,
    FUNCTIONS,
    ITEM_BYTES,
    NAMES,
    signature,
)

pytestmark = pytest.mark.every_op

KEYS = every_key()
OP_KEYS = [key for key in KEYS if key[0] in NAMES]

# C's mathematical functions; LLVM makes calls to some of them out of its own intrinsics.
_FUNCTIONS = """
    acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs
    floor fma fmax fmin fmod frexp hypot ldexp lgamma log log10 log1p log2 modf nearbyint pow
    remainder rint round scalbn sin sincos sinh sqrt tan tanh tgamma trunc
""".split()
LIBM = {name + suffix for name in _FUNCTIONS for suffix in ("", "f")}

PARAMETERS = {
    "state",
    "floats",
    "workspace",
    "rank",
    "team",
    "N",
    "start",
    "first",
    "column",
    "width",
}
"""What a kernel may ask for besides its operands and dimensions; see the adapter's docstring."""


def object_file(key: Key) -> tuple[bytes, str]:
    """The object file of a compiled function, out of the cache if the disk keeps one."""
    assert compiler.address(key) != 0
    return cache.read(".".join(key)) or adapter.compile_op(key[0], key[1:])


@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_everything_compiles(key: Key) -> None:
    content, symbol = object_file(key)
    assert symbol.encode() in content


@pytest.mark.skipif(platform.system() != "Linux", reason="object files are ELF on Linux only")
@pytest.mark.skipif(shutil.which("nm") is None, reason="nm (binutils) is not installed")
@pytest.mark.parametrize("key", KEYS, ids=".".join)
def test_object_file_needs_nothing_but_libm(key: Key, tmp_path: Path) -> None:
    content, symbol = object_file(key)
    path = tmp_path / "op.o"
    path.write_bytes(content)
    command = ["nm", "--format=posix", str(path)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kinds = dict(line.split()[:2] for line in listed.splitlines())
    undefined = {name for name, kind in kinds.items() if kind in "Uvw"}
    assert symbol in kinds.keys() - undefined
    assert undefined <= LIBM


@pytest.mark.parametrize("key", OP_KEYS, ids=".".join)
def test_kernel_asks_for_its_operands_in_order(key: Key) -> None:
    op = signature(key[0])
    arrays = [operand.name for operand in op.arrays]
    scalars = [scalar.name for scalar in op.scalars]
    parameters = list(inspect.signature(adapter.factory(op.name)(*key[1:]).py_func).parameters)
    known = {*arrays, *scalars, *op.dimensions, *PARAMETERS}
    assert set(parameters) <= known
    # All of them, outputs first as in the signature, scalars after, then what a thread is told.
    assert parameters[: len(arrays) + len(scalars)] == arrays + scalars


@pytest.mark.parametrize("name", NAMES)
def test_signature_makes_sense(name: str) -> None:
    op = signature(name)
    if op.arrays:
        assert not op.arrays[0].type == "S", "an output is of the op's own type"
    names = [operand.name for operand in op.arrays] + [scalar.name for scalar in op.scalars]
    assert len(set(names)) == len(names)
    assert not set(names) & PARAMETERS
    for operand in op.arrays:
        assert operand.type in ("T", "S", *ITEM_BYTES)
        assert 1 <= len(operand.dimensions) <= 3
    for scalar in op.scalars:
        assert scalar.type in ("int", "float", "chain", "supply", *FUNCTIONS)
    assert op.width <= s.CODE_WIDTH - s.CODE_OPERANDS, "too wide for a program's row"
    assert op.parts in ("N", "NF", "P", "elements", "own", "first")
    if op.parts in ("N", "NF", "P"):
        assert op.parts[0] in {operand.dimensions[0] for operand in op.arrays}
    if op.in_place:
        output, source = (next(o for o in op.arrays if o.name == n) for n in op.in_place)
        assert output.dimensions == source.dimensions
        assert output.type == source.type
        assert not output.optional
        assert not source.optional
    # What finishes a product's rows takes them in one place alone, and as its own output's shape.
    assert (name + FINISH_SUFFIX in FINISHES) == bool(op.result)
    for result in op.result:
        operand = next(o for o in op.arrays if o.name == result)
        assert operand.type == "T"
        assert not operand.optional
        assert all(o.dimensions == operand.dimensions for o in op.arrays)


def test_a_kernel_of_no_op_is_an_error() -> None:
    with pytest.raises(LookupError, match="no CPU kernel is called 'no_such_kernel'"):
        adapter.factory("no_such_kernel")
