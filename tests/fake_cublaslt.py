"""A stand-in for `nvmath.bindings.cublasLt`: products by NumPy, of what the library is told.

It reads descriptions, layouts, preferences and addresses as the library does, and is strict where
that would compute something else, or be undefined: an algorithm serves the very product that it was
chosen for, and addresses keep the alignments that were promised.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from nvmath.bindings import cublasLt as nvidia

TYPES = {0: "float32", 1: "float64"}
COMPUTE = {68: "float32", 70: "float64"}
WORKSPACE_WANTED = 1 << 20


class CublasError(Exception):
    """What the bindings raise: their `cuBLASLtError`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def at_once(stream: int, work: Callable[[], Any]) -> None:
    """How a stream without a driver does what is begun in it."""
    work()


class FakeCublasLt:
    """The library, on memory of this process.

    Attributes
    ----------
    unsupported : set of str
        Names of epilogues that there is no algorithm for.
    chosen, products : list of str
        Epilogues of all products that an algorithm was asked for, and that were begun.
    """

    cuBLASLtError = CublasError
    Epilogue = nvidia.Epilogue
    MatmulDescAttribute = nvidia.MatmulDescAttribute
    MatmulPreferenceAttribute = nvidia.MatmulPreferenceAttribute
    matmul_heuristic_result_dtype = nvidia.matmul_heuristic_result_dtype
    get_matmul_desc_attribute_dtype = staticmethod(nvidia.get_matmul_desc_attribute_dtype)
    get_matmul_preference_attribute_dtype = staticmethod(
        nvidia.get_matmul_preference_attribute_dtype
    )

    def __init__(self, begin: Callable[[int, Callable[[], Any]], None] = at_once) -> None:
        self._begin = begin
        self.unsupported: set[str] = set()
        self.failing: int | None = None
        self.chosen: list[str] = []
        self.products: list[str] = []
        self._objects: dict[int, Any] = {}
        self._numbers = itertools.count(1)

    def _new(self, value: Any) -> int:
        number = next(self._numbers)
        self._objects[number] = value
        return number

    def create(self) -> int:
        return self._new("handle")

    # Descriptions, layouts, preferences.

    def matmul_desc_create(self, compute: int, scale: int) -> int:
        assert COMPUTE[compute] == TYPES[scale]
        return self._new({"type": TYPES[scale]})

    def matmul_desc_set_attribute(self, desc: int, attribute: int, at: int, size: int) -> None:
        name = self.MatmulDescAttribute(attribute)
        dtype = np.dtype(self.get_matmul_desc_attribute_dtype(name))
        self._objects[desc][name.name] = self._read(at, size, dtype)

    def _read(self, at: int, size: int, dtype: np.dtype[Any]) -> int:
        assert size == dtype.itemsize
        return int(np.frombuffer(ctypes.string_at(at, size), dtype)[0])

    def matrix_layout_create(self, kind: int, rows: int, columns: int, leading: int) -> int:
        assert leading >= rows
        return self._new((TYPES[kind], rows, columns, leading))

    def matmul_preference_create(self) -> int:
        return self._new({})

    def matmul_preference_set_attribute(
        self, wishes: int, attribute: int, at: int, size: int
    ) -> None:
        name = self.MatmulPreferenceAttribute(attribute)
        dtype = np.dtype(self.get_matmul_preference_attribute_dtype(name))
        self._objects[wishes][name.name] = self._read(at, size, dtype)

    def matmul_preference_destroy(self, wishes: int) -> None:
        del self._objects[wishes]

    # Products.

    def matmul_algo_get_heuristic(
        self,
        handle: int,
        desc: int,
        a: int,
        b: int,
        c: int,
        d: int,
        wishes: int,
        wanted: int,
        results: int,
        count: int,
    ) -> None:
        assert self._objects[handle] == "handle"
        assert wanted == 1
        if self.failing is not None:
            raise CublasError(self.failing)
        description, wish = dict(self._objects[desc]), self._objects[wishes]
        epilogue = self.Epilogue(description["EPILOGUE"]).name
        self.chosen.append(epilogue)
        if epilogue in self.unsupported:
            raise CublasError(15)
        assert ("BIAS_POINTER" in description) == (epilogue not in ("DEFAULT", "RELU"))
        assert wish["MAX_WORKSPACE_BYTES"] >= WORKSPACE_WANTED
        alignments = tuple(wish[f"MIN_ALIGNMENT_{letter}_BYTES"] for letter in "ABCD")
        description.pop("BIAS_POINTER", None)
        algorithm = self._new((desc, description, a, b, c, d, alignments))
        result = np.zeros(1, self.matmul_heuristic_result_dtype)
        result["algo"]["data_"][0, 0] = algorithm
        result["workspace_size"] = WORKSPACE_WANTED
        ctypes.memmove(results, result.ctypes.data, result.nbytes)
        ctypes.memmove(count, np.ones(1, np.int32).ctypes.data, 4)

    def matmul(
        self,
        handle: int,
        desc: int,
        alpha: int,
        a: int,
        layout_a: int,
        b: int,
        layout_b: int,
        beta: int,
        c: int,
        layout_c: int,
        d: int,
        layout_d: int,
        algorithm: int,
        workspace: int,
        workspace_size: int,
        stream: int,
    ) -> None:
        assert self._objects[handle] == "handle"
        description = dict(self._objects[desc])
        vector = description.pop("BIAS_POINTER", 0)
        number = int(np.frombuffer(ctypes.string_at(algorithm, 8), np.uint64)[0])
        *told, alignments = self._objects[number]
        assert told == [desc, description, layout_a, layout_b, layout_c, layout_d]
        for address, alignment in zip((a, b, c, d), alignments, strict=True):
            assert address % alignment == 0
        assert workspace_size == WORKSPACE_WANTED
        assert workspace % 256 == 0
        dtype = np.dtype(description["type"])
        scales = [self._read_float(at, dtype) for at in (alpha, beta)]
        assert scales == [1.0, 0.0]
        epilogue = self.Epilogue(description["EPILOGUE"]).name
        self.products.append(epilogue)

        def work() -> None:
            self._multiply(description, epilogue, vector, (a, layout_a), (b, layout_b), d, layout_d)

        self._begin(stream, work)

    def _read_float(self, at: int, dtype: np.dtype[Any]) -> float:
        return float(np.frombuffer(ctypes.string_at(at, dtype.itemsize), dtype)[0])

    def _matrix(self, address: int, layout: int, transposed: int = 0) -> Any:
        """A matrix column by column, where it lies."""
        type_name, rows, columns, leading = self._objects[layout]
        matrix = view(address, type_name, leading * columns).reshape(columns, leading)[:, :rows]
        return matrix if transposed else matrix.T

    def _multiply(
        self,
        description: dict[str, Any],
        epilogue: str,
        vector: int,
        a: tuple[int, int],
        b: tuple[int, int],
        d: int,
        layout_d: int,
    ) -> None:
        left = self._matrix(*a, description["TRANSA"])
        right = self._matrix(*b, description["TRANSB"])
        result, type_name = self._matrix(d, layout_d), description["type"]
        assert left.dtype == right.dtype == result.dtype == np.dtype(type_name)
        with np.errstate(all="ignore"):
            result[...] = left @ right
        if epilogue == "BGRADA":
            view(vector, type_name, len(left))[:] = left.sum(axis=1)
        elif "BIAS" in epilogue:
            result += view(vector, type_name, len(result))[:, None]
        if epilogue.startswith("RELU"):
            np.maximum(result, 0, out=result)


def view(address: int, type_name: str, count: int) -> Any:
    """So many elements of memory."""
    dtype = np.dtype(type_name)
    return np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(address), dtype)
