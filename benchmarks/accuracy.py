"""Test accuracy on Fashion-MNIST beside PyTorch's: ``python -m benchmarks.accuracy``.

784-128-10 with ReLU and softmax, Glorot-uniform start, Adam 1e-3, batches of 128, pixels in [0, 1]:
five epochs over several seeds with fastnn and PyTorch, then twenty with dropout 0.1 with fastnn.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import RESULTS, machine

BATCH = 128

Data = tuple[tuple[Any, Any], tuple[Any, Any]]


def load() -> Data:
    """Fashion-MNIST with float32 rows of 784 in [0, 1] and int64 labels."""
    import numpy as np

    import fastnn

    def prepared(x: Any, y: Any) -> tuple[Any, Any]:
        return x.reshape(len(x), -1).astype(np.float32) / 255, y.astype(np.int64)

    train, test = fastnn.datasets.load("fashion-mnist")
    return prepared(*train), prepared(*test)


def with_fastnn(data: Data, seed: int, epochs: int, dropout: float = 0.0) -> float:
    """Test accuracy after training with fastnn."""
    import fastnn

    (x, y), (x_test, y_test) = data
    layers: list[fastnn.Layer] = [fastnn.Dense(128, activation="relu")]
    if dropout:
        layers.append(fastnn.Dropout(dropout))
    layers.append(fastnn.Dense(10, activation="softmax"))
    model = fastnn.Sequential(layers, seed=seed)
    model.compile(optimizer=fastnn.Adam(1e-3), loss="categorical_crossentropy")
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    return float((model.predict(x_test).argmax(axis=1) == y_test).mean())


def with_torch(data: Data, seed: int, epochs: int) -> float:
    """Test accuracy after training with PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    (x, y), (x_test, y_test) = (tuple(map(torch.from_numpy, part)) for part in data)
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    for layer in (net[0], net[2]):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-7, fused=True)
    criterion = nn.CrossEntropyLoss()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            criterion(net(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((net(x_test).argmax(dim=1) == y_test).float().mean())


def over_seeds(name: str, seeds: int, train: Callable[[int], float]) -> dict[str, Any]:
    """Accuracies, their mean and smallest, and the seconds that a training takes."""
    begin = time.perf_counter()
    accuracies = [train(seed) for seed in range(seeds)]
    seconds = (time.perf_counter() - begin) / seeds
    mean, least = sum(accuracies) / seeds, min(accuracies)
    print(f"{name:<34} mean {mean:.4f}  least {least:.4f}  {seconds:6.1f} s each", flush=True)
    return {"accuracies": accuracies, "mean": mean, "least": least, "seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print and write ``benchmarks/results/accuracy-<date>.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    machine.pin(1)
    data, seeds = load(), options.seeds
    report = {
        "command": "python -m benchmarks.accuracy",
        "date": datetime.date.today().isoformat(),
        "cpu": machine.cpu_name(),
        "versions": machine.versions("fastnn", "numpy", "torch"),
        "5 epochs, fastnn": over_seeds(
            "5 epochs, fastnn", seeds, lambda seed: with_fastnn(data, seed, 5)
        ),
        "5 epochs, torch": over_seeds(
            "5 epochs, torch", seeds, lambda seed: with_torch(data, seed, 5)
        ),
        "20 epochs, dropout 0.1, fastnn": over_seeds(
            "20 epochs, dropout 0.1, fastnn", seeds, lambda seed: with_fastnn(data, seed, 20, 0.1)
        ),
    }
    path = RESULTS / f"accuracy-{report['date']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to benchmarks/results/{path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
