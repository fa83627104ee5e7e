"""Ways to the gradient of softmax and cross-entropy, from labels and what each starts from.

The separate ways in NumPy are those of the book *Neural Networks from Scratch in Python* (Kinsley
and Kukieła, 2020): the gradient of the cross-entropy, then the softmax's Jacobian, row by row, or
the same product vectorised. In their favour, the softmax's output is ready before the clock starts
and they compute no loss; only "numpy separate, from logits" does all that the joint kernel does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

Gradient = Callable[[], Any]


def joint(z: NDArray[Any], labels: NDArray[Any]) -> Gradient:
    """fastnn's kernel: logits to losses and gradient in one pass."""
    import numpy as np

    from benchmarks.parts.kernels import prepared

    dz, losses = np.zeros_like(z), np.zeros(len(z), z.dtype)
    run = prepared("softmax_crossentropy", loss=losses, dz=dz, z=z, labels=labels)

    def gradient() -> NDArray[Any]:
        run()
        return dz

    return gradient


def separate_kernels(z: NDArray[Any], labels: NDArray[Any]) -> Gradient:
    """fastnn's kernels one after the other, from logits: softmax, cross-entropy, softmax's own."""
    import numpy as np

    from benchmarks.parts.kernels import prepared

    p, dp, losses = np.zeros_like(z), np.zeros_like(z), np.zeros(len(z), z.dtype)
    forward = prepared("softmax_forward", y=p, x=z)
    loss = prepared("categorical_crossentropy", loss=losses, dz=dp, z=p, labels=labels)
    backward = prepared("softmax_backward", dx=dp, dy=dp, y=p)

    def gradient() -> NDArray[Any]:
        forward()
        loss()
        backward()
        return dp

    return gradient


def _softmax(z: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    powers: NDArray[Any] = np.exp(z - z.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _one_hot(z: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    y = np.zeros_like(z)
    y[np.arange(len(z)), labels] = 1
    return y


def _through_softmax(p: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """The cross-entropy's gradient, then the softmax's, vectorised."""
    dp = -y / p / len(p)
    gradient: NDArray[Any] = p * (dp - (dp * p).sum(axis=1, keepdims=True))
    return gradient


def numpy_separate(z: NDArray[Any], labels: NDArray[Any]) -> Gradient:
    """Vectorised, from the softmax's output."""
    p, y = _softmax(z), _one_hot(z, labels)
    return lambda: _through_softmax(p, y)


def numpy_separate_from_logits(z: NDArray[Any], labels: NDArray[Any]) -> Gradient:
    """Vectorised, softmax and losses included."""
    import numpy as np

    y, rows = _one_hot(z, labels), np.arange(len(z))

    def gradient() -> NDArray[Any]:
        p = _softmax(z)
        np.negative(np.log(p[rows, labels]))  # the losses
        return _through_softmax(p, y)

    return gradient


def numpy_jacobian(z: NDArray[Any], labels: NDArray[Any]) -> Gradient:
    """A Jacobian a row, from the softmax's output."""
    import numpy as np

    p, y = _softmax(z), _one_hot(z, labels)

    def gradient() -> NDArray[Any]:
        dp = -y / p / len(p)
        dz: NDArray[Any] = np.empty_like(dp)
        for index, (single, incoming) in enumerate(zip(p, dp, strict=True)):
            column = single.reshape(-1, 1)
            jacobian = np.diagflat(column) - np.dot(column, column.T)
            dz[index] = np.dot(jacobian, incoming)
        return dz

    return gradient


@dataclass(frozen=True)
class Contestant:
    """How it is made, and how much memory (in arrays of float32) and work it takes."""

    make: Callable[[NDArray[Any], NDArray[Any]], Gradient]
    arrays: int
    by_row: bool = False

    def bytes(self, rows: int, classes: int) -> int:
        """Memory for its arrays; a row's Jacobian is made of three."""
        return 4 * (self.arrays * rows * classes + (3 * classes**2 if self.by_row else 0))

    def operations(self, rows: int, classes: int) -> int:
        """Elements that it goes through."""
        return rows * classes * (classes if self.by_row else 1)


CONTESTANTS = {
    "fastnn joint": Contestant(joint, 1),
    "fastnn separate": Contestant(separate_kernels, 2),
    "numpy separate, from logits": Contestant(numpy_separate_from_logits, 6),
    "numpy separate": Contestant(numpy_separate, 6),
    "numpy Jacobian": Contestant(numpy_jacobian, 5, by_row=True),
}
