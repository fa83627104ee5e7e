"""A narrow network on large batches, rounded for tensor cores: its step in two kernels.

Against the CPU in float64, and timed: an epoch of a million rows that lie on the GPU, of batches of
16,384. Compared with PyTorch in full precision it is by `grid`.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any
from unittest import mock

from benchmarks.gpu.stage import Findings

WIDTHS, ROWS, BATCH = (64, 64, 64, 10), 1 << 20, 1 << 14

EPOCHS = 3


def measure(found: Findings, simulated: bool) -> None:
    """Both precisions."""
    from fastnn.engine.cuda import narrow
    from fastnn.kernels.cuda.ways import NARROW

    widths, rows, batch = ((5, 6, 3), 8, 4) if simulated else (WIDTHS, ROWS, BATCH)
    # The simulator's batches are small.
    few = mock.patch.object(narrow, "NARROW", NARROW._replace(least_rows=4))
    with few if simulated else nullcontext():
        for precision in ("tf32", "bf16"):
            found[precision] = {"gradient_error": error_of(widths, batch, precision)}
            found.keep()
            seconds = epoch_seconds(widths, rows, batch, precision)
            if not simulated:
                found[precision]["epoch_seconds"] = seconds
                found[precision]["step_microseconds"] = 1e6 * seconds * batch / rows
            found.keep()


def model_of(widths: tuple[int, ...], optimizer: Any, device: str, **how: Any) -> Any:
    """A network of these widths that tells classes apart."""
    import fastnn

    inputs, *hidden, classes = widths
    layers = [fastnn.Dense(n, "relu") for n in hidden] + [fastnn.Dense(classes, "softmax")]
    model = fastnn.Sequential(layers, input_shape=(inputs,), seed=0, device=device, **how)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def data_of(widths: tuple[int, ...], rows: int) -> tuple[Any, Any]:
    """Rows, and labels that follow from them."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, widths[0]), dtype=np.float32)
    return x, np.argmax(x @ rng.standard_normal((widths[0], widths[-1]), np.float32), axis=1)


def error_of(widths: tuple[int, ...], rows: int, precision: str) -> float:
    """The largest error of a gradient, as a share of the largest of its array.

    What a step of gradient descent at a rate of 1 leaves is the gradient.
    """
    import numpy as np

    import fastnn

    x, y = data_of(widths, rows)
    one = model_of(widths, fastnn.SGD(1.0), "cuda", precision=precision)
    other = model_of(widths, fastnn.SGD(1.0), "cpu", dtype="float64")
    before = [w.astype(np.float64) for w in one.get_weights()]
    other.set_weights(before)
    for model in (one, other):
        model.fit(x, y, batch_size=rows, shuffle=False, verbose=0)
    return max(
        float(np.abs(found - exact).max() / np.abs(exact - w).max())
        for w, found, exact in zip(before, one.get_weights(), other.get_weights(), strict=True)
    )


def epoch_seconds(widths: tuple[int, ...], rows: int, batch: int, precision: str) -> float:
    """Of an epoch, by the difference that some more of them make to a fit."""
    x, y = data_of(widths, rows)
    model = model_of(widths, "adam", "cuda", precision=precision)

    def fit(epochs: int) -> float:
        begin = time.perf_counter()
        model.fit(x, y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)
        return time.perf_counter() - begin

    fit(1)
    one = fit(1)
    return (fit(1 + EPOCHS) - one) / EPOCHS
