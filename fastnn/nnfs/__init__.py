"""The classes of the book *Neural Networks from Scratch in Python* (Kinsley & Kukieła, 2020).

A script written with them runs with its import line changed::

    from fastnn import nnfs
    from fastnn.nnfs import *
    from fastnn.nnfs.datasets import spiral_data

    nnfs.init()

Names, arguments, defaults and results are the book's. Loops written by hand run on fastnn's
kernels; `Model.train` runs as a whole in compiled code. Layers, activations, losses, optimizers and
accuracies of your own, in the book's protocol, mix freely with these.
"""

from fastnn.nnfs.accuracies import Accuracy, Accuracy_Categorical, Accuracy_Regression
from fastnn.nnfs.activations import (
    Activation_Linear,
    Activation_ReLU,
    Activation_Sigmoid,
    Activation_Softmax,
)
from fastnn.nnfs.arrays import init as init
from fastnn.nnfs.layers import Layer_Dense, Layer_Dropout, Layer_Input
from fastnn.nnfs.losses import (
    Activation_Softmax_Loss_CategoricalCrossentropy,
    Loss,
    Loss_BinaryCrossentropy,
    Loss_CategoricalCrossentropy,
    Loss_MeanAbsoluteError,
    Loss_MeanSquaredError,
)
from fastnn.nnfs.model import Model
from fastnn.nnfs.optimizers import (
    Optimizer_Adagrad,
    Optimizer_Adam,
    Optimizer_RMSprop,
    Optimizer_SGD,
)

__all__ = [
    "Accuracy",
    "Accuracy_Categorical",
    "Accuracy_Regression",
    "Activation_Linear",
    "Activation_ReLU",
    "Activation_Sigmoid",
    "Activation_Softmax",
    "Activation_Softmax_Loss_CategoricalCrossentropy",
    "Layer_Dense",
    "Layer_Dropout",
    "Layer_Input",
    "Loss",
    "Loss_BinaryCrossentropy",
    "Loss_CategoricalCrossentropy",
    "Loss_MeanAbsoluteError",
    "Loss_MeanSquaredError",
    "Model",
    "Optimizer_Adagrad",
    "Optimizer_Adam",
    "Optimizer_RMSprop",
    "Optimizer_SGD",
]
