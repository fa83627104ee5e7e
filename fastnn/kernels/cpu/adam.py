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
beside the rounding of w itself (17 cycles).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu.memory import INT64
from fastnn.kernels.cpu.microkernel import Vectors
from fastnn.kernels.cpu.settings import VECTOR_BYTES

_SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}


class _Lanes:
    """What Adam needs of a vector besides sums and products: short where AVX-512 has a word."""

    def __init__(self, vector: Vectors, type_name: str) -> None:
        self.vector, self.builder = vector, vector.builder
        self.tiny = vector.constant(_SMALLEST_NORMAL[type_name])
        self.estimates = VECTOR_BYTES == 64

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a · b + c, rounded once."""
        return self.builder.call(self.vector.fma, [a, b, c])

    def at_least_tiny(self, x: Any) -> Any:
        """max(x, the smallest normal number)."""
        return self.builder.select(self.builder.fcmp_ordered("<", x, self.tiny), self.tiny, x)

    def flushed(self, x: Any) -> Any:
        """x, or 0 where it is subnormal."""
        size = self.builder.call(self.vector.intrinsic_of_type("llvm.fabs", 1), [x])
        return self.builder.select(
            self.builder.fcmp_ordered("<", size, self.tiny), self.vector.zero, x
        )

    def estimate(self, name: str, x: Any) -> Any:
        """1/x or 1/√x to 14 bits."""
        vector = self.vector
        mask, bits = ir.IntType(vector.lanes), ("ps" if vector.size == 4 else "pd")
        function = vector.intrinsic(
            f"llvm.x86.avx512.{name}.{bits}.512", vector.type, [vector.type, vector.type, mask]
        )
        return self.builder.call(function, [x, vector.zero, ir.Constant(mask, -1)])

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

    def all_true(self, condition: Any) -> Any:
        """Whether a condition holds in all lanes."""
        bits = ir.IntType(self.vector.lanes)
        true = ir.Constant(bits, -1)
        return self.builder.icmp_signed("==", self.builder.bitcast(condition, bits), true)


@cache
def adam_row(type_name: str) -> Any:
    """The function that updates `count` elements; how many vectors had a value not finite.

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
            lanes = ir.Constant(INT64, plain.lanes)
            left = builder.urem(count, lanes)
            full = builder.sub(count, left)
            with cgutils.for_range_slice(builder, ir.Constant(INT64, 0), full, lanes) as (i, _):
                _vector(plain, type_name, addresses, i, scalars, bad)
            with builder.if_then(builder.icmp_signed("!=", left, ir.Constant(INT64, 0))):
                masked = Vectors(builder, type_name, 1, left)
                _vector(masked, type_name, addresses, full, scalars, bad)
            return builder.load(bad)

        return types.int64(*[types.intp] * 5, *[item] * 7), codegen

    return update


def _vector(
    vector: Vectors, type_name: str, addresses: list[Any], index: Any, scalars: list[Any], bad: Any
) -> None:
    """Update one vector of elements, from number `index` on."""
    builder, lanes = vector.builder, _Lanes(vector, type_name)
    fma = lanes.fma
    beta_1, weight_1, beta_2, weight_2, rate, correction, epsilon = scalars
    offset = builder.mul(index, ir.Constant(INT64, vector.size))
    at_w, at_g, at_m, at_v = (builder.add(address, offset) for address in addresses)
    w, g, m, v = (vector.load_row(address)[0] for address in (at_w, at_g, at_m, at_v))

    new_m = lanes.flushed(fma(beta_1, m, builder.fmul(weight_1, g)))
    new_v = lanes.flushed(fma(beta_2, v, builder.fmul(weight_2, builder.fmul(g, g))))
    divisor = fma(lanes.sqrt(new_v), correction, epsilon)
    new_w = fma(builder.fneg(rate), lanes.divide(new_m, divisor), w)

    # 0 times what is not finite is NaN. The square of a gradient may overflow where w then would
    # stand still for ever.
    nothing = fma(new_v, vector.zero, builder.fmul(new_w, vector.zero))
    finite = builder.fcmp_ordered("==", nothing, vector.zero)
    with builder.if_else(lanes.all_true(finite), likely=True) as (then, otherwise):
        with then:
            for new, at in ((new_w, at_w), (new_m, at_m), (new_v, at_v)):
                vector.store_row([new], at)
        with otherwise:
            for new, old, at in ((new_w, w, at_w), (new_m, m, at_m), (new_v, v, at_v)):
                vector.store_row([builder.select(finite, new, old)], at)
            builder.store(builder.add(builder.load(bad), ir.Constant(INT64, 1)), bad)
