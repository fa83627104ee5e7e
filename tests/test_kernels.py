"""The CPU's kernels on trial: every op, run on arrays, against fastnn.kernels.reference."""

from __future__ import annotations

import activation_cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.engine import cpu
from fastnn.engine.tape import Eager
from fastnn.kernels import reference
from fastnn.kernels import state as s
from fastnn.kernels.activations import ELEMENTWISE
from fastnn.kernels.signatures import ACTIVATIONS, NAMES, ROWWISE, signature
from helpers import assert_close, assert_is_gradient
from kernel_cases import (
    CASES,
    DTYPES,
    LOSSES,
    METRICS,
    OPTIMIZING,
    UPDATE_CASES,
    Array,
    Draw,
    apply,
    assert_same_bits,
    check,
    dense_forward,
    gather,
    run,
    run_as_team,
    zeros_and_ones,
)

IN_PLACE = tuple(name for name in CASES if signature(name).in_place)
OPTIONAL = tuple((n, o.name) for n in CASES for o in signature(n).arrays if o.optional)
# Row r of an output depends on row r of the inputs, and on no other.
ROW_BY_ROW = tuple(
    name
    for name in CASES
    if any(output.dimensions[0] == "N" for output in signature(name).arrays[:1])
    and name not in ("gather", "accumulate", "sparse_forward")
)

# They sum up, look at gradients or change parameters: NaN stops a run there.
WRITES_NO_ROWS = ("accumulate", "guard_product", "penalty", "moving_average", *OPTIMIZING)

EDGES = (1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 32, 33, 61, 63, 64, 65, 97, 127, 128, 129, 191, 193)
WIDTHS = st.one_of(st.sampled_from(EDGES), st.integers(1, 200))
ROWS = st.one_of(st.sampled_from((*EDGES, 192, 256, 300)), st.integers(1, 300))
FEW_ROWS = st.one_of(st.sampled_from((1, 2, 3, 7, 64, 65)), st.integers(1, 80))
SEEDS = st.integers(0, 2**32)


def lengths(rows: st.SearchStrategy[int] = ROWS) -> st.SearchStrategy[dict[str, int]]:
    """Lengths for all letters of signatures."""
    return st.fixed_dictionaries({"N": rows, **{letter: WIDTHS for letter in "FIOCP"}})


of_every_op = pytest.mark.parametrize("name", CASES)
of_both_types = pytest.mark.parametrize("dtype", DTYPES)


# Every op against the oracle


def test_every_op_has_a_case() -> None:
    assert tuple(CASES) == NAMES


@of_every_op
def test_outputs_come_first(name: str) -> None:
    example = CASES[name](Draw(name, "float64", 0, dict.fromkeys("NFIOCP", 3)))
    written = [output for output in example.outputs if output not in example.inputs]
    if not example.written_floats:
        assert written == [operand.name for operand in signature(name).arrays][: len(written)]


@of_both_types
@of_every_op
@given(lengths(), SEEDS)
@settings(max_examples=20)
def test_op_is_the_oracle(name: str, dtype: str, sizes: dict[str, int], seed: int) -> None:
    check(CASES[name](Draw(name, dtype, seed, sizes)))


@of_both_types
@pytest.mark.parametrize(("name", "without"), OPTIONAL)
@given(lengths(), SEEDS)
@settings(max_examples=10)
def test_op_without_an_operand(
    name: str, without: str, dtype: str, sizes: dict[str, int], seed: int
) -> None:
    example = CASES[name](Draw(name, dtype, seed, sizes, without))
    assert example.inputs[without] is None
    check(example)


@of_both_types
@pytest.mark.parametrize("name", IN_PLACE)
@given(lengths(), SEEDS)
@settings(max_examples=15)
def test_in_place_changes_no_bit(name: str, dtype: str, sizes: dict[str, int], seed: int) -> None:
    example = CASES[name](Draw(name, dtype, seed, sizes))
    assert_same_bits(run(example), run(example, in_place=True))


@of_both_types
@of_every_op
@given(lengths(FEW_ROWS), SEEDS, st.sampled_from([1, 2, 3, 5, 16, 91]))
@settings(max_examples=12)
def test_team_changes_no_bit(
    name: str, dtype: str, sizes: dict[str, int], seed: int, team: int
) -> None:
    example = CASES[name](Draw(name, dtype, seed, sizes))
    assert_same_bits(run(example), run(example, team=team))


@of_both_types
@of_every_op
@given(lengths(FEW_ROWS), SEEDS, st.integers(1, 17))
@settings(max_examples=8)
def test_place_in_memory_changes_no_bit(
    name: str, dtype: str, sizes: dict[str, int], seed: int, shift: int
) -> None:
    example = CASES[name](Draw(name, dtype, seed, sizes))
    assert_same_bits(run(example), run(example, shift=shift))


@of_both_types
@pytest.mark.parametrize("name", ROW_BY_ROW)
@given(lengths(), SEEDS, st.floats(0.0, 1.0))
@settings(max_examples=10)
def test_a_row_depends_on_no_other(
    name: str, dtype: str, sizes: dict[str, int], seed: int, where: float
) -> None:
    example = CASES[name](Draw(name, dtype, seed, sizes))
    row = int(where * (example.rows - 1))
    others = CASES[name](Draw(name, dtype, seed + 1, sizes)).inputs
    mixed = dict(example.inputs)
    for operand in signature(name).arrays:
        if operand.dimensions[0] == "N" and example.inputs.get(operand.name) is not None:
            mixed[operand.name] = others[operand.name].copy()
            mixed[operand.name][row] = example.inputs[operand.name][row]
    one, other = run(example), run(example.replace(**mixed))
    assert_same_bits({k: v[row] for k, v in one.items()}, {k: v[row] for k, v in other.items()})


@of_both_types
@pytest.mark.parametrize("name", [n for n in CASES if n not in (*METRICS, *WRITES_NO_ROWS)])
@given(lengths(FEW_ROWS), SEEDS)
@settings(max_examples=10)
def test_nan_is_passed_on(name: str, dtype: str, sizes: dict[str, int], seed: int) -> None:
    draw = Draw(name, dtype, seed, sizes)
    example = CASES[name](draw)
    clean = run(example)
    for operand in signature(name).arrays:
        value = example.inputs.get(operand.name)
        if value is None or value.dtype.kind != "f":
            continue
        place = tuple(int(draw.rng.integers(n)) for n in value.shape)
        looked_at = ["loss", "dz"]
        if name == "categorical_crossentropy":
            # It looks at its label's probability alone, and gives all others a gradient of 0.
            looked_at = ["loss"]
            if operand.name == "z":
                place = (place[0], int(example.inputs["labels"][place[0]]))
        ill = value.copy()
        ill[place] = np.nan
        example_of_ill = example.replace(**{operand.name: ill})
        for output, actual in run(example_of_ill).items():
            if name not in LOSSES or output in looked_at:
                hidden = np.isnan(example_of_ill.expected()[output]) & ~np.isnan(actual)
                assert not hidden.any(), f"{output} hides a NaN in {operand.name}"
            if name in ROW_BY_ROW and operand.dimensions[0] == "N":
                well = np.arange(len(actual)) != place[0]
                assert_same_bits({output: actual[well]}, {output: clean[output][well]})


# Rows in


@of_both_types
@pytest.mark.parametrize("source_type", ["uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("without", ["", "order"])
@given(lengths(FEW_ROWS), SEEDS)
@settings(max_examples=5)
def test_gather_converts_as_numpy_does(
    dtype: str, source_type: str, without: str, sizes: dict[str, int], seed: int
) -> None:
    example = gather(Draw("gather", dtype, seed, sizes, without), source_type)
    assert_same_bits(run(example), example.expected())


def test_gather_of_labels() -> None:
    source = np.array([[2**31 - 1], [-(2**31)], [7], [0]], np.int32)
    rows = apply("gather", 3, "int32", out=np.full((3, 1), -1, np.int32), source=source,
                 order=np.array([1, 0, 0, 3]))  # fmt: skip
    np.testing.assert_array_equal(rows["out"].ravel(), [-(2**31), 2**31 - 1, 2**31 - 1])


# Dense


# Depths of more than one and more than two passes of 512; heights from which B is packed (192).
DEEP = [
    ("dense_forward", {"N": 200, "I": 1300, "O": 70}),
    ("dense_forward", {"N": 193, "I": 513, "O": 33}),
    ("dense_forward", {"N": 5, "I": 1025, "O": 129}),
    ("dense_backward_input", {"N": 200, "I": 67, "O": 1300}),
    ("dense_backward_input", {"N": 3, "I": 130, "O": 521}),
    ("dense_backward_kernel", {"N": 1100, "I": 195, "O": 66}),
    ("dense_backward_kernel", {"N": 515, "I": 7, "O": 31}),
]


@of_both_types
@pytest.mark.parametrize(("name", "sizes"), DEEP)
def test_deep_products(name: str, sizes: dict[str, int], dtype: str) -> None:
    example = CASES[name](Draw(name, dtype, 3, dict(sizes)))
    check(example)
    assert_same_bits(run(example), run(example, team=3))
    assert_same_bits(run(example), run(example, team=5))


@of_both_types
@given(st.sampled_from([1, 2, 5, 9, 191]), WIDTHS, st.sampled_from([1, 31, 200, 513, 600]), SEEDS)
@settings(max_examples=15)
def test_dense_forward_is_the_same_in_any_batch(
    dtype: str, part: int, units: int, depth: int, seed: int
) -> None:
    example = dense_forward(Draw("dense_forward", dtype, seed, {"N": 300, "I": depth, "O": units}))
    alone = example.replace(x=example.inputs["x"][:part])
    alone.rows = part
    assert_same_bits({"y": run(example)["y"][:part]}, run(alone))


def test_dense_layer_by_central_differences() -> None:
    rng = np.random.default_rng(6)
    x, w, b, dy = (rng.normal(size=shape) for shape in ((5, 4), (4, 3), (3,), (5, 3)))

    def weighted(x: Array, w: Array, b: Array) -> float:
        y = apply("dense_forward", 5, y=np.empty((5, 3)), x=x, w=w, b=b)["y"]
        return float((dy * y).sum())

    dx = apply("dense_backward_input", 5, dx=np.empty((5, 4)), dy=dy, w=w)["dx"]
    back = apply("dense_backward_kernel", 5, dw=np.empty((4, 3)), db=np.empty(3), x=x, dy=dy)
    assert_is_gradient(dx, lambda v: weighted(v, w, b), x)
    assert_is_gradient(back["dw"], lambda v: weighted(x, v, b), w)
    assert_is_gradient(back["db"], lambda v: weighted(x, w, v), b)


# Activations


@pytest.mark.parametrize("activation", [a for a in (*ACTIVATIONS, *ROWWISE) if a != "step"])
@pytest.mark.parametrize("shape", [(5, 4), (2, 19)])
def test_activation_by_central_differences(activation: str, shape: tuple[int, int]) -> None:
    x, dy = np.random.default_rng(7).normal(size=(2, *shape))
    rowwise = activation in ROWWISE
    for scalars in [{}] if rowwise else activation_cases.parameters_of(activation):

        def forward(x: Array, scalars: dict[str, float] = scalars) -> Array:
            y = apply(f"{activation}_forward", len(x), y=np.empty(shape), x=x, **scalars)["y"]
            return np.asarray(y)

        kept = {"y": forward(x), "x": x}
        of = "y" if rowwise else ELEMENTWISE[activation].of
        backward = apply(
            f"{activation}_backward", len(x), dx=np.empty(shape), dy=dy, **{of: kept[of]}, **scalars
        )
        assert_is_gradient(backward["dx"], lambda v: float((dy * forward(v)).sum()), x)


@of_both_types
@pytest.mark.parametrize("name", [n for n in CASES if n.rpartition("_")[0] in ACTIVATIONS])
def test_an_element_depends_on_no_other(name: str, dtype: str) -> None:
    # Whether it falls into a loop's vector body or its tail.
    example = CASES[name](Draw(name, dtype, 8, {"N": 1, "F": 131}))
    whole, expected = run(example), example.expected()
    begins = [slice(begin, None) for begin in (*range(0, 66, 3), 130)]
    for part in (*begins, *(slice(end) for end in (1, 2, 7, 8, 15, 16, 31, 64, 65))):
        cut = example.replace(**{k: v[:, part].copy() for k, v in example.inputs.items()})
        cut.oracle = lambda o, part=part: {k: v[:, part] for k, v in expected.items()}
        assert_same_bits({k: v[:, part] for k, v in whole.items()}, run(cut))


@of_both_types
@pytest.mark.parametrize("activation", ROWWISE)
def test_activation_of_extremes(activation: str, dtype: str) -> None:
    largest = np.finfo(dtype).max
    x = np.array([[1e4, -1e4, 0.0, -0.0, 88.0, -88.0, 1.0, -largest, largest / 2]], dtype)
    y = apply(f"{activation}_forward", 1, dtype, y=np.empty_like(x), x=x)["y"]
    with np.errstate(all="ignore"):
        expected = getattr(reference, f"{activation}_forward")(x).astype(dtype)
        assert_close(y, expected, dtype)


# Dropout


@of_both_types
@given(
    st.tuples(st.integers(1, 40), WIDTHS),
    st.one_of(st.sampled_from([0.0, 0.1, 0.5, 1.0 - 2.0**-20]), st.floats(0.0, 0.99)),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.one_of(st.integers(0, 100), st.integers(0, 2**63 - 1)),
)
@settings(max_examples=60)
def test_dropout_mask_is_the_oracles_bit_by_bit(
    dtype: str, shape: tuple[int, int], rate: float, seed: int, stream: int, step: int
) -> None:
    state = cpu.new_state(seed)
    state[s.STEP] = step
    mask = np.full(shape, np.nan, dtype)
    tape = Eager(shape[0], dtype, state)
    tape.op("dropout", y=mask, x=np.ones(shape, dtype), rate=rate, stream=stream)
    expected = reference.dropout_mask(shape, rate, seed, stream, step).astype(dtype)
    assert_same_bits({"mask": mask}, {"mask": expected})


# Losses


@pytest.mark.parametrize("without", ["", "weights"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("columns", [1, 3, 17])
def test_loss_by_central_differences(name: str, columns: int, without: str) -> None:
    example = LOSSES[name](Draw(name, "float64", 9, {"N": 4, "C": columns}, without))

    def mean(z: Array) -> float:
        return float(run(example.replace(z=z))["loss"].mean())

    if name.startswith("categorical"):  # keep clear of the clip, where the loss has a kink
        example = example.replace(z=0.05 + 0.9 * example.inputs["z"])
    assert_is_gradient(run(example)["dz"], mean, example.inputs["z"])


@of_both_types
@pytest.mark.parametrize("name", ["softmax_crossentropy", "softmax_crossentropy_soft",
                                  "sigmoid_binary_crossentropy"])  # fmt: skip
@pytest.mark.parametrize("columns", [2, 5, 40])
def test_fused_loss_of_extreme_logits(name: str, columns: int, dtype: str) -> None:
    draw = Draw(name, dtype, 10, {"N": 30, "C": columns})
    z = draw.rng.choice([1e4, -1e4, 0.0, 1.0, -100.0, 100.0], draw.shape("NC")).astype(dtype)
    example = LOSSES[name](draw).replace(z=z)
    if name == "sigmoid_binary_crossentropy":
        example = example.replace(targets=zeros_and_ones(draw))
    results = run(example)
    assert np.isfinite(results["loss"]).all()
    assert np.isfinite(results["dz"]).all()
    check(example)


@of_both_types
@pytest.mark.parametrize("columns", [2, 10, 40])
def test_logit_of_minus_infinity_masks_its_class(columns: int, dtype: str) -> None:
    draw = Draw("softmax_crossentropy", dtype, 11, {"N": 20, "C": columns})
    example = LOSSES["softmax_crossentropy"](draw)
    masked = draw.rng.random(draw.shape("NC")) < 0.5
    masked[np.arange(20), example.inputs["labels"]] = False
    z = np.where(masked, -np.inf, example.inputs["z"]).astype(dtype)
    example = example.replace(z=z)
    results = run(example)
    assert np.isfinite(results["loss"]).all()
    assert (results["dz"][masked] == 0.0).all()
    check(example)


@of_both_types
def test_a_masked_label_costs_infinity(dtype: str) -> None:
    out = apply("softmax_crossentropy", 1, dtype, loss=np.empty(1, dtype),
                dz=np.empty((1, 2), dtype), z=np.array([[-np.inf, 0.0]], dtype),
                labels=np.zeros(1, np.int32))  # fmt: skip
    assert out["loss"][0] == np.inf
    np.testing.assert_array_equal(out["dz"], [[-1.0, 1.0]])


@of_both_types
@pytest.mark.parametrize("name", ["categorical_crossentropy", "categorical_crossentropy_soft",
                                  "binary_crossentropy"])  # fmt: skip
def test_loss_of_probabilities_is_clipped(name: str, dtype: str) -> None:
    # Certain and wrong, certain and right, and just inside and outside the clip of 1e-7.
    p = np.array([0.0, 1e-30, 0.9e-7, 1.1e-7, 1e-3, 0.5, 1.0 - 1e-6, 1.0 - 2.0**-24, 1.0], dtype)
    z = np.stack([p, p[::-1], p], axis=1)
    draw = Draw(name, dtype, 12, {"N": len(p), "C": 3})
    example = LOSSES[name](draw).replace(z=z)
    if "targets" in example.inputs:
        for targets in (np.zeros_like(z), np.ones_like(z), draw.uniform("NC")):
            check(example.replace(targets=targets))
    else:
        for label in range(3):
            check(example.replace(labels=np.full(len(p), label, np.int32)))


# Sums


def test_accumulate_sums_in_float64() -> None:
    values = np.full(1_000_003, 0.1, np.float32)
    state = cpu.new_state()
    Eager(len(values), "float32", state).op("accumulate", values=values, slot=s.LOSS_SUM, guard=1)
    expected = len(values) * float(np.float32(0.1))
    assert abs(cpu.floats(state)[s.LOSS_SUM] - expected) <= 1e-9 * expected


@of_both_types
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_guarded_sum_stops_at_what_is_not_finite(bad: float, dtype: str) -> None:
    values = np.array([1.0, bad, 3.0], dtype)
    for guard in (0, 1):
        state = cpu.new_state()
        cpu.floats(state)[s.LOSS_SUM] = 2.0
        tape = Eager(3, dtype, state)
        tape.op("accumulate", values=values, slot=s.LOSS_SUM, guard=guard)
        assert tape.stopped == bool(guard)
        expected = 2.0 if guard else 6.0 + bad
        np.testing.assert_array_equal(cpu.floats(state)[s.LOSS_SUM], expected)


# Optimizers


@of_both_types
@pytest.mark.parametrize("team", [1, 3])
@pytest.mark.parametrize("length", [1, 67, 200])
def test_guard_knows_every_bad_gradient(dtype: str, team: int, length: int) -> None:
    # The largest number with a finite square stands everywhere: no sum of squares is looked at.
    largest = np.sqrt(np.finfo(dtype).max).astype(dtype)
    g = np.where(np.arange(length) % 2, largest, -largest).astype(dtype)
    assert reference.guard(g)
    assert not run_as_team("guard", {"g": g}, cpu.new_state(), 0, team)
    for bad in (np.nan, np.inf, -np.inf, 1.001 * largest, -np.finfo(dtype).max):
        for place in range(length):
            ill = g.copy()
            ill[place] = bad
            assert not reference.guard(ill)
            assert run_as_team("guard", {"g": ill}, cpu.new_state(), 0, team), (bad, place)


@of_both_types
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("nesterov", [0, 1])
@pytest.mark.parametrize("velocity", [True, False])
def test_sgd_step_by_step(momentum: float, nesterov: int, velocity: bool, dtype: str) -> None:
    if not velocity:
        momentum = 0.0
    rng, rate = np.random.default_rng(13), 0.03
    w, v = np.zeros(131, dtype), np.zeros(131, dtype)
    expected, expected_v = np.zeros(131), np.zeros(131)
    state = cpu.new_state()
    cpu.floats(state)[s.LEARNING_RATE] = rate
    tape = Eager(0, dtype, state)
    for _ in range(10):
        g = rng.normal(size=131).astype(dtype)
        tape.op("sgd", w=w, g=g, velocity=v if velocity else None, momentum=momentum,
                nesterov=nesterov, multiplier=1.0)  # fmt: skip
        expected, expected_v = reference.sgd(
            expected, g, expected_v, rate, momentum, bool(nesterov)
        )
        # In units of a step, and rounding adds up over the steps.
        assert_close(w / np.dtype(dtype).type(rate), expected / rate, dtype, 10.0)
    if velocity:
        assert_close(v / np.dtype(dtype).type(rate), expected_v / rate, dtype, 10.0)
    assert not tape.stopped


@of_both_types
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.8), (0.0, 0.0)])
@pytest.mark.parametrize("epsilon", [1e-8, 1e-7, 1e-2])
def test_adam_step_by_step(betas: tuple[float, float], epsilon: float, dtype: str) -> None:
    rng, rate = np.random.default_rng(14), 0.03
    w, m, v = np.zeros((3, 131), dtype)
    expected, expected_m, expected_v = np.zeros((3, 131))
    state = cpu.new_state()
    cpu.floats(state)[s.LEARNING_RATE] = rate
    tape = Eager(0, dtype, state)
    for t in range(1, 13):
        # Every third gradient is small enough for epsilon's place to show.
        g = (rng.normal(size=131) * (1e-6 if t % 3 == 0 else 1.0)).astype(dtype)
        state[s.STEP] = t - 1
        tape.op("adam_rates", beta_1=betas[0], beta_2=betas[1])
        tape.op("adam", w=w, g=g, m=m, v=v, beta_1=betas[0], beta_2=betas[1], epsilon=epsilon,
                multiplier=1.0)  # fmt: skip
        expected, expected_m, expected_v = reference.adam(
            expected, g, expected_m, expected_v, t, rate, *betas, epsilon
        )
        assert_close(w / np.dtype(dtype).type(rate), expected / rate, dtype, 10.0)
        assert_close(m, expected_m, dtype, 10.0)
        unit = 1.0 - betas[1]
        assert_close(v.astype(np.float64) / unit, expected_v / unit, dtype)
    assert not tape.stopped


@of_both_types
def test_adams_means_shrink_to_nothing(dtype: str) -> None:
    """Numbers below the smallest normal one are slow to compute with, and never become 0."""
    smallest = np.finfo(dtype).smallest_normal
    m = np.array([4 * smallest, -4 * smallest, smallest, 0, 1], dtype)
    v = np.array([4 * smallest, 0, smallest, smallest / 2, 1], dtype)
    w, g = np.ones(5, dtype), np.zeros(5, dtype)
    state = cpu.new_state()
    cpu.floats(state)[[s.UPDATE_RATE, s.UPDATE_CORRECTION]] = 0.1, 1.0
    tape = Eager(0, dtype, state)
    for _ in range(40):
        tape.op("adam", w=w, g=g, m=m, v=v, beta_1=0.9, beta_2=0.9, epsilon=1e-8,
                multiplier=1.0)  # fmt: skip
        for mean in (m, v):
            assert ((mean == 0) | (abs(mean) >= smallest)).all()
    assert (m[:4] == 0).all()
    assert (v[:4] == 0).all()
    assert_close(np.array([m[4], v[4]]), np.full(2, 0.9**40), dtype, 10.0)
    # Kept as long as it is normal, from either side.
    m, v = np.full((2, 2), smallest, dtype)
    tape.op("adam", w=w[:2], g=np.array([smallest, -smallest], dtype), m=m, v=v, beta_1=0.0,
            beta_2=0.0, epsilon=1e-8, multiplier=1.0)  # fmt: skip
    np.testing.assert_array_equal(m, [smallest, -smallest])
    np.testing.assert_array_equal(v, [0, 0])


BAD_GRADIENTS = [np.nan, np.inf, -np.inf]


@of_both_types
@pytest.mark.parametrize("team", [0, 3])
@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (name, bad)
        for name in ("sgd", "sgd plain", "adam", *UPDATE_CASES)
        for bad in (*BAD_GRADIENTS, "overflow")
        # These two look at a gradient's size, not its square, and step no further for it.
        if bad != "overflow" or name not in ("adamax", "lion")
    ],
)
def test_update_that_is_not_finite_is_left_out(
    bad: float | str, name: str, team: int, dtype: str
) -> None:
    # "overflow": finite, but its square, or its product with the learning rate, is not.
    name, _, plain = name.partition(" ")
    example = CASES[name](Draw(name, dtype, 15, {"N": 1, "P": 200}, "velocity" if plain else ""))
    if bad == "overflow":
        example.floats[s.LEARNING_RATE] = 10.0
    before = {k: v for k, v in example.inputs.items() if v is not None}
    well = {k: v.copy() for k, v in before.items()}
    ill = {k: v.copy() for k, v in before.items()}
    places = [0, 15, 64, 100, 199]
    ill["g"][places] = np.finfo(dtype).max / 2 if bad == "overflow" else bad
    flags = []
    for operands in (well, ill):
        state = example.state()
        if team:
            flag = run_as_team(name, {**operands, **example.scalars}, state, 0, team)
        else:
            tape = Eager(0, dtype, state)
            tape.op(name, **operands, **example.scalars)
            flag = tape.stopped
        flags.append(flag)
    assert flags == [False, True]
    for operand in example.outputs:
        assert np.isfinite(ill[operand]).all(), f"{operand} is no longer finite"
        np.testing.assert_array_equal(ill[operand][places], before[operand][places])
        others = np.setdiff1d(np.arange(200), places)
        np.testing.assert_array_equal(ill[operand][others], well[operand][others])
