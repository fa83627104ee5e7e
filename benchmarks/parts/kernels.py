"""Kernels alone on one core: the loss's gradient, Adam, activations, dropout.

A kernel is called from Python each time, through `ctypes`, with arguments made before; what such
a call costs is measured, too, on an op that does next to nothing. In training many steps are one
call.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks import machine, tables
from benchmarks.gradients import CONTESTANTS, Gradient
from benchmarks.rounds import alternate, figures, quartiles, repeated

if TYPE_CHECKING:
    from benchmarks.parts import Settings

LOSS_SHAPES = ((32, 10), (128, 10), (1024, 10), (128, 1000), (1024, 1000), (4096, 50_000))
ADAM_SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
ELEMENTS = (128, 512)
ACTIVATIONS = ("relu", "sigmoid", "tanh", "softmax")


def prepared(name: str, dtype: str = "float32", **operands: Any) -> Callable[[], object]:
    """A function that runs the op called `name` on the given arrays, ready but for the call."""
    import ctypes

    import numpy as np

    from fastnn.engine import cpu
    from fastnn.engine.compiler import address
    from fastnn.engine.operands import Call
    from fastnn.engine.tape import Eager
    from fastnn.kernels import state as s

    rows = next(len(operand) for operand in operands.values() if hasattr(operand, "__len__"))
    state, scratch = cpu.new_state(1), cpu.Scratch(1)
    Eager(rows, dtype, state).op(name, **operands)  # checks shapes, and compiles
    state[s.ROWS] = rows
    scratch.lend(state)
    call = Call(name, operands)
    words = np.array(call.integers(lambda array: array.ctypes.data, address), np.int64)
    result, exception = ctypes.c_int64(), ctypes.c_void_p()
    run = functools.partial(
        cpu._OP(address(call.key)),
        ctypes.addressof(result),
        ctypes.addressof(exception),
        words.ctypes.data,
        state.ctypes.data,
        0,
        1,
    )
    # What the call only points to lives as long as the function.
    run.__dict__["owners"] = operands, state, scratch, words, result, exception
    return run


def measure(settings: Settings) -> dict[str, Any]:
    """All of them."""
    import numpy as np

    one = np.ones((1, 1), np.float32)
    call = repeated(prepared("relu_forward", y=one.copy(), x=one))
    return {
        "call_microseconds": quartiles([call() * 1e6 for _ in range(5)]),
        "losses": [
            loss_gradient(shape, settings)
            for shape in (LOSS_SHAPES[:2] if settings.quick else LOSS_SHAPES)
        ],
        "adam": [
            adam(parameters, settings)
            for parameters in (ADAM_SIZES[:4] if settings.quick else ADAM_SIZES)
        ],
        "elementwise": [
            elementwise(name, dtype, settings)
            for dtype in ("float32", "float64")
            for name in (*ACTIVATIONS, "dropout")
        ],
    }


def loss_gradient(shape: tuple[int, int], settings: Settings) -> dict[str, Any]:
    """Joint softmax and cross-entropy beside the separate ways, each checked before."""
    import numpy as np

    print(f"  softmax, cross-entropy {shape}", file=sys.stderr, flush=True)
    rows, classes = shape
    z = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    labels = (np.arange(rows) * 7 % classes).astype(np.int32)
    turns, left_out = {}, {}
    expected = None
    for name, contestant in CONTESTANTS.items():
        if contestant.bytes(rows, classes) > machine.free_memory() // 2:
            left_out[name] = f"takes {contestant.bytes(rows, classes) / 1e9:.0f} GB"
        elif contestant.operations(rows, classes) > 4e9:
            left_out[name] = f"takes {contestant.operations(rows, classes):.0e} operations"
        else:
            gradient: Gradient = contestant.make(z, labels)
            found = gradient()
            expected = found if expected is None else expected
            if not np.allclose(found, expected, rtol=1e-4, atol=1e-6 / rows):
                raise AssertionError(f"{name}: wrong gradient at {shape}")
            turns[name] = repeated(gradient)
    return {
        "shape": shape,
        "contestants": figures(alternate(turns, settings.pace)),
        "left_out": left_out,
    }


def adam(parameters: int, settings: Settings) -> dict[str, Any]:
    """An update beside a copy of the same footprint."""
    import numpy as np

    footprint = 16 * parameters
    if 2 * footprint > machine.free_memory() // 2:
        return {"parameters": parameters, "left_out": f"takes {2 * footprint / 1e9:.0f} GB"}
    print(f"  Adam, {parameters:,} parameters", file=sys.stderr, flush=True)
    rng = np.random.default_rng(0)
    w, g, m = (rng.standard_normal(parameters, dtype=np.float32) for _ in range(3))
    # Means of squares; a learning rate of 0 lets nothing drift to denormal numbers.
    update = prepared("adam", w=w, g=g, m=m, v=m * m, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
    turns = {
        "adam": repeated(update),
        "copy": lambda: footprint / machine.copy_bandwidth(footprint, seconds=0.02),
    }
    times = alternate(turns, settings.pace)
    found = figures(times)
    # Within a round: 28 bytes a parameter of an update, against 16 of the copy.
    shares = [
        28 / 16 * copy / own
        for own, copy in zip(times["adam"], times["copy"], strict=True)
        if own is not None and copy is not None
    ]
    return {
        "parameters": parameters,
        "microseconds": found["adam"]["microseconds"],
        "gbytes": 28 * parameters / found["adam"]["microseconds"][1] / 1e3,
        "copy_gbytes": footprint / found["copy"]["microseconds"][1] / 1e3,
        "of_copy": quartiles(shares),
        "left_out": None,
    }


def elementwise(name: str, dtype: str, settings: Settings) -> dict[str, Any]:
    """Nanoseconds an element, forward and backward."""
    import numpy as np

    rng = np.random.default_rng(0)
    x, y, dx = (rng.standard_normal(ELEMENTS).astype(dtype) for _ in range(3))
    if name == "dropout":
        actions = {"forward": prepared(name, dtype, y=y, x=x, rate=0.2, stream=1)}
    else:
        actions = {
            "forward": prepared(f"{name}_forward", dtype, y=y, x=x),
            "backward": prepared(f"{name}_backward", dtype, dx=dx, dy=x, y=y),
        }
    turns = {direction: repeated(action, 0.005) for direction, action in actions.items()}
    scale = 1e9 / x.size
    found = figures(alternate(turns, settings.pace), scale, "nanoseconds")
    return {"name": name, "dtype": dtype, **{k: v["nanoseconds"] for k, v in found.items()}}


def show(data: dict[str, Any]) -> None:
    """Print the four tables."""
    call = data["call_microseconds"][1]
    print(f"every figure of fastnn has {call:.1f} µs of one call from Python in it\n")
    print("gradient of softmax and cross-entropy, float32 (N, C):")
    cases = [(str(tuple(case["shape"])), case["contestants"]) for case in data["losses"]]
    print(tables.compared(cases))
    for case in data["losses"]:
        for name, why in case["left_out"].items():
            print(f"{tuple(case['shape'])}, {name}: left out, {why}")
    print("\nAdam, float32:")
    lines = [
        (f"{case['parameters']:,}", case["left_out"], "", "", "")
        if case["left_out"]
        else (
            f"{case['parameters']:,}",
            tables.duration(case["microseconds"][1]),
            f"{case['gbytes']:.1f}",
            f"{case['copy_gbytes']:.1f}",
            tables.spread(case["of_copy"]),
        )
        for case in data["adam"]
    ]
    print(tables.columns(("parameters", "update", "GB/s", "copy GB/s", "share"), lines))
    print(f"\nnanoseconds an element, {ELEMENTS[0]} rows of {ELEMENTS[1]}:")
    lines = [
        (
            case["name"],
            case["dtype"],
            *(
                tables.spread(case[direction], 3) if direction in case else ""
                for direction in ("forward", "backward")
            ),
        )
        for case in data["elementwise"]
    ]
    print(tables.columns(("", "", "forward", "backward"), lines, left=2))
