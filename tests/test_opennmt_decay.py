"""The learning rate that OpenNMT's rules lower: each of them worked out by hand."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.callbacks import LambdaCallback, OpenNMTDecay
from fastnn.kernels import state as s

Array = NDArray[Any]


class Scripted:
    """As much of a model as a callback asks for."""

    def __init__(self) -> None:
        self.metrics: list[Any] = []
        self.optimizer = fastnn.SGD(1.0)
        self.stop_training = False
        self.restarts = 0

    def restart_optimizer(self) -> None:
        self.restarts += 1


def run(callback: Any, figures: list[float]) -> tuple[list[float], Scripted]:
    """The learning rate after each epoch, from 1 on, until training is stopped."""
    model = Scripted()
    callback.model = model
    callback.on_train_begin()
    rates = []
    for epoch, figure in enumerate(figures):
        callback.on_epoch_end(epoch, {callback.monitor: figure})
        rates.append(float(model.optimizer.learning_rate))
        if model.stop_training:
            break
    return rates, model


nan = float("nan")

# Figures, arguments, and the learning rates after the epochs.
SCRIPTS: dict[str, tuple[list[float], dict[str, Any], list[float]]] = {
    "better and better": ([5, 4, 3, 2], {}, [1, 1, 1, 1]),
    "the first has none before it": ([9], {}, [1]),
    "past an epoch": ([5, 4, 3, 2, 1], {"start_decay_at": 3}, [1, 1, 1 / 2, 1 / 4, 1 / 8]),
    "past the first": ([5, 4], {"start_decay_at": 1}, [1 / 2, 1 / 4]),
    "no better once, and from then on": ([5, 4, 4, 3, 2], {}, [1, 1, 1 / 2, 1 / 4, 1 / 8]),
    "compared with the epoch before, not the best": (
        [5, 1, 4, 3],
        {"decay_method": "score_only"},
        [1, 1, 1 / 2, 1 / 4],
    ),
    "after a worse one, better than it": ([5, 6, 5.5], {}, [1, 1 / 2, 1 / 4]),
    "better by the delta is not enough": (
        [5, 4, 3.5, 3],
        {"start_decay_score_delta": 0.5},
        [1, 1, 1 / 2, 1 / 4],
    ),
    "better by more": ([5, 4.25, 3.5], {"start_decay_score_delta": 0.5}, [1, 1, 1]),
    "more is better": ([1, 2, 2, 3], {"mode": "max"}, [1, 1, 1 / 2, 1 / 4]),
    "an accuracy": ([1, 2, 3, 2], {"monitor": "val_accuracy"}, [1, 1, 1, 1 / 2]),
    "epochs alone": (
        [5, 6, 7, 8],
        {"decay_method": "epoch_only", "start_decay_at": 3},
        [1, 1, 1 / 2, 1 / 4],
    ),
    "the figure alone": (
        [5, 4, 3, 3, 2],
        {"decay_method": "score_only", "start_decay_at": 1},
        [1, 1, 1, 1 / 2, 1 / 4],
    ),
    "NaN is no improvement": ([5, nan, 4], {}, [1, 1 / 2, 1 / 4]),
    "nor is anything over NaN": ([nan, 4, 3], {}, [1, 1 / 2, 1 / 4]),
    "another factor": ([5, 5, 5], {"decay": 0.25}, [1, 1 / 4, 1 / 16]),
    "as low as allowed": ([5, 5, 5], {"min_learning_rate": 0.25}, [1, 1 / 2, 1 / 4]),
    "training ends below": ([5, 5, 5, 5], {"min_learning_rate": 0.26}, [1, 1 / 2, 1 / 4]),
    "too low from the start": ([5, 4, 3], {"min_learning_rate": 2.0}, [1]),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_decay_by_script(case: str) -> None:
    figures, arguments, expected = SCRIPTS[case]
    callback = OpenNMTDecay(**{"decay": 0.5, **arguments})
    for _ in range(2):  # a second fit with the same callback starts anew
        rates, model = run(callback, figures)
        assert rates == expected
        assert model.stop_training == (rates[-1] < callback.min_learning_rate)
        assert model.restarts == 0


def test_a_restart_comes_with_every_lower_rate() -> None:
    rates, model = run(OpenNMTDecay(decay_method="restart", start_decay_at=3), [5, 4, 3, 2])
    assert rates == [1, 1, 0.7, 0.7 * 0.7]
    assert model.restarts == 2
    _, model = run(OpenNMTDecay(decay_method="restart"), [5, 5])
    assert model.restarts == 1


def regression(optimizer: fastnn.Optimizer) -> tuple[fastnn.Sequential, Array, Array]:
    x = np.random.default_rng(3).normal(size=(30, 4))
    model = fastnn.Sequential([fastnn.Dense(1)], (4,), dtype="float64", seed=1)
    model.compile(optimizer, "mse")
    return model, x, x.sum(axis=1)


@pytest.mark.parametrize("use_ema", [False, True])
def test_a_restarted_optimizer_is_a_new_one(use_ema: bool) -> None:
    """Epochs with a restart between them are fits with an optimizer each, in data and weights."""
    model, x, y = regression(fastnn.Adam(0.1, amsgrad=True, use_ema=use_ema))
    weights: list[Array] = []
    note = LambdaCallback(on_epoch_end=lambda *_: weights.append(model.parameters.copy()))
    decay = OpenNMTDecay("loss", decay_method="restart", start_decay_at=1, decay=0.5)
    model.fit(x, y, 8, epochs=3, shuffle=False, callbacks=[note, decay], verbose=0)
    assert model.state[s.STEP] == 0
    assert model.optimizer is not None
    assert model.optimizer.learning_rate == 0.0125
    other, _, _ = regression(fastnn.Adam(0.1, amsgrad=True))
    for epoch in range(3):
        other.compile(fastnn.Adam(0.1 * 0.5**epoch, amsgrad=True), "mse")
        other.fit(x, y, 8, shuffle=False, verbose=0)
        np.testing.assert_array_equal(weights[epoch], other.parameters)
    assert (model.parameters != weights[-1]).all() == use_ema
    assert (model.parameters != 0).all()  # averages outlive a restart that no step follows


def test_decay_in_fit() -> None:
    model, x, y = regression(fastnn.SGD(0.01))
    decay = OpenNMTDecay(decay=0.5, decay_method="epoch_only", start_decay_at=2,
                         min_learning_rate=0.002)  # fmt: skip
    history = model.fit(x, y, epochs=9, callbacks=[decay], verbose=0).history
    assert history["learning_rate"] == [0.01, 0.01, 0.005, 0.0025]
    model.compile(fastnn.SGD(fastnn.schedules.InvScaling(0.1)), "mse")
    with pytest.raises(ValueError, match="OpenNMTDecay: learning_rate must be a number, got"):
        model.fit(x, y, callbacks=[decay], verbose=0)
    with pytest.raises(ValueError, match="OpenNMTDecay: monitor 'val_loss' is not among loss"):
        model.fit(x, y, callbacks=[OpenNMTDecay()], verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_decay_score_delta": -1.0}, "start_decay_score_delta must be a number"),
        ({"start_decay_at": 0}, "start_decay_at must be at least 1, got 0"),
        ({"start_decay_at": 1.5}, "start_decay_at must be an integer"),
        ({"decay": 1.0}, r"decay must be a number in \(0, 1\), got 1.0"),
        ({"decay": 0}, "decay must be a number"),
        ({"decay_method": "epoch"}, "one of default, epoch_only, score_only, restart, got 'epoch'"),
        ({"min_learning_rate": nan}, "min_learning_rate must be a number"),
        ({"mode": "less"}, "mode must be 'auto', 'min' or 'max', got 'less'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"OpenNMTDecay: .*{message}"):
        OpenNMTDecay(**arguments)
