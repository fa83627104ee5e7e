"""Kernels that may be given one array as output and input.

The loop then is compiled with that one array in both places: told apart only at run time, the two
would look as if they overlapped, and LLVM would take its scalar loop.
"""

from __future__ import annotations

import inspect
from typing import Any

from fastnn.kernels.cpu.memory import address
from fastnn.kernels.cpu.settings import kernel


def in_place_or_apart(loop: Any, pair: str, parameters: str = "") -> Any:
    """The kernel out of its loop, compiled for one array in two places, and for two.

    Parameters
    ----------
    loop : function
        The whole work, `inlined`.
    pair : str
        ``"output input"``: the parameters that may be one array, as in the op's signature.
    parameters : str
        The kernel's parameters, where they are called otherwise than the loop's.
    """
    names = parameters.split() or list(inspect.signature(loop.py_func).parameters)
    output, source = pair.split()
    same = [output if name == source else name for name in names]
    text = f"""
def in_place_or_apart({", ".join(names)}):
    if address({output}) == address({source}):
        loop({", ".join(same)})
    else:
        loop({", ".join(names)})
"""
    namespace = {"address": address, "loop": loop}
    exec(text, namespace)
    return kernel(namespace["in_place_or_apart"])
