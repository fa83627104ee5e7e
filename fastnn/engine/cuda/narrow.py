"""Which programs take the kernels of `kernels/cuda/narrow.py`, and as what launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastnn.engine.cuda.device import Launched, Work
from fastnn.engine.fusion import activation_of
from fastnn.engine.operands import Call, bits_of
from fastnn.engine.program import Program
from fastnn.kernels.cuda import narrow
from fastnn.kernels.cuda.launch import FOLLOWING, Launch
from fastnn.kernels.cuda.narrow_format import Layer
from fastnn.kernels.cuda.narrow_losses import LOSSES
from fastnn.kernels.cuda.ways import NARROW

Address = Callable[[Any], int]


_OF_LOSS = ("labels", "targets", "weights")
"""What a loss is given beside the network's output."""


class _Step(NamedTuple):
    """The calls of a step: of each layer its product, and its gradients'; the others by place.

    Between the last layer and the loss metrics have their say, at `metrics`. After the loss come
    its sum, and then the way back, up to the check of all gradients, at place `guard`.
    """

    layers: list[Call]
    metrics: slice
    loss: int
    kernels: list[Call]
    guard: int


def _root(array: Any) -> int:
    return id(getattr(array, "root", array))


def _step_of(calls: Sequence[Call]) -> _Step | None:
    """A program's calls as such a step, if they are one."""
    names = [call.signature.name for call in calls]
    begin = next((i for i, name in enumerate(names) if name == "dense_forward"), len(names))
    end = begin
    while names[end : end + 1] == ["dense_forward"]:
        end += 1
    loss = next((i for i, name in enumerate(names) if name in LOSSES), None)
    count = end - begin
    if count == 0 or loss is None or loss < end:
        return None
    guard = loss + 2 + 2 * count - 1
    back = ["dense_backward_kernel", "dense_backward_input"] * count
    if names[loss + 1 :][: 2 * count + 1] != ["accumulate", *back[:-1], "guard"]:
        return None
    layers, kernels = list(calls[begin:end]), list(calls[loss + 2 : guard : 2])[::-1]
    step = _Step(layers, slice(end, loss), loss, kernels, guard)
    given = {_root(buffer) for call in calls[:begin] for buffer in call.buffers}
    asked = [layers[0].arrays["x"], *(calls[loss].arrays.get(name) for name in _OF_LOSS)]
    if any(hasattr(a, "root") and a.name is None and _root(a) not in given for a in asked):
        return None  # made only after the forward pass
    inside = {_root(call.arrays["y"]) for call in layers[:-1]}
    inside |= {_root(call.arrays["dy"]) for call in kernels}
    others = [*calls[:begin], *calls[step.metrics], calls[loss + 1], *calls[guard:]]
    is_seen = any(_root(buffer) in inside for call in others for buffer in call.buffers)
    return None if is_seen or not _is_chain(calls, step) else step


def _is_chain(calls: Sequence[Call], step: _Step) -> bool:
    """Whether each op takes what the one before it gives, forwards and back."""
    layers, kernels, loss = step.layers, step.kernels, calls[step.loss]
    pairs = [(one.arrays["y"], next_.arrays["x"]) for one, next_ in pairwise(layers)]
    pairs += [
        (layers[-1].arrays["y"], loss.arrays["z"]),
        (loss.arrays["dz"], kernels[-1].arrays["dy"]),
    ]
    pairs += [(loss.arrays["loss"], calls[step.loss + 1].arrays["values"])]
    for place, (layer, kernel) in enumerate(zip(layers, kernels, strict=True)):
        pairs += [(layer.arrays["x"], kernel.arrays["x"])]
        if place > 0:
            back = calls[step.guard - 2 * place]
            pairs += [(back.arrays["dy"], kernel.arrays["dy"])]
            pairs += [(back.arrays["dx"], kernels[place - 1].arrays["dy"])]
    return all(_root(one) == _root(other) for one, other in pairs)


def _following(call: Call) -> tuple[int, int]:
    """What follows a layer's product, as a constant, and the bits of its parameter."""
    if call.scalars["relu"]:
        return 1 + FOLLOWING.index("relu"), 0
    if not call.finish:
        return 0, 0
    name = str(activation_of(call, call.finish[0]))
    parameter = call.finish[0].scalars.get("parameter")
    return 1 + FOLLOWING.index(name), bits_of(float(parameter or 0.0))


def _against(calls: Sequence[Call], step: _Step) -> str | None:
    """Why such a step is none of narrow layers, all numbers of which are float32."""
    types = {call.types["T"] for call in [*step.layers, *step.kernels, calls[step.loss]]}
    if types != {"float32"}:
        return f"dtype {min(types - {'float32'})}"
    lengths = [int(call.lengths[letter] or 0) for call in step.layers for letter in "IO"]
    if max(lengths) > NARROW.width:
        return f"layers of more than {NARROW.width:,} units or inputs"
    return "another activation before the loss" if _following(step.layers[-1])[0] else None


def _places(gradients: Any, arrays: Sequence[Any]) -> list[int] | None:
    """Where arrays begin in the flat vector of gradients; None unless they are all of it."""
    begin, size = gradients.ctypes.data, gradients.itemsize
    places = [-1 if a is None else (a.ctypes.data - begin) // size for a in arrays]
    spans = sorted((p, p + a.size) for p, a in zip(places, arrays, strict=True) if a is not None)
    edges = [0, *(edge for span in spans for edge in span), gradients.size]
    return places if edges[::2] == edges[1::2] else None


class _Two(NamedTuple):
    """A step in two kernels: its layers, where their gradients begin, and the launches."""

    step: _Step
    layers: list[Layer]
    places: list[int]
    launches: tuple[Launch, Launch]


def _two(calls: Sequence[Call], rows: int, precision: str, most_shared: int) -> _Two | str:
    """Such a step, or why it is none."""
    if precision == "fp32":
        return f"precision {precision}"
    step = _step_of(calls)
    if step is None:
        return "other ops than of dense layers, one after the other, and of their loss"
    against = _against(calls, step)
    if against is not None:
        return against
    gradients = calls[step.guard].arrays["g"]
    arrays = [call.arrays[name] for call in step.kernels for name in ("dw", "db")]
    places = None
    if all(a is None or isinstance(a, np.ndarray) for a in [*arrays, gradients]):
        places = _places(gradients, arrays)
    if places is None:
        return "parameters of other layers"
    layers = [
        Layer(int(call.lengths["I"] or 0), int(call.lengths["O"] or 0), _following(call)[0])
        for call in step.layers
    ]
    launches = narrow.launches_of(precision, layers, rows, gradients.size, most_shared)
    if launches is None:
        return f"weights and a tile of more than {most_shared >> 10} KB of shared memory"
    if rows < NARROW.least_rows:
        return f"batches of fewer than {NARROW.least_rows:,} rows"
    return _Two(step, layers, places, launches)


def against_two(calls: Sequence[Call], rows: int, precision: str, most_shared: int) -> str | None:
    """Why steps of training on batches of up to so many rows are not done by two kernels.

    None if they are. `most_shared`: see `Device`.
    """
    found = _two(calls, rows, precision, most_shared)
    return found if isinstance(found, str) else None


def in_two(
    program: Program,
    works: Sequence[Work],
    precision: str,
    state: int,
    most_shared: int,
    address_of: Address,
) -> list[Work]:
    """The launches of a step, of which two do all between the batch and the update.

    `works` are those of the program's calls one by one, `state` is the state's address, and
    `most_shared` what `Device` says; there is nothing `against_two`. The sum of the rows' losses
    comes before the metrics: these may have the losses' place in the arena for their own.
    """
    calls = program.calls
    two = _two(calls, program.rows, precision, most_shared)
    assert not isinstance(two, str), two
    step, layers, places, (whole, sums) = two
    guard, loss = calls[step.guard], calls[step.loss]
    parameters = guard.arrays["g"].size

    def at(array: Any) -> int:
        return 0 if array is None else address_of(array)

    words: list[int] = []
    for i, call in enumerate(step.layers):
        words += [at(call.arrays["w"]), at(call.arrays["b"]), _following(call)[1]]
        words += places[2 * i : 2 * i + 2]
    x, z = at(step.layers[0].arrays["x"]), loss.arrays["z"]
    is_read = any(_root(z) == _root(b) for call in calls[step.metrics] for b in call.buffers)
    targets = loss.arrays["labels" if "labels" in loss.arrays else "targets"]
    words += [x, at(targets), at(loss.arrays["weights"]), at(z) if is_read else 0]
    words += [at(loss.arrays["loss"]), parameters]
    wide = x % 16 == 0 and layers[0].inputs % 4 == 0
    key = narrow.step_key(precision, loss.signature.name, wide, layers)
    summed = [at(guard.arrays["g"]), parameters, whole.blocks[0], whole.constants[0]]
    begin = step.metrics.start - len(layers)
    return [
        *works[:begin],
        Launched(key, whole, [*words, state]),
        works[step.loss + 1],
        *works[step.metrics],
        Launched((narrow.GRADIENTS,), sums, [*summed, guard.phase, step.guard, state]),
        *works[step.guard + 1 :],
    ]
