"""The oracle on trial: fastnn.kernels.reference against PyTorch, SciPy, published vectors, central
differences and sums written out by hand. All kernels are judged by it, so it is judged here first.
"""

import doctest
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastnn.kernels import reference
from helpers import assert_close, assert_is_gradient

Array = NDArray[np.float64]
Loss = Callable[..., tuple[Array, Array]]

ROWS, COLUMNS = 5, 4
BIG = 2**64 - 1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def probabilities(rng: np.random.Generator) -> Array:
    return rng.dirichlet(np.ones(COLUMNS), size=ROWS)


# Every function once, with arguments that suit it: for what holds of all of them.
X, Y, P, W = np.random.default_rng(0).uniform(0.1, 0.9, (4, ROWS, COLUMNS))
SIGNS = np.where(Y > 0.5, 1.0, -1.0)
LABELS, ROW_WEIGHTS = np.array([0, 3, 1, 1, 2]), np.array([1.0, 0.5, 2.0, 0.0, 3.0])
CALLS: dict[str, tuple[Any, ...]] = {
    "dense_forward": (X, W.T, P[0, :1]),
    "dense_backward_input": (X, W),
    "dense_backward_kernel": (X, Y),
    "sparse_forward": ([(X[0], np.arange(COLUMNS))] * ROWS, W.T, P[0, :1]),
    "sparse_backward_kernel": ([(X[0], np.arange(COLUMNS))] * ROWS, Y, COLUMNS),
    "sigmoid_forward": (X,),
    "prelu_forward": (X - 0.5, Y[0]),
    "prelu_backward": (W, X - 0.5, Y[0]),
    "softmax_forward": (X,),
    "softmax_backward": (X, Y),
    "log_softmax_forward": (X,),
    "log_softmax_backward": (X, Y),
    "sparsemax_forward": (X,),
    "sparsemax_backward": (X, Y),
    "softmax_crossentropy": (X, LABELS, ROW_WEIGHTS),
    "softmax_crossentropy_soft": (X, Y, ROW_WEIGHTS),
    "categorical_crossentropy": (P, LABELS, ROW_WEIGHTS),
    "categorical_crossentropy_soft": (P, Y, ROW_WEIGHTS),
    "sigmoid_binary_crossentropy": (X, Y, ROW_WEIGHTS),
    "binary_crossentropy": (P, Y, ROW_WEIGHTS),
    "mean_squared_error": (X, Y, ROW_WEIGHTS),
    "mean_absolute_error": (X, Y, ROW_WEIGHTS),
    "huber": (X, Y, ROW_WEIGHTS, 0.3),
    "log_cosh": (X, Y, ROW_WEIGHTS),
    "poisson": (X, Y, ROW_WEIGHTS),
    "half_poisson_deviance": (np.abs(X) + 0.1, np.abs(Y), ROW_WEIGHTS),
    "exponential_half_poisson_deviance": (X, np.abs(Y), ROW_WEIGHTS),
    "hinge": (X, SIGNS, ROW_WEIGHTS),
    "squared_hinge": (X, SIGNS, ROW_WEIGHTS),
    "kl_divergence": (P, Y, ROW_WEIGHTS),
    "categorical_hinge": (X, Y, ROW_WEIGHTS),
    "cosine_similarity": (X, Y, ROW_WEIGHTS),
    "sparsemax_loss": (X, Y, ROW_WEIGHTS),
    "one_hot": (LABELS, COLUMNS, 0.9, 0.1),
    "affine": (X, 0.9, 0.1),
    "categorical_accuracy": (X, LABELS),
    "categorical_accuracy_soft": (X, Y),
    "binary_accuracy": (X, Y, 0.5),
    "top_k_accuracy": (X, Y, 2),
    "count_positives": (X, Y, 0.5, True),
    "count_confusion": (X, Y, 0.5),
    "count_buckets": (X, Y, 7),
    "count_close": (X, Y, 0.2),
    "sum_squares": (X, Y),
    "batch_statistics": (X, 2),
    "normalize_columns": (X, X[0], P[0], W[0], P[1], 0.1, 0.5),
    "batch_normalization_parameters": (Y, X, X[0], P[0], 0.1),
    "batch_normalization_backward": (Y, X, X[0], P[0], W[0], Y[0], Y[1], 0.1),
    "moving_average": (X, Y, 0.9),
    "layer_normalization_forward": (X, 2, 0.1),
    "layer_normalization_backward": (Y, X, P[:, :1], W[0]),
    "dropout_mask": ((ROWS, COLUMNS), 0.5, 1, 2, 3),
    "dropout_forward": (X, 0.5, 1, 2, 3),
    "dropout_backward": (X, 0.5, 1, 2, 3),
    "alpha_dropout_forward": (X, 0.5, 1, 2, 3),
    "alpha_dropout_backward": (X, 0.5, 1, 2, 3),
    "spatial_dropout_forward": (X, 0.5, 1, 2, 3),
    "drop_block_mask": ((ROWS, 2, 2, 1), 0.3, 2, 1, 2, 3),
    "drop_block_forward": (X.reshape(ROWS, 2, 2, 1), 0.3, 2, 1, 2, 3),
    "normal_numbers": ((ROWS, COLUMNS), 1, 2, 3),
    "gaussian_noise": (X, 0.5, 1, 2, 3),
    "gaussian_dropout": (X, 0.5, 1, 2, 3),
    "adam": (W, X, Y, P, 3, 0.1),
    "sgd": (W, X, Y, 0.1, 0.9, True),
    "adagrad": (W, X, Y, 0.1),
    "rmsprop": (W, X, Y, P, W, 0.1, 0.9, 0.5, True),
    "rmsprop_outside": (W, X, Y, 0.1),
    "adadelta": (W, X, Y, P, 0.1),
    "amsgrad": (W, X, Y, P, X, 3, 0.1),
    "nadam": (W, X, Y, P, 3, 0.1),
    "adamax": (W, X, Y, P, 3, 0.1),
    "lion": (W, X, Y, 0.1),
    "penalty": (W, 0.1, 0.2),
    "penalty_gradient": (W, 0.1, 0.2),
    "constrain_sign": (SIGNS,),
    "constrain_norm": (W, 1, 0.5, 0.9, 0.5, 1e-7),
    "weight_decay": (W, 0.1, 0.5),
    "weight_average": (W, X, 3, 0.9),
}


def test_every_public_function_is_called() -> None:
    public = {
        name
        for name, value in vars(reference).items()
        if getattr(value, "__module__", "").startswith(reference.__name__)
    }
    assert public == {*CALLS, "guard", "clip_norm", "philox4x32", "shuffle"}


def test_guard_looks_at_squares_in_the_gradients_own_type() -> None:
    assert reference.guard(np.zeros(0))
    assert reference.guard([0.0, -1e150])
    assert not reference.guard([0.0, 1e160])
    assert not reference.guard(np.array([1e20], np.float32))
    assert not reference.guard([1.0, np.nan])
    assert not reference.guard([-np.inf, 1.0])


@pytest.mark.parametrize("name", CALLS)
def test_float32_in_gives_new_float64_out(name: str) -> None:
    arguments = [
        a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a
        for a in CALLS[name]
    ]
    before = [np.copy(a) for a in arguments]
    wide = [
        a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a
        for a in arguments
    ]
    outputs = getattr(reference, name)(*arguments)
    expected = getattr(reference, name)(*wide)
    if isinstance(outputs, np.ndarray):
        outputs, expected = (outputs,), (expected,)
    for output, wide_output in zip(outputs, expected, strict=True):
        assert output.dtype == np.float64
        np.testing.assert_array_equal(output, wide_output)  # computed in float64, not in float32
        for argument in wide:
            assert not np.shares_memory(output, np.asarray(argument))
    for argument, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(argument, copy)


def test_docstring_examples() -> None:
    names = ("losses", "metrics", "networks", "normalization", "optimizers", "random")
    rooms = [importlib.import_module(f"{reference.__name__}.{name}") for name in names]
    results = [doctest.testmod(room) for room in rooms]
    assert sum(result.attempted for result in results) >= 4
    assert sum(result.failed for result in results) == 0


# Dense


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (7, 13, 4)])
def test_dense_is_the_sum_written_out(
    shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    n_rows, n_inputs, n_outputs = shape
    x, w = rng.normal(size=(n_rows, n_inputs)), rng.normal(size=(n_inputs, n_outputs))
    b, dy = rng.normal(size=n_outputs), rng.normal(size=(n_rows, n_outputs))
    y = np.tile(b, (n_rows, 1))
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(b)
    for n in range(n_rows):
        for o in range(n_outputs):
            db[o] += dy[n, o]
            for i in range(n_inputs):
                y[n, o] += x[n, i] * w[i, o]
                dx[n, i] += dy[n, o] * w[i, o]
                dw[i, o] += x[n, i] * dy[n, o]
    assert_close(reference.dense_forward(x, w, b), y)
    assert_close(reference.dense_forward(x, w), y - b)
    assert_close(reference.dense_backward_input(dy, w), dx)
    assert_close(reference.dense_backward_kernel(x, dy)[0], dw)
    assert_close(reference.dense_backward_kernel(x, dy)[1], db)


def test_dense_gradients_by_central_differences(rng: np.random.Generator) -> None:
    x, w, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), rng.normal(size=2)
    dy = rng.normal(size=(3, 2))
    dw, db = reference.dense_backward_kernel(x, dy)
    forward = reference.dense_forward
    assert_is_gradient(
        reference.dense_backward_input(dy, w), lambda v: (dy * forward(v, w, b)).sum(), x
    )
    assert_is_gradient(dw, lambda v: (dy * forward(x, v, b)).sum(), w)
    assert_is_gradient(db, lambda v: (dy * forward(x, w, v)).sum(), b)


def test_dense_against_torch(torch: Any, rng: np.random.Generator) -> None:
    x, w, b = rng.normal(size=(6, 9)), rng.normal(size=(9, 3)), rng.normal(size=3)
    dy = rng.normal(size=(6, 3))
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.linear(tx, tw.T, tb)
    ty.backward(torch.tensor(dy))
    dw, db = reference.dense_backward_kernel(x, dy)
    assert_close(reference.dense_forward(x, w, b), ty.detach().numpy())
    assert_close(reference.dense_backward_input(dy, w), tx.grad.numpy())
    assert_close(dw, tw.grad.numpy())
    assert_close(db, tb.grad.numpy())


# Activations

ROWWISE = ["softmax", "log_softmax", "sparsemax"]


def activation(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    return getattr(reference, f"{name}_forward"), getattr(reference, f"{name}_backward")


@pytest.mark.parametrize("name", ROWWISE)
def test_activation_gradient_by_central_differences(name: str, rng: np.random.Generator) -> None:
    forward, backward = activation(name)
    x, dy = rng.normal(size=(2, ROWS, COLUMNS))
    assert_is_gradient(backward(dy, forward(x)), lambda v: (dy * forward(v)).sum(), x)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_activation_against_torch(name: str, torch: Any, rng: np.random.Generator) -> None:
    forward, backward = activation(name)
    x, dy = rng.normal(scale=4.0, size=(2, ROWS, COLUMNS))
    x[0, 0] = 0.0
    tx = torch.tensor(x, requires_grad=True)
    ty = getattr(torch, name)(tx, dim=-1)
    ty.backward(torch.tensor(dy))
    assert_close(forward(x), ty.detach().numpy())
    assert_close(backward(dy, forward(x)), tx.grad.numpy())


def test_sparsemax_is_the_nearest_point_of_the_simplex(rng: np.random.Generator) -> None:
    # Of all points that are the nearest one within a face, the one that is nearest of all.
    faces = [list(f) for k in range(1, 5) for f in itertools.combinations(range(COLUMNS), k)]
    for row in rng.normal(size=(20, COLUMNS)):
        nearest, distance = row, np.inf
        for face in faces:
            point = np.zeros(COLUMNS)
            point[face] = row[face] - (row[face].sum() - 1.0) / len(face)
            if (point >= 0.0).all() and ((point - row) ** 2).sum() < distance:
                nearest, distance = point, ((point - row) ** 2).sum()
        assert_close(reference.sparsemax_forward([row])[0], nearest)


def test_sparsemax_of_ties_and_far_apart() -> None:
    x = [[0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 3.9, 0.0], [1e4, 0.0, -1e4, 1.0], [2.0, 1.0, 1.0, 0.0]]
    p = [[0.25] * 4, [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    assert_close(reference.sparsemax_forward(x), np.array(p))


def test_activations_against_scipy(rng: np.random.Generator) -> None:
    x = np.concatenate([rng.normal(scale=20.0, size=(ROWS, COLUMNS)), [[-800.0, 800.0, 0.0, 37.0]]])
    assert_close(reference.sigmoid_forward(x), scipy.special.expit(x))
    assert_close(reference.softmax_forward(x), scipy.special.softmax(x, axis=-1))
    assert_close(reference.log_softmax_forward(x), scipy.special.log_softmax(x, axis=-1))


@given(st.floats(-1e6, 1e6), st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=9))
@settings(derandomize=True, max_examples=50, deadline=None)
def test_softmax_is_a_distribution_and_ignores_a_shift(shift: float, row: list[float]) -> None:
    x = np.array([row])
    y = reference.softmax_forward(x)
    assert (y >= 0.0).all()
    assert_close(y.sum(), 1.0)
    # Adding the shift rounds each logit to 1e-10, and that much is not softmax's doing.
    assert_close(reference.softmax_forward(x + shift), y, scale=1e4)


# Normalisation


@pytest.mark.parametrize("parts", [1, 3])
def test_batch_normalization_against_torch(
    parts: int, torch: Any, rng: np.random.Generator
) -> None:
    x, dy = rng.normal(2.0, 3.0, (2, ROWS, parts * COLUMNS))
    gamma, beta = rng.normal(size=(2, COLUMNS))
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    rows = inputs[0].reshape(-1, COLUMNS)
    running_mean, running_variance = torch.zeros(2, COLUMNS, dtype=torch.float64)
    y = torch.nn.functional.batch_norm(
        rows, running_mean, running_variance, *inputs[1:], training=True, momentum=0.1, eps=0.2
    )
    (y.reshape(x.shape) * torch.tensor(dy)).sum().backward()
    mean, variance = reference.batch_statistics(x, COLUMNS)
    own = reference.normalize_columns(x, mean, variance, gamma, beta, 0.2)
    assert_close(own.reshape(-1, COLUMNS), y.detach().numpy())
    dgamma, dbeta = reference.batch_normalization_parameters(dy, x, mean, variance, 0.2)
    dx = reference.batch_normalization_backward(dy, x, mean, variance, gamma, dgamma, dbeta, 0.2)
    for gradient, of in zip((dx, dgamma, dbeta), inputs, strict=True):
        assert_close(gradient, of.grad.numpy(), scale=ROWS)
    assert_close(reference.moving_average(np.zeros(COLUMNS), mean, 0.9), running_mean.numpy())
    assert_close(reference.normalize_columns(x, mean, variance, least=1e6), (
        x.reshape(-1, COLUMNS) - mean).reshape(x.shape) / 1e3)  # fmt: skip


def test_layer_normalization_against_torch(torch: Any, rng: np.random.Generator) -> None:
    x, dy = rng.normal(2.0, 3.0, (2, ROWS, COLUMNS))
    gamma, beta = rng.normal(size=(2, COLUMNS))
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    y = torch.nn.functional.layer_norm(inputs[0], (COLUMNS,), *inputs[1:], eps=0.2)
    (y * torch.tensor(dy)).sum().backward()
    normalized, mean, factor = reference.layer_normalization_forward(x, COLUMNS, 0.2)
    assert_close(normalized * gamma + beta, y.detach().numpy())
    assert_close(normalized, (x - mean) * factor)
    gradients = reference.layer_normalization_backward(dy, normalized, factor, gamma)
    for gradient, of in zip(gradients, inputs, strict=True):
        assert_close(gradient, of.grad.numpy(), scale=ROWS)


# Losses


def case(name: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """Predictions and targets that suit the loss, off every corner."""
    logits, soft = rng.normal(scale=2.0, size=(ROWS, COLUMNS)), probabilities(rng)
    if name in ("softmax_crossentropy", "categorical_crossentropy"):
        return (logits if name.startswith("softmax") else soft), LABELS
    if name in ("categorical_crossentropy_soft", "binary_crossentropy"):
        return soft, rng.uniform(0.0, 1.0, size=(ROWS, COLUMNS))
    if name in ("poisson", "kl_divergence", "half_poisson_deviance"):
        return soft, rng.uniform(0.1, 0.9, size=(ROWS, COLUMNS))
    if name in ("hinge", "squared_hinge"):
        return logits, SIGNS
    if name == "sparsemax_loss":
        return logits, soft
    # Rows of targets that do not sum to 1, which softmax_crossentropy_soft promises to take.
    return logits, rng.uniform(0.0, 1.0, size=(ROWS, COLUMNS))


def torch_loss_rows(torch: Any, name: str, z: Any, targets: Array) -> Any:
    """N losses by PyTorch's own functions, the mean over columns where the oracle has one."""
    functional = torch.nn.functional
    t = torch.tensor(targets)
    if name.startswith("softmax_crossentropy"):
        return functional.cross_entropy(z, t, reduction="none")
    if name == "categorical_crossentropy":
        return functional.nll_loss(torch.log(z.clamp(min=1e-7)), t, reduction="none")
    if name == "categorical_crossentropy_soft":
        return -(t * torch.log(z.clamp(min=1e-7))).sum(dim=1)
    if name == "sigmoid_binary_crossentropy":
        return functional.binary_cross_entropy_with_logits(z, t, reduction="none").mean(dim=1)
    if name == "binary_crossentropy":
        q = z.clamp(1e-7, 1.0 - 1e-7)
        return functional.binary_cross_entropy(q, t, reduction="none").mean(dim=1)
    if name == "huber":
        return functional.huber_loss(z, t, reduction="none").mean(dim=1)
    if name == "poisson":
        options = {"log_input": False, "eps": 1e-7, "reduction": "none"}
        return functional.poisson_nll_loss(z, t, **options).mean(dim=1)
    if name.endswith("half_poisson_deviance"):
        options = {"log_input": name.startswith("exponential"), "eps": 0.0, "reduction": "none"}
        rest = torch.xlogy(t, t) - t  # what does not depend on z
        return (functional.poisson_nll_loss(z, t, **options) + rest).mean(dim=1)
    if name == "kl_divergence":
        return functional.kl_div(torch.log(z), t, reduction="none").sum(dim=1)
    if name == "cosine_similarity":
        return -functional.cosine_similarity(z, t, dim=1)
    loss = {"mean_squared_error": "mse_loss", "mean_absolute_error": "l1_loss"}[name]
    return getattr(functional, loss)(z, t, reduction="none").mean(dim=1)


LOSSES = [
    "softmax_crossentropy",
    "softmax_crossentropy_soft",
    "categorical_crossentropy",
    "categorical_crossentropy_soft",
    "sigmoid_binary_crossentropy",
    "binary_crossentropy",
    "mean_squared_error",
    "mean_absolute_error",
    "huber",
    "poisson",
    "half_poisson_deviance",
    "exponential_half_poisson_deviance",
    "kl_divergence",
    "cosine_similarity",
]
# PyTorch has no function of its own for these; `test_losses.py` has Keras's.
NOT_IN_TORCH = ["log_cosh", "hinge", "squared_hinge", "categorical_hinge", "sparsemax_loss"]


@pytest.mark.parametrize("weights", [None, ROW_WEIGHTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("name", [*LOSSES, *NOT_IN_TORCH])
def test_loss_gradient_by_central_differences(
    name: str, weights: Array | None, rng: np.random.Generator
) -> None:
    loss: Loss = getattr(reference, name)
    z, targets = case(name, rng)
    assert_is_gradient(
        loss(z, targets, weights)[1], lambda v: loss(v, targets, weights)[0].sum() / ROWS, z
    )


@pytest.mark.parametrize("weights", [None, ROW_WEIGHTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_against_torch(
    name: str, weights: Array | None, torch: Any, rng: np.random.Generator
) -> None:
    z, targets = case(name, rng)
    if name == "categorical_crossentropy_soft":
        z[0, 0] = 0.0
    if name == "binary_crossentropy":
        z[0] = [0.0, 1.0, 1e-9, 1.0 - 1e-9]
    tz = torch.tensor(z, requires_grad=True)
    rows = torch_loss_rows(torch, name, tz, targets)
    if weights is not None:
        rows = rows * torch.tensor(weights)
    (rows.sum() / ROWS).backward()
    loss_rows, gradient = getattr(reference, name)(z, targets, weights)
    # Where PyTorch clips p to 1 - 1e-7, its 1 - p is 1.0000000006e-7; the oracle's is 1e-7.
    scale = 100.0 if name == "binary_crossentropy" else 1.0
    assert_close(loss_rows, rows.detach().numpy(), scale=scale)
    assert_close(gradient, tz.grad.numpy(), scale=scale)


def test_weights_multiply_rows(rng: np.random.Generator) -> None:
    for name in [*LOSSES, *NOT_IN_TORCH]:
        z, targets = case(name, rng)
        loss_rows, gradient = getattr(reference, name)(z, targets)
        weighted_rows, weighted_gradient = getattr(reference, name)(z, targets, ROW_WEIGHTS)
        assert_close(weighted_rows, ROW_WEIGHTS * loss_rows)
        assert_close(weighted_gradient, ROW_WEIGHTS[:, None] * gradient)


def test_softmax_crossentropy_against_scipy(rng: np.random.Generator) -> None:
    z = rng.normal(scale=30.0, size=(ROWS, COLUMNS))
    p, one_hot = scipy.special.softmax(z, axis=1), np.eye(COLUMNS)[LABELS]
    expected = scipy.special.logsumexp(z, axis=1) - z[np.arange(ROWS), LABELS]
    sparse = reference.softmax_crossentropy(z, LABELS)
    soft = reference.softmax_crossentropy_soft(z, one_hot)
    for loss_rows, gradient in (sparse, soft):
        assert_close(loss_rows, expected)
        assert_close(gradient, (p - one_hot) / ROWS)


def test_joint_loss_is_softmax_then_crossentropy(rng: np.random.Generator) -> None:
    z, t = rng.normal(size=(ROWS, COLUMNS)), probabilities(rng)
    p = reference.softmax_forward(z)
    loss_rows, dp = reference.categorical_crossentropy_soft(p, t)
    joint_rows, dz = reference.softmax_crossentropy_soft(z, t)
    assert_close(joint_rows, loss_rows)
    assert_close(dz, reference.softmax_backward(dp, p))


def test_joint_loss_is_sigmoid_then_binary_crossentropy(rng: np.random.Generator) -> None:
    z, y = rng.normal(size=(ROWS, COLUMNS)), rng.uniform(size=(ROWS, COLUMNS))
    p = reference.sigmoid_forward(z)
    loss_rows, dp = reference.binary_crossentropy(p, y)
    joint_rows, dz = reference.sigmoid_binary_crossentropy(z, y)
    assert_close(joint_rows, loss_rows)
    assert_close(dz, dp * p * (1.0 - p))


def test_losses_of_logits_are_exact_far_out() -> None:
    z = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]])
    loss_rows, gradient = reference.softmax_crossentropy(z, [0, 1])
    np.testing.assert_array_equal(loss_rows, [0.0, 2e4])
    np.testing.assert_array_equal(gradient, [[0.0, 0.0, 0.0], [0.5, -0.5, 0.0]])
    loss_rows, gradient = reference.sigmoid_binary_crossentropy(z, [[1, 0, 1], [0, 1, 0]])
    assert_close(loss_rows, [np.log(2.0) / 3.0, (2e4 + np.log(2.0)) / 3.0])
    assert_close(gradient * 6.0, [[0.0, 0.0, -0.5], [1.0, -1.0, 0.5]])


def test_a_logit_of_minus_infinity_masks_its_class() -> None:
    loss_rows, gradient = reference.softmax_crossentropy([[0.0, -np.inf, 0.0]], [2])
    assert_close(loss_rows, [np.log(2.0)])
    assert_close(gradient, [[0.5, 0.0, -0.5]])


def test_losses_of_probabilities_clip() -> None:
    floor = -np.log(1e-7)
    loss_rows, gradient = reference.categorical_crossentropy([[0.0, 1.0], [0.5, 0.5]], [0, 0])
    assert_close(loss_rows, [floor, np.log(2.0)])
    np.testing.assert_array_equal(gradient, [[0.0, 0.0], [-1.0, 0.0]])
    # Taken as it is: a row that sums to 2 is not divided by 2.
    assert_close(reference.categorical_crossentropy([[1.0, 1.0]], [0])[0], [0.0])
    loss_rows, gradient = reference.binary_crossentropy([[0.0], [1.0], [1e-7]], [[1], [0], [1]])
    assert_close(loss_rows, [floor, floor, floor], scale=1e3)  # 1 - (1 - 1e-7) has 9 digits left
    assert_close(gradient, [[0.0], [0.0], [-1e7 / 3.0]])


@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_not_hidden(name: str, rng: np.random.Generator) -> None:
    z, targets = case(name, rng)
    z[2] = np.nan
    loss_rows, gradient = getattr(reference, name)(z, targets)
    np.testing.assert_array_equal(np.isnan(loss_rows), np.arange(ROWS) == 2)
    np.testing.assert_array_equal(np.isnan(gradient).all(axis=1), np.arange(ROWS) == 2)


def test_sparsemax_loss_by_hand() -> None:
    # sparsemax of (2, 1, 0), and of all that has such a lead, is one-hot; of (1/2, 0) it is
    # (3/4, 1/4) with tau = -1/4: -z_y + ((1/4 - 1/16) + (0 - 1/16)) / 2 + 1/2.
    loss, dz = reference.sparsemax_loss([[2.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    assert_close(loss, [0.0])
    assert_close(dz, [[0.0, 0.0, 0.0]])
    loss, dz = reference.sparsemax_loss([[0.5, 0.0]], [[0.0, 1.0]])
    assert_close(loss, [0.0625 + 0.5])
    assert_close(dz, [[0.75, -0.75]])


# Metrics


def test_categorical_accuracy_takes_the_first_of_ties() -> None:
    z = [[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.2, 0.8]]
    expected = [1.0, 1.0, 0.0, 0.0]
    np.testing.assert_array_equal(reference.categorical_accuracy(z, [1, 0, 1, 0]), expected)
    targets = [[0.0, 1.0, 0.0], [0.4, 0.4, 0.2], [0.3, 0.4, 0.4], [1.0, 0.0, 0.0]]
    np.testing.assert_array_equal(reference.categorical_accuracy_soft(z, targets), expected)


def test_binary_accuracy_is_strict_at_the_threshold() -> None:
    z, targets = [[0.2, 0.5, 0.6], [0.5, 0.7, 0.1]], [[0, 1, 1], [0, 1, 1]]
    assert_close(reference.binary_accuracy(z, targets, 0.5), [2.0 / 3.0, 2.0 / 3.0])
    assert_close(reference.binary_accuracy(z, targets, 0.0), [2.0 / 3.0, 2.0 / 3.0])
    assert_close(reference.binary_accuracy(z, targets, 0.65), [1.0 / 3.0, 2.0 / 3.0])


def test_sums_against_scikit_learn(rng: np.random.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    z, targets = rng.normal(size=(2, 40, COLUMNS))
    labels, taken = targets.argmax(axis=1), z.argmax(axis=1)
    confusion = reference.count_confusion(z, targets, 0.5)
    np.testing.assert_array_equal(confusion, metrics.confusion_matrix(labels, taken))
    single = metrics.confusion_matrix(targets[:, 0] > 0.5, z[:, 0] > 0.1)
    np.testing.assert_array_equal(reference.count_confusion(z[:, :1], targets[:, :1], 0.1), single)
    per_class = metrics.multilabel_confusion_matrix(targets > 0.5, z > 0.1)
    right, said, true = reference.count_positives(z, targets, 0.1).T
    np.testing.assert_array_equal(right, per_class[:, 1, 1])
    np.testing.assert_array_equal(said, per_class[:, :, 1].sum(axis=1))
    np.testing.assert_array_equal(true, per_class[:, 1].sum(axis=1))
    mean, squares, errors = reference.sum_squares(z, targets).T
    assert_close(mean, targets.mean(axis=0))
    r2 = metrics.r2_score(targets, z, multioutput="raw_values")
    assert_close(1 - errors / squares, r2, scale=10.0)  # sums of 40 terms
    for k in range(1, COLUMNS):
        hits = reference.top_k_accuracy(z, targets, k).mean()
        assert hits == metrics.top_k_accuracy_score(labels, z, k=k, labels=range(COLUMNS))


def test_counts_by_hand() -> None:
    z, t = [[0.0, 0.25], [0.26, 1.0], [2.0, -1.0]], [[1.0, 0.0], [0.5, 1.0], [1.0, 0.0]]
    np.testing.assert_array_equal(
        reference.count_buckets(z, t, 4), [[1.0, 2.0], [0.5, 0.5], [0.0, 0.0], [2.0, 0.0]]
    )
    np.testing.assert_array_equal(reference.count_close(z, t, 0.25), [2.0])
    np.testing.assert_array_equal(
        reference.count_positives(z, t, 0.5, largest=True), [[1.0, 1.0, 2.0], [1.0, 2.0, 1.0]]
    )


# Random bits

# Rounds, counter, key, output: the philox4x32 lines of Random123's tests/kat_vectors.
KNOWN_ANSWERS = """\
7 00000000 00000000 00000000 00000000 00000000 00000000 5f6fb709 0d893f64 4f121f81 4f730a48
7 ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 5207ddc2 45165e59 4d8ee751 8c52f662
7 243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 4dfccaba 190a87f0 c47362ba b6b5242a
10 00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8
10 ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd
10 243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1
"""


@pytest.mark.parametrize("line", KNOWN_ANSWERS.splitlines())
def test_philox_known_answers(line: str) -> None:
    rounds, *hexadecimal = line.split()
    words = [int(word, 16) for word in hexadecimal]
    output = reference.philox4x32(words[:4], words[4:6], int(rounds))
    assert output.dtype == np.uint32
    assert output.tolist() == words[6:]


def test_philox_of_many_is_many_philoxes(rng: np.random.Generator) -> None:
    counters = rng.integers(0, 2**32, size=(3, 5, 4), dtype=np.uint32)
    keys = rng.integers(0, 2**32, size=(5, 2), dtype=np.uint32)
    output = reference.philox4x32(counters, keys)
    for i, j in np.ndindex(3, 5):
        np.testing.assert_array_equal(output[i, j], reference.philox4x32(counters[i, j], keys[j]))


def kept(row: int, column: int, columns: int, rate: float, place: tuple[int, int, int]) -> bool:
    """Whether dropout keeps one element, from the mapping in dropout_mask's docstring, in ints."""
    seed, stream, step = place
    groups = (columns + 63) // 64
    group, within = divmod(column, 64)
    lane, vector_element = divmod(within, 16)
    block = (row * groups + group) * 16 + vector_element
    counter = [block, step % 2**32, step // 2**32, stream]
    word = int(reference.philox4x32(counter, [seed % 2**32, seed // 2**32])[lane])
    return word >= int(rate * 2**32)


@pytest.mark.parametrize("place", [(0, 0, 0), (BIG, 2**32 - 1, BIG), (7 + (5 << 32), 3, 9 << 32)])
@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (2, 17), (2, 64), (3, 65), (2, 130)])
def test_dropout_mask_element_by_element(
    shape: tuple[int, int], place: tuple[int, int, int]
) -> None:
    mask = reference.dropout_mask(shape, 0.3, *place)
    expected = np.empty(shape)
    for row, column in np.ndindex(shape):
        expected[row, column] = kept(row, column, shape[1], 0.3, place) / (1.0 - 0.3)
    np.testing.assert_array_equal(mask, expected)


def test_dropout_threshold_is_the_word_itself() -> None:
    word = int(reference.philox4x32([0, 3, 0, 2], [1, 0])[0])
    for threshold, expected in [(word, True), (word + 0.999, True), (word + 1, False)]:
        mask = reference.dropout_mask((1, 1), threshold / 2**32, seed=1, stream=2, step=3)
        assert (mask[0, 0] > 0.0) == expected


def test_dropout_mask_is_pinned() -> None:
    # A mask is part of a run that someone repeats: the same seed gives these bits for ever.
    mask = reference.dropout_mask((2, 20), 0.5, seed=1, stream=2, step=3)
    drawn = ["".join("1" if value else "0" for value in row) for row in mask]
    assert drawn == ["01100011100110000111", "01010101101010000000"]


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, BIG), st.floats(0.0, 0.99))
@settings(derandomize=True, max_examples=30, deadline=None)
def test_dropout_of_fewer_rows_is_the_top_of_more(
    rows: int, columns: int, seed: int, rate: float
) -> None:
    mask = reference.dropout_mask((rows + 3, columns), rate, seed, 1, 2)
    assert set(np.unique(mask)) <= {0.0, 1.0 / (1.0 - rate)}
    np.testing.assert_array_equal(
        reference.dropout_mask((rows, columns), rate, seed, 1, 2), mask[:rows]
    )


def test_dropout_masks_differ_in_every_word_of_their_place() -> None:
    places = [(0, 0, 0), (1, 0, 0), (1 << 32, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1 << 32)]
    masks = [reference.dropout_mask((64, 256), 0.5, *place) > 0 for place in places]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            # 16384 fair coins agree on half, with a standard deviation of 64.
            assert abs((mask == other).sum() - 8192) < 5 * 64


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_mean_of_dropped_sums_is_the_plain_sum(rate: float, rng: np.random.Generator) -> None:
    x = rng.uniform(1.0, 2.0, size=(4, 100))
    sums = [reference.dropout_forward(x, rate, 5, 0, step).sum() for step in range(400)]
    deviation = np.sqrt((x**2).sum() * rate / (1.0 - rate))
    assert abs(np.mean(sums) - x.sum()) <= 4.0 * deviation / np.sqrt(400) + 1e-9
    # The standard error of a deviation from 400 draws is 3.5 %.
    assert abs(np.std(sums) - deviation) <= 4.0 * 0.035 * deviation + 1e-9


def test_dropout_backward_is_the_gradient(rng: np.random.Generator) -> None:
    x, dy = rng.normal(size=(2, 3, 70))
    place = (0.4, 11, 12, 13)
    assert_is_gradient(
        reference.dropout_backward(dy, *place),
        lambda v: (dy * reference.dropout_forward(v, *place)).sum(),
        x,
    )


@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan])
def test_dropout_refuses_a_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be at least 0 and below 1"):
        reference.dropout_mask((1, 1), rate, 0, 0, 0)


def test_dropout_refuses_what_does_not_fit_the_counter() -> None:
    with pytest.raises(ValueError, match="at most 2\\^32 blocks"):
        reference.dropout_mask((2**28 + 1, 1), 0.5, 0, 0, 0)
    for place in [(2**64, 0, 0), (-1, 0, 0), (0, 2**32, 0), (0, -1, 0), (0, 0, 2**64), (0, 0, -1)]:
        with pytest.raises(ValueError, match="must be of"):
            reference.dropout_mask((1, 1), 0.5, *place)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_alpha_dropout_keeps_two_moments(rate: float, rng: np.random.Generator) -> None:
    # Of a mean of 0 and a variance of 1, by what becomes of the dropped and of the kept.
    x = np.zeros((1, 64))
    y = reference.alpha_dropout_forward(x, rate, 5, 6, 7)
    slope = reference.alpha_dropout_backward(x + 1.0, rate, 5, 6, 7).max()
    kept, dropped = y.max(), y.min()
    mean = (1.0 - rate) * kept + rate * dropped
    square = (1.0 - rate) * (slope**2 + kept**2) + rate * dropped**2
    assert_close(np.array([mean, square]), np.array([0.0, 1.0]))
    x, dy = rng.normal(size=(2, 3, 70))
    assert_is_gradient(
        reference.alpha_dropout_backward(dy, rate, 11, 12, 13),
        lambda v: (dy * reference.alpha_dropout_forward(v, rate, 11, 12, 13)).sum(),
        x,
    )


def test_spatial_dropout_is_the_mask_of_channels(rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 4, 5, 70))
    y = reference.spatial_dropout_forward(x, 0.4, 1, 2, 3)
    mask = reference.dropout_mask((3, 70), 0.4, 1, 2, 3)
    for row, i, j in np.ndindex(3, 4, 5):
        np.testing.assert_array_equal(y[row, i, j], x[row, i, j] * mask[row])


@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_drop_block_element_by_element(block_size: int) -> None:
    shape, rate, place = (4, 5, 3, 7), 0.4, (1, 2, 3)
    mask = reference.drop_block_mask(shape, rate, block_size, *place)
    down, across = 5 - block_size + 1, 3 - block_size + 1
    begin = rate / block_size**2 * 15 / (down * across)
    columns = down * across * 7
    for row in range(4):
        expected = np.ones((5, 3, 7))
        for top, left, channel in np.ndindex(down, across, 7):
            if not kept(row, (top * across + left) * 7 + channel, columns, begin, place):
                for i, j in np.ndindex(block_size, block_size):
                    expected[top + i, left + j, channel] = 0.0
        assert 0 < expected.sum() < 105
        np.testing.assert_array_equal(mask[row] > 0, expected > 0)
        assert_close(mask[row].sum(), np.float64(105))


def test_normal_numbers_element_by_element() -> None:
    seed, stream, step = place = (7 + (5 << 32), 3, 9 << 32)
    numbers = reference.normal_numbers((2, 130), *place)
    for row, column in np.ndindex(2, 130):
        lane = column % 64 // 16
        block = (row * 3 + column // 64) * 16 + column % 16
        counter = [block, step % 2**32, step // 2**32, stream]
        words = [int(w) for w in reference.philox4x32(counter, [seed % 2**32, seed // 2**32])]
        w, other = words[lane // 2 * 2 :][:2]
        turned = (np.sin if lane % 2 else np.cos)(2 * np.pi * (other / 2**32))
        expected = np.sqrt(-2 * np.log((2 * w + 1) / 2**33)) * turned
        assert_close(numbers[row, column], np.float64(expected))


def test_normal_numbers_are_pinned() -> None:
    # As the masks: the same seed gives these for ever.
    numbers = reference.normal_numbers((1, 20), seed=1, stream=2, step=3)
    drawn = numbers[0, [0, 1, 15, 16, 17, 19]]
    assert_close(
        drawn,
        np.array(
            [
                -0.670814417671569,
                -0.0687739679467142,
                -1.87626931111871,
                1.07921639063243,
                -0.789429100198925,
                -1.3017022728596,
            ]
        ),
    )


# Optimizers


def test_adam_of_a_constant_gradient_steps_by_its_sign(rng: np.random.Generator) -> None:
    # Both bias corrections undo exactly what the averages lack: g / (|g| + epsilon) at every step.
    w, g = rng.normal(size=(2, 9))
    start, m, v = w, np.zeros(9), np.zeros(9)
    for t in range(1, 6):
        w, m, v = reference.adam(w, g, m, v, t, 0.25, epsilon=1e-3)
        assert_close(w, start - t * 0.25 * g / (np.abs(g) + 1e-3))
        assert_close(m, (1.0 - 0.9**t) * g)
        assert_close(v, (1.0 - 0.999**t) * g**2)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.8), (0.0, 0.0)])
@pytest.mark.parametrize("epsilon", [1e-8, 1e-7, 1e-2])
def test_adam_against_torch(
    betas: tuple[float, float], epsilon: float, torch: Any, rng: np.random.Generator
) -> None:
    w, gradients = rng.normal(size=7), rng.normal(size=(12, 7))
    gradients[4] *= 1e-6  # small enough for epsilon's place to show
    parameter = torch.tensor(w, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=0.03, betas=betas, eps=epsilon)
    m, v = np.zeros(7), np.zeros(7)
    for t, g in enumerate(gradients, start=1):
        w, m, v = reference.adam(w, g, m, v, t, 0.03, *betas, epsilon)
        parameter.grad = torch.tensor(g)
        optimizer.step()
        assert_close(w, parameter.detach().numpy(), scale=10.0)  # rounding adds up over the steps


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_against_torch(
    momentum: float, nesterov: bool, torch: Any, rng: np.random.Generator
) -> None:
    in_torch = nesterov and momentum > 0.0  # PyTorch refuses Nesterov without momentum
    w, gradients = rng.normal(size=7), rng.normal(size=(12, 7))
    parameter = torch.tensor(w, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.03, momentum=momentum, nesterov=in_torch)
    velocity = np.zeros(7)
    for g in gradients:
        w, velocity = reference.sgd(w, g, velocity, 0.03, momentum, nesterov)
        parameter.grad = torch.tensor(g)
        optimizer.step()
        assert_close(w, parameter.detach().numpy())


def test_sgd_by_hand() -> None:
    w, velocity = reference.sgd([1.0], [2.0], [0.5], 0.1, momentum=0.9)
    assert_close(velocity, [0.25])
    assert_close(w, [1.25])
    w, velocity = reference.sgd([1.0], [2.0], [0.5], 0.1, momentum=0.9, nesterov=True)
    assert_close(velocity, [0.25])
    assert_close(w, [1.0 + 0.9 * 0.25 - 0.2])
    w, velocity = reference.sgd([1.0], [2.0], [0.5], 0.1)
    assert_close(velocity, [-0.2])
    assert_close(w, [0.8])


def test_shuffle_makes_every_order_equally_often() -> None:
    seen: dict[tuple[int, ...], int] = {}
    for epoch in range(2400):
        order = tuple(reference.shuffle(np.zeros(4), 0, 4, 7, epoch).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    # χ² with 23 degrees of freedom: its 99.9 % quantile.
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 49.7


def test_shuffle_goes_on_where_it_was_left_and_depends_on_seed_and_epoch() -> None:
    whole = reference.shuffle(np.zeros(1300), 0, 1300, 3, 5)
    assert sorted(whole.tolist()) == list(range(1300))
    part = reference.shuffle(np.zeros(1300), 0, 700, 3, 5)
    np.testing.assert_array_equal(reference.shuffle(part, 700, 1300, 3, 5), whole)
    for seed, epoch in ((4, 5), (3, 6), (3 + 2**32, 5), (3, 5 + 2**32)):
        assert (reference.shuffle(np.zeros(1300), 0, 1300, seed, epoch) != whole).mean() > 0.9


# An optimizer's oracle, the library's class and arguments, and how many running means it keeps. All
# others of Keras's and PyTorch's stand in test_optimizers.
UPDATES: dict[str, tuple[Callable[..., Any], str, dict[str, Any], int]] = {
    "adagrad": (
        lambda w, g, c, t: reference.adagrad(w, g, c, 0.03, 1e-2),
        "Adagrad", {"lr": 0.03, "eps": 1e-2}, 1,
    ),
    "rmsprop_outside": (
        lambda w, g, v, t: reference.rmsprop_outside(w, g, v, 0.03, 0.8, 1e-2),
        "RMSprop", {"lr": 0.03, "alpha": 0.8, "eps": 1e-2}, 1,
    ),
    "adadelta": (
        lambda w, g, v, d, t: reference.adadelta(w, g, v, d, 0.7, 0.8, 1e-3),
        "Adadelta", {"lr": 0.7, "rho": 0.8, "eps": 1e-3}, 2,
    ),
    "amsgrad": (
        lambda w, g, m, v, x, t: reference.amsgrad(w, g, m, v, x, t, 0.03, 0.5, 0.8, 1e-2),
        "Adam", {"lr": 0.03, "betas": (0.5, 0.8), "eps": 1e-2, "amsgrad": True}, 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UPDATES)
def test_update_against_torch(name: str, torch: Any, rng: np.random.Generator) -> None:
    oracle, kind, arguments, count = UPDATES[name]
    w, gradients = rng.normal(size=7), rng.normal(size=(12, 7))
    parameter = torch.tensor(w, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([parameter], **arguments)
    means = [np.zeros(7)] * count
    for t, g in enumerate(gradients, start=1):
        w, *means = oracle(w, g, *means, t)
        parameter.grad = torch.tensor(g)
        optimizer.step()
        assert_close(w, parameter.detach().numpy(), scale=10.0)  # rounding adds up over the steps


def test_updates_by_hand() -> None:
    w, v, m, velocity = reference.rmsprop(
        [1.0], [2.0], [4.0], [1.0], [0.5], 0.1, 0.5, 0.9, True, epsilon=0.5
    )
    assert_close([v[0], m[0]], [4.0, 1.5])
    assert_close(velocity, [0.45 + 0.2 / (4.0 - 2.25 + 0.5) ** 0.5])
    assert_close(w, 1.0 - velocity)
    # At the first step both bias corrections are those of u = beta_1 (1 - 0.48).
    w, m, v = reference.nadam([1.0], [2.0], [0.0], [0.0], 1, 0.1, 0.5, 0.75, 1.0)
    u, following = 0.26, 0.5 * (1.0 - 0.5 * 0.9216)
    ahead = following * 1.0 / (1.0 - u * following) + (1.0 - u) * 2.0 / (1.0 - u)
    assert_close(w, [1.0 - 0.1 * ahead / (2.0 + 1.0)])
    w, m, u_ = reference.adamax([1.0], [-2.0], [0.0], [8.0], 1, 0.1, 0.5, 0.5, 1.0)
    assert_close([m[0], u_[0], w[0]], [-1.0, 4.0, 1.0 + 0.2 * 1.0 / 5.0])
    w, m = reference.lion([1.0, 1.0, 1.0], [2.0, -2.0, 0.0], [1.0, 1.0, 0.0], 0.1, 0.5, 0.75)
    assert_close(w, [0.9, 1.1, 1.0])
    assert_close(m, [1.25, 0.25, 0.0])


def test_what_is_done_around_an_update_by_hand() -> None:
    assert_close(reference.clip_norm([[3.0, 4.0]], 1.0)[0], [0.6, 0.8])
    assert_close(reference.clip_norm([[3.0], [4.0]], 1.0)[1], [0.8])
    assert_close(reference.clip_norm([[3.0, 4.0]], 6.0)[0], [3.0, 4.0])
    assert_close(reference.clip_norm([[0.0]], 6.0)[0], [0.0])
    assert_close(reference.weight_decay([2.0], 0.1, 0.5), [1.9])
    assert_close(reference.weight_average([1.0], [3.0], 2, 0.75), [1.5])
    assert_close(reference.weight_average([1.0], [3.0], 1, 0.75), [3.0])
