"""The forms of ops that finish a product's rows: on any part of a matrix, the op's own bits."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastnn.engine import arena, cpu
from fastnn.engine.compiler import address
from fastnn.engine.operands import Call
from fastnn.engine.program import Program
from fastnn.kernels import state as s
from fastnn.kernels.cpu import ahead
from fastnn.kernels.cpu.gemm import COLUMN_GRAIN
from fastnn.kernels.cpu.memory import LINE
from fastnn.kernels.signatures import FINISH_SUFFIX, FINISHES, signature
from kernel_cases import (
    CASES,
    DTYPES,
    UPDATE_CASES,
    Draw,
    Example,
    Watched,
    apply,
    assert_same_bits,
    dense_backward_kernel,
    run,
)

Array = NDArray[Any]

NAMES = [name.removesuffix(FINISH_SUFFIX) for name in FINISHES]
_FINISH = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 8)

of_both_types = pytest.mark.parametrize("dtype", DTYPES)


def finish(
    example: Example, width: int, rows: slice, columns: slice, gap: int, shift: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the finishing form makes of some rows and columns of an example's arrays.

    The part of what comes out of the product, `gap` elements between its rows, and the whole of
    what else is changed; of operands that are not to be touched, it makes sure itself.
    """
    line = signature(example.name)
    part, shape = (rows, columns), (rows.stop - rows.start, columns.stop - columns.start)
    product = example.inputs[line.result[-1]].reshape(-1, width)
    tile = np.full((shape[0], shape[1] + gap), np.nan, example.dtype)
    tile[:, : shape[1]] = product[part]
    watched = {
        name: Watched(np.full_like(value, np.nan) if name in line.result else value, shift)
        for name, value in example.inputs.items()
        if value is not None
    }
    for name in line.result:
        watched.setdefault(name, Watched(np.full_like(product, np.nan), shift))
    result = Watched(tile, 0)
    operands = {name: w.array for name, w in watched.items()}
    call = Call(example.name, {**operands, **example.scalars})
    words = np.array(call.integers(lambda array: array.ctypes.data, address), np.int64)
    state, scratch = example.state(), cpu.Scratch(1)
    scratch.lend(state)
    state[s.ROWS] = len(product)
    function, start = _FINISH(address(call.finish_key)), rows.start * width + columns.start
    asked = np.zeros(ahead.LIST_BYTES // 8, np.int64)

    def finishing(result: int, row: int) -> None:
        cpu._call(
            function, words.ctypes.data, state.ctypes.data, result, row, start, shape[1], shape[0],
            width,
        )  # fmt: skip

    finishing(0, asked.ctypes.data)  # what it will read is put on a list first
    assert all(w.block.tobytes() == w.before.tobytes() for w in (*watched.values(), result))
    elsewhere = [w for name, w in watched.items() if name not in line.result]
    assert set(asked[1 : asked[0] + 1] // LINE) == {
        cache_line
        for w in elsewhere
        for row in range(*rows.indices(len(product)))
        for cache_line in range(
            (w.array.ctypes.data + (row * width + columns.start) * w.array.itemsize) // LINE,
            (w.array.ctypes.data + (row * width + columns.stop) * w.array.itemsize - 1) // LINE + 1,
        )
    }
    finishing(result.array.ctypes.data, tile.strides[0])
    assert not scratch.flag
    result.assert_margins_kept()
    assert np.isnan(result.array[:, shape[1] :]).all(), "written between rows"
    changed = set(example.outputs) - set(line.result)
    for name, w in watched.items():
        if name in changed:
            w.assert_margins_kept()
        else:
            w.assert_kept()
    return {line.result[0]: result.array[:, : shape[1]].copy()}, {n: operands[n] for n in changed}


@of_both_types
@pytest.mark.parametrize(
    ("name", "without"), [*((name, "") for name in NAMES), ("sgd", "velocity")]
)
@given(
    st.one_of(st.sampled_from([1, 15, 16, 17, 63, 64, 65, 128, 129]), st.integers(1, 200)),
    st.integers(0, 4), st.integers(1, 17), st.floats(0, 1), st.floats(0, 1),
    st.sampled_from([0, 0, 1, 7]), st.booleans(), st.integers(0, 17), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=40)
def test_part_of_a_matrix_is_finished_as_by_the_op(
    name: str, without: str, dtype: str, width: int, first_row: int, rows: int,
    first_share: float, share: float, gap: int, whole_rows: bool, shift: int, seed: int,
) -> None:  # fmt: skip
    total = first_row + rows + 1
    draw = Draw(name, dtype, seed, {"N": total, "F": width, "P": total * width}, without)
    example = CASES[name](draw)
    # What draws words is given columns from the first of a group on, up to any.
    grain = COLUMN_GRAIN if signature(name).parts == "NF" else 1
    first = 0 if whole_rows else int(first_share * (width - 1)) // grain * grain
    last = width if whole_rows else first + 1 + int(share * (width - first - 1))
    part = (slice(first_row, first_row + rows), slice(first, last))
    finished, changed = finish(example, width, *part, gap, shift)
    expected = run(example)
    for operand, tile in finished.items():
        if operand in expected:
            assert_same_bits(
                {operand: tile}, {operand: expected[operand].reshape(-1, width)[part].copy()}
            )
    for operand, array in changed.items():
        whole = example.inputs[operand].copy().reshape(-1, width)
        whole[part] = expected[operand].reshape(-1, width)[part]
        assert_same_bits({operand: array.reshape(-1, width)}, {operand: whole})


@of_both_types
@pytest.mark.parametrize("name", ["sgd", "adam", *UPDATE_CASES])
def test_update_of_a_tile_that_is_not_finite_raises_the_flag(name: str, dtype: str) -> None:
    example = CASES[name](Draw(name, dtype, 3, {"N": 1, "P": 6 * 20}))
    finish(example, 20, slice(1, 4), slice(3, 18), 0, 0)
    for row, column in ((1, 3), (2, 9), (3, 17)):
        g = example.inputs["g"].copy().reshape(6, 20)
        g[row, column] = np.inf
        with pytest.raises(AssertionError, match="flag"):
            finish(example.replace(g=g.reshape(-1)), 20, slice(1, 4), slice(3, 18), 0, 0)
    g = example.inputs["g"].copy().reshape(6, 20)
    g[1:4, [2, 18]], g[[0, 4]] = np.nan, np.nan  # all around the tile
    finish(example.replace(g=g.reshape(-1)), 20, slice(1, 4), slice(3, 18), 0, 0)


# Products with a chain of finishes, linked as a program links them


@of_both_types
@given(
    st.sampled_from([1, 2, 7, 8, 9, 191, 192, 205]), st.integers(1, 70),
    st.sampled_from([1, 5, 63, 64, 65, 130, 200, 1100]), st.sampled_from([0, 2, 3, 5]),
    st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=30)
def test_chain_is_its_ops_one_by_one(
    dtype: str, rows: int, depth: int, width: int, threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=(rows, n)).astype(dtype) for n in (depth, width))
    w = (rng.normal(size=(depth, width)) / depth**0.5).astype(dtype)
    outs = []
    for fused in (False, True):
        out = np.full((rows, width), np.nan, dtype)
        made = Program(rows, dtype, training=True)
        rows_of_x, rows_of_y, *values = (made.new((n,)) for n in (depth, *[width] * 5))
        sources = {"x": x, "y": y, "out": out}
        handles = {
            name: made.external(name, (0, *a.shape[1:]), dtype) for name, a in sources.items()
        }
        made.op("gather", out=rows_of_x, source=handles["x"])
        made.op("gather", out=rows_of_y, source=handles["y"])
        made.op("dense_forward", y=values[0], x=rows_of_x, w=w)
        made.op("dropout", y=values[1], x=values[0], rate=0.4, stream=7)
        made.op("tanh_forward", y=values[2], x=values[1])
        made.op("relu_backward", dx=values[3], dy=values[2], y=rows_of_y)
        made.op("scatter", out=handles["out"], source=values[3])
        if fused:
            made.fuse()
            assert len(made.calls) == 4
        memory = arena.allocate(made.arena_bytes)
        memory[:] = 0xFF
        team = cpu.Team(threads) if threads else None
        cpu.Run(made.link(memory, sources), cpu.new_state(seed), team).epoch(rows, rows)
        if team is not None:
            team.close()
        outs.append({"out": out})
    assert_same_bits(*outs)
    # The oracle's word on it, so that both are not wrong alike.
    assert np.isfinite(outs[0]["out"]).all()
    dropped = outs[0]["out"] == 0
    assert dropped[y < 0].all()


@of_both_types
@given(
    st.sampled_from([1, 7, 8, 9, 31, 200]), st.sampled_from([1, 3, 20, 64, 530]),
    st.sampled_from([1, 16, 33, 100, 129, 1100]), st.sampled_from(["uint8", "float32", "float64"]),
    st.sampled_from([0, 2, 3]), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=30)
def test_a_product_that_gathers_its_rows(
    dtype: str, batch: int, depth: int, width: int, source_type: str, threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    total = 2 * batch + int(rng.integers(0, batch))  # the last batch is not a whole one
    x = rng.integers(0, 200, (total + 5, depth)).astype(source_type)
    order = rng.permutation(total + 5)
    w = (rng.normal(size=(depth, width)) / depth**0.5).astype(dtype)
    outs = []
    for fused in (False, True):
        gathered, y = np.full((total, depth), np.nan, dtype), np.full((total, width), np.nan, dtype)
        made = Program(batch, dtype, training=True)
        sources = {"x": x, "order": order, "gathered": gathered, "y": y}
        handles = {
            name: made.external(name, (0, *a.shape[1:]), str(a.dtype))
            for name, a in sources.items()
        }
        rows_of_x, product = made.new((depth,)), made.new((width,))
        made.op("gather", out=rows_of_x, source=handles["x"], order=handles["order"])
        made.op("dense_forward", y=product, x=rows_of_x, w=w)
        made.op("scatter", out=handles["gathered"], source=rows_of_x)
        made.op("scatter", out=handles["y"], source=product)
        if fused:
            made.fuse()
            assert [call.signature.name for call in made.calls] == [
                "dense_forward", "scatter", "scatter",
            ]  # fmt: skip
        memory = arena.allocate(made.arena_bytes)
        memory[:] = 0xFF
        team = cpu.Team(threads) if threads else None
        cpu.Run(made.link(memory, sources), cpu.new_state(seed), team).epoch(total, batch)
        if team is not None:
            team.close()
        outs.append({"gathered": gathered, "y": y})
    assert_same_bits(*outs)
    np.testing.assert_array_equal(outs[1]["gathered"], x[order[:total]].astype(dtype))


@of_both_types
def test_discarded_gradient_is_given_away_and_kept_from_memory(dtype: str) -> None:
    # Where one pass takes all of the depth, nothing is written to dw at all.
    example = dense_backward_kernel(Draw("", dtype, 8, {"N": 40, "I": 21, "O": 70}))
    gradients = apply(
        "dense_backward_kernel", 40, dtype, dw=np.empty((21, 70), dtype), **example.inputs
    )
    dw = np.full((21, 70), np.nan, dtype)
    w = np.zeros((21, 70), dtype)
    product = Call("dense_backward_kernel", {"dw": dw, **example.inputs, "discard": 1})
    update = Call("sgd", {"w": w.reshape(-1), "g": dw.reshape(-1), "multiplier": 1.0})
    code = np.zeros((1, s.CODE_WIDTH), np.int64)
    code[0, s.CODE_ADDRESS] = address(update.finish_key)
    finish_words = update.integers(lambda array: array.ctypes.data, address)
    code[0, s.CODE_OPERANDS : s.CODE_OPERANDS + len(finish_words)] = finish_words
    words = np.array(
        product.integers(lambda array: array.ctypes.data, address, code.ctypes.data), np.int64
    )
    state = cpu.new_state()
    cpu.floats(state)[s.LEARNING_RATE] = -1.0
    state[s.ROWS] = 40
    with cpu.workspace() as scratch:
        scratch.clear()
        scratch.lend(state)
        cpu.call_op(address(product.key), words, state)
        assert not scratch.flag
    assert np.isnan(dw).all()
    np.testing.assert_array_equal(w, gradients["dw"])
