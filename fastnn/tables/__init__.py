"""Tables: files of columns read, and their columns turned into the numbers that a network takes."""

from fastnn.tables.files import opened
from fastnn.tables.recipe import Recipe
from fastnn.tables.table import Numbers, Table, TableError, Texts, require

__all__ = ["Numbers", "Recipe", "Table", "TableError", "Texts", "opened", "require"]
