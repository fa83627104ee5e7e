"""fastnn as a peer, through its public door, as a user calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.grid import make_weights
from benchmarks.peers.base import LEARNING_RATES, Peer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row


def make_model(row: Row, dtype: str) -> Any:
    """The row's network, compiled for training; also what inference is timed on."""
    import fastnn

    layers: list[Any] = []
    for units in row.sizes[1:-1]:
        layers.append(fastnn.Dense(units, activation="relu"))
        if row.dropout:
            layers.append(fastnn.Dropout(row.dropout))
    last = "linear" if row.loss == "mse" else "softmax"
    layers.append(fastnn.Dense(row.sizes[-1], activation=last))
    model = fastnn.Sequential(layers, input_shape=row.sizes[:1], dtype=dtype, seed=0)
    optimizer = fastnn.Adam if row.optimizer == "adam" else fastnn.SGD
    model.compile(optimizer=optimizer(LEARNING_RATES[row.optimizer]), loss=row.loss)
    model.set_weights(make_weights(row, dtype))
    return model


class FastNN(Peer):
    """fastnn: one call of `fit`."""

    name = "fastnn"
    module = "fastnn"
    packages = ("fastnn", "numba", "llvmlite")
    device: ClassVar[str] = "cpu"

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        self.x, self.y, self.row, self.threads = x, y, row, threads
        self.model = make_model(row, x.dtype.name).to(self.device)

    def set_threads(self) -> None:
        import fastnn

        fastnn.set_num_threads(self.threads)

    def warm_up(self) -> None:
        self.turn(1)  # fastnn itself decides how many of its threads a step is worth

    def restart(self) -> None:
        from fastnn.kernels import state

        self.model.set_weights(make_weights(self.row, self.x.dtype.name))
        # `compile` would begin afresh, too, but also forget the program that the warm-up made.
        for vector in self.model.flat().slots.values():
            vector[...] = 0
        self.model.state[state.STEP] = 0

    def run(self, steps: int) -> None:
        epochs = steps // self.row.steps
        self.model.fit(self.x, self.y, batch_size=self.row.batch, epochs=epochs, verbose=0)

    def loss(self) -> float:
        return float(self.model.evaluate(self.x, self.y)["loss"])


class FastNNOneThread(FastNN):
    """fastnn on one thread where the others have all cores: what two cores bring, in one run."""

    name = "fastnn-1-thread"

    def prepare(self, x: NDArray[Any], y: NDArray[Any], row: Row, threads: int) -> None:
        super().prepare(x, y, row, 1)
