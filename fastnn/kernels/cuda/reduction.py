"""Long sums in float64, in an order that follows from the shape alone: never from the grid.

A thread sums what it reads, `groups` sums over threads. Sums of more than one block's work are laid
down in the state, and the block that comes last sums them up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda.groups import sum_over
from fastnn.kernels.cuda.memory import WIDE, address, lanes_of, load_wide
from fastnn.kernels.cuda.shared_sums import comes_last
from fastnn.kernels.cuda.slots import ARRIVED, PARTIALS
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.signatures import ITEM_BYTES


def sum_of(type_name: str, threads: int, of_element: Any) -> Any:
    """The function ``sum(array, first, count, thread, numbers)``: a thread's share in a sum.

    So many threads sum ``of_element(element, numbers)``, float64, of `count` elements of a flat
    array from number `first` on. Whether these begin on a multiple of 16 bytes decides how they are
    read, not in which order they are summed.
    """
    lanes, size = lanes_of(type_name), ITEM_BYTES[type_name]
    elements = ", ".join(f"array[i + {lane}]" for lane in range(lanes))
    added = [f"total += of_element(wide(part[{lane}]), numbers)" for lane in range(lanes)]
    lines = [
        f"aligned = (address(array) + {size} * first) & {WIDE - 1} == 0",
        f"total, i, whole = 0.0, first + {lanes} * thread, first + (count & {-lanes})",
        "while i < whole:",
        f"    part = load_wide(array, i) if aligned else ({elements},)",
        *("    " + line for line in added),
        f"    i += {lanes * threads}",
        "i = whole + thread",
        "if i < first + count:",
        "    total += of_element(wide(array[i]), numbers)",
        "return total",
    ]
    text = "\n".join(
        ["def sum(array, first, count, thread, numbers):", *("    " + x for x in lines)]
    )
    namespace = {
        "address": address,
        "load_wide": load_wide,
        "of_element": of_element,
        "wide": np.float64,
    }
    exec(text, namespace)
    return device(namespace["sum"])


def sum_over_grid(threads: int) -> Any:
    """The function ``sum(count, state, floats)`` of the first `count` partial sums in the state.

    Each block calls it once it has written its own. In the last to do so the result is the sum and
    ``True``, in all of its threads; in the others 0 and ``False``.
    """
    of_block = sum_over("float64", threads)

    @device
    def sum_over_grid(count, state, floats):
        if not comes_last(state, ARRIVED, cuda.gridDim.x):
            return 0.0, False
        total, i = 0.0, cuda.threadIdx.x
        while i < count:
            total += floats[PARTIALS + i]
            i += threads
        return of_block(total), True

    return sum_over_grid
