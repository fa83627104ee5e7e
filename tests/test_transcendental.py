"""exp, log, log1p, expm1, tanh, sigmoid: errors in ulp, special values, and the compiled code."""

import functools
import platform
import re

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from fastnn.kernels import bits as bit_casts
from fastnn.kernels import compiled as compiled_formulas  # noqa: F401  compiled code calls them
from fastnn.kernels import transcendental
from helpers import body_of, errors_in_ulp

# Largest errors in ulp of the exhaustive measurement (docstring of the module), rounded up so
# that they hold for float64 and without fused multiply-add too.
LARGEST_ERROR = {"exp": 1.0, "log": 0.9, "log1p": 1.0, "expm1": 1.15, "tanh": 1.1, "sigmoid": 1.25}
NAMES = tuple(LARGEST_ERROR)
DTYPES = ("float32", "float64")

every_function = pytest.mark.parametrize("name", NAMES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@functools.cache
def compiled_loop(name):
    """A loop over an array; without flags of its own, for the functions bring theirs."""
    function = getattr(transcendental, name)

    @njit
    def loop(out, x):
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


def compiled(name, x):
    out = np.empty_like(x)
    compiled_loop(name)(out, x)
    return out


def uncompiled(name, x):
    """The same through plain Python, scalar by scalar; checks that the type is kept."""
    function = getattr(transcendental, name)
    with np.errstate(all="ignore"):
        values = [function(value) for value in x]
    assert {type(value) for value in values} == {x.dtype.type}
    return np.array(values, dtype=x.dtype)


def exact(name, x):
    """The function in a wider type: float64 for float32, long double for float64."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    if np.finfo(wide).nmant < np.finfo(x.dtype).nmant + 10:
        pytest.skip("long double has no more digits than float64 on this machine")
    with np.errstate(all="ignore"):
        x = x.astype(wide)
        if name == "sigmoid":
            e = np.exp(-np.abs(x))
            return np.where(x < 0, e, 1) / (1 + e)
        return getattr(np, name)(x)


@functools.cache
def points(dtype):
    """Some 300,000 arguments: every exponent, every range that matters, what is difficult."""
    rng = np.random.default_rng(20261122)
    n = 45_000
    unsigned = np.uint32 if dtype == "float32" else np.uint64
    info = np.finfo(dtype)
    overflow = np.log(float(info.max))
    halfway = (np.arange(info.maxexp) + 0.5) * np.log(2)  # where the reduction of exp changes
    sqrt2 = np.sqrt(2.0) ** np.arange(-9, 10, 2)  # and that of log
    ends = [0.5493, 0.5494, overflow, np.log(info.tiny), 1.0]
    difficult = rng.choice(
        np.concatenate([halfway, halfway / 2, sqrt2, sqrt2 - 1] + 20 * [ends]), n
    )
    sign = rng.choice([-1, 1], n)
    return np.concatenate(
        [
            rng.integers(0, np.iinfo(unsigned).max, n, dtype=unsigned).view(dtype),
            (sign * 2.0 ** rng.uniform(-30, 5, n)).astype(dtype),
            rng.uniform(-1.2 * overflow, 1.05 * overflow, n).astype(dtype),
            rng.uniform(-2, 3, n).astype(dtype),
            (1 + sign * 2.0 ** -rng.uniform(1, info.nmant, n)).astype(dtype),
            (sign * difficult * (1 + 2.0 ** -rng.uniform(8, info.nmant, n))).astype(dtype),
            (sign * difficult * (1 - 2.0 ** -rng.uniform(8, info.nmant, n))).astype(dtype),
        ]
    )


@every_function
@every_dtype
def test_error_is_within_its_bound(name, dtype):
    x = points(dtype)
    errors = errors_in_ulp(compiled(name, x), exact(name, x))
    assert errors.max() <= LARGEST_ERROR[name]
    assert errors.max() > 0.5  # a correctly rounded result everywhere would mean a broken measure


@every_function
@every_dtype
def test_plain_python_has_the_same_bound(name, dtype):
    x = np.concatenate([points(dtype)[::500], points(dtype)[-800:]])
    assert errors_in_ulp(uncompiled(name, x), exact(name, x)).max() <= LARGEST_ERROR[name]


def special_values(dtype):
    """(name, argument, result), all exact in float32 and in float64."""
    inf, nan = np.inf, np.nan
    tiny, least = np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal
    values = {
        "exp": [(0.0, 1), (-0.0, 1), (-inf, 0), (inf, inf), (least, 1)],
        "log": [(1, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-least, nan), (-inf, nan)],
        "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1, -inf), (-1.5, nan), (-inf, nan), (inf, inf)],
        "expm1": [(0.0, 0.0), (-0.0, -0.0), (-inf, -1), (inf, inf), (-1000, -1)],
        "tanh": [(0.0, 0.0), (-0.0, -0.0), (inf, 1), (-inf, -1), (30, 1), (-30, -1)],
        "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (inf, 1), (-inf, 0), (40, 1), (least, 0.5)],
    }
    for name in ("log1p", "expm1", "tanh"):  # x + O(x^2) or x + O(x^3)
        values[name] += [(s * v, s * v) for s in (1, -1) for v in (least, 3 * least, tiny)]
    for name, pairs in values.items():
        pairs += [(nan, nan), (-nan, nan)]
        yield name, np.array([x for x, _ in pairs], dtype), np.array([y for _, y in pairs], dtype)


@pytest.mark.smoke
@every_dtype
@pytest.mark.parametrize("evaluate", [compiled, uncompiled])
def test_special_values(evaluate, dtype):
    for name, x, expected in special_values(dtype):
        result = evaluate(name, x)
        np.testing.assert_array_equal(result, expected, err_msg=f"{name}({x})")
        same_sign = np.signbit(result) == np.signbit(expected)
        assert (same_sign | np.isnan(expected)).all(), name


# The greatest argument whose exponential rounds to a finite number, and the least whose does not
# round to 0: log of (max + half an ulp), and of half the least subnormal.
EXP_FINITE = {"float32": 88.72283172607422, "float64": 709.782712893384}
EXP_POSITIVE = {"float32": -103.97207641601562, "float64": -745.1332191019411}


@every_dtype
@pytest.mark.parametrize("name", ["exp", "expm1"])
def test_overflow_only_where_the_rounded_result_is_infinite(name, dtype):
    last = np.array(EXP_FINITE[dtype], dtype)
    x = np.stack([last, np.nextafter(last, last.dtype.type(np.inf)), np.finfo(dtype).max])
    finite = np.isfinite(compiled(name, x))
    np.testing.assert_array_equal(finite, [True, False, False])


@every_dtype
@pytest.mark.parametrize("name", ["exp", "sigmoid"])
def test_underflow_is_gradual(name, dtype):
    info = np.finfo(dtype)
    last = np.array(EXP_POSITIVE[dtype], dtype)
    x = np.stack([last, np.nextafter(last, last.dtype.type(-np.inf)), -info.max])
    np.testing.assert_array_equal(compiled(name, x), [info.smallest_subnormal, 0, 0])
    # Arguments a factor of 2 apart, down through the subnormal numbers.
    steps = np.log(info.tiny) - np.log(2) * np.arange(info.nmant)
    np.testing.assert_allclose(
        compiled(name, steps.astype(dtype)) / info.smallest_subnormal,
        2.0 ** np.arange(info.nmant, 0, -1),
        rtol=1e-4 if dtype == "float32" else 1e-12,  # of the argument, rounded at 100 or 700
        atol=1,
    )


@every_function
@every_dtype
def test_result_does_not_depend_on_the_place_in_the_array(name, dtype):
    x = np.concatenate([points(dtype)[::700], special_values_of(name, dtype)])
    bits = np.uint32 if dtype == "float32" else np.uint64
    whole = compiled(name, x).view(bits)
    for start, stop in [(i, len(x) - 2 * i) for i in range(17)] + [(i, 2 * i) for i in range(40)]:
        np.testing.assert_array_equal(compiled(name, x[start:stop]).view(bits), whole[start:stop])
    one_by_one = [compiled(name, x[i : i + 1]) for i in range(len(x))]
    np.testing.assert_array_equal(np.concatenate(one_by_one).view(bits), whole)


@pytest.mark.parametrize("name", ["exp", "log1p", "sigmoid"])
def test_flags_of_the_caller_do_not_reach_inside(name):
    """The compensated sums would vanish under `reassoc`, which reductions over rows have."""
    x = points("float32")[::50]
    out = np.empty_like(x)
    loop = njit(fastmath=True)(compiled_loop(name).py_func)
    loop(out, x)
    np.testing.assert_array_equal(out.view(np.uint32), compiled(name, x).view(np.uint32))


def special_values_of(name, dtype):
    return next(x for special, x, _ in special_values(dtype) if special == name)


@every_function
@every_dtype
def test_compiled_loop_is_vectorised_and_calls_nothing(name, dtype):
    loop = compiled_loop(name)
    compiled(name, np.ones(3, dtype))
    signature = next(s for s in loop.signatures if s[0].dtype.name == dtype)
    symbol = loop.overloads[signature].fndesc.mangled_name

    llvm = body_of(loop.inspect_llvm(signature), symbol, "\n}")
    calls = [line for line in llvm.splitlines() if " call " in line and "@llvm." not in line]
    assert not calls
    real = {"float32": "float", "float64": "double"}[dtype]
    operations = rf"= (fmul|fadd|fsub) contract <\d+ x {real}>"
    assert len(re.findall(operations, llvm)) > 10
    flags = set(re.findall(r"\b(fast|reassoc|nnan|ninf|nsz|arcp|afn|contract)\b", llvm))
    assert flags == {"contract"}
    if dtype == "float32":  # nothing wider: half the elements in a vector
        assert not re.search(r"\bdouble\b|fpext|x i64>", llvm)

    assembly = body_of(loop.inspect_asm(signature), symbol, ".Lfunc_end")
    outside = [
        line for line in assembly.splitlines() if re.match(r"\s+(call|blr?|jmp\s+[^.*])\b", line)
    ]
    assert not outside
    if platform.machine() in ("x86_64", "AMD64"):
        packed = r"\s+v?(fn?m(add|sub)\d+|mul|add)p" + ("s" if dtype == "float32" else "d")
        assert len(re.findall(packed, assembly)) > 10


@every_function
def test_typed_names_are_the_function_of_that_type(name):
    function = getattr(transcendental, name)
    for dtype in DTYPES:
        x = np.array([0.3, 2.5], dtype)
        typed = getattr(transcendental, f"{name}{np.finfo(dtype).bits}")
        assert [typed(value) for value in x] == [function(value) for value in x]
    assert type(function(0.5)) is np.float64


def test_other_types_are_refused():
    for value in (1, np.int32(1), np.float16(1), np.ones(2)):
        with pytest.raises(TypeError, match=r"exp: x must be a float32 or a float64, got"):
            transcendental.exp(value)
    with pytest.raises(TypingError):
        compiled("exp", np.ones(2, np.int32))


@every_dtype
def test_bit_casts(dtype):
    from_bits = getattr(bit_casts, f"{dtype}_from_bits")
    to_bits = getattr(bit_casts, f"bits_from_{dtype}")
    compiled_from_bits = njit(lambda bits: from_bits(bits))
    compiled_to_bits = njit(lambda value: to_bits(value))
    integer = {"float32": np.int32, "float64": np.int64}[dtype]
    x = np.array([1.0, -1.0, -0.0, np.inf, np.nan, 1e-40], dtype)
    for value, bits in zip(x, x.view(integer), strict=True):
        assert to_bits(value) == compiled_to_bits(value) == bits
        for back in (from_bits(bits), compiled_from_bits(bits)):
            assert np.array(back, dtype).tobytes() == value.tobytes()
    with pytest.raises(TypingError):
        compiled_to_bits(1)
