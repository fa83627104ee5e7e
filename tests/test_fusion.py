"""Ops put together on trial: a fused program's bits are those of the ops one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn
from fastnn.engine import cpu, fusion, shapes
from fastnn.kernels import state as s
from fusion_cases import (
    ALL_OPTIMIZERS,
    MORE_OPTIMIZERS,
    Hidden,
    Net,
    Trial,
    assert_same_vectors,
    slices_are_tiny,
    small_kernels_fuse,
)

EDGES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 192)
WIDTHS = st.one_of(st.sampled_from((*EDGES, 257, 513, 700)), st.integers(1, 130))
ROWS = st.one_of(st.sampled_from((*EDGES, 513, 600)), st.integers(1, 200))
HIDDEN = st.builds(
    Hidden,
    WIDTHS,
    st.sampled_from([None, "relu", "sigmoid", "tanh", "softmax"]),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 0.3]),
)


@st.composite
def nets(draw: st.DrawFn, rows: st.SearchStrategy[int] = ROWS) -> Net:
    """Nets of one to four layers, rows for one to four steps, the last of them often short."""
    hidden = draw(st.lists(HIDDEN, max_size=3))
    loss = draw(st.sampled_from(["mse", "categorical_crossentropy"]))
    activations = [None, "tanh"] if loss == "mse" else ["softmax"]
    last = Hidden(draw(WIDTHS), draw(st.sampled_from(activations)), draw(st.booleans()))
    batch = draw(rows)
    return Net(
        draw(WIDTHS),
        (*hidden, last),
        loss,
        draw(st.sampled_from(list(ALL_OPTIMIZERS))),
        draw(st.sampled_from(["float32", "float64"])),
        rows=batch + draw(st.integers(0, 3 * batch)),
        batch=batch,
        seed=draw(st.integers(0, 2**32)),
    )


# Dimensions beyond what one block takes: in depth (512), in columns (64 to 1024), in packed rows.
LARGE = [
    Net(70, (Hidden(530, "relu", True, 0.3), Hidden(67, "tanh"), Hidden(9)), "mse", "adam",
        rows=1500, batch=1100),
    Net(700, (Hidden(193, "tanh", False), Hidden(10, "softmax")), "categorical_crossentropy",
        "nesterov", rows=600, batch=600),
    Net(65, (Hidden(600, "sigmoid", True, 0.5), Hidden(3)), "mse", "momentum", "float64",
        rows=1300, batch=1050),
    Net(514, (Hidden(257, None, True, 0.5), Hidden(129, "relu")), "mse", "adam", "float64",
        rows=300, batch=200),
    Net(3, (Hidden(1100, "relu", True, 0.1), Hidden(2)), "mse", "sgd", rows=900, batch=700),
]  # fmt: skip


@pytest.fixture(autouse=True)
def every_update_fuses(monkeypatch: pytest.MonkeyPatch) -> None:
    small_kernels_fuse(monkeypatch)


# The same bits


@given(nets(), st.sampled_from([0, 0, 1, 2, 3]))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fused_program_is_the_program_is_eager_execution(net: Net, threads: int) -> None:
    eager = Trial(net).train_eagerly(epochs=2)
    Trial(net).train(fused=False, epochs=2).assert_same_as(eager)
    Trial(net).train(fused=True, epochs=2, threads=threads).assert_same_as(eager)


@pytest.mark.parametrize("net", LARGE, ids=lambda net: f"{net.inputs}-{net.dtype}")
def test_partial_sums_of_a_discarded_gradient(net: Net) -> None:
    unfused = Trial(net).train(fused=False)
    for threads in (0, 3):
        Trial(net).train(fused=True, threads=threads).assert_same_as(unfused)


@pytest.mark.parametrize("activation", ["relu", "tanh", None])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_views_between_ops(activation: str | None, dropout: float) -> None:
    hidden = (Hidden(n, activation, True, dropout, flattened=True) for n in (30, 70))
    net = Net(7, (*hidden, Hidden(3)))
    expected = ["dense_forward"] * 3
    if activation:
        finish = "relu" if activation == "relu" else f"{activation}_forward"
        expected = [f"dense_forward+{finish}"] * 2 + ["dense_forward"]
    elif dropout:
        expected = ["dense_forward+dropout"] * 2 + ["dense_forward"]
    forward = (name.removeprefix("gather+") for name in names(net))
    assert [name for name in forward if name.startswith("dense_forward")] == expected
    eager = Trial(net).train_eagerly(epochs=2)
    for threads in (0, 2):
        Trial(net).train(fused=True, epochs=2, threads=threads).assert_same_as(eager)


@pytest.mark.parametrize("optimizer", ALL_OPTIMIZERS)
@pytest.mark.parametrize("threads", [1, 2])
def test_fit_is_the_same_fused(
    optimizer: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "TEAM_COST", 0)
    net = Net(20, (Hidden(67, "relu", True, 0.3), Hidden(6, "softmax")),
              "categorical_crossentropy", optimizer, rows=100, batch=32)  # fmt: skip
    results = []
    fastnn.set_num_threads(threads)
    try:
        for least in (10**12, 1):
            monkeypatch.setattr(shapes, "UPDATE_BYTES", least)
            trial = Trial(net)
            model, (x, y, *_) = trial.model, trial.sources
            history = model.fit(x, y, epochs=3, batch_size=32, validation_split=0.2, verbose=0)
            history.history["one batch"] = model.train_on_batch(x[:50], y[:50])
            results.append((history.history, trial.vectors(), model.predict(x).tobytes()))
    finally:
        fastnn.set_num_threads(None)
    (history, vectors, predicted), (fused_history, fused_vectors, fused_predicted) = results
    assert fused_history == history
    assert_same_vectors(fused_vectors, vectors)
    assert fused_predicted == predicted


@given(nets(st.integers(1, 40)), st.sampled_from([0, 1, 2, 3]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fused_program_in_tiny_slices(net: Net, threads: int) -> None:
    whole = Trial(net).train(fused=False)
    with pytest.MonkeyPatch.context() as patch:
        slices_are_tiny(patch)
        left_at: list[int] = []
        sliced = Trial(net)
        sliced.train(
            fused=True,
            threads=threads,
            on_pause=lambda: left_at.append(int(sliced.state[s.POSITION])),
        )
    sliced.assert_same_as(whole)
    assert left_at
    assert (
        s.COMMIT not in sliced.code[left_at, s.CODE_PHASE][np.array(left_at) > first_commit(sliced)]
    )


def first_commit(trial: Trial) -> int:
    return int(np.flatnonzero(trial.code[:, s.CODE_PHASE] == s.COMMIT)[0])


# What is put together


def names(net: Net, fused: bool = True) -> list[str]:
    """The program's ops, each with its supply, a ReLU that it does itself and its finishes."""
    return [
        "+".join(
            [
                *([] if call.supply is None else [call.supply.signature.name]),
                call.signature.name,
                *(["relu"] if call.scalars.get("relu") else []),
                *(["gate"] if call.arrays.get("gate") is not None else []),
                *(finish.signature.name for finish in call.finish),
            ]
        )
        for call in Trial(net).program(fused).calls
    ]


NET = Net(9, (Hidden(8, "relu", True, 0.5), Hidden(7, "tanh"), Hidden(3)), optimizer="adam")


def test_step_is_put_together_in_order() -> None:
    assert names(NET) == [
        "gather",
        "gather+dense_forward+relu",
        "dropout",
        "dense_forward+tanh_forward",
        "dense_forward",
        "mean_squared_error",
        "accumulate",
        "dense_backward_input+tanh_backward",
        "dense_backward_input+dropout+relu_backward",
        *["guard_product"] * 3,
        "adam_rates",
        *["dense_backward_kernel+adam"] * 3,
        *["adam"] * 3,
    ]


def test_relu_is_done_by_the_product_itself() -> None:
    net = Net(9, (Hidden(8, "relu"), Hidden(7, "relu"), Hidden(3)), optimizer="momentum")
    found = names(net)
    assert found.count("dense_forward+relu") + found.count("gather+dense_forward+relu") == 2
    assert found.count("dense_backward_input+gate") == 2


def test_phases_come_one_after_the_other() -> None:
    calls = Trial(NET).program(fused=True).calls
    phases = [call.phase for call in calls]
    assert phases == sorted(phases)
    assert {call.signature.name for call in calls if call.phase == s.CHECK} == {"guard_product"}
    commits = [call for call in calls if call.phase == s.COMMIT]
    assert all(call.in_one_piece for call in commits)
    # Every parameter is changed once, by what comes last.
    changed = [c for call in commits for c in (*call.finish, call) if "w" in c.arrays]
    assert sum(call.arrays["w"].size for call in changed) == Trial(NET).flat.parameters.size
    for call in calls[: phases.index(s.COMMIT)]:
        assert call.signature.name not in ("adam", "sgd")


def test_update_is_fused_from_some_size_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # Parameters, gradients and velocities of the second layer's 8 · 7 weights in float32.
    net = Net(9, (Hidden(8), Hidden(7), Hidden(3)), optimizer="momentum")
    for threshold, fused in ((3 * 4 * 56, 2), (3 * 4 * 56 + 1, 1), (1 << 40, 0)):
        monkeypatch.setattr(shapes, "UPDATE_BYTES", threshold)
        assert names(net).count("dense_backward_kernel+sgd") == fused
        assert names(net).count("dense_backward_kernel") == 3 - fused
        Trial(net).train(fused=True).assert_same_as(Trial(net).train_eagerly())


def test_update_that_takes_long_is_not_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Trial(NET).program(fused=False).calls
    kernels = [call for call in calls if call.signature.name == "dense_backward_kernel"]
    update, last, middle = (c.cost(NET.batch) for c in (calls[-1], *kernels[:2]))
    for budget, fused in ((update, 0), (update + last, 1), (update + last + middle, 2)):
        monkeypatch.setattr(fusion, "COMMIT_COST", budget)
        assert names(NET).count("dense_backward_kernel+adam") == fused
        Trial(NET).train(fused=True).assert_same_as(Trial(NET).train_eagerly())


# The second layer has more parameters than one block of the norm's sum.
WIDE = (Hidden(67, "relu", True, 0.3), Hidden(130, "tanh"), Hidden(3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", MORE_OPTIMIZERS)
def test_every_optimizer_is_the_same_eager_compiled_and_fused(optimizer: str, dtype: str) -> None:
    net = Net(20, WIDE, "mse", optimizer, dtype, rows=30)
    eager = Trial(net).train_eagerly(epochs=2)
    Trial(net).train(fused=False, epochs=2).assert_same_as(eager)
    for threads in (0, 2, 3):
        Trial(net).train(fused=True, epochs=2, threads=threads).assert_same_as(eager)


@pytest.mark.parametrize("optimizer", MORE_OPTIMIZERS)
def test_gradients_that_are_clipped_are_computed_first(optimizer: str) -> None:
    made = Trial(Net(9, (Hidden(8, "relu"), Hidden(3)), optimizer=optimizer))
    own, op = made.model.optimizer, made.model.optimizer.op
    ops = names(made.net)
    clips = any(limit is not None for limit in (own.clipnorm, own.clipvalue, own.global_clipnorm))
    fused = ops.count(f"dense_backward_kernel+{op}")
    assert fused == (0 if clips else 2)
    assert ops.count("dense_backward_kernel") == 2 - fused
    assert ("guard" in ops) == (fused == 0)
    if clips:
        first_clip = min(ops.index(name) for name in ops if name.startswith(("clip", "sum")))
        assert ops.index("guard") < first_clip < ops.index(op)
    if own.weight_decay:
        assert ops.index("weight_decay") < next(i for i, n in enumerate(ops) if n.endswith(op))
    assert (ops[-1] == "weight_average") == own.use_ema
