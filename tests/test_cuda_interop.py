"""Arrays of a GPU's memory into models and out of them without a copy.

In the simulator device memory is that of the process: what describes a NumPy array as another
library describes an array on a GPU takes the whole way of such arrays, and NumPy and PyTorch can
look into ours.
"""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
pytest.importorskip("greenlet", reason="greenlet is not installed")

import fastnn
from fastnn.engine.cuda import dlpack
from fastnn.engine.cuda.arrays import DeviceArray, taken
from fastnn.engine.cuda.simulated import SimulatedDevice
from fastnn.engine.devices import new_mirror

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="the simulator is off: run without -m gpu"
)

FEATURES, CLASSES = 5, 3


class ByInterface:
    """An array on a GPU as CuPy and Numba describe it."""

    def __init__(self, array: Any, **others: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": 3,
            **others,
        }


class ByDlpack:
    """An array on a GPU as PyTorch hands it over."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, 0

    def __dlpack__(self) -> Any:
        return self.array.__dlpack__()


DESCRIBED = (ByInterface, ByDlpack)


def data(dtype: str = "float32", rows: int = 11) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, FEATURES)).astype(dtype), rng.integers(0, CLASSES, rows)


def network(device: str = "cuda", loss: str = "categorical_crossentropy") -> fastnn.Sequential:
    layers = [fastnn.Dense(4, activation="relu"), fastnn.Dense(CLASSES)]
    model = fastnn.Sequential(layers, input_shape=(FEATURES,), seed=3, device=device)
    model.compile(optimizer=fastnn.SGD(0.1), loss=loss)
    return model


@pytest.fixture
def device() -> SimulatedDevice:
    return SimulatedDevice()


def device_array(device: SimulatedDevice, array: Any) -> DeviceArray:
    made = DeviceArray.empty(device, array.shape, array.dtype)
    device.write(made.address, np.ascontiguousarray(array))
    return made


# Models


@pytest.mark.parametrize("described", DESCRIBED)
def test_predictions_lie_where_the_rows_do(described: Any) -> None:
    x, _ = data()
    model = network()
    found = model.predict(described(x), batch_size=8)
    assert isinstance(found, DeviceArray)
    assert (found.shape, found.dtype) == ((11, CLASSES), np.float32)
    expected = model.predict(x, batch_size=8)
    assert isinstance(expected, np.ndarray)
    np.testing.assert_array_equal(found.copy_to_host(), expected)
    again = fastnn.Sequential(
        [fastnn.Activation("tanh")], input_shape=(CLASSES,), device="cuda"
    ).predict(found)
    np.testing.assert_allclose(again, np.tanh(expected), rtol=1e-6)


@pytest.mark.parametrize("described", DESCRIBED)
def test_rows_are_read_where_they_lie(described: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = data()
    addresses: list[int] = []
    write = SimulatedDevice.write

    def watched(self: Any, address: int, array: Any) -> None:
        addresses.append(array.ctypes.data)
        write(self, address, array)

    monkeypatch.setattr(SimulatedDevice, "write", watched)
    model = network()
    model.predict(x)
    assert x.ctypes.data in addresses
    addresses.clear()
    model.predict(described(x))
    assert x.ctypes.data not in addresses


@pytest.mark.parametrize("described", DESCRIBED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_is_that_on_arrays_of_the_host(described: Any, dtype: str) -> None:
    x, y = data(dtype)
    weights = np.linspace(0.5, 1.5, len(x))
    given, host = network(), network()
    given.fit(
        described(x),
        described(y),
        sample_weight=described(weights),
        validation_split=0.2,
        batch_size=4,
        verbose=0,
    )
    host.fit(x, y, sample_weight=weights, validation_split=0.2, batch_size=4, verbose=0)
    assert given.parameters.tobytes() == host.parameters.tobytes()
    assert given.evaluate(described(x), described(y)) == host.evaluate(x, y)
    assert given.train_on_batch(described(x), described(y)) == host.train_on_batch(x, y)
    assert given.parameters.tobytes() == host.parameters.tobytes()


def test_plain_numbers_are_targets_where_they_lie() -> None:
    x, _ = data()
    targets = np.random.default_rng(1).normal(size=(len(x), CLASSES)).astype(np.float32)
    given, host = network(loss="mse"), network(loss="mse")
    sources = given._check_data(ByInterface(x), ByInterface(targets), None, None)
    assert sources.targets.address == targets.ctypes.data
    given.fit(ByInterface(x), ByInterface(targets), batch_size=4, verbose=0)
    host.fit(x, targets, batch_size=4, verbose=0)
    assert given.parameters.tobytes() == host.parameters.tobytes()


def test_rows_at_any_address_are_taken() -> None:
    x, _ = data(rows=12)
    block = np.empty(x.size + 1, np.float32)
    shifted = block[1:].reshape(x.shape)
    shifted[...] = x
    model = network()
    np.testing.assert_array_equal(
        model.predict(ByInterface(shifted)).copy_to_host(), model.predict(x)
    )


def test_places_that_come_back_need_no_new_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    prepare = SimulatedDevice.prepare

    def watched(self: Any, launches: Any, report: Any = None) -> Any:
        prepared.append(len(launches))
        return prepare(self, launches, report)

    monkeypatch.setattr(SimulatedDevice, "prepare", watched)
    x, y = data(rows=4)
    given, host = network(), network()
    for batch in (x, x.copy()) * 2:
        assert given.train_on_batch(ByInterface(batch), y) == host.train_on_batch(batch, y)
    assert len(prepared) == 2 + 1


# What is refused


@pytest.mark.parametrize("described", DESCRIBED)
def test_a_model_on_the_cpu_refuses_them(described: Any) -> None:
    x, y = (described(array) for array in data())
    model = network("cpu")
    for call in (lambda: model.predict(x), lambda: model.fit(x, y, verbose=0)):
        with pytest.raises(TypeError, match=r"x lies on a GPU, and the model computes on the CPU"):
            call()


def test_labels_are_looked_at() -> None:
    x, y = data()
    with pytest.raises(ValueError, match="labels from 0 to 2, got 3"):
        network().fit(ByInterface(x), ByInterface(y + 1), verbose=0)


@pytest.mark.parametrize(
    ("x", "error", "said"),
    [
        (data("float32")[0].astype("int64"), TypeError, r"x must be one of .* got int64"),
        (data()[0][:, :3], ValueError, r"C-contiguous .* strides of \(20, 4\) bytes"),
        (data()[0][:0], ValueError, r"x is empty"),
        (np.ones((4, 3), "float32"), ValueError, r"rows of shape \(5,\), got \(3,\)"),
        (np.ones(5, "float32"), ValueError, r"x must be \(N, ...\)"),
    ],
)
def test_rows_that_cannot_be_taken(x: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        network().predict(ByInterface(x))


def test_another_gpus_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedDevice, "holds", lambda self, address: False)
    with pytest.raises(ValueError, match="x lies on another GPU than simulator"):
        network().predict(ByInterface(data()[0]))


def test_masks_are_refused() -> None:
    x, _ = data()
    with pytest.raises(TypeError, match="masks"):
        network().predict(ByInterface(x, mask=ByInterface(x)))


def test_a_layer_in_python_refuses_them() -> None:
    class Doubled(fastnn.Layer):
        def forward(self, x: Any, training: bool = False) -> Any:
            return 2 * x

    model = fastnn.Sequential([Doubled()], input_shape=(FEATURES,), device="cuda")
    with pytest.raises(TypeError, match=r"doubled_0.*only in Python"):
        model.predict(ByInterface(data()[0]))


@pytest.mark.parametrize(
    ("described", "waited"),
    [({"stream": 7}, [7]), ({"stream": None}, []), ({}, []), ({"version": 2}, [1])],
)
def test_what_is_under_way_is_waited_for(
    device: SimulatedDevice,
    monkeypatch: pytest.MonkeyPatch,
    described: dict[str, Any],
    waited: list[int],
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(SimulatedDevice, "wait_for", lambda self, stream: seen.append(stream))
    taken(ByInterface(data()[0], **described), "x", device)
    assert seen == waited


# Our arrays


def test_an_array_describes_itself(device: SimulatedDevice) -> None:
    x, _ = data("float64")
    array = device_array(device, x)
    assert repr(array) == "DeviceArray(shape=(11, 5), dtype=float64, device='simulator')"
    assert (len(array), array.ndim, array.size, array.nbytes) == (11, 2, 55, 440)
    assert array.address % 256 == 0
    interface = array.__cuda_array_interface__
    assert interface["data"] == (array.address, False)
    assert (interface["shape"], interface["typestr"], interface["version"]) == (x.shape, "<f8", 3)
    np.testing.assert_array_equal(np.asarray(array, np.float32), x.astype(np.float32))
    np.testing.assert_array_equal(array[2:7].copy_to_host(), x[2:7])
    assert array[9:3].shape == (0, FEATURES)
    with pytest.raises(IndexError, match="neighbouring rows"):
        array[::2]


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int32", "int64", "uint8", "float16", "float32", "float64"]
)
def test_numpy_takes_it_without_a_copy(device: SimulatedDevice, dtype: str) -> None:
    x = np.arange(12).reshape(3, 4).astype(dtype)
    array = device_array(device, x)
    seen = np.from_dlpack(array)
    assert seen.ctypes.data == array.address
    assert seen.dtype == x.dtype
    np.testing.assert_array_equal(seen, x)
    np.testing.assert_array_equal(np.from_dlpack(array[1:]), x[1:])


def test_what_is_lent_stays_alive_and_no_longer(device: SimulatedDevice) -> None:
    free = device.memory()[0]
    array = device_array(device, data()[0])
    alive = weakref.ref(array)
    seen = np.from_dlpack(array)
    del array
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(seen, data()[0])
    del seen
    gc.collect()
    assert alive() is None
    assert device.memory()[0] == free
    assert not dlpack._lent


def test_a_capsule_that_nobody_takes_gives_back(device: SimulatedDevice) -> None:
    capsule = device_array(device, data()[0]).__dlpack__()
    assert dlpack._lent
    del capsule
    gc.collect()
    assert not dlpack._lent


def test_only_what_lies_there_is_lent(device: SimulatedDevice) -> None:
    array = device_array(device, data()[0])
    for wish in ({"copy": True}, {"dl_device": (dlpack.CUDA, 3)}):
        with pytest.raises(BufferError, match="without a copy"):
            array.__dlpack__(**wish)


# DLPack with PyTorch


def test_arrays_to_pytorch_and_back(device: SimulatedDevice) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, _ = data()
    array = device_array(device, x)
    tensor = torch.from_dlpack(array)
    assert tensor.data_ptr() == array.address
    back = taken(tensor, "x", device)
    assert back.address == array.address
    del array, tensor
    gc.collect()
    np.testing.assert_array_equal(back.copy_to_host(), x)
    del back
    gc.collect()
    assert not dlpack._lent
    with pytest.raises(ValueError, match="C-contiguous"):
        taken(torch.ones(3, 4).T, "x", device)
    single = taken(torch.ones(4, 1).T, "x", device)  # strides of one row say nothing
    assert single.shape == (1, 4)
    with pytest.raises(TypeError, match="NumPy has no element type"):
        taken(torch.ones(3, dtype=torch.bfloat16), "x", device)


def test_a_capsule_is_taken_once(device: SimulatedDevice) -> None:
    capsule = np.ones(3).__dlpack__()
    borrowed = dlpack.borrow(capsule)
    assert (borrowed.shape, borrowed.dtype) == ((3,), np.float64)
    with pytest.raises(BufferError, match="once"):
        dlpack.borrow(capsule)


def test_the_mirrors_device_is_what_arrays_are_held_against() -> None:
    mirror, (x, _) = new_mirror(), data()
    first = taken(ByInterface(x), "x", mirror.device)
    assert taken(first, "x", mirror.device) is first
