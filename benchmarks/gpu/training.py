"""Training against the CPU's: its trajectory, its accuracy, the same bits twice, its masks."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.stage import Findings


def measure(found: Findings, simulated: bool) -> None:
    """Train on both."""
    import numpy as np

    import fastnn

    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    if simulated:
        x, y, x_test, y_test = x[:40, :6], y[:40], x_test[:20, :6], y_test[:20]

    def trained(device: str, epochs: int, dropout: float = 0.0, units: int = 64) -> Any:
        layers: list[Any] = [fastnn.Dense(12 if simulated else units, activation="relu")]
        layers += [fastnn.Dropout(dropout)] if dropout else []
        layers += [fastnn.Dense(10, activation="softmax")]
        model = fastnn.Sequential(layers, input_shape=x.shape[1:], seed=0, device=device)
        model.compile(fastnn.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=16 if simulated else 32, epochs=epochs, verbose=0)
        return model

    def furthest(one: Any, other: Any) -> float:
        return float(np.abs(one.parameters - other.parameters).max())

    epochs = 1 if simulated else 3
    cpu, gpu = (trained(device, epochs) for device in ("cpu", "cuda"))
    found["furthest_weight"] = furthest(cpu, gpu)
    found["same_bits_twice"] = bool(
        gpu.parameters.tobytes() == trained("cuda", epochs).parameters.tobytes()
    )
    found.keep()
    # Of more units than one block takes: a grid of blocks that wait for each other.
    found["furthest_weight_by_grid"] = furthest(
        *(trained(device, epochs, units=200) for device in ("cpu", "cuda"))
    )
    found.keep()
    # A mask that differed in one element would lead elsewhere.
    found["furthest_weight_with_dropout"] = furthest(
        *(trained(device, epochs, 0.3) for device in ("cpu", "cuda"))
    )
    found.keep()
    if not simulated:
        (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
        found["accuracy"] = {
            device: trained(device, 20).evaluate(x_test, y_test)["accuracy"]
            for device in ("cpu", "cuda")
        }
