"""Adam's inner loop as vectors.

    m = β₁m + (1−β₁)g,  v = β₂v + (1−β₂)g²,  w −= rate · m / (√v · correction + ε)

with rate = η/(1−β₁ᵗ) and correction = 1/√(1−β₂ᵗ): Kingma & Ba 2014 (arXiv 1412.6980), algorithm 1.
ε is added after the bias correction, outside the root, as in PyTorch. The weights 1 − β come from
outside, for in float32 1 − 0.999 is off by 5e-5. A mean that is smaller than any normal number
becomes 0: under a unit that no longer learns, m shrinks to such numbers and would stay there, and
processors take many times longer over them (measured on Zen 4: Adam twice).

Left to LLVM, the loop spends its time in the one unit that divides and takes roots (Sapphire
Rapids: 21 of 21 cycles for 16 elements in the L2 cache). Where a processor estimates reciprocals
to 14 bits, steps of Newton's method make what is needed of the estimate, within a few ulp: small
beside the rounding of w itself (17 cycles). Then every word counts that is said beside the formula:
two vectors in a turn, and the shortest tests for what is subnormal or not finite, make 14 of them.
"""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu.memory import INT32, INT64
from fastnn.kernels.cpu.microkernel import Vectors
from fastnn.kernels.cpu.settings import VECTOR_BYTES

_SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}
_EXPONENT_BITS = {"float32": 0xFF << 23, "float64": 0x7FF << 52}

_NAN_OR_INFINITE = 0x99
"""What to look for, in the words of AVX-512's test of a number's class."""

AT_ONCE = 2
"""Vectors of one turn of the loop."""


class _Lanes:
    """What Adam needs of a vector besides sums and products: short where AVX-512 has a word."""

    def __init__(self, vector: Vectors, type_name: str) -> None:
        self.vector, self.builder = vector, vector.builder
        self.tiny = vector.constant(_SMALLEST_NORMAL[type_name])
        self.integers = ir.VectorType(ir.IntType(8 * vector.size), vector.lanes)
        self.exponent = ir.Constant(self.integers, [_EXPONENT_BITS[type_name]] * vector.lanes)
        self.bits = ir.IntType(vector.lanes)
        self.estimates = VECTOR_BYTES == 64
        self.suffix = "ps" if vector.size == 4 else "pd"

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a · b + c, rounded once."""
        return self.builder.call(self.vector.fma, [a, b, c])

    def at_least_tiny(self, x: Any) -> Any:
        """max(x, the smallest normal number)."""
        return self.builder.select(self.builder.fcmp_ordered("<", x, self.tiny), self.tiny, x)

    def flushed(self, x: Any) -> Any:
        """x, or 0 where it is subnormal."""
        builder = self.builder
        exponent = builder.and_(builder.bitcast(x, self.integers), self.exponent)
        small = builder.icmp_unsigned("==", exponent, ir.Constant(self.integers, None))
        return builder.select(small, self.vector.zero, x)

    def estimate(self, name: str, x: Any) -> Any:
        """1/x or 1/√x to 14 bits."""
        vector, name = self.vector, f"llvm.x86.avx512.{name}.{self.suffix}.512"
        function = vector.intrinsic(name, vector.type, [vector.type, vector.type, self.bits])
        return self.builder.call(function, [x, vector.zero, ir.Constant(self.bits, -1)])

    def sqrt(self, x: Any) -> Any:
        """√x; in float32, where it takes no longer than what is done beside it, correctly rounded.

        Else by y' = y + y (1/2 − x/2 · y²) for 1/√x, twice, and what x y then lacks.
        """
        vector, builder, fma = self.vector, self.builder, self.fma
        if not self.estimates or vector.size == 4:
            return builder.call(vector.intrinsic_of_type("llvm.sqrt", 1), [x])
        half = vector.constant(0.5)
        y = self.estimate("rsqrt14", self.at_least_tiny(x))  # of 0, ∞, and 0 · ∞ is NaN
        for _ in range(2):
            error = fma(builder.fneg(builder.fmul(builder.fmul(x, half), y)), y, half)
            y = fma(y, error, y)
        root = builder.fmul(x, y)
        return fma(fma(builder.fneg(root), root, x), builder.fmul(y, half), root)

    def divide(self, x: Any, by: Any) -> Any:
        """x / by, for normal numbers `by`: by q' = q + q (1 − by · q) for 1/by."""
        vector, builder, fma = self.vector, self.builder, self.fma
        if not self.estimates:
            return builder.fdiv(x, by)
        q, less = self.estimate("rcp14", by), builder.fneg(by)
        for _ in range(1 if vector.size == 4 else 2):
            q = fma(q, fma(less, q, vector.constant(1.0)), q)
        return builder.fmul(x, q)

    def not_finite(self, w: Any, v: Any) -> Any:
        """In which lanes the new w, or v, is not finite."""
        vector, builder = self.vector, self.builder
        if self.estimates:  # of an infinite v, Newton's method makes 0 · ∞, and w a NaN
            lanes = ir.VectorType(ir.IntType(1), vector.lanes)
            name = f"llvm.x86.avx512.fpclass.{self.suffix}.512"
            function = vector.intrinsic(name, lanes, [vector.type, INT32])
            return builder.call(function, [w, ir.Constant(INT32, _NAN_OR_INFINITE)])
        # 0 times what is not finite is NaN. The square of a gradient may overflow where w then
        # would stand still for ever.
        nothing = self.fma(v, vector.zero, builder.fmul(w, vector.zero))
        return builder.fcmp_unordered("!=", nothing, vector.zero)

    def none(self, conditions: list[Any]) -> Any:
        """Whether none of some conditions holds in any lane."""
        builder = self.builder
        words = [builder.bitcast(condition, self.bits) for condition in conditions]
        return builder.icmp_unsigned("==", reduce(builder.or_, words), ir.Constant(self.bits, 0))


@cache
def adam_row(type_name: str) -> Any:
    """The function that updates `count` elements; how many turns met a value not finite.

    ``adam_row(w, g, m, v, count, beta_1, weight_1, beta_2, weight_2, rate, correction, epsilon)``:
    addresses, and scalars of the element type. An element whose new value or second moment is
    not finite stays what it was.
    """
    item = getattr(types, type_name)

    @intrinsic
    def update(typing_context, w, g, m, v, count, beta_1, weight_1, beta_2, weight_2, rate,
               correction, epsilon):  # fmt: skip
        def codegen(context, builder, signature, arguments):
            *addresses, count = arguments[:5]
            plain = Vectors(builder, type_name, 1)
            scalars = [plain.broadcast(scalar, plain.type) for scalar in arguments[5:]]
            scalars[-1] = _Lanes(plain, type_name).at_least_tiny(scalars[-1])
            bad = cgutils.alloca_once_value(builder, ir.Constant(INT64, 0))
            done = ir.Constant(INT64, 0)
            for vectors in (AT_ONCE, 1):
                step = ir.Constant(INT64, vectors * plain.lanes)
                end = builder.sub(count, builder.urem(builder.sub(count, done), step))
                with cgutils.for_range_slice(builder, done, end, step) as (i, _):
                    _update(plain, type_name, addresses, i, vectors, scalars, bad)
                done = end
            left = builder.sub(count, done)
            with builder.if_then(builder.icmp_signed("!=", left, ir.Constant(INT64, 0))):
                masked = Vectors(builder, type_name, 1, left)
                _update(masked, type_name, addresses, done, 1, scalars, bad)
            return builder.load(bad)

        return types.int64(*[types.intp] * 5, *[item] * 7), codegen

    return update


def _update(
    vector: Vectors,
    type_name: str,
    addresses: list[Any],
    first: Any,
    vectors: int,
    scalars: list[Any],
    bad: Any,
) -> None:
    """Update some vectors of elements, from number `first` on; count in `bad` if one was bad."""
    builder, lanes = vector.builder, _Lanes(vector, type_name)
    fma = lanes.fma
    beta_1, weight_1, beta_2, weight_2, rate, correction, epsilon = scalars
    conditions, results = [], []
    for number in range(vectors):
        index = builder.add(first, ir.Constant(INT64, number * vector.lanes))
        offset = builder.mul(index, ir.Constant(INT64, vector.size))
        at_w, at_g, at_m, at_v = (builder.add(address, offset) for address in addresses)
        w, g, m, v = (vector.load_row(address)[0] for address in (at_w, at_g, at_m, at_v))

        new_m = lanes.flushed(fma(beta_1, m, builder.fmul(weight_1, g)))
        new_v = lanes.flushed(fma(beta_2, v, builder.fmul(weight_2, builder.fmul(g, g))))
        divisor = fma(lanes.sqrt(new_v), correction, epsilon)
        new_w = fma(builder.fneg(rate), lanes.divide(new_m, divisor), w)

        stays = lanes.not_finite(new_w, new_v)
        conditions.append(stays)
        for new, old, at in ((new_w, w, at_w), (new_m, m, at_m), (new_v, v, at_v)):
            results.append((stays, new, old, at))
    with builder.if_else(lanes.none(conditions), likely=True) as (then, otherwise):
        with then:
            for _, new, _, at in results:
                vector.store_row([new], at)
        with otherwise:
            for stays, new, old, at in results:
                vector.store_row([builder.select(stays, old, new)], at)
            builder.store(builder.add(builder.load(bad), ir.Constant(INT64, 1)), bad)
