"""An op's operands: checked against its signature, and laid out as the integers it reads."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Protocol

from fastnn.engine import shapes
from fastnn.engine.compiler import Key
from fastnn.kernels import state as s
from fastnn.kernels.signatures import (
    FINISH_SUFFIX,
    FUNCTIONS,
    ITEM_BYTES,
    SUPPLY,
    Signature,
    signature,
)


class Handle(Protocol):
    """What stands for an array: a NumPy array, or a program's `Buffer`."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """Lengths of the dimensions; the batch's is None in a program."""

    @property
    def dtype(self) -> Any:
        """Element type."""


@cache
def name_of(dtype: Any) -> str:
    """An element type's name. NumPy takes two microseconds for it."""
    return str(dtype)


def bits_of(value: float) -> int:
    """The integer with the bits of a float64."""
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits


class Call:
    """One op with its operands: arrays or buffers by name, dimensions, scalars.

    Attributes
    ----------
    finish : list of Call
        Ops that a product's rows go through, one after the other.
    supply : Call or None
        The op that makes the rows of a product's first factor, just before it needs them.
    phase : int
        Part of the step that it belongs to: ``state.GRADIENT``, ``CHECK`` or ``COMMIT``.
    in_one_piece : bool
        Whether the executor may not leave it half-way.
    """

    def __init__(self, name: str, operands: Mapping[str, Any]) -> None:
        self.signature: Signature = signature(name)
        self.in_one_piece = self.signature.parts == "first"
        self.phase = s.GRADIENT
        self.finish: list[Call] = []
        self.supply: Call | None = None
        self.arrays: dict[str, Any] = {}
        self.lengths: dict[str, int | None] = {}
        self.types: dict[str, str] = {}
        for operand in self.signature.arrays:
            value = operands.get(operand.name)
            self.arrays[operand.name] = value
            if value is None:
                if not operand.optional:
                    raise TypeError(f"{name}: operand {operand.name!r} is missing")
                continue
            self._measure(name, operand.name, operand.dimensions, value)
            self._type(name, operand.name, operand.type, value)
        self.types.setdefault("T", "float64")  # of an op without arrays
        self.scalars = {scalar.name: operands.get(scalar.name) for scalar in self.signature.scalars}
        unknown = set(operands) - set(self.arrays) - set(self.scalars)
        if unknown:
            raise TypeError(f"{name}: no operand is called {sorted(unknown)}")

    def _measure(self, op: str, name: str, dimensions: tuple[str, ...], value: Handle) -> None:
        """Bind each dimension's letter to a length; a last letter takes all that is left."""
        shape = value.shape
        lengths = [*shape[: len(dimensions) - 1]]
        rest = shape[len(dimensions) - 1 :]
        lengths.append(rest[0] if len(rest) == 1 else math.prod(rest))
        for letter, length in zip(dimensions, lengths, strict=True):
            if self.lengths.setdefault(letter, length) != length:
                raise ValueError(
                    f"{op}: {name} has shape {shape}, but {letter} is {self.lengths[letter]}"
                )

    def _type(self, op: str, name: str, kind: str, value: Handle) -> None:
        """Bind the op's type variables to element types, or check a fixed one."""
        actual = name_of(value.dtype)
        expected = self.types.setdefault(kind, actual) if kind in ("T", "S") else kind
        if actual != expected:
            raise TypeError(f"{op}: {name} is {actual}, expected {expected}")

    @property
    def key(self) -> Key:
        """The op's key in the table of compiled ops."""
        return (self.signature.name, *(self.types[t] for t in ("T", "S") if t in self.types))

    @property
    def finish_key(self) -> Key:
        """The key of the op's form that finishes a product."""
        name, *types = self.key
        return (name + FINISH_SUFFIX, *types)

    @property
    def supply_key(self) -> Key:
        """The key of the op's form that supplies a product."""
        return (SUPPLY, *self.key[1:])

    @property
    def needs(self) -> list[Key]:
        """All compiled functions that the call needs: the op, and what it calls itself."""
        functions = [f.type for f in self.signature.scalars if f.type in FUNCTIONS]
        return [
            self.key,
            *((function, self.types["T"]) for function in functions),
            *(call.finish_key for call in self.finish),
            *(call.supply_key for call in self._supplies),
        ]

    @property
    def buffers(self) -> list[Any]:
        """All buffers that the call touches, those of its finishes and supply among them."""
        others = [*self._supplies, *self.finish]
        arrays = [*self.arrays.values(), *(b for call in others for b in call.buffers)]
        return [array for array in arrays if hasattr(array, "root")]

    @property
    def _supplies(self) -> list[Call]:
        return [] if self.supply is None else [self.supply]

    @property
    def takes_finish(self) -> bool:
        """Whether it is a product whose tiles other ops can finish."""
        return any(scalar.type == "chain" for scalar in self.signature.scalars)

    def commit(self) -> None:
        """Make it a part of the update, which is done whole."""
        self.phase, self.in_one_piece = s.COMMIT, True

    def bytes_of_state(self, elements: int) -> int:
        """Bytes that `elements` of all its flat vectors take together."""
        count = sum(array is not None for array in self.arrays.values())
        return count * elements * ITEM_BYTES[self.types["T"]]

    def integers(
        self,
        address_of: Callable[[Any], int],
        function: Callable[[Key], int],
        chain: int = 0,
        rows: int = 0,
        supply: int = 0,
    ) -> list[int]:
        """The operands as the op reads them: lengths, addresses, scalars.

        `chain` is the address of the row of its first finish, `supply` that of its supply, `rows`
        the most that a batch has.
        """
        words = [self.lengths.get(d) or 0 for d in self.signature.dimensions]
        words += [0 if a is None else address_of(a) for a in self.arrays.values()]
        for scalar in self.signature.scalars:
            value = self.scalars[scalar.name]
            if scalar.name == "pack" and value is None:
                size = ITEM_BYTES[self.types["T"]]
                value = shapes.packs(self.signature.name, self.lengths, rows, size)
            if scalar.type == "int":
                words.append(int(value or 0))
            elif scalar.type == "float":
                words.append(bits_of(float(value or 0.0)))
            elif scalar.type == "chain":
                words.append(chain)
            elif scalar.type == "supply":
                words.append(supply)
            else:
                words.append(function((scalar.type, self.types["T"])))
        return words

    def cost(self, rows: int) -> int:
        """A rough estimate of the op's work on `rows` rows, in nanoseconds of one core."""
        lengths = {d: rows if n is None else n for d, n in self.lengths.items()}
        if self.takes_finish:
            others = sum(call.cost(rows) for call in (*self._supplies, *self.finish))
            return others + 100 + lengths["N"] * lengths["I"] * lengths["O"] // 40
        sizes = [
            math.prod(lengths[d] for d in o.dimensions if d != "R")
            for o in self.signature.arrays
            if self.arrays[o.name] is not None
        ]
        return 100 + max(sizes, default=0)
