"""Which way steps of training go on a GPU, and what `summary` says of it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import fastnn
from fastnn.engine.cuda import many_steps, simulated
from fastnn.engine.cuda.device import Launched
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels.cuda import cooperative, persistent

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

LABELS = "sparse_categorical_crossentropy"


def network(inputs: int, *widths: int, loss: str = LABELS, **more: Any) -> fastnn.Sequential:
    last = "softmax" if loss == LABELS else "linear"
    layers = [fastnn.Dense(n, "relu") for n in widths[:-1]] + [fastnn.Dense(widths[-1], last)]
    model = fastnn.Sequential(layers, input_shape=(inputs,), seed=0, device="cuda", **more)
    model.compile(optimizer="adam", loss=loss)
    return model


def said(model: fastnn.Sequential) -> list[str]:
    """What `summary` says after the layers."""
    lines: list[str] = []
    model.summary(lines.append)
    heads = [i for i, line in enumerate(lines) if line.startswith("steps of training on simulator")]
    return [line.strip() for line in lines[heads[0] + 1 :]] if heads else []


BLOCK = "one block does many steps in one launch"
GRID = "a grid of blocks does many steps in one launch; not one block: "
GRAPH = "a graph of kernels for each step; not one launch for many: "
ROUNDED = f"{GRAPH}precision bf16; not two kernels: "
TWO = "two kernels on tensor cores, and the optimizer's, for each step"
MORE_ROWS = f"from 1,025: {GRAPH}batches of more than 1,024 rows"


@pytest.mark.parametrize(
    ("model", "ways"),
    [
        (
            lambda: network(20, 10, 2),
            [
                f"1 to 128: {BLOCK}: few units, few rows",
                f"129 to 1,024: {GRID}batches of more than 128 rows",
                MORE_ROWS,
            ],
        ),
        (  # 15,232 multiply-adds a row: all products but the gradient of the first layer's input
            lambda: network(20, 64, 64, 2),
            [
                f"1 to 68: {BLOCK}: few units, few rows",
                f"69 to 1,024: {GRID}more than 1,048,576 multiply-adds a step",
                MORE_ROWS,
            ],
        ),
        (
            lambda: network(784, 128, 10),
            [f"1 to 1,024: {GRID}layers of more than 64 units", MORE_ROWS],
        ),
        (
            lambda: network(785, 10),
            [f"1 to 1,024: {GRID}more than 784 inputs", MORE_ROWS],
        ),
        (lambda: network(1025, 10), [f"from 1: {GRAPH}more than 1,024 inputs"]),
        (lambda: network(9, 257, 2), [f"from 1: {GRAPH}layers of more than 256 units"]),
        (
            lambda: network(9, 128, 2, precision="bf16"),
            [
                f"1 to 4,095: {ROUNDED}batches of fewer than 4,096 rows",
                f"from 4,096: {TWO}: few units, many rows",
            ],
        ),
        (
            lambda: network(9, 129, 2, precision="bf16"),
            [f"from 1: {ROUNDED}layers of more than 128 units or inputs"],
        ),
        (
            lambda: network(9, *[128] * 6, 2, precision="bf16"),
            [f"from 1: {ROUNDED}weights and a tile of more than 227 KB of shared memory"],
        ),
        (
            lambda: network(9, 2, loss="cosine_similarity", precision="bf16"),
            [
                f"from 1: {ROUNDED}other ops than of dense layers, one after the other, and of "
                "their loss"
            ],
        ),
        (lambda: network(9, 2, dtype="float64"), [f"from 1: {GRAPH}dtype float64"]),
        (
            lambda: network(9, 2, loss="cosine_similarity"),
            [f"from 1: {GRAPH}the op cosine_similarity"],
        ),
    ],
)
def test_summary_says_which_way_and_why(
    model: Any, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimulatedDevice, "grid", (132, 256))
    assert said(model()) == ways


def test_the_library_s_products_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedDevice, "grid", (132, 256))
    model = network(256, 256, 2)
    monkeypatch.setattr(model._mirror.device, "library", object())
    assert said(model) == [
        f"1 to 255: {GRID}layers of more than 64 units",
        "from 256: a graph of cuBLASLt's products and of kernels for each step: products of 256 "
        "and more in rows, inputs and units",
    ]


def test_without_such_grids_there_is_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedDevice, "grid", (0, 256))
    (line,) = said(network(9, 128, 2))
    assert line == f"from 1: {GRAPH}a GPU that does not run all blocks of a grid at once"


def test_nothing_is_said_where_nothing_is_trained_by_steps() -> None:
    model = network(9, 2)
    assert said(model)
    assert not said(model.to("cpu"))
    model.to("cuda").compile(optimizer=fastnn.LBFGS(), loss=LABELS)
    assert not said(model)


@pytest.mark.parametrize(
    ("rows", "kernel"), [(4, persistent.NAME), (5, cooperative.NAME), (7, "next_step")]
)
def test_fit_goes_the_way_that_was_said(
    rows: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("ONE_BLOCK", 4), ("GRID", 6)):
        limits = getattr(many_steps, name)._replace(rows=most)
        monkeypatch.setattr(many_steps, name, limits)
    launched: list[str] = []
    run = simulated.run_kernel

    def noted(one: Launched) -> None:
        launched.append(one.key[0])
        run(one)

    monkeypatch.setattr(simulated, "run_kernel", noted)
    model = network(2, 3)
    assert [line.split(":")[0] for line in said(model)] == ["1 to 4", "5 to 6", "from 7"]
    x = np.zeros((rows, 2), np.float32)
    model.fit(x, np.zeros(rows, int), batch_size=rows, verbose=0)
    assert launched[-1] == kernel
