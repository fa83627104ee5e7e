"""Ways to serve a trained network: functions that compute its probabilities for a batch.

``SERVERS[name].make(row, x)`` gives a function of a number: it computes the probabilities of all
rows of x so many times and returns the last. What can be done once is done before: sessions are
made, graphs compiled, data are where the library wants them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.grid import make_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.grid import Row

Serve = Callable[[int], Any]

SMALL_BATCH = 64
"""Up to so many rows Inductor is let to try templates of its own for matrix products.

In trials on T2 and T6 they took half the time of its library's at 1 row, and were not chosen, or
lost, at 1024.
"""


@dataclass(frozen=True)
class Server:
    """What must be importable, whose versions are reported, and the function that makes it."""

    modules: tuple[str, ...]
    packages: tuple[str, ...]
    make: Callable[[Row, NDArray[Any]], Serve | None]

    def installed(self) -> bool:
        """Whether the modules can be imported (they are not imported to find out)."""
        return all(importlib.util.find_spec(module) is not None for module in self.modules)


def _again(action: Callable[[], Any]) -> Serve:
    """`action` so many times."""

    def serve(times: int) -> Any:
        for _ in range(times - 1):
            action()
        return action()

    return serve


def with_fastnn(row: Row, x: NDArray[Any]) -> Serve:
    """`predict`, with all its checks."""
    from benchmarks.peers.own import make_model

    predict = make_model(row, x.dtype.name).predict
    return _again(lambda: predict(x))


def with_fastnn_compiled(row: Row, x: NDArray[Any]) -> Serve:
    """The function with the least overhead."""
    from benchmarks.peers.own import make_model

    model = make_model(row, x.dtype.name)
    predict = model.compiled_predict(len(x))
    return _again(lambda: predict(x))


def _torch_net(row: Row) -> Any:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    layers: list[Any] = []
    for inputs, outputs in zip(row.sizes[:-1], row.sizes[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    net = nn.Sequential(*layers[:-1], nn.Softmax(dim=1)).eval()
    with torch.no_grad():
        for own, weight in zip(net.parameters(), make_weights(row), strict=True):
            own.copy_(torch.from_numpy(weight.T))
    return net


def _inference(serve: Serve) -> Serve:
    """`serve` with PyTorch's inference mode entered once for all its calls."""
    import torch

    def serving(times: int) -> Any:
        with torch.inference_mode():
            return serve(times)

    return serving


def with_torch(row: Row, x: NDArray[Any]) -> Serve:
    """PyTorch, eager, in inference mode, entered once."""
    import torch

    serve, batch = _torch_net(row), torch.from_numpy(x)
    return _inference(_again(lambda: serve(batch)))


def with_torch_compiled(row: Row, x: NDArray[Any]) -> Serve:
    """PyTorch, compiled with its weights frozen, for this very batch size."""
    import torch
    from torch._inductor import config, select_algorithm

    select_algorithm.PRINT_AUTOTUNE = False
    mode = "max-autotune-no-cudagraphs" if len(x) <= SMALL_BATCH else "default"
    torch.compiler.reset()
    with (
        config.patch(freezing=True, max_autotune_report_choices_stats=False),
        torch.inference_mode(),
    ):
        serve = torch.compile(_torch_net(row), mode=mode, dynamic=False)
        batch = torch.from_numpy(x)
        serve(batch)  # compiles
    return _inference(_again(lambda: serve(batch)))


def with_jax(row: Row, x: NDArray[Any]) -> Serve:
    """JAX, compiled with its weights as constants, waiting for each result."""
    import jax
    import jax.numpy as jnp

    weights = [jnp.asarray(weight) for weight in make_weights(row)]

    def forward(x: Any) -> Any:
        for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            x = jax.nn.relu(x @ kernel + bias)
        return jax.nn.softmax(x @ weights[-2] + weights[-1])

    serve, batch = jax.jit(forward), jnp.asarray(x)
    return _again(lambda: serve(batch).block_until_ready())


def onnx_model(row: Row) -> bytes:
    """The network in ONNX, its weights as initialisers, for batches of any size."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, initialisers, here = [], [], "x"
    last = len(row.sizes) - 2
    weights = make_weights(row)
    for layer, (kernel, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        names = f"kernel_{layer}", f"bias_{layer}"
        for name, array in zip(names, (kernel, bias), strict=True):
            initialisers.append(numpy_helper.from_array(array, name))
        nodes.append(helper.make_node("Gemm", [here, *names], [f"z_{layer}"]))
        here = "y" if layer == last else f"a_{layer}"
        activation = helper.make_node(
            "Softmax" if layer == last else "Relu", [f"z_{layer}"], [here]
        )
        nodes.append(activation)
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        row.name,
        [helper.make_tensor_value_info("x", float32, ["N", row.sizes[0]])],
        [helper.make_tensor_value_info("y", float32, ["N", row.sizes[-1]])],
        initialisers,
    )
    # Versions that ONNX Runtime has read since 1.14 (2023).
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()  # type: ignore[no-any-return]


def _onnx_session(row: Row) -> Any:
    """A session on one thread, with all graph optimisations, which are the default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        onnx_model(row), options, providers=["CPUExecutionProvider"]
    )


def with_onnxruntime(row: Row, x: NDArray[Any]) -> Serve:
    """ONNX Runtime from NumPy to NumPy."""
    session = _onnx_session(row)
    names, feed = ["y"], {"x": x}
    return _again(lambda: session.run(names, feed)[0])


def with_onnxruntime_bound(row: Row, x: NDArray[Any]) -> Serve:
    """ONNX Runtime with inputs and outputs bound to arrays once."""
    import numpy as np
    import onnxruntime

    session = _onnx_session(row)
    out = np.zeros((len(x), row.sizes[-1]), np.float32)
    given, wanted = map(onnxruntime.OrtValue.ortvalue_from_numpy, (x, out))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", given)
    binding.bind_ortvalue_output("y", wanted)

    def serve(times: int) -> Any:
        for _ in range(times):
            session.run_with_iobinding(binding)
        return wanted.numpy()

    return serve


def with_sklearn(row: Row, x: NDArray[Any]) -> Serve:
    """scikit-learn's classifier; two classes share one sigmoid output."""
    import numpy as np

    from benchmarks.grid import make_data
    from benchmarks.peers.scikit import Sklearn

    peer = Sklearn()
    peer.prepare(*make_data(row, x.dtype.name), row, 1)
    peer.restart()
    classes = peer.estimator.classes_
    assert np.array_equal(classes, np.arange(row.sizes[-1]))
    return _again(lambda: peer.estimator.predict_proba(x))


def with_numpy(row: Row, x: NDArray[Any]) -> Serve:
    """The layers of the book *Neural Networks from Scratch in Python*."""
    from benchmarks.peers.book import NumPy, softmax

    peer = NumPy()
    peer.prepare(x, x, row, 1)
    return _again(lambda: softmax(peer.forward(x)))


SERVERS = {
    "fastnn": Server(("fastnn",), ("fastnn",), with_fastnn),
    "fastnn compiled": Server(("fastnn",), ("fastnn",), with_fastnn_compiled),
    "torch": Server(("torch",), ("torch",), with_torch),
    "torch.compile": Server(("torch",), ("torch",), with_torch_compiled),
    "jax": Server(("jax",), ("jax", "jaxlib"), with_jax),
    "onnxruntime": Server(("onnxruntime", "onnx"), ("onnxruntime", "onnx"), with_onnxruntime),
    "onnxruntime, bound": Server(
        ("onnxruntime", "onnx"), ("onnxruntime", "onnx"), with_onnxruntime_bound
    ),
    "sklearn": Server(("sklearn",), ("scikit-learn",), with_sklearn),
    "numpy": Server(("numpy",), ("numpy",), with_numpy),
}
