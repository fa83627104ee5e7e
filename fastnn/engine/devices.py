"""What a model computes on, by the names that users give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.engine.cuda import arrays
from fastnn.kernels.cuda.launch import PRECISIONS

if TYPE_CHECKING:
    from fastnn.engine.cuda.mirror import Mirror

DEVICES = ("cpu", "cuda", "auto")
"""What `device` may be."""


def chosen(device: Any) -> str:
    """``"cpu"`` or ``"cuda"``: of ``"auto"`` the second, if there is a GPU.

    Raises
    ------
    ValueError
        If it is none of the three.
    ImportError, RuntimeError
        If it is ``"cuda"``, and there is no GPU.
    """
    if device not in DEVICES:
        raise ValueError(f"Sequential: device must be one of {DEVICES}, got {device!r}")
    if device == "cpu":
        return "cpu"
    from fastnn.engine.cuda import opening

    if device == "auto":
        return "cuda" if opening.is_available() else "cpu"
    opening.open_device()
    return "cuda"


def taken(value: Any, argument: str, mirror: Mirror | None) -> Any:
    """`value`, where it is an array on a GPU as a `DeviceArray`; else as it is.

    Raises
    ------
    TypeError
        If it lies on a GPU, and the model, which has no `mirror` there, computes on the CPU.
    ValueError
        If it lies on another GPU than the model, or not contiguously.
    """
    if type(value) is np.ndarray or value is None or not arrays.is_on_gpu(value):
        return value
    if mirror is None:
        raise TypeError(
            f"{argument} lies on a GPU, and the model computes on the CPU: to('cuda') brings the "
            "model there"
        )
    return arrays.taken(value, argument, mirror.device)


def checked_precision(precision: Any, dtype: str) -> str:
    """`precision`, if a model of that dtype can have it.

    Raises
    ------
    ValueError
        If it is not one of `PRECISIONS`, or not fp32 and the dtype is float64.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Sequential: precision must be one of {PRECISIONS}, got {precision!r}")
    if precision != "fp32" and dtype != "float32":
        raise ValueError(
            f"Sequential: precision={precision!r} is for dtype='float32', got dtype={dtype!r}"
        )
    return str(precision)


def new_mirror() -> Mirror:
    """Where a model's arrays have their twins on the GPU."""
    from fastnn.engine.cuda import mirror, opening

    return mirror.Mirror(opening.open_device())
