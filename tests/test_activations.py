"""Activations: the oracle against PyTorch, Keras and itself, then the formulas against the oracle.

The ops made of the formulas are tried in `test_kernels.py` and `test_finishes.py`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from activation_cases import CASES, Case
from numba import njit
from numpy.typing import NDArray

import fastnn
from fastnn import activations
from fastnn.kernels import compiled as compiled_formulas  # noqa: F401  compiled code calls them
from fastnn.kernels.activations import ALIASES, ELEMENTWISE
from fusion_cases import Hidden, Net, Trial
from helpers import assert_close, assert_is_gradient, body_of, errors_in_ulp

Array = NDArray[Any]

DTYPES = ("float32", "float64")
TRAINABLE = tuple(name for name in CASES if ELEMENTWISE[name].derivative is not None)

of_every_activation = pytest.mark.parametrize("name", CASES)
of_both_types = pytest.mark.parametrize("dtype", DTYPES)


def test_every_activation_has_a_case() -> None:
    assert tuple(CASES) == tuple(ELEMENTWISE)


def values_of(name: str) -> list[tuple[float, ...]]:
    """Arguments besides x: none, or the parameter's default and others."""
    parameter = ELEMENTWISE[name].parameter
    if parameter is None:
        return [()]
    return [(value,) for value in (parameter.default, *CASES[name].parameters)]


# The oracle


def away_from_corners(case: Case, x: Array) -> Array:
    for corner in case.corners:
        x = np.where(abs(x - corner) < 1e-3, corner + 0.1, x)
    return x


@pytest.mark.parametrize("name", TRAINABLE)
def test_oracles_derivative_by_central_differences(name: str) -> None:
    case = CASES[name]
    x = away_from_corners(case, np.random.default_rng(1).normal(scale=2.0, size=40))
    for values in values_of(name):
        assert_is_gradient(
            np.asarray(case.derivative(x, *values), np.float64),
            lambda v, values=values: float(np.sum(case.forward(v, *values))),
            x,
        )


TORCH_PARAMETERS = {"leaky_relu": "negative_slope", "elu": "alpha", "celu": "alpha"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.torch])
def test_oracle_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    case = CASES[name]
    function = getattr(torch.nn.functional, case.torch)
    x = away_from_corners(case, np.random.default_rng(2).normal(scale=4.0, size=200))
    for values in values_of(name):
        if values == (0.0,) and name == "elu":
            continue  # PyTorch takes positive ones only
        arguments = {TORCH_PARAMETERS[name]: values[0]} if values else {}
        tensor = torch.tensor(x, requires_grad=True)
        y = function(tensor, **arguments)
        y.sum().backward()
        assert_close(np.asarray(case.forward(x, *values), np.float64), y.detach().numpy())
        # PyTorch's 1/6 is a float32.
        dtype = "float32" if name == "hard_sigmoid" else "float64"
        assert_close(np.asarray(case.derivative(x, *values)), tensor.grad.numpy(), dtype)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.keras])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_oracle_against_keras(name: str) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    case = CASES[name]
    x = np.random.default_rng(3).normal(scale=4.0, size=200)
    value = values_of(name)[0]  # Keras's default, too
    if name == "gelu_tanh":
        y = keras.activations.gelu(keras.ops.convert_to_tensor(x), approximate=True)
    else:
        y = getattr(keras.activations, case.keras)(keras.ops.convert_to_tensor(x))
    assert_close(np.asarray(case.forward(x, *value), np.float64), keras.ops.convert_to_numpy(y))


# What https://github.com/takyamamoto/BRU_chainer prints for r = 2, and what follows from the paper.


def test_bionodal_root_units_by_published_values() -> None:
    x = np.array([-1.0, 0.0, 2.0, -3.0])
    np.testing.assert_allclose(
        CASES["eru"].forward(x, 2.0), [-0.36466473, 0.5, 2.5, -0.49752125], atol=1e-8
    )
    assert_close(CASES["oru"].forward(x, 2.0), [1.0 - 5.0**0.5, 0.0, 2.0, 1.0 - 13.0**0.5])


@pytest.mark.parametrize("r", [0.5, 1.0, 2.0, 3.0])
def test_bionodal_root_units_are_smooth_at_zero(r: float) -> None:
    x = np.array([-1e-12, 0.0, 1e-12])
    for name, value in (("eru", 1.0 - 1.0 / r), ("oru", 0.0)):
        unit = getattr(activations, name)
        np.testing.assert_allclose(unit(x, r=r), value, atol=1e-11)
        layer = fastnn.Activation(name, r=r)
        layer.prepare((3,), "float64")
        layer.forward(x[None], training=True)
        np.testing.assert_allclose(layer.backward(np.ones((1, 3))), r, rtol=1e-11)


def test_bionodal_root_units_of_one() -> None:
    x = np.random.default_rng(4).normal(scale=3.0, size=1000)
    assert_close(activations.eru(x, r=1), activations.elu(x))
    assert_close(activations.oru(x, r=1), x)


# The formulas: errors in ulp, special values, and the compiled code


@functools.cache
def compiled_loop(name: str) -> Any:
    """A loop over an array; without flags of its own, for the formulas bring theirs."""
    line = ELEMENTWISE[name]
    function = line.formula
    if line.parameter is not None:

        @njit(error_model="numpy")
        def loop(out, x, parameter):  # type: ignore[no-untyped-def]
            for i in range(x.size):
                out[i] = function(x[i], parameter)
    else:

        @njit(error_model="numpy")
        def loop(out, x):  # type: ignore[no-untyped-def]
            for i in range(x.size):
                out[i] = function(x[i])

    return loop


def computed(name: str, x: Array, values: tuple[float, ...]) -> Array:
    """The function of arrays, which is the op."""
    parameter = ELEMENTWISE[name].parameter
    arguments = {} if parameter is None else {parameter.name: values[0]}
    return np.asarray(getattr(activations, name)(x, **arguments))


def uncompiled(name: str, x: Array, values: tuple[float, ...]) -> Array:
    """The same through plain Python, scalar by scalar; checks that the type is kept."""
    own = [x.dtype.type(value) for value in values]
    with np.errstate(all="ignore"):
        results = [ELEMENTWISE[name].formula(element, *own) for element in x]
    assert {type(result) for result in results} == {x.dtype.type}
    return np.array(results, x.dtype)


def exact(name: str, x: Array, values: tuple[float, ...]) -> Array:
    """The oracle in a wider type: float64 for float32, long double for float64."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    if np.finfo(wide).nmant < np.finfo(x.dtype).nmant + 10:
        pytest.skip("long double has no more digits than float64 on this machine")
    own = [wide(x.dtype.type(value)) for value in values]
    with np.errstate(all="ignore"):
        if name == "gelu" and wide is np.longdouble:
            mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
            with mpmath.workdps(30):
                return np.array([wide(str(v * mpmath.ncdf(v))) if abs(v) < 50 else max(v, 0)
                                 for v in x.astype(float)])  # fmt: skip
        return np.asarray(CASES[name].forward(x.astype(wide), *own))


def points(dtype: str, count: int = 20_000) -> Array:
    """Arguments of all magnitudes, and of those at which activations do something."""
    rng = np.random.default_rng(20261124)
    unsigned = np.uint32 if dtype == "float32" else np.uint64
    widest = 110 if dtype == "float32" else 760
    bits = rng.integers(0, np.iinfo(unsigned).max, count, dtype=unsigned).view(dtype)
    return np.concatenate([
        bits[np.isfinite(bits)],
        rng.uniform(-widest, widest, count).astype(dtype),
        rng.uniform(-15, 5, count).astype(dtype),
        rng.normal(scale=2.0, size=count).astype(dtype),
    ])  # fmt: skip


def least_of(name: str, values: tuple[float, ...]) -> float:
    """What errors are at least measured by: eru is a difference of numbers near 1 and 1/r."""
    return max(1.0, 1.0 / values[0]) if name == "eru" and values != (1.0,) else 0.0


@of_both_types
@of_every_activation
def test_error_is_within_its_bound(name: str, dtype: str) -> None:
    # mpmath takes its time.
    x = points(dtype, 300 if name == "gelu" and dtype == "float64" else 20_000)
    for values in values_of(name):
        errors = errors_in_ulp(
            computed(name, x, values), exact(name, x, values), least_of(name, values)
        )
        assert errors.max() <= CASES[name].ulp, x[np.isfinite(x)][errors.argmax()]


@of_both_types
@of_every_activation
def test_plain_python_has_the_same_bound(name: str, dtype: str) -> None:
    x = points(dtype, 100)
    for values in values_of(name):
        errors = errors_in_ulp(
            uncompiled(name, x, values), exact(name, x, values), least_of(name, values)
        )
        assert errors.max() <= CASES[name].ulp


@of_both_types
@of_every_activation
@pytest.mark.parametrize("evaluate", [computed, uncompiled])
def test_special_values(evaluate: Callable[..., Array], name: str, dtype: str) -> None:
    least = np.finfo(dtype).smallest_subnormal
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e38, -1e38, least, -least], dtype)
    for values in values_of(name):
        y = evaluate(name, x, values)
        with np.errstate(all="ignore"):
            own = [float(np.dtype(dtype).type(value)) for value in values]
            expected = np.asarray(CASES[name].forward(x.astype(np.float64), *own)).astype(dtype)
        expected[3] = {"gelu": 0, "gelu_tanh": 0, "silu": 0, "mish": 0}.get(name, expected[3])
        if name == "leaky_relu" and values == (0.0,):
            expected[3] = np.nan  # 0 · infinity
        assert_close(y, expected, dtype)
        subnormal = y[-2:].astype(np.float64) - expected[-2:]
        assert (np.abs(subnormal) <= least).all()
        if name in ("elu", "selu", "celu", "silu", "gelu", "mish", "tanh", "softsign", "oru"):
            np.testing.assert_array_equal(np.signbit(y[:2]), [False, True])


@of_every_activation
def test_compiled_loop_is_vectorised_and_calls_nothing(name: str) -> None:
    loop, x = compiled_loop(name), np.ones(3, np.float32)
    values = [np.float32(value) for value in values_of(name)[0]]
    loop(np.empty_like(x), x, *values)
    symbol = loop.overloads[loop.signatures[0]].fndesc.mangled_name
    body = body_of(loop.inspect_llvm(loop.signatures[0]), symbol, "\n}")
    # Of the loop's tail, whose elements are taken one by one, sqrtf becomes an instruction.
    inlined = re.compile(r"@llvm\.|float @sqrtf\(")
    assert not [line for line in body.splitlines() if " call " in line and not inlined.search(line)]
    assert re.search(r"<\d+ x float>", body)
    assert not re.search(r"\bdouble\b|fpext", body)


# Functions of arrays


@of_both_types
def test_function_gives_the_inputs_type_and_shape(dtype: str) -> None:
    x = np.random.default_rng(5).normal(size=(2, 3, 4)).astype(dtype)
    before = x.copy()
    for name in activations.NAMES:
        function = getattr(activations, name)
        y = function(x)
        assert (y.dtype, y.shape) == (x.dtype, x.shape)
        assert not np.shares_memory(y, x)
        np.testing.assert_array_equal(function(x[:, ::2, ::-1].copy()), function(x[:, ::2, ::-1]))
        assert function(x[:0]).shape == (0, 3, 4)
    np.testing.assert_array_equal(x, before)


def test_function_of_other_things() -> None:
    assert activations.relu([-1, 2]).tolist() == [0.0, 2.0]
    assert activations.relu([-1, 2]).dtype == np.float32
    assert activations.relu([-1.0, 2.0]).dtype == np.float64
    assert activations.relu(-3.0).shape == ()
    assert activations.swish(np.ones(3)).tolist() == activations.silu(np.ones(3)).tolist()
    assert "gelu" in dir(activations)
    with pytest.raises(TypeError, match="relu: x must be an array of numbers"):
        activations.relu("words")
    with pytest.raises(ValueError, match="softmax: x must have rows, got a scalar"):
        activations.softmax(1.0)
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = activations.nonesuch


def test_parameters_count() -> None:
    x = np.array([-2.0, 3.0])
    assert activations.leaky_relu(x, negative_slope=0.5).tolist() == [-1.0, 3.0]
    assert activations.elu(np.array([-np.inf]), alpha=3).tolist() == [-3.0]
    assert activations.gelu(x, approximate=True).tolist() == activations.gelu_tanh(x).tolist()
    assert activations.gelu(x).tolist() != activations.gelu_tanh(x).tolist()
    assert fastnn.LeakyReLU(0.5).forward(x[None]).tolist() == [[-1.0, 3.0]]
    assert fastnn.ELU(3).forward(np.array([[-np.inf]])).tolist() == [[-3.0]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fastnn.Activation("elu", alpha=-1), r"alpha must be a number in \[0, inf\)"),
        (lambda: fastnn.Activation("celu", alpha=0), r"alpha must be a number in \(0, inf\)"),
        (lambda: fastnn.LeakyReLU(np.nan), r"negative_slope must be a number in \[0, inf\)"),
        (lambda: activations.eru(1.0, r=0), r"eru: r must be a number in \(0, inf\)"),
        (lambda: fastnn.Activation("relu", alpha=1), "relu has no parameter 'alpha'"),
        (lambda: activations.gelu(1.0, alpha=1), "no parameter 'alpha', expected approximate"),
    ],
)
def test_wrong_parameters_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_aliases_are_the_activation() -> None:
    for alias, name in ALIASES.items():
        assert fastnn.Dense(3, alias).activation == name


# Training


@of_both_types
@pytest.mark.parametrize("name", TRAINABLE)
def test_compiled_training_is_eager_training(name: str, dtype: str) -> None:
    net = Net(5, (Hidden(7, name), Hidden(6, name), Hidden(2)), optimizer="adam", dtype=dtype)
    eager = Trial(net).train_eagerly(2)
    for fused in (False, True):
        Trial(net).train(fused, 2).assert_same_as(eager)


def test_activation_of_the_input_is_not_written_over() -> None:
    net = Net(4, (Hidden(5, "gelu"), Hidden(2)))
    for fused in (False, True):
        made = Trial(net).program(fused)
        forward = next(call for call in made.calls if call.signature.name == "gelu_forward")
        places, _ = made.plan()
        x, y = (id(forward.arrays[name].root) for name in ("x", "y"))
        assert places[x] != places[y]


def test_a_network_with_a_step_predicts_but_is_not_trained() -> None:
    x, y = np.random.default_rng(6).normal(size=(2, 8, 3))
    model = fastnn.Sequential([fastnn.Dense(3, "step"), fastnn.Dense(3)], seed=0)
    model.compile("sgd", "mse")
    for train in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match="cannot be trained: the derivative of step is 0"):
            train(x, y)
        assert not model.built
    model.build((3,))
    before = model.get_weights()
    with pytest.raises(ValueError, match="cannot be trained: the derivative of step is 0"):
        model.fit(x, y)
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    assert model.predict(x).shape == (8, 3)
    assert set(model.evaluate(x, y)) == {"loss"}
    layer = fastnn.Dense(3, "step")
    layer.forward(x, training=True)
    with pytest.raises(ValueError, match="no gradient comes back: the derivative of step is 0"):
        layer.backward(y)


def test_a_step_before_all_weights_is_no_hindrance() -> None:
    x, y = np.random.default_rng(7).normal(size=(2, 8, 3))
    model = fastnn.Sequential([fastnn.Activation("step"), fastnn.Dense(3)], seed=0)
    model.compile("sgd", "mse")
    losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
