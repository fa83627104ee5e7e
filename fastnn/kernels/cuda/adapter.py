"""From a kernel over arrays to an entry over words, which the executor launches.

An entry takes integers alone: an op's operands as `Call.integers` lays them out (lengths of
dimensions, addresses of arrays, scalars, floats among them as their bits), then the op's `phase`
and `position` in its program, and the address of the state. Only the rows of the batch are read on
the device: of one step to the next, nothing comes from the host. An entry whose batch has no rows,
or before which a flag was raised, does nothing. A flag of its own stops none of its threads: which
of them began before it was raised is chance, and the others would wait for them.

A kernel asks by the names of its parameters for operands, for dimensions (``N``: the batch's rows),
and for ``state`` and ``floats``, ``phase``, ``position``, ``first`` (the batch's first row in the
epoch's order), ``workspace`` (the address of memory for what blocks have parts of), and ``staged``
(shared memory, where the ops of one kernel share some). An array of an op whose parts are
"elements" is one-dimensional.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numba import types

from fastnn.kernels import state as s
from fastnn.kernels.bits import float64_from_bits
from fastnn.kernels.cuda import (
    columns,
    cooperative,
    data,
    dense,
    elementwise,
    layer_normalization,
    losses,
    metrics,
    narrow,
    normalization,
    optimizers,
    persistent,
    pointwise,
    prelu,
    random,
    regularization,
    softmax,
    sparse,
    sparsemax,
    targets,
)
from fastnn.kernels.cuda.launch import Kernel
from fastnn.kernels.cuda.memory import anew, view
from fastnn.kernels.cuda.parts import Part, PartCall, calls_of
from fastnn.kernels.cuda.ptx import look
from fastnn.kernels.cuda.slots import FLAG, STATE_SLOTS, WORKSPACE
from fastnn.kernels.cuda.steps import entry_of_step
from fastnn.kernels.cuda.target import cuda, device
from fastnn.kernels.signatures import ITEM_BYTES, Operand, Signature, signature

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
    softmax,
    sparse,
    sparsemax,
    targets,
)


def factory(name: str) -> Callable[..., Kernel]:
    """The function that makes the kernel called `name` for given element types."""
    for room in _ROOMS:
        if hasattr(room, name):
            made: Callable[..., Kernel] = getattr(room, name)
            return made
    raise LookupError(f"no CUDA kernel is called {name!r}")


def has_kernel(name: str) -> bool:
    """Whether an op has a kernel here."""
    return any(hasattr(room, name) for room in _ROOMS)


def words_of(op: Signature) -> int:
    """Number of integers that an op's entry takes."""
    return op.width + 3


def _words(op: Signature) -> list[str]:
    """The names of the integers that an op's entry takes, but for the state's address."""
    return [
        *op.dimensions,
        *(f"{operand.name}_at" for operand in op.arrays),
        *(scalar.name for scalar in op.scalars),
        "phase",
        "position",
    ]


def _array(op: Signature, operand: Operand, element: str, own: Mapping[str, str]) -> str:
    """The expression of an array operand; `own`: what its words are called."""
    lengths = [own.get(letter, letter) for letter in operand.dimensions]
    address = own[f"{operand.name}_at"]
    if op.parts == "elements":
        return f"view_{element}_1({address}, ({' * '.join(lengths)},))"
    return f"view_{element}_{len(lengths)}({address}, ({', '.join(lengths)},))"


def _arguments(
    op: Signature, own: Mapping[str, str], element_types: tuple[str, ...]
) -> dict[str, str]:
    """The expressions of all that a kernel may ask for; `own`: what its words are called."""
    type_of = {"T": element_types[0], "S": element_types[-1]}
    known = {name: name for name in ("state", "floats", "N")}
    known |= {name: own[name] for name in (*op.dimensions, "phase", "position")}
    known |= {"first": f"state[{s.FIRST}]", "workspace": f"state[{WORKSPACE}]", "staged": "0"}
    for operand in op.arrays:
        known[operand.name] = _array(op, operand, type_of.get(operand.type, operand.type), own)
    for scalar in op.scalars:
        name = own[scalar.name]
        known[scalar.name] = f"float64_from_bits({name})" if scalar.type == "float" else name
    return known


def source_of(op: Signature, body: Any, element_types: tuple[str, ...]) -> str:
    """The text of the entry that calls `body` with the operands of `op`."""
    words = _words(op)
    known = _arguments(op, {word: word for word in words}, element_types)
    arguments = [known[name] for name in inspect.signature(body.py_func).parameters]
    return f"""
def {op.name}({", ".join([*words, "state_at"])}):
    state = view_int64_1(state_at, ({STATE_SLOTS},))
    floats = view_float64_1(state_at, ({STATE_SLOTS},))
    N, flag = state[{s.ROWS}], state[{FLAG}]
    if (N > 0) & ((flag == 0) | (flag == position + 1)):
        body({", ".join(arguments)})
"""


def _namespace() -> dict[str, Any]:
    """What an entry's text calls beside its body."""
    namespace: dict[str, Any] = {"float64_from_bits": float64_from_bits}
    for item in ITEM_BYTES:
        for dimensions in (1, 2, 3):
            namespace[f"view_{item}_{dimensions}"] = view(item, dimensions)
    return namespace


def _body(part: Part) -> Any:
    """The device function of a part's op as it is launched by itself."""
    return _kernel(part).make(*part.constants)


def _kernel(part: Part) -> Kernel:
    return factory(part.name)(*part.element_types)


def _persistent(parts: Sequence[Part]) -> tuple[Any, int]:
    """The entry of many whole steps that consist of these parts, done by one block."""
    bodies = [persistent.body_of(part, _body) for part in parts]
    calls = calls_of(parts, bodies, _words, _arguments)
    more = {"next_step": device(entry_of_step()[0])}
    return _entry_of_parts(persistent.NAME, persistent.source_of(calls), bodies, calls, more)


def _cooperative(texts: Sequence[str], threads: int) -> tuple[Any, int]:
    """The same of a grid, whose blocks meet where that stands among the parts."""
    parts = [Part.read(text) for text in texts if text != cooperative.MEETING]
    # One body of all parts that are alike: they then share its shared memory.
    made = {part: cooperative.body_of(part, threads, _kernel) for part in dict.fromkeys(parts)}
    bodies = [made[part] for part in parts]
    calls = calls_of(parts, bodies, _words, _arguments)
    groups: list[list[PartCall]] = [[]]
    left = iter(calls)
    for text in texts:
        if text == cooperative.MEETING:
            groups.append([])
        else:
            groups[-1].append(next(left))
    more = {"meet": cooperative.meeting(), "look": look, "anew": anew, "int64": types.int64}
    source = cooperative.source_of(groups, threads)
    return _entry_of_parts(cooperative.NAME, source, bodies, calls, more)


def _entry_of_parts(
    name: str,
    text: str,
    bodies: Sequence[Any],
    calls: Sequence[PartCall],
    more: dict[str, Any],
) -> tuple[Any, int]:
    """The function called `name` of a text, and how many integers it takes."""
    namespace = _namespace() | {"cuda": cuda, "float32": types.float32, "STATE_SLOTS": STATE_SLOTS}
    namespace |= more | {f"body_{number}": body for number, body in enumerate(bodies)}
    exec(text, namespace)
    return namespace[name], sum(len(call.words) for call in calls) + 1


def entry(
    name: str, element_types: tuple[str, ...], constants: tuple[int, ...] = ()
) -> tuple[Any, int]:
    """The Python function of an op's entry, and how many integers it takes.

    Of `persistent.NAME` and `cooperative.NAME` the "types" are the parts of a step; of the latter
    the constant is the threads of a block. Of `narrow.STEP` they are what its key says.
    """
    if name == "next_step":
        return entry_of_step()
    if name in (narrow.STEP, narrow.GRADIENTS):
        return narrow.entry(name, element_types, constants)
    if name == persistent.NAME:
        return _persistent([Part.read(text) for text in element_types])
    if name == cooperative.NAME:
        return _cooperative(element_types, *constants)
    op = signature(name)
    body = factory(name)(*element_types).make(*constants)
    namespace = _namespace() | {"body": body}
    exec(source_of(op, body, element_types), namespace)
    return namespace[op.name], words_of(op)
