"""A loss or gradient that is not finite stops training: at the right step, with finite weights."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn

Array = NDArray[Any]

FEATURES, ROWS, BATCH = 3, 20, 4


class Identity(fastnn.Layer):
    """A layer in Python: its model is trained by the eager loop."""

    def forward(self, x: Array, training: bool = False) -> Array:
        return x

    def backward(self, dy: Array) -> Array:
        return dy


OPTIMIZERS = {
    "sgd": lambda: fastnn.SGD(0.01),
    "momentum": lambda: fastnn.SGD(0.01, momentum=0.9),
    "adam": lambda: fastnn.Adam(0.01),
}


def regression(optimizer: str = "sgd", eager: bool = False, **arguments: Any) -> fastnn.Sequential:
    layers = [fastnn.Dense(5, activation="tanh"), fastnn.Dense(2)]
    model = fastnn.Sequential(
        [*layers, Identity()] if eager else layers, input_shape=(FEATURES,), seed=1, **arguments
    )
    model.compile(OPTIMIZERS[optimizer](), "mse")
    return model


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return (
        rng.normal(size=(ROWS, FEATURES)).astype(np.float32),
        rng.normal(size=(ROWS, 2)).astype(np.float32),
    )


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_infinite_loss_stops_at_its_step(optimizer: str, eager: bool) -> None:
    x, y = data()
    bad = y.copy()
    bad[13] = 1e30  # in the fourth batch; its square is more than float32 has
    model, untroubled = regression(optimizer, eager), regression(optimizer)
    with pytest.raises(fastnn.DivergenceError, match=r"the loss .* at step 3") as caught:
        model.fit(x, bad, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    assert caught.value.step == 3
    assert isinstance(caught.value, ArithmeticError)
    untroubled.fit(x[:12], y[:12], batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_array_equal(model.parameters, untroubled.parameters)

    # It goes on from there as if nothing had been, and counts on.
    history = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0).history
    untroubled.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_array_equal(model.parameters, untroubled.parameters)
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(fastnn.DivergenceError) as caught:
        model.train_on_batch(x, bad)
    assert caught.value.step == 3 + 5


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "eager"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_infinite_gradient_never_reaches_the_weights(optimizer: str, eager: bool) -> None:
    x, y = data()
    layers = [fastnn.Dense(2, kernel_initializer="zeros"), *([Identity()] if eager else [])]
    model = fastnn.Sequential(layers, input_shape=(FEATURES,), seed=1)
    model.compile(OPTIMIZERS[optimizer](), "mse")
    model.fit(x[:8], y[:8], batch_size=BATCH, shuffle=False, verbose=0)  # steps 0 and 1
    kernel, bias = model.layers[0].kernel, model.layers[0].bias
    kernel[1] = 0
    before = kernel.copy()
    # A feature that is huge but has no weight: the loss is modest, and so are all gradients but
    # one, which is 3e38 times 10.
    x_bad = np.zeros((BATCH, FEATURES), np.float32)
    x_bad[:, 1] = 3e38
    y_bad = np.tile(np.array([100.0, bias[1]], np.float32), (BATCH, 1))
    with pytest.raises(fastnn.DivergenceError, match="at step 2") as caught:
        model.fit(x_bad, y_bad, batch_size=BATCH, verbose=0)
    assert caught.value.step == 2
    assert kernel[1, 0] == 0
    np.testing.assert_allclose(kernel, before, atol=0.1)
    assert np.isfinite(model.parameters).all()
    losses = model.fit(x, y, batch_size=BATCH, epochs=30, verbose=0).history["loss"]
    assert kernel[1, 0] != 0
    assert losses[-1] < losses[0] < 1e3


def test_an_overflow_of_adams_second_moment_is_divergence() -> None:
    """A gradient of 1e25 is finite, its square is not: an infinite moment would stop its weight for
    good, without a word."""
    x, y = data()
    model = fastnn.Sequential([fastnn.Dense(2, kernel_initializer="zeros")], (FEATURES,), seed=1)
    model.compile(fastnn.Adam(0.01), "mse")
    x_bad = np.zeros((BATCH, FEATURES), np.float32)
    x_bad[:, 1] = 1e25
    with pytest.raises(fastnn.DivergenceError, match="at step 0"):
        model.train_on_batch(x_bad, np.ones((BATCH, 2)))
    model.fit(x, y, epochs=2, verbose=0)
    assert (model.layers[0].kernel != 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
def test_fit_stops_where_single_steps_do(
    dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was that blew up, and however far compiled code could have run on."""
    monkeypatch.setattr("fastnn.engine.cpu.TEAM_COST", 0)
    fastnn.set_num_threads(threads)
    x, y = data()
    models = [
        fastnn.Sequential([fastnn.Dense(70), fastnn.Dense(2)], (FEATURES,), dtype=dtype, seed=1)
        for _ in range(2)
    ]
    for model in models:
        model.compile(fastnn.SGD(30.0), "mse")  # far too much
    fitted, stepped = models
    try:
        with pytest.raises(fastnn.DivergenceError) as caught:
            fitted.fit(x, y, batch_size=BATCH, epochs=100, shuffle=False, verbose=0)
        for step in range(caught.value.step + 1):
            rows = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
            if step < caught.value.step:
                stepped.train_on_batch(x[rows], y[rows])
                continue
            with pytest.raises(fastnn.DivergenceError, match=f"at step {step};"):
                stepped.train_on_batch(x[rows], y[rows])
    finally:
        fastnn.set_num_threads(None)
    assert caught.value.step > 2
    assert fitted.parameters.tobytes() == stepped.parameters.tobytes()
    assert np.isfinite(fitted.parameters).all()


def test_callbacks_hear_the_end_of_a_training_that_diverged() -> None:
    x, y = data()
    ended = []
    note = fastnn.LambdaCallback(on_train_end=lambda *_: ended.append(True))
    y[13] = 1e30
    with pytest.raises(fastnn.DivergenceError):
        regression().fit(x, y, callbacks=[note], verbose=0)
    assert ended == [True]


def test_divergence_in_a_loop_by_hand() -> None:
    layer = fastnn.Dense(2)
    layer.forward(np.ones((1, FEATURES)), training=True)
    layer.backward(np.ones((1, 2)))
    optimizer = fastnn.SGD(0.1)
    optimizer.update([layer])
    before = layer.kernel.copy()
    layer.grads["kernel"][1] = np.nan
    layer.grads["bias"][0] = np.inf
    with pytest.raises(fastnn.DivergenceError) as caught:
        optimizer.update([layer])
    assert caught.value.step == 1
    np.testing.assert_array_equal(layer.kernel[1], before[1])
    assert np.isfinite(layer.kernel).all()
    assert np.isfinite(layer.bias).all()


def test_evaluating_shows_what_is_not_finite() -> None:
    """It reports, and stops nothing: NaN and infinity stay visible."""
    x, y = data()
    y[13] = 1e30
    model = regression()
    assert model.evaluate(x, y)["loss"] == np.inf
    model.parameters[-1] = np.nan
    assert np.isnan(model.evaluate(x, y)["loss"])
    assert np.isnan(model.predict(x)[:, 1]).all()
    assert np.isfinite(model.predict(x)[:, 0]).all()
