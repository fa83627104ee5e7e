"""The same bits: eager or compiled, on any number of threads, in any slices, in any process."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.engine import cpu, program

Array = NDArray[Any]

# Primes, and rows that make the last batch short: nothing falls on a tile's or a thread's edge.
FEATURES, CLASSES, ROWS, BATCH = 131, 7, 197, 53

OPTIMIZERS = {
    "sgd": lambda: fastnn.SGD(0.1),
    "nesterov": lambda: fastnn.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: fastnn.Adam(0.01),
}
DTYPES = ("float32", "float64")


class Identity(fastnn.Layer):
    """A layer that exists only in Python, so that its model is trained by the eager loop."""

    def forward(self, x: Array, training: bool = False) -> Array:
        return x.copy()

    def backward(self, dy: Array) -> Array:
        return dy.copy()


def data(dtype: str = "float32") -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, FEATURES)).astype(dtype)
    return x, rng.integers(0, CLASSES, ROWS), rng.uniform(0, 2, ROWS).astype(dtype)


def network(
    dtype: str = "float32", optimizer: str = "adam", seed: int = 5, middle: Any = None
) -> fastnn.Sequential:
    """A network with all kinds of ops, dropout among them; `middle` computes nothing."""
    model = fastnn.Sequential(
        [
            fastnn.Dense(129, activation="relu"),
            fastnn.Dropout(0.3),
            middle or fastnn.Activation("linear"),
            fastnn.Dense(67, activation="tanh"),
            fastnn.Dropout(0.2),
            fastnn.Dense(CLASSES, activation="softmax"),
        ],
        input_shape=(FEATURES,),
        dtype=dtype,
        seed=seed,
    )
    model.compile(OPTIMIZERS[optimizer](), "categorical_crossentropy", metrics=["accuracy"])
    return model


def train(model: fastnn.Sequential, epochs: int = 3) -> dict[str, list[float]]:
    x, y, weights = data(model.dtype)
    return model.fit(
        x[:150],
        y[:150],
        batch_size=BATCH,
        epochs=epochs,
        sample_weight=weights[:150],
        validation_data=(x[150:], y[150:]),
        verbose=0,
    ).history


def assert_same(one: fastnn.Sequential, other: fastnn.Sequential) -> None:
    """Assert that weights and predictions are the same bits."""
    assert one.parameters.tobytes() == other.parameters.tobytes()
    x, _, _ = data(one.dtype)
    assert one.predict(x).tobytes() == other.predict(x).tobytes()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, unless a test says otherwise."""
    fastnn.set_num_threads(1)
    yield
    fastnn.set_num_threads(None)


# Eager and compiled


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_eager_and_compiled_training_are_the_same_bits(dtype: str, optimizer: str) -> None:
    compiled = network(dtype, optimizer)
    eager = network(dtype, optimizer, middle=Identity())
    assert train(compiled) == train(eager)
    assert_same(compiled, eager)
    x, y, weights = data(dtype)
    assert compiled.evaluate(x, y, sample_weight=weights) == eager.evaluate(
        x, y, sample_weight=weights
    )


def drawing(dtype: str, middle: Any = None) -> fastnn.Sequential:
    """A network trained on pictures (5, 7, 3) with all layers that draw; `middle` as above."""
    model = fastnn.Sequential(
        [
            fastnn.GaussianNoise(0.2),
            fastnn.SpatialDropout2D(0.2),
            fastnn.DropBlock2D(0.2, 2),
            fastnn.Flatten(),
            fastnn.Dense(129, activation="selu"),
            fastnn.AlphaDropout(0.1),
            middle or fastnn.Activation("linear"),
            fastnn.Dense(67, activation="tanh"),
            fastnn.GaussianDropout(0.2),
            fastnn.Dense(CLASSES, activation="softmax"),
        ],
        input_shape=(5, 7, 3),
        dtype=dtype,
        seed=5,
    )
    model.compile("adam", "categorical_crossentropy")
    return model


@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_that_draw_draw_the_same_bits(dtype: str, request: pytest.FixtureRequest) -> None:
    """Compiled, eager and on two threads, and on the way back what they drew on the way."""
    x, y, _ = data(dtype)
    pictures = x[:, :105].reshape(ROWS, 5, 7, 3)

    def trained(middle: Any = None) -> fastnn.Sequential:
        model = drawing(dtype, middle)
        model.fit(pictures, y, batch_size=BATCH, epochs=2, verbose=0)
        return model

    compiled = trained()
    assert trained(Identity()).parameters.tobytes() == compiled.parameters.tobytes()
    teams = request.getfixturevalue("teams")
    fastnn.set_num_threads(2)
    assert trained().parameters.tobytes() == compiled.parameters.tobytes()
    assert set(teams) == {2}
    for layer in (
        fastnn.SpatialDropout2D(0.3, seed=1),
        fastnn.DropBlock2D(0.3, 3, seed=1),
        fastnn.GaussianDropout(0.3, seed=1),
    ):
        layer.prepare((5, 7, 3), dtype)
        factors = layer.forward(np.ones_like(pictures), training=True)
        assert layer.backward(np.ones_like(pictures)).tobytes() == factors.tobytes()


HAND_LOSSES = {
    "categorical": (
        lambda: fastnn.CategoricalCrossentropy(from_logits=True),
        lambda rng: rng.integers(0, CLASSES, ROWS),
    ),
    "categorical, soft": (
        lambda: fastnn.CategoricalCrossentropy(from_logits=True),
        lambda rng: rng.dirichlet(np.ones(CLASSES), ROWS),
    ),
    "binary": (
        lambda: fastnn.BinaryCrossentropy(from_logits=True),
        lambda rng: rng.integers(0, 2, (ROWS, CLASSES)),
    ),
    "squares": (fastnn.MeanSquaredError, lambda rng: rng.normal(size=(ROWS, CLASSES))),
}


@pytest.mark.parametrize("loss_name", HAND_LOSSES)
@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loop_by_hand_is_fit(dtype: str, optimizer_name: str, loss_name: str) -> None:
    make_loss, make_targets = HAND_LOSSES[loss_name]
    x, _, weights = data(dtype)
    y = make_targets(np.random.default_rng(2))

    def fresh() -> fastnn.Sequential:
        return fastnn.Sequential(
            [
                fastnn.Dense(33, activation="relu"),
                fastnn.Dropout(0.3),
                fastnn.Dense(17, activation="sigmoid"),
                fastnn.Dropout(0.2),
                fastnn.Dense(CLASSES),
            ],
            input_shape=(FEATURES,),
            dtype=dtype,
            seed=5,
        )

    compiled = fresh()
    compiled.compile(OPTIMIZERS[optimizer_name](), make_loss())
    history = compiled.fit(
        x, y, batch_size=BATCH, epochs=2, shuffle=False, sample_weight=weights, verbose=0
    ).history["loss"]

    by_hand = fresh()
    loss, optimizer = make_loss(), OPTIMIZERS[optimizer_name]()
    means = []
    for _ in range(2):
        total = 0.0
        for start in range(0, ROWS, BATCH):
            part = slice(start, start + BATCH)
            z = x[part]
            for layer in by_hand.layers:
                z = layer.forward(z, training=True)
            total += loss.forward(z, y[part], sample_weight=weights[part]) * len(z)
            delta = loss.backward()
            for layer in reversed(by_hand.layers):
                delta = layer.backward(delta)
            optimizer.update(by_hand.layers)
        means.append(total / ROWS)
    assert by_hand.parameters.tobytes() == compiled.parameters.tobytes()
    # Here the batches' means are added up, there the rows' losses.
    np.testing.assert_allclose(means, history, rtol=1e-12)


# Threads


class CountingTeam(cpu.Team):
    """A team that tells of every team and what it did."""

    sizes: list[int] = []  # noqa: RUF012

    def run(self, job: Any) -> None:
        CountingTeam.sizes.append(self.size)
        super().run(job)


@pytest.fixture
def teams(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the teams that have run, one for each slice; teams run the smallest work too."""
    monkeypatch.setattr(cpu, "TEAM_COST", 0)
    monkeypatch.setattr(cpu, "Team", CountingTeam)
    CountingTeam.sizes = []
    return CountingTeam.sizes


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(
    dtype: str, optimizer: str, threads: int, teams: list[int]
) -> None:
    alone = network(dtype, optimizer)
    history = train(alone)
    assert teams == []
    fastnn.set_num_threads(threads)
    together = network(dtype, optimizer)
    assert train(together) == history
    assert set(teams) == {threads}
    assert_same(alone, together)
    x, y, _ = data(dtype)
    figures = together.evaluate(x, y)
    fastnn.set_num_threads(1)
    assert alone.evaluate(x, y) == figures


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_more_threads_than_rows(rows: int, teams: list[int]) -> None:
    x, y, _ = data()
    results = []
    for threads in (1, 3):
        fastnn.set_num_threads(threads)
        model = network()
        model.fit(x[:rows], y[:rows], epochs=3, verbose=0)
        results.append((model.parameters.tobytes(), model.predict(x[:rows]).tobytes()))
    assert results[0] == results[1]
    assert set(teams) == {3}


def test_a_large_network_uses_its_team_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "Team", CountingTeam)
    CountingTeam.sizes = []
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(300, 784)).astype(np.float32), rng.integers(0, 10, 300)
    results = []
    for threads in (1, 2):
        fastnn.set_num_threads(threads)
        model = fastnn.Sequential(
            [
                fastnn.Dense(512, activation="relu"),
                fastnn.Dropout(0.5),
                fastnn.Dense(10, activation="softmax"),
            ],
            seed=1,
        )
        model.compile("adam", "categorical_crossentropy")
        model.fit(x, y, batch_size=128, epochs=2, verbose=0)
        results.append(model.parameters.tobytes())
    assert results[0] == results[1]
    assert set(CountingTeam.sizes) == {2}


# Slices


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where compiled code has paused, as (op, piece of it); it does so as often as it can."""
    monkeypatch.setattr(cpu, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(cpu, "_FIRST_BUDGET", 1)
    monkeypatch.setattr(program, "PIECE_COST", 2000)
    places: list[tuple[int, int]] = []
    epoch = cpu.Run.epoch

    def noting(self: cpu.Run, total: int, batch: int, on_pause: Any = None, first: int = 0) -> None:
        def pause() -> bool:
            places.append((int(self.state[cpu.s.POSITION]), int(self.state[cpu.s.PIECE])))
            return on_pause is not None and on_pause()

        epoch(self, total, batch, pause, first)

    monkeypatch.setattr(cpu.Run, "epoch", noting)
    return places


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_training_in_slices_gives_the_same_bits(
    dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    whole = network(dtype)
    history = train(whole, epochs=2)
    monkeypatch.setattr(cpu, "TEAM_COST", 0)
    slices = request.getfixturevalue("slices")
    fastnn.set_num_threads(threads)
    sliced = network(dtype)
    assert train(sliced, epochs=2) == history
    assert len({op for op, _ in slices}) > 10  # it paused at more than ten ops of a step
    assert any(piece > 0 for _, piece in slices)  # and in the middle of some
    assert len(slices) > 6 * 20  # in each of the six steps
    assert_same(whole, sliced)


def test_an_interruption_anywhere_leaves_whole_steps(
    slices: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a fit is interrupted, its weights are those after some number of steps."""
    x, y, _ = data()
    stepwise = network()
    after = [stepwise.parameters.tobytes()]
    for start in range(0, 150, 50):
        stepwise.train_on_batch(x[start : start + 50], y[start : start + 50])
        after.append(stepwise.parameters.tobytes())
    slices.clear()
    network().fit(x[:150], y[:150], batch_size=50, shuffle=False, verbose=0)
    pauses = len(slices)
    assert pauses > 60

    epoch = cpu.Run.epoch
    seen = set()
    for last in range(0, pauses, 5):
        countdown = itertools.count(last, -1)

        def interrupted(
            self: cpu.Run,
            total: int,
            batch: int,
            on_pause: Any,
            first: int,
            countdown: Any = countdown,
        ) -> None:
            def pause() -> bool:
                if next(countdown) == 0:
                    raise KeyboardInterrupt
                return False

            epoch(self, total, batch, pause, first)

        model = network()
        with monkeypatch.context() as patch:
            patch.setattr(cpu.Run, "epoch", interrupted)
            with pytest.raises(KeyboardInterrupt):
                model.fit(x[:150], y[:150], batch_size=50, shuffle=False, verbose=0)
        steps = int(model.state[cpu.s.STEP])
        assert model.parameters.tobytes() == after[steps]
        seen.add(steps)
    assert seen >= {0, 1, 2}


# Runs, processes, seeds


def digest(model: fastnn.Sequential) -> str:
    return hashlib.sha256(model.parameters.tobytes()).hexdigest()


def test_two_runs_are_the_same_bits() -> None:
    one, other = network(), network()
    assert train(one) == train(other)
    assert_same(one, other)


def test_another_process_gives_the_same_bits() -> None:
    code = "import test_determinism as t; m = t.network(); t.train(m); print(t.digest(m))"
    paths = [str(Path(__file__).parent), str(Path(fastnn.__file__).parents[1])]
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
            "PYTHONHASHSEED": "12345",
            "FASTNN_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    model = network()
    train(model)
    assert output.strip() == digest(model)


def test_different_seeds_differ() -> None:
    one, other = network(seed=5), network(seed=6)
    assert (one.get_weights()[0] != other.get_weights()[0]).all()
    # From the same weights still other orders and other masks.
    other.set_weights(one.get_weights())
    assert train(one) != train(other)
    assert digest(one) != digest(other)


def test_no_seed_draws_one_and_keeps_it() -> None:
    def fresh(seed: int | None) -> fastnn.Sequential:
        return fastnn.Sequential([fastnn.Dense(3), fastnn.Dropout(0.5)], (4,), seed=seed)

    one, other = fresh(None), fresh(None)
    assert one.seed != other.seed
    assert digest(one) != digest(other)
    assert digest(fresh(one.seed)) == digest(one)


def test_numpys_global_generator_is_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one = network()
    train(one)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(4)  # noqa: NPY002
    other = network()
    train(other)
    assert digest(one) == digest(other)


# A row's result is its own


@pytest.mark.parametrize("middle", [None, Identity()], ids=["compiled", "eager"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_prediction_depends_on_its_row_alone(dtype: str, middle: Any) -> None:
    model = network(dtype, middle=type(middle)() if middle else None)
    x, _, _ = data(dtype)
    together = model.predict(x)
    for batch_size in (1, 2, 7, 64, ROWS, 10 * ROWS):
        assert model.predict(x, batch_size=batch_size).tobytes() == together.tobytes()
    for row in (0, 1, 100, ROWS - 1):
        assert model.predict(x[row : row + 1]).tobytes() == together[row].tobytes()
    order = np.random.default_rng(4).permutation(ROWS)
    assert model.predict(x[order]).tobytes() == together[order].tobytes()
    assert model.predict(np.tile(x[3], (5, 1))).tobytes() == np.tile(together[3], (5, 1)).tobytes()


def test_predicting_and_evaluating_leave_training_alone() -> None:
    """They neither count as steps for dropout and Adam nor draw from any generator."""
    undisturbed, disturbed = network(), network()
    x, y, _ = data()
    train(undisturbed, epochs=2)
    for _ in range(2):
        train(disturbed, epochs=1)
        disturbed.predict(x)
        disturbed.evaluate(x, y)
        disturbed(x)
    assert_same(undisturbed, disturbed)
