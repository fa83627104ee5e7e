"""What PyTorch calls the weights of layers, and how they lie there."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fastnn.layers import BatchNormalization, Dense, LayerNormalization, PReLU
from fastnn.layers.base import Layer

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NAMES: dict[type[Layer], dict[str, str]] = {
    Dense: {"kernel": "weight", "bias": "bias"},
    BatchNormalization: {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    LayerNormalization: {"gamma": "weight", "beta": "bias"},
    PReLU: {"alpha": "weight"},
}
"""By a layer's class and the name here, the name there."""

IGNORED = "num_batches_tracked"
"""What a `BatchNorm1d` counts and a `BatchNormalization` has no use for."""


def transposed(name: str, array: Array) -> Array:
    """A weight as the other one has it: kernels are (in, out) here, and (out, in) there."""
    return array.T if name == "kernel" else array


def other_momentum(momentum: float) -> float:
    """A batch normalisation's momentum, PyTorch's for Keras's or the other way round: 1 − it.

    Of the decimal number that it was written as, so that 0.9 becomes 0.1 and 0.9 again.
    """
    return float(1 - Decimal(str(momentum)))
