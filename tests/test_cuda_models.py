"""Models on a GPU, which Numba's simulator stands for: what users see, against the CPU's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import fastnn
from fastnn.engine.cuda import feeding, opening
from fastnn.engine.cuda.mirror import Mirror
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.kernels import state as s
from fastnn.training import on_cuda

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

ROWS, BATCH, FEATURES, CLASSES = 10, 4, 5, 3


def data(rows: int = ROWS) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    return x, rng.integers(0, CLASSES, rows)


def network(device: str, *inside: fastnn.Layer, dtype: str = "float32") -> fastnn.Sequential:
    layers = [
        fastnn.Dense(6, activation="relu"),
        *inside,
        fastnn.Dense(CLASSES, activation="softmax"),
    ]
    model = fastnn.Sequential(layers, input_shape=(FEATURES,), dtype=dtype, seed=3, device=device)
    model.compile(
        optimizer=fastnn.Adam(0.01), loss="categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def on_a_device_of(size: int, model: fastnn.Sequential) -> fastnn.Sequential:
    """The model on a simulated GPU with so many bytes of memory."""
    model.to("cuda")
    model._mirror = Mirror(SimulatedDevice(size))
    return model


def assert_alike(one: fastnn.Sequential, other: fastnn.Sequential, rtol: float = 1e-5) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_are_those_of_the_cpu(dtype: str) -> None:
    x, _ = data()
    expected = network("cpu", dtype=dtype).predict(x)
    found = network("cuda", dtype=dtype).predict(x, batch_size=BATCH)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_follows_the_cpu(dtype: str) -> None:
    x, y = data()
    models = [network(device, dtype=dtype) for device in ("cpu", "cuda")]
    histories = [model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0) for model in models]
    rtol = 1e-5 if dtype == "float32" else 1e-12
    assert_alike(*models, rtol=rtol)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(*(h.history[name] for h in histories), rtol=rtol)
    assert models[0].state[s.STEP] == models[1].state[s.STEP] == 6


def test_same_seed_same_bits() -> None:
    x, y = data()
    models = [network("cuda", fastnn.Dropout(0.3)) for _ in range(2)]
    for model in models:
        model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
    assert models[0].parameters.tobytes() == models[1].parameters.tobytes()


def test_dropout_drops_what_it_drops_on_the_cpu() -> None:
    x, y = data()
    models = [network(device, fastnn.Dropout(0.5)) for device in ("cpu", "cuda")]
    for model in models:
        model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
    assert_alike(*models)


def test_layers_that_normalise_and_draw_train_as_on_the_cpu() -> None:
    x, y = data()
    inside = (
        fastnn.BatchNormalization,
        fastnn.PReLU,
        fastnn.LayerNormalization,
        lambda: fastnn.AlphaDropout(0.2),
        lambda: fastnn.GaussianNoise(0.1),
    )
    models = [network(device, *(layer() for layer in inside)) for device in ("cpu", "cuda")]
    for model in models:
        model.fit(x, y, batch_size=16, epochs=1, verbose=0)  # a batch of 16 rows and one of 6
    assert_alike(*models)


def test_validation_and_callbacks_see_the_model_as_it_is() -> None:
    x, y = data()
    seen: list[Any] = []

    class Look(fastnn.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            seen.append((self.model.evaluate(x, y)["loss"], logs["val_loss"]))
            self.model.layers[0].bias[:] = 0.25  # and their changes are not lost

    models = [network(device) for device in ("cpu", "cuda")]
    for model in models:
        model.fit(
            x, y, batch_size=BATCH, epochs=2, verbose=0, validation_data=(x, y), callbacks=[Look()]
        )
    assert_alike(*models)
    for at_hand, validated in seen:
        np.testing.assert_allclose(at_hand, validated, rtol=1e-6)


def test_a_model_goes_from_one_device_to_the_other_with_its_optimizer() -> None:
    x, y = data()
    wandering, settled = network("cpu"), network("cpu")
    for device in ("cuda", "cpu", "cuda"):
        assert wandering.to(device) is wandering
        assert wandering.device == device
        for model in (wandering, settled):
            model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
    assert_alike(wandering, settled)


def test_files_know_of_no_device(tmp_path: Any) -> None:
    x, y = data()
    model = network("cuda")
    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = fastnn.load(tmp_path / "model.safetensors")
    assert loaded.device == "cpu"
    for one in (model, loaded.to("cuda")):
        one.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
    assert model.parameters.tobytes() == loaded.parameters.tobytes()


def test_rows_that_do_not_fit_come_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(3 * BATCH + 1)
    fed: list[int] = []
    feeder = on_cuda.Feeder

    class Watched(feeder):  # type: ignore[misc, valid-type]
        def bring(self, chunk: int) -> Any:
            fed.append(chunk)
            return super().bring(chunk)

    resident, streamed = network("cuda"), network("cuda")
    resident.fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
    expected = resident.predict(x, batch_size=BATCH)
    monkeypatch.setattr(on_cuda, "Feeder", Watched)
    monkeypatch.setattr(on_cuda, "RESIDENT_SHARE", 0.0)
    monkeypatch.setattr(feeding, "CHUNK_BYTES", 2 * BATCH * (FEATURES + 2) * 4)
    streamed.fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
    assert fed == [0, 1, 0, 1]
    assert streamed.parameters.tobytes() == resident.parameters.tobytes()
    np.testing.assert_array_equal(streamed.predict(x, batch_size=BATCH), expected)
    assert max(fed[4:]) > 0


def test_too_little_memory_says_what_would_do() -> None:
    x, y = data(400)
    model = on_a_device_of(40_000, network("cpu"))
    before = model.get_weights()
    with pytest.raises(MemoryError, match=r"bytes of device memory are needed.*batch of \d+ rows"):
        model.fit(x, y, batch_size=400, epochs=1, verbose=0)
    for kept, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)
    model.to("cpu").fit(x, y, batch_size=400, epochs=1, verbose=0)


def test_divergence_keeps_the_last_finite_weights() -> None:
    x, y = data()
    for device in ("cpu", "cuda"):
        model = network(device)
        model.compile(optimizer=fastnn.SGD(1e38), loss="mse")
        with pytest.raises(fastnn.DivergenceError, match="infinite or NaN"):
            model.fit(x, np.eye(CLASSES)[y], batch_size=BATCH, epochs=3, verbose=0)
        assert np.isfinite(model.parameters).all()


def test_interruption_leaves_whole_steps() -> None:
    x, y = data()
    model, twin = network("cuda"), network("cuda")
    graph_run = SimulatedDevice.read
    calls = iter(range(1000))

    def interrupted(self: Any, address: int, array: Any) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        graph_run(self, address, array)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedDevice, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y, batch_size=BATCH, epochs=5, verbose=0)
    steps = int(model.state[s.STEP])
    assert steps % 3 == 0
    twin.fit(x, y, batch_size=BATCH, epochs=steps // 3, verbose=0)
    assert model.parameters.tobytes() == twin.parameters.tobytes()


# Where there is no GPU


def test_without_a_gpu_auto_is_the_cpu() -> None:
    assert network("auto").device == "cpu"  # the simulator is no GPU


def test_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match=r"device must be one of .*'gpu'"):
        network("gpu")


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ({}, r"numba-cuda is not installed: pip install \"fastnn\[cuda\]\""),
        ({"numba-cuda": "0.21.1"}, "numba-cuda 0.21.1 is installed, 0.30 or newer is needed"),
        ({"numba-cuda": "0.30.4"}, "cuda-bindings is not installed"),
        (
            {"numba-cuda": "0.30.4", "cuda-bindings": "12.9.1"},
            "cuda-bindings 12.9.1 is installed, 13 or newer is needed",
        ),
    ],
)
def test_missing_packages_are_named_with_their_cure(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], said: str
) -> None:
    def version(package: str) -> str:
        if package not in installed:
            raise opening.importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(opening.importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=said):
        network("cuda")
    assert network("auto").device == "cpu"


@pytest.mark.parametrize("library", ["nvvm", "nvJitLink"])
def test_a_missing_compiler_is_named_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    from cuda import pathfinder

    def load(name: str) -> None:
        if name == library:
            raise pathfinder.DynamicLibNotFoundError(name)

    assert opening.missing_compiler() is None
    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", load)
    assert opening.missing_compiler() == (
        f'the CUDA toolkit\'s {library} is not installed: pip install "fastnn[cuda]"'
    )


def test_without_a_driver_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "0")
    if opening.problem() is None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(
        RuntimeError, match=r"^device='cuda': .*driver.*; device='cpu' runs anywhere"
    ):
        network("cuda")
    assert network("auto").device == "cpu"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_do_the_activations_that_follow_them(dtype: str) -> None:
    x, y = data()

    def trained(device: str) -> fastnn.Sequential:
        inside: list[fastnn.Layer] = []
        for activation in ("tanh", fastnn.LeakyReLU(0.3), "elu"):
            inside.append(fastnn.Dense(5))
            is_name = isinstance(activation, str)
            inside.append(fastnn.Activation(activation) if is_name else activation)
        model = network(device, *inside, dtype=dtype)
        model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
        return model

    cpu, gpu = trained("cpu"), trained("cuda")
    (program,) = [kept.program for key, kept in gpu._programs.items() if key[0] == "cuda"]
    names = {call.signature.name for call in program.calls}
    assert not {name for name in names if name.startswith(("tanh", "leaky_relu", "elu"))}
    assert_alike(cpu, gpu, rtol=1e-5 if dtype == "float32" else 1e-12)
