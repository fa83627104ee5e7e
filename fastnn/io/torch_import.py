"""Models of PyTorch's: modules by way of their traced graphs, and the weights in state_dicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastnn import checks
from fastnn.io.chains import Chain
from fastnn.io.graphs import Reader, Step
from fastnn.io.torch_layers import FUNCTIONS, WITHOUT_MEANING, array_of, readers
from fastnn.io.torch_names import IGNORED, NAMES, transposed
from fastnn.layers import AlphaDropout, Dropout, Flatten, Reshape
from fastnn.layers.base import Shape, leaves
from fastnn.model import Sequential
from fastnn.optional import needed


def from_torch(
    source: Any,
    model: Sequential | None = None,
    *,
    input_shape: Shape | int | None = None,
    seed: int | None = None,
) -> Sequential:
    """The model that a PyTorch module is, or `model` with the weights of a state_dict.

    A module is traced (`torch.fx`), so that what counts is its `forward`: a chain of modules, or of
    the functions of the same names, and of skip connections ``x + f(x)``. It becomes layers for
    layers: Linear, Flatten, Unflatten, Dropout, AlphaDropout, BatchNorm1d, LayerNorm, PReLU, and
    the activations that there are here. What is written differently is translated: kernels are
    (in, out) here, BatchNorm1d's momentum is the share of what is new (0.1 there is 0.9 here).
    In training, BatchNorm1d moves its average of the variance by the unbiased one, here it is the
    biased one. Whether a parameter requires a gradient is not asked: see ``layer.trainable``.

    Parameters
    ----------
    source : torch.nn.Module or dict
        A state_dict names no activations, so it needs `model`.
    model : Sequential, optional
        Whose weights a state_dict sets: a built model with the same layers, in the same order.
    input_shape : tuple of int, optional
        The shape of a row; needed where the first module takes rows of any.
    seed : int, optional
        Of the model: of shuffling and dropout.

    Returns
    -------
    Sequential
        Not compiled; or `model`.

    Raises
    ------
    ImportError
        If there is no PyTorch.
    TypeError, ValueError
        If a module, by its path, or an argument of it has no counterpart; if weights do not fit.

    Examples
    --------
    >>> import torch, fastnn
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(dim=-1))
    >>> model = fastnn.io.from_torch(module)
    >>> model.layers[0].kernel.shape
    (4, 3)
    """
    torch = needed("torch", "from_torch")
    if isinstance(source, Mapping):
        return _with_weights(source, model)
    if not isinstance(source, torch.nn.Module):
        raise TypeError(f"from_torch: source must be a module or a state_dict, got {source!r}")
    if model is not None:
        raise ValueError("from_torch: model goes with a state_dict: give source.state_dict()")
    reader = _TorchReader(torch, source)
    shape = checks.shape(
        reader.input_shape() if input_shape is None else input_shape, "from_torch: input_shape"
    )
    chain = Chain(shape, reader.dtype())
    reader.read(reader.steps, reader.start, reader.end, chain)
    return chain.model("from_torch", seed)


def _with_weights(state: Mapping[str, Any], model: Sequential | None) -> Sequential:
    """`model` with the weights of a state_dict, all or none of them."""
    if not all(isinstance(key, str) and hasattr(state[key], "detach") for key in state):
        raise TypeError("from_torch: a state_dict must hold tensors by their names")
    if not isinstance(model, Sequential):
        raise ValueError(
            "from_torch: a state_dict names no activations: give the model whose weights it sets, "
            f"got model={model!r}"
        )
    groups: dict[str, dict[str, Any]] = {}
    for key, tensor in state.items():
        place, _, name = key.rpartition(".")
        if name != IGNORED:
            groups.setdefault(place, {})[name] = tensor
    model._require_built("from_torch")
    own = [layer for layer in leaves(model.layers) if layer.weights]
    if len(own) != len(groups):
        raise ValueError(
            f"from_torch: the model has {len(own)} layers with weights, "
            f"the state_dict {len(groups)}: {', '.join(groups)}"
        )
    weights = []
    for layer, (place, tensors) in zip(own, groups.items(), strict=True):
        names = NAMES.get(type(layer), {})
        expected = [names.get(name) for name in layer.weights]
        if set(expected) != set(tensors):
            raise ValueError(
                f"from_torch: {layer.label} cannot have the weights "
                f"{', '.join(tensors)} of {place!r}"
            )
        for name, array in layer.weights.items():
            value = transposed(name, array_of(tensors[names[name]]))
            value = value.reshape(array.shape) if value.size == array.size == 1 else value
            weights.append(checks.like(value, f"from_torch: {place}.{names[name]}", array))
    model.set_weights(weights)
    return model


SAME_MEMORY = (AlphaDropout, Dropout, Flatten, Reshape)
"""Layers whose modules give the array that they take."""


class _TorchReader(Reader):
    """Reads a traced module."""

    owner = "from_torch"

    def __init__(self, torch: Any, module: Any) -> None:
        from fastnn.io import torch_modules

        self.torch = torch
        self.read_module = readers(torch)
        # In a container, so that a single module is a node of the graph, too.
        self.root = torch.nn.Sequential(module)
        self.steps: list[Step] = []
        self.used: set[int] = set()

        class Tracer(torch.fx.Tracer):  # type: ignore[misc]
            def is_leaf_module(self, module: Any, name: str) -> bool:
                own = isinstance(module, torch_modules.Rescaling)
                return own or super().is_leaf_module(module, name)

        try:
            nodes = list(Tracer().trace(self.root).nodes)
        except Exception as error:  # whatever a forward may raise that is not made of tensors
            name = type(module).__name__
            raise ValueError(f"from_torch: forward of {name} cannot be traced: {error}") from error
        self.start, self.end = nodes[0].name, str(nodes[-1].args[0])
        for node in nodes[1:-1]:
            inputs = tuple(str(each) for each in node.args if isinstance(each, torch.fx.Node))
            self.steps.append(Step(inputs, node.name, node))
            if node.op == "get_attr":
                raise self.error(self.steps[-1], "forward uses it, and no module does")
            if len(node.all_input_nodes) != len(set(inputs)):
                raise self.error(self.steps[-1], "it must take tensors one by one, by position")

    def dtype(self) -> str:
        """The element type that all parameters and statistics have; float32 if there are none."""
        tensors = [each for each in self.root.state_dict().values() if each.is_floating_point()]
        found = {str(each.dtype).removeprefix("torch.") for each in tensors}
        if len(found) > 1 or not found <= {"float32", "float64"}:
            raise TypeError(
                "from_torch: all parameters must be float32, or all float64, "
                f"got {', '.join(sorted(found))}"
            )
        return found.pop() if found else "float32"

    def input_shape(self) -> Shape:
        """The shape of a row, as the first module that has a width tells it."""
        nn = self.torch.nn
        for step in self.steps:
            module, _ = self._module(step)
            match module:
                case nn.Linear():
                    return (module.in_features,)
                case nn.BatchNorm1d():
                    return (module.num_features,)
                case nn.LayerNorm():
                    return tuple(module.normalized_shape)
                case nn.Flatten() | nn.Unflatten():
                    break
        raise ValueError(
            "from_torch: input_shape must be given: no module before a Flatten says what a row is"
        )

    def one(self, step: Step, chain: Chain) -> None:
        """Append what a module, or a function, is."""
        module, read = self._module(step)
        weights = {id(each) for each in module.parameters()}
        if weights & self.used:
            raise self.error(step, "its weights are used twice: two layers cannot share any")
        self.used |= weights
        if module._forward_pre_hooks or module._forward_hooks:
            raise self.error(step, "it has hooks, which may do anything")
        computed = any(not isinstance(part.layer, SAME_MEMORY) for part in chain.parts)
        if getattr(module, "inplace", False) and chain.depth and not computed:
            raise self.error(step, "inplace=True changes what the skip connection adds")
        with self.named(step):
            read(chain, module)

    def _module(self, step: Step) -> tuple[Any, Callable[[Chain, Any], None]]:
        """The module that a node calls, or that does what its function does; and what reads it."""
        node = step.node
        if node.op == "call_module":
            module = self.root.get_submodule(node.target)
        else:
            module = self._module_of_function(node)
        if type(module) not in self.read_module:
            raise self.error(step, "there is no such layer")
        return module, self.read_module[type(module)]

    def _module_of_function(self, node: Any) -> Any:
        name = node.target if isinstance(node.target, str) else node.target.__name__
        if node.op not in ("call_function", "call_method") or name not in FUNCTIONS:
            return None
        arguments = {
            argument: value
            for argument, value in node.kwargs.items()
            if argument not in WITHOUT_MEANING and value is not None
        }
        positional = list(node.args[1:])
        if name == "flatten" and not positional:
            arguments.setdefault("start_dim", 0)
        try:
            return getattr(self.torch.nn, FUNCTIONS[name])(*positional, **arguments)
        except TypeError:  # the function has an argument that the module has not
            return None

    def is_sum(self, step: Step) -> bool:
        """Whether it is ``a + b``, in any of the ways to write it."""
        target = step.node.target
        name = target if isinstance(target, str) else target.__name__
        return name in ("add", "iadd", "add_") and not step.node.kwargs

    def error(self, step: Step, why: str) -> ValueError:
        """Names the module by its path, or the function."""
        node = step.node
        if node.op == "call_module":
            path = node.target.partition(".")[2]
            kind = type(self.root.get_submodule(node.target)).__name__
            what = f"{kind} at {path!r}" if path else kind
        else:
            what = f"{node.name} ({node.target})"
        return ValueError(f"from_torch: {what}: {why}")
