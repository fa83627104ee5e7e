"""asv: every op alone, on one thread, at the sizes that the grid and larger networks meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

REPEATS = 20
"""Runs of an op in one timing, so that the call from Python weighs little."""


def ready(name: str, rows: int = 1, /, **operands: Any) -> Callable[[], None]:
    """A function that runs the op called `name` on a batch of `rows`, compiled and checked.

    Raises
    ------
    NotImplementedError
        On commits that have no such op: asv then skips the benchmark.
    """
    try:
        from fastnn.engine import cpu
        from fastnn.engine.tape import Eager
    except ImportError as error:
        raise NotImplementedError(str(error)) from error
    tape = Eager(rows, "float32", cpu.new_state(1))

    def run() -> None:
        for _ in range(REPEATS):
            tape.op(name, **operands)

    try:
        run()
    except KeyError as error:
        raise NotImplementedError(f"no op is called {error}") from error
    return run


def _normal(*shape: int, dtype: str = "float32") -> Any:
    import numpy as np

    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


OF_OUTPUT = (
    "relu leaky_relu elu selu celu sigmoid hard_sigmoid tanh hard_tanh softplus softsign "
    "exponential eru oru softmax log_softmax sparsemax"
).split()
OF_INPUT = "gelu gelu_tanh silu mish".split()
"""Activations, by what their derivatives are functions of."""

DRAWING: dict[str, dict[str, float]] = {
    "dropout": {"rate": 0.2},
    "alpha_dropout": {"rate": 0.2, "scale": 1.0, "shift": 0.1, "fill": -1.0},
    "spatial_dropout": {"rate": 0.2, "channels": 8},
    "drop_block": {"rate": 0.01, "across": 8, "channels": 8, "block_size": 3},
    "gaussian_noise": {"stddev": 0.2},
}
"""Ops that draw random numbers, and what they are told."""


class Dense:
    """The three products of a dense layer."""

    version = "1"
    params: ClassVar[list[Any]] = [
        [(32, 64, 64), (32, 784, 128), (128, 784, 128), (128, 512, 512), (1024, 784, 512)],
        ["float32", "float64"],
    ]
    param_names: ClassVar[list[str]] = ["batch, in, out", "dtype"]

    def setup(self, shape: tuple[int, int, int], dtype: str) -> None:
        n, i, o = shape
        x, w, b = (_normal(*s, dtype=dtype) for s in ((n, i), (i, o), (o,)))
        y, dx, dw, db = (_normal(*s, dtype=dtype) for s in ((n, o), (n, i), (i, o), (o,)))
        self.forward = ready("dense_forward", n, y=y, x=x, w=w, b=b)
        self.backward_input = ready("dense_backward_input", n, dx=dx, dy=y, w=w)
        self.backward_kernel = ready("dense_backward_kernel", n, x=x, dy=y, dw=dw, db=db)

    def time_forward(self, shape: tuple[int, int, int], dtype: str) -> None:
        self.forward()

    def time_backward_input(self, shape: tuple[int, int, int], dtype: str) -> None:
        self.backward_input()

    def time_backward_kernel(self, shape: tuple[int, int, int], dtype: str) -> None:
        self.backward_kernel()


class Elementwise:
    """Activations, dropout and its kin on 128 rows of 512, where need be 8 x 8 x 8."""

    version = "1"
    params: ClassVar[list[Any]] = [
        [*OF_OUTPUT, *OF_INPUT, *DRAWING],
        ["float32", "float64"],
    ]
    param_names: ClassVar[list[str]] = ["activation", "dtype"]

    def setup(self, activation: str, dtype: str) -> None:
        x, y, dx = (_normal(128, 512, dtype=dtype) for _ in range(3))
        if activation in DRAWING:
            self.forward = self.backward = ready(
                activation, len(x), y=y, x=x, stream=1, **DRAWING[activation]
            )
        else:
            self.forward = ready(f"{activation}_forward", len(x), y=y, x=x)
            kept = {"x": x} if activation in OF_INPUT else {"y": y}
            self.backward = ready(f"{activation}_backward", len(x), dx=dx, dy=x, **kept)

    def time_forward(self, activation: str, dtype: str) -> None:
        self.forward()

    def time_backward(self, activation: str, dtype: str) -> None:
        self.backward()


class Normalization:
    """Normalisation of columns by a batch, and of rows, forward and back."""

    version = "1"
    params: ClassVar[list[Any]] = [
        ["batch_statistics", "normalize_columns", "batch_normalization_parameters",
         "batch_normalization_backward", "layer_normalization_forward",
         "layer_normalization_backward"],
        [(128, 512), (20_000, 512)],
    ]  # fmt: skip
    param_names: ClassVar[list[str]] = ["op", "rows, columns"]

    def setup(self, op: str, shape: tuple[int, int]) -> None:
        rows, columns = shape
        lengths = {"N": rows, "F": columns, "C": columns, "K": 3, "B": 32}
        scalars = {"epsilon": 1e-3, "columns": columns}
        self.run = ready(op, rows, **_normal_operands(op, lengths, scalars))

    def time_op(self, op: str, shape: tuple[int, int]) -> None:
        self.run()


class Prelu:
    """The rectifier with learned slopes on 128 rows of 512: a slope for each column, or one."""

    version = "1"
    params: ClassVar[list[Any]] = [[512, 1], ["float32", "float64"]]
    param_names: ClassVar[list[str]] = ["slopes", "dtype"]

    def setup(self, slopes: int, dtype: str) -> None:
        import numpy as np

        x, y, dx = (_normal(128, 512, dtype=dtype) for _ in range(3))
        own = {"alpha": _normal(slopes, dtype=dtype)}
        if slopes == 1:
            own["place"] = np.zeros(512, np.int64)
        self.forward = ready("prelu_forward", len(x), y=y, x=x, **own)
        self.backward = ready("prelu_backward", len(x), dx=dx, dy=x, x=y, **own)
        self.sums = ready("prelu_sums", len(x), dy=x, x=y, sums=np.empty(512))

    def time_forward(self, slopes: int, dtype: str) -> None:
        self.forward()

    def time_backward(self, slopes: int, dtype: str) -> None:
        self.backward()

    def time_sums(self, slopes: int, dtype: str) -> None:
        self.sums()


class Losses:
    """A loss and its gradient in one."""

    version = "1"
    params: ClassVar[list[Any]] = [
        [
            "softmax_crossentropy",
            "sigmoid_binary_crossentropy",
            "mean_squared_error",
            "mean_absolute_error",
            "huber",
            "log_cosh",
            "poisson",
            "exponential_half_poisson_deviance",
            "hinge",
            "squared_hinge",
            "kl_divergence",
            "categorical_hinge",
            "cosine_similarity",
            "sparsemax_loss",
        ],
        [(32, 10), (128, 10), (1024, 1000)],
    ]
    param_names: ClassVar[list[str]] = ["loss", "rows, columns"]

    def setup(self, loss: str, shape: tuple[int, int]) -> None:
        import numpy as np

        rows, columns = shape
        z, dz, values = _normal(*shape), _normal(*shape), _normal(rows)
        labels = np.arange(rows, dtype=np.int32) % columns
        targets = np.zeros(shape, np.float32)
        targets[np.arange(rows), labels] = 1
        y = {"labels": labels} if loss == "softmax_crossentropy" else {"targets": targets}
        self.run = ready(loss, rows, loss=values, dz=dz, z=z, **y)

    def time_loss(self, loss: str, shape: tuple[int, int]) -> None:
        self.run()


def _line(op: str) -> Any:
    """The op's line in the table of signatures."""
    try:
        from fastnn.kernels.signatures import signature

        return signature(op)
    except (ImportError, KeyError) as error:
        raise NotImplementedError(str(error)) from error


def _normal_operands(op: str, lengths: dict[str, int], scalars: dict[str, float]) -> dict[str, Any]:
    """An op's operands: squares of normal numbers, and those of the `scalars` that it takes."""
    line = _line(op)
    arrays = {}
    for array in line.arrays:
        dtype = "float32" if array.type == "T" else array.type
        arrays[array.name] = _normal(*(lengths[d] for d in array.dimensions), dtype=dtype) ** 2
    return arrays | {scalar.name: scalars.get(scalar.name, 0) for scalar in line.scalars}


def _operands(update: str, positive: Any) -> dict[str, Any]:
    """An update's operands: copies of one vector, and numbers in the midst of their ranges."""
    line = _line(update)
    arrays = {array.name: positive.copy() for array in line.arrays}
    return arrays | {scalar.name: 0.5 for scalar in line.scalars}


class Optimizers:
    """One update of a vector of parameters."""

    version = "1"
    params: ClassVar[list[Any]] = [
        ["sgd", "momentum", "adam", "adam_corrected", "adagrad", "rmsprop", "rmsprop_outside",
         "rmsprop_full", "adadelta", "amsgrad", "nadam", "adamax", "lion"],
        [1000, 100_000, 10_000_000],
    ]  # fmt: skip
    param_names: ClassVar[list[str]] = ["optimizer", "parameters"]

    def setup(self, optimizer: str, parameters: int) -> None:
        w, g, m, v = (_normal(parameters) for _ in range(4))
        v = v * v  # the mean of squares; with a learning rate of 0 nothing drifts to denormals
        if optimizer == "adam":
            self.run = ready("adam", w=w, g=g, m=m, v=v, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
        elif optimizer == "momentum":
            self.run = ready("sgd", w=w, g=g, velocity=m, momentum=0.9)
        elif optimizer == "sgd":
            self.run = ready("sgd", w=w, g=g)
        else:
            self.run = ready(optimizer, **_operands(optimizer, v))

    def time_update(self, optimizer: str, parameters: int) -> None:
        self.run()


class Gather:
    """A minibatch of 128 rows of 784, by index, out of 20,000."""

    version = "1"
    params: ClassVar[list[str]] = ["uint8", "float32", "float64"]
    param_names: ClassVar[list[str]] = ["source"]

    def setup(self, source: str) -> None:
        import numpy as np

        x = np.ones((20_000, 784), source)
        order = np.random.default_rng(0).permutation(len(x))
        out = np.zeros((128, 784), np.float32)
        self.run = ready("gather", len(out), out=out, source=x, order=order)

    def time_gather(self, source: str) -> None:
        self.run()
