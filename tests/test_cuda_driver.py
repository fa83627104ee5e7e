"""The driver of NVIDIA's GPUs, which a stand-in takes the place of: memory, order, graphs, errors.

The stand-in holds calls to the driver's rules; see `fake_driver`.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import fastnn
from fake_driver import NAME, PROCESSORS, FakeDriver, Result, compiled
from fastnn.engine import compiler
from fastnn.engine.cuda import blas, driver, many_steps, opening
from fastnn.engine.cuda.blas import Library
from fastnn.engine.cuda.device import CudaError, Launched
from fastnn.engine.cuda.driver import CudaDevice
from fastnn.engine.operands import Call
from fastnn.kernels import state as s
from fastnn.kernels.cuda.launch import Launch
from fastnn.kernels.cuda.slots import STATE_SLOTS

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

LOST = Result.CUDA_ERROR_LAUNCH_FAILED


def put_in_place(fake: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    monkeypatch.setattr(driver, "driver", fake)
    monkeypatch.setattr("cuda.bindings.driver", fake)
    monkeypatch.setattr(compiler, "compiled", compiled)
    monkeypatch.setattr(opening, "simulated", lambda: False)
    return fake


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    opening._opened.cache_clear()
    yield put_in_place(FakeDriver(), monkeypatch)
    opening._opened.cache_clear()
    gc.collect()  # what is given back is given back to the stand-in


@pytest.fixture
def device(fake: FakeDriver) -> Iterator[CudaDevice]:
    device = CudaDevice()
    yield device
    vars(device).pop("library", None)  # whose memory would be there as long as the device


def steps_of(device: CudaDevice, memory: Any, count: int = 1) -> list[Launched]:
    """Launches that count so many steps of a row each."""
    state = np.zeros(STATE_SLOTS, np.int64)
    state[[s.ROWS, s.BATCH, s.TOTAL]] = 1, 1, 1000
    device.write(memory.address, state)
    return [Launched(("next_step",), Launch((1, 1), 1), [memory.address])] * count


def steps_done(device: CudaDevice, memory: Any) -> int:
    state = np.empty(STATE_SLOTS, np.int64)
    device.read(memory.address, state)
    return int(state[s.STEP])


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(22, 5)).astype(np.float32), rng.integers(0, 3, 22)


def network(device: str) -> fastnn.Sequential:
    layers = [fastnn.Dense(6, activation="relu"), fastnn.Dense(3, activation="softmax")]
    model = fastnn.Sequential(layers, input_shape=(5,), seed=3, device=device)
    model.compile(optimizer=fastnn.Adam(0.01), loss="categorical_crossentropy")
    return model


# Memory and copies


def test_copies_there_and_back(device: CudaDevice) -> None:
    memory = device.allocate(40)
    sent, received = np.arange(10, dtype=np.float32), np.empty(10, np.float32)
    device.write(memory.address, sent)
    expected = sent.copy()
    sent[:] = -1.0
    device.read(memory.address, received)
    np.testing.assert_array_equal(received, expected)


def test_what_was_written_from_pinned_memory_may_be_changed(device: CudaDevice) -> None:
    memory, pinned, found = device.allocate(8), device.pinned(8), np.empty(8, np.uint8)
    pinned[:] = 1
    device.write(memory.address, pinned)
    pinned[:] = 2
    device.read(memory.address, found)
    np.testing.assert_array_equal(found, np.ones(8, np.uint8))


def test_the_threads_own_context_is_left_current(fake: FakeDriver) -> None:
    others = 7
    fake.cuInit(0)
    fake.cuCtxPushCurrent(others)
    device = CudaDevice()
    device.wait_for(device.stream_number)
    fake.failing["cuMemAlloc"] = Result.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(CudaError):
        device.allocate(8)
    assert fake.contexts == [others]


def test_a_graph_that_another_captures_does_not_end_the_context(
    device: CudaDevice, fake: FakeDriver
) -> None:
    for function in ("cuMemAlloc", "cuStreamQuery"):
        fake.failing[function] = Result.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    with pytest.raises(CudaError, match="CAPTURE"):
        device.allocate(8)
    assert not device.lost
    assert device.allocate(8).size == 8


def test_memory_is_given_back(device: CudaDevice, fake: FakeDriver) -> None:
    free, total = device.memory()
    memory = device.allocate(1000)
    assert memory.address % 256 == 0
    assert device.memory() == (free - 1000, total)
    pinned = device.pinned(100)
    assert len(fake.pinned) == 1
    del memory, pinned
    gc.collect()
    assert device.memory() == (free, total)
    assert not fake.pinned


def test_too_much_memory_says_how_much_there_is(device: CudaDevice) -> None:
    message = rf"{NAME}: 20,000,000 bytes .* needed, 16,777,216 of 16,777,216 are free"
    with pytest.raises(MemoryError, match=message):
        device.allocate(20_000_000)
    assert not device.lost
    device.allocate(1000)


def test_rows_beside_wait_for_nothing_in_order(device: CudaDevice, fake: FakeDriver) -> None:
    memory, steps, staged = device.allocate(8), device.allocate(8 * STATE_SLOTS), device.pinned(8)
    staged[:] = 7
    graph = device.prepare(steps_of(device, steps))
    graph.run()
    begun = len(fake.streams[int(device.stream)])
    device.write_beside(memory.address, staged)
    assert len(fake.streams[int(device.stream)]) == begun > 0
    received = np.empty(8, np.uint8)
    device.read(memory.address, received)
    np.testing.assert_array_equal(received, staged)


# Graphs


def test_a_graph_runs_in_order_any_number_of_times(device: CudaDevice, fake: FakeDriver) -> None:
    memory = device.allocate(8 * STATE_SLOTS)
    graph = device.prepare(steps_of(device, memory, 3))
    assert steps_done(device, memory) == 0, "capturing is not running"
    graph.run(2)
    assert steps_done(device, memory) == 6
    assert not fake.graphs
    assert len(fake.modules) == 1
    del graph
    gc.collect()
    assert not fake.executables


def test_what_others_begin_is_no_part_of_a_graph(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, other = device.allocate(8 * STATE_SLOTS), device.allocate(4)
    launches, begin = steps_of(device, steps, 2), device._begin
    device.wait()

    def meanwhile(*arguments: Any) -> None:
        writer = threading.Thread(target=device.write, args=(other.address, np.ones(1, np.int32)))
        writer.start()
        writer.join()
        begin(*arguments)

    monkeypatch.setattr(device, "_begin", meanwhile)
    graph = device.prepare(launches)
    device.write(other.address, np.zeros(1, np.int32))
    graph.run()
    received = np.empty(1, np.int32)
    device.read(other.address, received)
    assert received[0] == 0
    assert steps_done(device, steps) == 2


def test_kernels_are_loaded_once(device: CudaDevice, fake: FakeDriver) -> None:
    memory = device.allocate(8 * STATE_SLOTS)
    for _ in range(3):
        device.prepare(steps_of(device, memory))
    assert fake.calls.count("cuModuleLoadData") == 1


def test_blocks_that_cannot_all_run_at_once_are_refused(
    device: CudaDevice, fake: FakeDriver
) -> None:
    memory = device.allocate(8 * STATE_SLOTS)
    (one,) = steps_of(device, memory)

    def waiting(blocks: int) -> Launched:
        return one._replace(launch=Launch((blocks, 1), 1, at_once=True))

    assert device.grid == (PROCESSORS, 256)
    said = f"{NAME}: {PROCESSORS + 1} blocks are to run at once, {PROCESSORS} can"
    with pytest.raises(CudaError, match=said):
        device.prepare([waiting(PROCESSORS + 1)])
    assert "cuLaunchKernelEx" not in fake.calls
    device.prepare([waiting(PROCESSORS)])
    assert not device.lost


def test_products_of_a_library_are_captured_like_kernels(
    device: CudaDevice, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nvmath", reason="nvmath-python is not installed")
    from fake_cublaslt import FakeCublasLt

    monkeypatch.setattr(blas, "WORKSPACE_BYTES", 1 << 20)
    library = Library(device, FakeCublasLt(fake.begin_in))
    vars(device)["library"] = library
    rng = np.random.default_rng(0)
    arrays = {"y": (256, 264), "x": (256, 272), "w": (272, 264)}
    host = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    memory = {id(array): device.allocate(array.nbytes) for array in host.values()}
    for array in host.values():
        device.write(memory[id(array)].address, array)
    product = blas.product_of(
        Call("dense_forward", {**host, "b": None, "relu": 0}),
        256,
        lambda array: memory[id(array)].address,
    )
    assert product is not None
    assert library.supports(product)
    steps = device.allocate(8 * STATE_SLOTS)
    graph = device.prepare([product, *steps_of(device, steps)])
    y, expected = host["y"].copy(), host["x"] @ host["w"]
    for runs in (1, 2):
        device.write(memory[id(host["y"])].address, host["y"])
        device.read(memory[id(host["y"])].address, y)
        np.testing.assert_array_equal(y, host["y"])
        graph.run()
        device.read(memory[id(host["y"])].address, y)
        np.testing.assert_array_equal(y, expected)
        assert steps_done(device, steps) == runs


# Models


def test_training_is_that_of_the_cpu(fake: FakeDriver) -> None:
    x, y = data()
    models = [network(name) for name in ("cpu", "cuda")]
    for model in models:
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    predictions = [model.predict(x) for model in models]
    np.testing.assert_allclose(*predictions, rtol=1e-5, atol=1e-6)


def test_blocks_that_wait_for_each_other_train_as_the_cpu(
    fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_steps, "ONE_BLOCK", many_steps.ONE_BLOCK._replace(rows=0))
    x, y = data()
    models = [network(device) for device in ("cpu", "cuda")]
    for model in models:
        model.fit(x, y, batch_size=22, verbose=0)
    assert fake.calls.count("cuLaunchKernelEx") == 1
    assert "cuLaunchKernel" not in fake.calls
    np.testing.assert_allclose(*(m.parameters for m in models), rtol=1e-5, atol=1e-6)


def test_rows_that_do_not_fit_go_by_way_of_pinned_memory(
    fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastnn.engine.cuda import feeding
    from fastnn.training import on_cuda

    x, y = (array[:9] for array in data())
    resident, streamed = network("cuda"), network("cuda")
    resident.fit(x, y, batch_size=4, epochs=1, verbose=0)
    monkeypatch.setattr(on_cuda, "RESIDENT_SHARE", 0.0)
    monkeypatch.setattr(feeding, "CHUNK_BYTES", 8 * (20 + 4))
    streamed.fit(x, y, batch_size=4, epochs=1, verbose=0)
    assert "cuMemHostAlloc" in fake.calls
    assert streamed.parameters.tobytes() == resident.parameters.tobytes()


def test_any_thread_may_predict(fake: FakeDriver) -> None:
    x, _ = data()
    model = network("cuda")
    expected = model.predict(x)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(model.predict, [x] * 4):
            np.testing.assert_array_equal(found, expected)


class OnGpu:
    """Rows that another library has on the GPU, still being written in a stream of its own."""

    def __init__(self, fake: FakeDriver, array: Any) -> None:
        self.fake = fake
        fake.cuCtxPushCurrent(1)
        _, self.memory = fake.cuMemAlloc(array.nbytes)
        _, self.stream = fake.cuStreamCreate(1)
        fake.cuMemcpyHtoDAsync(self.memory, array.ctypes.data, array.nbytes, self.stream)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (int(self.memory), False),
            "stream": int(self.stream),
            "version": 3,
        }


def test_rows_on_the_gpu_are_read_there_once_they_are_written(fake: FakeDriver) -> None:
    x, _ = data()
    model = network("cuda")
    expected = model.predict(x)
    rows = OnGpu(fake, x)
    found = model.predict(rows)
    assert found.__dlpack_device__() == (2, 0)
    np.testing.assert_array_equal(found.copy_to_host(), expected)
    fake.cuMemFree(rows.memory)
    with pytest.raises(ValueError, match=f"x lies on another GPU than {NAME}"):
        model.predict(rows)


# Errors

CALLED = (
    "cuCtxPushCurrent",
    "cuMemcpyHtoDAsync",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuStreamBeginCapture",
    "cuLaunchKernel",
    "cuGraphInstantiate",
    "cuGraphDestroy",
    "cuGraphLaunch",
    "cuMemcpyDtoHAsync",
    "cuStreamSynchronize",
)


@pytest.mark.parametrize("name", CALLED)
def test_what_is_refused_is_named_and_can_be_tried_again(
    device: CudaDevice, fake: FakeDriver, name: str
) -> None:
    memory = device.allocate(8 * STATE_SLOTS)

    def use() -> int:
        device.prepare(steps_of(device, memory, 2)).run()
        return steps_done(device, memory)

    fake.failing[name] = Result.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(CudaError, match=rf"^{name}: CUDA_ERROR_INVALID_VALUE \(.*\)$"):
        use()
    assert not device.lost
    assert not fake.capturing
    assert use() == 2


def test_a_block_may_have_all_of_a_processors_shared_memory(device: CudaDevice) -> None:
    memory = device.allocate(8 * STATE_SLOTS)
    (one,) = steps_of(device, memory)
    for size in (1, 48 << 10, device.most_shared):
        device.prepare([one._replace(launch=one.launch._replace(shared=size))]).run()
    assert steps_done(device, memory) == 3
    with pytest.raises(CudaError, match="cuFuncSetAttribute"):
        device.prepare([one._replace(launch=one.launch._replace(shared=device.most_shared + 1))])


def test_no_memory_for_a_graph_is_a_lack_of_memory(device: CudaDevice, fake: FakeDriver) -> None:
    fake.failing["cuGraphInstantiate"] = Result.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(MemoryError, match="cuGraphInstantiate: not enough device memory"):
        device.prepare(steps_of(device, device.allocate(8 * STATE_SLOTS)))


def test_a_lost_gpu_leaves_the_model_as_it_was_copied_last(fake: FakeDriver) -> None:
    x, y = data()
    model, twin = network("cuda"), network("cpu")
    for each in (model, twin):
        each.fit(x, y, batch_size=8, epochs=1, verbose=0)
    kept = model.get_weights()
    fake.failing["kernel"] = LOST
    message = rf"CUDA_ERROR_LAUNCH_FAILED.*{NAME} is lost to this process.*to\('cpu'\)"
    with pytest.raises(CudaError, match=message):
        model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    for before, after in zip(kept, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.state[s.STEP] == 3
    with pytest.raises(CudaError, match="lost"):
        model.predict(x)
    with pytest.raises(RuntimeError, match=r"lost to this process.*a new process"):
        network("cuda")
    model.to("cpu")
    twin.epochs_done = model.epochs_done
    for each in (model, twin):
        each.fit(x, y, batch_size=8, epochs=1, verbose=0)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_lost_gpu_after_an_epoch_that_was_seen_loses_no_epoch(fake: FakeDriver) -> None:
    x, y = data()
    seen: list[Any] = []

    class Loses(fastnn.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            seen.append(self.model.get_weights())
            if epoch == 1:
                fake.failing["kernel"] = LOST

    model = network("cuda")
    with pytest.raises(CudaError, match="lost"):
        model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[Loses()])
    for a, b in zip(model.get_weights(), seen[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.state[s.STEP] == 6


def test_a_forked_process_is_told_of_the_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forked = FakeDriver()
    forked.failing["cuInit"] = Result.CUDA_ERROR_NOT_INITIALIZED
    put_in_place(forked, monkeypatch)
    with pytest.raises(RuntimeError, match=r"forked .* by 'spawn'"):
        network("cuda")


@pytest.mark.parametrize(
    ("fake_gpu", "said"),
    [
        (FakeDriver(gpus=0), r"no usable GPU \(CUDA_ERROR_NO_DEVICE\)"),
        (FakeDriver(version=12_080), r"is for CUDA 12\.8, CUDA 13 is needed"),
        (FakeDriver(capability=(7, 5)), r"of compute capability 7\.5, 8\.0 is needed"),
    ],
)
def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, fake_gpu: FakeDriver, said: str
) -> None:
    put_in_place(fake_gpu, monkeypatch)
    with pytest.raises(RuntimeError, match=said):
        network("cuda")
    assert network("auto").device == "cpu"
