"""Many steps in one launch of several blocks that run at once: against the CPU's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import fastnn
from cuda_cases import note_launches
from fastnn.engine.cuda import many_steps
from fastnn.engine.cuda.device import Launched
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels.cuda import cooperative
from fastnn.kernels.cuda.cooperative import Access, Op, meetings_before
from fastnn.kernels.cuda.parts import Part
from kernel_cases import CASES, Draw

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

CLASSES: dict[str, Any] = {
    "loss": "sparse_categorical_crossentropy",
    "metrics": ["accuracy"],
}
ONE_HOT = CLASSES | {"loss": "categorical_crossentropy"}
YES_OR_NO = CLASSES | {"loss": "binary_crossentropy"}
NUMBERS: dict[str, Any] = {"loss": "mse"}

LAST = {
    "sparse_categorical_crossentropy": "softmax",
    "categorical_crossentropy": "softmax",
    "binary_crossentropy": "sigmoid",
    "mse": "linear",
}


@pytest.fixture(autouse=True)
def no_network_is_one_block_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator affords small networks alone: let those be a grid's, too."""
    monkeypatch.setattr(many_steps, "ONE_BLOCK", many_steps.ONE_BLOCK._replace(rows=0))


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Launched]:
    """All that is launched."""
    seen: list[Launched] = []
    note_launches(monkeypatch, seen.append)
    return seen


def grid_of(blocks: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedDevice, "grid", (blocks, threads))


def network(device: str, widths: tuple[int, ...], how: dict[str, Any], **more: Any) -> Any:
    """An untrained network of 3 inputs, whose last activation is its loss's."""
    last = LAST[how["loss"]]
    layers = [fastnn.Dense(n, "relu" if n % 2 else "tanh") for n in widths[:-1]]
    layers.append(fastnn.Dense(widths[-1], last))
    model = fastnn.Sequential(layers, input_shape=(3,), seed=1, device=device)
    model.compile(**{"optimizer": "adam"} | how | more)
    return model


def data(rows: int, outputs: int, how: dict[str, Any]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    if how is CLASSES:
        return x, rng.integers(0, outputs, rows)
    if how is ONE_HOT:
        return x, np.eye(outputs)[rng.integers(0, outputs, rows)]
    if how is YES_OR_NO:
        return x, rng.integers(0, 2, (rows, outputs))
    return x, rng.normal(size=(rows, outputs)).astype(np.float32)


@pytest.mark.parametrize(
    ("widths", "rows", "batch", "how"),
    [
        ((9, 20, 3), 37, 17, CLASSES),
        ((4, 2), 7, 4, NUMBERS),
        ((4, 3), 7, 4, ONE_HOT),
        ((4, 2), 7, 4, YES_OR_NO),
    ],
)
def test_steps_of_several_blocks_follow_the_cpu(
    widths: tuple[int, ...],
    rows: int,
    batch: int,
    how: dict[str, Any],
    launched: list[Launched],
) -> None:
    """The last batch has fewer rows, and the learning rate falls with each step."""
    rate = fastnn.schedules.InverseTimeDecay(0.01, 1, 0.1)
    one, other = (
        network(device, widths, how, optimizer=fastnn.Adam(rate)) for device in ("cuda", "cpu")
    )
    x, y = data(rows, widths[-1], how)
    weights = np.linspace(0.5, 1.5, rows)
    histories = [
        model.fit(x, y, batch_size=batch, epochs=2, sample_weight=weights, verbose=0).history
        for model in (one, other)
    ]
    assert [work.key[0] for work in launched] == [cooperative.NAME] * 2
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=1e-5)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-5, atol=1e-6)


def test_a_hundred_steps_follow_the_cpu(
    monkeypatch: pytest.MonkeyPatch, launched: list[Launched]
) -> None:
    grid_of(2, 32, monkeypatch)
    one, other = (network(device, (4, 2), CLASSES) for device in ("cuda", "cpu"))
    x, y = data(100 * 2, 2, CLASSES)
    for model in (one, other):
        model.fit(x, y, batch_size=2, verbose=0)
    assert {(work.key[0], work.launch.blocks) for work in launched} == {(cooperative.NAME, (2, 1))}
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=0, atol=1e-4)


def test_any_number_of_blocks_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, launched: list[Launched]
) -> None:
    x, y = data(36, 3, CLASSES)
    trained = []
    for blocks in (1, 2, 3):
        grid_of(blocks, 32, monkeypatch)
        trained.append(network("cuda", (18, 3), CLASSES))
        trained[-1].fit(x, y, batch_size=18, verbose=0)
    assert [work.launch.blocks[0] for work in launched] == [1, 2, 3]
    for other in trained[1:]:
        np.testing.assert_array_equal(trained[0].parameters, other.parameters)


def test_blocks_as_large_as_on_a_gpu_follow_the_cpu(
    monkeypatch: pytest.MonkeyPatch, launched: list[Launched]
) -> None:
    grid_of(2, cooperative.TILES[0].threads, monkeypatch)
    x, y = data(18, 3, CLASSES)
    one, other = (network(device, (33, 3), CLASSES) for device in ("cuda", "cpu"))
    for model in (one, other):
        model.fit(x, y, batch_size=18, verbose=0)
    assert [work.launch.blocks[0] for work in launched] == [2]
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("large", "target", "what"), [(1e30, 0.0, "the loss"), (50.0, 9e18, "a gradient")]
)
def test_what_is_not_finite_changes_nothing(
    large: float, target: float, what: str, launched: list[Launched]
) -> None:
    """Of three steps the second fails: parameters are those after the first."""
    x, y = data(12, 2, NUMBERS)
    one, other = (network("cuda", (5, 2), NUMBERS) for _ in range(2))
    other.fit(x[:4], y[:4], batch_size=4, shuffle=False, verbose=0)
    x[5], y[5] = large, target
    with pytest.raises(fastnn.DivergenceError, match=f"{what} became .* at step 1"):
        one.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert {work.key[0] for work in launched} == {cooperative.NAME}
    np.testing.assert_array_equal(one.parameters, other.parameters)


def test_a_batch_with_more_rows_than_threads_takes_the_graph(launched: list[Launched]) -> None:
    x, y = data(97, 2, CLASSES)
    network("cuda", (2,), CLASSES).fit(x, y, batch_size=97, verbose=0)
    assert "next_step" in {work.key[0] for work in launched}


# When blocks meet


def op(name: str, *accesses: Access, **more: Any) -> Op:
    given: dict[str, Any] = {"scalars": False, "flags": False, "update": False} | more
    return Op(Part(name, ("float32",)), accesses, **given)


def reads(begin: int, end: int) -> Access:
    return Access(begin, end, False)


def writes(begin: int, end: int) -> Access:
    return Access(begin, end, True)


@pytest.mark.parametrize(
    ("first", "second", "meetings"),
    [
        (op("add", writes(0, 4)), op("add", reads(3, 5)), 1),  # read after written
        (op("add", reads(3, 5)), op("add", writes(0, 4)), 1),  # written after read
        (op("add", writes(0, 4)), op("add", writes(0, 4)), 1),
        (op("add", reads(0, 4)), op("add", reads(0, 4)), 0),
        (op("add", writes(0, 4)), op("add", reads(4, 8)), 0),
        # A flag must not be raised while others decide by it, nor the update begin before.
        (op("guard", flags=True), op("guard", flags=True), 1),
        (op("guard", flags=True), op("sgd", update=True), 1),
        (op("guard", flags=True), op("add", reads(0, 4)), 0),
        (op("adam_rates", scalars=True), op("adam", scalars=True), 1),
        # Of the same thread, or of the threads that have the same row.
        (op("accumulate", flags=True), op("accumulate", flags=True), 0),
        (op("softmax_crossentropy", reads(0, 4)), op("categorical_accuracy", writes(0, 4)), 0),
        (op("softmax_crossentropy", reads(0, 4)), op("categorical_accuracy", writes(0, 5)), 1),
    ],
)
def test_blocks_meet_where_an_op_waits_for_another(first: Op, second: Op, meetings: int) -> None:
    assert meetings_before([first, second]) == [0, meetings]


def test_an_op_comes_as_early_as_it_may() -> None:
    ops = [
        op("gather", writes(0, 1)),
        op("add", reads(0, 1), writes(1, 2)),
        op("gather", writes(5, 6)),
        op("add", reads(1, 2), reads(5, 6), writes(7, 8)),
    ]
    assert meetings_before(ops) == [0, 1, 0, 2]


@pytest.mark.parametrize("name", cooperative.WRITTEN)
def test_what_ops_write_is_what_the_oracle_says(name: str) -> None:
    example = CASES[name](Draw(name, "float32", 0, dict.fromkeys("NFIOCP", 3)))
    arrays = set(example.expected()) - set(example.written_floats)
    assert arrays <= set(cooperative.WRITTEN[name])
