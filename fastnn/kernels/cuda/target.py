"""What kernels are compiled for: a GPU, or Numba's simulator of one.

With ``NUMBA_ENABLE_CUDASIM=1`` in the environment kernels run as Python, a Python thread for each
of the GPU's: slow, but any machine can check them, and a debugger can step through them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numba.core import config

from fastnn.kernels import compiled as compiled  # kernels call formulas

SIMULATED = bool(config.ENABLE_CUDASIM)
"""Whether kernels are run by the simulator."""

if SIMULATED:
    from fastnn.kernels.cuda.simulator import cuda as cuda

    def device(function: Callable[..., Any]) -> Any:
        """Let kernels call `function`."""
        function.py_func = function  # type: ignore[attr-defined]
        return function

else:
    from numba import cuda as cuda

    from fastnn.kernels.cuda import words as words  # formulas call them

    def device(function: Callable[..., Any]) -> Any:
        """Let kernels call `function`; its code becomes a part of theirs."""
        return cuda.jit(function, device=True, forceinline=True)


def unrolled(body: Any, count: int) -> Any:
    """The device function that calls ``body(i, …)`` for i from 0 to `count` − 1, loop unrolled.

    What `body` indexes with i then stays in registers, however long it is.
    """
    names = ", ".join(list(inspect.signature(body.py_func).parameters)[1:])
    lines = [f"    body({i}, {names})" for i in range(count)]
    namespace = {"body": body}
    exec("\n".join([f"def unrolled({names}):", *lines]), namespace)
    return device(namespace["unrolled"])
