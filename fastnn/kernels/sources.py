"""The text of a function, found again and parsed, for whoever has only the function."""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple


class Source(NamedTuple):
    """A function as it stands in its file: its arguments, its statements, the file's name."""

    arguments: ast.arguments
    body: list[ast.stmt]
    file: str


def source_of(function: types.FunctionType, what: str) -> Source:
    """The text of a function, parsed: that from which its code was made, and no other.

    Raises
    ------
    ValueError
        If there is no such text.
    """
    code = function.__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    if not text:
        raise ValueError(
            f"{what}: its source cannot be read; define it in a file or in a notebook, not by exec "
            "or at a prompt"
        )
    nodes, codes = _parsed(text, code.co_filename)
    found = [node for node in nodes if _begins_at(node, code)]
    if len(found) > 1:
        raise ValueError(f"{what}: several lambdas begin in its line; define it by def")
    if not found or not any(_same(code, other) for other in codes):
        raise ValueError(f"{what}: its source was changed since it was read; import it again")
    (node,) = found
    if isinstance(node, ast.Lambda):
        body: list[ast.stmt] = [ast.copy_location(ast.Return(node.body), node.body)]
        return Source(node.args, body, code.co_filename)
    return Source(node.args, node.body, code.co_filename)


@lru_cache(maxsize=1)
def _parsed(text: str, file: str) -> tuple[list[ast.AST], list[types.CodeType]]:
    """All functions of a file: as they are written, and their code."""
    tree = ast.parse(text)
    nodes = [n for n in ast.walk(tree) if isinstance(n, (ast.Lambda, ast.FunctionDef))]
    return nodes, list(_codes(compile(tree, file, "exec", dont_inherit=True)))


def _begins_at(node: ast.AST, code: types.CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    if node.name != code.co_name:
        return False
    return min(n.lineno for n in (node, *node.decorator_list)) == code.co_firstlineno


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _same(a: types.CodeType, b: types.CodeType) -> bool:
    def looks(code: types.CodeType) -> tuple[Any, ...]:
        # A constant's repr tells 1 from 1.0 and True.
        constants = [repr(c) for c in code.co_consts if not isinstance(c, types.CodeType)]
        return code.co_name, code.co_code, constants, code.co_names, code.co_varnames

    return a.co_firstlineno == b.co_firstlineno and looks(a) == looks(b)


def arguments_of(source: Source, what: str) -> list[str]:
    """The names of a function's arguments, all of them plain."""
    a = source.arguments
    if a.vararg or a.kwarg or a.kwonlyargs:
        raise ValueError(f"{what} must have plain arguments, without * and **")
    names = [argument.arg for argument in (*a.posonlyargs, *a.args)]
    if not names:
        raise ValueError(f"{what} must have an argument")
    return names
