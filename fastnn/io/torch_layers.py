"""What each module of PyTorch's becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastnn.io.chains import SOFTPLUS_THRESHOLD, Chain
from fastnn.io.torch_names import NAMES, other_momentum, transposed
from fastnn.layers import (
    Activation,
    AlphaDropout,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    PReLU,
    Rescaling,
    Reshape,
)
from fastnn.layers.base import Layer

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

FUNCTIONS = {
    "celu": "CELU",
    "dropout": "Dropout",
    "elu": "ELU",
    "flatten": "Flatten",
    "gelu": "GELU",
    "hardsigmoid": "Hardsigmoid",
    "hardtanh": "Hardtanh",
    "leaky_relu": "LeakyReLU",
    "log_softmax": "LogSoftmax",
    "mish": "Mish",
    "relu": "ReLU",
    "selu": "SELU",
    "sigmoid": "Sigmoid",
    "silu": "SiLU",
    "softmax": "Softmax",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}
"""Functions and methods of tensors, and the modules that do the same with the same arguments."""

WITHOUT_MEANING = ("training", "_stacklevel")
"""Arguments of such functions that the modules have not, nor need."""


def array_of(tensor: Any) -> Array:
    """A tensor's values."""
    array: Array = tensor.detach().cpu().numpy()
    return array


def _weights(kind: type[Layer], module: Any) -> dict[str, Array]:
    """The module's weights by the names that a layer has for them."""
    named = {name: getattr(module, there) for name, there in NAMES[kind].items()}
    return {
        name: transposed(name, array_of(tensor))
        for name, tensor in named.items()
        if tensor is not None
    }


def _linear(chain: Chain, module: Any) -> None:
    layer = Dense(module.out_features, use_bias=module.bias is not None)
    chain.add(layer, **_weights(Dense, module))


def _batch_norm(chain: Chain, module: Any) -> None:
    if chain.shape != (module.num_features,):
        raise ValueError(f"rows must be of {module.num_features} features, got {chain.shape}")
    if module.momentum is None or module.running_mean is None:
        raise ValueError("it must keep running statistics, with a momentum")
    affine = module.weight is not None
    layer = BatchNormalization(
        momentum=other_momentum(module.momentum),
        epsilon=module.eps,
        center=affine,
        scale=affine,
    )
    chain.add(layer, **_weights(BatchNormalization, module))


def _layer_norm(chain: Chain, module: Any) -> None:
    axes = tuple(module.normalized_shape)
    if chain.shape[-len(axes) :] != axes:
        raise ValueError(f"rows must end in {axes}, got {chain.shape}")
    gamma, beta = (None if w is None else array_of(w) for w in (module.weight, module.bias))
    chain.add_layer_normalization(len(axes), module.eps, gamma, beta)


def _prelu(chain: Chain, module: Any) -> None:
    alpha, rank = array_of(module.weight), len(chain.shape)
    if alpha.size not in (1, chain.shape[0]):
        raise ValueError(f"rows must be of {alpha.size} channels, got {chain.shape}")
    shared = [axis for axis in range(1, rank + 1) if axis > 1 or alpha.size == 1]
    layer = PReLU(shared_axes=shared or None)
    chain.add(layer, alpha=alpha.reshape(-1, *[1] * (rank - 1)))


def _softmax(name: str) -> Callable[[Chain, Any], None]:
    def read(chain: Chain, module: Any) -> None:
        if len(chain.shape) != 1 or module.dim not in (-1, 1):
            raise ValueError(
                f"it must be along rows that are vectors, dim=-1, "
                f"got dim={module.dim} and rows of shape {chain.shape}"
            )
        chain.add(Activation(name))

    return read


def _softplus(chain: Chain, module: Any) -> None:
    if module.threshold < SOFTPLUS_THRESHOLD:
        raise ValueError(f"threshold must be at least {SOFTPLUS_THRESHOLD}, got {module.threshold}")
    chain.add_scaled("softplus", module.beta, 1 / module.beta)


def _hardtanh(chain: Chain, module: Any) -> None:
    if (module.min_val, module.max_val) != (-1, 1):
        raise ValueError(f"it must end at -1 and 1, got {module.min_val} and {module.max_val}")
    chain.add(Activation("hard_tanh"))


def _flatten(chain: Chain, module: Any) -> None:
    if module.start_dim != 1 or module.end_dim not in (-1, len(chain.shape)):
        raise ValueError(
            f"it must take all of a row, got start_dim={module.start_dim}, end_dim={module.end_dim}"
        )
    chain.add(Flatten())


def _unflatten(chain: Chain, module: Any) -> None:
    if module.dim % (len(chain.shape) + 1) != len(chain.shape):
        raise ValueError(f"it must be of the last dimension, got dim={module.dim}")
    chain.add(Reshape((*chain.shape[:-1], *module.unflattened_size)))


def _rescaling(chain: Chain, module: Any) -> None:
    chain.add(Rescaling(module.scale, module.offset))


def _activation(name: str, *parameters: str) -> Callable[[Chain, Any], None]:
    """Reads a module that is an activation, with parameters of the same names."""

    def read(chain: Chain, module: Any) -> None:
        chain.add(Activation(name, **{each: getattr(module, each) for each in parameters}))

    return read


def readers(torch: Any) -> dict[Any, Callable[[Chain, Any], None]]:
    """What becomes of each module. Of exactly this class: a subclass may do anything."""
    from fastnn.io import torch_modules

    nn = torch.nn
    return {
        nn.Linear: _linear,
        nn.BatchNorm1d: _batch_norm,
        nn.LayerNorm: _layer_norm,
        nn.PReLU: _prelu,
        nn.Flatten: _flatten,
        nn.Unflatten: _unflatten,
        torch_modules.Rescaling: _rescaling,
        nn.Identity: lambda chain, module: None,
        nn.Dropout: lambda chain, module: chain.add(Dropout(module.p)),
        nn.AlphaDropout: lambda chain, module: chain.add(AlphaDropout(module.p)),
        nn.Softmax: _softmax("softmax"),
        nn.LogSoftmax: _softmax("log_softmax"),
        nn.Softplus: _softplus,
        nn.Hardtanh: _hardtanh,
        nn.GELU: lambda chain, module: chain.add(
            Activation("gelu", approximate=module.approximate == "tanh")
        ),
        nn.LeakyReLU: _activation("leaky_relu", "negative_slope"),
        nn.ELU: _activation("elu", "alpha"),
        nn.CELU: _activation("celu", "alpha"),
        nn.ReLU: _activation("relu"),
        nn.SELU: _activation("selu"),
        nn.SiLU: _activation("silu"),
        nn.Mish: _activation("mish"),
        nn.Sigmoid: _activation("sigmoid"),
        nn.Hardsigmoid: _activation("hard_sigmoid"),
        nn.Tanh: _activation("tanh"),
        nn.Softsign: _activation("softsign"),
    }
