"""fastnn: neural networks, trained and served fast, in pure Python.

    import fastnn

    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    model = fastnn.Sequential([fastnn.Dense(64, activation="relu"),
                               fastnn.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=20)
    model.evaluate(x_test, y_test)

Names are loaded when first used: importing fastnn costs little more than importing NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn import callbacks as callbacks
    from fastnn import datasets as datasets
    from fastnn.callbacks import Callback as Callback
    from fastnn.callbacks import EarlyStopping as EarlyStopping
    from fastnn.callbacks import LambdaCallback as LambdaCallback
    from fastnn.engine.cpu import DivergenceError as DivergenceError
    from fastnn.engine.threads import get_num_threads as get_num_threads
    from fastnn.engine.threads import set_num_threads as set_num_threads
    from fastnn.layers import ELU as ELU
    from fastnn.layers import Activation as Activation
    from fastnn.layers import Dense as Dense
    from fastnn.layers import Dropout as Dropout
    from fastnn.layers import Flatten as Flatten
    from fastnn.layers import Input as Input
    from fastnn.layers import Layer as Layer
    from fastnn.layers import LeakyReLU as LeakyReLU
    from fastnn.layers import ReLU as ReLU
    from fastnn.layers import Sigmoid as Sigmoid
    from fastnn.layers import Softmax as Softmax
    from fastnn.layers import Tanh as Tanh
    from fastnn.losses import BinaryCrossentropy as BinaryCrossentropy
    from fastnn.losses import CategoricalCrossentropy as CategoricalCrossentropy
    from fastnn.losses import Loss as Loss
    from fastnn.losses import MeanSquaredError as MeanSquaredError
    from fastnn.metrics import Accuracy as Accuracy
    from fastnn.model import Sequential as Sequential
    from fastnn.model import load as load
    from fastnn.optimizers import SGD as SGD
    from fastnn.optimizers import Adam as Adam
    from fastnn.optimizers import Optimizer as Optimizer
    from fastnn.training.history import History as History

__version__ = "0.1.0"

_PLACES = {
    "callbacks": ("Callback", "EarlyStopping", "LambdaCallback"),
    "engine.cpu": ("DivergenceError",),
    "engine.threads": ("get_num_threads", "set_num_threads"),
    "layers": (
        "ELU",
        "Activation",
        "Dense",
        "Dropout",
        "Flatten",
        "Input",
        "Layer",
        "LeakyReLU",
        "ReLU",
        "Sigmoid",
        "Softmax",
        "Tanh",
    ),
    "losses": ("BinaryCrossentropy", "CategoricalCrossentropy", "Loss", "MeanSquaredError"),
    "metrics": ("Accuracy",),
    "model": ("Sequential", "load"),
    "optimizers": ("SGD", "Adam", "Optimizer"),
    "training.history": ("History",),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}
_MODULES = (
    "activations",
    "callbacks",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "optimizers",
)

__all__ = sorted([*_PLACE_OF, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fastnn.{name}")
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastnn.{_PLACE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
