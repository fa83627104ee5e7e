"""JAX as a peer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.grid import make_weights
from benchmarks.peers.base import BETA_1, BETA_2, EPSILON, LEARNING_RATES, Peer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row


class Jax(Peer):
    """JAX: a whole epoch is one compiled `lax.scan`, its state donated; the first run compiles.

    Masks of dropout come from the "rbg" generator, faster on a CPU than the default, Threefry.
    """

    name = "jax"
    module = "jax"
    packages = ("jax", "jaxlib")
    pool: ClassVar[int] = 0  # threads of the client that `set_threads` has made last

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        import jax
        import numpy as np

        jax.config.update("jax_enable_x64", x.dtype == np.float64)
        self.arrays, self.row, self.threads = (x, y), row, threads
        self.rng = np.random.default_rng(0)
        self._place()
        self.restart()

    def set_threads(self) -> None:
        """Let a new client size its pool by the cores that it sees: the only way to set it."""
        import jax
        from jax.extend.backend import clear_backends

        if Jax.pool == self.threads:
            return
        clear_backends()
        with seeing_cores(self.threads):
            jax.devices()
        Jax.pool = self.threads
        self._place()

    def _place(self) -> None:
        """Hand the data to the client of now; the first run compiles for it."""
        import jax
        import jax.numpy as jnp

        self.objective = _objective(self.row)
        self.epoch = jax.jit(_epoch(self.row, self.objective), donate_argnums=0)
        self.x, self.y = map(jnp.asarray, self.arrays)

    def restart(self) -> None:
        import jax
        import jax.numpy as jnp

        flat = [jnp.array(weight) for weight in make_weights(self.row, self.x.dtype.name)]
        weights = list(zip(flat[::2], flat[1::2], strict=True))
        slots = 2 if self.row.optimizer == "adam" else 0
        zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(slots)]
        self.state = (weights, zeros, jnp.zeros((), jnp.int32), jax.random.key(0, impl="rbg"))
        jax.block_until_ready(self.state[:3])

    def run(self, steps: int) -> None:
        import jax
        import numpy as np

        row = self.row
        for _ in range(steps // row.steps):
            order = self.rng.permutation(row.samples).astype(np.int32)
            self.state = self.epoch(self.state, order.reshape(row.steps, row.batch), self.x, self.y)
        jax.block_until_ready(self.state[0])

    def loss(self) -> float:
        return float(self.objective(self.state[0], self.x, self.y, None))


@contextlib.contextmanager
def seeing_cores(threads: int) -> Iterator[None]:
    """This thread on `threads` of its cores, where the system pins threads."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _objective(row: Row) -> Any:
    """The mean loss of weights on a batch; without a key nothing is dropped."""
    import jax
    import jax.numpy as jnp

    def objective(weights: Any, x: Any, y: Any, key: Any) -> Any:
        for index, (kernel, bias) in enumerate(weights[:-1]):
            x = jax.nn.relu(x @ kernel + bias)
            if row.dropout and key is not None:
                kept = jax.random.bernoulli(
                    jax.random.fold_in(key, index), 1 - row.dropout, x.shape
                )
                x = jnp.where(kept, x / (1 - row.dropout), 0)
        kernel, bias = weights[-1]
        outputs = x @ kernel + bias
        if row.loss == "mse":
            return jnp.mean((outputs - y) ** 2)
        chosen = jax.nn.one_hot(y, row.sizes[-1], dtype=outputs.dtype)
        return jnp.mean(jnp.sum(-chosen * jax.nn.log_softmax(outputs), axis=1))

    return objective


def _epoch(row: Row, objective: Any) -> Any:
    """The function of a state, an order of the rows, x and y that trains for an epoch."""
    import jax
    import jax.numpy as jnp

    rate = LEARNING_RATES[row.optimizer]

    def step(state: Any, indices: Any, x: Any, y: Any) -> Any:
        weights, slots, t, key = state
        dropping = jax.random.fold_in(key, t) if row.dropout else None
        g = jax.grad(objective)(weights, x[indices], y[indices], dropping)
        t = t + 1
        if row.optimizer == "sgd":
            return jax.tree.map(lambda w, g: w - rate * g, weights, g), slots, t, key
        m, v = slots
        power = t.astype(x.dtype)
        root = jnp.sqrt(1 - BETA_2**power)
        scale, epsilon = rate * root / (1 - BETA_1**power), EPSILON * root
        m = jax.tree.map(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA_2 * v + (1 - BETA_2) * g * g, v, g)
        weights = jax.tree.map(
            lambda w, m, v: w - scale * m / (jnp.sqrt(v) + epsilon), weights, m, v
        )
        return weights, [m, v], t, key

    def epoch(state: Any, order: Any, x: Any, y: Any) -> Any:
        return jax.lax.scan(lambda s, i: (step(s, i, x, y), None), state, order)[0]

    return epoch
