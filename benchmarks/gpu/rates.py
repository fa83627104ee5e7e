"""The ceilings: how fast the card copies, and multiplies, whatever the code."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.stage import Findings

COPIED = 1 << 30
"""Bytes of an array, many times what the L2 cache holds."""

SIDE = 8192
"""Rows and columns of a large product."""


def seconds(wait: Callable[[], None], begin: Callable[[], Any], times: int = 10) -> float:
    """The median of several runs, each waited for."""
    begin()
    found = []
    for _ in range(times):
        wait()
        start = time.perf_counter()
        begin()
        wait()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def measure(found: Findings, simulated: bool) -> None:
    """A copy within the device, both directions counted; PyTorch's products, where it is there."""
    from fastnn.engine.cuda import opening

    device: Any = opening.open_device()
    if simulated:
        found["copy_bytes_per_second"] = None
        return
    from cuda.bindings import driver

    here, there = device.allocate(COPIED), device.allocate(COPIED)

    def copy() -> None:
        device.ask(driver.cuMemcpyDtoDAsync, there.address, here.address, COPIED, device.stream)

    found["copy_bytes_per_second"] = 2 * COPIED / seconds(device.wait, copy)
    found.keep()
    try:
        import torch
    except ImportError:
        return
    found["flops"] = {}
    for name, dtype, precision in (
        ("fp32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bf16", torch.bfloat16, "high"),
    ):
        torch.set_float32_matmul_precision(precision)
        a = torch.randn(SIDE, SIDE, device="cuda", dtype=dtype)
        took = seconds(torch.cuda.synchronize, functools.partial(torch.matmul, a, a))
        found["flops"][name] = 2 * SIDE**3 / took
        found.keep()
