"""What the doors to other tools have in common."""

import doctest
import importlib
import sys
from typing import Any

import pytest

import fastnn
from processes import python

DOORS: dict[str, tuple[str, str]] = {
    "from_torch": ("torch", "pip install torch"),
    "to_torch": ("torch", "pip install torch"),
    "from_onnx": ("onnx", 'pip install "fastnn[onnx]"'),
    "to_onnx": ("onnx", 'pip install "fastnn[onnx]"'),
    "from_keras_weights": ("h5py", 'pip install "fastnn[keras]"'),
    "from_sklearn": ("sklearn", 'pip install "fastnn[sklearn]"'),
}


def test_every_door_is_named() -> None:
    assert set(fastnn.io.__all__) == set(DOORS)


@pytest.mark.parametrize("door", DOORS)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, line = DOORS[door]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as raised:
        getattr(fastnn.io, door)("anything")
    assert str(raised.value) == f"{door} needs {package}: {line}"


@pytest.mark.parametrize(
    ("room", "package"),
    [
        ("onnx_export", "onnx"),
        ("onnx_import", "onnx"),
        ("sklearn_import", "sklearn"),
        ("torch_export", "torch"),
        ("torch_import", "torch"),
    ],
)
def test_examples_of_docstrings_run(room: str, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    result = doctest.testmod(importlib.import_module(f"fastnn.io.{room}"))
    assert result.failed == 0
    assert result.attempted > 0


def test_importing_the_doors_imports_no_other_tool() -> None:
    code = (
        "import fastnn, sys; fastnn.io.from_torch; "
        "assert not {'torch', 'onnx', 'h5py', 'sklearn', 'keras'} & set(sys.modules)"
    )
    assert python(code) == ""


def test_a_star_import_leaves_pythons_io_alone() -> None:
    names: dict[str, Any] = {}
    exec("import io\nfrom fastnn import *", names)
    assert names["io"].__name__ == "io"
