"""What kernels are tried on: an example of every op, the oracle's word on it, and watched calls.

`CASES` has a line for every op: how its operands are drawn, and what fastnn.kernels.reference makes
of them. In a watched call outputs hold NaN before, no byte outside them may change, and arrays lie
between margins of NaN, so that a kernel which reads too far computes NaN.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import activation_cases
import normalization_cases
import numpy as np
import prelu_cases
import regularization_cases
from numpy.typing import NDArray

from fastnn.engine import cpu
from fastnn.engine.compiler import address
from fastnn.engine.operands import Call
from fastnn.engine.tape import Eager
from fastnn.kernels import reference
from fastnn.kernels import state as s
from fastnn.kernels.activations import ELEMENTWISE
from fastnn.kernels.signatures import ACTIVATIONS, NAMES, signature
from fastnn.kernels.updates import NORM_BLOCK, RATE_NUMBERS, STEP_NUMBERS
from helpers import assert_close

Array = NDArray[Any]
Operands = dict[str, Any]

DTYPES = ("float32", "float64")
MARGIN = 96
"""Elements on either side of an array: more than the widest tile."""


# Examples: operands, and the oracle's word on them


@dataclass
class Example:
    """One call of an op.

    `oracle` turns the operands into what must stand in each output; those also among `inputs` are
    updated, the others overwritten. `units` gives the size of an output's typical element, on which
    tolerances are based, 1 where none is given; `scale` loosens them for long sums. Outputs among
    `written_floats` are no arrays, but these float slots of the state.
    """

    name: str
    dtype: str
    rows: int
    inputs: Operands
    oracle: Callable[[Operands], dict[str, Any]]
    scalars: dict[str, float] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)
    scale: float = 1.0
    slots: dict[int, int] = field(default_factory=dict)
    floats: dict[int, float] = field(default_factory=dict)
    written_floats: dict[str, int] = field(default_factory=dict)
    _expected: dict[str, Array] | None = field(default=None, init=False)

    @property
    def outputs(self) -> list[str]:
        """Names of the operands that the op writes."""
        return list(self.expected())

    def expected(self) -> dict[str, Array]:
        """What must stand in each output: the oracle is asked once."""
        if self._expected is None:
            with np.errstate(all="ignore"):
                self._expected = {k: np.asarray(v) for k, v in self.oracle(self.inputs).items()}
        return self._expected

    def replace(self, **inputs: Any) -> Example:
        """The same with other inputs."""
        other = copy.copy(self)
        other.inputs, other._expected = {**self.inputs, **inputs}, None
        return other

    def state(self) -> NDArray[np.int64]:
        """The state that the op reads."""
        state = cpu.new_state(self.slots.get(s.SEED, 0))
        for slot, value in self.slots.items():
            if slot != s.SEED:
                state[slot] = value
        for slot, value in self.floats.items():
            cpu.floats(state)[slot] = value
        return state


class Draw:
    """Seeded numbers of the op's type, in the shapes that letters stand for."""

    def __init__(
        self, name: str, dtype: str, seed: int, lengths: dict[str, int], without: str = ""
    ) -> None:
        self.name, self.dtype, self.lengths, self.without = name, dtype, lengths, without
        self.rng = np.random.default_rng(seed)

    def __getattr__(self, letter: str) -> int:
        return self.lengths[letter]

    def shape(self, letters: str) -> tuple[int, ...]:
        return tuple(self.lengths[letter] for letter in letters)

    def normal(self, letters: str, size: float = 1.0) -> Array:
        return (size * self.rng.normal(size=self.shape(letters))).astype(self.dtype)

    def uniform(self, letters: str, low: float = 0.0, high: float = 1.0) -> Array:
        return self.rng.uniform(low, high, self.shape(letters)).astype(self.dtype)

    def probabilities(self) -> Array:
        return self.rng.dirichlet(np.ones(self.C), size=self.N).astype(self.dtype)

    def labels(self) -> Array:
        return self.rng.integers(0, self.C, size=self.N).astype("int32")

    def weights(self) -> Array | None:
        if self.without == "weights":
            return None
        weights = self.uniform("N", 0.0, 3.0)
        weights[self.rng.random(self.N) < 0.1] = 0.0
        return weights

    def example(self, inputs: Operands, oracle: Callable[..., Any], **rest: Any) -> Example:
        return Example(self.name, self.dtype, self.N, inputs, oracle, **rest)


def gather(draw: Draw, source_type: str | None = None) -> Example:
    first = int(draw.rng.integers(0, 5))
    draw.lengths["R"] = rows = first + draw.N + int(draw.rng.integers(0, 4))
    source_type = source_type or str(draw.rng.choice(["uint8", "int32", "float32", "float64"]))
    integers = np.iinfo(source_type) if source_type in ("uint8", "int32") else np.iinfo("int16")
    source = draw.rng.integers(integers.min, integers.max, draw.shape("RF"), endpoint=True)
    source = (source / 7 if source_type in DTYPES else source).astype(source_type)
    order = None if draw.without == "order" else draw.rng.integers(0, rows, rows)

    def oracle(o: Operands) -> dict[str, Any]:
        order = np.arange(rows) if o["order"] is None else o["order"]
        return {"out": o["source"][order[first : first + draw.N]].astype(draw.dtype)}

    return draw.example({"source": source, "order": order}, oracle, slots={s.FIRST: first})


def scatter(draw: Draw) -> Example:
    first, left = (int(n) for n in draw.rng.integers(0, 5, 2))
    draw.lengths["R"] = first + draw.N + left

    def oracle(o: Operands) -> dict[str, Any]:
        out = np.full(draw.shape("RF"), np.nan)
        out[first : first + draw.N] = o["source"]
        return {"out": out}

    return draw.example({"source": draw.normal("NF")}, oracle, slots={s.FIRST: first})


# A chain of k rounded sums of numbers near 1 errs by about the root of k.


def dense_forward(draw: Draw) -> Example:
    relu = int(draw.rng.integers(0, 2))

    def oracle(o: Operands) -> dict[str, Any]:
        y = reference.dense_forward(o["x"], o["w"], o["b"])
        return {"y": np.maximum(y, 0) if relu else y}

    return draw.example(
        {
            "x": draw.normal("NI"),
            "w": draw.normal("IO", draw.I**-0.5),
            "b": None if draw.without == "b" else draw.normal("O"),
        },
        oracle,
        scalars={"relu": relu},
        scale=draw.I**0.5,
    )


def dense_backward_input(draw: Draw) -> Example:
    def oracle(o: Operands) -> dict[str, Any]:
        dx = reference.dense_backward_input(o["dy"], o["w"])
        return {"dx": dx if o["gate"] is None else np.where(o["gate"] > 0, dx, 0)}

    gate = None if draw.without == "gate" else np.maximum(draw.normal("NI"), 0)
    return draw.example(
        {"dy": draw.normal("NO"), "w": draw.normal("IO", draw.O**-0.5), "gate": gate},
        oracle,
        scale=draw.O**0.5,
    )


def small_layer(draw: Draw) -> None:
    """Cut the lengths to a kernel that fits into the workspace in float64."""
    draw.lengths |= {letter: min(draw.lengths[letter], 200) for letter in "IO"}


def dense_forward_rounded(draw: Draw) -> Example:
    small_layer(draw)
    return draw.example(
        {"x": draw.normal("NI"), "w": draw.normal("IO", draw.I**-0.5), "b": draw.normal("O")},
        lambda o: {"y": reference.dense_forward(o["x"], o["w"], o["b"])},
        scale=draw.I**0.5,
    )


def dense_backward_rounded(draw: Draw) -> Example:
    small_layer(draw)

    def oracle(o: Operands) -> dict[str, Any]:
        dw, _ = reference.dense_backward_kernel(o["x"], o["dy"])
        return {"dw": dw, "dx": reference.dense_backward_input(o["dy"], o["w"])}

    return draw.example(
        {"x": draw.normal("NI"), "dy": draw.normal("NO", draw.N**-0.5), "w": draw.normal("IO")},
        oracle,
        scale=(draw.N * draw.O) ** 0.5,
    )


def dense_backward_kernel(draw: Draw) -> Example:
    def oracle(o: Operands) -> dict[str, Any]:
        dw, db = reference.dense_backward_kernel(o["x"], o["dy"])
        return {"dw": dw} if draw.without == "db" else {"dw": dw, "db": db}

    inputs = {"x": draw.normal("NI"), "dy": draw.normal("NO", draw.N**-0.5)}
    if draw.without == "db":
        inputs["db"] = None
    return draw.example(inputs, oracle, scale=draw.N**0.5)


def sparse(draw: Draw) -> tuple[Operands, Callable[[Operands], list[Any]], int]:
    """Operands of sparse rows, what makes of them the batch's, and where the batch begins."""
    first = int(draw.rng.integers(0, 5))
    total = first + draw.N + int(draw.rng.integers(0, 4))
    at, columns = np.nonzero(draw.rng.random((total, draw.I)) < 0.3)
    draw.lengths |= {"R": len(at), "Q": total + 1, "M": total}
    operands: Operands = {
        "values": draw.normal("R"),
        "columns": columns.astype("int32"),
        "starts": np.searchsorted(at, np.arange(total + 1)),
        "order": None if draw.without == "order" else draw.rng.integers(0, total, total),
    }

    def rows(o: Operands) -> list[Any]:
        order = np.arange(total) if o["order"] is None else o["order"]
        parts = [slice(o["starts"][r], o["starts"][r + 1]) for r in order[first:][: draw.N]]
        return [(o["values"][part], o["columns"][part]) for part in parts]

    return operands, rows, first


def sparse_forward(draw: Draw) -> Example:
    operands, rows, first = sparse(draw)
    w = draw.normal("IO", draw.I**-0.5)
    b = None if draw.without == "b" else draw.normal("O")
    return draw.example(
        {**operands, "w": w, "b": b},
        lambda o: {"y": reference.sparse_forward(rows(o), o["w"], o["b"])},
        scale=draw.I**0.5,
        slots={s.FIRST: first},
    )


def sparse_backward_kernel(draw: Draw) -> Example:
    operands, rows, first = sparse(draw)
    bias = {"db": None} if draw.without == "db" else {}

    def oracle(o: Operands) -> dict[str, Any]:
        dw, db = reference.sparse_backward_kernel(rows(o), o["dy"], draw.I)
        return {"dw": dw} if bias else {"dw": dw, "db": db}

    return draw.example(
        {**bias, **operands, "dy": draw.normal("NO", draw.N**-0.5)},
        oracle,
        scale=draw.N**0.5,
        slots={s.FIRST: first},
    )


def activation(draw: Draw) -> Example:
    """An activation's op forward or backward, with the default parameter or another one."""
    name, _, way = draw.name.rpartition("_")
    case, of = activation_cases.CASES[name], ELEMENTWISE[name].of
    scalars = draw.rng.choice(activation_cases.parameters_of(name))
    parameter = [float(np.dtype(draw.dtype).type(value)) for value in scalars.values()]
    x = draw.normal("NF", 3.0)
    if way == "forward":
        return draw.example(
            {"x": x},
            lambda o: {"y": case.forward(o["x"].astype(np.float64), *parameter)},
            scalars=scalars,
        )
    for corner in case.corners:  # beside it, the derivative may be that of the other side
        x[abs(x - corner) < 1e-3] += x.dtype.type(0.01)
    wide = x.astype(np.float64)
    derivative = case.derivative(wide, *parameter)
    kept = x if of == "x" else case.forward(wide, *parameter).astype(draw.dtype)
    return draw.example(
        {"dy": draw.normal("NF"), of: kept},
        lambda o: {"dx": o["dy"] * derivative},
        scalars=scalars,
    )


def softmax_forward(draw: Draw) -> Example:
    return draw.example(
        {"x": draw.normal("NC", 3.0)},
        lambda o: {"y": reference.softmax_forward(o["x"])},
        units={"y": 1.0 / draw.C},
    )


def softmax_backward(draw: Draw) -> Example:
    y = reference.softmax_forward(draw.normal("NC", 3.0)).astype(draw.dtype)
    return draw.example(
        {"dy": draw.normal("NC"), "y": y},
        lambda o: {"dx": reference.softmax_backward(o["dy"], o["y"])},
        units={"dx": 1.0 / draw.C},
        scale=2.0,  # y (dy - mean): the difference of two rounded numbers, times a third
    )


def log_softmax_forward(draw: Draw) -> Example:
    return draw.example(
        {"x": draw.normal("NC", 3.0)},
        lambda o: {"y": reference.log_softmax_forward(o["x"])},
    )


def log_softmax_backward(draw: Draw) -> Example:
    y = reference.log_softmax_forward(draw.normal("NC", 3.0)).astype(draw.dtype)
    return draw.example(
        {"dy": draw.normal("NC"), "y": y},
        lambda o: {"dx": reference.log_softmax_backward(o["dy"], o["y"])},
        scale=draw.C**0.5,  # a sum over the row
    )


def sparsemax_forward(draw: Draw) -> Example:
    return draw.example(
        {"x": draw.normal("NC", draw.rng.choice([0.01, 0.3, 3.0]))},
        lambda o: {"y": reference.sparsemax_forward(o["x"])},
    )


def sparsemax_backward(draw: Draw) -> Example:
    y = reference.sparsemax_forward(draw.normal("NC", 0.3)).astype(draw.dtype)
    return draw.example(
        {"dy": draw.normal("NC"), "y": y},
        lambda o: {"dx": reference.sparsemax_backward(o["dy"], o["y"])},
    )


def masked(
    draw: Draw, letters: str, oracle: Callable[..., Array], rates: Any, **scalars: Any
) -> Example:
    """An example of an op that draws words; `oracle` is given x, the rate, and their place."""
    rate = float(draw.rng.choice(rates))
    seed, stream, step = (int(draw.rng.integers(0, 2**bits)) for bits in (63, 32, 40))
    name = "stddev" if draw.name == "gaussian_noise" else "rate"
    return draw.example(
        {"x": draw.normal(letters)},
        lambda o: {"y": oracle(o["x"], rate, seed, stream, step)},
        scalars={name: rate, "stream": stream, **scalars},
        slots={s.SEED: seed, s.STEP: step},
    )


RATES = (0.0, 0.1, 0.5, 0.9)


def dropout(draw: Draw) -> Example:
    return masked(draw, "NF", reference.dropout_forward, RATES)


def alpha_dropout(draw: Draw) -> Example:
    def oracle(x: Array, *place: Any) -> Array:
        kept = reference.dropout_mask(x.shape, *place) > 0
        return x * np.where(kept, 1.5, 0.0) + np.where(kept, 0.25, -0.75)

    return masked(draw, "NF", oracle, RATES, scale=1.5, shift=0.25, fill=-0.75)


def spatial_dropout(draw: Draw) -> Example:
    channels = draw.C
    draw.lengths["F"] = (1 + draw.O % 5) * channels

    def oracle(x: Array, *place: Any) -> Array:
        pictures = x.reshape(len(x), -1, channels)
        return reference.spatial_dropout_forward(pictures, *place).reshape(x.shape)

    return masked(draw, "NF", oracle, RATES, channels=channels)


def drop_block(draw: Draw) -> Example:
    height, width, channels = 1 + draw.O % 9, 1 + draw.I % 7, 1 + draw.C % 5
    block_size = 1 + draw.P % min(height, width)
    draw.lengths["F"] = height * width * channels
    per_rate = height * width / block_size**2
    per_rate /= (height - block_size + 1) * (width - block_size + 1)

    def oracle(x: Array, begin_rate: float, *place: Any) -> Array:
        pictures = x.reshape(-1, height, width, channels)
        rate = begin_rate / per_rate
        return reference.drop_block_forward(pictures, rate, block_size, *place).reshape(x.shape)

    return masked(
        draw, "NF", oracle, (0.01, 0.1, 0.5), across=width, channels=channels, block_size=block_size
    )


def gaussian_noise(draw: Draw) -> Example:
    relative = int(draw.rng.integers(0, 2))
    oracle = reference.gaussian_dropout if relative else reference.gaussian_noise
    return masked(draw, "NF", oracle, (0.1, 1.0, 3.0), relative=relative)


def shuffle(draw: Draw) -> Example:
    seed, epoch = (int(draw.rng.integers(0, 2**bits)) for bits in (63, 40))
    draw.lengths["R"] = rows = 3 * draw.N + int(draw.rng.choice([0, 500, 1100]))
    begin, end = sorted(int(n) for n in draw.rng.integers(0, rows + 1, 2))
    before = reference.shuffle(np.zeros(rows), 0, begin, seed, epoch)
    return draw.example(
        {"order": before},
        lambda o: {"order": reference.shuffle(o["order"], begin, end, seed, epoch)},
        scalars={"begin": begin, "end": end, "epoch": epoch},
        slots={s.SEED: seed},
    )


def loss(draw: Draw, z: Array, targets: Array, unit: float, parameter: Any = ()) -> Example:
    """An example of any loss; `unit` is the size of its gradient before the division by N."""
    key = signature(draw.name).arrays[3].name
    formula = getattr(reference, draw.name)
    more = parameter if isinstance(parameter, tuple) else (parameter,)
    return draw.example(
        {"z": z, key: targets, "weights": draw.weights()},
        lambda o: dict(
            zip(("loss", "dz"), formula(o["z"], o[key], o["weights"], *more), strict=True)
        ),
        scalars={"parameter": more[0]} if more else {},
        units={"dz": unit / draw.N},
        scale=2.0,  # a sum over a row of differences, each rounded
    )


def soft_targets(draw: Draw) -> Array:
    """Rows of target probabilities, smoothed one-hot rows among them."""
    targets = draw.probabilities()
    targets[::2] = 0.9 * np.eye(draw.C)[draw.labels()[::2]] + 0.1 / draw.C
    targets[::3] = np.eye(draw.C)[draw.labels()[::3]]
    return targets


def binary_targets(draw: Draw) -> Array:
    targets = draw.uniform("NC")
    targets[::2] = targets[::2] > 0.5
    return targets


def zeros_and_ones(draw: Draw) -> Array:
    return draw.rng.integers(0, 2, draw.shape("NC")).astype(draw.dtype)


def signs(draw: Draw) -> Array:
    return 2 * zeros_and_ones(draw) - 1


def counts(draw: Draw) -> Array:
    return draw.rng.poisson(2.0, draw.shape("NC")).astype(draw.dtype)


def with_ties(draw: Draw) -> Array:
    return draw.rng.integers(0, 1 + draw.C // 2, draw.shape("NC")).astype(draw.dtype)


def categorical_accuracy(draw: Draw) -> Example:
    return draw.example(
        {"z": with_ties(draw), "labels": draw.labels()},
        lambda o: {"hits": reference.categorical_accuracy(o["z"], o["labels"])},
    )


def categorical_accuracy_soft(draw: Draw) -> Example:
    return draw.example(
        {"z": with_ties(draw), "targets": with_ties(draw)},
        lambda o: {"hits": reference.categorical_accuracy_soft(o["z"], o["targets"])},
    )


def binary_accuracy(draw: Draw) -> Example:
    threshold = float(draw.rng.choice([0.0, 0.5, 0.7]))
    z = draw.uniform("NC")
    z[:, ::3] = threshold
    return draw.example(
        {"z": z, "targets": zeros_and_ones(draw)},
        lambda o: {"hits": reference.binary_accuracy(o["z"], o["targets"], threshold)},
        scalars={"threshold": threshold},
    )


def one_hot(draw: Draw) -> Example:
    on, off = 0.9 + 0.1 / draw.C, 0.1 / draw.C
    return draw.example(
        {"labels": draw.labels()},
        lambda o: {"out": reference.one_hot(o["labels"], draw.C, on, off)},
        scalars={"on": on, "off": off},
    )


def affine(draw: Draw) -> Example:
    return draw.example(
        {"x": draw.normal("NF")},
        lambda o: {"y": reference.affine(o["x"], 0.9, 0.05)},
        scalars={"scale": 0.9, "shift": 0.05},
    )


def top_k_accuracy(draw: Draw) -> Example:
    k = int(draw.rng.integers(1, 6))
    return draw.example(
        {"z": with_ties(draw), "targets": with_ties(draw)},
        lambda o: {"hits": reference.top_k_accuracy(o["z"], o["targets"], k)},
        scalars={"k": k},
    )


def sums(
    draw: Draw, z: Array, targets: Array, oracle: Callable[..., Array], **scalars: float
) -> Example:
    """An example of an op that adds what `oracle` makes of z and targets to a part of `sums`."""
    at, part = 3, oracle(z, targets, **scalars).size
    draw.lengths["A"] = at + part + 2

    def added(o: Operands) -> dict[str, Any]:
        after = o["sums"].copy()
        after[at : at + part] += oracle(o["z"], o["targets"], **scalars).ravel()
        return {"sums": after}

    before = np.zeros(draw.A)
    before[:at] = before[at + part :] = 7.0
    return draw.example(
        {"sums": before, "z": z, "targets": targets}, added, scalars={"at": at, **scalars}
    )


def count_positives(draw: Draw) -> Example:
    largest = int(draw.rng.integers(0, 2))
    return sums(draw, draw.normal("NC"), zeros_and_ones(draw), reference.count_positives,
                threshold=0.25, largest=largest)  # fmt: skip


def count_confusion(draw: Draw) -> Example:
    if draw.rng.integers(0, 2):
        draw.lengths["C"] = 1
    targets = zeros_and_ones(draw) if draw.C == 1 else with_ties(draw)
    return sums(draw, with_ties(draw), targets, reference.count_confusion, threshold=0.5)


def count_buckets(draw: Draw) -> Example:
    # Edges of buckets, and beyond the first and last, where both types agree on the bucket.
    z = draw.rng.integers(-1, 18, draw.shape("NC")).astype(draw.dtype) / 16
    targets = draw.rng.integers(0, 5, draw.shape("NC")).astype(draw.dtype) / 4
    return sums(draw, z, targets, reference.count_buckets, buckets=16)


def count_close(draw: Draw) -> Example:
    example = sums(draw, draw.normal("NC"), draw.normal("NC"), reference.count_close, precision=0.5)
    del example.scalars["precision"]
    example.inputs["sums"][example.scalars["at"] + 1] = 0.5
    return example


def sum_squares(draw: Draw) -> Example:
    example = sums(draw, draw.normal("NC"), draw.normal("NC"), reference.sum_squares)
    example.scale = draw.N**0.5
    return example


SUM = s.METRIC_SUMS + 2


def accumulate(draw: Draw) -> Example:
    return draw.example(
        {"values": draw.normal("N")},
        lambda o: {"sum": 0.75 + o["values"].astype(np.float64).sum()},
        scalars={"slot": SUM, "guard": int(draw.rng.integers(0, 2))},
        floats={SUM: 0.75},
        written_floats={"sum": SUM},
    )


def guard(draw: Draw) -> Example:
    return draw.example({"g": draw.normal("P", 1e18)}, lambda o: {})  # writes nothing, but a flag


def guard_product(draw: Draw) -> Example:
    # Of factors so small that their product is not computed: dw and db are not touched.
    without_bias = draw.without == "db"
    inputs = {
        "dw": np.full(draw.shape("IO"), np.nan, draw.dtype),
        "db": None if without_bias else np.full(draw.shape("O"), np.nan, draw.dtype),
        "x": draw.normal("NI"),
        "dy": draw.normal("NO", 1e14),
    }
    return draw.example(inputs, lambda o: {})


def sgd(draw: Draw) -> Example:
    plain, rate = draw.without == "velocity", 0.03
    momentum, nesterov = (0.0, 0) if plain else (0.9, int(draw.rng.integers(0, 2)))

    def oracle(o: Operands) -> dict[str, Any]:
        before = np.zeros(draw.P) if plain else o["velocity"]
        w, velocity = reference.sgd(o["w"], o["g"], before, rate, momentum, bool(nesterov))
        return {"w": w} if plain else {"w": w, "velocity": velocity}

    velocity = None if plain else draw.normal("P", rate)
    # Weights as small as a step, so that a wrong step is no rounding of theirs.
    return draw.example(
        {"w": draw.normal("P", rate), "g": draw.normal("P"), "velocity": velocity},
        oracle,
        scalars={"momentum": momentum, "nesterov": nesterov, "multiplier": 2.0},
        units={"w": rate, "velocity": rate},
        floats={s.LEARNING_RATE: rate / 2.0},
    )


def clip_value(draw: Draw) -> Example:
    limit = float(draw.rng.uniform(0.1, 3.0))
    return draw.example(
        {"g": draw.normal("P")},
        lambda o: {"g": np.clip(o["g"], -limit, limit)},
        scalars={"limit": limit},
    )


def sum_of_squares(draw: Draw) -> Example:
    blocks = -(-draw.P // NORM_BLOCK)

    def oracle(o: Operands) -> dict[str, Any]:
        edges = np.arange(0, draw.P, NORM_BLOCK)
        return {"sums": np.add.reduceat(o["g"].astype(np.float64) ** 2, edges)}

    return draw.example(
        {"sums": np.full(blocks, np.nan), "g": draw.normal("P")},
        oracle,
        units={"sums": draw.P},
    )


def clip_norm(draw: Draw) -> Example:
    g = draw.normal("P")
    square = float((g.astype(np.float64) ** 2).sum())
    limit = float(draw.rng.choice([0.1, 0.7, 1.5])) * square**0.5
    return draw.example(
        {"g": g, "sums": np.array([square, 0.0])},
        lambda o: {"g": reference.clip_norm([o["g"]], limit)[0]},
        scalars={"limit": limit},
    )


def number_of_step(draw: Draw) -> Example:
    step, batch = (int(draw.rng.integers(1, 9)) for _ in range(2))
    slot = int(draw.rng.choice([s.LEARNING_RATE, s.PENALTY_SCALE]))
    draw.lengths["R"] = step + 2
    return draw.example(
        {"numbers": draw.rng.random(step + 2)},
        lambda o: {"number": o["numbers"][step]},
        scalars={"slot": slot},
        slots={s.FIRST: step * batch, s.BATCH: batch},
        written_floats={"number": slot},
    )


def weight_decay(draw: Draw) -> Example:
    rate, decay = 0.03, float(draw.rng.uniform(0.0, 50.0))
    return draw.example(
        {"w": draw.normal("P")},
        lambda o: {"w": reference.weight_decay(o["w"], rate, decay)},
        scalars={"decay": decay, "multiplier": 2.0},
        floats={s.LEARNING_RATE: rate / 2.0},
    )


def weight_average(draw: Draw) -> Example:
    t = int(draw.rng.integers(1, 4))
    average = draw.normal("P")
    return draw.example(
        {"average": average, "w": draw.normal("P")},
        lambda o: {"average": reference.weight_average(o["average"], o["w"], t, 0.9)},
        scalars={"momentum": 0.9},
        slots={s.STEP: t - 1},
    )


BETAS = {"beta_1": 0.9, "beta_2": 0.999}


def adam_rates_at(
    t: int, rate: float, beta_1: float, beta_2: float, **_: float
) -> tuple[float, float]:
    """The two factors of Adam's step t, from 1, as its paper has them."""
    return rate / (1.0 - beta_1**t), (1.0 - beta_2**t) ** -0.5


def adam_step(draw: Draw) -> tuple[int, float]:
    return int(draw.rng.choice([1, 2, 3, 10, 1000, 10**6])), 0.003


def adam_rates(draw: Draw) -> Example:
    t, rate = adam_step(draw)
    return draw.example(
        {},
        lambda o: dict(zip(("rate", "correction"), adam_rates_at(t, rate, **BETAS), strict=True)),
        scalars=dict(BETAS),
        units={"rate": rate},
        slots={s.STEP: t - 1},
        floats={s.LEARNING_RATE: rate},
        written_floats={"rate": s.UPDATE_RATE, "correction": s.UPDATE_CORRECTION},
    )


def adam_rates_epsilon_hat(draw: Draw) -> Example:
    t, rate = adam_step(draw)
    corrected, correction = adam_rates_at(t, rate, **BETAS)
    return draw.example(
        {},
        lambda o: {"rate": corrected / correction, "correction": 1.0},
        scalars=dict(BETAS),
        units={"rate": rate},
        slots={s.STEP: t - 1},
        floats={s.LEARNING_RATE: rate},
        written_floats={"rate": s.UPDATE_RATE, "correction": s.UPDATE_CORRECTION},
    )


def adam(draw: Draw) -> Example:
    t, rate = adam_step(draw)
    corrected_rate, correction = adam_rates_at(t, rate, **BETAS)
    scalars = {**BETAS, "epsilon": 1e-7}
    return draw.example(
        {
            "w": draw.normal("P", rate),
            "g": draw.normal("P"),
            "m": draw.normal("P", 0.1),
            "v": draw.uniform("P", 0.0, 1e-3),
        },
        lambda o: dict(
            zip(
                ("w", "m", "v"),
                reference.adam(o["w"], o["g"], o["m"], o["v"], t, rate, **scalars),
                strict=True,
            )
        ),
        scalars=scalars | {"multiplier": 2.0},
        # At step 1, m and v are the gradient and its square times 1 - beta.
        units={"w": rate, "m": 0.1, "v": 1e-3},
        floats={s.UPDATE_RATE: corrected_rate / 2.0, s.UPDATE_CORRECTION: correction},
    )


@functools.cache  # a product of up to a million numbers
def nadam_rates_at(t: int, rate: float, beta_1: float, beta_2: float) -> tuple[float, float, float]:
    """The rate of m, the root's correction and the rate of g of Nadam's step t, from 1."""
    u = beta_1 * (1.0 - 0.5 * 0.96 ** np.arange(1.0, t + 2.0))
    ahead, now = u[-1] / (1.0 - np.prod(u)), (1.0 - u[-2]) / (1.0 - np.prod(u[:-1]))
    return rate * ahead, (1.0 - beta_2**t) ** -0.5, rate * now


def nadam_rates(draw: Draw) -> Example:
    t, rate = adam_step(draw)
    slots = {
        "rate": s.UPDATE_RATE,
        "correction": s.UPDATE_CORRECTION,
        "gradient_rate": s.UPDATE_GRADIENT_RATE,
    }
    return draw.example(
        {},
        lambda o: dict(zip(slots, nadam_rates_at(t, rate, **BETAS), strict=True)),
        scalars=dict(BETAS),
        units={"rate": rate, "gradient_rate": rate},
        slots={s.STEP: t - 1},
        floats={s.LEARNING_RATE: rate},
        written_floats=slots,
    )


def adam_corrections_at(t: int) -> dict[int, float]:
    """What is divided out of Adam's moments at step t, from 1, by its slot."""
    slots = (s.UPDATE_CORRECTION, s.UPDATE_SECOND_CORRECTION)
    return {slot: 1.0 - beta**t for slot, beta in zip(slots, BETAS.values(), strict=True)}


def adam_corrections(draw: Draw) -> Example:
    t, _ = adam_step(draw)
    slots = {"first": s.UPDATE_CORRECTION, "second": s.UPDATE_SECOND_CORRECTION}
    return draw.example(
        {},
        lambda o: dict(zip(slots, adam_corrections_at(t).values(), strict=True)),
        scalars=dict(BETAS),
        slots={s.STEP: t - 1},
        written_floats=slots,
    )


def update(
    draw: Draw, oracle: Callable[..., tuple[Array, ...]], units: dict[str, float], **scalars: float
) -> Example:
    """An example of an update: its running means, near their `units`, and its numbers.

    `oracle` gets w, g, the means, the step's number from 1, and the learning rate.
    """
    t, rate = adam_step(draw)
    floats = {s.LEARNING_RATE: rate}
    if draw.name == "adam_corrected":
        floats |= adam_corrections_at(t)
    elif "beta_2" in scalars:
        rates_at = nadam_rates_at if draw.name == "nadam" else adam_rates_at
        slots = (s.UPDATE_RATE, s.UPDATE_CORRECTION, s.UPDATE_GRADIENT_RATE)
        floats |= dict(zip(slots, rates_at(t, rate, **BETAS), strict=False))
    for number in RATE_NUMBERS:  # what the multiplier then doubles
        floats[STEP_NUMBERS[number]] = floats.get(STEP_NUMBERS[number], 0.0) / 2.0
    means = {
        mean: (unit * draw.uniform("P", 0.5, 1.5)).astype(draw.dtype)
        for mean, unit in units.items()
    }
    arrays = {"w": draw.normal("P", rate), "g": draw.normal("P"), **means}
    return draw.example(
        arrays,
        lambda o: dict(zip(("w", *means), oracle(*(o[a] for a in arrays), t, rate), strict=True)),
        scalars=scalars | {"multiplier": 2.0},
        units={"w": rate, **units},
        floats=floats,
        scale=2.0,  # the rounding of a mean, of its root and of a quotient
    )


WEIGHTS = {"weight_1": 1.0 - BETAS["beta_1"], "weight_2": 1.0 - BETAS["beta_2"]}
RHO = {"rho": 0.9, "weight": 1.0 - 0.9}


def rmsprop_full(draw: Draw) -> Example:
    momentum, centered = float(draw.rng.choice([0.0, 0.5])), int(draw.rng.integers(0, 2))
    return update(
        draw,
        lambda w, g, v, m, u, t, rate: reference.rmsprop(
            w, g, v, m, u, rate, 0.9, momentum, bool(centered)
        ),
        {"v": 1.0, "m": 0.1, "velocity": 1e-3},
        **RHO, momentum=momentum, centered=centered, epsilon=1e-7,
    )  # fmt: skip


UPDATE_CASES: dict[str, Callable[[Draw], Example]] = {
    "adagrad": lambda d: update(
        d, lambda w, g, c, t, rate: reference.adagrad(w, g, c, rate),
        {"accumulator": 1.0}, epsilon=1e-7,
    ),
    "rmsprop": lambda d: update(
        d, lambda w, g, v, t, rate: reference.rmsprop(w, g, v, 0.0, 0.0, rate)[:2],
        {"v": 1.0}, **RHO, epsilon=1e-7,
    ),
    "rmsprop_outside": lambda d: update(
        d, lambda w, g, v, t, rate: reference.rmsprop_outside(w, g, v, rate),
        {"v": 1.0}, **RHO, epsilon=1e-7,
    ),
    "rmsprop_full": rmsprop_full,
    "adadelta": lambda d: update(
        d, lambda w, g, v, x, t, rate: reference.adadelta(w, g, v, x, rate, 0.9),
        {"v": 1.0, "d": 1.0}, **RHO, epsilon=1e-7,
    ),
    "adam_corrected": lambda d: update(
        d, reference.adam, {"m": 0.1, "v": 1e-3}, **BETAS, **WEIGHTS, epsilon=1e-7,
    ),
    "amsgrad": lambda d: update(
        d, reference.amsgrad, {"m": 0.1, "v": 1e-3, "v_max": 1e-3}, **BETAS, **WEIGHTS,
        epsilon=1e-7,
    ),
    "nadam": lambda d: update(
        d, reference.nadam, {"m": 0.1, "v": 1e-3}, **BETAS, **WEIGHTS, epsilon=1e-7,
    ),
    "adamax": lambda d: update(
        d, reference.adamax, {"m": 0.1, "u": 1.0}, **BETAS, weight_1=WEIGHTS["weight_1"],
        epsilon=1e-7,
    ),
    "lion": lambda d: update(
        d, lambda w, g, m, t, rate: reference.lion(w, g, m, rate, *BETAS.values()),
        {"m": 0.1}, **BETAS, **WEIGHTS,
    ),
}  # fmt: skip


LOSSES: dict[str, Callable[[Draw], Example]] = {
    "softmax_crossentropy": lambda d: loss(d, d.normal("NC", 3.0), d.labels(), 1.0),
    "softmax_crossentropy_soft": lambda d: loss(d, d.normal("NC", 3.0), soft_targets(d), 1.0),
    "categorical_crossentropy": lambda d: loss(d, d.probabilities(), d.labels(), 1.0),
    "categorical_crossentropy_soft": lambda d: loss(d, d.probabilities(), soft_targets(d), 1.0),
    "sigmoid_binary_crossentropy": lambda d: loss(
        d, d.normal("NC", 3.0), binary_targets(d), 1.0 / d.C
    ),
    "binary_crossentropy": lambda d: loss(
        d, d.uniform("NC", 0.01, 0.99), binary_targets(d), 1.0 / d.C
    ),
    "mean_squared_error": lambda d: loss(d, d.normal("NC"), d.normal("NC"), 1.0 / d.C),
    "mean_absolute_error": lambda d: loss(d, d.normal("NC"), d.normal("NC"), 1.0 / d.C),
    "huber": lambda d: loss(d, d.normal("NC"), d.normal("NC"), 1.0 / d.C, 0.75),
    "log_cosh": lambda d: loss(d, d.normal("NC", 3.0), d.normal("NC"), 1.0 / d.C),
    "poisson": lambda d: loss(d, d.uniform("NC", 0.1, 4.0), counts(d), 10.0 / d.C),
    "half_poisson_deviance": lambda d: loss(d, d.uniform("NC", 0.1, 4.0), counts(d), 10.0 / d.C),
    "exponential_half_poisson_deviance": lambda d: loss(d, d.normal("NC"), counts(d), 10.0 / d.C),
    "hinge": lambda d: loss(d, d.normal("NC"), signs(d), 1.0 / d.C),
    "squared_hinge": lambda d: loss(d, d.normal("NC"), signs(d), 1.0 / d.C),
    "kl_divergence": lambda d: loss(d, d.uniform("NC", 0.01, 0.99), soft_targets(d), 1.0),
    "categorical_hinge": lambda d: loss(d, d.normal("NC"), soft_targets(d), 1.0),
    "cosine_similarity": lambda d: loss(d, d.normal("NC"), d.normal("NC"), 1.0),
    "sparsemax_loss": lambda d: loss(d, d.normal("NC"), soft_targets(d), 1.0),
}
METRICS: dict[str, Callable[[Draw], Example]] = {
    "categorical_accuracy": categorical_accuracy,
    "categorical_accuracy_soft": categorical_accuracy_soft,
    "binary_accuracy": binary_accuracy,
    "top_k_accuracy": top_k_accuracy,
    "count_positives": count_positives,
    "count_confusion": count_confusion,
    "count_buckets": count_buckets,
    "count_close": count_close,
    "sum_squares": sum_squares,
}
OPTIMIZING: dict[str, Callable[[Draw], Example]] = {
    "guard": guard,
    "clip_value": clip_value,
    "sum_of_squares": sum_of_squares,
    "clip_norm": clip_norm,
    "number_of_step": number_of_step,
    "weight_decay": weight_decay,
    "sgd": sgd,
    "adam": adam,
    "adam_rates": adam_rates,
    "nadam_rates": nadam_rates,
    "adam_rates_epsilon_hat": adam_rates_epsilon_hat,
    "adam_corrections": adam_corrections,
    **UPDATE_CASES,
    "weight_average": weight_average,
}
DENSE: dict[str, Callable[[Draw], Example]] = {
    "dense_forward": dense_forward,
    "dense_backward_input": dense_backward_input,
    "dense_backward_kernel": dense_backward_kernel,
}
CASES: dict[str, Callable[[Draw], Example]] = {
    "gather": gather,
    "scatter": scatter,
    **DENSE,
    "sparse_forward": sparse_forward,
    "sparse_backward_kernel": sparse_backward_kernel,
    "dense_forward_rounded": dense_forward_rounded,
    "dense_backward_rounded": dense_backward_rounded,
    "guard_product": guard_product,
    **{name: activation for name in NAMES if name.rpartition("_")[0] in ACTIVATIONS},
    "softmax_forward": softmax_forward,
    "log_softmax_forward": log_softmax_forward,
    "sparsemax_forward": sparsemax_forward,
    "softmax_backward": softmax_backward,
    "log_softmax_backward": log_softmax_backward,
    "sparsemax_backward": sparsemax_backward,
    **normalization_cases.CASES,
    **prelu_cases.CASES,
    "dropout": dropout,
    "alpha_dropout": alpha_dropout,
    "spatial_dropout": spatial_dropout,
    "drop_block": drop_block,
    "gaussian_noise": gaussian_noise,
    "shuffle": shuffle,
    **LOSSES,
    "one_hot": one_hot,
    "affine": affine,
    **regularization_cases.COMPUTING,
    **METRICS,
    "accumulate": accumulate,
    **OPTIMIZING,
    **regularization_cases.UPDATING,
}

# Watched calls


class Watched:
    """A copy of an array between margins, from `shift` elements past a cache line on."""

    def __init__(self, array: Array, shift: int) -> None:
        item = array.itemsize
        block = np.empty((array.size + 2 * MARGIN + shift) * item + 64, np.uint8)
        begin = -block.ctypes.data % 64
        self.block = block[begin : begin + (array.size + 2 * MARGIN + shift) * item]
        self.block = self.block.view(array.dtype)
        self.block[:] = poison(array.dtype)
        self.inside = slice(MARGIN + shift, MARGIN + shift + array.size)
        self.array = self.block[self.inside].reshape(array.shape)
        self.array[...] = array
        self.before = self.block.copy()

    def assert_margins_kept(self) -> None:
        self.before[self.inside] = self.block[self.inside]
        assert self.block.tobytes() == self.before.tobytes(), "written outside an output"

    def assert_kept(self) -> None:
        assert self.block.tobytes() == self.before.tobytes(), "an input was changed"


def poison(dtype: Any) -> Any:
    """What nothing can be computed from unnoticed."""
    return np.nan if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max


def run_as_team(name: str, operands: Operands, state: Array, rows: int, team: int) -> bool:
    """Run an op as each thread of a team in turn; whether it raised the flag."""
    call = Call(name, operands)
    words = np.array(call.integers(lambda array: array.ctypes.data, address), np.int64)
    scratch = cpu.Scratch(team)
    own = state
    for rank in reversed(range(team)):
        own = state.copy()
        own[s.ROWS] = rows
        scratch.lend(own)
        own[s.WORKSPACE] += rank * s.WORKSPACE_BYTES
        function = cpu._OP(address(call.key))
        cpu._call(function, words.ctypes.data, own.ctypes.data, rank, team)
    state[:] = own  # the first thread's, which counts
    return bool(scratch.flag)


def run(
    example: Example, team: int = 0, in_place: bool = False, shift: int = 0
) -> dict[str, Array]:
    """What an example's op writes, run by `Eager`, or as a team of `team` threads."""
    line = signature(example.name)
    state = example.state()
    watched: dict[str, Watched] = {}
    for name, value in example.inputs.items():
        if value is not None:
            watched[name] = Watched(value, shift)
    expected = example.expected()
    for name, value in expected.items():
        if name not in watched and name not in example.written_floats:
            watched[name] = Watched(np.full(value.shape, poison(example.dtype), example.dtype), 0)
    operands: Operands = {name: w.array for name, w in watched.items()}
    if in_place:
        assert line.in_place is not None
        output, source = line.in_place
        operands[output] = operands[source]
    operands |= example.scalars
    if team:
        assert not run_as_team(example.name, operands, state, example.rows, team)
    else:
        tape = Eager(example.rows, example.dtype, state)
        tape.op(example.name, **operands)
        assert not tape.stopped
    overwritten = set(expected) | ({line.in_place[1]} if in_place and line.in_place else set())
    for name, w in watched.items():
        if name in overwritten:
            w.assert_margins_kept()
        else:
            w.assert_kept()
    results = {name: operands[name] for name in expected if name not in example.written_floats}
    for name, slot in example.written_floats.items():
        results[name] = cpu.floats(state)[slot : slot + 1].copy()
    return results


def check(example: Example, **how: Any) -> None:
    """Run an example and compare it with the oracle."""
    results = run(example, **how)
    for name, value in example.expected().items():
        unit = example.units.get(name, 1.0)
        dtype = "float64" if name in example.written_floats else example.dtype
        actual = results[name].astype(np.float64).reshape(value.shape)
        assert_close(actual / unit, value / unit, dtype, example.scale)


def assert_same_bits(one: dict[str, Array], other: dict[str, Array]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        if one[name].tobytes() != other[name].tobytes():
            np.testing.assert_array_equal(one[name], other[name])
            raise AssertionError(f"{name}: signs of zeros differ")


def apply(name: str, rows: int, dtype: str = "float64", **operands: Any) -> Operands:
    """Run an op by `Eager` on arrays as they are; the operands, outputs among them."""
    Eager(rows, dtype, cpu.new_state()).op(name, **operands)
    return operands
