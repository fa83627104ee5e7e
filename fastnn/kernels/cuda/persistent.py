"""Many whole steps of a small network in one launch: one block does every op of each, in turn.

What a step of a small network costs as a graph is a few microseconds for each of a dozen kernels,
which wait for each other with nothing to do. In one block the ops are parted by a barrier instead,
and what one writes the next reads from the processor's own cache. The ops' device functions are
those that are launched by themselves, except for products, whose tiles are for grids.

Predicted, not measured, for a step of 20, 64, 64 and 2 units and 32 rows on an H200: 8,100 loads of
a warp in products, at one a cycle, and as many cycles again or more at some 30 barriers: 20,000
cycles, 11 µs at 1.8 GHz.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.kernels import state as s
from fastnn.kernels.activations import Elementwise
from fastnn.kernels.bits import float64_from_bits
from fastnn.kernels.cuda.dense import following_activation, of_two
from fastnn.kernels.cuda.launch import THREADS, Kernel, Launch
from fastnn.kernels.cuda.memory import address, given, lanes_of, load_wide, view
from fastnn.kernels.cuda.parts import ONE_THREAD, PRODUCTS, ROWWISE, STEPS, Part, PartCall
from fastnn.kernels.cuda.rows import THREADS as THREADS_OF_ROWS
from fastnn.kernels.cuda.slots import FLAG, LATE_FLAG
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.cuda.ways import ONE_BLOCK

NAME = "persistent_steps"
"""What the kernel is called, whatever its ops are."""

flat = view("float32", 1)

ROWS_AT_ONCE = lanes_of("float32")
"""Rows of a product for which a thread reads an element of the other factor once."""


PITCH = ONE_BLOCK.width + 1
"""Words between the rows of a matrix in shared memory."""

SHARED_WORDS = ONE_BLOCK.width * PITCH
"""Those of the largest."""

ZERO = np.float32(0)


def _product(wide: bool, depth_runs: bool, finish: Any) -> Any:
    """The function ``multiply(c, a, b, pitch, step, rows, columns, depth, more, relu)``.

    One block overwrites `c` (rows, columns) with what ``finish(sum, row, column, more, relu)``
    makes of sums over the depth, each in order by one thread. B's element at `k` and `column` is
    ``b[k * step + column * pitch]``. `depth_runs`: A is (rows, depth) as it lies, else transposed.
    `wide`: its rows begin on multiples of 16 bytes. All arrays are flat.
    """
    each = range(ROWS_AT_ONCE)
    lines = []
    if wide and depth_runs:
        lines = [f"for k in range(0, depth, {ROWS_AT_ONCE}):"]
        lines += [f"    a{r} = load_wide(a, n{r} * depth + k)" for r in each]
        for lane in each:
            lines += [f"    factor = b[(k + {lane}) * step + j * pitch]"]
            lines += [f"    t{r} += a{r}[{lane}] * factor" for r in each]
    else:
        lines = ["for k in range(depth):", "    factor = b[k * step + j * pitch]"]
        if wide:
            lines += ["    of_a = load_wide(a, k * rows + first)"]
            lines += [f"    t{r} += of_a[{r}] * factor" for r in each]
        else:
            at = "n{} * depth + k" if depth_runs else "k * rows + n{}"
            lines += [f"    t{r} += a[{at.format(r)}] * factor" for r in each]
    last = [f"n{r} = min(first + {r}, rows - 1)" for r in each]
    totals = [f"t{r} = zero" for r in each]
    # The last row may be written more than once: the same bits each time.
    written = [f"c[n{r} * columns + j] = finish(t{r}, n{r}, j, more, relu)" for r in each]
    body = "\n".join(" " * 8 + line for line in [*last, *totals, *lines, *written])
    text = f"""
def multiply(c, a, b, pitch, step, rows, columns, depth, more, relu):
    groups = (rows + {ROWS_AT_ONCE - 1}) // {ROWS_AT_ONCE}
    for place in range(cuda.threadIdx.x, groups * columns, cuda.blockDim.x):
        first, j = place // columns * {ROWS_AT_ONCE}, place % columns
{body}
"""
    namespace = {"cuda": cuda, "load_wide": load_wide, "zero": np.float32(0), "finish": finish}
    exec(text, namespace)
    return device(namespace["multiply"])


def dense_forward(wide: bool, activation: Elementwise | None) -> Any:
    """The device function of the op of this name, for one block of any number of threads."""
    follows, follow = activation is not None, of_two("formula", activation)

    @device
    def finished(value, row, column, b, numbers):
        if given(b):
            value += b[column]
        if follows:
            return follow(value, numbers[1])
        return max(value, ZERO) if numbers[0] and value == value else value

    multiply = _product(wide, True, finished)

    @device
    def dense_forward(y, x, w, b, relu, finish):
        (rows, columns), depth = y.shape, x.shape[1]
        out = flat(address(y), (y.size,))
        a, factor = flat(address(x), (x.size,)), flat(address(w), (w.size,))
        numbers = relu, np.float32(float64_from_bits(finish))
        multiply(out, a, factor, 1, columns, rows, columns, depth, b, numbers)

    return dense_forward


def dense_backward_input(wide: bool, activation: Elementwise | None) -> Any:
    """The device function of the op of this name, for one block of any number of threads.

    Neighbouring threads take rows of `w`; these go through shared memory, `staged`, an odd number
    of words apart, so that each comes from a bank of its own.
    """
    follows, slope = activation is not None, of_two("derivative", activation)

    @device
    def finished(value, row, column, gate, parameter):
        if follows:
            return value * slope(gate[row, column], parameter)
        if given(gate) and not gate[row, column] > ZERO:
            return value * ZERO
        return value

    multiply = _product(wide, True, finished)

    @device
    def dense_backward_input(dx, dy, w, gate, finish, staged):
        (rows, columns), depth = dx.shape, dy.shape[1]
        for place in range(cuda.threadIdx.x, w.size, cuda.blockDim.x):
            i, k = place // depth, place % depth
            staged[i * PITCH + k] = w[i, k]
        cuda.syncthreads()
        out, a = flat(address(dx), (dx.size,)), flat(address(dy), (dy.size,))
        parameter = np.float32(float64_from_bits(finish))
        multiply(out, a, staged, PITCH, 1, rows, columns, depth, gate, parameter)

    return dense_backward_input


def dense_backward_kernel(wide: bool, activation: None) -> Any:
    """The device function of the op of this name, for one block of any number of threads."""

    @device
    def finish(value, row, column, more, relu):
        return value

    multiply = _product(wide, False, finish)

    @device
    def dense_backward_kernel(dw, db, x, dy):
        (rows, columns), depth = dw.shape, dy.shape[0]
        out = flat(address(dw), (dw.size,))
        a, factor = flat(address(x), (x.size,)), flat(address(dy), (dy.size,))
        multiply(out, a, factor, 1, columns, rows, columns, depth, 0, 0)
        if given(db):
            for j in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
                total = ZERO
                for n in range(depth):
                    total += dy[n, j]
                db[j] = total

    return dense_backward_kernel


OWN: dict[str, Callable[..., Any]] = {
    "dense_forward": dense_forward,
    "dense_backward_input": dense_backward_input,
    "dense_backward_kernel": dense_backward_kernel,
}
"""Products as one block does them."""


def part_of(
    name: str,
    element_types: tuple[str, ...],
    kernel: Kernel,
    launch: Launch,
) -> Part | None:
    """An op as part of a step that one block does; None if it takes more than that."""
    if name in PRODUCTS:
        _, wide, *more = launch.constants
        return Part(name, element_types, (wide, more[1] if more else 0))
    by_rows = name in ROWWISE and launch.blocks[0] * launch.threads <= THREADS_OF_ROWS
    if kernel.any_grid or by_rows or name in ONE_THREAD or name == "accumulate":
        return Part(name, element_types, launch.constants)
    return None


def body_of(part: Part, make: Callable[[Part], Any]) -> Any:
    """A part's device function; ``make(part)``: the one that is launched by itself."""
    if part.name not in PRODUCTS:
        return make(part)
    wide, following = part.constants
    return OWN[part.name](bool(wide), following_activation(following))


def source_of(calls: Sequence[PartCall]) -> str:
    """The text of the kernel."""
    lines: list[str] = []
    for call in calls:
        name = call.part.name
        # Whose threads of a row are within a warp meets no barrier of the block.
        few = 1 if name in ONE_THREAD else THREADS_OF_ROWS if name in ROWWISE else THREADS
        only = f" and cuda.threadIdx.x < {few}" if few < THREADS else ""
        lines += [f"if flag == 0{only}:", f"    {call.text}", "cuda.syncthreads()"]
        if "position" in call.wanted:
            # Nobody may raise the next flag before all have seen this one.
            lines += [f"flag = state[{FLAG}]", "cuda.syncthreads()"]
    body_text = "\n".join("        " + line for line in lines)
    words = [word for call in calls for word in call.words]
    return f"""
def {NAME}({", ".join([*words, "state_at"])}):
    staged = cuda.shared.array({SHARED_WORDS}, float32, alignment=16)
    for _ in range({STEPS}):
        state = view_int64_1(state_at, (STATE_SLOTS,))
        floats = view_float64_1(state_at, (STATE_SLOTS,))
        N, flag = state[{s.ROWS}], state[{FLAG}] | state[{LATE_FLAG}]
        cuda.syncthreads()
        if (N == 0) | (flag != 0):
            return
{body_text}
        if cuda.threadIdx.x == 0:
            next_step(state_at)
        cuda.syncthreads()
"""
