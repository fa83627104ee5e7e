"""Models from other tools, and for them.

Each function imports the tool when it is called, and says how to install it where it is missing.
"""

from fastnn.io.keras_files import from_keras_weights
from fastnn.io.onnx_export import to_onnx
from fastnn.io.onnx_import import from_onnx
from fastnn.io.sklearn_import import from_sklearn
from fastnn.io.torch_export import to_torch
from fastnn.io.torch_import import from_torch

__all__ = [
    "from_keras_weights",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "to_onnx",
    "to_torch",
]
