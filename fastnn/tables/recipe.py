"""How the rows of a table become a network's numbers, and its outputs answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.tables import features as features_module
from fastnn.tables import targets
from fastnn.tables.features import Feature
from fastnn.tables.table import Table, TableError, Texts, require
from fastnn.tables.targets import Target

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

KIND = "table"
"""What a saved model's preprocessing calls itself."""


class Recipe:
    """What columns become, and what is to be predicted: all that training rows alone have taught.

    Parameters
    ----------
    features : list of Number and Category
    target : Classes or Quantity

    Attributes
    ----------
    left_out : dict of str to str
        Why a column of the training table is none of the features.
    """

    def __init__(self, features: list[Feature], target: Target) -> None:
        self.features, self.target = features, target
        self.left_out: dict[str, str] = {}

    @classmethod
    def fit(cls, table: Table, target: str, task: str, rows: Array) -> Recipe:
        """The recipe that some rows of a table make, of all its columns but the target.

        Raises
        ------
        TableError
            If no column, or not the target, tells anything.
        """
        column = table.column(target)
        assert isinstance(column, Texts)
        aim = targets.fit(table.source, target, task, column.rows(rows))
        names = [name for name in table.columns if name != target]
        found = {name: features_module.fit(table, name, rows) for name in names}
        recipe = cls([each for each in found.values() if not isinstance(each, str)], aim)
        recipe.left_out = {name: why for name, why in found.items() if isinstance(why, str)}
        if not recipe.features:
            reasons = "; ".join(f"{name}: {why}" for name, why in recipe.left_out.items())
            raise TableError(
                f"{table.source}: no column beside {target!r} tells anything"
                + (f": {reasons}" if reasons else "")
            )
        return recipe

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(feature.width for feature in self.features)

    @property
    def kinds(self) -> dict[str, bool]:
        """The columns that a table must have, and whether they are texts."""
        return {feature.name: feature.kind != "number" for feature in self.features}

    def encode(self, table: Table, rows: Any = slice(None)) -> Array:
        """Some rows of a table as numbers (N, width), float32."""
        count = len(np.arange(len(table))[rows])
        x = np.empty((count, self.width), np.float32)
        begin = 0
        for feature in self.features:
            feature.encode(table, rows, x[:, begin : begin + feature.width])
            begin += feature.width
        return x

    def require(self, source: str, names: list[str]) -> None:
        """Refuse a table that lacks a column."""
        for name in self.kinds:
            require(source, name, names)

    def get_config(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return {
            "kind": KIND,
            "features": [feature.get_config() for feature in self.features],
            "target": self.target.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Recipe:
        """The recipe whose `get_config` gave `config`."""
        return cls(
            [features_module.make(each) for each in config["features"]],
            targets.make(config["target"]),
        )
