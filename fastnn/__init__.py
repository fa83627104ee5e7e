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
    from fastnn import constraints as constraints
    from fastnn import datasets as datasets
    from fastnn import io as io
    from fastnn import math as math
    from fastnn import nnfs as nnfs
    from fastnn import plot as plot
    from fastnn import regularizers as regularizers
    from fastnn import schedules as schedules
    from fastnn import sklearn as sklearn
    from fastnn.callbacks import Callback as Callback
    from fastnn.callbacks import Checkpoint as Checkpoint
    from fastnn.callbacks import CSVLogger as CSVLogger
    from fastnn.callbacks import EarlyStopping as EarlyStopping
    from fastnn.callbacks import LambdaCallback as LambdaCallback
    from fastnn.callbacks import OpenNMTDecay as OpenNMTDecay
    from fastnn.callbacks import ReduceLROnPlateau as ReduceLROnPlateau
    from fastnn.callbacks import TensorBoard as TensorBoard
    from fastnn.custom import activation as activation
    from fastnn.custom import layer as layer
    from fastnn.custom import loss as loss
    from fastnn.custom import optimizer as optimizer
    from fastnn.engine.cpu import DivergenceError as DivergenceError
    from fastnn.engine.threads import get_num_threads as get_num_threads
    from fastnn.engine.threads import set_num_threads as set_num_threads
    from fastnn.layers import *  # noqa: F403
    from fastnn.loading import load as load
    from fastnn.losses import BinaryCrossentropy as BinaryCrossentropy
    from fastnn.losses import CategoricalCrossentropy as CategoricalCrossentropy
    from fastnn.losses import CategoricalHinge as CategoricalHinge
    from fastnn.losses import CosineSimilarity as CosineSimilarity
    from fastnn.losses import HalfPoissonDeviance as HalfPoissonDeviance
    from fastnn.losses import Hinge as Hinge
    from fastnn.losses import Huber as Huber
    from fastnn.losses import KLDivergence as KLDivergence
    from fastnn.losses import LogCosh as LogCosh
    from fastnn.losses import Loss as Loss
    from fastnn.losses import MeanAbsoluteError as MeanAbsoluteError
    from fastnn.losses import MeanSquaredError as MeanSquaredError
    from fastnn.losses import Poisson as Poisson
    from fastnn.losses import SparsemaxLoss as SparsemaxLoss
    from fastnn.losses import SquaredHinge as SquaredHinge
    from fastnn.metrics import AUC as AUC
    from fastnn.metrics import Accuracy as Accuracy
    from fastnn.metrics import ConfusionMatrix as ConfusionMatrix
    from fastnn.metrics import F1Score as F1Score
    from fastnn.metrics import Metric as Metric
    from fastnn.metrics import Precision as Precision
    from fastnn.metrics import R2Score as R2Score
    from fastnn.metrics import Recall as Recall
    from fastnn.metrics import TopKCategoricalAccuracy as TopKCategoricalAccuracy
    from fastnn.model import Sequential as Sequential
    from fastnn.optimizers import *  # noqa: F403
    from fastnn.training.gradcheck import GradientError as GradientError
    from fastnn.training.gradcheck import gradcheck as gradcheck
    from fastnn.training.history import History as History

__version__ = "0.1.0"

_PLACES = {
    "callbacks": (
        "CSVLogger",
        "Callback",
        "Checkpoint",
        "EarlyStopping",
        "LambdaCallback",
        "OpenNMTDecay",
        "ReduceLROnPlateau",
        "TensorBoard",
    ),
    "custom": ("activation", "layer", "loss", "optimizer"),
    "engine.cpu": ("DivergenceError",),
    "engine.threads": ("get_num_threads", "set_num_threads"),
    "losses": (
        "BinaryCrossentropy",
        "CategoricalCrossentropy",
        "CategoricalHinge",
        "CosineSimilarity",
        "HalfPoissonDeviance",
        "Hinge",
        "Huber",
        "KLDivergence",
        "LogCosh",
        "Loss",
        "MeanAbsoluteError",
        "MeanSquaredError",
        "Poisson",
        "SparsemaxLoss",
        "SquaredHinge",
    ),
    "metrics": (
        "AUC",
        "Accuracy",
        "ConfusionMatrix",
        "F1Score",
        "Metric",
        "Precision",
        "R2Score",
        "Recall",
        "TopKCategoricalAccuracy",
    ),
    "loading": ("load",),
    "model": ("Sequential",),
    "training.gradcheck": ("GradientError", "gradcheck"),
    "training.history": ("History",),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}
_MODULES = (
    "activations",
    "callbacks",
    "constraints",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
    "schedules",
)
_ROOMS = ("layers", "optimizers")
"""Modules all of whose names are ours, too: they are listed there, and nowhere else."""
_UNSTARRED = ("io", "math", "nnfs", "plot", "sklearn")
"""Modules that ``from fastnn import *`` leaves out: some of Python's own names, another face."""


def _names(room: str) -> list[str]:
    names: list[str] = importlib.import_module(f"fastnn.{room}").__all__
    return names


def __getattr__(name: str) -> Any:
    if name in (*_MODULES, *_UNSTARRED):
        return importlib.import_module(f"fastnn.{name}")
    if name == "__all__":
        listed = [name for room in _ROOMS for name in _names(room)]
        return sorted([*_PLACE_OF, *listed, *_MODULES, "__version__"])
    place = _PLACE_OF.get(name)
    # Modules are asked for here, too: none begins with a capital.
    if place is None and name[:1].isupper():
        place = next((room for room in _ROOMS if name in _names(room)), None)
    if place is None:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastnn.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    names: list[str] = __getattr__("__all__")
    return names
