"""What changes weights on a GPU, which Numba's simulator stands for: steps against the CPU's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import fastnn
from fastnn import constraints, regularizers, schedules

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda: fastnn.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: fastnn.RMSprop(0.01, momentum=0.5, centered=True),
    "adamw": lambda: fastnn.AdamW(0.01, weight_decay=0.1),
    "nadam": lambda: fastnn.Nadam(0.01),
    "adamax": lambda: fastnn.Adamax(0.01),
}
"""Of every way in which numbers come to an update, one."""

OPTIONS: dict[str, dict[str, Any]] = {
    "clipvalue": {"clipvalue": 0.01},
    "clipnorm": {"clipnorm": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "use_ema": {"use_ema": True, "ema_momentum": 0.9},
    "schedule": {"learning_rate": schedules.ExponentialDecay(0.1, 2, 0.5)},
}
LAYERS: dict[str, dict[str, Any]] = {
    "penalty": {"kernel_regularizer": regularizers.L1L2(0.1, 0.1)},
    "activity": {"activity_regularizer": regularizers.L1L2(0.1, 0.1)},
    "sign": {"kernel_constraint": constraints.NonNeg()},
    "norm": {"kernel_constraint": constraints.MaxNorm(0.5)},
}


def trained(device: str, optimizer: Any, **of_layer: Any) -> tuple[fastnn.Sequential, Any]:
    """A network after two steps, the second of fewer rows, and the losses of its epoch."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(7, n)).astype(np.float32) for n in (3, 2))
    layers = [fastnn.Dense(5, "tanh", **of_layer), fastnn.Dense(2)]
    model = fastnn.Sequential(layers, input_shape=(3,), seed=1, device=device)
    model.compile(optimizer, "mse")
    return model, model.fit(x, y, batch_size=4, verbose=0).history["loss"]


def assert_follows_the_cpu(optimizer: Any, **of_layer: Any) -> None:
    (one, losses), (other, expected) = (
        trained(device, optimizer(), **of_layer) for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_follows_the_cpu(name: str) -> None:
    assert_follows_the_cpu(OPTIMIZERS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_option_of_an_optimizer_follows_the_cpu(name: str) -> None:
    assert_follows_the_cpu(lambda: fastnn.SGD(**{"learning_rate": 0.1} | OPTIONS[name]))


@pytest.mark.parametrize("name", LAYERS)
def test_what_holds_weights_follows_the_cpu(name: str) -> None:
    assert_follows_the_cpu(OPTIMIZERS["sgd"], **LAYERS[name])
