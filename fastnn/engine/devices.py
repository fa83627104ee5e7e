"""What a model computes on, by the names that users give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
