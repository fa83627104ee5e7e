"""The same start, the same batches: fastnn follows PyTorch step by step.

Both run 50 steps from the same weights over the same rows in the same order. What they are compared
in is the loss of every step and every tensor of weights at the end, not some accuracy.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

Array = NDArray[Any]

STEPS = 50
BATCH = 16
SEEDS = 8  # of the runs whose accuracies are averaged
FEATURES, CLASSES = 11, 5
ROWS = 10 * BATCH + 7  # an epoch is ten whole batches and one of 7 rows

# Relative to the reference: each loss, and each tensor of weights in its norm. Both compute the
# same sums in another order; the largest errors seen after 50 steps are 1e-15 and 4e-6.
RELATIVE = {"float64": 1e-10, "float32": 1e-4}


class Network(NamedTuple):
    """A network and loss by fastnn's names: torch's twin is made of the same."""

    hidden: tuple[str, ...]
    output: str
    loss: str


NETWORKS = {
    "relu-softmax": Network(("relu", "relu"), "softmax", "categorical_crossentropy"),
    "tanh-sigmoid": Network(("tanh",), "sigmoid", "binary_crossentropy"),
    "sigmoid-linear": Network(("sigmoid", "tanh"), "linear", "mean_squared_error"),
    # Not fused with their loss: the activation's own way back is taken.
    "relu-softmax-mse": Network(("relu",), "softmax", "mean_squared_error"),
    "relu-sigmoid-mse": Network(("relu",), "sigmoid", "mean_squared_error"),
}

OPTIMIZERS = {
    "sgd": ({"learning_rate": 0.05}, {"lr": 0.05}),
    "momentum": (
        {"learning_rate": 0.02, "momentum": 0.9},
        {"lr": 0.02, "momentum": 0.9},
    ),
    "nesterov": (
        {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True},
        {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    ),
    "adam": (
        {"learning_rate": 3e-3, "epsilon": 1e-8},  # PyTorch's epsilon
        {"lr": 3e-3},
    ),
}

ACTIVATIONS = {
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "linear": torch.nn.Identity,
}


@pytest.fixture(autouse=True)
def one_thread_in_torch() -> Any:
    """Torch's threads would fight with those of other tests; its results hang on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def data(network: Network, dtype: str) -> tuple[Array, Array, Array]:
    """Rows, targets and weights; the weights have zeros and numbers far from 1 among them."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, FEATURES)).astype(dtype)
    if network.loss == "categorical_crossentropy":
        y: Array = rng.integers(0, CLASSES, ROWS)
    elif network.loss == "binary_crossentropy":
        y = rng.integers(0, 2, (ROWS, CLASSES)).astype(dtype)
    else:
        y = rng.normal(size=(ROWS, CLASSES)).astype(dtype)
    weights = rng.uniform(0.0, 3.0, ROWS).astype(dtype)
    weights[::7] = 0.0
    return x, y, weights


class Twins:
    """A model of fastnn's and one of torch's that begin alike."""

    def __init__(self, network: Network, optimizer: str, dtype: str) -> None:
        torch.manual_seed(4)
        sizes = [FEATURES, 13, 9][: len(network.hidden) + 1]
        stack: list[Any] = []
        for inputs, units, activation in zip(sizes[:-1], sizes[1:], network.hidden, strict=True):
            stack += [torch.nn.Linear(inputs, units), ACTIVATIONS[activation]()]
        stack.append(torch.nn.Linear(sizes[-1], CLASSES))
        fused = (network.output, network.loss) in (
            ("softmax", "categorical_crossentropy"),
            ("sigmoid", "binary_crossentropy"),
        )
        if network.output == "softmax" and not fused:
            stack.append(torch.nn.Softmax(dim=1))
        elif not fused:
            stack.append(ACTIVATIONS[network.output]())
        self.loss_name = network.loss
        self.torch_model = torch.nn.Sequential(*stack).to(getattr(torch, dtype))
        own_arguments, torch_arguments = OPTIMIZERS[optimizer]
        torch_class = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
        self.torch_optimizer = torch_class(self.torch_model.parameters(), **torch_arguments)

        self.model = fastnn.Sequential(
            [
                *(
                    fastnn.Dense(units, activation=activation)
                    for units, activation in zip(sizes[1:], network.hidden, strict=True)
                ),
                fastnn.Dense(CLASSES, activation=network.output),
            ],
            input_shape=(FEATURES,),
            dtype=dtype,
            seed=0,
        )
        own_class = fastnn.Adam if optimizer == "adam" else fastnn.SGD
        self.model.compile(own_class(**own_arguments), network.loss)
        self.model.set_weights(self.torch_weights())

    def torch_weights(self) -> list[Array]:
        """Torch's weights in fastnn's order and layout: torch's kernels are (out, in)."""
        return [p.detach().numpy().T.copy() for p in self.torch_model.parameters()]

    def torch_losses(self, x: Array, y: Array) -> Any:
        """Every row's loss, as a tensor (N,)."""
        functional = torch.nn.functional
        z, target = self.torch_model(torch.from_numpy(x)), torch.from_numpy(y)
        if self.loss_name == "categorical_crossentropy":
            return functional.cross_entropy(z, target, reduction="none")
        if self.loss_name == "binary_crossentropy":
            each = functional.binary_cross_entropy_with_logits(z, target, reduction="none")
        else:
            each = functional.mse_loss(z, target, reduction="none")
        return each.mean(dim=1)

    def torch_step(self, x: Array, y: Array, weights: Array | None) -> float:
        """One training step of torch's; the loss before it."""
        losses = self.torch_losses(x, y)
        if weights is not None:
            losses = losses * torch.from_numpy(weights)
        loss = losses.mean()
        self.torch_optimizer.zero_grad()
        loss.backward()
        self.torch_optimizer.step()
        return float(loss.detach())

    def assert_same_weights(self, dtype: str) -> None:
        """Assert |w - reference| <= tolerance * |reference| in the norm of every tensor."""
        for own, reference in zip(self.model.get_weights(), self.torch_weights(), strict=True):
            assert own.dtype == dtype
            assert own.shape == reference.shape
            own, reference = own.astype(np.float64), reference.astype(np.float64)
            error = np.linalg.norm(own - reference) / np.linalg.norm(reference)
            assert error <= RELATIVE[dtype]


def batches() -> list[slice]:
    """The rows of each of the 50 steps: over and over through the data, with its short end."""
    starts = list(range(0, ROWS, BATCH))
    return [slice(start, start + BATCH) for start in (starts * STEPS)[:STEPS]]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_50_steps_follow_torch(name: str, optimizer: str, weighted: bool, dtype: str) -> None:
    network = NETWORKS[name]
    x, y, weights = data(network, dtype)
    twins = Twins(network, optimizer, dtype)
    own, reference = [], []
    for part in batches():
        w = weights[part] if weighted else None
        own.append(twins.model.train_on_batch(x[part], y[part], sample_weight=w)["loss"])
        reference.append(twins.torch_step(x[part], y[part], w))
    np.testing.assert_allclose(own, reference, rtol=RELATIVE[dtype], atol=0.0)
    twins.assert_same_weights(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fit_follows_torch_over_epochs_with_a_short_last_batch(
    optimizer: str, weighted: bool, dtype: str
) -> None:
    """The epoch's loss is the mean over rows: the last batch counts with its 7, not as one of 11.

    Validation after each epoch must leave training alone.
    """
    network = NETWORKS["relu-softmax"]
    x, y, weights = data(network, dtype)
    held = np.random.default_rng(5)
    x_val = held.normal(size=(30, FEATURES)).astype(dtype)
    y_val = held.integers(0, CLASSES, 30)
    twins = Twins(network, optimizer, dtype)
    epochs = 5  # of 11 steps
    history = twins.model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        sample_weight=weights if weighted else None,
        validation_data=(x_val, y_val),
    ).history

    losses, val_losses = [], []
    for _ in range(epochs):
        total = 0.0
        for start in range(0, ROWS, BATCH):
            part = slice(start, start + BATCH)
            loss = twins.torch_step(x[part], y[part], weights[part] if weighted else None)
            total += loss * len(x[part])
        losses.append(total / ROWS)
        val_losses.append(float(twins.torch_losses(x_val, y_val).detach().mean()))
    np.testing.assert_allclose(history["loss"], losses, rtol=RELATIVE[dtype], atol=0.0)
    np.testing.assert_allclose(history["val_loss"], val_losses, rtol=RELATIVE[dtype], atol=0.0)
    twins.assert_same_weights(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_predictions_are_torchs(dtype: str) -> None:
    network = NETWORKS["relu-softmax"]
    x, _, _ = data(network, dtype)
    twins = Twins(network, "sgd", dtype)
    with torch.no_grad():
        reference = torch.softmax(twins.torch_model(torch.from_numpy(x)), dim=1).numpy()
    own = twins.model.predict(x)
    # Probabilities of some 0.2, out of two sums over 13 terms.
    rtol = {"float64": 1e-13, "float32": 1e-5}[dtype]
    np.testing.assert_allclose(own, reference, rtol=rtol, atol=0.0)


def test_soft_targets_follow_torch() -> None:
    """Rows of probabilities instead of labels, in both."""
    network = NETWORKS["relu-softmax"]
    x, _, weights = data(network, "float64")
    y = np.random.default_rng(6).dirichlet(np.ones(CLASSES), ROWS)
    twins = Twins(network, "momentum", "float64")
    own, reference = [], []
    for part in batches():
        w = weights[part]
        own.append(twins.model.train_on_batch(x[part], y[part], sample_weight=w)["loss"])
        reference.append(twins.torch_step(x[part], y[part], w))
    np.testing.assert_allclose(own, reference, rtol=1e-10, atol=0.0)
    twins.assert_same_weights("float64")


def fashion_mnist(rows: int) -> tuple[Array, Array, Array, Array]:
    """The first `rows` training rows and all test rows, as float32 vectors in [0, 1]."""
    try:
        (x, y), (x_test, y_test) = fastnn.datasets.load("fashion-mnist")
    except (FileNotFoundError, ImportError):
        pytest.skip("the data set fashion-mnist (Debian: dataset-fashion-mnist) is not installed")

    def vectors(images: Array) -> Array:
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)

    return vectors(x[:rows]), y[:rows].astype(np.int64), vectors(x_test), y_test.astype(np.int64)


def torch_accuracy(seed: int, x: Array, y: Array, x_test: Array, y_test: Array) -> float:
    """784-128-10 of torch's with a Glorot start, Adam 1e-3, batch 128, 2 epochs."""
    generator = torch.Generator().manual_seed(seed)
    stack = [torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)]
    for layer in stack[::2]:
        torch.nn.init.xavier_uniform_(layer.weight, generator=generator)
        torch.nn.init.zeros_(layer.bias)
    model = torch.nn.Sequential(*stack)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(2):
        for part in torch.randperm(len(x), generator=generator).split(128):
            loss = torch.nn.functional.cross_entropy(model(rows[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        predicted = model(torch.from_numpy(x_test)).argmax(1).numpy()
    return float((predicted == y_test).mean())


def own_accuracy(seed: int, x: Array, y: Array, x_test: Array, y_test: Array) -> float:
    """The same of fastnn's."""
    model = fastnn.Sequential(
        [fastnn.Dense(128, activation="relu"), fastnn.Dense(10, activation="softmax")],
        seed=seed,
    )
    model.compile(fastnn.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    return model.evaluate(x_test, y_test)["accuracy"]


def test_accuracy_on_fashion_mnist_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small piece of the work on which the benchmarks compare in full: 5000 rows, 8 seeds."""
    monkeypatch.setenv("FASTNN_DATA_URL", "http://127.0.0.1:9")  # no test needs the internet
    sets = fashion_mnist(5000)
    own = np.mean([own_accuracy(seed, *sets) for seed in range(SEEDS)])
    reference = np.mean([torch_accuracy(seed, *sets) for seed in range(SEEDS)])
    # Single runs spread by 0.01, so the difference of two means of eight by 0.005.
    assert abs(own - reference) <= 0.02
    assert own > 0.75
