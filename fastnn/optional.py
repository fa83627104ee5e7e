"""Packages that only some doors need: imported when one is used, named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

INSTALL = {
    "h5py": 'pip install "fastnn[keras]"',
    "onnx": 'pip install "fastnn[onnx]"',
    "sklearn": 'pip install "fastnn[sklearn]"',
    "torch": "pip install torch",
}
"""The line that installs each."""


def needed(package: str, door: str) -> Any:
    """The module `package`, without which `door` cannot do its work.

    Raises
    ------
    ImportError
        With the line that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{door} needs {package}: {INSTALL[package]}") from error
