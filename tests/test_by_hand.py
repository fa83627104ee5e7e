"""Ops called by hand: the bits of `Eager`'s, on any arrays, from any thread."""

import threading
from typing import Any

import numpy as np
import pytest

from fastnn.engine import by_hand as module
from fastnn.engine import cpu
from fastnn.engine.by_hand import ByHand, by_hand
from fastnn.engine.tape import Eager
from fastnn.kernels import state as s


def operands(rows: int, dtype: str = "float32") -> dict[str, Any]:
    rng = np.random.default_rng(rows)
    arrays = {
        "y": np.zeros((rows, 7)),
        "x": rng.normal(size=(rows, 5)),
        "w": rng.normal(size=(5, 7)),
    }
    return {name: array.astype(dtype) for name, array in arrays.items()} | {"b": None}


def test_ops_have_the_bits_of_an_eager_tape() -> None:
    for rows in (3, 40, 3):  # shapes seen before are found again, with other arrays
        for dtype in ("float32", "float64"):
            ours, theirs = operands(rows, dtype), operands(rows, dtype)
            by_hand.op("dense_forward", **ours)
            Eager(rows, dtype, cpu.new_state()).op("dense_forward", **theirs)
            np.testing.assert_array_equal(ours["y"], theirs["y"])
            assert ours["y"].any()


def test_numbers_of_a_step_are_read_from_the_state() -> None:
    w, g = np.ones(5), np.ones(5)
    for rate in (0.5, 0.25):
        by_hand.numbers[s.LEARNING_RATE] = rate
        by_hand.commit("sgd", w=w, g=g, velocity=None, momentum=0.0, nesterov=0, multiplier=1.0)
        assert not by_hand.stopped
    np.testing.assert_array_equal(w, np.full(5, 0.25))
    g[2] = np.inf
    by_hand.commit("sgd", w=w, g=g, velocity=None, momentum=0.0, nesterov=0, multiplier=1.0)
    assert by_hand.stopped


def test_arrays_that_cannot_be_written_to_are_read() -> None:
    given = operands(4)
    given["x"].flags.writeable = False
    by_hand.op("dense_forward", **given)
    np.testing.assert_allclose(given["y"], given["x"] @ given["w"], rtol=1e-5, atol=1e-6)


def test_rooms_are_used_again_up_to_a_size() -> None:
    first, second = (by_hand.room("here", (3, 4)) for _ in range(2))
    assert np.shares_memory(first, second)
    assert not np.shares_memory(first, by_hand.room("there", (3, 4)))
    large = (module.ROOM_ITEMS + 1,)
    assert not np.shares_memory(by_hand.room("here", large), by_hand.room("here", large))


def test_only_so_many_ops_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_OPS", 3)
    own = ByHand()
    for rows in range(1, 9):
        given = operands(rows)
        own.op("dense_forward", **given)
        assert given["y"].any()
    assert len(own._ops) <= 3


def test_threads_do_not_disturb_each_other() -> None:
    wrong: list[int] = []
    start = threading.Barrier(4)

    def work(rows: int) -> None:
        given = operands(rows)
        expected = given["x"] @ given["w"]
        start.wait()
        for _ in range(300):
            given["y"][...] = 0
            by_hand.op("dense_forward", **given)
            if not np.allclose(given["y"], expected, rtol=1e-4, atol=1e-5):
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(200 + i // 2,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
