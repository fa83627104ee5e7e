"""The card, its driver, and the versions of all that takes part."""

from __future__ import annotations

import platform
from importlib import metadata

from benchmarks import machine as host
from benchmarks.gpu.stage import Findings

PACKAGES = (
    "fastnn numpy numba numba-cuda cuda-bindings cuda-toolkit nvidia-nvvm nvidia-nvjitlink "
    "nvmath-python torch jax jaxlib cupy-cuda13x"
).split()


def measure(found: Findings, simulated: bool) -> None:
    """Tell of them."""
    from fastnn.engine.cuda import opening

    device = opening.open_device()
    found |= {
        "card": device.name,
        "cpu": host.cpu_name(),
        "python": platform.python_version(),
        "memory": device.memory()[1],
        "versions": {package: _version(package) for package in PACKAGES},
    }
    if not simulated:
        from cuda.bindings import driver

        from fastnn.engine.cuda.driver import ask

        found["driver"] = int(ask(driver.cuDriverGetVersion))
        found["capability"] = list(device.capability)  # type: ignore[attr-defined]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
