"""Layers: what a network is made of."""

from fastnn.layers.activation import Activation, ReLU, Sigmoid, Softmax, Tanh
from fastnn.layers.base import Layer
from fastnn.layers.dense import Dense
from fastnn.layers.dropout import Dropout
from fastnn.layers.shape import Flatten, Input

__all__ = [
    "Activation",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "Layer",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
