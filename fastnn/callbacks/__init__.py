"""Callbacks: what is done between epochs."""

from fastnn.callbacks.base import Callback, LambdaCallback, Logs, Monitor, check
from fastnn.callbacks.rates import Lowering, OpenNMTDecay, ReduceLROnPlateau
from fastnn.callbacks.stopping import EarlyStopping

__all__ = [
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "Logs",
    "Lowering",
    "Monitor",
    "OpenNMTDecay",
    "ReduceLROnPlateau",
    "check",
]
