"""No step whose gradients are not all finite changes a parameter, computed or not; no other stops.

A fused step looks at gradients before they are computed: by a bound on them, and where that is too
large by the gradients themselves.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastnn.engine import cpu
from fastnn.engine.compiler import address
from fastnn.engine.operands import Call
from fastnn.kernels import state as s
from fusion_cases import (
    MORE_OPTIMIZERS,
    OPTIMIZERS,
    Hidden,
    Net,
    Trial,
    assert_same_vectors,
    slices_are_tiny,
    small_kernels_fuse,
)
from kernel_cases import DTYPES, Draw, dense_backward_kernel, run_as_team

Array = NDArray[Any]

of_both_types = pytest.mark.parametrize("dtype", DTYPES)
of_both_programs = pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])


@pytest.fixture(autouse=True)
def every_update_fuses(monkeypatch: pytest.MonkeyPatch) -> None:
    small_kernels_fuse(monkeypatch)


# The op: its word is that of `guard` on the gradients themselves


def guards(x: Array, dy: Array, bias: bool, team: int = 1) -> bool:
    """Whether `guard_product` stops the run; its word must be the computed gradients'."""
    (rows, inputs), outputs, dtype = x.shape, dy.shape[1], x.dtype

    def empty() -> dict[str, Array]:
        gradients = {"dw": np.full((inputs, outputs), np.nan, dtype)}
        return gradients | ({"db": np.full(outputs, np.nan, dtype)} if bias else {})

    factors = {"x": x, "dy": dy}
    computed = empty()
    assert not run_as_team("dense_backward_kernel", computed | factors, cpu.new_state(), rows, 1)
    expected = any(
        run_as_team("guard", {"g": g.reshape(-1)}, cpu.new_state(), 0, 1) for g in computed.values()
    )
    assert run_as_team("guard_product", empty() | factors, cpu.new_state(), rows, team) == expected
    return expected


@of_both_types
@given(
    st.integers(1, 70), st.integers(1, 20), st.integers(1, 40), st.booleans(), st.integers(1, 3),
    st.floats(0.0, 1.0), st.floats(-1.5, 1.5), st.sampled_from([1.0, 0.1, 0.0]),
    st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=150)
def test_word_is_that_of_the_gradients(
    dtype: str, rows: int, inputs: int, outputs: int, bias: bool, team: int,
    share: float, beyond: float, density: float, seed: int,
) -> None:  # fmt: skip
    # Gradients around the largest with a finite square, as `share` of x and the rest of dy.
    rng = np.random.default_rng(seed)
    digits = np.log10(float(np.finfo(dtype).max)) / 2 + beyond
    x, dy = (
        rng.normal(size=(rows, columns)) * 10.0 ** (part * digits)
        for columns, part in ((inputs, share), (outputs, 1.0 - share))
    )
    x[rng.random(x.shape) > density] = 0.0
    guards(x.astype(dtype), dy.astype(dtype), bias, team)


@of_both_types
@pytest.mark.parametrize("team", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_bound_is_not_the_last_word(bias: bool, team: int, dtype: str) -> None:
    largest = np.finfo(dtype).max
    root = np.sqrt(largest).astype(dtype)
    x, dy = np.zeros((7, 5), dtype), np.zeros((7, 3), dtype)
    dy[4] = 1.0
    x[2] = largest  # meets a dy of 0
    assert not guards(x, dy, bias, team)
    x[4] = 0.99 * root
    assert not guards(x, dy, bias, team)
    x[4, 3] = 1.01 * root
    assert guards(x, dy, bias, team)
    x[6, 3], dy[6] = -0.5 * root, 1.0  # takes it back
    assert not guards(x, dy, bias, team)


@of_both_types
@pytest.mark.parametrize("team", [1, 2, 3])
def test_bias_alone_may_be_too_large(team: int, dtype: str) -> None:
    root = np.sqrt(np.finfo(dtype).max).astype(dtype)
    x, dy = np.zeros((6, 5), dtype), np.full((6, 3), root / 7, dtype)
    assert not guards(x, dy, True, team)
    dy[:, 1] *= 2
    assert guards(x, dy, True, team)
    assert not guards(x, dy, False, team)


@of_both_types
@pytest.mark.parametrize("team", [1, 2, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("into", ["x", "dy"])
def test_no_bad_factor_is_overlooked(into: str, bad: float, team: int, dtype: str) -> None:
    rows, inputs, outputs = 5, 3, 18
    for row, column in itertools.product(range(rows), range(inputs if into == "x" else outputs)):
        for others in (0.0, 1.0):
            factors = {
                "x": np.full((rows, inputs), others, dtype),
                "dy": np.full((rows, outputs), others, dtype),
            }
            factors[into][row, column] = bad
            assert guards(**factors, bias=True, team=team), (row, column, others)


@of_both_types
@pytest.mark.parametrize("team", [1, 3])
def test_gradients_of_ordinary_factors_are_not_computed(team: int, dtype: str) -> None:
    example = dense_backward_kernel(Draw("", dtype, 4, {"N": 40, "I": 9, "O": 20}))
    untouched = {"dw": np.full((9, 20), np.nan, dtype), "db": np.full(20, np.nan, dtype)}
    operands = {**untouched, **example.inputs}
    assert not run_as_team("guard_product", operands, cpu.new_state(), 40, team)
    assert all(np.isnan(array).all() for array in untouched.values())


@of_both_types
def test_threads_that_look_at_once_say_the_same(dtype: str) -> None:
    # Just finite squares, of a sum in three passes: who computes them must do so undisturbed.
    rows, inputs, outputs = 1536, 200, 300
    root = np.sqrt(np.finfo(dtype).max)
    factors = {
        "x": np.ones((rows, inputs), dtype),
        "dy": np.full((rows, outputs), 0.9 * root / rows, dtype),
    }
    gradients = {"dw": np.empty((inputs, outputs), dtype), "db": np.empty(outputs, dtype)}
    call = Call("guard_product", gradients | factors)
    code = np.zeros((1, s.CODE_WIDTH), np.int64)
    words = call.integers(lambda array: array.ctypes.data, address)
    code[0, s.CODE_ADDRESS], code[0, [s.CODE_COST, s.CODE_PIECES]] = address(call.key), 1
    code[0, s.CODE_OPERANDS : s.CODE_OPERANDS + len(words)] = words
    team = cpu.Team(3)
    try:
        run = cpu.Run(code, cpu.new_state(), team)
        for _ in range(10):
            run.epoch(rows, rows)
        factors["dy"] *= 1.2
        with pytest.raises(cpu.DivergenceError):
            run.epoch(rows, rows)
    finally:
        team.close()


# Steps


def three_layers(optimizer: str, dtype: str, bad_layer: int, bias: bool = True) -> Trial:
    """A linear net of modest outputs, one of whose kernels has one gradient that is infinite.

    Its layer is given an input that is huge, but whose weights are 0.
    """
    hidden = (Hidden(6), Hidden(5), Hidden(3, bias=bias))
    trial = Trial(Net(4, hidden, "mse", optimizer, dtype, rows=8, batch=8, seed=3))
    huge, layers = np.finfo(dtype).max / 2, trial.model.layers
    for layer in layers:
        layer.kernel *= 0.1
    layers[bad_layer].kernel[1] = 0
    if bad_layer == 0:
        trial.x[:, 1] = huge
    else:
        layers[bad_layer - 1].kernel[:, 1] = 0
        layers[bad_layer - 1].bias[1] = huge
    trial.y += 100  # errors all of one sign, and greater than 2
    return trial


@of_both_programs
@of_both_types
@pytest.mark.parametrize("bad_layer", [0, 1, 2])
@pytest.mark.parametrize(
    ("optimizer", "threads"),
    [
        *((name, threads) for name in OPTIMIZERS for threads in (0, 1, 2, 3)),
        *((name, 0) for name in MORE_OPTIMIZERS),
    ],
)
def test_one_bad_gradient_leaves_all_as_it_was(
    optimizer: str, bad_layer: int, threads: int, dtype: str, fused: bool
) -> None:
    trial = three_layers(optimizer, dtype, bad_layer)
    before = trial.vectors()
    with pytest.raises(cpu.DivergenceError, match=r"a gradient became .* at step 0;"):
        trial.train(fused, threads=threads)
    after = trial.vectors()
    assert np.isfinite(after.pop("sums")).all()
    del before["sums"]
    assert_same_vectors(after, before)


@of_both_types
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_large_bound_stops_no_step(optimizer: str, threads: int, dtype: str) -> None:
    net = Net(4, (Hidden(3, None), Hidden(2)), "mse", optimizer, dtype, rows=5, batch=5, seed=5)

    def trial() -> Trial:
        # A row that is huge in a column without weights, and is predicted without an error.
        made = Trial(net)
        made.x[2] = 0
        made.x[2, 1] = np.finfo(dtype).max
        for layer in made.model.layers:
            layer.bias[...] = 0
        made.model.layers[0].kernel[1] = 0
        made.y[2] = 0
        return made

    unfused, fused = trial().train(fused=False), trial().train(fused=True, threads=threads)
    fused.assert_same_as(unfused)
    assert fused.state[s.STEP] == 1
    assert (fused.flat.parameters != trial().flat.parameters).any()


@of_both_programs
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_after_a_bad_gradient(optimizer: str, fused: bool) -> None:
    # All that a step that was given up leaves behind in its gradients is of no more consequence.
    net = Net(3, (Hidden(4), Hidden(1, bias=False)), "mse", optimizer, rows=4, batch=4, seed=1)
    trial = Trial(net)
    first, last = trial.model.layers
    parameters, y = trial.flat.parameters.copy(), trial.y.copy()
    # Only the way back is too steep: outputs are moderate, their errors' products are infinite.
    first.kernel[...], first.bias[...] = 1e-25, 0
    last.kernel[:, 0] = 1e30, -1e30, 0, 0
    trial.y[...] = 1e15
    made = trial.program(fused)
    memory = np.zeros(made.arena_bytes + 64, np.uint8)
    run = cpu.Run(made.link(memory, trial.sources._asdict()), trial.state)
    with pytest.raises(cpu.DivergenceError, match=r"a gradient became .* at step 0;"):
        run.epoch(4, 4)
    trial.flat.parameters[:], trial.y[...] = parameters, y
    run.epoch(4, 4)
    well = Trial(net).train_eagerly()
    assert trial.state[s.STEP] == 1
    np.testing.assert_array_equal(trial.flat.parameters, well.flat.parameters)


@of_both_types
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_update_that_overflows_updates_the_rest(optimizer: str, threads: int, dtype: str) -> None:
    net = Net(5, (Hidden(20), Hidden(4)), "mse", optimizer, dtype, rows=9, batch=9, seed=6)
    largest = float(np.finfo(dtype).max)

    def trial() -> Trial:
        # Two rows of weights as large as can be, which cancel out; one of them grows by a step.
        made = Trial(net)
        made.x[:, :2] = 1
        made.model.layers[0].kernel[:2] = [[0.99 * largest], [-0.99 * largest]]
        cpu.floats(made.state)[s.LEARNING_RATE] = 0.05 * largest
        return made

    unfused, fused = trial(), trial()
    for one, how in ((unfused, {"fused": False}), (fused, {"fused": True, "threads": threads})):
        with pytest.raises(cpu.DivergenceError, match=r"a gradient became .* at step 0;"):
            one.train(**how)
    fused.assert_same_as(unfused)
    assert np.isfinite(fused.flat.parameters).all()
    changed = fused.flat.parameters != trial().flat.parameters
    assert changed[:40].any()
    assert not changed[:40].all()
    assert changed[40:].any()
    if optimizer == "adam":
        assert changed[:40].sum() == 20
        assert changed[40:].all()


# Interruptions


class InterruptionError(Exception):
    """Raised between slices."""


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "adamw", "adamax"])
def test_interruption_leaves_whole_steps(
    optimizer: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = (Hidden(37, "relu", True, 0.2), Hidden(20, "tanh"), Hidden(5, "softmax"))
    net = Net(13, hidden, "categorical_crossentropy", optimizer, rows=50, batch=20)
    after = [Trial(net).vectors()]
    after += [Trial(net).train_eagerly(rows=rows).vectors() for rows in (20, 40, 50)]
    slices_are_tiny(monkeypatch)
    steps: list[int] = []
    for pause in itertools.count(0, 3 if threads else 1):
        trial, left = Trial(net), itertools.count(pause, -1)

        def on_pause(left: Any = left) -> None:
            if next(left) == 0:
                raise InterruptionError

        try:
            trial.train(fused=True, threads=threads, on_pause=on_pause)
        except InterruptionError:
            pass
        else:
            break
        steps.append(int(trial.state[s.STEP]))
        now = trial.vectors()
        for name in ("parameters", *trial.flat.slots):
            np.testing.assert_array_equal(now[name], after[steps[-1]][name], err_msg=name)
    assert steps == sorted(steps)
    assert set(steps) == {0, 1, 2}
    assert len(steps) > (20 if threads else 60)
