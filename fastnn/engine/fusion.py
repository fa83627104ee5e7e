"""Ops put together: what follows a product is done on its rows, while they are in the cache.

Two things are done with a program's calls before its memory is planned. An elementwise op whose
input is a product's output, wanted by nobody else, becomes the product's finish, and a ReLU a part
of the product itself. And a large kernel's gradient is not written to memory at all: the
optimizer's update becomes the finish of the product that computes it. Neither changes a bit of any
result.

For the second, a step is put in another order. Forward and backward come first, without these
products; then the check of all gradients, which for theirs needs no more than the factors; last
the update, whole: products with their updates, and the update of what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine import shapes
from fastnn.engine.operands import Call
from fastnn.kernels import state as s

if TYPE_CHECKING:
    import numpy.typing as npt

    Vector = npt.NDArray[Any]

COMMIT_COST = 50_000_000
"""The longest that a step's update may take, in nanoseconds of one core: it is never left."""


def fuse(calls: list[Call], rows: int, team: bool) -> list[Call]:
    """The calls of a program for batches of up to `rows` rows, with what can be done in one.

    Which kernels are updated with their products depends on whether a `team` of threads trains.
    """
    calls = _fuse_elementwise(calls)
    return _fuse_update(calls, rows, shapes.TEAM_UPDATE_BYTES if team else shapes.UPDATE_BYTES)


def _fuse_elementwise(calls: list[Call]) -> list[Call]:
    users: dict[int, list[int]] = {}
    for position, call in enumerate(calls):
        for buffer in call.buffers:
            users.setdefault(id(buffer.root), []).append(position)
    absorbed: set[int] = set()
    for position, call in enumerate(calls):
        if not call.takes_finish or position in absorbed:
            continue
        output = next(iter(call.arrays))
        while (
            follower := _only_reader(calls, users, position, call.arrays[output], absorbed)
        ) is not None:
            call.finish.append(calls[follower])
            absorbed.add(follower)
            call.arrays[output] = calls[follower].arrays[calls[follower].signature.result[0]]
        _take_relu(call)
    return [call for position, call in enumerate(calls) if position not in absorbed]


def _take_relu(call: Call) -> None:
    """Let a product do a ReLU, or its derivative, itself: on tiles that are still in registers."""
    if not call.finish:
        return
    name, first = call.signature.name, call.finish[0]
    if (name, first.signature.name) == ("dense_forward", "relu_forward"):
        call.scalars["relu"] = 1
    elif (name, first.signature.name) == ("dense_backward_input", "relu_backward"):
        call.arrays["gate"] = first.arrays["y"]
    else:
        return
    del call.finish[0]


def _only_reader(
    calls: list[Call], users: dict[int, list[int]], product: int, output: Any, absorbed: set[int]
) -> int | None:
    """The position of the op that alone reads a product's `output`, element by element.

    All else that it reads must be there when the product, at position `product`, is computed.
    """
    if not hasattr(output, "root") or output.name is not None:
        return None
    # The output's first user wrote it: the product, or the last op that it has taken in.
    positions = users[id(output.root)][1:]
    if len(positions) != 1 or positions[0] in absorbed:
        return None
    call = calls[positions[0]]
    result = call.signature.result
    if len(result) != 2 or not hasattr(call.arrays[result[1]], "root"):
        return None
    if call.arrays[result[1]].root is not output.root:
        return None
    others = [call.arrays[o.name] for o in call.signature.arrays if o.name not in result]
    # Arrays from outside are bound to ops alone, see `linking`.
    late = any(
        o.name is not None or users[id(o.root)][0] > product for o in others if hasattr(o, "root")
    )
    return None if late else positions[0]


def _fuse_update(calls: list[Call], rows: int, least: int) -> list[Call]:
    update = calls[-1] if calls else None
    if update is None or update.phase != s.COMMIT or update.signature.result != ("g",):
        return calls
    if rows > shapes.UPDATE_ROWS:
        return calls
    gradients: Vector = update.arrays["g"]
    fused: dict[int, Call] = {}
    budget = COMMIT_COST - update.cost(rows)
    for position, call in enumerate(calls):
        if not _gives_kernel(call):
            continue
        large = update.bytes_of_state(call.arrays["dw"].size) >= least
        if large and call.cost(rows) <= budget:
            budget -= call.cost(rows)
            fused[position] = call
    if not fused:
        return calls
    begin = next(i for i, call in enumerate(calls) if call.phase == s.CHECK)
    if any(_reaches(call, gradients) for call in calls[begin + 1 : -1]):
        return calls  # clipped before the update, gradients must all be there by then
    backward = [call for i, call in enumerate(calls[:begin]) if i not in fused]
    spans = {i: _span(call.arrays["dw"], gradients) for i, call in fused.items()}
    rest = _between(sorted(spans.values()), gradients.size)
    # The biases' gradients come with their kernels': they are not there yet.
    biases = [call.arrays["db"] for call in fused.values() if call.arrays["db"] is not None]
    later = sorted([*spans.values(), *(_span(bias, gradients) for bias in biases)])
    checks = [_guard_of(call) for call in fused.values()]
    checks += [_part(calls[begin], *span) for span in _between(later, gradients.size)]
    commits = calls[begin + 1 : -1]
    # The last kernel's factors were touched last: they may still be in a cache.
    for position, call in reversed(fused.items()):
        call.finish.append(_part(update, *spans[position]))
        call.scalars["discard"] = 1
        commits.append(call)
    commits += [_part(update, *span) for span in rest]
    for call in commits:
        call.commit()
    return backward + checks + commits


def _gives_kernel(call: Call) -> bool:
    return call.signature.name == "dense_backward_kernel" and isinstance(
        call.arrays["dw"], np.ndarray
    )


def _reaches(call: Call, vector: Vector) -> bool:
    """Whether one of the call's arrays is a part of `vector`."""
    arrays = (array for array in call.arrays.values() if isinstance(array, np.ndarray))
    return any(np.may_share_memory(array, vector) for array in arrays)


def _span(part: Vector, whole: Vector) -> tuple[int, int]:
    """Where in the flat vector `whole` its view `part` begins and ends."""
    begin = (part.ctypes.data - whole.ctypes.data) // whole.itemsize
    return begin, begin + part.size


def _between(spans: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What lies between `spans` out of ``range(size)``."""
    edges = [0, *(edge for span in spans for edge in span), size]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _part(call: Call, begin: int, end: int) -> Call:
    """The same call on a part of its flat vectors."""
    arrays = {name: None if a is None else a[begin:end] for name, a in call.arrays.items()}
    part = Call(call.signature.name, arrays | call.scalars)
    part.in_one_piece, part.phase = call.in_one_piece, call.phase
    return part


def _guard_of(call: Call) -> Call:
    """The check of the gradients that `call` will compute."""
    names = ("dw", "db", "x", "dy")
    guard = Call("guard_product", {name: call.arrays[name] for name in names})
    guard.phase = s.CHECK
    return guard
