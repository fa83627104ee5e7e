"""Packages that only some doors need: imported when one is used, named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

INSTALL = {
    "h5py": 'pip install "fastnn[keras]"',
    "matplotlib": 'pip install "fastnn[plot]"',
    "onnx": 'pip install "fastnn[onnx]"',
    "sklearn": 'pip install "fastnn[sklearn]"',
    "tensorboardX": 'pip install "fastnn[tensorboard]"',
    "torch": "pip install torch",
}
"""The line that installs each."""


def needed(module: str, door: str) -> Any:
    """The module `module`, without which `door` cannot do its work.

    Raises
    ------
    ImportError
        With the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{door} needs {package}: {INSTALL[package]}") from error
