"""On a real GPU, ``pytest -m gpu``: what the simulator and the compiler cannot prove."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn.engine.cuda import opening

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        opening.simulated() or opening.problem() is not None, reason="there is no NVIDIA GPU"
    ),
]

SIZES = (
    {"N": 1, "F": 1, "I": 1, "O": 1, "C": 2, "P": 1},
    {"N": 33, "F": 65, "I": 61, "O": 67, "C": 10, "P": 4099},
    {"N": 300, "F": 512, "I": 784, "O": 256, "C": 1000, "P": 100_003},
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every op that has a kernel, where there is a GPU: kernels are imported for it."""
    if "name" in metafunc.fixturenames:
        from fastnn.kernels.cuda.adapter import has_kernel
        from kernel_cases import CASES

        metafunc.parametrize("name", [name for name in CASES if has_kernel(name)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES)
def test_op_is_the_oracle(name: str, dtype: str, sizes: dict[str, int]) -> None:
    import cuda_cases
    from kernel_cases import CASES, Draw

    for shift in (0, 1):
        example = CASES[name](Draw(name, dtype, 1, dict(sizes)))
        cuda_cases.check(opening.open_device(), example, shift=shift)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize(
    "product", ["dense_forward", "dense_backward_input", "dense_backward_kernel"]
)
@pytest.mark.parametrize("sizes", [*SIZES, {"N": 1600, "I": 1500, "O": 1400}])
def test_products_are_as_exact_as_their_precision(
    product: str, precision: str, sizes: dict[str, int]
) -> None:
    import cuda_cases
    from kernel_cases import CASES, Draw

    for shift in (0, 1):
        example = CASES[product](Draw(product, "float32", 1, dict(sizes)))
        cuda_cases.check(opening.open_device(), example, precision=precision, shift=shift)


def trained(
    device: str, *inside: fastnn.Layer, epochs: int = 3, units: int = 64
) -> fastnn.Sequential:
    (x, y), _ = fastnn.datasets.load("digits")
    layers = [
        fastnn.Dense(units, activation="relu"),
        *inside,
        fastnn.Dense(10, activation="softmax"),
    ]
    model = fastnn.Sequential(layers, input_shape=x.shape[1:], seed=0, device=device)
    model.compile(fastnn.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_training_follows_the_cpu(rate: float) -> None:
    inside = [[fastnn.Dropout(rate)] if rate else [] for _ in range(2)]
    cpu, gpu = (trained(d, *own) for d, own in zip(("cpu", "cuda"), inside, strict=True))
    np.testing.assert_allclose(gpu.parameters, cpu.parameters, rtol=1e-3, atol=1e-4)


def test_blocks_that_wait_for_each_other_train_as_the_cpu() -> None:
    cpu, gpu, again = (trained(device, units=200) for device in ("cpu", "cuda", "cuda"))
    np.testing.assert_allclose(gpu.parameters, cpu.parameters, rtol=1e-3, atol=1e-4)
    assert gpu.parameters.tobytes() == again.parameters.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["dense_forward", "dense_backward_input", "dense_backward_kernel"])
def test_wide_product_of_the_library_is_the_oracle(op: str, dtype: str) -> None:
    import cuda_cases
    from kernel_cases import CASES, Draw

    device = opening.open_device()
    if device.library is None:
        pytest.skip("nvmath-python or cuBLASLt is not installed")
    for seed in range(4):
        example = CASES[op](Draw(op, dtype, seed, {**SIZES[2], "N": 320}))
        cuda_cases.check(device, example, by_library=True)


def test_arrays_of_pytorch_go_in_and_out() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    (x, y), _ = fastnn.datasets.load("digits")
    rows, labels = (torch.tensor(array, device="cuda") for array in (x, y))
    given, host = trained("cuda"), trained("cuda")
    given.fit(rows, labels, batch_size=32, verbose=0)
    host.fit(x, y, batch_size=32, verbose=0)
    assert given.parameters.tobytes() == host.parameters.tobytes()
    found = given.predict(rows)
    tensor = torch.from_dlpack(found)
    assert tensor.data_ptr() == found.address
    np.testing.assert_array_equal(tensor.cpu().numpy(), host.predict(x))


def test_same_seed_same_bits() -> None:
    one, other = trained("cuda", fastnn.Dropout(0.2)), trained("cuda", fastnn.Dropout(0.2))
    assert one.parameters.tobytes() == other.parameters.tobytes()


def test_accuracy_is_the_cpus() -> None:
    _, (x, y) = fastnn.datasets.load("digits")
    cpu, gpu = (trained(device, epochs=20).evaluate(x, y)["accuracy"] for device in ("cpu", "cuda"))
    assert abs(cpu - gpu) < 0.01
