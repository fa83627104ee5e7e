"""Many Python threads that use fastnn at once get what each would get alone; and how many threads
fastnn itself uses is the user's to say.
"""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.engine import compiler, cpu
from fastnn.kernels.cpu import adapter

# Large enough that a call into compiled code takes milliseconds: calls of several threads overlap.
ROWS, COLUMNS, CLASSES = 1600, 101, 10
X = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
Y = X[:, :CLASSES].argmax(axis=1)


@pytest.fixture(autouse=True)
def chosen_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin and end with no number of threads chosen."""
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    fastnn.set_num_threads(None)
    yield
    fastnn.set_num_threads(None)


def at_once(jobs: list[Callable[[], Any]]) -> list[Any]:
    """The results of all jobs, each on a thread of its own; they begin together."""
    gate, results = threading.Barrier(len(jobs)), [None] * len(jobs)
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            gate.wait(60)
            results[index] = jobs[index]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return results


def whole_life(seed: int) -> Callable[[], Any]:
    """A job: build, fit, predict, evaluate, and step once more; all that came of it, as bits."""

    def job() -> Any:
        # Every model another shape: programs, arenas and ops meet in all combinations.
        model = fastnn.Sequential(
            [
                fastnn.Dense(120 + 7 * seed, "relu"),
                fastnn.Dropout(0.2),
                fastnn.Dense(CLASSES, "softmax"),
            ],
            seed=seed,
        )
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(X, Y, batch_size=100 + seed, epochs=4, verbose=0, validation_split=0.2)
        predicted = [model.predict(X[: ROWS - n]).tobytes() for n in range(5)]
        figures = model.evaluate(X, Y), model.train_on_batch(X[:9], Y[:9])
        return history.history, predicted, figures, model.parameters.tobytes()

    return job


@pytest.mark.parametrize("threads", [1, 2])
def test_four_threads_at_once_get_what_each_gets_alone(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [whole_life(seed)() for seed in range(4)]
    fastnn.set_num_threads(threads)
    if threads > 1:
        monkeypatch.setattr(cpu, "TEAM_COST", 0)  # even the smallest step is given to a team
    for _ in range(3):
        assert at_once([whole_life(seed) for seed in range(4)]) == alone


@pytest.mark.parametrize("threads", [1, 2])
def test_eight_threads_predict_on_one_model(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def network() -> fastnn.Sequential:
        layers = [fastnn.Dense(256, "relu"), fastnn.Dense(CLASSES, "softmax")]
        return fastnn.Sequential(layers, input_shape=COLUMNS, seed=1)

    rows = [ROWS - 50 * index for index in range(8)]
    expected = [network().predict(X[:count]).tobytes() for count in rows]
    shared = network()
    fastnn.set_num_threads(threads)
    if threads > 1:
        monkeypatch.setattr(cpu, "TEAM_COST", 0)
    jobs = [
        lambda count=count: {shared.predict(X[:count]).tobytes() for _ in range(8)}
        for count in rows
    ]
    assert at_once(jobs) == [{prediction} for prediction in expected]


def test_layers_of_many_threads_share_scratch_memory_in_peace() -> None:
    def loop(seed: int) -> Callable[[], Any]:
        def job() -> Any:
            dense, loss = fastnn.Dense(90), fastnn.CategoricalCrossentropy(from_logits=True)
            dense.prepare((COLUMNS,), seed=seed)
            optimizer = fastnn.SGD(0.1)
            losses = []
            for _ in range(30):
                losses.append(loss.forward(dense.forward(X, training=True), Y))
                dx = dense.backward(loss.backward())
                optimizer.update(dense)
            return losses, dense.kernel.tobytes(), dx.tobytes()

        return job

    alone = [loop(seed)() for seed in range(4)]
    assert at_once([loop(seed) for seed in range(4)]) == alone


def test_two_threads_that_need_a_new_op_compile_it_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiled: list[str] = []
    compile_op = adapter.compile_op

    def counted(name: str, element_types: tuple[str, ...]) -> tuple[bytes, str]:
        compiled.append(name)
        return compile_op(name, element_types)

    monkeypatch.setattr(adapter, "compile_op", counted)
    monkeypatch.setattr(compiler, "_addresses", {})
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    results = at_once([lambda: fastnn.Activation("relu").forward(X).tobytes()] * 2)
    assert results == [np.maximum(X, 0).tobytes()] * 2
    assert compiled == ["relu_forward"]
    assert [path.name for path in tmp_path.rglob("*.*")] == ["relu_forward.float32.bin"]


def test_a_team_that_gets_no_threads_does_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = whole_life(0)()
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def only_one(thread: threading.Thread) -> None:
        if len(started) % 2:
            started.clear()
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", only_one)
    monkeypatch.setattr(cpu, "TEAM_COST", 0)
    fastnn.set_num_threads(2)
    assert whole_life(0)() == alone
    monkeypatch.undo()


# How many.


def test_a_choice_goes_before_the_environment_and_that_before_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert fastnn.get_num_threads() == cores
    monkeypatch.setenv("FASTNN_NUM_THREADS", "7")
    assert fastnn.get_num_threads() == 7
    fastnn.set_num_threads(3)
    assert fastnn.get_num_threads() == 3
    fastnn.set_num_threads(np.int64(2))
    assert fastnn.get_num_threads() == 2
    fastnn.set_num_threads(None)
    assert fastnn.get_num_threads() == 7
    monkeypatch.setenv("FASTNN_NUM_THREADS", "")
    assert fastnn.get_num_threads() == cores


@pytest.mark.parametrize("wrong", [0, -1, 1.0, "2", True, [2]])
def test_a_wrong_choice_is_refused_and_the_old_one_kept(wrong: Any) -> None:
    fastnn.set_num_threads(5)
    with pytest.raises((ValueError, TypeError), match=r"set_num_threads: threads must be"):
        fastnn.set_num_threads(wrong)
    assert fastnn.get_num_threads() == 5


@pytest.mark.parametrize("wrong", ["0", "-1", "1.5", "two", " ", "1e3"])
def test_a_wrong_environment_is_met_before_anything_changes(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTNN_NUM_THREADS", wrong)
    with pytest.raises(ValueError, match=r"FASTNN_NUM_THREADS must be a positive integer"):
        fastnn.get_num_threads()
    model = fastnn.Sequential([fastnn.Dense(CLASSES)], seed=0)
    model.compile("sgd", "categorical_crossentropy")
    begun: list[bool] = []
    callback = fastnn.LambdaCallback(on_train_begin=lambda _: begun.append(True))
    with pytest.raises(ValueError, match=r"FASTNN_NUM_THREADS must be a positive integer"):
        model.fit(X, Y, verbose=0, callbacks=[callback])
    assert not model.built
    assert begun == []
