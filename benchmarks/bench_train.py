"""asv: training and prediction, their speed, memory and, that speed cannot cost it, accuracy."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.grid import GRID, make_data
from benchmarks.peers import FastNN

THREADS = 1


def trained_once(name: str) -> FastNN:
    """fastnn on a row of the grid, one epoch in: whatever compiles is compiled, pages are touched.

    Raises
    ------
    NotImplementedError
        On commits whose fastnn cannot do that yet: asv then skips the benchmark.
    """
    row = GRID[name]
    peer = FastNN()
    try:
        peer.prepare(*make_data(row), row, THREADS)
        peer.set_threads()
        peer.restart()
    except (ImportError, AttributeError) as error:
        raise NotImplementedError(str(error)) from error
    peer.run(row.steps)
    return peer


class TrainEpoch:
    """One epoch of `fit` on the data of a row: many steps, shuffled, one thread."""

    version = "1"
    params: ClassVar[list[str]] = list(GRID)
    param_names: ClassVar[list[str]] = ["row"]
    timeout = 300.0

    def setup(self, row: str) -> None:
        self.peer = trained_once(row)
        self.peer.restart()

    def time_train_epoch(self, row: str) -> None:
        self.peer.run(GRID[row].steps)


class Predict:
    """The probabilities of a batch by `predict`, one thread."""

    version = "1"
    params: ClassVar[list[Any]] = [["T2", "T4", "T6"], [1, 32, 1024]]
    param_names: ClassVar[list[str]] = ["row", "rows"]

    def setup(self, row: str, rows: int) -> None:
        self.model, self.x = trained_once(row).model, make_data(GRID[row])[0][:rows]
        self.model.predict(self.x)

    def time_predict(self, row: str, rows: int) -> None:
        self.model.predict(self.x)


class PeakMemory:
    """Peak resident memory of a process that makes the data of a row and fits it for one epoch."""

    version = "1"
    params: ClassVar[list[str]] = ["T2", "T5", "T7", "T8"]
    param_names: ClassVar[list[str]] = ["row"]
    timeout = 300.0

    def setup(self, row: str) -> None:
        trained_once("T1")  # an old commit is skipped here; fastnn itself is loaded

    def peakmem_fit(self, row: str) -> None:
        trained_once(row)


class Accuracy:
    """Test accuracy on the bundled digits after a short fit, mean over five seeds."""

    version = "1"
    timeout = 300.0
    unit = "share"

    def setup(self) -> None:
        trained_once("T1")

    def track_test_accuracy(self) -> float:
        import fastnn

        (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
        accuracies = []
        for seed in range(5):
            layers: list[Any] = [
                fastnn.Dense(64, activation="relu"),
                fastnn.Dense(10, activation="softmax"),
            ]
            model = fastnn.Sequential(layers, input_shape=x.shape[1:], seed=seed)
            model.compile(
                optimizer=fastnn.Adam(1e-3), loss="categorical_crossentropy", metrics=["accuracy"]
            )
            model.fit(x, y, batch_size=32, epochs=20, verbose=0)
            accuracies.append(model.evaluate(x_test, y_test)["accuracy"])
        return float(sum(accuracies) / len(accuracies))
