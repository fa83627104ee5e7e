"""fit, evaluate, predict and train_on_batch: their conventions are Keras's."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn

Array = NDArray[Any]

FEATURES, CLASSES, ROWS = 6, 3, 50


class Spy(fastnn.Layer):
    """A layer in Python that notes the first number of every row that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[float]] = []

    def forward(self, x: Array, training: bool = False) -> Array:
        if training:
            self.batches.append(x[:, 0].tolist())
        return x

    def backward(self, dy: Array) -> Array:
        return dy


def data(rows: int = ROWS, seed: int = 1) -> tuple[Array, Array]:
    """Three clouds of points."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, rows)
    centres = np.random.default_rng(0).normal(size=(CLASSES, FEATURES))
    return centres[y] + 0.7 * rng.normal(size=(rows, FEATURES)), y


def classifier(optimizer: Any = "adam", dtype: str = "float64", seed: int = 3) -> Any:
    model = fastnn.Sequential(
        [
            fastnn.Dense(8, activation="relu"),
            fastnn.Dropout(0.1),
            fastnn.Dense(CLASSES, activation="softmax"),
        ],
        input_shape=(FEATURES,),
        dtype=dtype,
        seed=seed,
    )
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


def crossentropy(p: Array, y: Array) -> Array:
    """Each row's loss by NumPy."""
    return -np.log(p[np.arange(len(y)), y])


def assert_same_weights(one: fastnn.Sequential, other: fastnn.Sequential) -> None:
    np.testing.assert_array_equal(one.parameters, other.parameters)


# History


def test_history_has_a_figure_for_each_epoch() -> None:
    x, y = data()
    history = classifier().fit(x, y, epochs=3, validation_data=data(20, 2), verbose=0)
    assert list(history.history) == [
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
    ]
    assert all(len(values) == 3 for values in history.history.values())
    assert all(type(v) is float for values in history.history.values() for v in values)
    assert history.epoch == [0, 1, 2]
    assert isinstance(history, fastnn.History)


def test_history_has_no_figures_that_were_not_asked_for() -> None:
    x, y = data()
    model = classifier()
    model.compile("sgd", "categorical_crossentropy")
    assert set(model.fit(x, y, verbose=0).history) == {"loss", "learning_rate"}


def test_training_lowers_the_loss() -> None:
    x, y = data(200)
    history = classifier(fastnn.Adam(0.01)).fit(x, y, epochs=30, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["accuracy"][-1] > 0.8


def test_a_loss_is_the_mean_over_the_rows_of_the_epoch() -> None:
    """Also where the last batch is short; at learning rate 0 that can be seen from outside."""
    x, y = data()
    model = fastnn.Sequential([fastnn.Dense(CLASSES, activation="softmax")], (FEATURES,), "float64")
    model.compile(fastnn.SGD(0.0), "categorical_crossentropy", metrics=["accuracy"])
    start = model.parameters.copy()
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    np.testing.assert_array_equal(model.parameters, start)
    figures = model.evaluate(x, y)
    np.testing.assert_allclose(history["loss"], figures["loss"], rtol=1e-12)
    np.testing.assert_allclose(history["accuracy"], figures["accuracy"], rtol=1e-12)
    np.testing.assert_allclose(figures["loss"], crossentropy(model.predict(x), y).mean())


# Validation


def test_validation_split_is_the_last_part() -> None:
    x, y = data()
    weights = np.random.default_rng(2).uniform(0, 2, ROWS)
    split = classifier()
    history = split.fit(x, y, sample_weight=weights, validation_split=0.3, verbose=0).history
    apart = classifier()
    held = apart.fit(
        x[:35],
        y[:35],
        sample_weight=weights[:35],
        validation_data=(x[35:], y[35:], weights[35:]),
        verbose=0,
    ).history
    assert history == held
    assert_same_weights(split, apart)
    assert history["val_loss"] == [
        split.evaluate(x[35:], y[35:], sample_weight=weights[35:])["loss"]
    ]


def test_validation_data_goes_before_validation_split() -> None:
    x, y = data()
    held = data(20, 2)
    both, one = classifier(), classifier()
    history = both.fit(x, y, validation_data=held, validation_split=0.5, verbose=0).history
    assert history == one.fit(x, y, validation_data=held, verbose=0).history
    assert_same_weights(both, one)


def test_validation_leaves_training_alone() -> None:
    x, y = data()
    watched, unwatched = classifier(), classifier()
    watched.fit(x, y, epochs=3, validation_data=data(20, 2), verbose=0)
    unwatched.fit(x, y, epochs=3, verbose=0)
    assert_same_weights(watched, unwatched)


def test_class_weight_does_not_count_in_validation() -> None:
    """In Keras it is for training only, wherever the validation data come from."""
    x, y = data()
    model = classifier()
    model.fit(x, y, class_weight={0: 7.0}, validation_split=0.3, verbose=0)
    history = model.fit(
        x, y, class_weight={0: 7.0}, validation_split=0.3, shuffle=False, verbose=0
    ).history
    assert history["val_loss"][-1] == model.evaluate(x[35:], y[35:])["loss"]


# Weights of rows and classes


@pytest.mark.parametrize("one_hot", [False, True], ids=["labels", "one-hot"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_class_weight_is_the_sample_weight_of_the_class(dtype: str, one_hot: bool) -> None:
    x, y = data()
    targets = np.eye(CLASSES)[y] if one_hot else y
    by_class, by_row = classifier(dtype=dtype), classifier(dtype=dtype)
    table = {0: 0.3, 2: 2.5}  # class 1 is not named: it weighs 1
    weights = np.array([0.3, 1.0, 2.5])[y]
    history = by_class.fit(x, targets, class_weight=table, epochs=2, verbose=0).history
    assert history == by_row.fit(x, targets, sample_weight=weights, epochs=2, verbose=0).history
    assert_same_weights(by_class, by_row)
    assert by_class.train_on_batch(x, targets, class_weight=table) == by_row.train_on_batch(
        x, targets, sample_weight=weights
    )
    assert_same_weights(by_class, by_row)


def test_class_and_sample_weights_multiply() -> None:
    x, y = data()
    weights = np.random.default_rng(2).uniform(0, 2, ROWS)
    both, product = classifier(), classifier()
    both.fit(x, y, class_weight={1: 3.0}, sample_weight=weights, verbose=0)
    product.fit(x, y, sample_weight=weights * np.array([1.0, 3.0, 1.0])[y], verbose=0)
    assert_same_weights(both, product)


def test_class_weight_of_two_classes_with_one_output() -> None:
    x, y = data()
    y = (y == 1).astype(int)
    models = []
    for arguments in ({"class_weight": {1: 4.0}}, {"sample_weight": np.where(y == 1, 4.0, 1.0)}):
        model = fastnn.Sequential([fastnn.Dense(1, "sigmoid")], (FEATURES,), "float64", seed=1)
        model.compile("sgd", "binary_crossentropy")
        model.fit(x, y, verbose=0, **arguments)
        models.append(model)
    assert_same_weights(*models)


def test_a_whole_weight_counts_like_copies_of_the_row() -> None:
    """Up to the denominator, which is the number of rows."""
    x, y = data()
    copies = np.random.default_rng(2).integers(0, 4, ROWS)
    ratio = copies.sum() / ROWS
    weighted, copied = classifier(fastnn.SGD(0.5)), classifier(fastnn.SGD(0.5 * ratio))
    for model in (weighted, copied):
        model.layers[1].rate = 0.0  # masks would differ
    loss = weighted.train_on_batch(x, y, sample_weight=copies)["loss"]
    loss_of_copies = copied.train_on_batch(np.repeat(x, copies, 0), np.repeat(y, copies))["loss"]
    np.testing.assert_allclose(loss, loss_of_copies * ratio, rtol=1e-12)
    np.testing.assert_allclose(weighted.parameters, copied.parameters, rtol=1e-10, atol=1e-13)


def test_rows_of_weight_0_do_not_matter() -> None:
    x, y = data()
    weights = np.ones(ROWS)
    weights[::3] = 0
    other_x, other_y = x.copy(), y.copy()
    other_x[::3] *= -5
    other_y[::3] = 0
    one, other = classifier(), classifier()
    one_loss = one.fit(x, y, sample_weight=weights, verbose=0).history["loss"]
    other_loss = other.fit(other_x, other_y, sample_weight=weights, verbose=0).history["loss"]
    assert one_loss == other_loss
    assert_same_weights(one, other)


# Batches and order


def batches_of(shuffle: bool, epochs: int, batch_size: int) -> list[list[float]]:
    """The rows' numbers as they came, batch by batch."""
    spy = Spy()
    model = fastnn.Sequential([spy, fastnn.Dense(1)], seed=1)
    model.compile(fastnn.SGD(0.0), "mse")  # rows as large as these would make it diverge
    x = np.arange(ROWS, dtype=np.float32)[:, None]
    model.fit(x, x / ROWS, batch_size, epochs, shuffle=shuffle, verbose=0)
    return spy.batches


def test_shuffling_takes_every_row_once_an_epoch_in_a_new_order() -> None:
    batches = batches_of(shuffle=True, epochs=4, batch_size=16)
    assert [len(batch) for batch in batches] == [16, 16, 16, 2] * 4
    orders = [list(chain(*batches[begin : begin + 4])) for begin in range(0, 16, 4)]
    for order in orders:
        assert sorted(order) == list(range(ROWS))
        assert order != sorted(order)
    assert len({tuple(order) for order in orders}) == 4


def test_without_shuffling_rows_come_as_they_stand() -> None:
    batches = batches_of(shuffle=False, epochs=2, batch_size=16)
    assert list(chain(*batches)) == list(range(ROWS)) * 2


def test_rows_keep_their_targets_and_weights_in_any_order() -> None:
    """y = x, and weight 0 where not: any mix-up would cost something."""
    model = fastnn.Sequential([fastnn.Dense(1, kernel_initializer="ones")], (1,))
    model.compile(fastnn.SGD(0.0), "mse")
    x = np.arange(ROWS, dtype=np.float32)[:, None]
    y = x.copy()
    y[::4] += 10
    weights = (x == y)[:, 0]
    for shuffle in (True, False):
        history = model.fit(x, y, 7, 3, shuffle=shuffle, sample_weight=weights, verbose=0).history
        assert history["loss"] == [0.0] * 3


def test_a_batch_larger_than_the_data_is_all_of_them() -> None:
    x, y = data()
    large, exact = classifier(), classifier()
    assert (
        large.fit(x, y, batch_size=10**9, epochs=2, verbose=0).history
        == exact.fit(x, y, batch_size=ROWS, epochs=2, verbose=0).history
    )
    assert_same_weights(large, exact)


def test_no_epochs_change_nothing() -> None:
    x, y = data()
    model = classifier()
    start = model.parameters.copy()
    history = model.fit(x, y, epochs=0, verbose=0)
    assert history.history == {}
    assert history.epoch == []
    np.testing.assert_array_equal(model.parameters, start)


def test_epochs_in_one_go_or_one_after_the_other() -> None:
    """Adam's moments, the shuffling and the dropout go on where they were."""
    x, y = data()
    together, apart = classifier(), classifier()
    history = together.fit(x, y, batch_size=16, epochs=4, verbose=0).history
    losses = [
        apart.fit(x, y, batch_size=16, epochs=epochs, verbose=0).history["loss"]
        for epochs in (1, 2, 1)
    ]
    assert list(chain(*losses)) == history["loss"]
    assert_same_weights(together, apart)


def test_compiling_again_begins_afresh_from_the_same_weights() -> None:
    x, y = data()
    used, fresh = classifier(), classifier()
    used.fit(x, y, epochs=2, verbose=0)
    weights = used.get_weights()
    used.compile("adam", "categorical_crossentropy")
    fresh.set_weights(weights)
    used.fit(x, y, verbose=0)
    fresh.fit(x, y, verbose=0)
    assert_same_weights(used, fresh)


def test_train_on_batch_is_one_step_and_tells_what_was_before_it() -> None:
    x, y = data()
    model, fitted = classifier(), classifier()
    for one in (model, fitted):
        one.layers[1].rate = 0.0  # so that evaluating sees what training does
    before = model.evaluate(x, y)
    figures = model.train_on_batch(x, y)
    assert list(figures) == ["loss", "accuracy"]
    assert figures == before
    fitted.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0)
    assert_same_weights(model, fitted)
    assert model.evaluate(x, y)["loss"] < before["loss"]


def test_a_learning_rate_may_change_between_epochs() -> None:
    x, y = data()
    model = classifier(fastnn.SGD(0.5))

    def slower(epoch: int, logs: dict[str, float]) -> None:
        model.optimizer.learning_rate = 0.1 / (epoch + 1)

    history = model.fit(
        x, y, epochs=3, callbacks=[fastnn.LambdaCallback(on_epoch_end=slower)], verbose=0
    ).history
    assert history["learning_rate"] == [0.5, 0.1, 0.05]
    stepwise = classifier(fastnn.SGD(0.5))
    for rate in (0.5, 0.1, 0.05):
        stepwise.optimizer.learning_rate = rate
        stepwise.fit(x, y, verbose=0)
    assert_same_weights(model, stepwise)


# What is shown


def test_what_verbose_shows(capfd: pytest.CaptureFixture[str]) -> None:
    x, y = data()
    model = classifier()
    model.fit(x, y, epochs=2, validation_split=0.2, verbose=0)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""  # though it may have compiled

    model.fit(x, y, epochs=2, validation_split=0.2, verbose=2)
    captured = capfd.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 2
    for epoch, line in enumerate(lines, 1):
        assert f"{epoch}/2" in line
        for name in ("loss=", "accuracy=", "val_loss=", "val_accuracy="):
            assert name in line
    assert captured.err == ""

    model.fit(x, y, epochs=2, verbose=1)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "2/2" in captured.err
    assert "loss=" in captured.err
    assert "100%" in captured.err
    assert captured.err.endswith("\n")
    model.evaluate(x, y)
    model.predict(x)
    assert capfd.readouterr() == ("", "")


def test_summary_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    model.summary()
    text = capsys.readouterr().out
    assert "(N, 8)" in text
    assert "dense_0" in text
    kernel, bias, second, third = (w.size for w in model.get_weights())
    for count in (kernel + bias, second + third, model.count_params()):
        assert any(line.split()[-2:] == [str(count), str(count * 8)] for line in text.splitlines())
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "\n".join(lines) + "\n" == text


def test_another_learning_rate_needs_no_other_program() -> None:
    """Steps read it: a rate that was changed by hand counts, and nothing is made anew."""
    x, y = np.ones((4, 2)), np.array([[1.0], [2.0], [3.0], [4.0]])
    model = fastnn.Sequential([fastnn.Dense(1, use_bias=False)], (2,), "float64", seed=1)
    model.compile(fastnn.SGD(0.25), "mse")
    steps = []
    for rate in (0.25, 0.125, 0.0):
        assert model.optimizer is not None
        model.optimizer.learning_rate = rate
        before = model.parameters.copy()
        model.train_on_batch(x, y)
        slope = 2 * x.T @ (x @ before[:, None] - y) / len(x)
        steps.append(before - rate * slope[:, 0] - model.parameters)
    np.testing.assert_allclose(steps, 0, atol=1e-12)
    assert len(model._programs) == 1
