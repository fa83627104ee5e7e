"""Training steps for trials of fusion: drawn nets, run eagerly, compiled and fused.

Whatever a step does not write itself holds NaN before every epoch: the arena, and the gradients of
the step before. So nothing that was left behind is computed from unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn import schedules
from fastnn.engine import arena, cpu, program, shapes
from fastnn.engine.program import Program
from fastnn.engine.tape import Tape
from fastnn.kernels import state as s
from fastnn.training import planner
from fastnn.training.loop import EagerPass

Array = NDArray[Any]

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: fastnn.SGD(0.05),
    "momentum": lambda: fastnn.SGD(0.02, momentum=0.9),
    "nesterov": lambda: fastnn.SGD(0.02, momentum=0.9, nesterov=True),
    "adam": lambda: fastnn.Adam(0.01),
}

# Every other update, each with something around it: decay, clipping, an average or a schedule.
MORE_OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "adagrad": lambda: fastnn.Adagrad(0.05, weight_decay=0.1),
    "rmsprop": lambda: fastnn.RMSprop(schedules.InvScaling(0.01)),
    "rmsprop full": lambda: fastnn.RMSprop(0.01, momentum=0.5, centered=True, clipvalue=0.01),
    "adadelta": lambda: fastnn.Adadelta(0.5, global_clipnorm=0.1, weight_decay=0.1),
    "amsgrad": lambda: fastnn.Adam(0.01, amsgrad=True, use_ema=True, ema_momentum=0.5),
    "adamw": lambda: fastnn.AdamW(schedules.InverseTimeDecay(0.01, 2, 0.5)),
    "nadam": lambda: fastnn.Nadam(0.01, clipnorm=0.05),
    "adamax": lambda: fastnn.Adamax(0.01, use_ema=True, weight_decay=0.1, clipnorm=0.05),
    "lion": lambda: fastnn.Lion(0.01, weight_decay=0.1),
}
ALL_OPTIMIZERS = {**OPTIMIZERS, **MORE_OPTIMIZERS}


@dataclass(frozen=True)
class Hidden:
    """A dense layer with what comes after it, to a view of its output if `flattened`."""

    units: int
    activation: str | None = None
    bias: bool = True
    dropout: float = 0.0
    flattened: bool = False


@dataclass(frozen=True)
class Net:
    """A net, its data and how it is trained."""

    inputs: int
    layers: tuple[Hidden, ...]
    loss: str = "mse"
    optimizer: str = "sgd"
    dtype: str = "float32"
    rows: int = 12
    batch: int = 5
    seed: int = 0


class Trial:
    """A fresh model of a net, its data, and ways to train it; changes of either count."""

    def __init__(self, net: Net) -> None:
        self.net = net
        layers: list[fastnn.Layer] = []
        for hidden in net.layers:
            together = None if hidden.flattened else hidden.activation
            layers.append(fastnn.Dense(hidden.units, together, use_bias=hidden.bias))
            if hidden.flattened:
                layers += [fastnn.Flatten(), fastnn.Activation(hidden.activation or "linear")]
            if hidden.dropout:
                layers.append(fastnn.Dropout(hidden.dropout))
        self.model = fastnn.Sequential(layers, (net.inputs,), dtype=net.dtype, seed=net.seed)
        optimizer = ALL_OPTIMIZERS[net.optimizer]()
        self.model.compile(optimizer, net.loss)
        self.state, self.flat = self.model.state, self.model.flat()
        rates = optimizer.rates(0, net.rows)
        self.rates = None if isinstance(optimizer.learning_rate, float) else rates
        cpu.floats(self.state)[s.LEARNING_RATE] = rates[0]
        rng = np.random.default_rng(net.seed)
        classes = net.layers[-1].units
        self.x = rng.normal(size=(net.rows, net.inputs)).astype(net.dtype)
        self.y: Array = (
            rng.normal(size=(net.rows, classes)).astype(net.dtype)
            if net.loss == "mse"
            else rng.integers(0, classes, net.rows).astype("int32")
        )
        self.order = rng.permutation(net.rows)

    @property
    def sources(self) -> planner.Sources:
        return planner.Sources(self.x, self.y, order=self.order, rates=self.rates)

    def step(self, tape: Tape, sources: planner.Sources) -> None:
        model = self.model
        assert model.loss is not None
        assert model.optimizer is not None
        planner.training_step(
            tape, model.layers, model.loss, model.metrics, model.optimizer, self.flat, sources,
            self.net.dtype,
        )  # fmt: skip

    def program(self, fused: bool) -> Program:
        made = Program(self.net.batch, self.net.dtype, training=True)
        handles = [
            None if array is None else made.external(name, (0, *array.shape[1:]), str(array.dtype))
            for name, array in self.sources._asdict().items()
        ]
        self.step(made, planner.Sources(*handles))
        if fused:
            made.fuse()
        return made

    def poison(self, *others: Array) -> None:
        for array in (self.flat.gradients.view(np.uint8), *others):
            array[:] = 0xFF  # NaN, whichever float reads it

    def train_eagerly(self, epochs: int = 1, rows: int | None = None) -> Trial:
        one = EagerPass(self.step, self.sources, self.state, self.net.dtype, training=True)
        for _ in range(epochs):
            self.poison()
            one.epoch(rows or self.net.rows, self.net.batch)
        return self

    def train(
        self,
        fused: bool,
        epochs: int = 1,
        threads: int = 0,
        rows: int | None = None,
        on_pause: Callable[[], None] | None = None,
    ) -> Trial:
        """Train by a compiled program, on a team where `threads` is not 0."""
        made = self.program(fused)
        memory = arena.allocate(made.arena_bytes)
        self.code = made.link(memory, self.sources._asdict())
        team = cpu.Team(threads) if threads else None
        try:
            run = cpu.Run(self.code, self.state, team)
            for _ in range(epochs):
                self.poison(memory)
                run.epoch(rows or self.net.rows, self.net.batch, on_pause)
        finally:
            if team is not None:
                team.close()
        return self

    def vectors(self) -> dict[str, Array]:
        """Copies of all that a step changes for good."""
        vectors = {"parameters": self.flat.parameters, **self.flat.slots}
        vectors["sums"] = cpu.floats(self.state)[[s.LOSS_SUM]]
        vectors["step"] = self.state[[s.STEP]]
        return {name: vector.copy() for name, vector in vectors.items()}

    def assert_same_as(self, other: Trial) -> None:
        """Assert that all that steps change is the same, bit for bit."""
        assert_same_vectors(self.vectors(), other.vectors())


def assert_same_vectors(one: dict[str, Array], other: dict[str, Array]) -> None:
    for name, vector in one.items():
        np.testing.assert_array_equal(vector, other[name], err_msg=name)
        assert vector.tobytes() == other[name].tobytes(), f"{name}: signs of zeros differ"


def small_kernels_fuse(patch: pytest.MonkeyPatch) -> None:
    """Let the update of every kernel be fused, however small."""
    patch.setattr(shapes, "UPDATE_BYTES", 1)
    patch.setattr(shapes, "TEAM_UPDATE_BYTES", 1)
    patch.setattr(shapes, "UPDATE_ROWS", 1 << 40)


def slices_are_tiny(patch: pytest.MonkeyPatch) -> None:
    """Let every slice do one piece of one op, and cut ops into many pieces."""
    patch.setattr(cpu, "_FIRST_BUDGET", 1)
    patch.setattr(cpu, "SLICE_SECONDS", 0.0)
    patch.setattr(program, "PIECE_COST", 100)
