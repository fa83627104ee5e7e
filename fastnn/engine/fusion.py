"""Ops put together: what follows a product is done on its rows, while they are in the cache.

Three things are done with a program's calls before its memory is planned. An elementwise op whose
input is a product's output, wanted by nobody else, becomes the product's finish, and a ReLU a part
of the product itself. And a large kernel's gradient is not written to memory at all: the
optimizer's update becomes the finish of the product that computes it. And where one thread trains,
the first layer's product gathers the batch's rows itself. None changes a bit of any result.

For the second, a step is put in another order. Forward and backward come first, without these
products; then the check of all gradients, which for theirs needs no more than the factors; last
the update, whole: products with their updates, and the update of what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.engine import shapes
from fastnn.engine.operands import Call
from fastnn.kernels import state as s
from fastnn.kernels.activations import ELEMENTWISE

if TYPE_CHECKING:
    import numpy.typing as npt

    Vector = npt.NDArray[Any]

COMMIT_COST = 50_000_000
"""The longest that a step's update may take, in nanoseconds of one core: it is never left."""


SUPPLIED_COST = 5_000_000
"""The longest that a product may take which gathers its rows, in the same unit: of one that is done
in pieces, each would gather them all."""


def fuse(calls: list[Call], rows: int, team: bool) -> list[Call]:
    """The calls of a program for batches of up to `rows` rows, with what can be done in one.

    Which kernels are updated with their products depends on whether a `team` of threads trains.
    """
    calls = _fuse_elementwise(calls, on_a_gpu=False)
    calls = _fuse_update(calls, rows, shapes.TEAM_UPDATE_BYTES if team else shapes.UPDATE_BYTES)
    return calls if team else _fuse_gather(calls, rows)


def fuse_activations(calls: list[Call]) -> list[Call]:
    """The calls of a program for a GPU, whose products take one activation, or derivative, each."""
    return _fuse_elementwise(calls, on_a_gpu=True)


_WAYS = {"dense_forward": "forward", "dense_backward_input": "backward"}
"""Products that can do an op themselves, and which way of an activation that is."""


def _fuse_elementwise(calls: list[Call], on_a_gpu: bool) -> list[Call]:
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
            if on_a_gpu and (call.finish or activation_of(call, calls[follower]) is None):
                break
            call.finish.append(calls[follower])
            absorbed.add(follower)
            call.arrays[output] = calls[follower].arrays[calls[follower].signature.result[0]]
        _take_relu(call)
        if on_a_gpu and call.finish and "gate" in call.arrays:
            own = call.finish[0]
            kept = ELEMENTWISE[own.signature.name.removesuffix("_backward")].of
            call.arrays["gate"] = own.arrays[kept]
    return [call for position, call in enumerate(calls) if position not in absorbed]


def _take_relu(call: Call) -> None:
    """Let a product do a ReLU, or its derivative, itself: on tiles that are still in registers."""
    if not call.finish:
        return
    first = call.finish[0]
    if activation_of(call, first) != "relu":
        return
    if call.signature.name == "dense_forward":
        call.scalars["relu"] = 1
    else:
        call.arrays["gate"] = first.arrays["y"]
    del call.finish[0]


def activation_of(product: Call, follower: Call) -> str | None:
    """The activation which, or whose derivative, an op is that a product can do itself.

    On a CPU that is the ReLU alone, on a GPU any of one element.
    """
    name, _, way = follower.signature.name.rpartition("_")
    return name if name in ELEMENTWISE and _WAYS.get(product.signature.name) == way else None


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


def _fuse_gather(calls: list[Call], rows: int) -> list[Call]:
    """Let the product that first reads a batch's rows gather them, some before each row of tiles.

    While it multiplies, it asks for the next ones, which lie anywhere in memory.
    """
    gathered: set[int] = set()
    for call in calls:
        if call.signature.name != "gather" or call.arrays["order"] is None:
            continue
        rows_of_x = call.arrays["out"].root
        readers = (c for c in calls if c is not call and rows_of_x in (b.root for b in c.buffers))
        first = next(readers, None)
        if first is None or first.signature.name != "dense_forward":
            continue
        x = first.arrays["x"]
        if getattr(x, "root", None) is rows_of_x and first.cost(rows) <= SUPPLIED_COST:
            first.supply = call
            gathered.add(id(call))
    return [call for call in calls if id(call) not in gathered]


class _Fused(NamedTuple):
    """A kernel's product that is to be updated in: its call, its update's, its penalty's."""

    product: Call
    update: Call
    penalty: Call | None


def _fuse_update(calls: list[Call], rows: int, least: int) -> list[Call]:
    updates = [call for call in calls if _is_update(call)]
    if not updates or rows > shapes.UPDATE_ROWS:
        return calls
    begin = next(i for i, call in enumerate(calls) if call.phase == s.CHECK)
    guards = [call for call in calls[begin:] if call.signature.name == "guard"]
    others = [call for call in calls[begin:] if call not in updates and call not in guards]
    if any(_reaches(call, update.arrays["g"]) for call in others for update in updates):
        return calls  # clipped before the update, gradients must all be there by then
    fused = _large_kernels(calls[:begin], updates, rows, least)
    if not fused:
        return calls
    taken = {id(call) for one in fused for call in (one.product, one.penalty)}
    backward = [call for call in calls[:begin] if id(call) not in taken]
    kernels = [one.product.arrays["dw"] for one in fused]
    # The biases' gradients come with their kernels': they are not there yet.
    biases = [one.product.arrays["db"] for one in fused if one.product.arrays["db"] is not None]
    checks = [_guard_of(one.product) for one in fused]
    checks += [part for guard in guards for part in _parts_without(guard, [*kernels, *biases])]
    last = max(i for i, call in enumerate(calls) if call in updates)
    commits = [call for call in others if call not in calls[last:]]
    # The last kernel's factors were touched last: they may still be in a cache.
    for product, update, penalty in reversed(fused):
        part = _part(update, *_span(product.arrays["dw"], update.arrays["g"]))
        product.finish += [part] if penalty is None else [penalty, part]
        product.scalars["discard"] = 1
        commits.append(product)
    commits += [part for update in updates for part in _parts_without(update, kernels)]
    commits += calls[last + 1 :]
    for call in commits:
        call.commit()
    return backward + checks + commits


def _is_update(call: Call) -> bool:
    return call.phase == s.COMMIT and call.signature.result == ("g",)


def _large_kernels(calls: list[Call], updates: list[Call], rows: int, least: int) -> list[_Fused]:
    """The products among `calls` whose kernels are large enough, as many as a step can end with."""
    fused: list[_Fused] = []
    budget = COMMIT_COST - sum(update.cost(rows) for update in updates)
    for call in calls:
        if not _gives_kernel(call) or call.cost(rows) > budget:
            continue
        dw, db = call.arrays["dw"], call.arrays["db"]
        update = next((each for each in updates if _reaches(each, dw)), None)
        if update is None or update.bytes_of_state(dw.size) < least:
            continue
        users = [each for each in calls if each is not call and _reaches(each, dw)]
        if db is not None:
            users += [each for each in calls if each is not call and _reaches(each, db)]
        penalties = [each for each in users if each.signature.name == "penalty_gradient"]
        if users != penalties or any(not _reaches(each, dw) for each in penalties):
            continue  # another op works on it before the update, or one on the bias's
        budget -= call.cost(rows)
        fused.append(_Fused(call, update, penalties[0] if penalties else None))
    return fused


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


def _parts_without(call: Call, left_out: list[Vector]) -> list[Call]:
    """The same call on what its gradients `g` hold besides the arrays `left_out`."""
    whole = call.arrays["g"]
    spans = sorted(_span(part, whole) for part in left_out if np.may_share_memory(part, whole))
    edges = [0, *(edge for span in spans for edge in span), whole.size]
    return [
        _part(call, begin, end)
        for begin, end in zip(edges[::2], edges[1::2], strict=True)
        if begin < end
    ]


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
