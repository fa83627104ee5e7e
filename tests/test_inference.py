"""`predict` and `compiled_predict`: one answer, whatever the way to it, and from any thread."""

import doctest
import gc
import re
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastnn
import fastnn.model
import fastnn.network
from fastnn import checks
from fastnn.engine.linking import Linked
from fastnn.engine.program import Program
from fastnn.training.inference import COPIED_BYTES
from fastnn.training.loop import KEPT_RUNS

Array = np.ndarray[Any, np.dtype[Any]]

FEATURES, CLASSES, ROWS = 23, 5, 300
SOURCES = ("float32", "float64", "uint8", "int64", "bool", "float16", ">f4", ">i2")


def network(dtype: str = "float32", seed: int = 0) -> fastnn.Sequential:
    layers = [
        fastnn.Dense(40, "relu"),
        fastnn.Dropout(0.5),
        fastnn.Dense(17, "tanh"),
        fastnn.Dense(CLASSES, "softmax"),
    ]
    model = fastnn.Sequential(layers, input_shape=(FEATURES,), dtype=dtype, seed=seed)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def rows_of(count: int, dtype: str = "float32", seed: int = 0) -> Array:
    drawn = np.random.default_rng(seed).normal(0, 60, (count, FEATURES))
    return np.abs(drawn).astype(dtype) if dtype in ("uint8", "bool") else drawn.astype(dtype)


def assert_same(actual: Array, expected: Array) -> None:
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


# One answer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", SOURCES)
def test_any_split_of_the_rows_gives_the_same_bits(dtype: str, source: str) -> None:
    model, x = network(dtype), rows_of(ROWS, source)
    whole = model.predict(x)
    assert whole.dtype == dtype
    assert_same(np.concatenate([model(x[i : i + 1]) for i in range(0, ROWS, 7)]), whole[::7])
    for batch in (1, 3, 64, ROWS - 1, ROWS):
        assert_same(model.predict(x, batch_size=batch), whole)
    for count in (1, 2, 3, 5, 31, 64):
        compiled = model.compiled_predict(count)
        assert_same(model.predict(x[:count]), whole[:count])
        for begin in (0, 40, ROWS - count):
            assert_same(compiled(x[begin : begin + count]), whole[begin : begin + count])


def test_many_rows_are_read_where_they_lie_and_others_copied() -> None:
    """In turns, through one linked program; what was read before is never read again."""
    count = COPIED_BYTES // (4 * FEATURES) + 1
    model, x = network(), rows_of(2 * count)
    compiled = model.compiled_predict(count)
    expected = model.predict(x, batch_size=100)
    misaligned = np.frombuffer(b"_" + x[:count].tobytes(), np.uint8)[1:].view(np.float32)
    misaligned = misaligned.reshape(count, FEATURES)
    assert not misaligned.flags.aligned
    for rows, answer in (
        (x[:count], expected[:count]),
        (x[::2], expected[::2]),
        (x[count:].copy(), expected[count:]),
        (x[:count].astype(">f4"), expected[:count]),
        (x[count:].astype(np.float64), expected[count:]),
        (misaligned, expected[:count]),
    ):
        before = rows.copy()
        assert_same(model.predict(rows), answer)
        assert_same(compiled(rows), answer)
        assert_same(model.predict(rows[:3]), answer[:3])
        np.testing.assert_array_equal(rows, before)


def test_rows_need_not_lie_together() -> None:
    model, x = network(), rows_of(40)
    compiled = model.compiled_predict(4)
    for view in (
        x[::10],
        np.asfortranarray(x[:4]),
        x[3::-1],
        np.broadcast_to(x[:1], (4, FEATURES)),
    ):
        expected = model.predict(np.array(view, order="C"))
        assert_same(model.predict(view), expected)
        assert_same(compiled(view), expected)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([fastnn.Flatten()], (3, 4)),
        ([fastnn.Flatten(), fastnn.Dense(2)], (3, 4)),
        ([fastnn.Input((6,)), fastnn.Dropout(0.3)], (6,)),
        ([fastnn.ReLU(), fastnn.Sigmoid()], (2, 3)),
        ([fastnn.Dense(1, use_bias=False)], (1,)),
    ],
    ids=["flatten", "images", "dropout", "activations", "one number"],
)
def test_networks_of_every_shape(layers: Any, shape: tuple[int, ...]) -> None:
    model = fastnn.Sequential(layers, input_shape=shape, seed=3)
    x = np.random.default_rng(1).normal(size=(9, *shape)).astype(np.float32)
    expected = model(x)
    assert_same(model.predict(x), expected)
    assert_same(model.compiled_predict(9)(x), expected)
    assert_same(model.compiled_predict()(x[2:3]), expected[2:3])


def test_results_are_new_arrays_unless_one_is_given() -> None:
    model, x = network(), rows_of(8)
    compiled = model.compiled_predict(2)
    first, second = compiled(x[:2]), compiled(x[2:4])
    assert_same(first, model.predict(x[:2]))  # not written over by the second call
    assert not np.shares_memory(first, second)
    out = np.full((6, CLASSES), 7, np.float32)
    given_out = out[1:5:2]  # need not lie together
    assert compiled(x[:2], out=given_out) is given_out
    assert_same(given_out, first)
    assert (out[::2] == 7).all()
    assert (out[5] == 7).all()
    square = fastnn.Sequential([fastnn.Dense(FEATURES)], input_shape=(FEATURES,), seed=0)
    both, expected = x[:1].copy(), square.predict(x[:1])
    assert_same(square.compiled_predict()(both, both), expected)


# Linked once, bound anew


@pytest.mark.parametrize("loss", ["mse", "categorical_crossentropy"])
def test_a_kept_program_serves_other_arrays(loss: str) -> None:
    def trained(relink: bool) -> tuple[bytes, list[Any]]:
        model = fastnn.Sequential(
            [fastnn.Dense(9, "tanh"), fastnn.Dense(FEATURES)], FEATURES, seed=2
        )
        model.compile("adam", loss, metrics=["accuracy"])
        figures = []
        for seed in range(3):
            x = np.abs(rows_of(50, seed=seed))
            x /= x.sum(axis=1, keepdims=True)
            y = x if seed == 0 else x[::-1].copy()  # at first both are one array
            weights = np.linspace(0.5, 1, 50)
            model.fit(x, y, batch_size=20, sample_weight=weights, shuffle=seed > 1, verbose=0)
            figures.append(model.evaluate(x, y, batch_size=16))
            figures.append(model.predict(x, batch_size=16).tobytes())
            if relink:
                model._programs.clear()
        return model.parameters.tobytes(), figures

    assert trained(relink=False) == trained(relink=True)


def test_rows_that_are_the_weights_themselves() -> None:
    model = fastnn.Sequential([fastnn.Dense(FEATURES, "relu")], FEATURES, seed=2)
    kernel, x = model.layers[0].kernel, rows_of(FEATURES)
    compiled = model.compiled_predict(FEATURES)
    for rows in (kernel, x, kernel):
        expected = model(rows.copy())
        for batch in (FEATURES, 4):
            assert_same(model.predict(rows, batch_size=batch), expected)
        assert_same(compiled(rows), expected)


def test_an_array_that_no_op_touches_cannot_be_bound() -> None:
    program = Program(4, "float32")
    x = program.external("x", (0, 3), "float32")
    program.op("gather", out=program.new((3,)), source=x, order=None)
    Linked(program, {"x": True, "y": False})
    with pytest.raises(SystemError, match="no op of the program reads or writes y"):
        Linked(program, {"x": True, "y": True})


def test_what_many_threads_leave_behind_is_bounded() -> None:
    model = network()
    model.predict(rows_of(4))
    (forward,) = model._forwards.values()
    assert forward is not None
    taken = [forward.take() for _ in range(3 * KEPT_RUNS)]
    assert len({each.x.ctypes.data for each in taken}) == len(taken)
    for each in taken:
        forward.put_back(each)
    assert len({id(forward.take()) for _ in range(KEPT_RUNS)} & set(map(id, taken))) == KEPT_RUNS
    assert forward.take() not in taken


# Live weights


def test_weights_are_read_at_each_call(tmp_path: Path) -> None:
    model, x = network(), rows_of(64)
    y = np.arange(64) % CLASSES
    compiled, seen = model.compiled_predict(64), []

    def look() -> None:
        assert_same(compiled(x), model.predict(x, batch_size=7))
        seen.append(compiled(x).tobytes())

    look()
    model.fit(x, y, epochs=2, verbose=0)
    look()
    model.train_on_batch(x, y)
    look()
    model.set_weights(network(seed=9).get_weights())
    look()
    model.layers[0].kernel = 0.01 * np.ones((FEATURES, 40))
    look()
    model.parameters[:] = 0.5
    look()
    model.compile("sgd", "mse")
    model.build((FEATURES,))
    model.evaluate(x, np.zeros((64, CLASSES)))
    assert len(set(seen)) == len(seen)
    model.save(tmp_path / "net.safetensors")
    loaded = fastnn.load(tmp_path / "net.safetensors")
    assert_same(loaded.compiled_predict(64)(x), compiled(x))


def test_the_function_outlives_its_model() -> None:
    model, x = network(), rows_of(1)
    compiled, expected = model.compiled_predict(), model.predict(x)
    del model
    gc.collect()
    others = [network(seed=seed) for seed in range(1, 20)]  # they would take its memory
    assert_same(compiled(x), expected)
    del compiled
    gc.collect()
    assert len({other.predict(x).tobytes() for other in others}) == len(others)


def test_layers_that_were_changed_are_not_guessed_about() -> None:
    """A program made for other layers would write beyond the output's rows."""
    model, x = network(), rows_of(2)
    compiled, expected = model.compiled_predict(2), model.predict(x)
    last = model.layers.pop()
    for use in (
        lambda: model.predict(x),
        lambda: model.compiled_predict(),
        lambda: model.evaluate(x, [0, 1]),
        lambda: model.train_on_batch(x, [0, 1]),
        lambda: model.fit(x, [0, 1], verbose=0),
    ):
        with pytest.raises(RuntimeError, match="layers were changed after the model was built"):
            use()
    assert_same(compiled(x), expected)
    model.layers.append(last)
    assert_same(model.predict(x), expected)


# Many threads


def test_eight_threads_hammer_one_function_and_predict() -> None:
    model = network()
    compiled = model.compiled_predict(3)
    x = [rows_of(3, seed=seed) for seed in range(8)]
    start, wrong = threading.Barrier(8), []

    def hammer(index: int) -> None:
        own, expected = x[index], answers[index]
        out = np.empty_like(expected)
        start.wait(60)
        for turn in range(400):
            results = compiled(own), compiled(own, out), model.predict(own[: 1 + turn % 3])
            for result in results:
                if not np.array_equal(result, expected[: len(result)]):
                    wrong.append(index)
                    return

    for seed in (0, 5):  # the second time with other weights
        model.set_weights(network(seed=seed).get_weights())
        answers = [model(each) for each in x]
        threads = [threading.Thread(target=hammer, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
        assert wrong == []


def test_a_hundred_thousand_calls_leave_nothing_behind() -> None:
    model, x = network(), rows_of(1)
    compiled, out = model.compiled_predict(), np.empty((1, CLASSES), np.float32)

    def calls(count: int) -> None:
        for _ in range(count):
            compiled(x)
            compiled(x, out)
            model.predict(x)

    calls(10)
    tracemalloc.start()
    try:
        calls(100)
        before = tracemalloc.get_traced_memory()[0]
        calls(100_000 // 3)
        assert tracemalloc.get_traced_memory()[0] - before < 4096
    finally:
        tracemalloc.stop()


# What is refused


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (
            np.zeros(FEATURES),
            ValueError,
            "x must be an array of numbers of shape (2, 23), got shape",
        ),
        (np.zeros((1, FEATURES)), ValueError, "got shape (1, 23) of float64"),
        (np.zeros((2, FEATURES + 1), "f4"), ValueError, "got shape (2, 24) of float32"),
        (np.zeros((2, FEATURES, 1)), ValueError, "got shape (2, 23, 1)"),
        (np.zeros((2, FEATURES), complex), TypeError, "got shape (2, 23) of complex128"),
        (np.zeros((2, FEATURES), object), TypeError, "of object"),
        (np.full((2, FEATURES), "1"), TypeError, "of <U1"),
        (
            [[0.0] * FEATURES] * 2,
            TypeError,
            "x and out must be NumPy arrays of shape (2, 23) and (2, 5), got [[",
        ),
        (None, TypeError, "(2, 5), got None and array"),
    ],
)
def test_wrong_rows_are_refused(x: Any, error: type[Exception], words: str) -> None:
    model = network()
    compiled = model.compiled_predict(2)
    out = np.full((2, CLASSES), 7, np.float32)
    with pytest.raises(error, match=re.escape(words)):
        compiled(x, out)
    assert (out == 7).all()
    good = rows_of(2)
    assert_same(compiled(good), model.predict(good))


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.zeros((1, 2, CLASSES), "f4"), ValueError, "out must be an array of float32 of shape"),
        (np.zeros((2, CLASSES)), TypeError, "got shape (2, 5) of float64"),
        (np.zeros((2, CLASSES), int), TypeError, "got shape (2, 5) of int64"),
        (np.broadcast_to(np.float32(0), (2, CLASSES)), ValueError, "read-only"),
        ([[0.0] * CLASSES] * 2, TypeError, "x and out must be NumPy arrays of shape"),
    ],
)
def test_a_wrong_place_for_the_output_is_refused(
    out: Any, error: type[Exception], words: str
) -> None:
    model, x = network(), rows_of(2)
    compiled = model.compiled_predict(2)
    with pytest.raises(error, match=re.escape(words)):
        compiled(x, out)
    assert_same(compiled(x), model.predict(x))


def test_models_that_cannot_be_compiled_say_so() -> None:
    with pytest.raises(RuntimeError, match=r"compiled_predict: the model is not built yet"):
        fastnn.Sequential([fastnn.Dense(3)]).compiled_predict()

    class Double(fastnn.Layer):
        def forward(self, x: Array, training: bool = False) -> Array:
            return 2 * x

    model = fastnn.Sequential([Double(), fastnn.Dense(3)], input_shape=(2,))
    with pytest.raises(RuntimeError, match=r"compiled_predict: double_0: only in Python"):
        model.compiled_predict()
    assert model.predict(np.ones((1, 2))).shape == (1, 3)
    for wrong in (0, -1, 1.5, None, True):
        with pytest.raises((ValueError, TypeError), match=r"compiled_predict: rows must be"):
            network().compiled_predict(wrong)  # type: ignore[arg-type]


def test_a_row_with_nan_harms_no_other() -> None:
    model, x = network(), rows_of(9)
    compiled, expected = model.compiled_predict(9), model.predict(x)
    for bad in (np.nan, np.inf, -np.inf):
        broken = x.copy()
        broken[4, 2] = bad
        with pytest.raises(ValueError, match=r"x must be finite in float32, got .* in row 4"):
            model.predict(broken)
        result = compiled(broken)
        assert_same(np.delete(result, 4, 0), np.delete(expected, 4, 0))
    assert_same(compiled(x), expected)


@given(
    values=hnp.arrays(
        st.sampled_from(["float16", "float32", "float64", ">f8", "longdouble"]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
    ),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_what_is_finite_in_the_networks_type_passes(values: Array, dtype: str) -> None:
    with np.errstate(over="ignore"):
        good = np.isfinite(values.astype(dtype))
    if good.all():
        checks.finite(values, "x", dtype)
    else:
        row = int(np.argwhere(~good)[0][0])
        with pytest.raises(ValueError, match=rf"x must be finite in {dtype}, got .* in row {row}"):
            checks.finite(values, "x", dtype)


def test_examples_of_the_model() -> None:
    results = [doctest.testmod(module) for module in (fastnn.model, fastnn.network)]
    assert all(result.attempted > 2 and result.failed == 0 for result in results)
