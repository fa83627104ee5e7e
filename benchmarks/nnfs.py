"""The book's networks by `fastnn.nnfs` and by NumPy: ``python -m benchmarks.nnfs``.

Two models of *Neural Networks from Scratch in Python* (Kinsley and Kukieła, 2020), in float32 and
on one core. Chapter 10's spiral, 2-64-3 with Adam, all 300 rows in a step: by `Model.train`, by the
book's loop written by hand with fastnn's classes, and by that loop in NumPy. Chapter 19's
Fashion-MNIST, 784-128-128-10 with Adam, batches of 128, validation after each epoch.

In each round every contestant has a turn. NumPy's loop is the book's: an object a layer, a new
array an operation, loss and accuracy in each step. "numpy" sums products as the book's programs do
after ``nnfs.init()``, in float64, and rounds them; "numpy, float32" is that loop without the call.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmarks import RESULTS, machine, rounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Data = tuple[NDArray[Any], NDArray[Any]]

BATCH = 128
SPIRAL_EPOCHS = 10_001
MODEL_EPOCHS, LOOP_EPOCHS = 2500, 200
"""Epochs on the spiral in a turn of `Model.train`, and of a loop: both about as long, and short, so
that what else the machine does meets all alike."""


def rounded_dot(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """A product summed in float64 and rounded to float32: what ``nnfs.init()`` makes of np.dot."""
    import numpy as np

    wide: NDArray[Any] = np.dot(a.astype(np.float64), b.astype(np.float64))
    return wide.astype(np.float32)


class NumPyNetwork:
    """Dense layers with ReLU between them, softmax, cross-entropy and Adam: the book's loop."""

    def __init__(self, *widths: int, dot: Any = rounded_dot) -> None:
        import numpy as np

        from benchmarks.peers.book import NumPyDense

        rng = np.random.default_rng(0)
        self.layers = [
            NumPyDense(
                0.01 * rng.standard_normal((inputs, outputs), dtype=np.float32),
                np.zeros(outputs, np.float32),
                dot,
            )
            for inputs, outputs in pairwise(widths)
        ]
        self.iteration = 0

    def forward(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
        """Probabilities, loss and accuracy."""
        import numpy as np

        from benchmarks.peers.book import softmax

        for layer in self.layers[:-1]:
            x = layer.output = np.maximum(0, layer.forward(x))
        p = softmax(self.layers[-1].forward(x))
        loss = -np.mean(np.log(np.clip(p, 1e-7, 1 - 1e-7)[range(len(y)), y]))
        return p, float(loss), float(np.mean(p.argmax(axis=1) == y))

    def step(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Forward, loss and accuracy, backward, update."""
        from benchmarks.peers.book import learn

        gradient, _, _ = self.forward(x, y)
        gradient[range(len(y)), y] -= 1
        gradient /= len(y)
        self.iteration += 1
        learn(self.layers, gradient, self.iteration)


class LoopByHand:
    """The book's loop with fastnn's classes."""

    def __init__(self) -> None:
        from fastnn import nnfs

        self.dense = [nnfs.Layer_Dense(2, 64), nnfs.Layer_Dense(64, 3)]
        self.relu = nnfs.Activation_ReLU()
        self.joint = nnfs.Activation_Softmax_Loss_CategoricalCrossentropy()
        self.optimizer = nnfs.Optimizer_Adam(learning_rate=0.05, decay=5e-7)

    def step(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Forward, loss and accuracy, backward, update."""
        import numpy as np

        first, last = self.dense
        first.forward(x)
        self.relu.forward(first.output)
        last.forward(self.relu.output)
        self.joint.forward(last.output, y)
        np.mean(np.argmax(self.joint.output, axis=1) == y)
        self.joint.backward(self.joint.output, y)
        last.backward(self.joint.dinputs)
        self.relu.backward(last.dinputs)
        first.backward(self.relu.dinputs)
        self.optimizer.pre_update_params()
        for layer in self.dense:
            self.optimizer.update_params(layer)
        self.optimizer.post_update_params()


def model_of(*widths: int, learning_rate: float, decay: float) -> Any:
    """Such a network as the book's `Model`."""
    from fastnn import nnfs

    model = nnfs.Model()
    for inputs, outputs in pairwise(widths):
        model.add(nnfs.Layer_Dense(inputs, outputs))
        last = outputs == widths[-1]
        model.add(nnfs.Activation_Softmax() if last else nnfs.Activation_ReLU())
    model.set(
        loss=nnfs.Loss_CategoricalCrossentropy(),
        optimizer=nnfs.Optimizer_Adam(learning_rate=learning_rate, decay=decay),
        accuracy=nnfs.Accuracy_Categorical(),
    )
    model.finalize()
    return model


def timed(action: Callable[[], None]) -> rounds.Turn:
    """A turn that does `action` once, what it prints left out."""

    def turn() -> float:
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            action()
        return time.perf_counter() - begin

    return turn


def spiral(pace: rounds.Pace) -> dict[str, Any]:
    """Microseconds of an epoch on the spiral, and where 10,001 of `Model.train` arrive.

    Every turn begins with new weights: a network that has learnt its data by heart goes on with
    vanishing gradients, and these with denormal numbers.
    """
    import numpy as np

    from fastnn import nnfs
    from fastnn.nnfs.datasets import spiral_data

    nnfs.init()
    x, y = spiral_data(samples=100, classes=3)

    def model(epochs: int) -> tuple[float, Any]:
        made = model_of(2, 64, 3, learning_rate=0.05, decay=5e-7)
        return timed(lambda: made.train(x, y, epochs=epochs, print_every=100))(), made

    def loop(make: Callable[[], LoopByHand | NumPyNetwork]) -> float:
        network = make()
        begin = time.perf_counter()
        for _ in range(LOOP_EPOCHS):
            network.step(x, y)
        return (time.perf_counter() - begin) / LOOP_EPOCHS

    seconds, whole = model(SPIRAL_EPOCHS)
    times = rounds.alternate(
        {
            "Model.train": lambda: model(MODEL_EPOCHS)[0] / MODEL_EPOCHS,
            "by hand": lambda: loop(LoopByHand),
            "numpy": lambda: loop(lambda: NumPyNetwork(2, 64, 3)),
            "numpy, float32": lambda: loop(lambda: NumPyNetwork(2, 64, 3, dot=np.dot)),
        },
        pace,
    )
    arrived = {
        "seconds": seconds,
        "accuracy": whole.accuracy.calculate_accumulated(),
        "loss": whole.loss.calculate_accumulated(),
    }
    return {"an epoch": rounds.figures(times), "10,001 epochs by Model.train": arrived}


def fashion(pace: rounds.Pace, data: tuple[Data, Data]) -> dict[str, Any]:
    """Seconds of an epoch on Fashion-MNIST with validation, and the accuracies at the end."""
    import numpy as np

    from fastnn import nnfs

    nnfs.init()
    (x, y), held = data
    widths = 784, 128, 128, 10
    model = model_of(*widths, learning_rate=0.001, decay=1e-3)
    networks = {
        "numpy": NumPyNetwork(*widths),
        "numpy, float32": NumPyNetwork(*widths, dot=np.dot),
    }

    def by_model() -> None:
        model.train(x, y, epochs=1, batch_size=BATCH, print_every=100, validation_data=held)

    def by_numpy(network: NumPyNetwork) -> None:
        for begin in range(0, len(x), BATCH):
            network.step(x[begin : begin + BATCH], y[begin : begin + BATCH])
        for begin in range(0, len(held[0]), BATCH):
            network.forward(held[0][begin : begin + BATCH], held[1][begin : begin + BATCH])

    turns = {name: timed(partial(by_numpy, network)) for name, network in networks.items()}
    times = rounds.alternate({"Model.train": timed(by_model), **turns}, pace)
    return {
        "an epoch": rounds.figures(times, 1.0, "seconds"),
        "test accuracy": {
            "Model.train": float((model.predict(held[0]).argmax(axis=1) == held[1]).mean()),
            **{name: network.forward(*held)[2] for name, network in networks.items()},
        },
    }


def shuffled(part: Data, seed: int) -> Data:
    """Rows of 784 in [−1, 1] as chapter 19 makes them, in another order."""
    import numpy as np

    x, y = part
    order = np.random.default_rng(seed).permutation(len(x))
    return (x[order].reshape(len(x), -1).astype(np.float32) - 127.5) / 127.5, y[order]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write ``benchmarks/results/nnfs-<date>.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nnfs", description=__doc__)
    parser.parse_args(arguments)
    machine.pin(1)
    import fastnn

    train, test = fastnn.datasets.load("fashion-mnist")
    report = {
        "command": "python -m benchmarks.nnfs",
        "date": datetime.date.today().isoformat(),
        "cpu": machine.cpu_name(),
        "versions": machine.versions("fastnn", "numpy"),
        "spiral": spiral(rounds.Pace(seconds=10.0, least=41, slow=41, most=41)),
        "fashion-mnist": fashion(
            rounds.Pace(seconds=10.0, least=10, slow=10, most=10),
            (shuffled(train, 0), shuffled(test, 1)),
        ),
    }
    print(json.dumps(report, indent=1))
    path = RESULTS / f"nnfs-{report['date']}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to benchmarks/results/{path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
