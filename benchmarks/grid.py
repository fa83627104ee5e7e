"""The grid: the eight training steps that every comparison is made on, and data for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Row:
    """One training step: gather by index, forward, loss, backward, update.

    Parameters
    ----------
    name : str
        Name in tables.
    sizes : tuple of int
        Features, units of each hidden layer (ReLU), outputs.
    batch : int
        Samples a step.
    loss : {"categorical_crossentropy", "mse"}
        Softmax outputs with integer labels, or linear outputs.
    steps : int
        Steps an epoch: enough that an epoch's bookkeeping weighs what it does for a user.
    epochs : int
        Epochs in one timed fit, so that what is done once a fit weighs what it does for a user.
    optimizer : {"adam", "sgd"}
        SGD is without momentum.
    dropout : float
        Rate of dropout after each hidden layer.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    loss: str
    steps: int
    epochs: int
    optimizer: str = "adam"
    dropout: float = 0.0

    @property
    def layers(self) -> str:
        """The sizes as one word, for tables."""
        return "-".join(map(str, self.sizes))

    @property
    def samples(self) -> int:
        """Samples an epoch: whole batches only, so that every peer takes the same steps."""
        return self.batch * self.steps

    @property
    def parameters(self) -> int:
        """Number of trainable numbers."""
        pairs = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        return sum((inputs + 1) * outputs for inputs, outputs in pairs)

    @property
    def flops(self) -> int:
        """Floating-point operations of a step's matrix products: y, dw, dx but for the first."""
        pairs = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        products = [inputs * outputs for inputs, outputs in pairs]
        return 2 * self.batch * (3 * sum(products) - products[0])

    def optimizer_bytes(self, itemsize: int) -> int:
        """Bytes that the update moves: Adam reads w, g, m, v and writes w, m, v; SGD w, g and w."""
        return (7 if self.optimizer == "adam" else 3) * itemsize * self.parameters

    def optimizer_footprint(self, itemsize: int) -> int:
        """Bytes that the update's arrays take: w, g, m, v of Adam; w, g of SGD."""
        return (4 if self.optimizer == "adam" else 2) * itemsize * self.parameters


GRID = {
    row.name: row
    for row in (
        Row("T1", (8, 16, 1), 16, "mse", 1000, 5),
        Row("T2", (20, 64, 64, 2), 32, "categorical_crossentropy", 500, 5),
        Row("T3", (64, 100, 10), 200, "categorical_crossentropy", 300, 5),
        Row("T4", (784, 128, 10), 32, "categorical_crossentropy", 300, 5),
        Row("T5", (784, 128, 10), 128, "categorical_crossentropy", 200, 5),
        Row("T6", (784, 512, 512, 10), 128, "categorical_crossentropy", 100, 2),
        Row("T7", (784, 512, 512, 10), 1024, "categorical_crossentropy", 20, 2),
        Row("T8", (1024, 2048, 2048, 1000), 256, "categorical_crossentropy", 10, 1),
    )
}


def make_data(row: Row, dtype: str = "float32", seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Learnable random data for a row; every class occurs, and one label in ten is wrong.

    Returns
    -------
    x : ndarray, shape (samples, features)
    y : ndarray
        int64 labels, shape (samples,); for the MSE, targets of shape (samples, outputs).
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((row.samples, row.sizes[0]), dtype=np.float32)
    outputs = row.sizes[-1]
    if row.loss == "mse":
        teacher = rng.standard_normal((row.sizes[0], outputs), dtype=np.float32)
        y = np.tanh(x @ teacher) + 0.1 * rng.standard_normal((row.samples, outputs))
        return x.astype(dtype, copy=False), y.astype(dtype)
    labels = np.arange(row.samples) % outputs
    rng.shuffle(labels)
    centres = 0.3 * rng.standard_normal((outputs, row.sizes[0]), dtype=np.float32)
    x += centres[labels]
    wrong = rng.random(row.samples) < 0.1
    labels[wrong] = rng.permutation(labels[wrong])
    return x.astype(dtype, copy=False), labels


def make_weights(row: Row, dtype: str = "float32", seed: int = 0) -> list[NDArray[Any]]:
    """Glorot-uniform kernels (in, out) and zero biases (out,), in turn: one start for all peers."""
    import numpy as np

    rng = np.random.default_rng(seed)
    weights: list[NDArray[Any]] = []
    for inputs, outputs in zip(row.sizes[:-1], row.sizes[1:], strict=True):
        limit = (6.0 / (inputs + outputs)) ** 0.5
        weights.append(rng.uniform(-limit, limit, (inputs, outputs)).astype(dtype))
        weights.append(np.zeros(outputs, dtype))
    return weights
