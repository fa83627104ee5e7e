"""What Numba is told of the formulas, so that compiled code can call them: imported to compile.

The formulas' own files know nothing of Numba, see `formula`.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from fastnn.kernels import bits, formula

# CPU: a product may be fused with the sum it goes into, which no formula here needs; nothing else
# is relaxed. `forceinline`, because a loop with a call left in it does not vectorise, and the
# longer ones are past LLVM's threshold. CUDA fuses by default, and there any `fastmath`, even this
# one, would mean approximate division.
_OPTIONS = {
    "cpu": {"error_model": "numpy", "fastmath": {"contract"}, "forceinline": True},
    "cuda": {},
}


def _let_compiled_code_call(function, bodies):
    """`register_jitable`, with options by target and the body of the first argument's type."""
    by_type = dict(zip((types.float32, types.float64), bodies, strict=False))

    def choose(*arguments):
        return bodies[0] if len(bodies) == 1 else by_type.get(arguments[0])

    for target, options in _OPTIONS.items():
        if target == "cpu" and function in formula.rounded_formulas:
            options = {**options, "fastmath": False}
        overload(function, jit_options=options, strict=False, target=target)(choose)


formula.for_each(_let_compiled_code_call)


@overload(formula.like, inline="always")
def _like(x, value):
    real = np.float32 if x == types.float32 else np.float64
    return lambda x, value: real(value)


@overload(formula.smallest_normal, inline="always")
def _smallest_normal(x):
    smallest = np.float32(2.0**-126) if x == types.float32 else np.float64(2.0**-1022)
    return lambda x: smallest


@intrinsic
def _fma(typingctx, a, b, c):
    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, a, a), codegen


@overload(formula.fma, inline="always")
def _fma_of_formulas(a, b, c):
    return lambda a, b, c: _fma(a, b, c)


# Bit casts: nothing is converted and no instruction is spent. Other types are refused.

_SAME_SIZE = {
    types.float32: types.int32,
    types.int32: types.float32,
    types.float64: types.int64,
    types.int64: types.float64,
}


@intrinsic
def _bitcast(typingctx, value):
    result = _SAME_SIZE[value]

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return result(value), codegen


def _compile_as_bitcast(function, argument_type):
    @overload(function, jit_options={"forceinline": True})
    def implementation(value):
        return (lambda value: _bitcast(value)) if value == argument_type else None


_compile_as_bitcast(bits.float32_from_bits, types.int32)
_compile_as_bitcast(bits.bits_from_float32, types.float32)
_compile_as_bitcast(bits.float64_from_bits, types.int64)
_compile_as_bitcast(bits.bits_from_float64, types.float64)
_compile_as_bitcast(bits.bits_of, types.float32)
_compile_as_bitcast(bits.bits_of, types.float64)
_compile_as_bitcast(bits.from_bits, types.int32)
_compile_as_bitcast(bits.from_bits, types.int64)
