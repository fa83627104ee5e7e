"""What every op is called with: the contract that the kernels' twins and the planner share.

A line gives an op's operands in order, outputs first::

    "dense_forward": "y[N,O] x[N,I] w[I,O] b[O]?"

``y[N,O]`` is a C-contiguous array with dimensions N and O; equal letters are equal lengths.
``N`` is the number of rows in the batch at hand, known only when a step runs; every other letter
is fixed when a program is made. The element type is the op's first type, ``T``, unless one is
named after a colon: another of the op's types (``S``) or a fixed one. A question mark marks an
operand that may be left out. ``rate=float`` is a scalar; ``multiply=product`` is the address of
a compiled function that is no op itself (`FUNCTIONS`), put in when a program is linked, and
``finish=chain`` that of other ops' rows, for each row of a product's tiles to go through, and
``supply=supply`` that of an op's row which makes the rows of the first factor, just before a row of
tiles needs them.

``parts`` says how a team of threads cuts the work. ``"N"`` or ``"P"``: into ranges of that
dimension; a kernel sees arrays that begin at its range. ``"NF"``: like ``"N"``, and as the finish
of a product a kernel may be given some columns of a row. ``"elements"``: all operands are seen as
one-dimensional and cut anywhere. ``"own"``: the kernel cuts it, knowing ``rank`` and ``team``.
``"first"``: the first thread does it all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fastnn.kernels import activations, pointwise, updates
from fastnn.kernels.activations import ELEMENTWISE, Elementwise
from fastnn.kernels.columns import COLUMNS
from fastnn.kernels.pointwise import PAIRS

ITEM_BYTES = {
    "uint8": 1,
    "int32": 4,
    "int64": 8,
    "float32": 4,
    "float64": 8,
}


@dataclass(frozen=True)
class Operand:
    """An array operand: its name, element type ("T", "S" or a fixed one) and dimensions."""

    name: str
    type: str
    dimensions: tuple[str, ...]
    optional: bool


@dataclass(frozen=True)
class Scalar:
    """A scalar operand: its name; ``"int"``, ``"float"``, ``"chain"``, ``"supply"`` or one of
    `FUNCTIONS`."""

    name: str
    type: str


@dataclass(frozen=True)
class Signature:
    """An op's operands, the dimensions that are fixed when a program is made, and its cut.

    `in_place` names an output and the input that it may take the place of. `result` names the
    operands that may be rows of a product: the op then can finish it.
    """

    name: str
    arrays: tuple[Operand, ...]
    scalars: tuple[Scalar, ...]
    dimensions: tuple[str, ...]
    parts: str
    in_place: tuple[str, str] | None
    result: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of integers that an op's operands take: dimensions, addresses, scalars."""
        return len(self.dimensions) + len(self.arrays) + len(self.scalars)


def _parse(name: str, parts: str, text: str, in_place: str) -> Signature:
    arrays: list[Operand] = []
    scalars: list[Scalar] = []
    dimensions: list[str] = []
    for word in text.split():
        if "=" in word:
            scalars.append(Scalar(*word.split("=")))
            continue
        optional = word.endswith("?")
        head, inside = word.rstrip("?").rstrip("]").split("[")
        operand_name, _, element = head.partition(":")
        letters = tuple(inside.split(","))
        arrays.append(Operand(operand_name, element or "T", letters, optional))
        dimensions += [d for d in letters if d != "N" and d not in dimensions]
    pair = in_place.split()
    return Signature(
        name,
        tuple(arrays),
        tuple(scalars),
        tuple(dimensions),
        parts,
        (pair[0], pair[1]) if len(pair) == 2 else None,
        tuple(pair) if parts in ("elements", "P", "NF") else (),
    )


_LOSS = "loss[N] dz[N,C] z[N,C] {targets} weights[N]?"
_DENSE_TARGETS = _LOSS.format(targets="targets[N,C]")
_LABELS = _LOSS.format(targets="labels:int32[N]")
_SPARSE = "values:S[R] columns:int32[R] starts:int64[Q] order:int64[M]?"
_SUMS = "sums:float64[A] z[N,C] targets[N,C] at=int"

ACTIVATIONS = tuple(ELEMENTWISE)
"""Elementwise activations."""

ROWWISE = ("softmax", "log_softmax", "sparsemax")
"""Activations of rows; their gradients are functions of the output."""

Line = tuple[str, str, str]


_FORWARD: Line = ("elements", "y[N,F] x[N,F] parameter=float", "y x")
_POINTWISE: Line = ("N", f"{_DENSE_TARGETS} parameter=float", "dz z")


def _backward(line: Elementwise) -> Line:
    return "elements", f"dx[N,F] dy[N,F] {line.of}[N,F] parameter=float", "dx dy"


def _update(name: str) -> Line:
    return "P", updates.operands(name), "g"


# name: (parts, operands, "output input" that may be one array; an optimizer's gradient)
_TABLE: dict[str, Line] = {
    "gather": ("N", "out[N,F] source:S[R,F] order:int64[R]?", ""),
    "scatter": ("N", "out[R,F] source[N,F]", ""),
    "dense_forward": (
        "own",
        "y[N,O] x[N,I] w[I,O] b[O]? multiply=product supply=supply finish=chain relu=int pack=int",
        "",
    ),
    "dense_backward_input": (
        "own",
        "dx[N,I] dy[N,O] w[I,O] gate[N,I]? multiply=product finish=chain",
        "",
    ),
    "dense_backward_kernel": (
        "own",
        "dw[I,O] db[O]? x[N,I] dy[N,O] multiply=product finish=chain discard=int pack=int",
        "",
    ),
    "sparse_forward": ("N", f"y[N,O] {_SPARSE} w[I,O] b[O]? zero=float", ""),
    "sparse_backward_kernel": ("own", f"dw[I,O] db[O]? {_SPARSE} dy[N,O] zero=float", ""),
    "dense_forward_rounded": ("N", "y[N,O] x[N,I] w[I,O] b[O]", ""),
    "dense_backward_rounded": ("own", "dw[I,O] dx[N,I] x[N,I] dy[N,O] w[I,O]", ""),
    "guard_product": ("own", "dw[I,O] db[O]? x[N,I] dy[N,O] multiply=product", ""),
    **{f"{a}_forward": _FORWARD for a in ACTIVATIONS},
    **{
        f"{a}_backward": _backward(line)
        for a, line in ELEMENTWISE.items()
        if line.derivative is not None
    },
    **{f"{a}_forward": ("N", "y[N,C] x[N,C]", "y x") for a in ROWWISE},
    **{f"{a}_backward": ("N", "dx[N,C] dy[N,C] y[N,C]", "dx dy") for a in ROWWISE},
    "batch_statistics": ("own", "mean[C] low[C] variance[C] x[N,F]", ""),
    "normalize_columns": (
        "N",
        "y[N,F] x[N,F] mean[C]? low[C]? variance[C] gamma[C]? beta[C]? epsilon=float least=float",
        "y x",
    ),
    "batch_normalization_parameters": (
        "own",
        "dgamma[C] dbeta[C] dy[N,F] x[N,F] mean[C] low[C] variance[C] epsilon=float",
        "",
    ),
    "batch_normalization_backward": (
        "N",
        "dx[N,F] dy[N,F] x[N,F] mean[C] low[C] variance[C] gamma[C]? dgamma[C] dbeta[C] "
        "epsilon=float",
        "dx dy",
    ),
    "layer_normalization_forward": (
        "N",
        "y[N,F] kept[N,K]? x[N,F] gamma[C]? beta[C]? epsilon=float columns=int",
        "y x",
    ),
    "layer_normalization_backward": (
        "own",
        "sums:float64[B,C]? dx[N,F] dy[N,F] x[N,F] kept[N,K] gamma[C]? columns=int",
        "dx dy",
    ),
    "layer_normalization_parameters": (
        "own",
        "dgamma[C]? dbeta[C]? sums:float64[B,C] parts=int",
        "",
    ),
    "moving_average": ("P", "average[P] value[P] momentum=float", ""),
    "prelu_forward": ("N", "y[N,F] x[N,F] alpha[A] place:int64[F]?", "y x"),
    "prelu_backward": ("N", "dx[N,F] dy[N,F] x[N,F] alpha[A] place:int64[F]?", "dx dy"),
    "prelu_sums": ("own", "sums:float64[F] dy[N,F] x[N,F]", ""),
    "sum_members": ("own", "total[A] sums:float64[F] members:int64[A,S]?", ""),
    "dropout": ("NF", "y[N,F] x[N,F] rate=float stream=int", "y x"),
    "alpha_dropout": (
        "NF",
        "y[N,F] x[N,F] rate=float scale=float shift=float fill=float stream=int",
        "y x",
    ),
    "spatial_dropout": ("N", "y[N,F] x[N,F] rate=float channels=int stream=int", "y x"),
    "drop_block": (
        "N",
        "y[N,F] x[N,F] rate=float across=int channels=int block_size=int stream=int",
        "",
    ),
    "gaussian_noise": ("NF", "y[N,F] x[N,F] stddev=float relative=int stream=int", "y x"),
    "shuffle": ("own", "order:int64[R] begin=int end=int epoch=int", ""),
    "softmax_crossentropy": ("N", _LABELS, "dz z"),
    "softmax_crossentropy_soft": ("N", _DENSE_TARGETS, "dz z"),
    "categorical_crossentropy": ("N", _LABELS, "dz z"),
    **{loss: _POINTWISE for loss in PAIRS},
    "categorical_hinge": ("N", _DENSE_TARGETS, "dz z"),
    "cosine_similarity": ("N", _DENSE_TARGETS, "dz z"),
    "sparsemax_loss": ("N", _DENSE_TARGETS, "dz z"),
    "one_hot": ("N", "out[N,C] labels:int32[N] on=float off=float", ""),
    "affine": ("N", "y[N,F] x[N,F] scale=float shift=float", ""),
    "add": ("elements", "y[N,F] x[N,F] other[N,F]", "y x"),
    "penalty": ("own", "w[P] l1=float l2=float guard=int", ""),
    "penalty_gradient": ("P", "g[P] w[P] l1=float l2=float", "g"),
    "activity_penalty": ("N", "values[N] y[N,F] l1=float l2=float", ""),
    "activity_penalty_gradient": (
        "elements",
        "dx[N,F] dy[N,F] y[N,F] l1=float l2=float",
        "dx dy",
    ),
    "categorical_accuracy": ("N", "hits[N] z[N,C] labels:int32[N]", ""),
    "categorical_accuracy_soft": ("N", "hits[N] z[N,C] targets[N,C]", ""),
    "binary_accuracy": ("N", "hits[N] z[N,C] targets[N,C] threshold=float", ""),
    "top_k_accuracy": ("N", "hits[N] z[N,C] targets[N,C] k=int", ""),
    "count_positives": ("first", _SUMS + " threshold=float largest=int", ""),
    "count_confusion": ("first", _SUMS + " threshold=float", ""),
    "count_buckets": ("first", _SUMS + " buckets=int", ""),
    "count_close": ("first", _SUMS, ""),
    "sum_squares": ("first", _SUMS, ""),
    "accumulate": ("first", "values[N] slot=int guard=int", ""),
    "guard": ("P", "g[P]", ""),
    "clip_value": ("P", "g[P] limit=float", ""),
    "sum_of_squares": ("own", "sums:float64[B] g[P]", ""),
    "clip_norm": ("P", "g[P] sums:float64[B] limit=float", ""),
    "number_of_step": ("own", "numbers:float64[R] slot=int", ""),
    "weight_decay": ("P", "w[P] decay=float multiplier=float", ""),
    "sgd": ("P", "w[P] g[P] velocity[P]? momentum=float nesterov=int multiplier=float", "g"),
    "adam": (
        "P",
        "w[P] g[P] m[P] v[P] beta_1=float beta_2=float epsilon=float multiplier=float",
        "g",
    ),
    **{name: ("own", updates.rates_operands(name), "") for name in updates.RATES},
    **{name: _update(name) for name in updates.UPDATES},
    "weight_average": ("P", "average[P] w[P] momentum=float", ""),
    "constrain_sign": ("P", "w[P]", ""),
    "constrain_norm": ("own", "w[A,B,C] least=float most=float rate=float epsilon=float", ""),
}

NAMES = tuple(_TABLE)

FUNCTIONS = ("product",)
"""Compiled functions that ops call: the matrix product is compiled once for all its users."""

FINISH_SUFFIX = "_finish"
"""What the compiled form of an op that finishes a product's rows has after the op's name."""

SUPPLY = "gather_supply"
"""The compiled form of `gather` that supplies a product with rows."""


def _line(name: str) -> Line:
    """An op's line: of the table, or of a formula of the user's own (see `own`)."""
    if name in _TABLE:
        return _TABLE[name]
    if name in pointwise.WITH_OWN:
        return _POINTWISE
    if name in updates.WITH_OWN:
        return _update(name)
    formula, _, way = name.rpartition("_")
    if formula in COLUMNS:
        return COLUMNS[formula].line(way)
    if formula in activations.WITH_OWN:
        return _FORWARD if way == "forward" else _backward(activations.WITH_OWN[formula])
    raise KeyError(name)


@cache
def signature(name: str) -> Signature:
    """The signature of the op called `name`."""
    return _parse(name, *_line(name))


FINISHES = tuple(name + FINISH_SUFFIX for name in NAMES if signature(name).result)
"""The compiled forms of ops that finish a product's rows."""
