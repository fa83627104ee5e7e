"""Fits that go on from a checkpoint: the bits of one that was never interrupted, or an error."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tqdm
from numpy.typing import NDArray

import fastnn
from fastnn import callbacks, schedules, serialization
from fastnn.callbacks import Checkpoint, EarlyStopping
from fastnn.engine import cpu

Array = NDArray[Any]

ROWS, FEATURES, CLASSES, BATCH, EPOCHS = 50, 6, 3, 8, 5

RNG = np.random.default_rng(1)
X = RNG.normal(size=(ROWS, FEATURES)).astype(np.float32)
Y = RNG.integers(0, CLASSES, ROWS)


class Doubling(fastnn.Layer):
    """A layer that exists only in Python."""

    def forward(self, x: Array, training: bool = False) -> Array:
        return 2 * x

    def backward(self, dy: Array) -> Array:
        return 2 * dy


def network(
    optimizer: Any = "adam",
    layer: fastnn.Layer | None = None,
    metrics: Any = ("accuracy",),
    seed: int | None = 3,
    dtype: str = "float32",
) -> fastnn.Sequential:
    layers = [fastnn.Dense(8, "relu"), layer or fastnn.BatchNormalization(), fastnn.Dropout(0.2)]
    model = fastnn.Sequential([*layers, fastnn.Dense(CLASSES, "softmax")], seed=seed, dtype=dtype)
    model.compile(optimizer, "categorical_crossentropy", metrics=list(metrics))
    return model


def fit(model: fastnn.Sequential, listed: list[Any] | None = None, **arguments: Any) -> Any:
    given = {"batch_size": BATCH, "epochs": EPOCHS, "verbose": 0, **arguments}
    return model.fit(X, Y, callbacks=listed or [], **given)


class Noting(fastnn.Callback):
    """A callback of the user's that remembers the epochs, and an array."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.sums = np.zeros((2, 2))[:, 0]  # with gaps

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        self.seen.append(epoch)
        self.sums += [logs["loss"], 1]

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen, "more": {"sums": self.sums}}

    def restore(self, state: dict[str, Any]) -> None:
        self.seen, self.sums = state["seen"], state["more"]["sums"]


def plateau() -> list[Any]:
    stopping = EarlyStopping(patience=2, restore_best_weights=True)
    return [callbacks.ReduceLROnPlateau(patience=1), stopping]


def decay() -> list[Any]:
    return [callbacks.OpenNMTDecay("loss", start_decay_at=2, decay_method="restart")]


# Arguments of the network, callbacks besides, arguments of `fit`.
FITS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[], list[Any]], dict[str, Any]]] = {
    "plain": (dict, list, {"epochs": 2}),
    "a callback of one's own": (dict, lambda: [Noting()], {"epochs": 2}),
    "a schedule": (
        lambda: {"optimizer": fastnn.Nadam(schedules.CosineDecay(0.03, 30))},
        list,
        {"shuffle": False, "batch_size": 7, "epochs": 2},
    ),
    "averaged weights, a plateau, early stopping": (
        lambda: {"optimizer": fastnn.Adam(0.1, use_ema=True)},
        plateau,
        {"validation_split": 0.2, "epochs": 12},
    ),
    "a restarted optimizer": (lambda: {"optimizer": fastnn.SGD(0.1, momentum=0.9)}, decay, {}),
    "metrics with sums, weights of rows": (
        lambda: {"metrics": ["accuracy", fastnn.F1Score("macro"), fastnn.ConfusionMatrix()]},
        list,
        {"sample_weight": np.arange(ROWS), "validation_data": (X[:9], Y[:9]), "epochs": 2},
    ),
    "float64": (lambda: {"dtype": "float64"}, list, {"class_weight": {1: 2.0}, "epochs": 2}),
    "in Python": (lambda: {"layer": Doubling()}, list, {"epochs": 2}),
    "all rows at once": (dict, list, {"batch_size": 64}),
}


@pytest.mark.parametrize("case", FITS)
def test_every_checkpoint_leads_to_the_same_bits(case: str, tmp_path: Path) -> None:
    """From a network that had other weights, another seed."""
    arguments, others, of_fit = FITS[case]
    files = tmp_path / "files"
    files.mkdir()
    whole, listed = network(**arguments()), others()
    often = Checkpoint(files / "{step}", every_steps=1)
    history = fit(whole, [often, *listed], **of_fit)
    steps = sorted(int(file.name) for file in files.iterdir())
    assert steps == list(range(1, 1 + len(steps)))
    for step in steps:
        model, again = network(**arguments(), seed=None), others()
        often = Checkpoint(tmp_path / "again", every_steps=100)
        rest = fit(model, [often, *again], resume_from=files / str(step), **of_fit)
        assert rest.epoch == history.epoch
        np.testing.assert_equal(rest.history, history.history)
        for own, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
            assert own.tobytes() == theirs.tobytes()
        assert model.seed == whole.seed
        assert model.epochs_done == whole.epochs_done
        for one, other in zip(again, listed, strict=True):
            np.testing.assert_equal(one.state(), other.state())


REMEMBERING: list[Callable[[], Any]] = [
    lambda: EarlyStopping(patience=3, start_from_epoch=1),
    lambda: callbacks.ReduceLROnPlateau(patience=2, cooldown=2, factor=0.5),
    lambda: callbacks.OpenNMTDecay(decay_method="score_only", min_learning_rate=0.2),
    lambda: Checkpoint("{epoch}", save_best_only=True),
]


@pytest.mark.parametrize("make", REMEMBERING)
def test_callbacks_remember_all_that_they_decide_by(make: Callable[[], Any]) -> None:
    """Another one that is given the state after some epochs decides as the first would."""
    rng = np.random.default_rng(5)
    decided = set()
    for _ in range(60):
        figures = rng.integers(0, 6, 12).tolist()
        runs = []
        for change in (None, int(rng.integers(1, 12))):
            model = SimpleNamespace(optimizer=fastnn.SGD(1.0), metrics=[], stop_training=False)
            callback, decisions = make(), []
            callback.model = model
            callback.on_train_begin()
            for epoch, figure in enumerate(figures):
                if epoch == change:
                    state, callback = callback.state(), make()
                    callback.model = model
                    callback.on_train_begin()
                    callback.restore(serialization.joined(*serialization.separated(state, "s")))
                callback.on_epoch_end(epoch, {"val_loss": figure})
                best = getattr(callback, "best", None)
                decisions.append((model.optimizer.learning_rate, model.stop_training, best))
            runs.append(decisions)
        assert runs[0] == runs[1], figures
        decided |= set(runs[0])
    assert len(decided) > 3


@pytest.fixture
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cpu, "TEAM_COST", 0)
    fastnn.set_num_threads(request.param)
    yield
    fastnn.set_num_threads(None)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.usefixtures("threads")
def test_a_pause_within_a_step_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that time asks for are of whole steps, wherever Python was asked."""
    monkeypatch.setattr(cpu, "_FIRST_BUDGET", 1)
    monkeypatch.setattr(cpu, "SLICE_SECONDS", 1e-9)
    whole = network()
    history = fit(whole, [Checkpoint(tmp_path / "{step}", every_minutes=1e-9)], epochs=2)
    files = list(tmp_path.iterdir())
    assert len(files) == 2 * 7
    for file in files:
        model = network()
        rest = fit(model, [Checkpoint(tmp_path / "other")], epochs=2, resume_from=file)
        assert rest.history == history.history
        assert model.parameters.tobytes() == whole.parameters.tobytes()


@pytest.fixture
def halfway(tmp_path: Path) -> Path:
    """A file of the 18th step of 35, in the middle of the third epoch."""
    fit(network(), [Checkpoint(tmp_path / "{step}", every_steps=18)])
    return tmp_path / "18"


def whole_fit(**arguments: Any) -> fastnn.Sequential:
    model = network()
    fit(model, **arguments)
    return model


def resumed(path: Path, model: fastnn.Sequential | None = None, **arguments: Any) -> Any:
    model = network() if model is None else model
    listed = [Checkpoint(path.parent / "later-{step}", every_steps=18)]
    fit(model, listed, resume_from=path, **arguments)
    return model


def test_a_loaded_model_goes_on(halfway: Path) -> None:
    model = resumed(halfway, fastnn.load(halfway))
    assert model.parameters.tobytes() == whole_fit().parameters.tobytes()


def test_a_loaded_model_with_a_lowered_rate_goes_on(tmp_path: Path) -> None:
    def listed(path: Path) -> list[Any]:
        lowering = callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1e6)
        return [Checkpoint(path, every_steps=18), lowering]

    whole = network()
    fit(whole, listed(tmp_path / "a"))
    loaded = fastnn.load(tmp_path / "a")
    assert loaded.optimizer.learning_rate < 1e-3
    fit(loaded, listed(tmp_path / "b"), resume_from=tmp_path / "a")
    assert loaded.parameters.tobytes() == whole.parameters.tobytes()
    assert loaded.optimizer.learning_rate == whole.optimizer.learning_rate


def test_more_epochs_or_fewer(halfway: Path) -> None:
    longer = resumed(halfway, epochs=EPOCHS + 2)
    assert longer.parameters.tobytes() == whole_fit(epochs=EPOCHS + 2).parameters.tobytes()
    shorter = network()
    history = fit(shorter, [Checkpoint(halfway)], epochs=1, resume_from=halfway)
    assert history.epoch == [0, 1]  # they were done already
    assert shorter.state[0] == 18


def test_a_fit_that_a_callback_has_ended_stays_so(tmp_path: Path) -> None:
    listed = [Checkpoint(tmp_path / "a"), EarlyStopping("loss", min_delta=1e6)]
    history = fit(network(), listed)
    assert len(history.epoch) == 2
    again = [Checkpoint(tmp_path / "b"), EarlyStopping("loss", min_delta=1e6)]
    assert fit(network(), again, resume_from=tmp_path / "a").history == history.history


def test_an_error_in_a_callback_is_an_interruption_like_others(tmp_path: Path) -> None:
    def fail(epoch: int, logs: Any) -> None:
        if epoch == 2:
            raise LookupError

    failing = fastnn.LambdaCallback(on_epoch_begin=fail)
    model, often = network(), Checkpoint(tmp_path / "a", every_steps=5)
    with pytest.raises(LookupError):
        fit(model, [often, failing])
    fit(model, [often], resume_from=tmp_path / "a")
    assert model.parameters.tobytes() == whole_fit().parameters.tobytes()


def test_the_bar_begins_where_the_fit_does(
    halfway: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[int] = []

    class Bar(tqdm.tqdm):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            begun.append(self.n)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    resumed(halfway, verbose=1)
    assert begun == [2 * ROWS]
    assert "250/250" in capsys.readouterr().err


def test_files_that_are_no_longer_kept_are_removed_after_all(tmp_path: Path) -> None:
    def often() -> Checkpoint:
        return Checkpoint(tmp_path / "{step}", every_steps=5, keep_last=2)

    fit(network(), [often()])
    assert {file.name for file in tmp_path.iterdir()} == {"30", "35"}
    fit(network(), [often()], epochs=EPOCHS + 1, resume_from=tmp_path / "30")
    assert {file.name for file in tmp_path.iterdir()} == {"35", "40"}


# Folders


def test_the_newest_file_that_loads_is_taken(tmp_path: Path) -> None:
    fit(network(), [Checkpoint(tmp_path / "{step}", every_steps=9)])
    for place, step in enumerate((9, 18, 27)):  # of one moment, the one with the largest number
        os.utime(tmp_path / str(step), ns=(0, 10**18 + (place > 0)))
    # What a kill left before it had its name, even if it is whole.
    (tmp_path / ".36.0123456789abcdef").write_bytes((tmp_path / "9").read_bytes())
    (tmp_path / "a folder").mkdir()
    model = network()
    seen: list[int] = []
    note = fastnn.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    listed = [Checkpoint(tmp_path / "later"), note]
    fit(model, listed, resume_from=tmp_path)
    assert seen == [4]  # 27 steps: in the middle of epoch 3
    (tmp_path / "later").unlink()
    (tmp_path / "27").write_bytes((tmp_path / "27").read_bytes()[:-1])
    fit(model := network(), [Checkpoint(tmp_path / "later"), note], resume_from=str(tmp_path))
    assert seen == [4, 3, 4]
    assert model.parameters.tobytes() == whole_fit().parameters.tobytes()


def test_a_folder_without_files_is_a_beginning(tmp_path: Path) -> None:
    model = network()
    fit(model, resume_from=tmp_path)
    assert model.parameters.tobytes() == whole_fit().parameters.tobytes()


def test_a_folder_of_damaged_files_is_none(halfway: Path) -> None:
    halfway.write_bytes(b"")
    network().build(FEATURES)
    with pytest.raises(ValueError, match=r"no file in .* can be gone on from: load: .*18 cannot"):
        fit(network(), resume_from=halfway.parent)


# What is refused


def refused(path: Path, message: str, listed: Any = None, model: Any = None, **given: Any) -> None:
    """Nothing may have changed."""
    model = network() if model is None else model
    before = None if not model.built else model.parameters.copy()
    listed = [Checkpoint(path.parent / "b")] if listed is None else listed
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        model.fit(
            **{
                "x": X,
                "y": Y,
                "batch_size": BATCH,
                "epochs": EPOCHS,
                "verbose": 0,
                "callbacks": listed,
                "resume_from": path,
                **given,
            }
        )
    assert model.built == (before is not None)
    if before is not None:
        np.testing.assert_array_equal(model.parameters, before)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer rows": ({"x": X[:40], "y": Y[:40]}, r"fit\.x is 'float32 \(50, 6\)' there and .*40, 6"),
    "another type": ({"x": X.astype("f8")}, r"fit\.x is 'float32 \(50, 6\)' there and 'float64"),
    "other targets": ({"y": np.full((ROWS, 3), 1 / 3)}, r"fit\.y is 'int32"),
    "batches": ({"batch_size": 9}, r"fit\.batch_size is 8 there and 9 here"),
    "order": ({"shuffle": False}, r"fit\.shuffle is True there and False here"),
    "weights": ({"sample_weight": np.ones(ROWS)}, r"fit\.weights is None there"),
    "validation": ({"validation_split": 0.5}, r"fit\.x is 'float32 \(50"),
    "validation data": ({"validation_data": (X, Y)}, r"fit\.validation x is None there"),
    "callbacks": ({"listed": []}, r"callbacks is \['Checkpoint'\] there and \[\] here"),
    "an optimizer": (
        {"model": lambda: network("sgd")},
        r"fit\.compiled\.optimizer.* is .*Adam.* there and .*SGD.* here",
    ),
    "a rate": (
        {"model": lambda: network(fastnn.Adam(0.1))},
        r"fit\.compiled\.optimizer\.config\.learning_rate is 0\.001 there and 0\.1 here",
    ),
    "metrics": ({"model": lambda: network(metrics=[])}, r"fit\.compiled\.metrics is "),
    "a layer": (
        {"model": lambda: network(layer=fastnn.LayerNormalization())},
        r"layers\.1\.class is 'BatchNormalization' there and 'LayerNormalization' here",
    ),
    "a type": ({"model": lambda: network(dtype="float64")}, "dtype is 'float32' there"),
    "a number": ({"resume_from": 5}, "resume_from must be a path, got 5"),
    "no file": ({"resume_from": "nowhere"}, "no such file: nowhere"),
}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("case", OTHERS)
def test_another_fit_is_refused(case: str, built: bool, halfway: Path) -> None:
    arguments, message = OTHERS[case]
    given = dict(arguments)
    model = given.pop("model", network)()
    if built:
        model.build(FEATURES)
    refused(halfway, message, model=model, **given)


def test_a_saved_model_is_no_fit(tmp_path: Path) -> None:
    whole_fit(epochs=1).save(tmp_path / "a")
    refused(tmp_path / "a", "it holds no fit to go on from; the callback Checkpoint writes such")


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write the file again with what it says of the fit changed, and the checksums right."""
    description, arrays = serialization.read(path)
    change(description["fit"])
    serialization.write(path, description, arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fit: fit.update(first=7), "no step of 50 rows begins at 7"),
        (lambda fit: fit.update(first=56), "no step of 50 rows begins at 56"),
        (lambda fit: fit.update(epoch=-1), "epoch must be at least 0"),
        (lambda fit: fit.pop("sums"), "cannot be loaded: 'sums'"),
        (lambda fit: fit.update(callbacks=5), "cannot be loaded"),
        (lambda fit: fit.update(history={"loss": 5}), "cannot be loaded"),
    ],
)
def test_a_file_that_lies_about_the_fit(
    change: Callable[[dict[str, Any]], Any], message: str, halfway: Path
) -> None:
    edited(halfway, change)
    refused(halfway, message)


def test_an_array_of_another_kind_is_refused(halfway: Path) -> None:
    for change in (lambda a: a[:-1], lambda a: a.astype(np.float64)):
        description, arrays = serialization.read(halfway)
        arrays["optimizer.m"] = change(arrays["optimizer.m"])
        serialization.write(halfway, description, arrays)
        refused(halfway, r"optimizer\.m must be float32 \(\d+,\), got float")


def test_a_file_names_no_file_to_be_removed(halfway: Path) -> None:
    def often() -> Checkpoint:
        return Checkpoint(halfway.parent / "{step}", every_steps=2, keep_last=1)

    fit(network(), [often()], epochs=1)
    written = halfway.parent / "6"

    def lie(fit: dict[str, Any]) -> None:
        fit["callbacks"][0]["state"]["_written"] = [[1, "../18"]]

    edited(written, lie)
    with pytest.raises(TypeError, match="a number of a file must be an integer"):
        fit(network(), [often()], resume_from=written)
    assert halfway.exists()


def test_damage_is_met_before_anything_changes(halfway: Path) -> None:
    content = halfway.read_bytes()
    for place in (-1, -200, -900):
        damaged = bytearray(content)
        damaged[place] ^= 1
        halfway.write_bytes(bytes(damaged))
        refused(halfway, "is damaged: its checksum is another", model=whole_fit(epochs=1))


def test_lbfgs_cannot_go_on(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="SciPy, by which LBFGS minimises, is not installed")
    fit(network("lbfgs"), [Checkpoint(tmp_path / "a")], epochs=2)
    refused(tmp_path / "a", "a fit by LBFGS cannot go on from a file", model=network("lbfgs"))
    assert fastnn.load(tmp_path / "a").built


# Kills


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_kills_change_nothing() -> None:
    script = Path(__file__).with_name("kills.py")
    done = subprocess.run(
        [sys.executable, script, "4"],
        env={**os.environ, "PYTHONPATH": str(Path(fastnn.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("4 kills")
