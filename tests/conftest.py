"""Settings of the whole suite: property tests draw the same examples every time, however slowly."""

import gc
import os
import warnings
from typing import Any

import pytest
from hypothesis import settings

from fastnn.engine import compiler
from fastnn.engine.catalogue import every_key

settings.register_profile("fastnn", deadline=None, derandomize=True)
settings.load_profile("fastnn")


def pytest_configure(config: pytest.Config) -> None:
    """Unless a GPU is asked for, by ``-m gpu``, let Numba's simulator stand for one.

    Numba reads the setting where it is imported; of what it does for the CPU nothing depends on it.
    """
    if config.getoption("markexpr") != "gpu":
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"


def pytest_collection_finish() -> None:
    """Keep all that is imported out of garbage collection: it stays, and looking at it is slow."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def every_op_compiled(request: pytest.FixtureRequest) -> None:
    """All ops, where tests are to come that want them all, and not only some of those.

    Asked for one by one, they would be compiled on one core, and both forms of an op apart.
    """
    keys, items = every_key(), request.session.items
    if sum(item.get_closest_marker("every_op") is not None for item in items) >= len(keys):
        compiler.prepare(keys)


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keras, on PyTorch unless the environment names another backend."""
    if "KERAS_BACKEND" not in os.environ:
        monkeypatch.setenv("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torch", reason="PyTorch, on which Keras runs here, is not installed")
        module = pytest.importorskip("keras", reason="Keras is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own, of NumPy 2
        yield module


@pytest.fixture
def keras_in_float64(keras: Any) -> Any:
    """Keras with float64 as its default type."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield keras
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])
