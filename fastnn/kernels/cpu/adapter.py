"""From a kernel over arrays to an op over addresses, as an object file.

All ops have one signature, ``op(operands, state, rank, team)``: the address of the op's operands
(one integer each: the lengths of its dimensions, addresses of its arrays, scalars), the address
of the state, and which thread of how many calls. What lies between that and a kernel's arrays is
mechanical, and follows from the op's line in ``signatures.py``: it is written here as the text of
a Python function and compiled together with the kernel.

An op that can finish a product's rows is compiled in a second form, whose name ends in
``_finish``: ``op_finish(operands, state, result, result_row, start, length, rows, width)``. The
operands in the signature's `result` then are `rows` rows of `length` elements at `result`,
`result_row` bytes apart; all others are whole arrays with rows of `width` elements, of which the
same ones are taken, from element `start` on. With `result` 0 these are only put on the list of
lines to be asked for (see ``ahead``) at address `result_row`. The kernel is the same.

`gather` has a third form, which supplies a product with rows: ``op_supply(operands, state, asked,
start, rows)`` gathers so many of the batch's from row `start` on, or, where `asked` is not 0, puts
on the list at that address what this will read.

A kernel asks by the names of its parameters for the operands, for dimensions (``N``: the rows of
the whole batch), and for ``state`` and ``floats``, ``workspace``, ``rank``, ``team``, ``start``
(the first of the thread's rows in the batch), ``first`` (the same in the epoch's order), and,
where it may be given some columns of rows, ``column`` (the first of them) and ``width`` (of all).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba import types

from fastnn.kernels import state as s
from fastnn.kernels.cpu import (
    columns,
    data,
    dense,
    elementwise,
    gemm,
    layer_normalization,
    losses,
    metrics,
    normalization,
    optimizers,
    pointwise,
    prelu,
    random,
    regularization,
    rounded,
    softmax,
    sparse,
    sparsemax,
    steps,
    targets,
)
from fastnn.kernels.cpu.ahead import add_rows
from fastnn.kernels.cpu.memory import view
from fastnn.kernels.cpu.settings import native
from fastnn.kernels.signatures import (
    FINISH_SUFFIX,
    ITEM_BYTES,
    SUPPLY,
    Operand,
    Signature,
    signature,
)

_ROOMS = (
    columns,
    data,
    dense,
    elementwise,
    layer_normalization,
    losses,
    metrics,
    normalization,
    optimizers,
    pointwise,
    prelu,
    random,
    regularization,
    rounded,
    softmax,
    sparse,
    sparsemax,
    targets,
)

GRAIN = 64
"""A cut between threads falls on a multiple of this many elements, so on a cache line."""


def factory(name: str) -> Callable[..., Any]:
    """The function that makes the kernel called `name` for given element types."""
    for room in _ROOMS:
        if hasattr(room, name):
            made: Callable[..., Any] = getattr(room, name)
            return made
    raise LookupError(f"no CPU kernel is called {name!r}")


def _range_lines(op: Signature) -> list[str]:
    """Lines that set `start` and `stop`, this thread's part of the work."""
    # Divisions take their time, and most programs run on one thread.
    if op.parts in ("N", "NF"):
        return [
            "start, stop = 0, N",
            "if team > 1:",
            "    start, stop = N * rank // team, N * (rank + 1) // team",
        ]
    if op.parts in ("P", "elements"):
        total = "P" if op.parts == "P" else "N * F"
        return [
            f"total = {total}",
            "start, stop = 0, total",
            "if team > 1:",
            f"    grains = (total + {GRAIN - 1}) // {GRAIN}",
            f"    start = min(total, grains * rank // team * {GRAIN})",
            f"    stop = min(total, grains * (rank + 1) // team * {GRAIN})",
        ]
    if op.parts == "first":
        return ["start, stop = 0, (N if rank == 0 else 0)"]
    return ["start, stop = 0, 1"]


def _array(op: Signature, operand: Operand, slot: int, element: str) -> str:
    """The expression of an array operand, from where this thread's part of it begins."""
    address, shape = f"operands[{slot}]", ", ".join(operand.dimensions)
    size = ITEM_BYTES[element]
    if op.parts == "elements":
        return f"view_{element}_1({address} + start * {size}, (stop - start,))"
    cut = {"P": "P", "N": "N", "NF": "N", "first": "N"}.get(op.parts)
    if operand.dimensions[0] == cut:
        rest = operand.dimensions[1:]
        step = " * ".join(["start", *rest, str(size)])
        moved = f"{address} + {step}"
        if operand.optional:
            moved = f"({moved} if {address} != 0 else 0)"
        shape = ", ".join(["stop - start", *rest])
        return f"view_{element}_{len(rest) + 1}({moved}, ({shape},))"
    return f"view_{element}_{len(operand.dimensions)}({address}, ({shape},))"


def _views(op: Signature) -> list[str]:
    """Lines that make the operands and the state readable, as integers and as floats."""
    return [
        f"operands = view_int64_1(operands_address, ({op.width},))",
        f"floats_of_op = view_float64_1(operands_address, ({op.width},))",
        f"state = view_int64_1(state_address, ({s.SLOTS},))",
        f"floats = view_float64_1(state_address, ({s.SLOTS},))",
        f"N = state[{s.ROWS}]",
    ]


def _scalars(op: Signature) -> dict[str, str]:
    """The expressions of an op's scalars, by name."""
    begin = len(op.dimensions) + len(op.arrays)
    return {
        scalar.name: f"{'floats_of_op' if scalar.type == 'float' else 'operands'}[{slot}]"
        for slot, scalar in enumerate(op.scalars, begin)
    }


def source_of(op: Signature, kernel: Any, element_types: tuple[str, ...]) -> str:
    """The text of the function that calls `kernel` with the operands of `op`."""
    type_of = {"T": element_types[0], "S": element_types[-1]}
    lines = _views(op)
    known = {name: name for name in ("state", "floats", "rank", "team", "N", "start")}
    known["workspace"] = f"state[{s.WORKSPACE}]"
    known["first"] = f"state[{s.FIRST}] + start"
    known |= {"column": "0", "width": "F"}
    slot = 0
    for dimension in op.dimensions:
        lines.append(f"{dimension} = operands[{slot}]")
        known[dimension] = dimension
        slot += 1
    lines += _range_lines(op)
    for operand in op.arrays:
        element = type_of.get(operand.type, operand.type)
        known[operand.name] = _array(op, operand, slot, element)
        slot += 1
    known |= _scalars(op)
    names = inspect.signature(kernel.py_func).parameters
    call = "kernel(" + ", ".join(known[name] for name in names) + ")"
    lines += ["if start < stop:", f"    {call}"]
    return "\n".join(["def op(operands_address, state_address, rank, team):", *_indent(lines)])


def finish_source_of(op: Signature, kernel: Any, element_type: str) -> str:
    """The text of the function that calls `kernel` on rows of a product's result."""
    size = ITEM_BYTES[element_type]
    by_rows = op.parts == "NF"
    known = {name: name for name in ("state", "floats", "N", "column", "width")} | _scalars(op)
    known["start"] = "first_row + r"
    fetches = []
    for slot, operand in enumerate(op.arrays, len(op.dimensions)):
        at = "result + r * result_row"
        if operand.name not in op.result:
            at = f"operands[{slot}] + (start + r * width) * {size}"
            if operand.optional:
                at = f"({at} if operands[{slot}] != 0 else 0)"
            begin = f"operands[{slot}] + start * {size}"
            add = f"add_rows(result_row, {begin}, rows, length * {size}, width * {size})"
            fetches += [f"if operands[{slot}] != 0:", f"    {add}"] if operand.optional else [add]
        known[operand.name] = (
            f"view_{element_type}_2({at}, (1, length))"
            if by_rows
            else f"view_{element_type}_1({at}, (length,))"
        )
    names = inspect.signature(kernel.py_func).parameters
    lines = [
        *_views(op),
        "if result == 0:",
        *_indent(fetches or ["pass"]),
        "else:",
        *(
            ["    first_row, column = start // width, start % width"]
            if by_rows
            else [
                f"    if length == width and result_row == width * {size}:",
                "        length, rows = length * rows, 1",
            ]
        ),
        "    for r in range(rows):",
        "        kernel(" + ", ".join(known[name] for name in names) + ")",
    ]
    return "\n".join(
        [
            "def op_finish(operands_address, state_address, result, result_row, start, length, "
            "rows, width):",
            *_indent(lines),
        ]
    )


def supply_source_of(op: Signature, element_types: tuple[str, ...]) -> str:
    """The text of the function that calls the kernel of a supply, with the operands of `op`."""
    element, source = element_types
    step = f"start * F * {ITEM_BYTES[element]}"
    lines = [
        *_views(op),
        *(f"{letter} = operands[{slot}]" for slot, letter in enumerate(op.dimensions)),
        *(f"{o.name} = operands[{slot}]" for slot, o in enumerate(op.arrays, len(op.dimensions))),
        "kernel(",
        f"    view_{element}_2(out + {step}, (rows, F)), view_{source}_2(source, (R, F)),",
        f"    view_int64_1(order, (R,)), state[{s.FIRST}] + start, asked)",
    ]
    head = "def op_supply(operands_address, state_address, asked, start, rows):"
    return "\n".join([head, *_indent(lines)])


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def _function(name: str, element_types: tuple[str, ...]) -> tuple[Any, int]:
    """What is compiled under `name`, as a Python function, and how many integers it takes."""
    if name == "run_steps":
        return steps.run_steps().py_func, 5
    if name == "product":
        return gemm.product(*element_types).py_func, 23
    op = signature("gather" if name == SUPPLY else name.removesuffix(FINISH_SUFFIX))
    kernel = factory(op.name)(*element_types)
    namespace: dict[str, Any] = {}
    for item in ITEM_BYTES:
        for dimensions in (1, 2, 3):
            namespace[f"view_{item}_{dimensions}"] = view(item, dimensions)
    namespace["kernel"] = kernel
    if name == op.name:
        exec(source_of(op, kernel, element_types), namespace)
        return namespace["op"], 4
    if name == SUPPLY:
        namespace["kernel"] = data.gather_supply(*element_types)
        exec(supply_source_of(op, element_types), namespace)
        return namespace["op_supply"], 5
    namespace["add_rows"] = add_rows
    exec(finish_source_of(op, kernel, *element_types), namespace)
    return namespace["op_finish"], 8


def compile_op(name: str, element_types: tuple[str, ...]) -> tuple[bytes, str]:
    """The object file of an op, and the symbol to look up in it.

    ``"run_steps"``, the executor's loop, and the functions that ops call are compiled likewise.
    """
    function, integers = _function(name, element_types)
    compiled = native(types.void(*[types.intp] * integers))(function)
    result = compiled.overloads[compiled.signatures[0]]
    return result.library._get_compiled_object(), result.fndesc.llvm_func_name
