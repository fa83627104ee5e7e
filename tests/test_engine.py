"""The engine on trial: its arena, programs against eager execution, slices, teams, errors."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastnn.engine import arena, compiler, cpu, program
from fastnn.engine.operands import Call, bits_of
from fastnn.engine.program import Buffer, Program
from fastnn.engine.tape import Eager, Tape
from fastnn.kernels import state as s

Array = NDArray[Any]


# The arena

LIVES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 300), st.sampled_from([64, 128, 4096])),
        st.integers(0, 12),
        st.integers(0, 6),
    ).map(lambda life: arena.Life(life[0], life[1], life[1] + life[2])),
    max_size=25,
)


@given(LIVES)
@settings(max_examples=300)
def test_buffers_that_live_together_are_apart(lives: list[arena.Life]) -> None:
    offsets, total = arena.plan(lives)
    assert len(offsets) == len(lives)
    places = list(zip(lives, offsets, strict=True))
    for life, offset in places:
        assert offset >= 0
        assert offset % arena.ALIGNMENT == 0
        assert offset + life.size <= total
    for (one, begin), (other, other_begin) in itertools.combinations(places, 2):
        if one.first <= other.last and other.first <= one.last:
            apart = begin + one.size <= other_begin or other_begin + other.size <= begin
            assert apart, f"{one} at {begin} overlaps {other} at {other_begin}"


@given(LIVES)
@settings(max_examples=200)
def test_arena_is_between_the_least_and_no_sharing(lives: list[arena.Life]) -> None:
    _, total = arena.plan(lives)
    at_once = [
        sum(arena.align(life.size) for life in lives if life.first <= moment <= life.last)
        for moment in range(20)
    ]
    assert max(at_once) <= total <= sum(arena.align(life.size) for life in lives)


def test_arena_of_a_chain_holds_two_of_its_links() -> None:
    chain = [arena.Life(1000, i, i + 1) for i in range(20)]
    assert arena.plan(chain)[1] == 2 * arena.align(1000)
    assert arena.plan([]) == ([], 0)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 100_001])
def test_allocated_memory_is_aligned_and_zero(size: int) -> None:
    memory = arena.allocate(size)
    assert memory.nbytes == size
    assert memory.ctypes.data % arena.ALIGNMENT == 0
    assert not memory.any()


# Programs against eager execution: random steps, every value of which counts


class Instruction(NamedTuple):
    """An op, and which of the values made so far it takes."""

    op: str
    first: int
    second: int
    kept: bool


WIDTH = 6
OPS = (
    "relu_forward", "tanh_forward", "softmax_forward", "dropout", "relu_backward",
    "sigmoid_backward", "softmax_backward", "mean_squared_error", "softmax_crossentropy_soft",
    "dense_forward", "dense_backward_input", "reshape",
)  # fmt: skip
WEIGHTS = np.random.default_rng(0).normal(size=(WIDTH, WIDTH))
INSTRUCTIONS = st.lists(
    st.builds(
        Instruction,
        st.sampled_from(OPS),
        st.integers(0, 30),
        st.integers(0, 30),
        st.sampled_from([False, False, True]),
    ),
    min_size=1,
    max_size=14,
)


def follow(tape: Tape, x: Any, instructions: list[Instruction], outs: dict[str, Any]) -> None:
    """Put the instructions on a tape, and the kept values into `outs` when all are done."""
    rows = tape.new((WIDTH,))
    tape.op("gather", out=rows, source=x)
    values, kept = [rows], [rows]
    for instruction in instructions:
        op = instruction.op
        # Late values more often than early ones, as in a network.
        one, other = (
            values[-1 - n % min(len(values), 4)] for n in (instruction.first, instruction.second)
        )
        if op == "reshape":
            value = tape.reshape(tape.reshape(one, (2, 3)), (WIDTH,))
        else:
            value = tape.new((WIDTH,))
            if op.endswith("_backward"):
                tape.op(op, dx=value, dy=one, y=other)
            elif op == "dropout":
                tape.op(op, y=value, x=one, rate=0.3, stream=len(values))
            elif op == "dense_forward":
                tape.op(op, y=value, x=one, w=WEIGHTS)
            elif op == "dense_backward_input":
                tape.op(op, dx=value, dy=one, w=WEIGHTS)
            elif op.endswith("_forward"):
                tape.op(op, y=value, x=one)
            else:
                tape.op(op, loss=tape.new(()), dz=value, z=one, targets=other)
        values.append(value)
        if instruction.kept:
            kept.append(value)
    kept.append(values[-1])
    for name, value in zip(outs, kept, strict=False):
        tape.op("scatter", out=outs[name], source=value)


# A product whose only reader takes a value as well that is made after the product.
LATE_OPERAND = [
    Instruction("dense_forward", 0, 0, False),
    Instruction("tanh_forward", 1, 0, False),
    Instruction("relu_backward", 1, 0, False),
]


# A product whose only reader does not take it as what it changes.
OTHER_OPERAND = [
    Instruction("dense_forward", 0, 0, False),
    Instruction("sigmoid_backward", 1, 0, False),
]


@example(LATE_OPERAND, 4, 0)
@example(OTHER_OPERAND, 4, 0)
@given(INSTRUCTIONS, st.integers(1, 9), st.integers(0, 2**32))
@settings(max_examples=150)
def test_program_is_eager_execution(instructions: list[Instruction], batch: int, seed: int) -> None:
    total = 9
    names = [f"out{i}" for i in range(2 + sum(i.kept for i in instructions))]
    x = np.random.default_rng(seed).normal(size=(total, WIDTH))
    eager, compiled = ({name: np.full((total, WIDTH), np.nan) for name in names} for _ in range(2))
    state = cpu.new_state(seed)
    for first in range(0, total, batch):
        state[s.FIRST] = first
        follow(Eager(min(batch, total - first), "float64", state), x, instructions, eager)
        state[s.STEP] += 1

    for fused in (False, True):
        made = Program(batch, "float64")
        externals = {name: made.external(name, (0, WIDTH), "float64") for name in ("x", *names)}
        outs = {name: externals[name] for name in names}
        follow(made, externals["x"], instructions, outs)
        if fused:
            made.fuse()
        memory = arena.allocate(made.arena_bytes)
        memory[:] = 0xFF  # NaN, whichever float reads it
        for out in compiled.values():
            out[:] = np.nan
        code = made.link(memory, {"x": x, **compiled})
        cpu.Run(code, cpu.new_state(seed)).epoch(total, batch)
        for name in names:
            np.testing.assert_array_equal(compiled[name], eager[name])
            assert not np.isnan(compiled[name]).any()


def chain(length: int, kept: bool) -> Program:
    """A program of activations one after the other; with `kept`, the first is needed at the end."""
    made = Program(4, "float32")
    x = made.new((8,))
    made.op("gather", out=x, source=made.external("x", (0, 8), "float32"))
    first, value = x, x
    for _ in range(length):
        following = made.new((8,))
        made.op("relu_forward", y=following, x=value)
        value = following
    if kept:
        made.op("relu_backward", dx=made.new((8,)), dy=value, y=first)
    return made


def test_activations_that_nobody_needs_take_no_room() -> None:
    assert chain(5, kept=False).arena_bytes == 4 * 8 * 4
    assert chain(5, kept=True).arena_bytes == 2 * 4 * 8 * 4


def test_buffer_of_another_size_is_not_shared() -> None:
    made = Program(4, "float32")
    x, y = made.new((8,)), made.new((3, 2))
    made.op("gather", out=x, source=made.external("x", (0, 8), "float32"))
    assert y.size(4) == 4 * 6 * 4
    assert Buffer("x", (7, 2), "uint8").size(4) == 14


# A training step of a small network, as the planner makes them


ROWS, INPUTS, HIDDEN, CLASSES = 83, 13, 37, 5


class Network:
    """Data, parameters and a step of 13-37-5 with ReLU, dropout and Adam or SGD."""

    def __init__(self, dtype: str = "float64", optimizer: str = "adam") -> None:
        rng = np.random.default_rng(21)
        self.dtype, self.optimizer = dtype, optimizer
        self.arrays: dict[str, Array] = {
            "x": rng.normal(size=(ROWS, INPUTS)).astype(dtype),
            "labels": rng.integers(0, CLASSES, ROWS).astype("int32"),
            "order": rng.permutation(ROWS),
        }
        sizes = [INPUTS * HIDDEN, HIDDEN, HIDDEN * CLASSES, CLASSES]
        self.flat = {
            "w": (rng.normal(size=sum(sizes)) * 0.3).astype(dtype),
            **{name: np.zeros(sum(sizes), dtype) for name in ("g", "m", "v", "velocity")},
        }
        shapes = [(INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
        cuts = np.cumsum(sizes)[:-1]
        self.w1, self.b1, self.w2, self.b2, self.dw1, self.db1, self.dw2, self.db2 = (
            part.reshape(shape)
            for flat in ("w", "g")
            for part, shape in zip(np.split(self.flat[flat], cuts), shapes, strict=True)
        )
        self.state = cpu.new_state(7)
        cpu.floats(self.state)[s.LEARNING_RATE] = 0.05

    def step(self, tape: Tape, arrays: dict[str, Any]) -> None:
        """One step, on any tape."""
        x, labels = tape.new((INPUTS,)), tape.new((), "int32")
        tape.op("gather", out=x, source=arrays["x"], order=arrays["order"])
        tape.op("gather", out=labels, source=arrays["labels"], order=arrays["order"])
        linear, hidden, dropped = (tape.new((HIDDEN,)) for _ in range(3))
        tape.op("dense_forward", y=linear, x=x, w=self.w1, b=self.b1)
        tape.op("relu_forward", y=hidden, x=linear)
        tape.op("dropout", y=dropped, x=hidden, rate=0.2, stream=3)
        z, hits, loss, dz = tape.new((CLASSES,)), tape.new(()), tape.new(()), tape.new((CLASSES,))
        tape.op("dense_forward", y=z, x=dropped, w=self.w2, b=self.b2)
        tape.op("categorical_accuracy", hits=hits, z=z, labels=labels)
        tape.op("accumulate", values=hits, slot=s.METRIC_SUMS, guard=0)
        tape.op("softmax_crossentropy", loss=loss, dz=dz, z=z, labels=labels)
        tape.op("accumulate", values=loss, slot=s.LOSS_SUM, guard=1)
        if tape.stopped:
            return
        dropped_back, hidden_back, linear_back = (tape.new((HIDDEN,)) for _ in range(3))
        tape.op("dense_backward_kernel", dw=self.dw2, db=self.db2, x=dropped, dy=dz)
        tape.op("dense_backward_input", dx=dropped_back, dy=dz, w=self.w2)
        tape.op("dropout", y=hidden_back, x=dropped_back, rate=0.2, stream=3)
        tape.op("relu_backward", dx=linear_back, dy=hidden_back, y=hidden)
        tape.op("dense_backward_kernel", dw=self.dw1, db=self.db1, x=x, dy=linear_back)
        flat = self.flat
        if self.optimizer == "adam":
            tape.op("adam_rates", beta_1=0.9, beta_2=0.999)
            tape.commit("adam", w=flat["w"], g=flat["g"], m=flat["m"], v=flat["v"], beta_1=0.9,
                    beta_2=0.999, epsilon=1e-7, multiplier=1.0)  # fmt: skip
        else:
            tape.commit("sgd", w=flat["w"], g=flat["g"], velocity=flat["velocity"], momentum=0.9,
                        multiplier=1.0)  # fmt: skip
        tape.update()

    def train_eagerly(self, rows: int, batch: int) -> Network:
        self.state[[s.FIRST, s.TOTAL, s.BATCH]] = 0, rows, batch
        while (first := int(self.state[s.FIRST])) < rows:
            tape = Eager(min(batch, rows - first), self.dtype, self.state, training=True)
            self.step(tape, self.arrays)
        return self

    def link(self, batch: int, team: cpu.Team | None = None) -> cpu.Run:
        """A run of the compiled step, on an arena full of NaN."""
        made = Program(batch, self.dtype, training=True)
        handles = {
            name: made.external(name, (0, *array.shape[1:]), str(array.dtype))
            for name, array in self.arrays.items()
        }
        self.step(made, handles)
        self.memory = arena.allocate(made.arena_bytes)
        self.memory[:] = 0xFF
        self.code = made.link(self.memory, {**self.arrays})
        return cpu.Run(self.code, self.state, team)

    def train(
        self,
        rows: int,
        batch: int,
        threads: int = 0,
        on_pause: Callable[[], None] | None = None,
    ) -> Network:
        team = cpu.Team(threads) if threads else None
        try:
            self.link(batch, team).epoch(rows, batch, on_pause)
        finally:
            if team is not None:
                team.close()
        return self

    def assert_same_as(self, other: Network) -> None:
        for name, array in self.flat.items():
            if name != "g":  # what a step that was given up had already computed
                np.testing.assert_array_equal(array, other.flat[name], err_msg=name)
        assert self.state[s.STEP] == other.state[s.STEP]

    def assert_same_sums_as(self, other: Network) -> None:
        sums = slice(s.LOSS_SUM, s.METRIC_SUMS + 1)
        np.testing.assert_array_equal(cpu.floats(self.state)[sums], cpu.floats(other.state)[sums])


@pytest.fixture
def tiny_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slice does one piece of one op, and ops are cut into many pieces."""
    monkeypatch.setattr(cpu, "_FIRST_BUDGET", 1)
    monkeypatch.setattr(cpu, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(program, "PIECE_COST", 100)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("batch", [1, 16, ROWS, 2 * ROWS])
def test_program_trains_as_eager_execution(dtype: str, optimizer: str, batch: int) -> None:
    eager = Network(dtype, optimizer).train_eagerly(ROWS, batch)
    compiled = Network(dtype, optimizer).train(ROWS, batch)
    compiled.assert_same_as(eager)
    compiled.assert_same_sums_as(eager)
    assert compiled.state[s.STATUS] == s.FINISHED


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_team_of_any_size_computes_the_same_bits(threads: int, dtype: str) -> None:
    alone = Network(dtype).train(ROWS, 16)
    together = Network(dtype).train(ROWS, 16, threads)
    together.assert_same_as(alone)
    together.assert_same_sums_as(alone)


@pytest.mark.usefixtures("tiny_slices")
@pytest.mark.parametrize("threads", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_taken_up_in_the_middle_are_the_same(threads: int, dtype: str) -> None:
    whole = Network(dtype).train_eagerly(ROWS, 32)
    pauses: list[tuple[int, int]] = []
    sliced = Network(dtype)
    sliced.train(
        ROWS, 32, threads, lambda: pauses.append((sliced.state[s.POSITION], sliced.state[s.PIECE]))
    )
    sliced.assert_same_as(whole)
    sliced.assert_same_sums_as(whole)
    # It did pause, after every op and within most.
    ops = len(sliced.code)
    assert {position for position, _ in pauses} == set(range(ops))
    assert len({position for position, piece in pauses if piece > 0}) > ops // 2
    assert len(pauses) == 3 * sliced.code[:, s.CODE_PIECES].sum() - 1


def test_epochs_go_on_from_one_another() -> None:
    in_one = Network().train_eagerly(64, 16).train_eagerly(64, 16)
    network = Network()
    run = network.link(16)
    run.epoch(64, 16)
    run.epoch(64, 16)
    network.assert_same_as(in_one)
    network.assert_same_sums_as(in_one)
    assert network.state[s.STEP] == 8
    run.epoch(0, 16)
    network.assert_same_as(in_one)


def test_operand_bound_to_none_is_left_out() -> None:
    in_order, without = Network(), Network()
    in_order.arrays["order"] = np.arange(ROWS)
    made = Program(16, "float64", training=True)
    handles = {
        name: made.external(name, (0, *array.shape[1:]), str(array.dtype))
        for name, array in without.arrays.items()
    }
    without.step(made, handles)
    memory = arena.allocate(made.arena_bytes)
    code = made.link(memory, {**without.arrays, "order": None})
    cpu.Run(code, without.state).epoch(ROWS, 16)
    without.assert_same_as(in_order.train(ROWS, 16))


# Interruptions


class InterruptionError(Exception):
    """Raised between slices."""


def interrupted_at(pause: int) -> Callable[[], None]:
    """A function that raises when called for the time numbered `pause`, from 0."""
    left = itertools.count(pause, -1)

    def on_pause() -> None:
        if next(left) == 0:
            raise InterruptionError

    return on_pause


@pytest.mark.usefixtures("tiny_slices")
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_interruption_leaves_whole_steps(optimizer: str, threads: int) -> None:
    after = [Network("float64", optimizer).train_eagerly(rows, 41) for rows in (0, 41, 82, ROWS)]
    whole = Network("float64", optimizer).train(ROWS, 41)
    pauses_of_a_step = int(whole.code[:, s.CODE_PIECES].sum())
    steps: list[int] = []
    # All pauses of the last ops, where the update has begun or is about to, and some before.
    for pause in (0, 1, 40, *range(pauses_of_a_step - 30, pauses_of_a_step + 2)):
        network = Network("float64", optimizer)
        with pytest.raises(InterruptionError):
            network.train(ROWS, 41, threads, interrupted_at(pause))
        steps.append(int(network.state[s.STEP]))
        network.assert_same_as(after[steps[-1]])
    assert steps == sorted(steps)
    assert set(steps) == {0, 1}


@pytest.mark.usefixtures("tiny_slices")
def test_run_goes_on_after_an_interruption() -> None:
    network = Network()
    run = network.link(16)
    with pytest.raises(InterruptionError):
        run.epoch(ROWS, 16, interrupted_at(30))
    assert network.state[s.STEP] == 0
    run.epoch(ROWS, 16)
    network.assert_same_as(Network().train_eagerly(ROWS, 16))


# Divergence


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("step", [0, 3, 5])
def test_divergence_stops_at_its_step(step: int, bad: float, threads: int) -> None:
    network = Network()
    network.arrays["x"][network.arrays["order"][16 * step + 2]] = bad
    with pytest.raises(cpu.DivergenceError, match=rf"the loss became .* at step {step};") as caught:
        network.train(ROWS, 16, threads)
    assert caught.value.step == step
    assert network.state[s.STATUS] == s.DIVERGED
    before = Network().train_eagerly(16 * step, 16)
    network.assert_same_as(before)
    assert cpu.floats(network.state)[s.LOSS_SUM] == cpu.floats(before.state)[s.LOSS_SUM]


@pytest.mark.usefixtures("tiny_slices")
@pytest.mark.parametrize("threads", [0, 2])
def test_divergence_is_seen_in_tiny_slices(threads: int) -> None:
    network = Network()
    network.arrays["x"][network.arrays["order"][40]] = np.nan
    with pytest.raises(cpu.DivergenceError, match=r"the loss became .* at step 1;"):
        network.train(ROWS, 32, threads)
    network.assert_same_as(Network().train_eagerly(32, 32))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_update_that_overflows_stops_and_keeps_finite_weights(optimizer: str, threads: int) -> None:
    network = Network("float32", optimizer)
    cpu.floats(network.state)[s.LEARNING_RATE] = 3e38
    network.flat["w"] *= 100  # gradients well above 1
    with pytest.raises(cpu.DivergenceError, match=r"a gradient became .* at step 0;"):
        network.train(ROWS, 16, threads)
    for name in ("w", "m", "v", "velocity"):
        assert np.isfinite(network.flat[name]).all(), name


def test_run_after_divergence_starts_anew() -> None:
    network = Network()
    run = network.link(16)
    ill = network.arrays["x"].copy()
    ill[network.arrays["order"][20]] = np.nan
    well, network.arrays["x"][:] = network.arrays["x"].copy(), ill
    with pytest.raises(cpu.DivergenceError):
        run.epoch(32, 16)
    network.arrays["x"][:] = well
    run.epoch(64, 16)
    network.assert_same_as(Network().train_eagerly(16, 16).train_eagerly(64, 16))


# Teams


@pytest.fixture
def team() -> Iterator[cpu.Team]:
    made = cpu.Team(3)
    yield made
    made.close()


def test_team_runs_a_job_once_on_every_thread(team: cpu.Team) -> None:
    ranks: list[tuple[int, int]] = []
    for _ in range(50):
        team.run(lambda rank: ranks.append((rank, threading.get_ident())))
    assert sorted(rank for rank, _ in ranks) == [0] * 50 + [1] * 50 + [2] * 50
    assert len(set(ranks)) == 3
    assert threading.get_ident() not in {thread for _, thread in ranks}


@pytest.mark.parametrize("error", [ValueError("of one"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("bad_rank", [0, 1, 2])
def test_exception_in_a_worker_is_passed_on(
    team: cpu.Team, bad_rank: int, error: BaseException
) -> None:
    finished: list[int] = []

    def job(rank: int) -> None:
        if rank == bad_rank:
            raise error
        finished.append(rank)

    with pytest.raises(type(error)) as caught:
        team.run(job)
    assert caught.value is error
    assert sorted(finished) == [rank for rank in range(3) if rank != bad_rank]
    # The team is as good as new.
    team.run(finished.append)
    assert sorted(finished[2:]) == [0, 1, 2]


def test_closed_team_sends_its_threads_home() -> None:
    threads: list[threading.Thread] = []
    made = cpu.Team(3)
    made.run(lambda rank: threads.append(threading.current_thread()))
    made.close()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_team_makes_do_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def start_two(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    made = cpu.Team(4)
    monkeypatch.undo()
    assert made.size == 1
    network = Network()
    network.link(16, made).epoch(ROWS, 16)
    made.close()
    network.assert_same_as(Network().train_eagerly(ROWS, 16))


def test_threads_of_a_team_share_no_scratch_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, int] = {}
    prepared = cpu.prepared

    def look(code: Array, state: Array, rank: int = 0, team: int = 1) -> Callable[[], int]:
        call = prepared(code, state, rank, team)

        def looked() -> int:
            if team > 1:
                seen[rank] = int(state[s.WORKSPACE])
            return call()

        return looked

    monkeypatch.setattr(cpu, "prepared", look)
    Network().train(ROWS, 32, threads=4)
    places = sorted(seen.values())
    assert len(places) == 4
    assert min(np.diff(places)) >= s.WORKSPACE_BYTES


def test_many_teams_at_once() -> None:
    expected = {
        (dtype, batch): Network(dtype).train_eagerly(ROWS, batch)
        for dtype in ("float32", "float64")
        for batch in (8, 20)
    }
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def work(dtype: str, batch: int, threads: int) -> None:
        try:
            start.wait(timeout=60)
            for _ in range(3):
                Network(dtype).train(ROWS, batch, threads).assert_same_as(expected[dtype, batch])
        except BaseException as error:
            errors.append(error)

    workers = [
        threading.Thread(target=work, args=(*key, threads))
        for key in expected
        for threads in (0, 3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert not worker.is_alive()
    if errors:
        raise errors[0]


def test_eager_ops_in_many_threads_at_once() -> None:
    # Each has scratch memory of its own.
    expected = Network().train_eagerly(ROWS, 16)
    results = [Network() for _ in range(6)]
    workers = [threading.Thread(target=n.train_eagerly, args=(ROWS, 16)) for n in results]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    for network in results:
        network.assert_same_as(expected)


# Operands


def operands(**changes: Any) -> dict[str, Any]:
    """The operands of a dense layer with 4 rows, 3 inputs and 2 outputs."""
    shapes = {"y": (4, 2), "x": (4, 3), "w": (3, 2), "b": (2,)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return {**arrays, **changes}


def test_call_knows_its_key_and_needs() -> None:
    call = Call("dense_forward", operands())
    assert call.key == ("dense_forward", "float32")
    assert call.needs == [("dense_forward", "float32"), ("product", "float32")]
    words = call.integers(lambda array: array.size, lambda key: 1000 + len(key))
    # O, I, the arrays, the product, no supply, no finish, no ReLU, not packed.
    assert words == [2, 3, 8, 12, 6, 2, 1002, 0, 0, 0, 0]
    assert len(words) == call.signature.width
    assert call.integers(lambda array: array.size, lambda key: 7, chain=99)[-4:] == [0, 99, 0, 0]
    assert call.integers(lambda array: array.size, lambda key: 7, supply=5)[-5:] == [7, 5, 0, 0, 0]
    without_bias = Call("dense_forward", operands(b=None))
    assert without_bias.integers(lambda array: array.size, lambda key: 7)[-6:] == [0, 7, 0, 0, 0, 0]


def test_call_knows_what_its_supply_needs_and_touches() -> None:
    made = Program(4, "float32")
    x, y = made.new((3,)), made.new((2,))
    source, order = made.external("x", (0, 3), "uint8"), made.external("order", (0,), "int64")
    call = Call("dense_forward", operands(x=x, y=y))
    alone = call.cost(4)
    call.supply = Call("gather", {"out": x, "source": source, "order": order})
    assert ("gather_supply", "float32", "uint8") in call.needs
    assert {id(buffer) for buffer in call.buffers} >= {id(x), id(y), id(source), id(order)}
    assert call.cost(4) == alone + call.supply.cost(4)


def test_call_knows_what_its_finishes_need_and_touch() -> None:
    made = Program(4, "float32")
    x, y, a, d = made.new((3,)), *(made.new((2,)) for _ in range(3))
    call = Call("dense_forward", operands(x=x, y=y))
    call.finish = [
        Call("relu_forward", {"y": a, "x": y}),
        Call("dropout", {"y": d, "x": a, "rate": 0.5}),
    ]
    assert call.needs == [
        ("dense_forward", "float32"),
        ("product", "float32"),
        ("relu_forward_finish", "float32"),
        ("dropout_finish", "float32"),
    ]
    assert {id(buffer) for buffer in call.buffers} >= {id(x), id(y), id(d)}
    assert call.takes_finish
    assert not call.finish[0].takes_finish
    alone = Call("dense_forward", operands(x=x, y=y))
    assert call.cost(1000) == alone.cost(1000) + sum(f.cost(1000) for f in call.finish)


def test_call_without_arrays_has_a_type() -> None:
    call = Call("adam_rates", {"beta_1": 0.9, "beta_2": 0.999})
    assert call.key == ("adam_rates", "float64")
    assert call.integers(lambda array: 0, lambda key: 0) == [bits_of(0.9), bits_of(0.999)]


def test_scalars_travel_as_bits() -> None:
    x = np.zeros((2, 5), np.float64)
    call = Call("dropout", {"y": x, "x": x, "rate": 0.25, "stream": 2**32 - 1})
    assert call.integers(lambda array: 9, lambda key: 0) == [5, 9, 9, bits_of(0.25), 2**32 - 1]
    assert np.array([bits_of(-0.1)]).view(np.float64)[0] == -0.1


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("dense_forward", {"x": None}, TypeError, "dense_forward: operand 'x' is missing"),
        ("dense_forward", {"bias": 1}, TypeError, r"dense_forward: no operand .* \['bias'\]"),
        (
            "dense_forward",
            {"w": np.zeros((4, 2), np.float32)},
            ValueError,
            r"dense_forward: w has shape \(4, 2\), but I is 3",
        ),
        (
            "dense_forward",
            {"b": np.zeros(3, np.float32)},
            ValueError,
            r"dense_forward: b has shape \(3,\), but O is 2",
        ),
        (
            "dense_forward",
            {"x": np.zeros((5, 3), np.float32)},
            ValueError,
            r"dense_forward: x has shape \(5, 3\), but N is 4",
        ),
        (
            "dense_forward",
            {"w": np.zeros((3, 2), np.float64)},
            TypeError,
            "dense_forward: w is float64, expected float32",
        ),
    ],
)
def test_call_refuses_operands(
    name: str, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Call(name, operands(**changes))
    # Both tapes refuse alike, before anything is run or noted down.
    made = Program(4, "float32")
    for tape in (Eager(4, "float32", cpu.new_state()), made):
        with pytest.raises(error, match=message):
            tape.op(name, **operands(**changes))
    assert made.calls == []


def test_call_refuses_a_type_that_is_fixed() -> None:
    z = np.zeros((4, 3), np.float32)
    with pytest.raises(TypeError, match="labels is int64, expected int32"):
        Call("categorical_accuracy", {"hits": np.zeros(4, np.float32), "z": z,
                                      "labels": np.zeros(4, np.int64)})  # fmt: skip


def test_rows_of_a_program_are_not_other_lengths() -> None:
    made = Program(4, "float32")
    with pytest.raises(ValueError, match=r"relu_forward: x has shape \(4, 3\), but N is None"):
        made.op("relu_forward", y=made.new((3,)), x=np.zeros((4, 3), np.float32))


def test_unknown_op() -> None:
    with pytest.raises(KeyError, match="no_such_op"):
        Call("no_such_op", {})
    with pytest.raises((KeyError, LookupError)):
        compiler.address(("no_such_op", "float32"))


def test_backward_before_forward() -> None:
    layer = object()
    tape = Eager(1, "float32", cpu.new_state())
    with pytest.raises(RuntimeError, match=r"object: call forward\(x, training=True\) before"):
        tape.saved(layer)
    tape.save(layer, 1, 2)
    assert tape.saved(layer) == (1, 2)


def test_program_names_what_it_needs() -> None:
    made = Program(16, "float32", training=True)
    network = Network("float32")
    network.step(made, network.arrays)
    needs = made.needs
    assert len(needs) == len(set(needs))
    assert ("product", "float32") in needs
    assert ("gather", "int32", "int32") in needs
    assert made.cost() > 100 * len(made.calls)
    reports: list[tuple[Sequence[str], int, int]] = []
    compiler.prepare(needs, lambda *report: reports.append(report))
    again: list[tuple[Sequence[str], int, int]] = []
    compiler.prepare(needs, lambda *report: again.append(report))
    assert again == []  # what is ready is not compiled, nor reported
    assert all(done <= of for _, done, of in reports)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_state_holds_a_seed_of_64_bits(seed: int) -> None:
    state = cpu.new_state(seed)
    assert int(state[s.SEED]) % 2**64 == seed
    cpu.floats(state)[s.LEARNING_RATE] = 0.5
    assert state[s.LEARNING_RATE] == bits_of(0.5)
