"""A training step of a narrow network on a large batch: all but the update in two kernels.

`STEP` takes a tile of rows through forward, loss and backward on tensor cores. All weights lie in
shared memory, and so do a tile's activations, each of which its gradient replaces once it is not
needed any more: none of either goes through global memory. A warp has 16 rows of the tile, from the
input to the loss and back, and waits for the others only where the gradient of a kernel is summed
over all of them. Of a bias it is one more row, that of an input of ones. What a block has of the
gradients of all parameters it lays down in the workspace, tile upon tile; `GRADIENTS` adds up what
the blocks have, in their order, and looks whether it is finite.

Factors are rounded to tf32 or bfloat16 where they are put into shared memory, sums are float32.

Predicted, not measured, for 64, 64, 64 and 10 units and 16,384 rows, by 128 blocks of 128 rows: a
row takes 3 · (64·64 + 64·64 + 64·16) − 64·64 = 23,552 multiply-adds, all together 386 million. An
instruction in tf32 does 1,024 of them: 2,855 for each of 132 processors. Shared memory takes 2, 4
and 3 cycles to give what one of them needs forwards, on the way back and for a kernel's gradient:
8,600 cycles or 4.9 µs at 1.755 GHz, of which multiplying alone would take a third. In bfloat16 half
as many instructions wait for 2, 2 and 3 cycles: 1.9 µs. The rows are 4.2 MB, 1 µs at 4.3 TB/s; the
gradients of 128 blocks, 36 KB each, are 4.6 MB written and as many read, 2 µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels import state as s
from fastnn.kernels.bits import float64_from_bits
from fastnn.kernels.cuda.column_sums import column_sums
from fastnn.kernels.cuda.dense import following_activation, of_two
from fastnn.kernels.cuda.flag import raise_flag
from fastnn.kernels.cuda.groups import WARP
from fastnn.kernels.cuda.launch import Launch
from fastnn.kernels.cuda.memory import given, load_wide, untold, view
from fastnn.kernels.cuda.narrow_format import SIDE, Format, Layer, padded
from fastnn.kernels.cuda.narrow_losses import LOSSES
from fastnn.kernels.cuda.slots import FLAG, STATE_SLOTS, WORKSPACE
from fastnn.kernels.cuda.target import cuda, device, unrolled
from fastnn.kernels.scalar import is_finite

STEP, GRADIENTS = "narrow_step", "narrow_gradients"
"""What the two kernels are called."""

TILES, ENOUGH_TILES = (128, 64), 120
"""Rows of a block's tile: the larger one, if a batch has so many of it."""

PROCESSORS = 132
"""Of an H200, most of which so many tiles give work to."""

ACROSS, DOWN = 32, 8
"""Parameters of a block of `GRADIENTS`, and threads that add up the parts of each."""

ZERO = np.float32(0)

flat, labels_of = view("float32", 1), view("int32", 1)


class Plan:
    """Where everything lies in shared memory, for so many rows of a tile.

    Parameters
    ----------
    precision : str
    layers : sequence of Layer
    rows : int

    Attributes
    ----------
    rows_at, weights_at : list of int
        First words of the rows of each width, from the input to the output, and of each kernel.
    bytes : int
        All of it.
    """

    def __init__(self, precision: str, layers: Sequence[Layer], rows: int) -> None:
        form = Format(precision)
        widths = [layers[0].inputs, *(layer.outputs for layer in layers)]
        sizes = [rows * form.pitch(width) for width in widths]
        sizes += [padded(layer.inputs) * form.pitch(layer.outputs) for layer in layers]
        begins = [sum(sizes[:place]) for place in range(len(sizes))]
        self.rows_at, self.weights_at = begins[: len(widths)], begins[len(widths) :]
        self.bytes = 4 * sum(sizes)


def launches_of(
    precision: str, layers: Sequence[Layer], rows: int, parameters: int, most_shared: int
) -> tuple[Launch, Launch] | None:
    """How the two kernels are launched on batches of so many rows.

    None where no tile fits into `most_shared` bytes, a block's most of shared memory.
    """
    for tile in TILES:
        size = Plan(precision, layers, tile).bytes
        if size > most_shared or (tile > TILES[-1] and rows < tile * ENOUGH_TILES):
            continue
        resident = 2 if 2 * (size + 1024) <= most_shared else 1
        blocks = min(-(-rows // tile), resident * PROCESSORS)
        workspace = 4 * blocks * parameters
        step = Launch((blocks, 1), WARP * tile // SIDE, (tile,), workspace, size)
        sums = Launch((-(-parameters // ACROSS), 1), ACROSS * DOWN)
        return step, sums
    return None


def _rows_taken(form: Format, width: int, wide: bool) -> Any:
    """``take(shared, lane, base, row, x, first, rows)``: a warp's rows of x, or zeros for them."""
    pitch, full, run, put = form.pitch(width), padded(width), 4 if wide else 2, form.put

    @device
    def take(shared, lane, base, row, x, first, rows):
        for place in range(lane, SIDE * full // run, WARP):
            own, column = row + place // (full // run), place % (full // run) * run
            to, at, inside = base + own * pitch, (first + own) * width + column, first + own < rows
            if wide:
                if inside and column < width:
                    p, q, u, v = load_wide(x, at)
                else:
                    p = q = u = v = ZERO
                put(shared, to, column, p, q)
                put(shared, to, column + 2, u, v)
            else:
                p = x[at] if inside and column < width else ZERO
                q = x[at + 1] if inside and column + 1 < width else ZERO
                put(shared, to, column, p, q)

    return take


def _kernel_taken(form: Format, layer: Layer, threads: int) -> Any:
    """``take(shared, base, w)``: the block brings a kernel, with zeros around it."""
    rows, columns = layer.inputs, layer.outputs
    pitch, full, down, put = form.pitch(columns), padded(columns), padded(rows), form.put

    @device
    def take(shared, base, w):
        for place in range(cuda.threadIdx.x, down * full // 2, threads):
            i, j = place // (full // 2), place % (full // 2) * 2
            p = w[i * columns + j] if i < rows and j < columns else ZERO
            q = w[i * columns + j + 1] if i < rows and j + 1 < columns else ZERO
            put(shared, base + i * pitch, j, p, q)

    return take


def _rows_multiplied(form: Format, layer: Layer, transposed: bool) -> Any:
    """``multiply(shared, lane, a, row, b, totals)``: a warp's rows times a kernel, or transposed.

    A thread has, of each eight columns of the result, two neighbours of the row lane // 4 and then
    two of the eighth below.
    """
    across, deep = layer.outputs, layer.inputs
    if transposed:
        across, deep = deep, across
    pairs, steps, add = padded(across) // 16, padded(deep) // form.depth, form.multiply
    of_a = form.along(deep)
    of_b = form.along(layer.outputs) if transposed else form.across(layer.outputs)

    @device
    def multiply_pair(pair, shared, lane, b, step, p, q, u, v, totals):
        words, t = of_b(shared, lane, b, 16 * pair, step), 8 * pair
        totals[t], totals[t + 1], totals[t + 2], totals[t + 3] = add(
            p, q, u, v, words[0], words[2], totals[t], totals[t + 1], totals[t + 2], totals[t + 3]
        )
        t += 4
        totals[t], totals[t + 1], totals[t + 2], totals[t + 3] = add(
            p, q, u, v, words[1], words[3], totals[t], totals[t + 1], totals[t + 2], totals[t + 3]
        )

    multiply_pairs = unrolled(multiply_pair, pairs)

    @device
    def multiply(shared, lane, a, row, b, totals):
        for i in range(8 * pairs):
            totals[i] = ZERO
        for step in range(steps):
            p, q, u, v = of_a(shared, lane, a, row, step)
            multiply_pairs(shared, lane, b, step, p, q, u, v, totals)

    return multiply


def _activated(form: Format, layer: Layer) -> Any:
    """``put(shared, lane, y, row, totals, b, parameter)``: a warp's rows of a layer's output."""
    columns, pitch, put = layer.outputs, form.pitch(layer.outputs), form.put
    follow = of_two("formula", following_activation(layer.following))

    @device
    def value_of(total, column, b, parameter):
        if column >= columns:
            return ZERO
        return follow(total + b[column] if given(b) else total, parameter)

    @device
    def put_block(j, shared, lane, y, row, totals, b, parameter):
        column, at = 8 * j + lane % 4 * 2, y + (row + lane // 4) * pitch
        for half in range(2):
            v = value_of(totals[4 * j + 2 * half], column, b, parameter)
            w = value_of(totals[4 * j + 2 * half + 1], column + 1, b, parameter)
            put(shared, at + 8 * half * pitch, column, v, w)

    return unrolled(put_block, padded(columns) // 8)


def _gated(form: Format, layer: Layer) -> Any:
    """``put(shared, lane, y, row, totals, parameter)``: a layer's gradient in the place of y."""
    columns, pitch, put, get = layer.outputs, form.pitch(layer.outputs), form.put, form.get
    activation = following_activation(layer.following)
    follows, slope = activation is not None, of_two("derivative", activation)

    @device
    def put_block(j, shared, lane, y, row, totals, parameter):
        column, at = 8 * j + lane % 4 * 2, y + (row + lane // 4) * pitch
        for half in range(2):
            v, w = totals[4 * j + 2 * half], totals[4 * j + 2 * half + 1]
            if follows:
                one, other = get(shared, at + 8 * half * pitch, column)
                v = v * slope(one, parameter) if column < columns else ZERO
                w = w * slope(other, parameter) if column + 1 < columns else ZERO
            put(shared, at + 8 * half * pitch, column, v, w)

    return unrolled(put_block, padded(columns) // 8)


def _kernel_gradient(form: Format, layer: Layer, rows: int) -> Any:
    """``add(shared, lane, row, x, dy, laid, dw, db, adds)``: gradients of a kernel and its bias.

    Those of a tile overwrite `laid` from `dw` and `db` on, or are added to it; `db` is negative
    where there is no bias. Each warp has blocks of 16 rows and up to 32 columns.
    """
    inputs, outputs = layer.inputs, layer.outputs
    halves, blocks, warps = padded(outputs) // 16, padded(inputs) // 16, rows // SIDE
    pairs = 2 if halves % 2 == 0 else 1
    units, steps, size = blocks * halves // pairs, rows // form.depth, 8 * pairs
    of_x, of_dy, multiply = form.across(inputs), form.across(outputs), form.multiply
    ones = 0x3F803F80 if form.depth == 16 else 0x3F800000
    one_word, no_word = np.int32(ones), np.int32(0)

    @device
    def add_half(t, p, q, u, v, low, high, totals):
        totals[t], totals[t + 1], totals[t + 2], totals[t + 3] = multiply(
            p, q, u, v, low, high, totals[t], totals[t + 1], totals[t + 2], totals[t + 3]
        )

    @device
    def add_pair(pair, shared, lane, dy, column, step, p, q, u, v, is_first, totals, sums):
        words = of_dy(shared, lane, dy, column + 16 * pair, step)
        add_half(8 * pair, p, q, u, v, words[0], words[2], totals)
        add_half(8 * pair + 4, p, q, u, v, words[1], words[3], totals)
        if is_first:
            one = one_word if lane < 4 else no_word
            add_half(8 * pair, one, no_word, one, no_word, words[0], words[2], sums)
            add_half(8 * pair + 4, one, no_word, one, no_word, words[1], words[3], sums)

    @device
    def write_one(i, laid, at, db, row, column, adds, has_bias, totals, sums):
        below, beside = i // 2 % 2 * 8, i // 4 * 8 + i % 2
        if row + below < inputs and column + beside < outputs:
            own = at + (below * outputs + beside)
            laid[own] = laid[own] + totals[i] if adds else totals[i]
        if below == 0 and has_bias and column + beside < outputs:
            own = db + beside
            laid[own] = laid[own] + sums[i] if adds else sums[i]

    add_pairs, write_all = unrolled(add_pair, pairs), unrolled(write_one, size)

    @device
    def add(shared, lane, own_row, x, dy, laid, dw, db, adds):
        totals, sums = cuda.local.array(size, types.float32), cuda.local.array(size, types.float32)
        for unit in range(own_row // SIDE, units, warps):
            row, column = unit % blocks * 16, unit // blocks * 16 * pairs
            is_first = row == 0 and db >= 0
            for i in range(size):
                totals[i] = sums[i] = ZERO
            for step in range(steps):
                p, q, u, v = of_x(shared, lane, x, row, step)
                add_pairs(shared, lane, dy, column, step, p, q, u, v, is_first, totals, sums)
            row, column = row + lane // 4, column + lane % 4 * 2
            at, has_bias = dw + row * outputs + column, is_first and lane < 4
            write_all(laid, at, db + column, row, column, adds, has_bias, totals, sums)

    return add


OF_LAYER = ("w", "b", "parameter", "dw", "db")
"""What the step is told of each layer: addresses, a parameter's bits, places among gradients."""

OF_STEP = ("x", "targets", "weights", "z", "loss", "parameters")
"""What it is told beside: addresses, and the number of all parameters."""


def step_key(precision: str, loss: str, wide: bool, layers: Sequence[Layer]) -> tuple[str, ...]:
    """The key of the step's kernel; `wide`: rows of x begin on multiples of 16 bytes."""
    return (STEP, precision, loss, str(int(wide)), *map(str, layers))


def _step(key: Sequence[str], rows: int) -> tuple[Any, int]:
    """The entry of the step, for tiles of so many rows, and how many integers it takes."""
    precision, loss, wide, *texts = key
    layers = [Layer(*map(int, text.split(","))) for text in texts]
    form, plan, threads = Format(precision), Plan(precision, layers, rows), WARP * rows // SIDE
    last, at, kernels = len(layers) - 1, plan.rows_at, plan.weights_at
    widest = max(layer.outputs for layer in layers)
    of_row = 1 if loss == "softmax_crossentropy" else layers[-1].outputs
    names = [f"{name}_{i}" for i in range(len(layers)) for name in OF_LAYER] + list(OF_STEP)
    namespace: dict[str, Any] = {
        "cuda": cuda,
        "flat": flat,
        "float32": types.float32,
        "int32": types.int32,
        "integers": view("int64", 1),
        "number": _number,
        "read_targets": labels_of if loss == "softmax_crossentropy" else flat,
        "untold": untold,
        "take_rows": _rows_taken(form, layers[0].inputs, wide == "1"),
        "put_loss": LOSSES[loss](form, layers[-1]),
    }
    # What each part of a tile adds to its addresses is 0, of which the compiler is told nothing new
    # each time: else it would find all addresses before the first tile, and keep none in registers.
    anew = ["none = untold(none)", "lane, row = own_lane + none, own_row + none"]
    begin, forward, back = [], [], []
    for i, layer in enumerate(layers):
        namespace |= {
            f"take_{i}": _kernel_taken(form, layer, threads),
            f"multiply_{i}": _rows_multiplied(form, layer, transposed=False),
            f"add_{i}": _kernel_gradient(form, layer, rows),
        }
        begin += [f"take_{i}(shared, {kernels[i]}, flat(w_{i}, ({layer.inputs * layer.outputs},)))"]
        begin += [f"bias_{i} = flat(b_{i}, ({layer.outputs},))"]
        forward += [*anew, f"multiply_{i}(shared, lane, {at[i]}, row, {kernels[i]}, totals)", *anew]
        if i < last:
            namespace |= {
                f"put_{i}": _activated(form, layer),
                f"gate_{i}": _gated(form, layer),
                f"return_{i + 1}": _rows_multiplied(form, layers[i + 1], transposed=True),
            }
            begin += [f"number_{i} = number(parameter_{i})"]
            forward += [f"put_{i}(shared, lane, {at[i + 1]}, row, totals, bias_{i}, number_{i})"]
            forward += ["cuda.syncwarp()"]
    forward += [f"put_loss(shared, lane, {at[-1]}, row, totals, bias_{last}, to_targets, "
                "to_weights, to_z, to_loss, first, N)"]  # fmt: skip
    for i in range(last, -1, -1):
        back += ["cuda.syncthreads()", *anew]
        back += [f"add_{i}(shared, lane, row, {at[i]}, {at[i + 1]}, laid, base + dw_{i}, "
                 f"base + db_{i} if db_{i} >= 0 else -1, adds)"]  # fmt: skip
        if i > 0:
            back += anew
            back += [f"return_{i}(shared, lane, {at[i + 1]}, row, {kernels[i]}, totals)"]
            # All warps have read the rows that gradients now replace.
            back += ["cuda.syncthreads()", *anew]
            back += [f"gate_{i - 1}(shared, lane, {at[i]}, row, totals, number_{i - 1})"]
    text = f"""
def {STEP}({", ".join([*names, "state_at"])}):
    state = integers(state_at, ({STATE_SLOTS},))
    N, flag = state[{s.ROWS}], state[{FLAG}]
    if (N == 0) | (flag != 0):
        return
    shared = cuda.shared.array(0, int32, alignment=16)
    totals = cuda.local.array({padded(widest) // 2}, float32)
    laid = flat(state[{WORKSPACE}], (cuda.gridDim.x * parameters,))
    source, to_weights = flat(x, (N * {layers[0].inputs},)), flat(weights, (N,))
    to_targets = read_targets(targets, (N * {of_row},))
    to_z, to_loss = flat(z, (N * {layers[-1].outputs},)), flat(loss, (N,))
    base, own_lane = cuda.blockIdx.x * parameters, cuda.threadIdx.x % {WARP}
    own_row, none = cuda.threadIdx.x // {WARP} * {SIDE}, untold(0)
{_indented(begin, 1)}
    for tile in range(cuda.blockIdx.x, (N + {rows - 1}) // {rows}, cuda.gridDim.x):
        first, adds = tile * {rows}, tile >= cuda.gridDim.x
        cuda.syncthreads()
        lane, row = own_lane + none, own_row + none
        take_rows(shared, lane, {at[0]}, row, source, first, N)
        cuda.syncwarp()
{_indented([*forward, *back], 2)}
"""
    exec(text, namespace)
    return namespace[STEP], len(names) + 1


def _indented(lines: Sequence[str], depth: int) -> str:
    return "\n".join("    " * depth + line for line in lines)


@device
def _number(bits):
    """A parameter out of its bits, as float32."""
    return np.float32(float64_from_bits(bits))


def _gradients() -> tuple[Any, int]:
    """The entry that adds up what blocks of the step have, and how many integers it takes.

    ``narrow_gradients(g_at, parameters, blocks, tile, phase, position, state_at)`` overwrites the
    `parameters` gradients at an address and raises a flag where one, or its square, is not finite.
    """

    @device
    def term(i, column, laid):
        return (laid[i],)

    integers, add_up = view("int64", 1), column_sums(ACROSS, ACROSS * DOWN, 1, term)

    def narrow_gradients(g_at, parameters, blocks, tile, phase, position, state_at):
        state = integers(state_at, (STATE_SLOTS,))
        rows, flag = state[s.ROWS], state[FLAG]
        if (rows == 0) | ((flag != 0) & (flag != position + 1)):
            return
        totals = cuda.local.array(1, types.float64)
        parts = min(blocks, (rows + tile - 1) // tile)
        laid, g = flat(state[WORKSPACE], (blocks * parameters,)), flat(g_at, (parameters,))
        column = add_up(totals, parts, parameters, state, state[WORKSPACE], laid)
        if column >= 0:
            gradient = np.float32(totals[0])
            g[column] = gradient
            if not is_finite(gradient * gradient):
                raise_flag(state, phase, position)

    return narrow_gradients, 7


def entry(name: str, key: Sequence[str], constants: tuple[int, ...]) -> tuple[Any, int]:
    """The Python function of one of the two kernels, and how many integers it takes."""
    return _step(key, constants[0]) if name == STEP else _gradients()
