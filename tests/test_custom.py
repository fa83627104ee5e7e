"""Activations, losses, optimizers and layers of the user's own, compiled: their ops against NumPy,
in the loop the same bits as by hand, options, files, and a cache that never lies about them.
"""

from __future__ import annotations

import copy
import doctest
import importlib
import math
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special
from test_object_files import test_object_file_needs_nothing_but_libm as needs_nothing_but_libm
from test_translation import helpers

import fastnn
import fusion_cases
from fastnn import schedules
from fastnn.engine import cache
from fastnn.kernels import state as s
from fastnn.kernels.activations import WITH_OWN
from fastnn.kernels.signatures import signature
from fusion_cases import Hidden, Net, Trial, small_kernels_fuse
from helpers import assert_close, assert_is_gradient
from kernel_cases import DTYPES, Draw, Example, assert_same_bits, check, run
from processes import PLACE

Array = NDArray[Any]

# Of every kind one or two; the first has the derivative that is found, the others one given.


@fastnn.activation
def swish(x, beta=1.0):  # type: ignore[no-untyped-def]
    """x·σ(βx)."""
    return x / (1 + math.exp(-beta * x))


@fastnn.activation
def logistic(x):  # type: ignore[no-untyped-def]
    return fastnn.math.sigmoid(x)


@logistic.derivative(of="y")  # type: ignore[no-redef]
def logistic(y):  # type: ignore[no-untyped-def]
    return y * (1 - y)


@fastnn.activation
def everything(x):  # type: ignore[no-untyped-def]
    """All that is the C library's, and what is instructions."""
    a = abs(x) + 0.1
    y = math.sin(x) + np.cos(x) + math.tan(x) + np.sinh(x) + math.cosh(x) + math.asinh(x)
    y += np.arctan(x) + math.asin(x / 9) + math.acos(x / 9) + math.atanh(x / 9) + np.arccosh(1 + a)
    y += math.erf(x) - math.erfc(a) + a**0.5 + a**1.7 + math.log2(a) + np.log10(a) + x**3 + a**-2
    y += math.atan2(x, a) + np.hypot(x, 2.0) + math.copysign(a, x) + np.floor(x) * math.ceil(x)
    return y + max(x, 0.5, a) - np.minimum(x, a) + np.sign(x) if x < 7 else np.clip(x, -1, 1)


@fastnn.loss
def quantile(z, y, q=0.5):  # type: ignore[no-untyped-def]
    return max(q * (y - z), (q - 1) * (y - z))


@fastnn.loss(mean=False, targets="classes")
def brier(z, y):  # type: ignore[no-untyped-def]
    return (z - y) ** 2


@fastnn.optimizer
def Heavy(w, g, m, step, learning_rate=0.01, beta=0.5):  # type: ignore[no-untyped-def]
    m = beta * m + g
    return w - learning_rate * m / step**0.5, m


@fastnn.optimizer
def OwnAdam(  # type: ignore[no-untyped-def]
    w, g, m, v, step, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7
):
    m = beta_1 * m + (1 - beta_1) * g
    v = beta_2 * v + (1 - beta_2) * g * g
    rate = learning_rate / (1 - beta_1**step)
    return w - rate * m / (math.sqrt(v / (1 - beta_2**step)) + epsilon), m, v


@fastnn.layer
def Wave(x, a=1.0, b=0.5):  # type: ignore[no-untyped-def]
    return a * x + b * math.sin(x)


CUSTOM = {"swish": swish, "quantile": quantile, "OwnAdam": OwnAdam, "Wave": Wave}


# The ops.


def of_activation(draw: Draw) -> Example:
    beta, x = 1.5, draw.normal("NF", 3.0)
    if draw.name.endswith("forward"):
        return draw.example(
            {"x": x},
            lambda o: {"y": o["x"] * special.expit(beta * o["x"].astype(np.float64))},
            scalars={"parameter": beta},
        )
    wide = x.astype(np.float64)
    s = special.expit(beta * wide)
    return draw.example(
        {"dy": draw.normal("NF"), "x": x},
        lambda o: {"dx": o["dy"] * (s + wide * beta * s * (1 - s))},
        scalars={"parameter": beta},
        scale=2.0,  # the sum of a quotient's two parts
    )


def of_loss(draw: Draw) -> Example:
    def oracle(o: dict[str, Any]) -> dict[str, Any]:
        d = o["targets"].astype(np.float64) - o["z"]
        weights = np.ones(len(d)) if o["weights"] is None else o["weights"]
        loss = weights * np.maximum(0.75 * d, -0.25 * d).mean(axis=1)
        return {"loss": loss, "dz": weights[:, None] * np.where(d > 0, -0.75, 0.25) / d.size}

    arrays = {"z": draw.normal("NC"), "targets": draw.normal("NC"), "weights": draw.weights()}
    return draw.example(
        arrays, oracle, scalars={"parameter": 0.75}, units={"dz": 1.0 / (draw.N * draw.C)}
    )


def of_update(draw: Draw) -> Example:
    rate, t = 0.03, 7

    def oracle(o: dict[str, Any]) -> dict[str, Any]:
        m = 0.9 * o["mean_m"].astype(np.float64) + o["g"]
        return {"w": o["w"] - rate * m / t**0.5, "mean_m": m}

    return draw.example(
        {"w": draw.normal("P", rate), "g": draw.normal("P"), "mean_m": draw.normal("P")},
        oracle,
        scalars={"number_beta": 0.9, "multiplier": 2.0},
        units={"w": rate},
        slots={s.STEP: t - 1},
        floats={s.LEARNING_RATE: rate / 2.0},
    )


def of_columns(draw: Draw) -> Example:
    arrays = {"x": draw.normal("NF"), "w0": draw.normal("F"), "w1": draw.normal("F")}
    if draw.name.endswith("forward"):
        return draw.example(
            arrays, lambda o: {"y": o["w0"] * o["x"] + o["w1"] * np.sin(o["x"].astype(np.float64))}
        )

    def oracle(o: dict[str, Any]) -> dict[str, Any]:
        x, dy = o["x"].astype(np.float64), o["dy"].astype(np.float64)
        return {
            "dx": dy * (o["w0"] + o["w1"] * np.cos(x)),
            "dw0": (dy * x).sum(axis=0),
            "dw1": (dy * np.sin(x)).sum(axis=0),
        }

    # A chain of N rounded sums of numbers near 1 errs by about the root of N.
    return draw.example({"dy": draw.normal("NF"), **arrays}, oracle, scale=2.0 * draw.N**0.5)


def op_of(thing: Any, way: str = "") -> str:
    return f"{thing.op}{way}"


CASES: dict[str, Callable[[Draw], Example]] = {
    op_of(swish, "_forward"): of_activation,
    op_of(swish, "_backward"): of_activation,
    op_of(quantile): of_loss,
    op_of(Heavy): of_update,
    op_of(Wave, "_forward"): of_columns,
    op_of(Wave, "_backward"): of_columns,
}
LENGTHS = st.fixed_dictionaries(
    {letter: st.sampled_from((1, 3, 8, 17, 31, 64, 65, 130)) for letter in "NFCP"}
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES, ids=lambda name: re.sub("_[0-9a-f]{32}", "", name))
@given(LENGTHS, st.integers(0, 2**32), st.integers(1, 17))
@settings(max_examples=6)
def test_op_is_the_oracle(
    name: str, dtype: str, lengths: dict[str, int], seed: int, shift: int
) -> None:
    example = CASES[name](Draw(name, dtype, seed, lengths))
    check(example)
    once = run(example)
    assert_same_bits(once, run(example, team=3))
    assert_same_bits(once, run(example, shift=shift))
    if signature(name).in_place:
        assert_same_bits(once, run(example, in_place=True))
    for operand, value in example.inputs.items():
        if operand not in ("w", "weights") and value is not None and name != op_of(Heavy):
            value[(0,) * value.ndim] = np.nan
            assert any(np.isnan(result).any() for result in run(example).values())


def test_every_word_is_compiled(tmp_path: Path) -> None:
    x = np.array([-2.5, -0.75, 0.3, 0.5, 2.0, 8.0], np.float32)
    with np.errstate(invalid="ignore"):
        expected = [everything.function(float(value)) for value in x]
    assert_close(everything(x), np.array(expected), scale=10.0)  # a sum of 20 functions
    needs_nothing_but_libm((op_of(everything, "_forward"), "float32"), tmp_path)


def test_statements_and_helpers_are_compiled_and_derived() -> None:
    x = np.array([-2.5, -0.75, 0.3, 0.51, 2.0])
    layer = fastnn.Activation(fastnn.activation(helpers))
    layer.prepare((5,), "float64")
    assert_close(layer.forward(x[None], training=True)[0], [helpers(value) for value in x])
    gradient = layer.backward(np.ones((1, 5)))[0]
    assert_is_gradient(gradient, lambda v: float(sum(map(helpers, v))), x)


# In a model.


def test_compiled_training_is_eager_training(monkeypatch: pytest.MonkeyPatch) -> None:
    makers = {"own": lambda: Heavy(0.05, weight_decay=0.1)}
    monkeypatch.setattr(fusion_cases, "ALL_OPTIMIZERS", makers)
    small_kernels_fuse(monkeypatch)
    layers = (Hidden(19, swish), Hidden(17, logistic, dropout=0.2), Hidden(2))
    net = Net(5, layers, optimizer="own")  # type: ignore[arg-type]
    eager = Trial(net).train_eagerly(2)
    for fused in (False, True):
        Trial(net).train(fused, 2).assert_same_as(eager)
    Trial(net).train(True, 2, threads=2).assert_same_as(eager)
    calls = Trial(net).program(True).calls
    finishes = {call.signature.name for product in calls for call in product.finish}
    assert finishes >= {op_of(swish, "_backward"), op_of(logistic, "_forward"), op_of(Heavy)}


def data(rows: int = 30) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(rows, 4)), rng.normal(size=(rows, 2))


def network(
    optimizer: Any = "sgd", loss: Any = "mse", activation: Any = swish, **options: Any
) -> fastnn.Sequential:
    model = fastnn.Sequential(
        [fastnn.Dense(6, activation=activation), Wave(b=0.25), fastnn.Dense(2)],
        **{"dtype": "float64", "seed": 5, **options},
    )
    model.compile(optimizer, loss)
    return model


@pytest.mark.parametrize("loss", [quantile(0.3), brier], ids=["quantile", "brier"])
def test_gradients_pass_the_check(loss: Any) -> None:
    x, y = data()
    errors = fastnn.gradcheck(network(loss=loss), x, y if loss is not brier else y.argmax(axis=1))
    assert len(errors) == 6


def test_a_wrong_derivative_is_found() -> None:
    wrong = copy.copy(swish)
    wrong.derivative(lambda x, beta: 1.001 / (1 + math.exp(-beta * x)))
    with pytest.raises(fastnn.GradientError, match=r"dense_0\.kernel"):
        fastnn.gradcheck(network(activation=wrong), *data())
    assert wrong.own != swish.own


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "weight decay, norm": {"weight_decay": 0.1, "clipnorm": 0.05},
    "global norm, average": {"global_clipnorm": 0.05, "use_ema": True, "ema_momentum": 0.5},
    "value, schedule": {
        "clipvalue": 0.01,
        "learning_rate": schedules.InverseTimeDecay(0.01, 2, 0.5),
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_optimizer_follows_the_same_one_of_fastnn(options: dict[str, Any]) -> None:
    x, y = data()
    own, reference = network(OwnAdam(**options)), network(fastnn.Adam(**options))
    for model in (own, reference):
        model.fit(x, y, batch_size=8, epochs=5, verbose=0)
    np.testing.assert_allclose(own.parameters, reference.parameters, rtol=1e-9, atol=1e-12)


def test_an_optimizer_for_loops_by_hand() -> None:
    layer, optimizer = Wave(), Heavy(0.5)
    layer.forward(np.ones((2, 3)), training=True)
    layer.backward(np.ones((2, 3)))
    for t in (1, 2):
        before, m = layer.params["a"].copy(), 2.0 if t == 1 else 3.0
        optimizer.update(layer)
        assert_close(layer.params["a"], before - 0.5 * m / t**0.5)


def test_an_activation_is_a_function_of_arrays() -> None:
    x = np.array([[-1.0, 2.0]], np.float32)
    assert_close(swish(x, beta=2.0), x * special.expit(2.0 * x.astype(np.float64)), "float32")
    assert swish(x).dtype == np.float32
    assert swish.__doc__ == "x·σ(βx)."
    with pytest.raises(TypeError, match="swish has no parameter 'alpha', expected beta"):
        swish(x, alpha=1)
    layer = fastnn.Activation(swish, beta=2.0)
    assert layer.forward(x).tolist() == swish(x, beta=2.0).tolist()


def test_a_derivative_of_zero_trains_nothing() -> None:
    @fastnn.activation
    def sign(x):  # type: ignore[no-untyped-def]
        return np.sign(x)

    x, y = data()
    with pytest.raises(
        ValueError, match="cannot be trained: the derivative of sign is 0 everywhere"
    ):
        network(activation=sign).fit(x, y)
    sign.derivative(lambda x: 1 if abs(x) < 1 else 0)  # a straight-through estimator
    assert fastnn.Activation(sign).untrainable is None
    with pytest.raises(ValueError, match="the derivative of target is 0 everywhere"):
        fastnn.loss(target)()


def target(z, y):  # type: ignore[no-untyped-def]
    return y


def _named_swish() -> Any:
    """Another function of that name."""

    def swish(x):  # type: ignore[no-untyped-def]
        return 2.0 * x / (1.0 + math.exp(-x))

    return swish


def test_models_are_saved_and_loaded_by_name(tmp_path: Path) -> None:
    x, y = data()
    model = network(OwnAdam(0.01, epsilon=1e-5), quantile(q=0.3))
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model")
    for missing in CUSTOM:
        others = {name: thing for name, thing in CUSTOM.items() if name != missing}
        words = f"{missing} is not known; pass custom_objects={{'{missing}': {missing}}}"
        with pytest.raises(ValueError, match=re.escape(words)):
            fastnn.load(tmp_path / "model", custom_objects=others)
    edited = fastnn.activation(_named_swish())
    with pytest.raises(ValueError, match="swish of custom_objects is not the one that was saved"):
        fastnn.load(tmp_path / "model", custom_objects=CUSTOM | {"swish": edited})
    loaded = fastnn.load(tmp_path / "model", custom_objects=CUSTOM)
    assert repr(loaded.layers) == repr(model.layers)
    assert repr((loaded.loss, loaded.optimizer)) == repr((model.loss, model.optimizer))
    for one in (model, loaded):
        one.fit(x, y, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


# The door.


def no_default(x, a):  # type: ignore[no-untyped-def]
    return a * x


def two_parameters(x, a=1.0, b=2.0):  # type: ignore[no-untyped-def]
    return a * x + b


def of_text(x, a="1"):  # type: ignore[no-untyped-def]
    return x


def two(w, g, m, learning_rate):  # type: ignore[no-untyped-def]
    return w


def mixed(w, g, learning_rate, m):  # type: ignore[no-untyped-def]
    return w, m


def clipped(w, g, learning_rate, clipnorm=1.0):  # type: ignore[no-untyped-def]
    return w


def one_slope(x, a, b):  # type: ignore[no-untyped-def]
    return x


def named(x, name=1.0):  # type: ignore[no-untyped-def]
    return x * name


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: fastnn.activation(no_default), "activation no_default: a needs a default"),
    (lambda: fastnn.activation(two_parameters), "may have one parameter besides x, got a, b"),
    (lambda: fastnn.activation(of_text), r"of_text: a must be a number in \(-inf, inf\), got '1'"),
    (lambda: swish.derivative(of="z"), "activation swish: of must be 'x' or 'y', got 'z'"),
    (lambda: swish.derivative(lambda x: x), "the derivative must take 2 arguments, takes 1"),
    (lambda: fastnn.loss(math.exp), "loss must be a function, got <built-in function exp>"),
    (lambda: fastnn.loss(target, targets="all"), "loss: targets must be one of values, .* 'all'"),
    (lambda: fastnn.loss(target)(1), "the derivative of target is 0 everywhere"),
    (lambda: quantile(0.1, 0.2), "quantile: too many positional arguments"),
    (
        lambda: quantile(p=1),
        r"quantile: got an unexpected keyword argument 'p'; its arguments are \(q=0\.5\)",
    ),
    (lambda: quantile(0.1, q=0.2), "quantile: multiple values for argument 'q'"),
    (lambda: quantile(q="a"), "quantile: q must be a number"),
    (lambda: fastnn.optimizer(two), "two must return a tuple of 2, returns a number"),
    (lambda: fastnn.optimizer(mixed), "arguments must be w, g, means without defaults, then"),
    (lambda: fastnn.optimizer(clipped), "clipped: every optimizer has a clipnorm of its own"),
    (lambda: OwnAdam(beta_1="a"), "OwnAdam: beta_1 must be a number"),
    (lambda: OwnAdam(clipnorm=-1.0), r"OwnAdam: clipnorm must be a number in \(0, inf\)"),
    (lambda: OwnAdam(gamma=1.0), "gamma"),
    (lambda: fastnn.layer(target), "layer target: y needs a default"),
    (lambda: fastnn.layer(named), "none of them called name, .*, got name"),
    (lambda: Wave.derivative(target), "the derivative must take 3 arguments, takes 2"),
    (lambda: Wave.derivative(one_slope), "must return a tuple of 3, returns a number"),
    (
        lambda: Wave(c=1.0),
        r"Wave: got an unexpected .*'c'; its arguments are \(a=1\.0, b=0\.5, \*, name.*",
    ),
    (lambda: fastnn.Dense(3, activation=math.tanh), "put @fastnn.activation before it"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_is_wrong_is_refused(make: Callable[[], Any], words: str) -> None:
    before = swish.own, quantile.own, Wave.own, set(WITH_OWN)
    with pytest.raises((ValueError, TypeError), match=words):
        make()
    assert (swish.own, quantile.own, Wave.own, set(WITH_OWN)) == before


# The cache.


SCRIPT = """
import math, sys
import numpy as np
import fastnn
from fastnn.engine import compiler

K = 2

def helper(x):
    return K * x

@fastnn.activation
def f(x):
    return helper(x) + math.exp(0 * x)

compiler.cores = lambda: 2  # on any machine
compiler.prepare([(f.op + way, "float64") for way in ("_forward", "_backward")])
print(f(1.5), "numba" in sys.modules)
"""


def test_processes_compile_from_the_text_alone_and_a_second_one_compiles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(PLACE))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def prints() -> str:
        command = [sys.executable, "-W", "error", str(script)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def kept() -> int:
        return len(list(cache.directory().rglob("*.bin")))

    # Compiled in processes of their own, which have never seen the script.
    assert (prints(), kept()) == ("4.0 False\n", 2)
    assert (prints(), kept()) == ("4.0 False\n", 2)


# What is written elsewhere.


@pytest.mark.parametrize("kind", ["activations", "layers", "losses", "optimizers"])
def test_docstring_examples(kind: str) -> None:
    result = doctest.testmod(importlib.import_module(f"fastnn.custom.{kind}"))
    assert result.attempted >= 3
    assert result.failed == 0


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (example,) = (block for block in blocks if "@fastnn.activation" in block)
    assert len([line for line in example.splitlines() if line]) <= 10
    path = tmp_path / "example.py"
    path.write_text(example)
    names = runpy.run_path(str(path))
    assert type(names["Signum"](1e-4, weight_decay=0.01)).__name__ == "Signum"
    assert_close(names["bump"](2.0, width=2.0), 2 / math.e)
