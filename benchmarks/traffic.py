"""Bytes that an op must move, by what its example in the tests reads and writes."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"

_FEW = dict.fromkeys("NFIOCP", 4)


@cache
def bytes_of_an_element(key: tuple[str, ...]) -> int:
    """Bytes for each element of an op's largest operand: reads and writes of all arrays of the same
    dimensions. What there is of each row or column is not counted.
    """
    from fastnn.kernels.signatures import ITEM_BYTES, signature

    name, dtype, *source = key
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    cases = importlib.import_module("kernel_cases")
    drawn = cases.Draw(name, dtype, 0, dict(_FEW))
    # Which type rows are gathered from is the caller's choice, not the draw's.
    example = cases.CASES[name](drawn, *(source if name == "gather" else ()))
    read = {operand for operand, value in example.inputs.items() if value is not None}
    written, arrays = set(example.expected()), signature(name).arrays
    # Of a source of rows, R, no more than the batch's are read.
    shapes = [tuple("N" if d == "R" else d for d in operand.dimensions) for operand in arrays]
    largest = max(shapes, key=lambda shape: (len(shape), shape[0] in ("N", "P")))
    types = {"T": dtype, "S": key[-1]}
    return sum(
        ITEM_BYTES[types.get(operand.type, operand.type)]
        * ((operand.name in read) + (operand.name in written))
        for operand, shape in zip(arrays, shapes, strict=True)
        if shape == largest
    )
