"""Finding a GPU, and saying in a line what is missing where there is none."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cache

from fastnn.engine.cuda.device import CudaError, Device, lost, simulated

INSTALL = 'pip install "fastnn[cuda]"'
PACKAGES = {"numba-cuda": (0, 30), "cuda-bindings": (13,)}
"""What is needed, and from which version on."""


def missing_package() -> str | None:
    """What there is to say of the packages; None where they are all there."""
    for package, least in PACKAGES.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return f"{package} is not installed: {INSTALL}"
        if tuple(int(part) for part in version.split(".")[: len(least)]) < least:
            wanted = ".".join(map(str, least))
            return f"{package} {version} is installed, {wanted} or newer is needed: {INSTALL}"
    return None


def missing_compiler() -> str | None:
    """What there is to say of what compiles kernels that are in no cache; None: all is there."""
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    for library in ("nvvm", "nvJitLink"):
        try:
            load_nvidia_dynamic_lib(library)
        except DynamicLibNotFoundError:
            return f"the CUDA toolkit's {library} is not installed: {INSTALL}"
    return None


def _driver_problem() -> str | None:
    """What there is to say of driver and GPU; None where both are there."""
    from cuda.bindings import driver

    from fastnn.engine.cuda.driver import LEAST_CAPABILITY, OLDEST_DRIVER, ask, capability_of

    try:
        (status,) = driver.cuInit(0)
    except Exception:  # its class is another from release to release
        return "no NVIDIA driver is installed: it comes from nvidia.com or the system's packages"
    if status == driver.CUresult.CUDA_ERROR_NOT_INITIALIZED:
        return "this process was forked from one that uses the GPU: start it by 'spawn'"
    if status != driver.CUresult.CUDA_SUCCESS:
        return f"the NVIDIA driver finds no usable GPU ({status.name}): nvidia-smi may tell more"
    _, version = driver.cuDriverGetVersion()
    if version < OLDEST_DRIVER:
        major, minor = version // 1000, version % 1000 // 10
        return (
            f"the NVIDIA driver is for CUDA {major}.{minor}, CUDA 13 is needed: update the driver"
        )
    try:
        capability = capability_of(ask(driver.cuDeviceGet, 0))
    except CudaError:
        return None  # of a context that has ended, which `open_device` says
    if capability < LEAST_CAPABILITY:
        found, wanted = (".".join(map(str, each)) for each in (capability, LEAST_CAPABILITY))
        return (
            f"the GPU is of compute capability {found}, {wanted} is needed: "
            "CUDA_VISIBLE_DEVICES may choose another"
        )
    return None


def problem() -> str | None:
    """Why there is no GPU to compute on, in a line with its cure; None if there is one."""
    return missing_package() or _driver_problem()


def is_available() -> bool:
    """Whether there is a GPU; the simulator is none: it is there to check kernels."""
    return not simulated() and problem() is None


@cache
def _opened() -> Device:
    if simulated():
        from fastnn.engine.cuda.simulated import SimulatedDevice

        return SimulatedDevice()
    from fastnn.engine.cuda.driver import CudaDevice

    return CudaDevice()


def open_device() -> Device:
    """The GPU, or with ``NUMBA_ENABLE_CUDASIM=1`` in the environment Numba's simulator.

    Raises
    ------
    ImportError
        If a package is missing.
    RuntimeError
        If there is no driver or GPU, or an error has ended this process's use of it.
    """
    package = missing_package()
    if package is not None:
        raise ImportError(f"device='cuda': {package}")
    if not simulated():
        trouble = _driver_problem()
        if trouble is not None:
            raise RuntimeError(f"device='cuda': {trouble}; device='cpu' runs anywhere")
    device = _opened()
    if device.lost:
        raise RuntimeError(f"device='cuda': {lost(device.name)}; a new process may find it well")
    return device
