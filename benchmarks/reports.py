"""Kept reports: where the newest of a kind is, and what they share.

A report of a whole run is ``benchmarks/results/<kind>-<date>.json``; of a GPU the card's name stands
before the date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import RESULTS

Report = dict[str, Any]

NAMES = {
    "torch": "PyTorch",
    "torch.compile": "torch.compile",
    "jax": "JAX",
    "sklearn": "scikit-learn",
    "numpy": "NumPy",
    "onnxruntime": "ONNX Runtime",
}
"""Peers by the names that people call them."""


def newest(kind: str, folder: Path = RESULTS) -> Path:
    """The newest report of a whole run in `folder`.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = sorted(folder.glob(f"{kind}-*????-??-??.json"), key=lambda path: path.stem[-10:])
    if not found:
        raise FileNotFoundError(f"no {kind}-<date>.json in {folder}")
    return found[-1]


def read(path: Path) -> Report:
    """The report in the file at `path`.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: must hold JSON: {error}") from error
    if not isinstance(report, dict):
        raise ValueError(f"{path.name}: must hold a report, got {type(report).__name__}")
    return report


def versions(report: Report) -> str:
    """What the figures were measured with, but for fastnn itself."""
    return ", ".join(
        f"{name} {version}" for name, version in report["versions"].items() if name != "fastnn"
    )
