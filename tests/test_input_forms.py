"""Data in odd but good forms give, bit for bit, what their plain float32 copies give."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from door_cases import CLASSES, ONE_HOT, ROWS, X, Y, network, trained_network


class Frame:
    """Like a pandas frame: an array only when asked."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._array, dtype)


def spread(array: Any) -> Any:
    """The same elements, every second one of a larger array's."""
    wide = np.full([2 * n for n in array.shape], np.nan, array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def read_only(array: Any) -> Any:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def mapped(array: Any, file: Path) -> Any:
    np.save(file, array)
    return np.load(file, mmap_mode="r")


FORMS: dict[str, Callable[[Any], Any]] = {
    "list": lambda a: a.tolist(),
    "tuple of rows": lambda a: tuple(a),
    "frame": Frame,
    "every second": spread,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "Fortran": np.asfortranarray,
    "read-only": read_only,
    "broadcast": lambda a: np.broadcast_to(a, (1, *a.shape))[0],
    "misaligned": lambda a: np.frombuffer(b"." + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    **{
        dtype: lambda a, dtype=dtype: a.astype(dtype)
        for dtype in ("u1", "i1", "u2", "i4", "i8", "u8", "f2", "f8", "g", ">f4", ">f8", ">i2")
    },
}


def results(x: Any, y: Any, loss: str = "categorical_crossentropy", **options: Any) -> Any:
    """Everything that comes of training on x and y, as bits."""
    model = network()
    model.compile("adam", loss, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=5, epochs=2, verbose=0, **options)
    on_batch = model.train_on_batch(x, y)
    return (
        model.parameters.tobytes(),
        model.predict(x).tobytes(),
        model.evaluate(x, y),
        on_batch,
        history.history,
    )


@pytest.mark.parametrize("form", FORMS)
def test_x_in_any_form_gives_the_same_bits(form: str) -> None:
    x = FORMS[form](X)
    kept = np.array(x)
    assert results(x, Y) == results(X, Y)
    np.testing.assert_array_equal(np.asarray(x), kept)


def test_x_of_booleans_and_from_disk_gives_the_same_bits(tmp_path: Path) -> None:
    assert results(X > 3, Y) == results((X > 3).astype(np.float32), Y)
    assert results(mapped(X, tmp_path / "x.npy"), mapped(Y, tmp_path / "y.npy")) == results(X, Y)


@pytest.mark.parametrize("form", FORMS)
def test_y_in_any_form_gives_the_same_bits(form: str) -> None:
    change = FORMS[form]
    expected = results(X, Y)
    assert results(X, change(Y.astype(np.float32))) == expected
    assert results(X, change(Y[:, None].astype(np.float32))) == expected
    assert results(X, change(ONE_HOT)) == expected


@pytest.mark.parametrize("form", [form for form in FORMS if not re.search(r"[iu]\d", form)])
def test_soft_rows_and_weights_in_any_form_give_the_same_bits(form: str) -> None:
    change, soft, weights = FORMS[form], 0.5 * ONE_HOT + [0.25, 0.25, 0.0], np.arange(ROWS) / 4
    soft, weights = soft.astype(np.float32), weights.astype(np.float32)
    assert results(X, change(soft)) == results(X, soft)
    assert results(X, change(soft), "mse") == results(X, soft, "mse")
    expected = results(X, Y, sample_weight=weights)
    assert results(X, Y, sample_weight=change(weights)) == expected
    assert expected != results(X, Y)


def test_sizes_at_the_edge_work() -> None:
    trained = trained_network()
    assert trained.predict(X[:1]).shape == (1, CLASSES)
    assert trained.predict(X, batch_size=10**12).tobytes() == trained.predict(X, 1).tobytes()
    before = trained.parameters.copy()
    assert trained.fit(X, Y, epochs=0, verbose=0).history == {}
    np.testing.assert_array_equal(trained.parameters, before)
    whole, larger = network(), network()
    whole.fit(X, Y, batch_size=ROWS, verbose=0)
    larger.fit(X, Y, batch_size=10**12, verbose=0)
    assert whole.parameters.tobytes() == larger.parameters.tobytes()
    trained.fit(X[:1], Y[:1], batch_size=np.int64(3), epochs=np.uint8(2), verbose=0)
