"""Schedules: learning rates that follow the step, from 0, of training.

A model's steps are counted since `compile`, over all of its fits. The rates of an epoch's steps are
computed ahead, so that no step waits for Python. A float is the constant schedule.
"""

from fastnn.schedules.base import Schedule
from fastnn.schedules.cycles import CosineDecayRestarts, Cyclical, OneCycle
from fastnn.schedules.decays import (
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    InvScaling,
    PiecewiseConstantDecay,
    PolynomialDecay,
)

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "Cyclical",
    "ExponentialDecay",
    "InvScaling",
    "InverseTimeDecay",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "Schedule",
]
