"""What is to be predicted: a class, or a quantity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastnn.tables.table import TableError, Texts, as_numbers

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

MOST_CLASSES = 20
"""A target of more whole numbers is taken for a quantity."""

LEAST_ROWS = 10
"""Rows that a whole number must have on average to be taken for a class."""

TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Classes:
    """Classes by name, written as in the training rows, in the order of the network's outputs."""

    name: str
    names: list[str]
    task: ClassVar[str] = "classification"

    def labels(self, column: Texts) -> Array:
        """The class of each row, int64; -1 for one that no training row has.

        Where all names are numbers, 1, 01 and 1.0 are the same.
        """
        numeric = as_numbers(self.names) is not None
        label_of = {_key(text, numeric): label for label, text in enumerate(self.names)}
        labels = [label_of.get(_key(text, numeric), -1) for text in column.texts]
        return np.array(labels, np.int64)[column.codes]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it again."""
        return {"task": self.task, **asdict(self)}


@dataclass(frozen=True)
class Quantity:
    """Numbers, of which the network gives ``(value − mean)/scale``, of the training rows'."""

    name: str
    mean: float
    scale: float
    task: ClassVar[str] = "regression"

    def encode(self, values: Array) -> Array:
        """Numbers (N,) as the network is to give them, float32."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def decode(self, outputs: Array) -> Array:
        """The numbers that a network's outputs (N, 1) mean, float64."""
        return self.mean + self.scale * outputs[:, 0].astype(np.float64)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it again."""
        return {"task": self.task, **asdict(self)}


Target = Classes | Quantity


def infer(column: Texts) -> str:
    """The task that a target column means: `TASKS` has both."""
    numbers = as_numbers(column.texts)
    if numbers is None:
        return "classification"
    different = np.unique(numbers)
    whole = bool((different == np.round(different)).all())
    few = len(different) <= min(MOST_CLASSES, len(column.codes) / LEAST_ROWS)
    return "classification" if whole and (few or len(different) == 2) else "regression"


def _key(text: str, numeric: bool) -> Any:
    """What two spellings of a class have in common."""
    number = as_numbers([text]) if numeric else None
    return text if number is None else float(number[0])


def quantities(source: str, name: str, column: Texts) -> Array:
    """A target column as numbers (N,), float64."""
    values = as_numbers(column.texts)
    if values is None or not np.isfinite(values).all():
        each = (as_numbers([text]) for text in column.texts)
        wrong = next(at for at, one in enumerate(each) if one is None or not np.isfinite(one[0]))
        raise TableError(
            f"{source}: column {name!r}: expected finite numbers for a regression, "
            f"got {column.texts[wrong]!r}"
        )
    return values[column.codes]


def fit(source: str, name: str, task: str, column: Texts) -> Target:
    """The target that the training rows of a column make."""
    present = [column.texts[code] for code in np.unique(column.codes).tolist()]
    if task == "regression":
        values = quantities(source, name, column)
        target: Target = Quantity(name, float(values.mean()), float(values.std()))
        constant = values.min() == values.max()
    else:
        numeric = as_numbers(present) is not None
        name_of = {_key(text, numeric): text for text in sorted(present, key=len, reverse=True)}
        target = Classes(name, [name_of[key] for key in sorted(name_of)])
        constant = len(target.names) == 1
    if constant:
        raise TableError(
            f"{source}: column {name!r} has one value alone, {present[0]!r}: nothing to predict"
        )
    return target


def make(config: dict[str, Any]) -> Target:
    """The target whose `get_config` gave `config`."""
    arguments = {name: value for name, value in config.items() if name != "task"}
    return {kind.task: kind for kind in (Classes, Quantity)}[config["task"]](**arguments)
