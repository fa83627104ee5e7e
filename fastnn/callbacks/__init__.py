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
from fastnn.callbacks.rates import Lowering, OpenNMTDecay, ReduceLROnPlateau
from fastnn.callbacks.stopping import EarlyStopping

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LambdaCallback",
    "Logs",
    "Lowering",
    "Monitor",
    "OpenNMTDecay",
    "ReduceLROnPlateau",
    "check",
    "check_monitors",
]
