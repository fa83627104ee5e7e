"""Puts object code into the wheel where ``FASTNN_BUILD_PACKS`` asks for it.

``FASTNN_BUILD_PACKS=x86-64-v3,x86-64-v4 pip wheel .`` compiles all kernels for these levels of CPUs
into the wheel, which then is for this machine's kind only. Without it the wheel is pure Python.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def levels() -> list[str]:
    """The levels that are asked for."""
    return [name for name in os.environ.get("FASTNN_BUILD_PACKS", "").split(",") if name]


class Packs(BuildHookInterface[Any]):
    """The build hook."""

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling: what fastnn itself does, to compile."""
        return list(self.metadata.core.dependencies) if levels() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the packs, and name the platform that the wheel is for."""
        if self.target_name != "wheel" or version == "editable" or not levels():
            return
        folder = self._folder = tempfile.TemporaryDirectory()
        out = Path(folder.name)
        environment = {
            **os.environ,
            "PYTHONPATH": self.root,
            "FASTNN_CACHE_DIR": str(out / "cache"),
        }
        for level in levels():
            command = [sys.executable, "-m", "fastnn", "warmup", "--target", level]
            subprocess.run([*command, "--out", folder.name], check=True, env=environment)
            pack = f"{level}.pack"
            build_data["force_include"][str(out / pack)] = f"fastnn/objects/{pack}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact: str) -> None:
        """Remove what `initialize` made."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def platform_tag() -> str:
    """This machine's kind, as wheels name it.

    On Linux any with glibc: the object code asks the C library for mathematical functions that all
    its versions have, and is loaded by llvmlite, whose wheels are bound to glibc themselves.
    """
    if sys.platform == "linux":
        return f"manylinux_2_17_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
