"""Settings of the whole suite: property tests draw the same examples every time, however slowly."""

import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
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


CUBINS = pytest.StashKey[str]()
"""What `benchmarks.cubins` has printed, if a test has read its report."""


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show how the CUDA kernels are compiled."""
    if CUBINS in config.stash:
        terminalreporter.section("CUDA kernels")
        terminalreporter.write(config.stash[CUBINS])


def reads_cubins(item: pytest.Item) -> bool:
    """Whether a test waits until all CUDA kernels are compiled."""
    return "cubin_lines" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests that read cubins come last: these are compiled meanwhile, by another process."""
    items.sort(key=reads_cubins)


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


@pytest.fixture(scope="session", autouse=True)
def cubin_report(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Any]]:
    """What waits for the report of ``python -m benchmarks.cubins``.

    The command is begun with the session, if a test reads what it finds: on one core, at the lowest
    priority, where other tests are to be run first.
    """
    items = request.session.items
    if not any(map(reads_cubins, items)):
        yield lambda: None
        return
    folder = tmp_path_factory.mktemp("cubins")
    path, table, errors = (folder / name for name in ("report.json", "table", "errors"))
    command = [sys.executable, "-m", "benchmarks.cubins", "--output", str(path)]
    if len({item.path for item in items}) > 1:
        command = ["nice", "-n", "19", *command, "--processes", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    with errors.open("w") as said, table.open("w") as printed:
        child = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[1],
            env=environment,
            stdout=printed,
            stderr=said,
            start_new_session=True,
        )

    def report() -> Any:
        assert child.wait() == 0, errors.read_text()
        request.config.stash[CUBINS] = table.read_text(encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    try:
        yield report
    finally:
        if child.poll() is None:  # with the processes that it has begun
            os.killpg(child.pid, signal.SIGTERM)
            child.wait()


@pytest.fixture(scope="session")
def cubin_lines(cubin_report: Callable[[], Any]) -> list[dict[str, Any]]:
    """A line for each CUDA kernel that was compiled, as `benchmarks.cubins` has them."""
    return cubin_report()["kernels"]


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
