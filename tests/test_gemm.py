"""Matrix products at the edges of all that they are cut into, and nothing read outside of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.engine.cpu import block_bytes
from fastnn.engine.shapes import PACK_ROWS as PACK_ROWS_OF
from fastnn.kernels import state as s
from fastnn.kernels.cpu import dense, gemm
from fastnn.kernels.cpu.microkernel import TILE_ROWS, TILE_VECTORS, lanes
from fastnn.kernels.signatures import ITEM_BYTES
from kernel_cases import CASES, DENSE, DTYPES, Draw, Example, assert_same_bits, check, run
from processes import python

PACK_ROWS = max(PACK_ROWS_OF.values())

of_both_types = pytest.mark.parametrize("dtype", DTYPES)
of_every_product = pytest.mark.parametrize("name", DENSE)

# Which letter of each op is the product's rows, its columns and its depth.
LETTERS = {
    "dense_forward": "NOI",
    "dense_backward_input": "NIO",
    "dense_backward_kernel": "ION",
}


def around(*numbers: int) -> set[int]:
    """The numbers with their neighbours."""
    return {n + d for n in numbers for d in (-1, 0, 1) if n + d > 0}


def product(name: str, dtype: str, rows: int, columns: int, depth: int, seed: int = 0) -> Example:
    """An example of a product of these sizes."""
    sizes = dict(zip(LETTERS[name], (rows, columns, depth), strict=True))
    return CASES[name](Draw(name, dtype, seed, sizes))


def block_columns(dtype: str, depth: int) -> int:
    """Columns of a block of B, of `depth` rows or fewer."""
    if depth * gemm.BLOCK_COLUMNS * ITEM_BYTES[dtype] <= block_bytes():
        return gemm.BLOCK_COLUMNS
    grain = gemm.COLUMN_GRAIN
    return max(1, block_bytes() // (depth * grain * ITEM_BYTES[dtype])) * grain


def sizes_of(dtype: str) -> tuple[list[int], list[int], list[int]]:
    """Rows, columns and depths at which something changes."""
    vector = lanes(dtype)
    rows = around(*TILE_ROWS, 2 * TILE_ROWS[0], PACK_ROWS) | {TILE_ROWS[0] + 3}
    columns = around(vector // 2, vector, TILE_VECTORS * vector, 64, 128) | {64 + vector // 2, 200}
    return sorted(rows), sorted(columns), sorted({1, 2, 3, 16, 37} | around(vector, 64))


@of_both_types
@of_every_product
def test_edges_of_tiles(name: str, dtype: str) -> None:
    rows, columns, depths = sizes_of(dtype)
    for i, (high, wide) in enumerate((r, c) for r in rows for c in columns):
        check(product(name, dtype, high, wide, depths[i % len(depths)], i), shift=i % 17)


@of_both_types
@of_every_product
@pytest.mark.parametrize("rows", [5, PACK_ROWS + 3])
def test_edges_of_blocks(name: str, rows: int, dtype: str) -> None:
    depth, wide = gemm.MAX_DEPTH, gemm.BLOCK_COLUMNS
    sizes = [(70, deep) for deep in sorted(around(depth, 2 * depth) | {3 * depth + 7})]
    sizes += [(columns, 3) for columns in sorted(around(wide) | {2 * wide + 33})]
    for deep in (depth, depth // 2, depth + 1):
        step = deep if deep <= depth else (deep + 1) // 2
        sizes += [(columns, deep) for columns in sorted(around(block_columns(dtype, step)))]
    for columns, deep in sizes:
        check(product(name, dtype, rows, columns, deep))


@of_both_types
@of_every_product
@given(
    st.integers(1, 40), st.sampled_from([1, 63, 64, 65, 130, 257, 330]), st.integers(1, 90),
    st.integers(2, 5), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=15)
def test_any_team_computes_the_same_bits(
    name: str, dtype: str, rows: int, columns: int, depth: int, team: int, seed: int
) -> None:
    example = product(name, dtype, rows, columns, depth, seed)
    assert_same_bits(run(example, team=1), run(example, team=team))


@of_both_types
@pytest.mark.parametrize("name", ["dense_forward", "dense_backward_kernel"])
def test_packed_or_not_the_bits_are_the_same(name: str, dtype: str) -> None:
    for rows, columns, depth in ((5, 70, 530), (40, 1, 3), (200, 1030, 20), (9, 33, 1100)):
        example = product(name, dtype, rows, columns, depth)
        results = []
        for pack in (0, 1):
            example.scalars["pack"] = pack
            results.append(run(example))
        assert_same_bits(*results)


@of_both_types
@of_every_product
def test_teams_on_deep_and_wide_products(name: str, dtype: str) -> None:
    for rows, columns, depth in ((33, 700, 530), (400, 70, 530), (7, 1300, 20), (3, 64, 1100)):
        example = product(name, dtype, rows, columns, depth)
        whole = run(example)
        for team in (1, 2, 3, 4, 5):
            assert_same_bits(run(example, team=team), whole)


@of_both_types
@pytest.mark.parametrize("columns", [1, 2, dense.NARROW, dense.NARROW + 1])
def test_a_narrow_gradient_is_the_same_by_its_transpose(columns: int, dtype: str) -> None:
    assert dense.NARROW * dense.MOST_ROWS * ITEM_BYTES[dtype] <= s.MOST_BLOCK_BYTES
    for rows in sorted(around(dense.LEAST_ROWS, 100, dense.MOST_ROWS)):
        example = product("dense_backward_kernel", dtype, rows, columns, 1 + rows % 40, rows)
        check(example, shift=rows % 17)
        assert_same_bits(run(example), run(example, team=2))


@of_both_types
@pytest.mark.parametrize("rows", [1, 3, 200])
def test_bias_gradient_is_a_sum_in_the_order_of_rows(rows: int, dtype: str) -> None:
    # Alone as well as beside any number of weights, and in any number of blocks.
    for depth, columns in ((1, 1), (7, 70), (513, 33), (1100, 140), (40, 1030)):
        example = product("dense_backward_kernel", dtype, rows, columns, depth)
        total = np.zeros(columns, dtype)
        for row in example.inputs["dy"]:
            total += row
        for team in (0, 2, 5):
            assert_same_bits({"db": run(example, team=team)["db"]}, {"db": total})


@of_both_types
@of_every_product
def test_an_element_is_one_chain_wherever_it_stands(name: str, dtype: str) -> None:
    # The element's row and column alone make the same bits as the whole product.
    example = product(name, dtype, 40, 150, 600, 3)
    whole = next(iter(run(example).values()))
    row_of, column_of, _ = LETTERS[name]
    for row, column in ((0, 0), (7, 64), (39, 149), (20, 31)):
        at = {row_of: row, column_of: column}
        inputs = {}
        for operand, dimensions in (
            ("x", "NI"), ("dy", "NO"), ("w", "IO"), ("b", "O"), ("gate", "NI"),
        ):  # fmt: skip
            if (value := example.inputs.get(operand)) is not None:
                cut = [slice(at[d], at[d] + 1) if d in at else slice(None) for d in dimensions]
                inputs[operand] = value[tuple(cut)].copy()
        alone = example.replace(**inputs)
        alone.rows = 1 if "N" in at else example.rows
        result = next(iter(run(alone).values()))
        assert result.tobytes() == whole[row, column].tobytes()


NOTHING_OUTSIDE = """
import ctypes, mmap, sys
import numpy as np
from fastnn.engine.tape import Eager
from kernel_cases import CASES, DTYPES, Draw
from fastnn.kernels.signatures import signature

PAGE = mmap.PAGESIZE
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
kept = []

def beside_a_wall(array, at_the_end):
    "A copy whose first or last byte is next to a page that must not be touched."
    pages = -(-array.nbytes // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert protect(base, PAGE, 0) == 0
    assert protect(base + (pages + 1) * PAGE, PAGE, 0) == 0
    begin = (1 + pages) * PAGE - array.nbytes if at_the_end else PAGE
    copy = np.frombuffer(memory, array.dtype, array.size, begin).reshape(array.shape)
    copy[...] = array
    kept.append(memory)
    return copy

if sys.argv[1] == "wall":  # what is tried does end a process
    wall = beside_a_wall(np.zeros(4), True)
    ctypes.string_at(wall.ctypes.data, wall.nbytes + 1)

calls = 0
for name in CASES:
    for dtype in DTYPES:
        for seed, sizes in enumerate([
            dict(N=1, I=1, O=1, F=1, C=2, P=1),
            dict(N=7, I=9, O=13, F=33, C=10, P=131),
            dict(N=17, I=67, O=65, F=63, C=63, P=64),
            dict(N=197, I=33, O=70, F=129, C=65, P=1000),
            dict(N=5, I=515, O=519, F=2, C=3, P=7),
        ]):
            example = CASES[name](Draw(name, dtype, seed, sizes))
            outputs = {
                k: np.zeros(v.shape, dtype) for k, v in example.expected().items()
                if k not in example.written_floats
            }
            for at_the_end in (True, False):
                operands = {
                    k: beside_a_wall(v, at_the_end)
                    for k, v in {**outputs, **example.inputs}.items() if v is not None
                }
                tape = Eager(example.rows, dtype, example.state())
                tape.op(name, **operands, **example.scalars)
                calls += 1
print(calls)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no mprotect on this system")
def test_nothing_outside_an_operand_is_touched() -> None:
    path = os.pathsep.join(
        [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    )
    assert int(python(NOTHING_OUTSIDE, "", PYTHONPATH=path)) == 20 * len(CASES)
    with pytest.raises(AssertionError):
        python(NOTHING_OUTSIDE, "wall", PYTHONPATH=path)
