"""Wide products through cuBLASLt, NVIDIA's library of matrix products, where it is installed.

cuBLASLt's matrices lie column by column: a C-contiguous array is the transpose of itself there. So
each product is asked for as its transpose, with the factors in the other order.

A call of the library is a part of a graph like a launch of a kernel, but it sees nothing of the
state. Its rows are fixed: it serves steps of exactly the program's rows, and our own kernels the
others. And it runs after a raised flag, too, which is harmless: it writes activations and
gradients, of which an update, that does look at the flag, then takes none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.engine.cuda.device import CudaError
from fastnn.engine.operands import Call

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.engine.cuda.device import Device

LEAST_LENGTH = {"float32": 256, "float64": 256}
"""Products whose lengths are all at least so are the library's; not yet measured."""

WORKSPACE_BYTES = 32 << 20
"""What NVIDIA advises for Hopper (cuBLAS's documentation, "cublasSetWorkspace")."""

ALIGNMENT = 16
"""Arrays begin on multiples of it, or are left to our own kernels."""

_MOST_ALIGNMENT = 256

_TYPES = {"float32": 0, "float64": 1}
"""``cudaDataType`` of the arrays."""

_COMPUTE = {
    ("float32", "fp32"): 68,
    ("float32", "tf32"): 77,
    ("float32", "bf16"): 75,
    ("float64", "fp32"): 70,
}
"""``cublasComputeType_t`` by the arrays' type and what factors may be rounded to."""

_NOT_SUPPORTED = 15
"""The ``cublasStatus_t`` of what no algorithm is known for."""


class Shape(NamedTuple):
    """A product D = op(A)·op(B) of matrices column by column, and what is done in one with it.

    Parameters
    ----------
    type_name : str
    precision : str
        What the factors may be rounded to, one of `launch.PRECISIONS`.
    rows, columns, depth : int
        Of D, and the length that is summed over.
    transposed_a, transposed_b : bool
        Whether A is (depth, rows) and B (columns, depth).
    epilogue : str
        The name of an ``Epilogue`` of the library's.
    alignments : tuple of int
        What the addresses of A, B and D are multiples of.
    """

    type_name: str
    precision: str
    rows: int
    columns: int
    depth: int
    transposed_a: bool
    transposed_b: bool
    epilogue: str
    alignments: tuple[int, int, int]


class BlasCall(NamedTuple):
    """A product with the addresses of A, B, D and, or 0, of the vector of its epilogue."""

    shape: Shape
    a: int
    b: int
    d: int
    vector: int


def product_of(
    call: Call, rows: int, address_of: Callable[[Any], int], precision: str = "fp32"
) -> BlasCall | None:
    """An op on so many rows as a product of the library's; None if it is no wide, aligned one."""
    if call.key[0] not in _PRODUCTS:
        return None
    type_name, arrays = call.types["T"], call.arrays
    lengths = rows, int(call.lengths["I"] or 0), int(call.lengths["O"] or 0)
    at = {name: 0 if array is None else address_of(array) for name, array in arrays.items()}
    if min(lengths) < LEAST_LENGTH[type_name] or any(a % ALIGNMENT for a in at.values()):
        return None
    return _PRODUCTS[call.key[0]](call, (type_name, precision), *lengths, at)


def rest_of(call: Call) -> Call | None:
    """The op that does what the product leaves undone of an op, in place."""
    if call.finish:
        follower, (output, source) = call.finish[0], call.finish[0].signature.result
        own = {output: follower.arrays[output], source: follower.arrays[output]}
        return Call(follower.signature.name, follower.arrays | follower.scalars | own)
    gate = call.arrays.get("gate")
    if gate is None:
        return None
    dx = call.arrays["dx"]
    return Call("relu_backward", {"dx": dx, "dy": dx, "y": gate})


Addresses = dict[str, int]
Kind = tuple[str, str]


def _forward(
    call: Call, kind: Kind, rows: int, inputs: int, outputs: int, at: Addresses
) -> BlasCall:
    """``yᵀ = wᵀ·xᵀ + b``."""
    relu = "RELU" if call.scalars["relu"] else ""
    epilogue = "_".join(filter(None, [relu, "BIAS" if at["b"] else ""])) or "DEFAULT"
    addresses = at["w"], at["x"], at["y"]
    shape = Shape(*kind, outputs, rows, inputs, False, False, epilogue, _aligned(addresses))
    return BlasCall(shape, *addresses, at["b"])


def _backward_input(
    call: Call, kind: Kind, rows: int, inputs: int, outputs: int, at: Addresses
) -> BlasCall:
    """``dxᵀ = w·dyᵀ``."""
    addresses = at["w"], at["dy"], at["dx"]
    shape = Shape(*kind, inputs, rows, outputs, True, False, "DEFAULT", _aligned(addresses))
    return BlasCall(shape, *addresses, 0)


def _backward_kernel(
    call: Call, kind: Kind, rows: int, inputs: int, outputs: int, at: Addresses
) -> BlasCall:
    """``dwᵀ = dyᵀ·x``, and the sums of the rows of A, which is dyᵀ."""
    epilogue = "BGRADA" if at["db"] else "DEFAULT"
    addresses = at["dy"], at["x"], at["dw"]
    shape = Shape(*kind, outputs, inputs, rows, False, True, epilogue, _aligned(addresses))
    return BlasCall(shape, *addresses, at["db"])


_PRODUCTS = {
    "dense_forward": _forward,
    "dense_backward_input": _backward_input,
    "dense_backward_kernel": _backward_kernel,
}


def _aligned(addresses: tuple[int, int, int]) -> tuple[int, int, int]:
    """The powers of 2, up to what the library makes use of, that addresses are multiples of."""
    a, b, d = (min(address & -address, _MOST_ALIGNMENT) for address in addresses)
    return a, b, d


class _Plan(NamedTuple):
    """All that the library is told of a product but its addresses, and the algorithm it chose."""

    description: int
    a: int
    b: int
    d: int
    result: npt.NDArray[Any]


class Library:
    """cuBLASLt on a device, for the rest of the process.

    Parameters
    ----------
    device : Device
    binding : module
        ``nvmath.bindings.cublasLt``.
    """

    def __init__(self, device: Device, binding: Any) -> None:
        self._device, self._binding = device, binding
        with device.context():
            self._handle = self._ask(binding.create)
        self._workspace = device.allocate(WORKSPACE_BYTES)
        self._plans: dict[Shape, _Plan | None] = {}
        self._lock = threading.Lock()

    def supports(self, call: BlasCall) -> bool:
        """Whether there is an algorithm for a product; for each shape it is chosen once."""
        with self._device.context(), self._lock:
            if call.shape not in self._plans:
                self._plans[call.shape] = self._plan(call)
            return self._plans[call.shape] is not None

    def begin(self, call: BlasCall, stream: int) -> None:
        """Begin a product that is supported, in a stream of the device's."""
        plan = self._plans[call.shape]
        assert plan is not None
        scale = np.array([1.0, 0.0], call.shape.type_name)
        alpha, beta = scale.ctypes.data, scale.ctypes.data + scale.itemsize
        with self._lock:
            self._set_vector(plan.description, call)
            self._ask(
                self._binding.matmul,
                *(self._handle, plan.description, alpha),
                *(call.a, plan.a, call.b, plan.b, beta),
                *(call.d, plan.d, call.d, plan.d),
                plan.result["algo"].ctypes.data,
                self._workspace.address,
                int(plan.result["workspace_size"][0]),
                stream,
            )

    def _plan(self, call: BlasCall) -> _Plan | None:
        shape, binding = call.shape, self._binding
        number, compute = _TYPES[shape.type_name], _COMPUTE[shape.type_name, shape.precision]
        description = self._ask(binding.matmul_desc_create, compute, number)
        attribute = binding.MatmulDescAttribute
        self._set("matmul_desc", description, attribute.TRANSA, shape.transposed_a)
        self._set("matmul_desc", description, attribute.TRANSB, shape.transposed_b)
        epilogue = binding.Epilogue[shape.epilogue]
        self._set("matmul_desc", description, attribute.EPILOGUE, epilogue)
        self._set_vector(description, call)
        of_a, of_b = (shape.rows, shape.depth), (shape.depth, shape.columns)
        a, b, d = (
            self._ask(binding.matrix_layout_create, number, *lengths, lengths[0])
            for lengths in (
                of_a[::-1] if shape.transposed_a else of_a,
                of_b[::-1] if shape.transposed_b else of_b,
                (shape.rows, shape.columns),
            )
        )
        result = self._chosen(shape, description, a, b, d)
        return None if result is None else _Plan(description, a, b, d, result)

    def _chosen(
        self, shape: Shape, description: int, a: int, b: int, d: int
    ) -> npt.NDArray[Any] | None:
        """What the library's heuristics say of the best algorithm; None if there is none."""
        binding = self._binding
        wishes = self._ask(binding.matmul_preference_create)
        attribute = binding.MatmulPreferenceAttribute
        of_a, of_b, of_d = shape.alignments
        for wish, value in (
            (attribute.MAX_WORKSPACE_BYTES, WORKSPACE_BYTES),
            (attribute.MIN_ALIGNMENT_A_BYTES, of_a),
            (attribute.MIN_ALIGNMENT_B_BYTES, of_b),
            (attribute.MIN_ALIGNMENT_C_BYTES, of_d),
            (attribute.MIN_ALIGNMENT_D_BYTES, of_d),
        ):
            self._set("matmul_preference", wishes, wish, value)
        result = np.zeros(1, binding.matmul_heuristic_result_dtype)
        count = np.zeros(1, np.int32)
        try:
            binding.matmul_algo_get_heuristic(
                *(self._handle, description, a, b, d, d, wishes, 1),
                *(result.ctypes.data, count.ctypes.data),
            )
        except binding.cuBLASLtError as error:
            if error.status != _NOT_SUPPORTED:
                raise CudaError(f"matmul_algo_get_heuristic: {error}") from None
        finally:
            self._ask(binding.matmul_preference_destroy, wishes)
        return result if count[0] == 1 and result["state"][0] == 0 else None

    def _set_vector(self, description: int, call: BlasCall) -> None:
        if call.vector:
            pointer = self._binding.MatmulDescAttribute.BIAS_POINTER
            self._set("matmul_desc", description, pointer, call.vector)

    def _set(self, kind: str, handle: int, attribute: Any, value: int) -> None:
        """Set an attribute of one of the library's objects, by way of a number in memory."""
        type_of = getattr(self._binding, f"get_{kind}_attribute_dtype")
        number = np.array([value], type_of(attribute))
        setter = getattr(self._binding, f"{kind}_set_attribute")
        self._ask(setter, handle, int(attribute), number.ctypes.data, number.nbytes)

    def _ask(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._binding.cuBLASLtError as error:
            raise CudaError(f"{function.__name__}: {error}") from None


def opened(device: Device) -> Library | None:
    """cuBLASLt on a device; None where it, or its binding, is not installed."""
    try:
        from nvmath.bindings import cublasLt

        cublasLt.get_version()  # loads the library
    except (ImportError, RuntimeError):
        return None
    return Library(device, cublasLt)
