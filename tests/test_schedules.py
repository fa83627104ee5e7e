"""Schedules follow Keras's, PyTorch's and scikit-learn's, and training follows the schedules."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn import schedules
from fastnn.kernels import state as s

Array = NDArray[Any]

STEPS = np.arange(130.0)
KERAS: dict[str, tuple[str, dict[str, Any]]] = {
    "inverse time": ("InverseTimeDecay", dict(decay_steps=7, decay_rate=0.4)),
    "inverse time, in steps": (
        "InverseTimeDecay",
        dict(decay_steps=7, decay_rate=0.4, staircase=True),
    ),
    "exponential": ("ExponentialDecay", dict(decay_steps=9, decay_rate=0.8)),
    "exponential, in steps": (
        "ExponentialDecay",
        dict(decay_steps=9, decay_rate=0.8, staircase=True),
    ),
    "linear": ("PolynomialDecay", dict(decay_steps=90)),
    "polynomial": ("PolynomialDecay", dict(decay_steps=90, end_learning_rate=0.02, power=2.5)),
    "polynomial, on and on": ("PolynomialDecay", dict(decay_steps=25, cycle=True, power=0.5)),
    "cosine": ("CosineDecay", dict(decay_steps=90, alpha=0.1)),
    "cosine, warm-up": (
        "CosineDecay",
        dict(decay_steps=80, alpha=0.1, warmup_target=0.5, warmup_steps=20),
    ),
    "cosine, no steps of warm-up": ("CosineDecay", dict(decay_steps=80, warmup_target=0.5)),
    "restarts": ("CosineDecayRestarts", dict(first_decay_steps=10)),
    "restarts, lower": (
        "CosineDecayRestarts",
        dict(first_decay_steps=12, t_mul=1.5, m_mul=0.8, alpha=0.1),
    ),
    "restarts, evenly": ("CosineDecayRestarts", dict(first_decay_steps=16, t_mul=1.0, m_mul=0.5)),
}


@pytest.mark.parametrize("name", KERAS)
def test_schedule_is_keras(name: str, keras: Any) -> None:
    kind, arguments = KERAS[name]
    own = getattr(schedules, kind)(0.3, **arguments)
    peer = getattr(keras.optimizers.schedules, kind)(0.3, **arguments)
    expected = [float(peer(float(step))) for step in STEPS]
    # Keras computes in float32, in which the place of a restart can be a step off.
    far = np.abs(own.rates(STEPS) - expected) > 1e-5
    assert far.sum() <= (2 if name == "restarts, lower" else 0)
    assert np.ptp(own.rates(STEPS)) > 0.01


def test_piecewise_constant_is_keras(keras: Any) -> None:
    arguments = ([0, 20, 21, 60], [0.5, 0.4, 0.3, 0.2, 0.1])
    own = schedules.PiecewiseConstantDecay(*arguments)
    peer = keras.optimizers.schedules.PiecewiseConstantDecay(*arguments)
    expected = np.array([float(peer(int(step))) for step in STEPS])
    np.testing.assert_allclose(own.rates(STEPS), expected, rtol=1e-6)
    assert schedules.PiecewiseConstantDecay([], [0.1])(5) == 0.1


def torch_rates(make: Callable[[Any, Any], Any]) -> list[float]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in STEPS:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


TORCH: dict[str, tuple[schedules.Schedule, Callable[[Any, Any], Any]]] = {
    "step": (
        schedules.ExponentialDecay(0.3, 20, 0.1, staircase=True),
        lambda lib, o: lib.StepLR(o, 20, 0.1),
    ),
    "one-cycle": (
        schedules.OneCycle(0.3, total_steps=131),
        lambda lib, o: lib.OneCycleLR(o, 0.3, total_steps=131, cycle_momentum=False),
    ),
    "one-cycle, other factors": (
        schedules.OneCycle(0.3, 131, pct_start=0.47, div_factor=5.0, final_div_factor=20.0),
        lambda lib, o: lib.OneCycleLR(o, 0.3, total_steps=131, pct_start=0.47, div_factor=5.0,
                                      final_div_factor=20.0, cycle_momentum=False),
    ),
    "cyclical": (
        schedules.Cyclical(0.1, 0.3, step_size_up=10),
        lambda lib, o: lib.CyclicLR(o, 0.1, 0.3, 10, cycle_momentum=False),
    ),
    "cyclical, two ways": (
        schedules.Cyclical(0.1, 0.3, 10, 25, mode="triangular2"),
        lambda lib, o: lib.CyclicLR(o, 0.1, 0.3, 10, 25, mode="triangular2",
                                    cycle_momentum=False),
    ),
    "cyclical, lower": (
        schedules.Cyclical(0.1, 0.3, 10, mode="exp_range", gamma=0.98),
        lambda lib, o: lib.CyclicLR(o, 0.1, 0.3, 10, mode="exp_range", gamma=0.98,
                                    cycle_momentum=False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_schedule_is_torchs(name: str) -> None:
    own, make = TORCH[name]
    np.testing.assert_allclose(own.rates(STEPS), torch_rates(make), rtol=1e-9)


def test_one_cycle_stays_at_its_end() -> None:
    schedule = schedules.OneCycle(0.3, total_steps=10)
    assert schedule(9) == schedule(10) == schedule(1000) == pytest.approx(0.3 / 25 / 1e4)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.3])
def test_invscaling_is_scikit_learns(power: float) -> None:
    neural_network = pytest.importorskip(
        "sklearn.neural_network._stochastic_optimizers", reason="scikit-learn is not installed"
    )
    optimizer = neural_network.SGDOptimizer(
        [np.zeros(1)], 0.3, lr_schedule="invscaling", power_t=power
    )
    schedule = schedules.InvScaling(0.3, power)
    for step in range(20):
        optimizer.iteration_ends(step)
        assert schedule(step) == pytest.approx(optimizer.learning_rate, rel=1e-12)


ALL = [own for own, _ in TORCH.values()] + [
    getattr(schedules, kind)(0.3, **arguments) for kind, arguments in KERAS.values()
]
ALL += [schedules.PiecewiseConstantDecay([3, 9], [0.3, 0.2, 0.1]), schedules.InvScaling(0.3)]


def test_every_schedule_is_here() -> None:
    assert {type(each).__name__ for each in ALL} == {*schedules.__all__} - {"Schedule"}


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_many_rates_are_each_ones(schedule: schedules.Schedule) -> None:
    rates = schedule.between(0, 60)
    assert [schedule(step) for step in range(60)] == rates.tolist()
    np.testing.assert_array_equal(schedule.between(37, 60), rates[37:])
    assert schedule.between(5, 5).shape == (0,)
    again = type(schedule)(**schedule.get_config())
    np.testing.assert_array_equal(again.between(0, 60), rates)
    assert repr(again) == repr(schedule)


# In training


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(70, 4)).astype("float32"), rng.normal(size=(70, 2)).astype("float32")


def network(rate: Any, in_python: bool = False) -> fastnn.Sequential:
    layers: list[fastnn.Layer] = [fastnn.Dense(2)]
    if in_python:
        layers.append(Nothing())
    model = fastnn.Sequential(layers, (4,), seed=2)
    model.compile(fastnn.SGD(rate, momentum=0.5), "mse")
    return model


class Nothing(fastnn.Layer):
    """A layer that exists only in Python, so that steps are not compiled."""

    def forward(self, x: Array, training: bool = False) -> Array:
        return x

    def backward(self, dy: Array) -> Array:
        return dy


@pytest.mark.parametrize("in_python", [False, True])
def test_every_step_has_its_rate(in_python: bool) -> None:
    x, y = data()
    schedule = schedules.Cyclical(0.001, 0.2, 3, 2)
    model, stepped = network(schedule, in_python), network(0.0)
    history = model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history
    for step in range(15):
        stepped.optimizer.learning_rate = schedule(step)
        part = slice(step % 5 * 16, (step % 5 + 1) * 16)
        stepped.train_on_batch(x[part], y[part])
    assert stepped.parameters.tobytes() == model.parameters.tobytes()
    # An epoch's is its last step's.
    assert history["learning_rate"] == [schedule(step) for step in (4, 9, 14)]


def test_a_schedule_goes_on_over_fits_and_single_steps() -> None:
    x, y = data()
    schedule = schedules.InverseTimeDecay(0.2, 1, 0.5)
    whole, parts = network(schedule), network(schedule)
    whole.fit(x, y, batch_size=35, epochs=4, shuffle=False, verbose=0)
    parts.fit(x, y, batch_size=35, epochs=2, shuffle=False, verbose=0)
    for part in (slice(35), slice(35, 70)):
        parts.train_on_batch(x[part], y[part])
    history = parts.fit(x, y, batch_size=35, shuffle=False, verbose=0).history
    assert parts.parameters.tobytes() == whole.parameters.tobytes()
    assert history["learning_rate"] == [schedule(7)]
    parts.compile(parts.optimizer, "mse")  # begins afresh
    history = parts.fit(x, y, batch_size=70, verbose=0).history
    assert history["learning_rate"] == [0.2]


def test_rate_and_schedule_change_between_fits_and_epochs() -> None:
    x, y = data()
    model = network(0.1)
    seen: list[float] = []

    def change(epoch: int, logs: Any) -> None:
        seen.append(logs["learning_rate"])
        model.optimizer.learning_rate = [0.05, schedules.InvScaling(0.4), 0.01][epoch]

    by_epoch = fastnn.callbacks.LambdaCallback(on_epoch_end=change)
    with pytest.raises(RuntimeError, match="cannot take the place of a float between epochs"):
        model.fit(x, y, batch_size=70, epochs=3, callbacks=by_epoch, verbose=0)
    assert seen == [0.1, 0.05]
    model.fit(x, y, batch_size=70, epochs=2, verbose=0)
    seen.clear()
    model.fit(x, y, batch_size=70, epochs=2, callbacks=by_epoch, verbose=0)
    assert seen == [0.4 / 5**0.5, 0.05]


class Strange(schedules.Schedule):
    """A schedule whose rates are given."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def rates(self, steps: Array) -> Array:
        return np.array(self.values)

    def get_config(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            (0.1, -0.1),
            r"Strange: a learning rate must be a number in \[0, inf\), got -0.1 at step 1",
        ),
        ((np.nan, 0.1), "got nan at step 0"),
        ((0.1, np.inf), "got inf at step 1"),
        ((0.1, 0.1, 0.1), r"rates must have shape \(2,\), got \(3,\)"),
    ],
)
def test_bad_rates_stop_before_anything_changes(values: tuple[float, ...], words: str) -> None:
    x, y = data()
    model = network(0.1)
    model.optimizer.learning_rate = Strange(*values)
    before = model.parameters.copy()
    with pytest.raises(ValueError, match="Strange: "):
        model.fit(x, y, batch_size=35, verbose=0)
    with pytest.raises(ValueError, match=words):
        model.optimizer.rates(0, 2)
    np.testing.assert_array_equal(model.parameters, before)
    assert model.state[s.STEP] == model.epochs_done == 0


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "rate": (lambda: schedules.ExponentialDecay(-0.1, 5, 0.5), "initial_learning_rate must be"),
    "steps": (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps must be at least 1"),
    "part of a step": (lambda: schedules.PolynomialDecay(0.1, 1.5), "decay_steps must be an int"),
    "decay": (lambda: schedules.InverseTimeDecay(0.1, 5, -1.0), "decay_rate must be"),
    "power": (lambda: schedules.PolynomialDecay(0.1, 5, power=0.0), "power must be"),
    "alpha": (lambda: schedules.CosineDecay(0.1, 5, alpha=1.5), "alpha must be"),
    "warm-up to nothing": (
        lambda: schedules.CosineDecay(0.1, 5, warmup_steps=3), "warmup_steps need a warmup_target",
    ),
    "shorter periods": (
        lambda: schedules.CosineDecayRestarts(0.1, 5, t_mul=0.5), "t_mul must be",
    ),
    "values": (
        lambda: schedules.PiecewiseConstantDecay([3, 9], [0.1, 0.2]),
        "values must be 3, one more than boundaries, got 2",
    ),
    "boundaries": (
        lambda: schedules.PiecewiseConstantDecay([9, 3], [0.1, 0.2, 0.3]), "must increase",
    ),
    "no list": (lambda: schedules.PiecewiseConstantDecay(3, [0.1, 0.2]), "lists of numbers, got 3"),
    "share": (lambda: schedules.OneCycle(0.1, 100, pct_start=1.0), "pct_start must be"),
    "no step up": (lambda: schedules.OneCycle(0.1, 3), "pct_start of total_steps must be more"),
    "mode": (lambda: schedules.Cyclical(0.1, 0.2, mode="square"), "mode must be .*'square'"),
    "gamma": (lambda: schedules.Cyclical(0.1, 0.2, gamma=1.1), "gamma must be"),
    "inverse power": (lambda: schedules.InvScaling(0.1, -0.5), "power_t must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name: str) -> None:
    bad, words = BAD[name]
    with pytest.raises((ValueError, TypeError), match=words):
        bad()


class Renamed(schedules.Schedule):
    """A schedule of the user's that can train, but not be saved."""

    def __init__(self, first: float) -> None:
        self.begin = first

    def rates(self, steps: Array) -> Array:
        return np.full(len(steps), self.begin)


def test_a_schedule_without_a_config_trains() -> None:
    x, y = data()
    model = network(Renamed(0.1))
    assert model.fit(x, y, verbose=0).history["learning_rate"] == [0.1]
    with pytest.raises(TypeError, match=r"Renamed: has no attribute 'first'.* define get_config"):
        model.save("never.safetensors")


@pytest.mark.parametrize("room", ["base", "cycles", "decays"])
def test_examples(room: str) -> None:
    result = doctest.testmod(importlib.import_module(f"fastnn.schedules.{room}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_a_schedule_must_say_its_rates() -> None:
    with pytest.raises(NotImplementedError, match="Schedule does not define rates"):
        schedules.Schedule()(0)
