"""A network in plain NumPy as a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.grid import make_weights
from benchmarks.peers.base import BETA_1, BETA_2, EPSILON, LEARNING_RATES, Peer, limit_blas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row


class NumPy(Peer):
    """A network written from scratch in NumPy: an object a layer, a new array an operation.

    The structure is that of the book *Neural Networks from Scratch in Python* (Kinsley and Kukieła,
    2020): forward and backward methods, softmax and cross-entropy joined, Adam with momentums and
    cache as arrays of each layer.
    """

    name = "numpy"
    module = "numpy"
    packages = ("numpy",)

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        import numpy as np

        if row.optimizer != "adam" or row.dropout:
            raise ValueError(f"{self.name}: {row.name} is timed with Adam and no dropout only")
        self.x, self.y, self.row, self.threads = x, y, row, threads
        self.rng = np.random.default_rng(0)
        self.restart()

    def set_threads(self) -> None:
        limit_blas(self.threads)

    def restart(self) -> None:
        weights = make_weights(self.row, self.x.dtype.name)
        pairs = zip(weights[::2], weights[1::2], strict=True)
        self.layers = [NumPyDense(kernel, bias) for kernel, bias in pairs]
        self.iteration = 0

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs, before softmax."""
        import numpy as np

        for layer in self.layers[:-1]:
            x = np.maximum(0, layer.forward(x))
            layer.output = x
        return self.layers[-1].forward(x)

    def run(self, steps: int) -> None:
        import numpy as np

        row = self.row
        for _ in range(steps // row.steps):
            order = self.rng.permutation(row.samples)
            for indices in order.reshape(row.steps, row.batch):
                outputs, y = self.forward(self.x[indices]), self.y[indices]
                if row.loss == "mse":
                    gradient = 2 * (outputs - y) / outputs.size
                else:
                    gradient = softmax(outputs)
                    gradient[np.arange(row.batch), y] -= 1
                    gradient /= row.batch
                self.iteration += 1
                learn(self.layers, gradient, self.iteration)

    def loss(self) -> float:
        import numpy as np

        outputs = self.forward(self.x)
        if self.row.loss == "mse":
            return float(np.mean((outputs - self.y) ** 2))
        chosen = softmax(outputs)[np.arange(len(outputs)), self.y]
        return float(-np.mean(np.log(np.clip(chosen, 1e-7, 1))))


class NumPyDense:
    """A dense layer with its inputs, its gradients and its Adam state.

    `dot` takes the place of ``np.dot``.
    """

    output: NDArray[Any]

    def __init__(self, kernel: NDArray[Any], bias: NDArray[Any], dot: Any = None) -> None:
        import numpy as np

        self.kernel, self.dot = kernel, dot or np.dot
        self.bias: NDArray[Any] = bias[None]
        self.momentums = [np.zeros_like(self.kernel), np.zeros_like(self.bias)]
        self.caches = [np.zeros_like(self.kernel), np.zeros_like(self.bias)]

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        self.inputs = x
        outputs: NDArray[Any] = self.dot(x, self.kernel) + self.bias
        return outputs

    def backward(self, gradient: NDArray[Any]) -> None:
        import numpy as np

        self.gradients = self.dot(self.inputs.T, gradient), np.sum(gradient, axis=0, keepdims=True)
        self.dinputs = self.dot(gradient, self.kernel.T)

    def update(self, iteration: int) -> None:
        import numpy as np

        for k, (weight, g) in enumerate(zip((self.kernel, self.bias), self.gradients, strict=True)):
            self.momentums[k] = BETA_1 * self.momentums[k] + (1 - BETA_1) * g
            self.caches[k] = BETA_2 * self.caches[k] + (1 - BETA_2) * g**2
            momentum = self.momentums[k] / (1 - BETA_1**iteration)
            cache = self.caches[k] / (1 - BETA_2**iteration)
            weight -= LEARNING_RATES["adam"] * momentum / (np.sqrt(cache) + EPSILON)


def softmax(z: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    powers: NDArray[Any] = np.exp(z - z.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def learn(layers: list[NumPyDense], gradient: NDArray[Any], iteration: int) -> None:
    """Pass the gradient of the outputs back through dense layers with ReLU between, and update."""
    layers[-1].backward(gradient)
    for layer, above in zip(layers[-2::-1], layers[:0:-1], strict=True):
        gradient = above.dinputs.copy()
        gradient[layer.output <= 0] = 0
        layer.backward(gradient)
    for layer in layers:
        layer.update(iteration)
