"""Models from PyTorch and for it: PyTorch itself is the oracle."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from door_cases import refused
from fastnn import layers
from fastnn.io import from_torch, to_torch
from helpers import assert_close

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn
functional = nn.functional

Array = NDArray[Any]

ROWS, COLUMNS = 5, 6

MODULES: dict[str, Any] = {
    "Linear": lambda: nn.Linear(COLUMNS, 4),
    "Linear without bias": lambda: nn.Linear(COLUMNS, 1, bias=False),
    "BatchNorm1d": lambda: nn.BatchNorm1d(COLUMNS, eps=0.01),
    "BatchNorm1d, bare": lambda: nn.BatchNorm1d(COLUMNS, affine=False),
    "LayerNorm": lambda: nn.LayerNorm(COLUMNS, eps=0.1),
    "LayerNorm without bias": lambda: nn.LayerNorm(COLUMNS, bias=False),
    "LayerNorm, bare": lambda: nn.LayerNorm(COLUMNS, elementwise_affine=False),
    "PReLU": lambda: nn.PReLU(COLUMNS),
    "PReLU of one slope": lambda: nn.PReLU(),
    "Dropout": lambda: nn.Dropout(0.3),
    "AlphaDropout": lambda: nn.AlphaDropout(0.3),
    "Identity": lambda: nn.Identity(),
    "ReLU": lambda: nn.ReLU(inplace=True),
    "LeakyReLU": lambda: nn.LeakyReLU(0.3),
    "ELU": lambda: nn.ELU(0.7),
    "SELU": lambda: nn.SELU(),
    "CELU": lambda: nn.CELU(0.7),
    "GELU": lambda: nn.GELU(),
    "GELU tanh": lambda: nn.GELU("tanh"),
    "SiLU": lambda: nn.SiLU(),
    "Mish": lambda: nn.Mish(),
    "Sigmoid": lambda: nn.Sigmoid(),
    "Hardsigmoid": lambda: nn.Hardsigmoid(),
    "Tanh": lambda: nn.Tanh(),
    "Hardtanh": lambda: nn.Hardtanh(),
    "Softplus": lambda: nn.Softplus(),
    "Softplus with beta": lambda: nn.Softplus(beta=2.5),
    "Softsign": lambda: nn.Softsign(),
    "Softmax": lambda: nn.Softmax(dim=-1),
    "Softmax of dimension 1": lambda: nn.Softmax(1),
    "LogSoftmax": lambda: nn.LogSoftmax(dim=-1),
    "Unflatten": lambda: nn.Unflatten(1, (2, -1)),
}

OF_SERIES: dict[str, Any] = {
    "Flatten": lambda: nn.Flatten(),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "LayerNorm of two dimensions": lambda: nn.LayerNorm((3, 4)),
    "PReLU of channels": lambda: nn.PReLU(3),
    "Tanh": lambda: nn.Tanh(),
}
"""Modules that take rows of shape (3, 4), too."""


def drawn(module: Any, dtype: Any = None) -> Any:
    """The module with all of its numbers away from where they begin, in evaluation mode."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.2)
    return module.to(dtype or torch.float64).eval()


def rows(*shape: int, dtype: str = "float64") -> Array:
    return np.random.default_rng(2).normal(size=(ROWS, *shape)).astype(dtype)


def outputs(module: Any, x: Array) -> Array:
    with torch.no_grad():
        y: Array = module(torch.from_numpy(x.copy())).numpy()
    return y


@pytest.mark.parametrize("name", MODULES)
def test_a_module_goes_both_ways(name: str) -> None:
    module, x = drawn(nn.Sequential(nn.Linear(COLUMNS, COLUMNS), MODULES[name]())), rows(COLUMNS)
    model = from_torch(module)
    reference = outputs(module, x)
    assert_close(model(x), reference)
    assert_close(outputs(to_torch(model), x), reference)
    assert_close(from_torch(to_torch(model))(x), reference)


@pytest.mark.parametrize("name", OF_SERIES)
def test_a_module_takes_rows_of_two_dimensions(name: str) -> None:
    module, x = drawn(nn.Sequential(nn.LayerNorm(4), OF_SERIES[name]())), rows(3, 4)
    model = from_torch(module, input_shape=(3, 4))
    assert_close(model(x), outputs(module, x))


def test_names_of_conventions_are_translated() -> None:
    module = nn.Sequential(nn.BatchNorm1d(4, eps=0.25, momentum=0.1), nn.Linear(4, 3))
    model = from_torch(module)
    norm, dense = model.layers
    assert isinstance(norm, layers.BatchNormalization)
    assert (norm.momentum, norm.epsilon) == (0.9, 0.25)
    assert isinstance(dense, layers.Dense)
    np.testing.assert_array_equal(dense.kernel, module[1].weight.detach().numpy().T)
    back = to_torch(model)
    assert (back[0].momentum, back[0].eps) == (0.1, 0.25)
    assert not back.training


class Block(nn.Module):  # type: ignore[misc, name-defined]
    """A forward with a skip connection in it, one inside another, and functions."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2)  # not the order in which they are called
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.norm = nn.Sequential(nn.LayerNorm(4), nn.Sequential(nn.Dropout(0.2), nn.ReLU()))

    def forward(self, x: Any) -> Any:
        inner = functional.leaky_relu(self.first(x), 0.1)
        inner = inner + functional.gelu(self.second(inner), approximate="tanh")
        x = self.norm(x + inner).sigmoid()
        return functional.log_softmax(self.last(torch.flatten(x, 1)), dim=-1)


def test_what_counts_is_forward() -> None:
    module, x = drawn(Block()), rows(4)
    model = from_torch(module)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds[:2] == ["Residual", "LayerNormalization"]
    assert [type(layer).__name__ for layer in model.layers[0].inside()] == [
        "Dense",
        "Activation",
        "Residual",
    ]
    assert_close(model.predict(x), outputs(module, x))
    assert_close(outputs(to_torch(model), x), outputs(module, x))


def test_training_goes_on_as_in_torch() -> None:
    """A step of both from the same weights ends with the same; BatchNorm1d is in training mode."""
    module = nn.Sequential(
        nn.Linear(4, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Dropout(0.0), nn.Linear(7, 2)
    )
    module = drawn(module).train()
    model = from_torch(module, seed=1)
    model.compile(fastnn.SGD(0.1), "mse")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    x, y = rows(4), rows(2)
    for _ in range(3):
        loss = functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.fit(x, y, batch_size=ROWS, epochs=3, verbose=0)
    expected = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    for index, layer in ((0, model.layers[0]), (4, model.layers[4])):
        # Sums of a few terms, three times over, divided by a small variance.
        assert_close(layer.params["kernel"], expected[f"{index}.weight"].T, scale=100)
    assert_close(model.layers[1].params["gamma"], expected["1.weight"], scale=100)
    assert_close(model.layers[1].buffers["moving_mean"], module[1].running_mean.numpy(), scale=100)


def test_float32_stays_float32() -> None:
    module = drawn(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.float32)
    model = from_torch(module)
    assert model.dtype == "float32"
    assert to_torch(model)[0].weight.dtype == torch.float32
    x = rows(4, dtype="float32")
    assert_close(model.predict(x), outputs(module, x))


class Shared(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return self.layer(self.layer(x))


class Branches(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        return x * torch.sigmoid(x)


class Choice(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


class OwnParameter(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(4))

    def forward(self, x: Any) -> Any:
        return x + self.shift


class ByName(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        return torch.sigmoid(input=x)


class InPlace(nn.Module):  # type: ignore[misc, name-defined]
    """What it adds is no longer x."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Sequential(nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(4, 4))

    def forward(self, x: Any) -> Any:
        return x + self.change(x)


class OtherType(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        return functional.softmax(x, dim=-1, dtype=torch.float64)


def hooked() -> Any:
    module = nn.Linear(4, 3)
    module.register_forward_hook(lambda module, given, output: -output)
    return module


REFUSED: dict[str, tuple[Any, str]] = {
    "no such layer": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.ReLU6())),
        "ReLU6 at '1.1': there is no such layer",
    ),
    "single module": (lambda: nn.LSTM(4, 3), "LSTM: there is no such layer"),
    "softmax of the batch": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(0)), "at '1'.*dim"),
    "hardtanh's ends": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Hardtanh(0, 6)), "got 0 and 6"),
    "softplus's threshold": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Softplus(threshold=5)),
        "threshold must be at least 20, got 5",
    ),
    "no running statistics": (
        lambda: nn.BatchNorm1d(4, track_running_stats=False),
        "BatchNorm1d: it must keep running statistics",
    ),
    "no momentum": (lambda: nn.BatchNorm1d(4, momentum=None), "with a momentum"),
    "flatten of the batch": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Flatten(0)),
        "Flatten at '1': .*start_dim=0",
    ),
    "dropout of all": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(1.0)), "Dropout at '1'"),
    "widths": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(4)),
        r"LayerNorm at '1': rows must end in \(4,\), got \(3,\)",
    ),
    "shape not known": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), "input_shape"),
    "shared weights": (lambda: Shared(), "at 'layer': its weights are used twice"),
    "a product of branches": (
        lambda: nn.Sequential(nn.Linear(4, 4), Branches()),
        r"mul .*only x \+ f\(x\)",
    ),
    "a choice": (lambda: Choice(), "forward of Choice cannot be traced"),
    "a parameter of its own": (
        lambda: nn.Sequential(nn.Linear(4, 4), OwnParameter()),
        "shift.*no module",
    ),
    "a tensor by name": (
        lambda: nn.Sequential(nn.Linear(4, 4), ByName()),
        "it must take tensors one by one, by position",
    ),
    "an argument without counterpart": (
        lambda: nn.Sequential(nn.Linear(4, 4), OtherType()),
        "softmax.*there is no such layer",
    ),
    "in place beside what is added": (lambda: InPlace(), "at 'change.1': inplace=True changes"),
    "hooks": (hooked, "Linear: it has hooks"),
    "half precision": (lambda: nn.Linear(4, 3).half(), "got float16"),
    "two types": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).double()),
        "got float32, float64",
    ),
    "a list": (lambda: [nn.Linear(4, 3)], "source must be a module or a state_dict"),
    "a number": (lambda: 5, "source must be .*, got 5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_named(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=words):
        from_torch(make())


def test_numbers_that_are_not_finite_are_refused() -> None:
    module = nn.Linear(4, 3)
    with torch.no_grad():
        module.weight[1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"dense_0.kernel must be finite .*got nan"):
        from_torch(module)


def test_in_place_is_as_good_where_nothing_else_reads() -> None:
    class Fine(InPlace):
        def __init__(self) -> None:
            super().__init__()
            self.change = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4))

    module, x = drawn(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), Fine())), rows(4)
    assert_close(from_torch(module)(x), outputs(module, x))


def test_a_module_that_does_nothing_is_a_model() -> None:
    model = from_torch(nn.Identity(), input_shape=4)
    np.testing.assert_array_equal(model(rows(4, dtype="float32")), rows(4, dtype="float32"))


# state_dict


def twins() -> tuple[Any, fastnn.Sequential]:
    module = drawn(
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.PReLU(), nn.LayerNorm(3), nn.ReLU())
    )
    return module, from_torch(module)


def test_a_state_dict_sets_the_weights_of_a_model() -> None:
    module, model = twins()
    expected = model.get_weights()
    model.set_weights([np.zeros_like(w) for w in expected])
    assert from_torch(module.state_dict(), model) is model
    for own, reference in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(own, reference)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"0.weight": torch.zeros(4, 3)}, r"0.weight must have shape \(4, 3\), got \(3, 4\)"),
        ({"3.bias": torch.full((3,), torch.inf)}, "3.bias must be finite"),
        ({"3.weight": None}, "layer_normalization_3 cannot have the weights bias of '3'"),
        ({"9.weight": torch.zeros(3, 3)}, "4 layers with weights, the state_dict 5"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(change: Any, words: str) -> None:
    module, model = twins()
    state = {**module.state_dict(), **change}
    with refused(model, words):
        from_torch({name: w for name, w in state.items() if w is not None}, model)


def test_a_state_dict_needs_a_model_and_a_module_takes_none() -> None:
    module, model = twins()
    with pytest.raises(ValueError, match="names no activations: give the model"):
        from_torch(module.state_dict())
    with pytest.raises(TypeError, match="a state_dict must hold tensors by their names"):
        from_torch({"0.weight": np.zeros((3, 4))}, model)
    with pytest.raises(ValueError, match="model goes with a state_dict"):
        from_torch(module, model)


# to_torch


class Twice(layers.Rescaling):
    """What it does is no longer what its class does."""

    def forward_ops(self, tape: Any, x: Any) -> Any:
        return super().forward_ops(tape, super().forward_ops(tape, x))


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (lambda: Twice(3.0), (4,), "twice_0: Twice of rows"),
        (lambda: layers.Activation("sparsemax"), (4,), "activation_0: sparsemax of rows"),
        (lambda: layers.Dense(3, "eru"), (4,), "dense_0: eru of rows"),
        (lambda: layers.BatchNormalization(), (3, 4), "BatchNormalization of rows of shape .3, 4"),
        (lambda: layers.GaussianNoise(0.1), (4,), "GaussianNoise"),
        (lambda: layers.PReLU(), (3, 4), "PReLU"),
        (lambda: layers.PReLU(shared_axes=[1]), (4, 4), "PReLU"),  # torch's channels come first
        (lambda: layers.Residual([layers.GaussianNoise(0.1)]), (4,), "gaussian_noise_0_0"),
    ],
)
def test_a_layer_that_torch_lacks_is_named(layer: Any, shape: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"to_torch: .*{words}"):
        to_torch(fastnn.Sequential([layer()], shape))


def test_to_torch_takes_a_built_model() -> None:
    with pytest.raises(RuntimeError, match="to_torch: the model is not built yet"):
        to_torch(fastnn.Sequential([layers.Dense(3)]))
    with pytest.raises(TypeError, match="to_torch: model must be a Sequential, got 5"):
        to_torch(5)


def test_weights_are_copies() -> None:
    model = fastnn.Sequential([layers.Dense(3)], 4, seed=0)
    drawn_before = torch.random.get_rng_state()
    module, before = to_torch(model), model.get_weights()
    assert torch.equal(torch.random.get_rng_state(), drawn_before)
    with torch.no_grad():
        module[0].weight.zero_()
    np.testing.assert_array_equal(model.layers[0].params["kernel"], before[0])
    back = from_torch(module)
    with torch.no_grad():
        module[0].bias.fill_(9)
    assert not back.layers[0].params["bias"].any()
