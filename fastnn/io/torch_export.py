"""Models for PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastnn.io.chains import is_own
from fastnn.io.torch_names import NAMES, other_momentum, transposed
from fastnn.layers import (
    Activation,
    ActivityRegularization,
    AlphaDropout,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Input,
    LayerNormalization,
    PReLU,
    Rescaling,
    Reshape,
    Residual,
)
from fastnn.layers.base import Layer
from fastnn.model import Sequential
from fastnn.optional import needed

if TYPE_CHECKING:
    Module = Any


def to_torch(model: Sequential) -> Any:
    """The `torch.nn.Sequential` that computes what `model` does, with copies of its weights.

    It has a module for each layer, two where a `Dense` has an activation. Regularizers and
    constraints are left out. What else differs in training is told at `from_torch`.

    Parameters
    ----------
    model : Sequential
        Built.

    Returns
    -------
    torch.nn.Sequential
        In evaluation mode; ``.train()`` has it trained.

    Raises
    ------
    ImportError
        If there is no PyTorch.
    ValueError
        If a layer has no counterpart.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.Sequential([fastnn.Dense(3, "relu")], input_shape=(4,))
    >>> [type(module).__name__ for module in fastnn.io.to_torch(model)]
    ['Linear', 'ReLU']
    """
    torch = needed("torch", "to_torch")
    if not isinstance(model, Sequential):
        raise TypeError(f"to_torch: model must be a Sequential, got {model!r}")
    model._require_built("to_torch")
    with torch.random.fork_rng(devices=[]):  # what modules draw at first is not used
        modules = torch.nn.Sequential(*_modules(model.layers, torch.nn))
    return modules.to(getattr(torch, model.dtype)).eval()


def _modules(layers: Sequence[Layer], nn: Any) -> list[Module]:
    from fastnn.io import torch_modules

    made: list[Module] = []
    for layer in layers:
        if isinstance(layer, Residual):
            made.append(torch_modules.Residual(*_modules(layer.layers, nn)))
            continue
        for stage in layer.stages():
            if isinstance(stage, (Input, ActivityRegularization)):
                continue
            made.append(_module(stage, layer, nn))
    return made


def _module(stage: Layer, layer: Layer, nn: Any) -> Module:
    """The module that a stage of `layer` is, with its weights."""
    module = _counterpart(stage, nn) if is_own(stage) else None
    if module is None:
        what = stage.activation if isinstance(stage, Activation) else type(stage).__name__
        raise ValueError(
            f"to_torch: {layer.label}: {what} of rows of shape {stage.input_shape} has no "
            "counterpart in PyTorch"
        )
    _copy_weights(stage, module)
    return module


def _counterpart(stage: Layer, nn: Any) -> Module | None:
    """The module that does what a stage does, if there is one."""
    from fastnn.io import torch_modules

    shape = stage.input_shape or ()
    match stage:
        case Dense():
            return nn.Linear(shape[0], stage.units, bias=stage.use_bias)
        case BatchNormalization() if len(shape) == 1:
            affine = stage.scale or stage.center
            momentum = other_momentum(stage.momentum)
            return nn.BatchNorm1d(shape[0], stage.epsilon, momentum, affine=affine)
        case LayerNormalization():
            affine = stage.scale or stage.center
            return nn.LayerNorm(shape[-1], stage.epsilon, affine, bias=stage.center)
        case PReLU() if stage.alpha.size in (1, shape[0]) and stage.alpha.size == len(stage.alpha):
            return nn.PReLU(stage.alpha.size)
        case Activation() if stage.activation in _ACTIVATIONS:
            return _ACTIVATIONS[stage.activation](nn, stage.arguments)
        case AlphaDropout():
            return nn.AlphaDropout(stage.rate)
        case Dropout():
            return nn.Dropout(stage.rate)
        case Flatten():
            return nn.Flatten()
        case Reshape():
            return nn.Sequential(nn.Flatten(), nn.Unflatten(1, stage.output_shape))
        case Rescaling():
            return torch_modules.Rescaling(stage.scale, stage.offset)
    return None


def _copy_weights(stage: Layer, module: Module) -> None:
    """Set the module's weights, which begin as ones and zeros where the layer has none."""
    import torch

    with torch.no_grad():
        for name, array in stage.weights.items():
            tensor = getattr(module, NAMES[type(stage)][name])
            value = torch.from_numpy(transposed(name, array).copy())
            # The module is float32 until all are made: its own memory is of no use to float64.
            tensor.data = value.reshape(tensor.shape)


_ACTIVATIONS: dict[Any, Callable[[Any, dict[str, Any]], Module]] = {
    "linear": lambda nn, _: nn.Identity(),
    "relu": lambda nn, _: nn.ReLU(),
    "leaky_relu": lambda nn, given: nn.LeakyReLU(given["negative_slope"]),
    "elu": lambda nn, given: nn.ELU(given["alpha"]),
    "selu": lambda nn, _: nn.SELU(),
    "celu": lambda nn, given: nn.CELU(given["alpha"]),
    "gelu": lambda nn, given: nn.GELU("tanh" if given["approximate"] else "none"),
    "gelu_tanh": lambda nn, _: nn.GELU("tanh"),
    "silu": lambda nn, _: nn.SiLU(),
    "mish": lambda nn, _: nn.Mish(),
    "sigmoid": lambda nn, _: nn.Sigmoid(),
    "hard_sigmoid": lambda nn, _: nn.Hardsigmoid(),
    "tanh": lambda nn, _: nn.Tanh(),
    "hard_tanh": lambda nn, _: nn.Hardtanh(),
    "softplus": lambda nn, _: nn.Softplus(),
    "softsign": lambda nn, _: nn.Softsign(),
    "softmax": lambda nn, _: nn.Softmax(dim=-1),
    "log_softmax": lambda nn, _: nn.LogSoftmax(dim=-1),
}
"""Modules by the names of activations."""
