"""A user's function as a formula: the same numbers in both types, a name that says all, refusals
with the line, and derivatives by exact rules.
"""

from __future__ import annotations

import linecache
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

import fastnn
from fastnn.kernels import own
from fastnn.kernels.activations import WITH_OWN
from fastnn.kernels.derivation import _PARTIALS, derive
from fastnn.kernels.vocabulary import MEANINGS, OF_C
from helpers import assert_close, central_difference

POINTS = (-2.5, -0.75, 0.3, 0.5, 1.0, 2.0)
SCALE = 3


def as_python(text: str) -> Callable[..., Any]:
    """The formula of a text, run as Python."""
    return own._function(text, lambda function: function)


# What may be written.


def twice(v, factor=2):  # type: ignore[no-untyped-def]
    return factor * v


def halves(v):  # type: ignore[no-untyped-def]
    if v > 0:
        return v / 2, twice(v)
    return -v, 0.25


def polynomial(x):  # type: ignore[no-untyped-def]
    """Numbers of all kinds; the value of one is known beforehand."""
    y = x**3 - 2 * x**2 + (1 - 0.999) * x
    y += math.sqrt(2 / math.pi) * SCALE
    return y * x**-2 / (1 + x * x)


def branches(x):  # type: ignore[no-untyped-def]
    inside = -1 < x < 1.5 and not x == 0.5
    if inside:
        y: float = math.exp(-x)
    elif x > 1.75:
        return 7
    else:
        y = 1.0 if x < 0 else np.where(x > 0.4, x, 2.0)
    return y


def below(v, limit):  # type: ignore[no-untyped-def]
    return v < limit


def grown(v, by):  # type: ignore[no-untyped-def]
    if v > 0.4:
        by = by * v
    return v * by


def helpers(x):  # type: ignore[no-untyped-def]
    a, b = halves(x)
    c, d = b, a
    small = below(x, 0.7)
    return c * twice(d, 3) - twice(x) if small and below(-1, x) else grown(x, 3)


def limits(x):  # type: ignore[no-untyped-def]
    return max(x, 0) + min(0.5, x, 2 * x) * np.clip(x, -1, 1) + np.sign(x) + np.maximum(x, x * x)


def library(x):  # type: ignore[no-untyped-def]
    a = abs(x) + 0.1
    y = math.expm1(x) + np.log(a) + math.log1p(a) + np.tanh(x) + fastnn.math.sigmoid(x)
    y += math.sin(x) + np.cos(x) + math.tan(x) + np.sinh(x) + math.cosh(x) + math.asinh(x)
    y += np.arctan(x) + math.asin(x / 3) + math.acos(x / 3) + math.atanh(x / 3) + np.arccosh(1 + a)
    y += math.erf(x) - math.erfc(a) + a**0.5 + a**1.7 + 2.0**x + math.log2(a) + np.log10(a)
    y += math.atan2(x, a) + np.hypot(x, 2.0) + math.copysign(a, x) + math.pow(a, 3)
    return y + np.floor(x) * math.ceil(x) + math.fabs(x) + float(x) * np.float64(2)


def closure() -> Callable[..., Any]:
    offset = 0.125

    def shifted(x):  # type: ignore[no-untyped-def]
        return x + offset

    return shifted


FUNCTIONS = [polynomial, branches, helpers, limits, library, closure()]
of_every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


@of_every_function
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_formula_is_the_function_in_its_type(function: Callable[..., Any], dtype: str) -> None:
    formula, real = as_python(own.text_of(function, "")), np.dtype(dtype).type
    results = [formula(real(x)) for x in POINTS]
    assert {type(result) for result in results} == {real}
    expected = [function(float(real(x))) for x in POINTS]
    assert_close(np.array(results), np.array(expected), scale=10.0)  # sums of up to 27 functions


@of_every_function
def test_derivative_is_the_central_difference(function: Callable[..., Any]) -> None:
    derivative = derive(own.text_of(function, ""), [0])
    assert derivative is not None
    slope = as_python(derivative)
    for x in (p + 0.011 for p in POINTS):  # beside corners
        difference = central_difference(lambda v: float(function(float(v))), x)
        np.testing.assert_allclose(slope(np.float64(x)), difference, rtol=1e-6, atol=1e-7)
        assert type(slope(np.float32(x))) is np.float32


def test_derivatives_by_each_argument() -> None:
    def wave(x, a, b):  # type: ignore[no-untyped-def]
        if a > 0:
            rest = b
        else:
            rest = b * x
        return a * math.sin(x * b) + rest**a

    text = derive(own.text_of(wave, ""), [0, 1, 2])
    assert text is not None
    at = np.array([0.7, 1.3, 0.4])
    slopes = np.array(as_python(text)(*at))
    np.testing.assert_allclose(slopes, central_difference(lambda v: wave(*v), at), rtol=1e-6)


def test_every_word_has_its_derivative() -> None:
    known = {word.name for word in MEANINGS.values()} - {"maximum", "minimum", "clamp"}
    assert known == set(_PARTIALS)
    assert set(_PARTIALS) > OF_C


def test_a_slope_that_is_not_taken_is_not_looked_at() -> None:
    def guarded(x):  # type: ignore[no-untyped-def]
        return np.where(x > 0, math.log(x), 0) + 3 * math.exp(800)

    with pytest.raises(ValueError, match=r"line \d+ of .*: math range error"):
        own.text_of(guarded, "f")

    def logarithm(x):  # type: ignore[no-untyped-def]
        return np.where(x > 0, math.log(x), 0)

    slope = as_python(str(derive(own.text_of(logarithm, ""), [0])))
    with np.errstate(all="ignore"):
        assert [slope(np.float64(x)) for x in (-1.0, 0.0, 4.0)] == [0.0, 0.0, 0.25]


def test_what_does_not_depend_on_the_argument_has_no_derivative() -> None:
    def steps(x):  # type: ignore[no-untyped-def]
        return np.sign(x) + math.floor(x) if x > 0 else -1

    assert derive(own.text_of(steps, ""), [0]) is None


@pytest.mark.parametrize("choose", [max, min, np.maximum, np.minimum], ids=lambda f: f.__name__)
def test_limits_keep_nan(choose: Any) -> None:
    def first(x, y):  # type: ignore[no-untyped-def]
        return choose(x, y)

    def constant(x):  # type: ignore[no-untyped-def]
        return choose(0, x)

    nan = np.float64(np.nan)
    formula = as_python(own.text_of(first, ""))
    assert np.isnan([formula(nan, np.float64(1)), formula(np.float64(1), nan)]).all()
    assert np.isnan(as_python(own.text_of(constant, ""))(nan))


def test_numbers_that_are_known_are_rounded_once() -> None:
    def factor(x):  # type: ignore[no-untyped-def]
        return (1 - 0.999) * math.erf(0.5) / 3 * x

    assert as_python(own.text_of(factor, ""))(np.float32(1)) == np.float32(
        (1 - 0.999) * special.erf(0.5) / 3
    )


# Names.


def named(code: str, folder: Path, **values: Any) -> str:
    """The name of the op of ``f`` in a module of this text, in which `values` are globals."""
    path = folder / f"module{len(list(folder.iterdir()))}.py"
    path.write_text(code)
    module = types.ModuleType("module")
    vars(module).update(values)
    exec(compile(code, str(path), "exec"), vars(module))
    text = own.text_of(module.f, "f")
    return own.Own("activation", "f", text, None, {"of": "x", "parameter": None}).op


CODE = """
import math
def helper(x): return x * K
def f(x):
    return helper(x) + math.exp(x)
"""


def test_the_name_changes_with_all_that_a_function_uses(tmp_path: Path) -> None:
    name = named(CODE, tmp_path, K=2)
    assert named(CODE.replace("    return", "    # a remark\n    return"), tmp_path, K=2) == name
    changed = {
        named(CODE, tmp_path, K=2.5),
        named(CODE.replace("x * K", "x / K"), tmp_path, K=2),
        named(CODE.replace("+ math", "- math"), tmp_path, K=2),
        named(CODE.replace("math.exp", "math.expm1"), tmp_path, K=2),
        own.Own("activation", "f", "", None, {}).op,
        own.Own("activation", "f", "", "", {}).op,
        own.Own("activation", "f", "", "", {"of": "y"}).op,
        own.Own("loss", "f", "", None, {}).op,
        own.Own("activation", "g", "", None, {}).op,
    }
    assert len(changed) == 9
    assert name not in changed


def test_what_a_function_uses_is_kept_as_it_was() -> None:
    values = {"k": 2.0}
    before = as_python(own.text_of(scaled_by(values), ""))
    values["k"] = 3.0
    assert before(np.float64(1)) == 2.0


def scaled_by(values: dict[str, float]) -> Callable[..., Any]:
    k = values["k"]

    def scaled(x):  # type: ignore[no-untyped-def]
        return k * x

    return scaled


# Sources.


def test_a_cell_of_a_notebook_is_a_source() -> None:
    code, file = "def f(x):\n    return 2 * x\n", "<ipython-input-1-0123456789ab>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    names: dict[str, Any] = {}
    exec(compile(code, file, "exec"), names)
    assert as_python(own.text_of(names["f"], ""))(np.float64(4)) == 8


def test_without_a_source_it_is_refused() -> None:
    names: dict[str, Any] = {}
    exec("def f(x):\n    return 2 * x\n", names)
    with pytest.raises(ValueError, match="activation f: f: its source cannot be read; define it"):
        fastnn.activation(names["f"])


def test_an_edited_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("def f(x):\n    return 2 * x\n")
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    for edit in ("def f(x):\n    return 3 * x\n", "\ndef f(x):\n    return 2 * x\n", "f = 1\n"):
        path.write_text(edit)
        linecache.clearcache()
        with pytest.raises(ValueError, match="its source was changed since it was read"):
            own.text_of(names["f"], "f")


def test_lambdas_serve_where_no_name_is_needed() -> None:
    f = fastnn.activation(derivative=lambda y: y * (1 - y), of="y")(logistic)
    assert f.own.settings["of"] == "y"
    a, b = (lambda x: x), (lambda x: -x)
    for function in (a, b):
        with pytest.raises(ValueError, match="several lambdas begin in its line"):
            own.text_of(function, "f")
    with pytest.raises(ValueError, match="activation: a lambda has no name to be loaded by"):
        fastnn.activation(lambda x: x)


def logistic(x):  # type: ignore[no-untyped-def]
    return 1 / (1 + math.exp(-x))


# Refusals.


def loop(x):  # type: ignore[no-untyped-def]
    for _ in range(3):  # here
        x = x * x
    return x


def another_type(x):  # type: ignore[no-untyped-def]
    if x > 0:
        return x
    return x > 1  # here


def half_way(x):  # type: ignore[no-untyped-def]
    if x > 0:  # here
        return x


def unset(x):  # type: ignore[no-untyped-def]
    if x > 0:
        y = x
    return y  # here


def changing(x):  # type: ignore[no-untyped-def]
    y = x
    y = x > 0  # here
    return x if y else -x


def no_condition(x):  # type: ignore[no-untyped-def]
    return 1 if x else 0  # here


def unknown(x):  # type: ignore[no-untyped-def]
    return np.cumsum(x)  # here


def undefined(x):  # type: ignore[no-untyped-def]
    return nowhere * x  # type: ignore[name-defined] # noqa: F821 # here


def text(x):  # type: ignore[no-untyped-def]
    return x + "1"  # here


def array(x):  # type: ignore[no-untyped-def]
    return x[0]  # here


def named_argument(x):  # type: ignore[no-untyped-def]
    return np.clip(x, a_min=0, a_max=1)  # here


def modulo(x):  # type: ignore[no-untyped-def]
    return x % 2  # here


def too_many(x):  # type: ignore[no-untyped-def]
    return math.exp(x, x)  # type: ignore[call-arg] # here


def unused(x):  # type: ignore[no-untyped-def]
    print(x)  # here
    return x


def unreached(x):  # type: ignore[no-untyped-def]
    return x
    x = 1  # here


def tuple_of_two(x):  # type: ignore[no-untyped-def]
    y = halves(x)  # here
    return y


def nothing(x):  # type: ignore[no-untyped-def]
    return  # here


def attribute(x):  # type: ignore[no-untyped-def]
    return x * fastnn.Dense.name  # type: ignore[operator] # here


REFUSED = {
    loop: "a formula may have assignments, if and return, not for",
    another_type: "returns a truth value, and elsewhere a number",
    half_way: "may end without a return",
    unset: "y may have no value here",
    changing: "y is a truth value, and before a number",
    no_condition: "a condition must be a comparison, got a number",
    unknown: "a formula cannot call np.cumsum",
    undefined: "nowhere is not defined yet",
    text: "'1' is no number",
    array: r"a formula cannot have x\[0\]",
    named_argument: "arguments must be given in order, without names",
    modulo: r"of operators there are \+ - \* / and \*\*, not x % 2",
    too_many: "math.exp takes 1 arguments",
    unused: "an expression whose value is not used",
    unreached: "is never reached",
    tuple_of_two: "a tuple must be taken apart",
    nothing: "returns nothing",
    attribute: "fastnn.Dense is no module",
}


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_a_refusal_has_the_function_and_the_line(function: Any) -> None:
    before = set(WITH_OWN)
    begin = function.__code__.co_firstlineno
    lines = linecache.getlines(__file__)[begin - 1 :]
    line = begin + next(i for i, text in enumerate(lines) if "# here" in text)
    words = rf"^activation {function.__name__}: {function.__name__}, line {line} of .*"
    with pytest.raises(ValueError, match=f"{words}: {REFUSED[function]}"):
        fastnn.activation(function)
    assert set(WITH_OWN) == before


def pair(x):  # type: ignore[no-untyped-def]
    return x, x


def calls_itself(x):  # type: ignore[no-untyped-def]
    return calls_itself(x) if x > 0 else x


def any_number(*x):  # type: ignore[no-untyped-def]
    return 1.0


def no_argument():  # type: ignore[no-untyped-def]
    return 1.0


def logarithm_of_less(x):  # type: ignore[no-untyped-def]
    return math.log(-math.exp(x))


counter = [0]


def tricked(x):  # type: ignore[no-untyped-def]
    return x * SCALE


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (pair, ValueError, "pair must return a number, returns a tuple of 2"),
        (calls_itself, ValueError, "calls_itself calls itself"),
        (any_number, ValueError, "must have plain arguments"),
        (no_argument, ValueError, "must take at least 1 arguments, got 0"),
        (logarithm_of_less, ValueError, "gives no finite number for any of"),
        (math.exp, TypeError, "activation must be a function, got <built-in function exp>"),
        (3, TypeError, "activation must be a function, got 3"),
    ],
)
def test_other_refusals(function: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fastnn.activation(function)


def test_a_function_that_is_not_what_it_was_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    translate = own.Translation.add

    def wrong(self: Any, name: str, function: Any, names: Any = None) -> Any:
        kind = translate(self, name, function, names)
        self._texts[-1] = self._texts[-1].replace("3.0", "4.0")
        return kind

    monkeypatch.setattr(own.Translation, "add", wrong)
    with pytest.raises(ValueError, match=r"tricked of \[0.25\] is 0.75, its formula 1.0"):
        own.text_of(tricked, "f")


def test_a_star_leaves_pythons_math_alone() -> None:
    assert "math" not in fastnn.__all__
    assert fastnn.math.sigmoid(0.0) == 0.5
