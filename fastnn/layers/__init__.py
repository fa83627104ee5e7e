"""Layers: what a network is made of."""

from fastnn.layers.activation import ELU, Activation, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from fastnn.layers.base import Layer
from fastnn.layers.dense import Dense
from fastnn.layers.dropout import (
    AlphaDropout,
    DropBlock2D,
    Dropout,
    SpatialDropout1D,
    SpatialDropout2D,
)
from fastnn.layers.noise import GaussianDropout, GaussianNoise
from fastnn.layers.normalization import BatchNormalization, LayerNormalization
from fastnn.layers.prelu import PReLU
from fastnn.layers.regularization import ActivityRegularization
from fastnn.layers.residual import Residual
from fastnn.layers.scaling import Normalization, Rescaling
from fastnn.layers.shape import Flatten, Input, Reshape

__all__ = [
    "ELU",
    "Activation",
    "ActivityRegularization",
    "AlphaDropout",
    "BatchNormalization",
    "Dense",
    "DropBlock2D",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "Input",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Normalization",
    "PReLU",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Residual",
    "Sigmoid",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "Tanh",
]
