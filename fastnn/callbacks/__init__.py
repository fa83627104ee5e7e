"""Callbacks: what is done between epochs, and between steps."""

from fastnn.callbacks.base import (
    Callback,
    LambdaCallback,
    Logs,
    Monitor,
    check,
    check_monitors,
)
from fastnn.callbacks.checkpoint import Checkpoint
from fastnn.callbacks.csv_logger import CSVLogger
from fastnn.callbacks.rates import Lowering, OpenNMTDecay, ReduceLROnPlateau
from fastnn.callbacks.stopping import EarlyStopping
from fastnn.callbacks.tensorboard import TensorBoard

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LambdaCallback",
    "Logs",
    "Lowering",
    "Monitor",
    "OpenNMTDecay",
    "ReduceLROnPlateau",
    "TensorBoard",
    "check",
    "check_monitors",
]
