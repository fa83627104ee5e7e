"""Pictures of training and of networks, drawn with matplotlib (``pip install "fastnn[plot]"``).

A function that draws one picture takes ``ax``, the axes to draw into, and returns them; one that
draws several takes ``figure``, a figure or part of one, and returns an array of its axes. Where
neither is given, pyplot makes a figure, for its ``show`` and for notebooks.
"""

from fastnn.plot.images import misclassified, weights
from fastnn.plot.insides import activations, gradients
from fastnn.plot.predictions import confusion_matrix, decision_boundary
from fastnn.plot.training import history

__all__ = [
    "activations",
    "confusion_matrix",
    "decision_boundary",
    "gradients",
    "history",
    "misclassified",
    "weights",
]
