"""fastnn and its peers behind one interface, each in the settings that suit it best.

All start from the same weights and do the same work: each epoch a new random order of the samples,
whole batches gathered by index, forward, loss, backward, Adam with the rate 1e-3. Frameworks are
imported in `prepare`, never before.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.grid import make_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row

LEARNING_RATE = 1e-3


class Peer(ABC):
    """A network in training. `prepare` comes first and is not timed; `run` is."""

    name: ClassVar[str]  # in tables
    module: ClassVar[str]  # what must be importable
    packages: ClassVar[tuple[str, ...]]  # whose versions are reported

    @classmethod
    def installed(cls) -> bool:
        """Whether the peer's framework can be imported (it is not imported to find out)."""
        return importlib.util.find_spec(cls.module) is not None

    @abstractmethod
    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        """Build the row's network, and take the data."""

    @abstractmethod
    def restart(self) -> None:
        """Go back to the weights of `make_weights`.

        Every timing starts there: a network that has learnt its data by heart would go on with
        vanishing gradients, and its Adam with denormal numbers.
        """

    @abstractmethod
    def run(self, steps: int) -> None:
        """Train for `steps` steps, whole epochs of ``row.steps``, to the very end of the work."""

    @abstractmethod
    def loss(self) -> float:
        """Mean loss over the training data as the network now stands."""


class FastNN(Peer):
    """fastnn through its public door, as a user calls it."""

    name = "fastnn"
    module = "fastnn"
    packages = ("fastnn", "numba", "llvmlite")

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        import fastnn

        last = "linear" if row.loss == "mse" else "softmax"
        layers = [fastnn.Dense(units, activation="relu") for units in row.sizes[1:-1]]
        layers.append(fastnn.Dense(row.sizes[-1], activation=last))
        model = fastnn.Sequential(layers, input_shape=row.sizes[:1], dtype=x.dtype.name, seed=0)
        model.compile(optimizer=fastnn.Adam(LEARNING_RATE), loss=row.loss)
        self.model, self.x, self.y, self.row = model, x, y, row
        self.restart()

    def restart(self) -> None:
        self.model.set_weights(make_weights(self.row, self.x.dtype.name))

    def run(self, steps: int) -> None:
        epochs = steps // self.row.steps
        self.model.fit(self.x, self.y, batch_size=self.row.batch, epochs=epochs, verbose=0)

    def loss(self) -> float:
        return float(self.model.evaluate(self.x, self.y)["loss"])


class Torch(Peer):
    """PyTorch, eager: fused Adam, gradients dropped, not zeroed, batches gathered in place."""

    name = "torch"
    module = "torch"
    packages = ("torch",)

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.x, self.y, self.row = torch.from_numpy(x), torch.from_numpy(y), row
        layers: list[Any] = []
        for inputs, outputs in zip(row.sizes[:-1], row.sizes[1:], strict=True):
            layers += [nn.Linear(inputs, outputs, dtype=self.x.dtype), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])
        self.criterion = nn.MSELoss() if row.loss == "mse" else nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE, fused=True)
        self.batch_x = self.x[: row.batch].clone()
        self.batch_y = self.y[: row.batch].clone()
        self.restart()

    def restart(self) -> None:
        import torch

        weights = make_weights(self.row)
        with torch.no_grad():
            for own, weight in zip(self.net.parameters(), weights, strict=True):
                own.copy_(torch.from_numpy(weight.T))

    def run(self, steps: int) -> None:
        import torch

        net, criterion, optimizer = self.net, self.criterion, self.optimizer
        x, y, batch_x, batch_y = self.x, self.y, self.batch_x, self.batch_y
        for _ in range(steps // self.row.steps):
            for indices in torch.randperm(len(x)).split(self.row.batch):
                torch.index_select(x, 0, indices, out=batch_x)
                torch.index_select(y, 0, indices, out=batch_y)
                optimizer.zero_grad(set_to_none=True)
                criterion(net(batch_x), batch_y).backward()
                optimizer.step()

    def loss(self) -> float:
        import torch

        with torch.no_grad():
            return float(self.criterion(self.net(self.x), self.y))


class Jax(Peer):
    """JAX: a whole epoch is one compiled `lax.scan`, its state donated; the first run compiles."""

    name = "jax"
    module = "jax"
    packages = ("jax", "jaxlib")

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        import jax
        import jax.numpy as jnp
        import numpy as np

        jax.config.update("jax_enable_x64", x.dtype == np.float64)

        def forward(weights: Any, x: Any) -> Any:
            for kernel, bias in weights[:-1]:
                x = jax.nn.relu(x @ kernel + bias)
            kernel, bias = weights[-1]
            return x @ kernel + bias

        def objective(weights: Any, x: Any, y: Any) -> Any:
            outputs = forward(weights, x)
            if row.loss == "mse":
                return jnp.mean((outputs - y) ** 2)
            chosen = jax.nn.one_hot(y, row.sizes[-1], dtype=outputs.dtype)
            return jnp.mean(jnp.sum(-chosen * jax.nn.log_softmax(outputs), axis=1))

        def step(state: Any, indices: Any, x: Any, y: Any) -> Any:
            weights, m, v, t = state
            g = jax.grad(objective)(weights, x[indices], y[indices])
            t = t + 1
            rate = LEARNING_RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
            weights = jax.tree.map(
                lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-8), weights, m, v
            )
            return weights, m, v, t

        def epoch(state: Any, order: Any, x: Any, y: Any) -> Any:
            return jax.lax.scan(lambda s, i: (step(s, i, x, y), None), state, order)[0]

        self.epoch = jax.jit(epoch, donate_argnums=0)
        self.objective = jax.jit(objective)
        self.x, self.y, self.row = jnp.asarray(x), jnp.asarray(y), row
        self.rng = np.random.default_rng(0)
        self.restart()

    def restart(self) -> None:
        import jax
        import jax.numpy as jnp

        flat = [jnp.array(weight) for weight in make_weights(self.row, self.x.dtype.name)]
        weights = list(zip(flat[::2], flat[1::2], strict=True))
        zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
        self.state = (weights, zeros[0], zeros[1], jnp.zeros((), self.x.dtype))

    def run(self, steps: int) -> None:
        import jax
        import numpy as np

        row = self.row
        for _ in range(steps // row.steps):
            order = self.rng.permutation(row.samples).astype(np.int32)
            self.state = self.epoch(self.state, order.reshape(row.steps, row.batch), self.x, self.y)
        jax.block_until_ready(self.state)

    def loss(self) -> float:
        return float(self.objective(self.state[0], self.x, self.y))


class Sklearn(Peer):
    """scikit-learn's estimators, warm-started, without penalty or early end.

    Each `fit` starts Adam's state anew; two classes share one sigmoid output.
    """

    name = "sklearn"
    module = "sklearn"
    packages = ("scikit-learn",)

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        estimator = MLPRegressor if row.loss == "mse" else MLPClassifier
        self.estimator = estimator(
            hidden_layer_sizes=row.sizes[1:-1],
            alpha=0.0,
            batch_size=row.batch,
            learning_rate_init=LEARNING_RATE,
            max_iter=1,
            n_iter_no_change=1_000_000,
            warm_start=True,
            random_state=0,
        )
        self.x, self.y, self.row = x, y.ravel(), row
        self.run(row.steps)  # lays out the weights, so that they can be replaced
        self.restart()

    def restart(self) -> None:
        import numpy as np

        weights = make_weights(self.row, self.x.dtype.name)
        if self.estimator.n_outputs_ < self.row.sizes[-1]:
            weights[-2:] = [np.diff(weights[-2]), np.diff(weights[-1])]
        self.estimator.coefs_[:] = weights[::2]
        self.estimator.intercepts_[:] = weights[1::2]

    def run(self, steps: int) -> None:
        import warnings

        from sklearn.exceptions import ConvergenceWarning

        self.estimator.max_iter = steps // self.row.steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is reached on purpose
            self.estimator.fit(self.x, self.y)

    def loss(self) -> float:
        import numpy as np

        if self.row.loss == "mse":
            return float(np.mean((self.estimator.predict(self.x) - self.y) ** 2))
        chosen = self.estimator.predict_proba(self.x)[np.arange(len(self.y)), self.y]
        return float(-np.mean(np.log(np.maximum(chosen, np.finfo(chosen.dtype).tiny))))


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

        self.x, self.y, self.row = x, y, row
        self.rng = np.random.default_rng(0)
        self.restart()

    def restart(self) -> None:
        weights = make_weights(self.row, self.x.dtype.name)
        pairs = zip(weights[::2], weights[1::2], strict=True)
        self.layers = [_NumPyDense(kernel, bias) for kernel, bias in pairs]
        self.iteration = 0

    def _forward(self, x: NDArray[Any]) -> NDArray[Any]:
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
                outputs, y = self._forward(self.x[indices]), self.y[indices]
                if row.loss == "mse":
                    gradient = 2 * (outputs - y) / outputs.size
                else:
                    gradient = _softmax(outputs)
                    gradient[np.arange(row.batch), y] -= 1
                    gradient /= row.batch
                self.layers[-1].backward(gradient)
                for layer, above in zip(self.layers[-2::-1], self.layers[:0:-1], strict=True):
                    gradient = above.dinputs.copy()
                    gradient[layer.output <= 0] = 0
                    layer.backward(gradient)
                self.iteration += 1
                for layer in self.layers:
                    layer.update(self.iteration)

    def loss(self) -> float:
        import numpy as np

        outputs = self._forward(self.x)
        if self.row.loss == "mse":
            return float(np.mean((outputs - self.y) ** 2))
        chosen = _softmax(outputs)[np.arange(len(outputs)), self.y]
        return float(-np.mean(np.log(np.clip(chosen, 1e-7, 1))))


class _NumPyDense:
    """A dense layer with its inputs, its gradients and its Adam state."""

    output: NDArray[Any]

    def __init__(self, kernel: NDArray[Any], bias: NDArray[Any]) -> None:
        import numpy as np

        self.kernel = kernel
        self.bias: NDArray[Any] = bias[None]
        self.momentums = [np.zeros_like(self.kernel), np.zeros_like(self.bias)]
        self.caches = [np.zeros_like(self.kernel), np.zeros_like(self.bias)]

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        self.inputs = x
        outputs: NDArray[Any] = np.dot(x, self.kernel) + self.bias
        return outputs

    def backward(self, gradient: NDArray[Any]) -> None:
        import numpy as np

        self.gradients = np.dot(self.inputs.T, gradient), np.sum(gradient, axis=0, keepdims=True)
        self.dinputs = np.dot(gradient, self.kernel.T)

    def update(self, iteration: int) -> None:
        import numpy as np

        for k, (weight, g) in enumerate(zip((self.kernel, self.bias), self.gradients, strict=True)):
            self.momentums[k] = 0.9 * self.momentums[k] + 0.1 * g
            self.caches[k] = 0.999 * self.caches[k] + 0.001 * g**2
            momentum = self.momentums[k] / (1 - 0.9**iteration)
            cache = self.caches[k] / (1 - 0.999**iteration)
            weight -= LEARNING_RATE * momentum / (np.sqrt(cache) + 1e-7)


def _softmax(z: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    powers: NDArray[Any] = np.exp(z - z.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (FastNN, Torch, Jax, Sklearn, NumPy)}
