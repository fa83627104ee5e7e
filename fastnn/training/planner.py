"""Layers, loss, metrics and optimizer to a sequence of ops.

Each function puts one kind of step on a tape. On a `Program` that makes a program; on an `Eager`
tape it runs the step: the eager loop and compiled training are one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn import metrics as metrics_module
from fastnn.engine.tape import Tape
from fastnn.kernels import state as s
from fastnn.layers.activation import Activation
from fastnn.layers.base import Layer, leaves
from fastnn.layers.dense import SparseRows
from fastnn.losses import Loss
from fastnn.metrics import Metric
from fastnn.optimizers import Group, Optimizer


class Sources(NamedTuple):
    """Whole arrays: what batches are gathered from, in which order, and where results go.

    Where there are `columns` and `starts`, rows are sparse: x is the `values` of `SparseRows`.

    `rates` are the learning rates of an epoch's steps, where a schedule gives them, `scales` what
    penalties of weights are multiplied by in each; `sums` is where metrics add up what the state
    has no slot for.
    """

    x: Any
    targets: Any = None
    weights: Any = None
    order: Any = None
    out: Any = None
    rates: Any = None
    scales: Any = None
    sums: Any = None
    columns: Any = None
    starts: Any = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.x) if self.starts is None else len(self.starts) - 1


class Flat(NamedTuple):
    """A model's flat vectors: parameters, gradients, and the optimizer's by name."""

    parameters: Any
    gradients: Any
    slots: dict[str, Any]


def groups_of(layers: Sequence[Layer], flat: Flat) -> list[Group]:
    """The parts of the flat vectors that are trained: neighbours with one multiplier are one."""
    spans: list[tuple[int, int, float]] = []
    begin = 0
    for layer in leaves(layers):
        end = begin + sum(w.size for w in layer.params.values())
        if layer.trained:
            multiplier = layer.rate_multiplier
            joined = spans and spans[-1][1:] == (begin, multiplier)
            spans.append((spans.pop()[0] if joined else begin, end, multiplier))
        begin = end
    return [
        Group(
            flat.parameters[first:last],
            flat.gradients[first:last],
            {name: vector[first:last] for name, vector in flat.slots.items()},
            multiplier,
        )
        for first, last, multiplier in spans
    ]


def trained_elements(layers: Sequence[Layer], flat: Flat) -> npt.NDArray[np.bool_]:
    """Which elements of the flat vectors are trained, (P,)."""
    trained = np.zeros(flat.parameters.size, bool)
    for group in groups_of(layers, flat._replace(parameters=trained)):
        group.w[:] = True
    return trained


def stages_of(layers: Sequence[Layer]) -> list[Layer]:
    """The layers taken apart into the stages that they are made of."""
    return [stage for layer in layers for stage in layer.stages()]


def _trained(stages: Sequence[Layer]) -> list[bool]:
    """Which stages want a gradient: those to be trained, and what only Python knows."""
    return [stage.trained or stage.in_python for stage in stages]


def check_trainable(layers: Sequence[Layer]) -> None:
    """Refuse to train built layers of which some are cut off from the loss, or not complete.

    Raises
    ------
    ValueError
        If what comes after a layer with parameters passes no gradient back.
    RuntimeError
        If a layer lacks what it must be given before it is used.
    """
    stages = stages_of(layers)
    for stage in stages:
        stage.check_complete()
    trained = _trained(stages)
    for index, stage in enumerate(stages):
        if stage.untrainable is not None and any(trained[:index]):
            raise ValueError(
                f"{stage.label}: layers before it cannot be trained: {stage.untrainable}"
            )


def split_fused(stages: list[Layer], loss: Loss) -> tuple[list[Layer], bool]:
    """The stages before the loss, and whether the loss then is given logits.

    A last activation that the loss computes in one with itself is left to it.
    """
    last = stages[-1]
    if isinstance(last, Activation) and last.activation == loss.fuses:
        # Of a loss that may be told so, logits behind the activation are what was asked for.
        if loss.only_logits or not loss.from_logits:
            return stages[:-1], True
    return stages, loss.from_logits


def gather(tape: Tape, source: Any, order: Any, dtype: str) -> Any:
    """This step's rows of `source`: it itself, where it holds no other."""
    if source.shape[0] is None:
        return source
    rows = tape.new(tuple(source.shape[1:]), dtype)
    tape.op("gather", out=rows, source=source, order=order)
    return rows


def _features(tape: Tape, sources: Sources, dtype: str) -> Any:
    """This step's rows: sparse ones are read where they lie, others gathered."""
    if sources.starts is not None:
        return SparseRows(sources.x, sources.columns, sources.starts, sources.order)
    return gather(tape, sources.x, sources.order, dtype)


def _batch(tape: Tape, sources: Sources, dtype: str) -> tuple[Any, Any, Any]:
    """This step's rows, targets and weights."""
    x = _features(tape, sources, dtype)
    targets = gather(tape, sources.targets, sources.order, str(sources.targets.dtype))
    weights = sources.weights
    if weights is not None:
        weights = gather(tape, weights, sources.order, dtype)
    return x, targets, weights


def _forward(tape: Tape, stages: Sequence[Layer], x: Any) -> Any:
    for stage in stages:
        x = stage.forward_ops(tape, x)
    return x


def _evaluate(
    tape: Tape,
    stages: Sequence[Layer],
    z: Any,
    targets: Any,
    weights: Any,
    loss: Loss,
    metrics: list[Metric],
    logits: bool,
    sources: Sources,
) -> Any:
    """Add up loss and metrics in the state and in ``sources.sums``; the loss's gradient's handle.

    What `stages`, all of the model's, add to the loss counts.

    The metrics come first: after them the loss may write its gradient over z.
    """
    metrics_module.accumulate(tape, metrics, z, targets, loss, logits, sources.sums)
    losses, dz = loss.ops(tape, z, targets, weights, logits)
    tape.op("accumulate", values=losses, slot=s.LOSS_SUM, guard=int(tape.training))
    if sources.scales is not None:
        tape.op("number_of_step", numbers=sources.scales, slot=s.PENALTY_SCALE)
    for stage in stages:
        stage.penalty_ops(tape)
    return dz


def gradient_step(
    tape: Tape,
    layers: Sequence[Layer],
    loss: Loss,
    metrics: list[Metric],
    sources: Sources,
    dtype: str,
) -> None:
    """Gather, forward, loss and metrics, backward."""
    stages, logits = split_fused(stages_of(layers), loss)
    x, targets, weights = _batch(tape, sources, dtype)
    z = _forward(tape, stages, x)
    delta = _evaluate(tape, stages, z, targets, weights, loss, metrics, logits, sources)
    if tape.stopped:
        return
    trained = _trained(stages)
    for index in range(len(stages) - 1, -1, -1):
        if not any(trained[: index + 1]):
            break
        delta = stages[index].backward_ops(tape, delta, any(trained[:index]))
        stages[index].penalty_gradient_ops(tape)


def training_step(
    tape: Tape,
    layers: Sequence[Layer],
    loss: Loss,
    metrics: list[Metric],
    optimizer: Optimizer,
    flat: Flat,
    sources: Sources,
    dtype: str,
) -> None:
    """Gather, forward, loss and metrics, backward, update."""
    gradient_step(tape, layers, loss, metrics, sources, dtype)
    if tape.stopped:
        return
    groups, trained = groups_of(layers, flat), [layer for layer in leaves(layers) if layer.trained]
    for group in groups:
        tape.check("guard", g=group.g)
    optimizer.clip_ops(
        tape, [layer.grads[name].reshape(-1) for layer in trained for name in layer.params]
    )
    if sources.rates is not None:
        tape.op("number_of_step", numbers=sources.rates, slot=s.LEARNING_RATE)
    optimizer.update_ops(tape, groups, trained)


def evaluation_step(
    tape: Tape,
    layers: Sequence[Layer],
    loss: Loss,
    metrics: list[Metric],
    sources: Sources,
    dtype: str,
) -> None:
    """Gather, forward, loss and metrics."""
    stages, logits = split_fused(stages_of(layers), loss)
    x, targets, weights = _batch(tape, sources, dtype)
    z = _forward(tape, stages, x)
    _evaluate(tape, stages, z, targets, weights, loss, metrics, logits, sources)


def prediction_step(tape: Tape, layers: Sequence[Layer], sources: Sources, dtype: str) -> None:
    """Gather, forward, and the output's rows into their place in ``sources.out``."""
    y = _forward(tape, stages_of(layers), _features(tape, sources, dtype))
    tape.op("scatter", out=sources.out, source=y)
