"""Kernels out of a function of one element: each thread takes 16 bytes of every array at a time.

An array may be both read and written, and two arrays may be one: an element's inputs are read
before its outputs are written, by the same thread. Arrays that do not all begin on a multiple of
16 bytes, as a part of a flat vector may, are gone through an element at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from fastnn.kernels.cuda.flag import raise_flag
from fastnn.kernels.cuda.launch import Kernel, by_element
from fastnn.kernels.cuda.memory import WIDE, address, lanes_of, load_wide, store_wide, untold
from fastnn.kernels.cuda.target import cuda, device


@device
def no_numbers():
    """Of a function that needs none."""
    return ()


def loop_over(
    type_name: str,
    outputs: Sequence[str],
    inputs: Sequence[str],
    function: Callable[..., Any],
    flags: bool = False,
) -> Any:
    """The device function ``loop(*arrays, numbers)`` that goes over the elements of flat arrays.

    It takes the outputs and then the inputs, each array once, and returns whether a value was not
    finite. The parameters are those of `over_elements`.
    """
    lanes = lanes_of(type_name)
    arrays = list(dict.fromkeys([*outputs, *inputs]))

    def results(lane: str, elements: str) -> list[str]:
        lines = [f"r{lane} = function({elements}, numbers)"]
        return lines + ([f"bad |= r{lane}[{len(outputs)}]"] if flags else [])

    wide = [f"{a}_in = load_wide({a}, i)" for a in inputs]
    for lane in range(lanes):
        wide += results(str(lane), ", ".join(f"{a}_in[{lane}]" for a in inputs))
    for place, a in enumerate(outputs):
        values = ", ".join(f"r{lane}[{place}]" for lane in range(lanes))
        wide.append(f"store_wide({a}, i, ({values},))")
    single = results("", ", ".join(f"{a}[i]" for a in inputs))
    single += [f"{a}[i] = r[{place}]" for place, a in enumerate(outputs)]
    lines = [
        f"count, whole, bad = {arrays[0]}.size, 0, False",
        "thread, threads = cuda.grid(1), cuda.gridsize(1)",
        f"if ({' | '.join(f'address({a})' for a in arrays)}) & {WIDE - 1} == 0:",
        f"    whole = count & {-lanes}",
        f"    i = {lanes} * thread",
        "    while i < whole:",
        *("        " + line for line in wide),
        f"        i = untold(i + {lanes} * threads)",
        "i = whole + thread",
        "while i < count:",
        *("    " + line for line in single),
        "    i = untold(i + threads)",
        "return bad",
    ]
    text = "\n".join([f"def loop({', '.join(arrays)}, numbers):", *("    " + x for x in lines)])
    namespace = {
        "cuda": cuda,
        "address": address,
        "load_wide": load_wide,
        "store_wide": store_wide,
        "untold": untold,
        "function": function,
    }
    exec(text, namespace)
    return device(namespace["loop"])


def over_elements(
    type_name: str,
    outputs: Sequence[str],
    inputs: Sequence[str],
    function: Callable[..., Any],
    numbers: Any = no_numbers,
    *,
    dimensions: str = "NF",
    flags: bool = False,
) -> Kernel:
    """The kernel that computes every element of `outputs` from the same element of `inputs`.

    Parameters
    ----------
    type_name : str
        Element type of all arrays.
    outputs, inputs : sequence of str
        Operands, as in the op's signature.
    function : device function
        ``function(*elements, numbers)`` returns the tuple of the outputs' new elements, and where
        `flags` is set, last, whether one of them is not finite.
    numbers : device function
        Computes, once a thread, what is the same for all elements; the names of its parameters are
        those of the op's scalars, or ``state``, ``floats`` and ``N``.
    dimensions : str
        The letters of the arrays' dimensions.
    flags : bool
        Whether `function` says if a value is not finite.
    """
    of_step = list(inspect.signature(numbers.py_func).parameters)
    arrays = list(dict.fromkeys([*outputs, *inputs]))
    own = ["state", "phase", "position"] if flags else []
    parameters = ", ".join(dict.fromkeys([*arrays, *of_step, *own]))
    call = f"loop({', '.join(arrays)}, of_step({', '.join(of_step)}))"
    if flags:
        call = f"if {call}:\n        raise_flag(state, phase, position)"
    namespace = {
        "loop": loop_over(type_name, outputs, inputs, function, flags),
        "of_step": numbers,
        "raise_flag": raise_flag,
    }
    exec(f"def over_elements({parameters}):\n    {call}\n", namespace)
    body = device(namespace["over_elements"])
    return by_element(body, dimensions, each=lanes_of(type_name))
